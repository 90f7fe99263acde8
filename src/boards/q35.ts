/** A PC with Intel's Q35 chipset, as QEMU's q35 machine with eight of its educational devices and a VT-d IOMMU. */
import { physAddr } from '../base/index.ts';
import { eduDriver, intelIommuInit } from '../drivers/index.ts';
import { EduModel, PciFunctionModel, PciIrqLine, VtdModel } from '../hw/index.ts';
import {
  type BridgeWindow,
  dt,
  FrameKind,
  type Kernel,
  ofTree,
  PCI_DEVFN,
  PCI_SLOT,
  pciHostProbe,
  type ReservedMemory,
} from '../kernel/index.ts';
import type { ModelHost } from '../machine/index.ts';
import { defineBoard, type RamLayout, type RamRange, type StartConfig } from './board.ts';
import type { IommuSetting, Mode } from './mode.ts';

// The memory map is the one that the machine's firmware announces, as Linux shows it in /proc/iomem.
const KIB = 2 ** 10;
const MIB = 2 ** 20;
const GIB = 2 ** 30;
const FOUR_GIB = 4 * GIB;
const RAM_BYTES = 2 * GIB;
/** RAM ends here, for the VGA window, the ROMs and what firmware keeps behind them. */
const LOW_END = 640 * KIB;
const HIGH_START = MIB;
/** With RAM up to the first register below 4 GiB, all beyond 2 GiB goes above 4 GiB. */
const ECAM = 0xb000_0000;
const MOST_RAM = 64 * GIB;
/** What firmware keeps at the end of low memory. */
const TABLES_BYTES = 0x2_9000;
const VTD = 0xfed9_0000;
/** Address lines that the IOMMU's tables cover, as QEMU's unit has by default. */
const VTD_BITS = 39;
const MSI = 0xfee0_0000;
const MAX_BANK_BYTES = 2 * GIB;
/** The 64-bit window begins behind the RAM, and is this large. */
const WINDOW64_BYTES = 32 * GIB;

/** The first four have QEMU's default of 28 address bits, the others `dma_mask=0xffffffffffffffff`. */
const EDU_SLOTS = [0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17];
const FIRST_WIDE_SLOT = 0x14;
const FIRST_EDU_BAR = 0xfe30_0000;
/** INTA of slots below 25 goes to one of the IOAPIC's inputs 20 to 23 (PIRQE to PIRQH). */
const FIRST_PIRQ_GSI = 20;
const gsiOf = (slot: number, pin: number): number => FIRST_PIRQ_GSI + ((slot + pin - 1) % 4);

function banks(base: number, end: number): RamRange[] {
  const ranges: RamRange[] = [];
  for (let at = base; at < end; at += MAX_BANK_BYTES) {
    ranges.push({ base: at, sizeBytes: Math.min(MAX_BANK_BYTES, end - at) });
  }
  return ranges;
}

function ramOf(bytes: number): RamLayout {
  if (bytes < 16 * MIB || bytes > MOST_RAM) {
    throw new Error(`ramBytes: q35 has 16 MiB to 64 GiB of RAM, found ${bytes / MIB} MiB`);
  }
  const low = bytes > ECAM ? 2 * GIB : bytes;
  return {
    ram: [...banks(0, LOW_END), ...banks(HIGH_START, low), ...banks(FOUR_GIB, FOUR_GIB + bytes - low)],
    reserved: reservedBelow(low),
  };
}
function reservedBelow(lowEnd: number): ReservedMemory[] {
  const range = (start: number, end: number, kind: number): ReservedMemory => ({
    ...{ phys: start, sizeBytes: end - start, kind },
  });
  return [
    range(0, 0x1000, FrameKind.RESERVED),
    // The last page of low memory is shared with the extended BIOS data area.
    range(0x9_f000, LOW_END, FrameKind.RESERVED),
    range(lowEnd - TABLES_BYTES, lowEnd, FrameKind.RESERVED),
    range(0x0100_0000, 0x0200_0000, FrameKind.KERNEL_TEXT),
    range(0x0200_0000, 0x02b7_1000, FrameKind.KERNEL_RODATA),
    range(0x02c0_0000, 0x02e7_1000, FrameKind.KERNEL_DATA),
    range(0x0373_6000, 0x03c0_0000, FrameKind.KERNEL_DATA),
  ];
}

