/**
 * A kernel with its SMMUv3 driver on a simulated machine with an SMMUv3, and platform devices behind it that are nothing
 * but bus masters: what the driver writes and what the unit makes of it meet in memory alone.
 */
import assert from 'node:assert/strict';
import { physAddr } from '../base/addr.ts';
import { armSmmuV3Driver } from '../drivers/arm-smmu-v3.ts';
import type { ArmSmmuDomain } from '../drivers/arm-smmu-v3-domain.ts';
import { SmmuModel } from '../hw/smmu-v3.ts';
import type { SmmuOptions } from '../hw/smmu-v3-config.ts';
import { iommuGetDomainForDev } from '../iommu/index.ts';
import {
  allocPages,
  type Device,
  driverRegister,
  dt,
  GFP_KERNEL,
  Kernel,
  ofPlatformPopulate,
  ofTree,
  type Page,
  pageToPhys,
} from '../kernel/index.ts';
import { type BusMaster, BusStatus, SimMachine } from '../machine/index.ts';

export const SMMU_BASE = 0x0905_0000;
export const RAM_BASE = 0x4000_0000;
/** The first device has this stream id, the next ones the next. */
export const FIRST_SID = 0x105;
const SPI = 74;

export interface SmmuSystemOptions {
  readonly cmdline?: string;
  readonly unit?: Partial<SmmuOptions>;
  readonly ramBytes?: number;
  /** Whether devices snoop; the unit does as well then, unless `unit` says otherwise. */
  readonly coherent?: boolean;
  readonly seed?: number;
  readonly cacheNoise?: 'on' | 'off';
  readonly devices?: number;
  /** What the driver finds when it comes. */
  readonly before?: (machine: SimMachine, unit: SmmuModel) => void;
}

/** See the file's head. */
export class SmmuSystem {
  readonly machine: SimMachine;
  readonly model: SmmuModel;
  readonly kernel: Kernel;
  readonly devices: Device[] = [];
  readonly masters: BusMaster[] = [];
  #smmu: Device | null = null;
  readonly #count: number;

  constructor(options: SmmuSystemOptions) {
    const coherent = options.coherent ?? true;
    this.#count = options.devices ?? 2;
    this.machine = new SimMachine({
      name: 'smmu',
      coherent,
      weaklyOrdered: true,
      seed: options.seed ?? 1,
      cacheNoise: options.cacheNoise ?? 'off',
      ram: [{ base: RAM_BASE, sizeBytes: options.ramBytes ?? 64 << 20 }],
      msiBase: 0x0802_0040,
    });
    this.model = new SmmuModel(this.machine, {
      base: physAddr(SMMU_BASE),
      eventIrq: 32 + SPI,
      syncIrq: 32 + SPI + 2,
      gerrorIrq: 32 + SPI + 3,
      coherent,
      commandQueueBits: 8,
      eventQueueBits: 7,
      ...options.unit,
    });
    options.before?.(this.machine, this.model);
    this.kernel = new Kernel(this.machine, { cmdline: options.cmdline ?? 'iommu.strict=1', zoneDmaLimit: 2 ** 32 });
  }

  /** Probe the unit and the devices. */
  async probe(): Promise<this> {
    const { kernel } = this;
    const tree = ofTree(
      dt('/', { '#address-cells': 1, '#size-cells': 1, 'interrupt-parent': '&gic' }, [
        dt('gic: intc@8000000', { 'interrupt-controller': true, '#interrupt-cells': 3 }),
        dt('smmu: smmuv3@9050000', {
          compatible: 'arm,smmu-v3',
          reg: [SMMU_BASE, 0x2_0000],
          'interrupt-names': ['eventq', 'priq', 'cmdq-sync', 'gerror'],
          interrupts: [0, 1, 2, 3].flatMap((i) => [0, SPI + i, 1]),
          '#iommu-cells': 1,
        }),
        ...Array.from({ length: this.#count }, (_, i) =>
          dt(`client@${(0xa00_0000 + i * 0x1000).toString(16)}`, {
            compatible: 'dmakit,client',
            reg: [0xa00_0000 + i * 0x1000, 0x1000],
            iommus: ['&smmu', FIRST_SID + i],
          }),
        ),
      ]),
    );
    await kernel.run(async () => {
      await driverRegister(kernel, armSmmuV3Driver);
      const [smmu, ...clients] = await ofPlatformPopulate(kernel, tree);
      this.#smmu = smmu!;
      this.devices.push(...clients);
    });
    for (const [i, { name }] of this.devices.entries()) {
      this.masters.push(this.machine.busMaster({ name, requesterId: FIRST_SID + i, translator: this.model }));
    }
    return this;
  }

  get smmu(): Device {
    return this.#smmu!;
  }
  get dev(): Device {
    return this.devices[0]!;
  }
  get master(): BusMaster {
    return this.masters[0]!;
  }
  domain(dev: Device = this.dev): ArmSmmuDomain {
    return iommuGetDomainForDev(dev) as ArmSmmuDomain;
  }
  page(order = 0): Page {
    return allocPages(this.kernel, GFP_KERNEL, order)!;
  }
  pageWith(text: string): { page: Page; phys: number } {
    const page = this.page();
    const phys = pageToPhys(page);
    this.machine.bankAt(phys)!.memory.set(new TextEncoder().encode(text), phys - RAM_BASE);
    return { page, phys };
  }
  /** What a device reads, as text; null when it is refused. */
  text(addr: number, length: number, index = 0): string | null {
    const bytes = new Uint8Array(length);
    const status = this.masters[index]!.read(addr, bytes, 0, length);
    return status === BusStatus.OK ? new TextDecoder().decode(bytes) : null;
  }
  get log(): string[] {
    return this.kernel.log.lines.map(({ text }) => text);
  }
  /** A word of physical memory. */
  word(phys: number): number {
    return this.machine.bankAt(phys)!.memory32[(phys - RAM_BASE) >>> 2]! >>> 0;
  }
  setWord(phys: number, value: number): void {
    this.machine.bankAt(phys)!.memory32[(phys - RAM_BASE) >>> 2] = value | 0;
  }
  /** Where the entry of the last level for an address is, found by hand from the stream table (linear or not). */
  leafEntry(sid: number, iova: number): number {
    const register = (offset: number) => this.machine.read32(physAddr(SMMU_BASE + offset));
    const table = register(0x80) & 0xffff_ffc0;
    const isTwoLevel = register(0x88) >>> 16 === 1;
    const second = isTwoLevel ? this.word(table + 8 * (sid >>> 8)) & 0xffff_ffc0 : table;
    const ste = (second >>> 0) + 64 * (isTwoLevel ? sid & 0xff : sid);
    assert.equal(this.word(ste) & 0xf, 1 | (5 << 1), 'stage 1');
    const cd = (this.word(ste) & 0xffff_ffc0) >>> 0;
    let at = (this.word(cd + 8) & 0xffff_fff0) >>> 0;
    for (const span of [2 ** 39, 2 ** 30, 2 ** 21]) {
      at = (this.word(at + 8 * (Math.floor(iova / span) % 512)) & 0xffff_f000) >>> 0;
    }
    return at + 8 * (Math.floor(iova / 4096) % 512);
  }
}

/** Make and probe one. */
export function smmuSystem(options: SmmuSystemOptions = {}): Promise<SmmuSystem> {
  return new SmmuSystem(options).probe();
}
