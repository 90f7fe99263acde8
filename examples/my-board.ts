// A board of one's own: what `--board examples/my-board.ts` takes. A small SoC: 48 MiB of RAM at 2 GiB, devices that
// snoop the CPU's caches, and a PL330 DMA controller with four channels at an address of its own.
//
// It says everything once for the kernel (memory, device tree, drivers), and once for the simulated machine (the models
// that answer at those addresses). Where the two disagree, drivers fail as they would on the board.
import { physAddr } from 'dmakit/base';
import { defineBoard } from 'dmakit/boards';
import { pl330Driver } from 'dmakit/drivers';
import { Pl330Model } from 'dmakit/hw';
import { dt, ofTree } from 'dmakit/kernel';

const RAM = { base: 0x8000_0000, sizeBytes: 48 * 2 ** 20 };
const DMAC = 0x1003_0000;
const EVENT_IRQS = [20, 21, 22, 23]; // one for each channel
const ABORT_IRQ = 24;

export default defineBoard({
  name: 'my-board',
  title: 'A board of my own',
  description: '48 MiB at 2 GiB; devices snoop the caches; a PL330 with four channels.',
  ram: [RAM],
  coherent: true,
  cacheLineBytes: 64,
  weaklyOrdered: true,
  modes: ['coherent', 'noncoherent', 'swiotlb'],
  deviceTree: () =>
    ofTree(
      dt('/', { compatible: 'example,my-board', '#address-cells': 1, '#size-cells': 1 }, [
        dt('memory@80000000', { device_type: 'memory', reg: [RAM.base, RAM.sizeBytes] }),
        dt(
          'soc',
          {
            compatible: 'simple-bus',
            '#address-cells': 1,
            '#size-cells': 1,
            ranges: true,
            'interrupt-parent': '&intc',
          },
          [
            dt('intc: interrupt-controller@10000000', {
              compatible: 'example,intc',
              reg: [0x1000_0000, 0x1000],
              'interrupt-controller': true,
              '#interrupt-cells': 1,
            }),
            dt('dma-controller@10030000', {
              compatible: ['arm,pl330', 'arm,primecell'],
              reg: [DMAC, 0x1000],
              'interrupt-names': ['abort', ...EVENT_IRQS.map((_, event) => `dma${event}`)],
              interrupts: [ABORT_IRQ, ...EVENT_IRQS],
              '#dma-cells': 1,
            }),
          ],
        ),
      ]),
    ),
  drivers: [pl330Driver],
  bind(host) {
    new Pl330Model(host, {
      base: physAddr(DMAC),
      master: { name: '10030000.dma-controller' },
      irqLines: EVENT_IRQS,
      abortIrqLine: ABORT_IRQ,
      channels: 4,
      events: 4,
    });
  },
});
