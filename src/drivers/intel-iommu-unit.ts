/**
 * One VT-d unit as its driver sees it: registers, capabilities, the root and context tables, domain ids, and the two
 * ways of invalidating.
 */
import { hi32, lo32, PAGE_SIZE, type PhysAddr } from '../base/addr.ts';
import { __GFP_ZERO } from '../kernel/gfp.ts';
import {
  freeIrq,
  GFP_ATOMIC,
  GFP_KERNEL,
  type Gfp,
  type IoMem,
  type Kernel,
  memAt,
  pageToPhys,
  panic,
  prErr,
  readl,
  SpinLock,
  spinLockIrqsave,
  spinUnlockIrqrestore,
  writel,
} from '../kernel/index.ts';
import { __freePages, allocPages, type Page } from '../kernel/page-alloc.ts';
import { VTD, VTD_IOTLB } from '../regs/vtd.ts';
import type { IntelQi } from './intel-iommu-qi.ts';

const R = VTD;
/** Hardware that does not answer for so long is broken. (DMAR_OPERATION_TIMEOUT) */
const DMAR_OPERATION_TIMEOUT_NS = 10e9;
/** Never a domain's id: what caching-mode hardware tags its not-present entries with. */
const RESERVED_DID = 0;
/** The id of everything that is passed through. @linux FLPT_DEFAULT_DID */
export const FLPT_DEFAULT_DID = 1;

/** Granularities of invalidation, as both registers and descriptors encode them. */
export const FLUSH_GLOBAL = 1;
/** @linux DMA_TLB_DSI_FLUSH, DMA_CCMD_DOMAIN_INVL */
export const FLUSH_DOMAIN = 2;
/** @linux DMA_CCMD_DEVICE_INVL */
export const FLUSH_DEVICE = 3;
/** @linux DMA_TLB_PSI_FLUSH */
export const FLUSH_PAGES = 3;

/** What firmware says of a unit. @linux struct acpi_dmar_hardware_unit */
export interface DmarUnit {
  readonly registerBase: number;
  /** PCI segment; default 0. */
  readonly segment?: number;
  /** It translates for every device of the segment that no other unit names. */
  readonly includeAll?: boolean;
  /** Bus, device and function of those that it translates for otherwise. */
  readonly devices?: readonly number[];
}

type MsiVector = ReturnType<Kernel['machine']['allocateMsi']>;

/** A context entry in words, as it lies in memory. */
const CONTEXT_PRESENT = 1;
/** @linux CONTEXT_TT_PASS_THROUGH */
export const CONTEXT_TT_PASS_THROUGH = 2;
/** @linux CONTEXT_TT_MULTI_LEVEL */
export const CONTEXT_TT_MULTI_LEVEL = 0;

/** A page of root or context entries, of four words each. @linux struct root_entry, struct context_entry */
export class EntryTable {
  readonly page: Page;
  readonly phys: PhysAddr;
  readonly words: Int32Array;
  constructor(kernel: Kernel, page: Page) {
    this.page = page;
    this.phys = pageToPhys(page);
    const { bytes } = memAt(kernel, this.phys, PAGE_SIZE);
    this.words = new Int32Array(bytes.buffer, bytes.byteOffset, PAGE_SIZE / 4);
  }
}

/** @linux struct intel_iommu */
export class IntelIommu {
  readonly kernel: Kernel;
  readonly io: IoMem;
  /** `dmar0`. */
  readonly name: string;
  readonly index: number;
  readonly segment: number;
  readonly description: DmarUnit;
  readonly registerLock: SpinLock;
  // Capability registers, as halves.
  readonly cap: number;
  readonly capHi: number;
  readonly ecap: number;
  readonly ecapHi: number;
  /** The widest tables: levels - 2; -1: none that the driver knows. */
  readonly agaw: number;
  /** Widest address, in bits. */
  readonly widthBits: number;
  /** Table walks snoop the CPU's caches. @linux ecap_coherent */
  readonly coherent: boolean;
  readonly cachingMode: boolean;
  readonly passThrough: boolean;
  readonly snoopControl: boolean;
  readonly pageSelective: boolean;
  readonly maxAddressMask: number;
  /** Large page sizes in bytes, ascending. */
  readonly superpages: readonly number[];
  /** After a change of tables something must be done, for caching mode or a write buffer. */
  readonly syncsMap: boolean;
  /** Null: invalidation is by registers. */
  qi: IntelQi | null = null;
  vector: MsiVector | null = null;
  /** Command bits that stay set. */
  #gcmd = 0;
  #root: EntryTable | null = null;
  readonly #contexts = new Array<EntryTable | null>(256).fill(null);
  readonly #domainIds: Uint8Array;
  readonly #writeBufferFlush: boolean;

