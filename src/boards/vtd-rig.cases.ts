/**
 * A kernel with its VT-d driver on a simulated machine with a VT-d unit, and PCI functions behind it that are nothing
 * but bus masters: what the driver writes and what the unit makes of it meet in memory alone.
 */
import type { PhysAddr } from '../base/addr.ts';
import { intelIommuInit, intelIommuUnits } from '../drivers/intel-iommu.ts';
import type { DmarDomain } from '../drivers/intel-iommu-domain.ts';
import type { IntelIommu } from '../drivers/intel-iommu-unit.ts';
import { VtdModel } from '../hw/vtd.ts';
import type { VtdOptions } from '../hw/vtd-config.ts';
import { iommuGetDomainForDev } from '../iommu/index.ts';
import {
  allocPages,
  type BridgeWindow,
  GFP_KERNEL,
  Kernel,
  type Page,
  PCI_DEVFN,
  PciBus,
  PciDev,
  PciHostBridge,
  pageToPhys,
  pciBus,
} from '../kernel/index.ts';
import { type BusMaster, BusStatus, SimMachine } from '../machine/index.ts';

/** The windows of a q35 machine's host bridge, as /proc/iomem shows them. */
export const WINDOWS: readonly BridgeWindow[] = [
  { start: 0xa_0000, end: 0xb_ffff, offset: 0, type: 'mem' },
  { start: 0x8000_0000, end: 0xafff_ffff, offset: 0, type: 'mem' },
  { start: 0xc000_0000, end: 0xfebf_ffff, offset: 0, type: 'mem' },
  { start: 0x1_0000_0000, end: 0x8_ffff_ffff, offset: 0, type: 'mem' },
];

export interface VtdSystemOptions {
  readonly cmdline?: string;
  readonly unit?: VtdOptions;
  readonly ramBytes?: number;
  readonly coherent?: boolean;
  readonly seed?: number;
  readonly cacheNoise?: 'on' | 'off';
  readonly devices?: number;
  readonly table?: Partial<Parameters<typeof intelIommuInit>[1]>;
  /** What the unit's registers find before the driver comes. */
  readonly before?: (machine: SimMachine, unit: VtdModel) => void;
}

/** See the file's head. */
export class VtdSystem {
  readonly machine: SimMachine;
  readonly model: VtdModel;
  readonly kernel: Kernel;
  readonly bridge: PciHostBridge;
  readonly root: PciBus;
  readonly devices: PciDev[] = [];
  readonly masters: BusMaster[] = [];

  constructor(options: VtdSystemOptions) {
    const coherent = options.coherent ?? true;
    this.machine = new SimMachine({
      name: 'vtd',
      coherent,
      seed: options.seed ?? 1,
      cacheNoise: options.cacheNoise ?? 'off',
      ram: [{ base: 0, sizeBytes: options.ramBytes ?? 64 << 20 }],
      msiBase: 0xfee0_0000,
    });
    this.model = new VtdModel(this.machine, options.unit);
    options.before?.(this.machine, this.model);
    const cmdline = options.cmdline ?? 'intel_iommu=on iommu.strict=1';
    this.kernel = new Kernel(this.machine, { cmdline, zoneDmaLimit: 2 ** 24, zoneDma32Limit: 2 ** 32 });
    this.bridge = new PciHostBridge(this.kernel, 'pci0000:00');
    this.bridge.windows = [...WINDOWS];
    this.root = new PciBus(this.bridge, 0, null, null);
  }

  /** A function at 00:slot.fn, added to the kernel. */
  add(slot: number, fn = 0, multifunction = false, classCode = 0xff00): PciDev {
    const dev = new PciDev(this.root, PCI_DEVFN(slot, fn), pciBus, this.bridge);
    dev.multifunction = multifunction;
    dev.class = classCode << 8;
    this.devices.push(dev);
    const { coherent } = this.machine.traits;
    const master = { name: dev.name, translator: this.model, requesterId: dev.bdf, coherent };
    this.masters.push(this.machine.busMaster(master));
    dev.added = true;
    this.kernel.devices.push(dev);
    for (const hook of this.kernel.addHooks) hook(dev);
    return dev;
  }
  get dev(): PciDev {
    return this.devices[0]!;
  }
  get master(): BusMaster {
    return this.masters[0]!;
  }
  get unit(): IntelIommu {
    return intelIommuUnits(this.kernel)[0]!;
  }
  get domain(): DmarDomain {
    return iommuGetDomainForDev(this.dev) as DmarDomain;
  }
  page(order = 0): Page {
    return allocPages(this.kernel, GFP_KERNEL, order)!;
  }
  phys(page: Page): PhysAddr {
    return pageToPhys(page);
  }
  /** Memory as the device's side has it. */
  get memory(): Uint8Array {
    return this.machine.ram[0]!.memory;
  }
  get memory32(): Int32Array {
    return this.machine.ram[0]!.memory32;
  }
  /** The log's lines of the driver. */
  log(match = /^DMAR: (?:DRHD: handling|\[)/): string[] {
    return this.kernel.log.lines.map(({ text }) => text).filter((text) => match.test(text));
  }
  reads(addr: number, bytes = 4, master = this.master): boolean {
    return master.read(addr, new Uint8Array(bytes), 0, bytes) === BusStatus.OK;
  }
  writes(addr: number, bytes = 4, master = this.master): boolean {
    return master.write(addr, new Uint8Array(bytes).fill(0x78), 0, bytes) === BusStatus.OK;
  }
}

export const TABLE = { hostAddressWidth: 39, units: [{ registerBase: 0xfed9_0000, includeAll: true }] } as const;

/** A booted system with devices at 00:16.0 and the slots after it. */
export function vtdSystem(options: VtdSystemOptions = {}): VtdSystem {
  const system = new VtdSystem(options);
  intelIommuInit(system.kernel, { ...TABLE, ...options.table });
  for (let i = 0; i < (options.devices ?? 1); i++) system.add(0x16 + i);
  return system;
}
