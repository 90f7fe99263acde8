/** Raspberry Pi 3 Model B (BCM2837), as QEMU's raspi3b: the BCM2835's peripherals around four Cortex-A53. */
import { physAddr } from '../base/index.ts';
import { bcm2835DmaDriver, fifoClientDriver } from '../drivers/index.ts';
import { Bcm2835DmaModel, BusWindows, FifoPeripheral } from '../hw/index.ts';
import { type DtSpec, dt, ofTree } from '../kernel/index.ts';
import { Signal } from '../machine/index.ts';
import { defineBoard } from './board.ts';

// "BCM2835 ARM Peripherals", 1.2.3 and 1.2.4: what is at 0x7e000000 for the VideoCore and the DMA controller, the CPU
// of the BCM2837 sees at 0x3f000000; RAM is at 0xc0000000 past the VideoCore's caches.
const PERIPHERALS = { bus: 0x7e00_0000, phys: 0x3f00_0000, sizeBytes: 0x0100_0000 };
const RAM_ALIAS = 0xc000_0000;
/** 1 GiB, without the peripherals' window and what the firmware's gpu_mem=64 takes. */
const RAM_BYTES = 960 * 2 ** 20;
const DMA = 0x7000;
/** In place of the PCM port, with its requests. */
const FIFO_PORT = 0x20_3000;
const [TX_DREQ, RX_DREQ] = [2, 3];
/** GPU interrupts 16 to 26 are those of channels 0 to 10; channels 11 to 14 share number 27, all together have 28. */
const channelIrq = (channel: number): number => 16 + Math.min(channel, 11);
/** The interrupt controller's first bank of GPU interrupts. */
const GPU_BANK = 1;
/** The firmware keeps channels 1, 3, 6 and 7 and the last one for itself. */
const CHANNEL_MASK = 0x7f35;

const channels = Array.from({ length: 15 }, (_, channel) => channel);

function soc(): DtSpec {
  const properties = {
    compatible: 'simple-bus',
    '#address-cells': 1,
    '#size-cells': 1,
    ranges: [PERIPHERALS.bus, PERIPHERALS.phys, PERIPHERALS.sizeBytes],
    'dma-ranges': [RAM_ALIAS, 0, PERIPHERALS.phys],
    'interrupt-parent': '&intc',
  };
  return dt('soc', properties, [
    dt('intc: interrupt-controller@7e00b200', {
      compatible: 'brcm,bcm2836-armctrl-ic',
      reg: [0x7e00_b200, 0x200],
      'interrupt-controller': true,
      '#interrupt-cells': 2,
    }),
    dt('dma: dma-controller@7e007000', {
      compatible: 'brcm,bcm2835-dma',
      reg: [PERIPHERALS.bus + DMA, 0xf00],
      interrupts: [...channels.map(channelIrq), 28].flatMap((irq) => [GPU_BANK, irq]),
      'interrupt-names': [...channels.map((channel) => `dma${channel}`), 'dma-shared-all'],
      '#dma-cells': 1,
      'brcm,dma-channel-mask': CHANNEL_MASK,
    }),
    dt('serial-port@7e203000', {
      compatible: 'dmakit,fifo-port',
      reg: [PERIPHERALS.bus + FIFO_PORT, 0x1000],
      dmas: ['&dma', TX_DREQ, '&dma', RX_DREQ],
      'dma-names': ['tx', 'rx'],
    }),
  ]);
}

/** See the file's head. */
export const rpi3 = defineBoard({
  name: 'rpi3',
  title: 'Raspberry Pi 3 Model B',
  description:
    'Four Cortex-A53, 960 MiB; devices see memory past the caches (64-byte lines) and at bus addresses from 0xc0000000; ' +
    'a BCM2835 DMA controller.',
  ram: [{ base: 0, sizeBytes: RAM_BYTES }],
  coherent: false,
  cacheLineBytes: 64,
  weaklyOrdered: true,
  modes: ['coherent', 'noncoherent', 'mask', 'swiotlb'],
  // The Pi's firmware asks for as much: its drivers take control blocks where they may not sleep.
  kernel: { zoneDmaLimit: 2 ** 30, cmdline: 'coherent_pool=1M' },
  deviceTree: () =>
    ofTree(
      dt(
        '/',
        {
          compatible: ['raspberrypi,3-model-b', 'brcm,bcm2837'],
          model: 'Raspberry Pi 3 Model B',
          '#address-cells': 1,
          '#size-cells': 1,
        },
        [dt('memory@0', { device_type: 'memory', reg: [0, RAM_BYTES] }), soc()],
      ),
    ),
  drivers: [bcm2835DmaDriver, fifoClientDriver],
  bind(host) {
    const bus = new BusWindows([{ bus: RAM_ALIAS, phys: 0, sizeBytes: PERIPHERALS.phys }, PERIPHERALS]);
    const requests: Signal[] = [];
    requests[TX_DREQ] = new Signal('fifo tx request');
    requests[RX_DREQ] = new Signal('fifo rx request');
    new Bcm2835DmaModel(host, {
      base: physAddr(PERIPHERALS.phys + DMA),
      irqLines: channels.map((channel) => 32 * GPU_BANK + channelIrq(channel)),
      master: { name: '3f007000.dma-controller', translator: bus, addressBits: 32 },
      requests,
    });
    new FifoPeripheral(host, {
      name: '3f203000.serial-port',
      base: physAddr(PERIPHERALS.phys + FIFO_PORT),
      txRequest: requests[TX_DREQ],
      rxRequest: requests[RX_DREQ],
    });
  },
});
