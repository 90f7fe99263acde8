/**
 * Driver of Intel VT-d: finds the units that firmware describes, switches them on, and offers them to the IOMMU layer.
 * A board calls `intelIommuInit` before its PCI devices are added:
 *
 *     intelIommuInit(kernel, { hostAddressWidth: 39, units: [{ registerBase: 0xfed90000, includeAll: true }] });
 *
 * Boot arguments: `intel_iommu=on|off|strict|forcedac|sp_off` (several with commas), and those of the IOMMU layer:
 * `iommu=pt`, `iommu.passthrough`, `iommu.strict`, `iommu.forcedac`.
 */
import { hexAddr, type PhysAddr } from '../base/addr.ts';
import { ENODEV, ENOMEM, type Errno, OK } from '../base/errno.ts';
import {
  IOMMU_READ,
  IOMMU_WRITE,
  type IommuDomain,
  type IommuGroup,
  type IommuOps,
  iommuDeviceRegister,
  iommuGroupAlloc,
  iommuSetDmaStrict,
  type ResvRegion,
} from '../iommu/index.ts';
import {
  type Device,
  ioremap,
  iounmap,
  type Kernel,
  LogLevel,
  PCI_CLASS_BRIDGE_ISA,
  type PciDev,
  prErr,
  prInfo,
  printk,
  prWarn,
  toPciDev,
} from '../kernel/index.ts';
import { VTD_SIZE_BYTES } from '../regs/vtd.ts';
import { type DeviceInfo, DmarDomain, IntelIdentityDomain } from './intel-iommu-domain.ts';
import { dmarFault, dmarSetInterrupt } from './intel-iommu-fault.ts';
import { IntelQi } from './intel-iommu-qi.ts';
import { type DmarUnit, IntelIommu, readsAllOnes } from './intel-iommu-unit.ts';

export type { DmarUnit } from './intel-iommu-unit.ts';

/** Memory that firmware has told devices to use, and that must stay mapped for them. @linux struct acpi_dmar_reserved_memory */
export interface DmarReservedMemory {
  /** Default 0. */
  readonly segment?: number;
  readonly base: number;
  /** The last byte. */
  readonly end: number;
  /** Bus, device and function of each device. */
  readonly devices: readonly number[];
}
/** What ACPI's DMAR table says. */
export interface DmarTable {
  /** Physical address bits of the platform. */
  readonly hostAddressWidth: number;
  readonly units: readonly DmarUnit[];
  readonly reservedMemory?: readonly DmarReservedMemory[];
}

/** Where devices write their interrupts: never translated. */
const IOAPIC_RANGE_START = 0xfee0_0000;
const IOAPIC_RANGE_BYTES = 0x10_0000;
/** What the DMA controllers of old boards, behind an ISA bridge, reach. */
const ISA_BYTES = 2 ** 24;

/** The driver's state for a kernel. */
class IntelIommuCore {
  readonly kernel: Kernel;
  readonly table: DmarTable;
  readonly units: IntelIommu[] = [];
  readonly options: readonly string[];
  readonly #infos = new Map<Device, DeviceInfo>();
  /** Groups by segment, bus and slot, for functions that can reach each other. */
  readonly #groups = new Map<string, IommuGroup>();

  constructor(kernel: Kernel, table: DmarTable) {
    this.kernel = kernel;
    this.table = table;
    this.options = kernel.cmdline.get('intel_iommu')?.split(',') ?? [];
  }
  readonly infoOf = (dev: Device): DeviceInfo | null => this.#infos.get(dev) ?? null;
  readonly deviceOf = (unit: IntelIommu, source: number): Device | null => {
    for (const info of this.#infos.values()) if (info.unit === unit && info.source === source) return info.dev;
    return null;
  };

  /** In the kernel: device_lookup_iommu. */
  #unitOf(dev: PciDev): IntelIommu | null {
    const segment = dev.pciBus.bridge.domain;
    const named = this.units.find((unit) => unit.segment === segment && unit.description.devices?.includes(dev.bdf));
    if (named !== undefined) return named;
    return this.units.find((unit) => unit.segment === segment && unit.description.includeAll === true) ?? null;
  }
  /** In the kernel: intel_iommu_probe_device. */
  probe(dev: Device): Errno {
    const pdev = toPciDev(dev);
    const unit = pdev === null ? null : this.#unitOf(pdev);
    if (pdev === null || unit === null) return ENODEV;
    this.#infos.set(dev, { dev, unit, source: pdev.bdf });
    return OK;
  }
  /** In the kernel: intel_iommu_release_device. */
  release(dev: Device): void {
    this.#infos.delete(dev);
  }

