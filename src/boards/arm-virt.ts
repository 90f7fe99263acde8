/** QEMU's `virt` machine for Arm with an SMMUv3 in front of its PCI devices: `-M virt,iommu=smmuv3,gic-version=2`. */
import { physAddr } from '../base/index.ts';
import { armSmmuV3Driver, eduDriver, pciHostGenericDriver } from '../drivers/index.ts';
import { EduModel, PciFunctionModel, PciIrqLine, SmmuModel } from '../hw/index.ts';
import { type DtSpec, type DtValue, dt, type OfNode, ofTree, PCI_DEVFN } from '../kernel/index.ts';
import type { ModelHost } from '../machine/index.ts';
import { defineBoard, type RamLayout, type RamRange } from './board.ts';
import type { IommuSetting, Mode } from './mode.ts';

// Memory map and interrupts as QEMU's hw/arm/virt.c has them.
const MIB = 2 ** 20;
const GIB = 2 ** 30;
const RAM_BASE = GIB;
const RAM_BYTES = GIB;
const MOST_RAM = 255 * GIB;
const MAX_BANK_BYTES = 2 * GIB;
const GIC_DIST = 0x0800_0000;
const GIC_CPU = 0x0801_0000;
const GIC_V2M = 0x0802_0000;
/** In a frame of the GICv2m: what devices write their messages to. */
const SETSPI_NS = 0x40;
const SMMU_BASE = 0x0905_0000;
const PCI_MMIO = 0x1000_0000;
const PCI_MMIO_BYTES = 0x2eff_0000;
const PCI_PIO = 0x3eff_0000;
const PCI_PIO_BYTES = 0x1_0000;
const PCI_ECAM = 0x40_1000_0000;
const PCI_ECAM_BYTES = 0x1000_0000;
const PCI_MMIO_HIGH = 0x80_0000_0000;
const PCI_MMIO_HIGH_BYTES = 0x80_0000_0000;
/** Shared interrupts are numbered from here in the interrupt controller. */
const SPI = 32;
const PCI_SPI = 3;
/** The SMMU's: events, page requests, CMD_SYNCs, errors. */
const SMMU_SPI = 74;
const EDGE_RISING = 1;
const LEVEL_HIGH = 4;
const EDU_SLOTS = [2, 3, 4, 5];
/** From here on a mask limits nothing. */
const ALL_BITS = 52;

const spiOf = (slot: number, pin: number): number => PCI_SPI + ((slot + pin - 1) % 4);
const hasSmmu = (mode: Mode | undefined): boolean => mode?.iommu !== 'off';
const isCoherent = (mode: Mode | undefined): boolean => mode?.coherent !== false;

function ramOf(bytes: number): RamLayout {
  if (bytes < 16 * MIB || bytes > MOST_RAM) {
    throw new Error(`ramBytes: arm-virt has 16 MiB to 255 GiB of RAM, found ${bytes / MIB} MiB`);
  }
  const ram: RamRange[] = [];
  for (let at = 0; at < bytes; at += MAX_BANK_BYTES) {
    ram.push({ base: RAM_BASE + at, sizeBytes: Math.min(MAX_BANK_BYTES, bytes - at) });
  }
  return { ram, reserved: [] };
}

/** Numbers of 64 bits, two cells each. */
const cells64 = (...numbers: number[]): bigint[] => numbers.map(BigInt);

function interruptMap(): DtValue {
  const map: (number | string)[] = [];
  for (let slot = 0; slot < 4; slot++) {
    for (let pin = 1; pin <= 4; pin++) {
      map.push(slot << 11, 0, 0, pin, '&gic', 0, 0, 0, spiOf(slot, pin), LEVEL_HIGH);
    }
  }
  return map;
}

function smmuNode(coherent: boolean): DtSpec {
  return dt('smmu: smmuv3@9050000', {
    compatible: 'arm,smmu-v3',
    reg: cells64(SMMU_BASE, 0x2_0000),
    'interrupt-names': ['eventq', 'priq', 'cmdq-sync', 'gerror'],
    interrupts: [0, 1, 2, 3].flatMap((i) => [0, SMMU_SPI + i, EDGE_RISING]),
    '#iommu-cells': 1,
    'dma-coherent': coherent,
  });
}