/** What the host bridge passes on to its bus, in firmware's order. */
function windowsOf(kernel: Kernel): BridgeWindow[] {
  const ends = kernel.machine.ram.map(({ base, sizeBytes }) => base + sizeBytes);
  const lowEnd = Math.max(2 * GIB, ...ends.filter((end) => end <= FOUR_GIB));
  const highEnd = Math.ceil(Math.max(FOUR_GIB, ...ends) / GIB) * GIB;
  const memory = (start: number, end: number): BridgeWindow => ({ start, end, offset: 0, type: 'mem' });
  return [
    { start: 0, end: 0xcf7, offset: 0, type: 'io' },
    { start: 0xd00, end: 0xffff, offset: 0, type: 'io' },
    memory(0xa_0000, 0xb_ffff),
    memory(lowEnd, ECAM - 1),
    memory(0xc000_0000, 0xfebf_ffff),
    memory(highEnd, highEnd + WINDOW64_BYTES - 1),
  ];
}

/** The chipset's own functions have no registers that matter here; they are there to be found. */
function bindChipset(host: ModelHost): void {
  const identity = { vendor: 0x8086, subsystemVendor: 0x1af4, subsystem: 0x1100 };
  const bridge = { ...identity, name: '0000:00:00.0', bdf: PCI_DEVFN(0, 0), device: 0x29c0, class: 0x06_0000 };
  new PciFunctionModel(host, bridge);
  const lpc = { ...identity, name: '0000:00:1f.0', bdf: PCI_DEVFN(0x1f, 0), device: 0x2918, class: 0x06_0100 };
  new PciFunctionModel(host, { ...lpc, revision: 2 });
}

function bind(host: ModelHost, mode: Mode): void {
  bindChipset(host);
  // Like everything on the bus, it snoops the caches or does not.
  const translator = new VtdModel(host, { base: physAddr(VTD), awBits: VTD_BITS, coherent: mode.coherent !== false });
  const lines = [0, 1, 2, 3].map((i) => new PciIrqLine(host.irqLine(FIRST_PIRQ_GSI + i)));
  for (const [i, slot] of EDU_SLOTS.entries()) {
    new EduModel(host, {
      name: `0000:00:${slot.toString(16)}.0`,
      bdf: PCI_DEVFN(slot, 0),
      intx: lines[gsiOf(slot, 1) - FIRST_PIRQ_GSI]!,
      bar0: FIRST_EDU_BAR + i * MIB,
      translator,
      dmaMaskBits: slot < FIRST_WIDE_SLOT ? 28 : 64,
    });
  }
}

const IOMMU_ARGUMENTS: Record<IommuSetting, string> = {
  off: 'intel_iommu=off',
  strict: 'intel_iommu=on iommu.strict=1',
  lazy: 'intel_iommu=on iommu.strict=0',
  pt: 'intel_iommu=on iommu=pt',
};

async function start(kernel: Kernel, { mode, untrusted }: StartConfig): Promise<void> {
  const limited = mode.maskBits !== null && mode.maskBits < 52;
  await pciHostProbe(kernel, {
    windows: windowsOf(kernel),
    mapIrq: gsiOf,
    busDmaLimit: limited ? 2 ** mode.maskBits! - 1 : 0,
    externalFacing: (bdf) => untrusted && EDU_SLOTS.includes(PCI_SLOT(bdf & 0xff)),
  });
  // As without CONFIG_INTEL_IOMMU_DEFAULT_ON: somebody has to ask for it.
  if (kernel.cmdline.get('intel_iommu')?.split(',').includes('on') === true) {
    intelIommuInit(kernel, { hostAddressWidth: VTD_BITS, units: [{ registerBase: VTD, includeAll: true }] });
  }
}

/** See the file's head. */
export const q35 = defineBoard({
  name: 'q35',
  title: 'PC with Intel Q35 chipset',
  description:
    'x86-64, 2 GiB; coherent and strongly ordered; eight edu devices behind VT-d, four of them with 28 address bits.',
  ram: ramOf(RAM_BYTES).ram,
  ramOf,
  coherent: true,
  cacheLineBytes: 64,
  weaklyOrdered: false,
  modes: ['coherent', 'noncoherent', 'mask', 'swiotlb', 'iommu'],
  kernel: {
    zoneDmaLimit: 16 * MIB,
    zoneDma32Limit: FOUR_GIB,
    lowAddressLimit: FOUR_GIB,
    reserved: ramOf(RAM_BYTES).reserved,
  },
  cmdlineOf: ({ iommu }) => (iommu === null ? '' : IOMMU_ARGUMENTS[iommu]),
  hasChannels: false,
  msiBase: MSI,
  deviceTree: () => ofTree(dt('/', {})),
  drivers: [eduDriver],
  bind,
  start,
});