  constructor(kernel: Kernel, io: IoMem, index: number, description: DmarUnit) {
    this.kernel = kernel;
    this.io = io;
    this.index = index;
    this.name = `dmar${index}`;
    this.segment = description.segment ?? 0;
    this.description = description;
    this.registerLock = new SpinLock(kernel, `${this.name}.register_lock`);
    this.cap = readl(io, R.CAP.offset);
    this.capHi = readl(io, R.CAP_HI.offset);
    this.ecap = readl(io, R.ECAP.offset);
    this.ecapHi = readl(io, R.ECAP_HI.offset);
    const { CAP, CAP_HI, ECAP } = R;
    this.agaw = agawOf(CAP.SAGAW.get(this.cap));
    this.widthBits = Math.min(CAP.MGAW.get(this.cap) + 1, 30 + 9 * this.agaw);
    this.coherent = ECAP.C.test(this.ecap);
    this.cachingMode = CAP.CM.test(this.cap);
    this.passThrough = ECAP.PT.test(this.ecap);
    this.snoopControl = ECAP.SC.test(this.ecap);
    this.pageSelective = CAP_HI.PSI.test(this.capHi);
    this.maxAddressMask = CAP_HI.MAMV.get(this.capHi);
    const large = CAP_HI.SLLPS.get(this.capHi);
    // As the kernel, large pages only as long as there is none missing below.
    this.superpages = (large & 1) === 0 ? [] : (large & 2) === 0 ? [2 ** 21] : [2 ** 21, 2 ** 30];
    this.#writeBufferFlush = CAP.RWBF.test(this.cap);
    this.syncsMap = this.cachingMode || this.#writeBufferFlush;
    this.#domainIds = new Uint8Array(2 ** (4 + 2 * CAP.ND.get(this.cap)));
    this.#domainIds[RESERVED_DID] = 1;
    this.#domainIds[FLPT_DEFAULT_DID] = 1;
  }

  // Commands