  /** Functions of one device that may reach each other without passing the IOMMU share a group. (pci_device_group) */
  group(dev: Device): IommuGroup {
    const pdev = toPciDev(dev)!;
    if (!pdev.multifunction) return iommuGroupAlloc(this.kernel);
    const key = `${pdev.pciBus.bridge.domain}:${pdev.bdf >>> 3}`;
    const known = this.#groups.get(key);
    if (known !== undefined && known.devices.length > 0) return known;
    const group = iommuGroupAlloc(this.kernel);
    this.#groups.set(key, group);
    return group;
  }

  /** In the kernel: intel_iommu_get_resv_regions. */
  reservedRegions(dev: Device): ResvRegion[] {
    const pdev = toPciDev(dev);
    const regions: ResvRegion[] = [];
    const prot = IOMMU_READ | IOMMU_WRITE;
    if (pdev !== null) {
      for (const { segment = 0, base, end, devices } of this.table.reservedMemory ?? []) {
        if (segment !== pdev.pciBus.bridge.domain || !devices.includes(pdev.bdf)) continue;
        const type = isRelaxable(pdev) ? 'direct-relaxable' : 'direct';
        regions.push({ start: base, sizeBytes: end - base + 1, type, prot });
      }
      if (pdev.class >>> 8 === PCI_CLASS_BRIDGE_ISA) {
        regions.push({ start: 0, sizeBytes: ISA_BYTES, type: 'direct-relaxable', prot });
      }
    }
    regions.push({ start: IOAPIC_RANGE_START, sizeBytes: IOAPIC_RANGE_BYTES, type: 'msi', prot: 0 });
    return regions;
  }

  /** In the kernel: intel_iommu_ops. */
  ops(): IommuOps {
    const ranges = (this.table.reservedMemory ?? []).map(({ base, end }) => ({
      start: base,
      sizeBytes: end - base + 1,
    }));
    const identityDomain = new IntelIdentityDomain(this.units[0]!, this.infoOf, ranges);
    const superpages = !this.options.includes('sp_off');
    return {
      name: 'intel-iommu',
      probeDevice: (dev) => this.probe(dev),
      releaseDevice: (dev) => this.release(dev),
      deviceGroup: (dev) => this.group(dev),
      domainAllocPaging: (dev, type): IommuDomain | null =>
        DmarDomain.make(this.infoOf(dev)!.unit, type, this.infoOf, superpages),
      identityDomain,
      defDomainType: () => null,
      getResvRegions: (dev) => this.reservedRegions(dev),
    };
  }
}
/** USB controllers and displays: firmware's use ends when their driver takes over. (device_rmrr_is_relaxable) */
function isRelaxable(dev: PciDev): boolean {
  return dev.class >>> 8 === 0x0c03 || dev.class >>> 16 === 0x03;
}

const KEY = {};
/** Holds the state that `intelIommuInit` has made. */
class Holder {
  core: IntelIommuCore | null = null;
}
function holder(kernel: Kernel): Holder {
  return kernel.subsystem(KEY, () => new Holder());
}

/**
 * Switch on the units that the table describes, and put every PCI function behind them that is there or will be added.
 * ENODEV when there is none, or they are switched off by `intel_iommu=off` or `iommu=off`; ENOMEM. Once for a kernel,
 * in process context. @linux intel_iommu_init, detect_intel_iommu, dmar_table_init, boot:intel_iommu
 */