/** `mask=BITS` is the bridge's: what is below it reaches 2^BITS bus addresses. */
function pcieNode(mode: Mode | undefined): DtSpec {
  const maskBits = mode?.maskBits ?? ALL_BITS;
  const limit = 2 ** maskBits;
  if (!hasSmmu(mode) && limit <= RAM_BASE) {
    throw new Error(
      `mode '${mode?.text}': devices on /pcie@10000000 would reach no memory: it begins at bus address 0x40000000`,
    );
  }
  return dt('pcie@10000000', {
    compatible: 'pci-host-ecam-generic',
    device_type: 'pci',
    '#address-cells': 3,
    '#size-cells': 2,
    '#interrupt-cells': 1,
    'linux,pci-domain': 0,
    'bus-range': [0, 255],
    reg: cells64(PCI_ECAM, PCI_ECAM_BYTES),
    ranges: [
      ...[0x0100_0000, ...cells64(0, PCI_PIO, PCI_PIO_BYTES)],
      ...[0x0200_0000, ...cells64(PCI_MMIO, PCI_MMIO, PCI_MMIO_BYTES)],
      ...[0x0300_0000, ...cells64(PCI_MMIO_HIGH, PCI_MMIO_HIGH, PCI_MMIO_HIGH_BYTES)],
    ],
    'dma-ranges': maskBits < ALL_BITS ? [0x0300_0000, ...cells64(0, 0, limit)] : false,
    'interrupt-map-mask': [0x1800, 0, 0, 7],
    'interrupt-map': interruptMap(),
    'msi-parent': '&v2m',
    'iommu-map': hasSmmu(mode) ? [0, '&smmu', 0, 0x1_0000] : false,
    'dma-coherent': isCoherent(mode),
  });
}

function deviceTree(mode?: Mode): OfNode {
  const root = { compatible: 'linux,dummy-virt', '#address-cells': 2, '#size-cells': 2, 'interrupt-parent': '&gic' };
  return ofTree(
    dt('/', root, [
      dt('memory@40000000', { device_type: 'memory', reg: cells64(RAM_BASE, RAM_BYTES) }),
      dt(
        'gic: intc@8000000',
        {
          compatible: 'arm,cortex-a15-gic',
          'interrupt-controller': true,
          '#interrupt-cells': 3,
          '#address-cells': 2,
          '#size-cells': 2,
          ranges: true,
          reg: cells64(GIC_DIST, 0x1_0000, GIC_CPU, 0x1_0000),
        },
        [
          dt('v2m: v2m@8020000', {
            compatible: 'arm,gic-v2m-frame',
            'msi-controller': true,
            reg: cells64(GIC_V2M, 0x1000),
          }),
        ],
      ),
      ...(hasSmmu(mode) ? [smmuNode(isCoherent(mode))] : []),
      pcieNode(mode),
    ]),
  );
}

function bind(host: ModelHost, mode: Mode): void {
  const translator = hasSmmu(mode)
    ? new SmmuModel(host, {
        base: physAddr(SMMU_BASE),
        name: '9050000.smmuv3',
        eventIrq: SPI + SMMU_SPI,
        syncIrq: SPI + SMMU_SPI + 2,
        gerrorIrq: SPI + SMMU_SPI + 3,
        coherent: isCoherent(mode),
      })
    : null;
  const bridge = { vendor: 0x1b36, device: 0x0008, class: 0x06_0000, subsystemVendor: 0x1af4, subsystem: 0x1100 };
  new PciFunctionModel(host, { ...bridge, name: '0000:00:00.0', bdf: PCI_DEVFN(0, 0) });
  const lines = [0, 1, 2, 3].map((i) => new PciIrqLine(host.irqLine(SPI + PCI_SPI + i)));
  for (const slot of EDU_SLOTS) {
    new EduModel(host, {
      name: `0000:00:${slot.toString(16).padStart(2, '0')}.0`,
      bdf: PCI_DEVFN(slot, 0),
      intx: lines[spiOf(slot, 1) - PCI_SPI]!,
      dmaMaskBits: 64,
      ...(translator === null ? {} : { translator }),
    });
  }
}

/**
 * Without translation no memory is below 2^28, where the edu driver expects it: it is told that these devices, unlike
 * those that QEMU makes by default, have all address lines. Strict is arm64's default.
 */
const ARGUMENTS: Record<IommuSetting, string> = {
  off: 'edu.dma_bits=64',
  strict: 'iommu.strict=1',
  lazy: 'iommu.strict=0',
  pt: 'iommu.passthrough=1 edu.dma_bits=64',
};

/** See the file's head. */
export const armVirt = defineBoard({
  name: 'arm-virt',
  title: 'QEMU virt (Arm) with SMMUv3',
  description: 'arm64, 1 GiB from 1 GiB on; coherent and weakly ordered; four edu devices behind an SMMUv3.',
  ram: ramOf(RAM_BYTES).ram,
  ramOf,
  coherent: true,
  cacheLineBytes: 64,
  weaklyOrdered: true,
  modes: ['coherent', 'noncoherent', 'mask', 'swiotlb', 'iommu'],
  kernel: { zoneDmaLimit: 4 * GIB, lowAddressLimit: 4 * GIB },
  cmdlineOf: ({ iommu }) => ARGUMENTS[iommu ?? 'strict'],
  hasChannels: false,
  msiBase: GIC_V2M + SETSPI_NS,
  deviceTree,
  drivers: [armSmmuV3Driver, pciHostGenericDriver, eduDriver],
  bind,
});