  /** Wait until status bits are as asked for. (IOMMU_WAIT_OP) */
  #waitStatus(mask: number, set: boolean): void {
    const { kernel } = this;
    const startNs = kernel.machine.now();
    while (((readl(this.io, R.GSTS.offset) & mask) !== 0) !== set) {
      if (kernel.machine.now() - startNs > DMAR_OPERATION_TIMEOUT_NS) {
        panic(kernel, 'DMAR hardware is malfunctioning');
        return;
      }
      kernel.machine.cpuRelax();
    }
  }
  /** Switch something on or off that has a status bit of its own. */
  #switch(bit: number, on: boolean): void {
    const flags = spinLockIrqsave(this.registerLock);
    this.#gcmd = (on ? this.#gcmd | bit : this.#gcmd & ~bit) >>> 0;
    writel(this.#gcmd, this.io, R.GCMD.offset);
    this.#waitStatus(bit, on);
    spinUnlockIrqrestore(this.registerLock, flags);
  }
  /** Whether it has an invalidation queue. @linux ecap_qis */
  get canQueue(): boolean {
    return R.ECAP.QI.test(this.ecap);
  }
  /** Whether firmware, or a kernel before this one, left translation on. */
  get translates(): boolean {
    return R.GSTS.TES.test(readl(this.io, R.GSTS.offset));
  }
  /** @linux iommu_enable_translation */
  enableTranslation(): void {
    this.#switch(R.GCMD.TE.mask, true);
  }
  /** @linux iommu_disable_translation */
  disableTranslation(): void {
    this.#switch(R.GCMD.TE.mask, false);
  }
  /** @linux __dmar_enable_qi, dmar_disable_qi */
  switchQueue(on: boolean): void {
    this.#switch(R.GCMD.QIE.mask, on);
  }
  /** Devices may use the memory that firmware kept from them. @linux iommu_disable_protect_mem_regions */
  disableProtectedMemory(): void {
    if (!R.CAP.PLMR.test(this.cap) && !R.CAP.PHMR.test(this.cap)) return;
    const flags = spinLockIrqsave(this.registerLock);
    writel(readl(this.io, R.PMEN.offset) & ~R.PMEN.EPM.mask, this.io, R.PMEN.offset);
    while (R.PMEN.PRS.test(readl(this.io, R.PMEN.offset))) this.kernel.machine.cpuRelax();
    spinUnlockIrqrestore(this.registerLock, flags);
  }
  /** What was stored to tables reaches the unit. @linux iommu_flush_write_buffer */
  flushWriteBuffer(): void {
    if (!this.#writeBufferFlush) return;
    const flags = spinLockIrqsave(this.registerLock);
    writel(this.#gcmd | R.GCMD.WBF.mask, this.io, R.GCMD.offset);
    this.#waitStatus(R.GSTS.WBFS.mask, false);
    spinUnlockIrqrestore(this.registerLock, flags);
  }

  // Root and context tables

  #table(gfp: Gfp): EntryTable | null {
    const page = allocPages(this.kernel, gfp | __GFP_ZERO, 0);
    if (page === null) return null;
    const table = new EntryTable(this.kernel, page);
    this.#clean(table, 0, PAGE_SIZE);
    return table;
  }
  #clean(table: EntryTable, offset: number, bytes: number): void {
    if (!this.coherent) this.kernel.machine.cacheClean((table.phys + offset) as PhysAddr, bytes);
  }
  /** Returns whether there was memory. @linux iommu_alloc_root_entry */
  allocRootTable(): boolean {
    this.#root = this.#table(GFP_KERNEL);
    return this.#root !== null;
  }
  /** Tell the unit where its root table is, and make it forget everything. @linux iommu_set_root_entry */
  setRootTable(): void {
    const root = this.#root!;
    const flags = spinLockIrqsave(this.registerLock);
    writel(lo32(root.phys), this.io, R.RTADDR.offset);
    writel(hi32(root.phys), this.io, R.RTADDR_HI.offset);
    writel(this.#gcmd | R.GCMD.SRTP.mask, this.io, R.GCMD.offset);
    this.#waitStatus(R.GSTS.RTPS.mask, true);
    spinUnlockIrqrestore(this.registerLock, flags);
    this.flushContext(0, 0, FLUSH_GLOBAL);
    this.flushIotlb(0, 0, 0, FLUSH_GLOBAL, false);
  }
  /** The page of context entries of a bus; null: there is none, or without memory when `gfp` says to make it. (iommu_context_addr) */
  #contextTable(bus: number, gfp: Gfp | null): EntryTable | null {
    const known = this.#contexts[bus]!;
    if (known !== null || gfp === null) return known;
    const table = this.#table(gfp);
    if (table === null) return null;
    this.#contexts[bus] = table;
    const { words } = this.#root!;
    words[4 * bus + 1] = hi32(table.phys);
    words[4 * bus] = lo32(table.phys) | 1;
    this.#clean(this.#root!, 16 * bus, 16);
    return table;
  }
  /** Give a source a context, unless it has one. Returns false without memory. @linux domain_context_mapping_one, context_setup_pass_through */
  setContext(source: number, did: number, type: number, agaw: number, table: number): boolean {
    const contexts = this.#contextTable(source >>> 8, GFP_ATOMIC);
    if (contexts === null) return false;
    const at = 4 * (source & 0xff);
    const { words } = contexts;
    if ((words[at]! & CONTEXT_PRESENT) !== 0) return true;
    words[at + 3] = 0;
    words[at + 2] = (did << 8) | agaw;
    words[at + 1] = hi32(table);
    words[at] = lo32(table) | (type << 2) | CONTEXT_PRESENT;
    this.#clean(contexts, 4 * at, 16);
    // Hardware in caching mode may remember that there was none, under an id of its own.
    if (this.cachingMode) {
      this.flushContext(RESERVED_DID, source, FLUSH_DEVICE);
      this.flushIotlb(did, 0, 0, FLUSH_DOMAIN, false);
    } else this.flushWriteBuffer();
    return true;
  }
  /** The device reaches nothing any more. @linux domain_context_clear_one, intel_context_flush_present */
  clearContext(source: number): void {
    const contexts = this.#contextTable(source >>> 8, null);
    const at = 4 * (source & 0xff);
    if (contexts === null || (contexts.words[at]! & CONTEXT_PRESENT) === 0) return;
    const did = (contexts.words[at + 2]! >>> 8) & 0xffff;
    contexts.words.fill(0, at, at + 4);
    this.#clean(contexts, 4 * at, 16);
    this.flushContext(did, source, FLUSH_DEVICE);
    this.flushIotlb(did, 0, 0, FLUSH_DOMAIN, false);
  }

  // Domain ids

  /** A free id, or -1. @linux domain_attach_iommu */
  allocDomainId(): number {
    const id = this.#domainIds.indexOf(0);
    if (id >= 0) this.#domainIds[id] = 1;
    return id;
  }
  freeDomainId(id: number): void {
    this.#domainIds[id] = 0;
  }

  // Invalidation

  /** @linux iommu_flush_context, qi_flush_context, __iommu_flush_context */
  flushContext(did: number, source: number, granularity: number): void {
    if (this.qi !== null) {
      this.qi.flushContext(did, source, granularity);
      return;
    }
    const { CCMD_HI } = R;
    const flags = spinLockIrqsave(this.registerLock);
    writel((did | (source << 16)) >>> 0, this.io, R.CCMD.offset);
    writel(CCMD_HI.ICC.mask | CCMD_HI.CIRG.prep(granularity), this.io, CCMD_HI.offset);
    this.#waitClear(CCMD_HI.offset, CCMD_HI.ICC.mask);
    spinUnlockIrqrestore(this.registerLock, flags);
  }

  /**
   * Make the unit forget translations of a domain: all, or the 2^`order` pages around `addr`; `leafOnly` when no table
   * above the last level was changed. @linux iommu_flush_iotlb, qi_flush_iotlb, __iommu_flush_iotlb
   */
  flushIotlb(did: number, addr: number, order: number, granularity: number, leafOnly: boolean): void {
    if (this.qi !== null) this.qi.flushIotlb(did, addr, order, granularity, leafOnly);
    else this.flushIotlbByRegister(did, addr, order, granularity, leafOnly);
  }
  /** @internal */
  flushIotlbByRegister(did: number, addr: number, order: number, granularity: number, leafOnly: boolean): void {
    const { IVA, IVA_HI, IOTLB, IOTLB_HI } = VTD_IOTLB;
    const base = R.ECAP.IRO.get(this.ecap) * 16;
    const flags = spinLockIrqsave(this.registerLock);
    if (granularity === FLUSH_PAGES) {
      writel(lo32(addr) + order + (leafOnly ? IVA.IH.mask : 0), this.io, base + IVA.offset);
      writel(hi32(addr), this.io, base + IVA_HI.offset);
    }
    let command = IOTLB_HI.IVT.mask + IOTLB_HI.IIRG.prep(granularity) + did;
    // Writes (and reads, where the unit can) that are under way go first.
    if (R.CAP_HI.DWD.test(this.capHi)) command += IOTLB_HI.DW.mask;
    if (R.CAP_HI.DRD.test(this.capHi)) command += IOTLB_HI.DR.mask;
    writel(0, this.io, base + IOTLB.offset);
    writel(command, this.io, base + IOTLB_HI.offset);
    const done = this.#waitClear(base + IOTLB_HI.offset, IOTLB_HI.IVT.mask);
    spinUnlockIrqrestore(this.registerLock, flags);
    if (IOTLB_HI.IAIG.get(done) === 0) prErr(this.kernel, 'DMAR: Flush IOTLB failed');
  }
  /** Wait until hardware has done a command. Returns the register's value then. */
  #waitClear(offset: number, mask: number): number {
    const startNs = this.kernel.machine.now();
    for (;;) {
      const value = readl(this.io, offset);
      if ((value & mask) === 0) return value;
      if (this.kernel.machine.now() - startNs > DMAR_OPERATION_TIMEOUT_NS) {
        panic(this.kernel, 'DMAR hardware is malfunctioning');
        return value;
      }
      this.kernel.machine.cpuRelax();
    }
  }

  /** The line that the kernel prints of a unit it has found. */
  describe(): string {
    const version = readl(this.io, R.VER.offset);
    const ver = `${R.VER.MAX.get(version)}:${R.VER.MIN.get(version)}`;
    const base = this.description.registerBase.toString(16);
    return `${this.name}: reg_base_addr ${base} ver ${ver} cap ${hex64(this.cap, this.capHi)} ecap ${hex64(this.ecap, this.ecapHi)}`;
  }
  /** Give back root and context tables, the queue and the interrupt. @linux free_iommu, free_context_table */
  free(): void {
    if (this.vector !== null) {
      freeIrq(this.kernel, this.vector.line, this);
      this.kernel.machine.freeMsi(this.vector);
      this.vector = null;
    }
    for (const table of [this.#root, ...this.#contexts]) if (table !== null) __freePages(this.kernel, table.page, 0);
    this.#root = null;
    this.#contexts.fill(null);
    this.qi?.free();
    this.qi = null;
  }
}

/** The widest of the tables that a unit walks and the driver knows. (iommu_calculate_agaw) */
function agawOf(sagaw: number): number {
  for (let agaw = 2; agaw >= 1; agaw--) if (((sagaw >>> agaw) & 1) !== 0) return agaw;
  return -1;
}
/** A 64-bit register as %llx. */
export function hex64(lo: number, hi: number): string {
  return hi === 0 ? lo.toString(16) : hi.toString(16) + lo.toString(16).padStart(8, '0');
}

/** Whether nothing answers where the unit should be. @linux warn_invalid_dmar */
export function readsAllOnes(io: IoMem): boolean {
  const { CAP, CAP_HI, ECAP, ECAP_HI } = R;
  return [CAP, CAP_HI, ECAP, ECAP_HI].every(({ offset }) => readl(io, offset) === 0xffff_ffff);
}