export function intelIommuInit(kernel: Kernel, table: DmarTable): Errno {
  const state = new IntelIommuCore(kernel, table);
  if (state.options.includes('on')) prInfo(kernel, 'DMAR: IOMMU enabled');
  const off = state.options.includes('off') || kernel.cmdline.get('iommu')?.split(',').includes('off') === true;
  if (off) prInfo(kernel, 'DMAR: IOMMU disabled');
  findUnits(state);
  if (off) for (const unit of state.units) unit.disableProtectedMemory();
  if (off || state.units.length === 0) return ENODEV;
  holder(kernel).core = state;
  if (state.options.includes('strict')) {
    prWarn(kernel, 'DMAR: intel_iommu=strict deprecated; use iommu.strict=1 instead');
  }
  if (state.options.includes('forcedac')) {
    prWarn(kernel, 'DMAR: intel_iommu=forcedac deprecated; use iommu.forcedac instead');
  }
  if (state.options.includes('sp_off')) prInfo(kernel, 'DMAR: Disable supported super page');
  for (const unit of state.units) {
    const error = initUnit(unit, state);
    if (error !== OK) return undo(state, error);
  }
  for (const unit of state.units) {
    unit.flushWriteBuffer();
    unit.setRootTable();
  }
  for (const unit of state.units) {
    unit.flushWriteBuffer();
    const error = dmarSetInterrupt(unit, state.deviceOf);
    if (error !== OK) return undo(state, error);
  }
  // Each map would have to be told to a hypervisor anyway: there is nothing to gain from deferring.
  if (state.units.some((unit) => unit.cachingMode)) {
    prInfo(kernel, 'DMAR: IOMMU batching disallowed due to virtualization');
    iommuSetDmaStrict(kernel);
  }
  const error = iommuDeviceRegister(kernel, state.ops());
  if (error !== OK) return undo(state, error);
  for (const unit of state.units) {
    unit.enableTranslation();
    unit.disableProtectedMemory();
  }
  prInfo(kernel, 'DMAR: Intel(R) Virtualization Technology for Directed I/O');
  return OK;
}

/** In the kernel: parse_dmar_table, dmar_parse_one_drhd, alloc_iommu. */
function findUnits(state: IntelIommuCore): void {
  const { kernel, table } = state;
  const hex14 = (n: number) => `0x${n.toString(16).padStart(14, '0')}`;
  prInfo(kernel, `DMAR: Host address width ${table.hostAddressWidth}`);
  for (const description of table.units) {
    const { registerBase, includeAll } = description;
    prInfo(kernel, `DMAR: DRHD base: ${hex14(registerBase)} flags: ${includeAll === true ? '0x1' : '0x0'}`);
    const io = ioremap(kernel, registerBase as PhysAddr, VTD_SIZE_BYTES);
    if (!io.mapped || readsAllOnes(io)) {
      const what = `DMAR reported at address ${hexAddr(registerBase).slice(2)} returns all ones!`;
      printk(kernel, LogLevel.WARNING, `[Firmware Bug]: Your BIOS is broken; ${what}`);
      if (io.mapped) iounmap(io);
      continue;
    }
    const unit = new IntelIommu(kernel, io, state.units.length, description);
    prInfo(kernel, `DMAR: ${unit.describe()}`);
    if (unit.agaw < 0) {
      prErr(kernel, `DMAR: Cannot get a valid agaw for iommu (seq_id = ${unit.index})`);
      iounmap(io);
      continue;
    }
    state.units.push(unit);
  }
  const reserved = table.reservedMemory ?? [];
  for (const { base, end } of reserved) prInfo(kernel, `DMAR: RMRR base: ${hex14(base)} end: ${hex14(end)}`);
  if (reserved.length === 0) prInfo(kernel, 'DMAR: No RMRR found');
  prInfo(kernel, 'DMAR: No ATSR found');
  prInfo(kernel, 'DMAR: No SATC found');
}

/** In the kernel: init_dmars, intel_iommu_init_qi. */
function initUnit(unit: IntelIommu, state: IntelIommuCore): Errno {
  const { kernel } = unit;
  if (unit.translates) {
    prWarn(kernel, `DMAR: Translation was enabled for ${unit.name} but we are not in kdump mode`);
    unit.disableTranslation();
  }
  // Whatever ran before may have left faults, and the queue on.
  dmarFault(unit, state.deviceOf);
  unit.switchQueue(false);
  if (!unit.allocRootTable()) {
    prErr(kernel, `DMAR: Allocating root entry for ${unit.name} failed`);
    return ENOMEM;
  }
  unit.qi = unit.canQueue ? IntelQi.make(unit) : null;
  prInfo(kernel, `DMAR: ${unit.name}: Using ${unit.qi === null ? 'Register based' : 'Queued'} invalidation`);
  return OK;
}
function undo(state: IntelIommuCore, error: Errno): Errno {
  for (const unit of state.units) {
    unit.disableTranslation();
    unit.free();
  }
  holder(state.kernel).core = null;
  return error;
}

/** Translation off on every unit, as before another kernel takes over. Any context. @linux intel_iommu_shutdown */
export function intelIommuShutdown(kernel: Kernel): void {
  for (const unit of holder(kernel).core?.units ?? []) {
    unit.disableProtectedMemory();
    unit.disableTranslation();
  }
}
/** The units of a kernel, for people and tests; none before `intelIommuInit`. @linux for_each_iommu */
export function intelIommuUnits(kernel: Kernel): readonly IntelIommu[] {
  return holder(kernel).core?.units ?? [];
}
