/** Xilinx Zynq-7000 with two Cortex-A9, as on the ZC702 board and QEMU's xilinx-zynq-a9. */
import { physAddr } from '../base/index.ts';
import { fifoClientDriver, pl330Driver } from '../drivers/index.ts';
import { FifoPeripheral, Pl330Model } from '../hw/index.ts';
import { dt, ofTree } from '../kernel/index.ts';
import { Signal } from '../machine/index.ts';
import { defineBoard } from './board.ts';

// Zynq-7000 TRM (UG585): table 7-4 for the interrupts, appendix B.17 for the DMA controller.
const DMAC = 0xf800_3000;
const SPI = 32;
const ABORT_SPI = 13;
const EVENT_SPIS = [14, 15, 16, 17, 40, 41, 42, 43];
/** A port in the programmable logic, where designs put their own peripherals; it uses DMA requests 0 and 1. */
const FIFO_PORT = 0x43c0_0000;
const LEVEL_HIGH = 4;
const RAM_BYTES = 512 * 2 ** 20;

/** See the file's head. */
export const zynqA9 = defineBoard({
  name: 'zynq-a9',
  title: 'Xilinx Zynq-7000 (ZC702)',
  description: 'Two Cortex-A9, 512 MiB; devices see memory past the caches (32-byte lines); a PL330 DMA controller.',
  ram: [{ base: 0, sizeBytes: RAM_BYTES }],
  coherent: false,
  cacheLineBytes: 32,
  weaklyOrdered: true,
  modes: ['coherent', 'noncoherent', 'mask', 'swiotlb'],
  deviceTree: () =>
    ofTree(
      dt('/', { compatible: 'xlnx,zynq-7000', model: 'Xilinx ZC702 board', '#address-cells': 1, '#size-cells': 1 }, [
        dt('memory@0', { device_type: 'memory', reg: [0, RAM_BYTES] }),
        dt(
          'axi',
          {
            compatible: 'simple-bus',
            '#address-cells': 1,
            '#size-cells': 1,
            'interrupt-parent': '&intc',
            ranges: true,
          },
          [
            dt('intc: interrupt-controller@f8f01000', {
              compatible: 'arm,cortex-a9-gic',
              'interrupt-controller': true,
              '#interrupt-cells': 3,
              reg: [0xf8f0_1000, 0x1000, 0xf8f0_0100, 0x100],
            }),
            dt('dmac: dma-controller@f8003000', {
              compatible: ['arm,pl330', 'arm,primecell'],
              reg: [DMAC, 0x1000],
              'interrupt-names': ['abort', ...EVENT_SPIS.map((_, event) => `dma${event}`)],
              interrupts: [ABORT_SPI, ...EVENT_SPIS].flatMap((spi) => [0, spi, LEVEL_HIGH]),
              '#dma-cells': 1,
            }),
            dt('serial-port@43c00000', {
              compatible: 'dmakit,fifo-port',
              reg: [FIFO_PORT, 0x1000],
              dmas: ['&dmac', 0, '&dmac', 1],
              'dma-names': ['tx', 'rx'],
            }),
          ],
        ),
      ]),
    ),
  drivers: [pl330Driver, fifoClientDriver],
  bind(host) {
    const txRequest = new Signal('fifo tx request');
    const rxRequest = new Signal('fifo rx request');
    new Pl330Model(host, {
      base: physAddr(DMAC),
      master: { name: 'f8003000.dma-controller' },
      irqLines: EVENT_SPIS.map((spi) => SPI + spi),
      abortIrqLine: SPI + ABORT_SPI,
      requests: [txRequest, rxRequest],
    });
    new FifoPeripheral(host, { name: '43c00000.serial-port', base: physAddr(FIFO_PORT), txRequest, rxRequest });
  },
});
