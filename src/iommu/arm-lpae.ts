/**
 * Translation tables in Arm's VMSAv8-64 format with a granule of 4 KiB, for stage 1 or stage 2, as IOMMU drivers keep
 * them: 512 entries of 64 bits a table, one a page, in pages of the page allocator. Beside each table stands an object
 * with a view of its words and, above the last level, the tables below, so that no entry has to be read back to find the
 * way. What the hardware reaches is what is in memory; nothing is shared with the model that walks it.
 */
import { fromLoHi, hi32, lo32, offsetIn, PAGE_SIZE, type PhysAddr } from '../base/addr.ts';
import { EEXIST, EINVAL, ENOMEM, ERANGE } from '../base/errno.ts';
import { archSyncDmaForDevice } from '../kernel/arch.ts';
import { wmb } from '../kernel/barrier.ts';
import { DMA_TO_DEVICE } from '../kernel/dma-direction.ts';
import { __GFP_ZERO, GFP_ATOMIC, type Gfp } from '../kernel/gfp.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { __freePages, allocPages, memAt, type Page, pageToPhys } from '../kernel/page-alloc.ts';
import { splat } from '../kernel/panic.ts';
import {
  IOMMU_CACHE,
  IOMMU_MMIO,
  IOMMU_NOEXEC,
  IOMMU_PRIV,
  IOMMU_READ,
  IOMMU_WRITE,
  type IotlbGather,
} from './domain.ts';

const ENTRIES = 512;
const ENTRY_BYTES = 8;
/** Bytes that an entry of a level stands for. */
const SPAN = [2 ** 39, 2 ** 30, 2 ** 21, 2 ** 12] as const;
const LAST_LEVEL = 3;
const LEAF_SPAN = SPAN[2];
/** Stage 2 puts up to this many first tables next to each other, rather than one more level above them. */
const S2_MAX_CONCAT = 16;
const NO_REGION = -1;

// Entries, lower half.
const TYPE_MASK = 3;
const TYPE_BLOCK = 1;
const TYPE_TABLE = 3;
const TYPE_PAGE = 3;
const ATTRINDX_SHIFT = 2;
const AP_UNPRIV = 1 << 6;
const AP_RDONLY = 2 << 6;
const HAP_READ = 1 << 6;
const HAP_WRITE = 2 << 6;
const SH_OS = 2 << 8;
const SH_IS = 3 << 8;
const AF = 1 << 10;
const NG = 1 << 11;
const MEMATTR_OIWB = 0xf << 2;
const MEMATTR_NC = 0x5 << 2;
const MEMATTR_DEV = 0x1 << 2;
// Upper half.
const XN = 3 << 21;
const ADDRESS_HI = 0xffff;

/** Attributes by index, as stage 1's entries name them: not cached, cached, device. */
const ATTR_IDX_CACHE = 1;
const ATTR_IDX_DEV = 2;
/** Memory attributes of indices 0 to 3: not cacheable, write-back, device nGnRE, outer write-back only. */
export const LPAE_MAIR = 0xf4_04_ff_44;

/** How the tables' owner makes the hardware forget. @linux struct iommu_flush_ops */
export interface LpaeFlushOps {
  /** Everything of these tables, at once. */
  flushAll(): void;
  /** The translations of a range and the way to them, at once: a table is taken out. */
  flushWalk(iova: number, sizeBytes: number, granule: number): void;
  /** A page, when `gather` is synchronised. */
  addPage(gather: IotlbGather, iova: number, granule: number): void;
}
/** @linux struct io_pgtable_cfg */
export interface LpaeConfig {
  readonly stage: 1 | 2;
  /** Bits of the addresses that are translated, 25 to 48, and of those that come out. */
  readonly ias: number;
  readonly oas: number;
  /** The hardware's walks snoop the CPU's caches. */
  readonly coherentWalk: boolean;
  readonly tlb: LpaeFlushOps;
}

/** A table in memory. */
class LpaeTable {
  readonly page: Page;
  readonly order: number;
  readonly phys: PhysAddr;
  /** Entry i is words 2i and 2i + 1. */
  readonly words: Int32Array;
  /** The tables that its entries point to; null in the last level. */
  readonly below: (LpaeTable | null)[] | null;

  constructor(kernel: Kernel, page: Page, order: number, isLast: boolean) {
    this.page = page;
    this.order = order;
    this.phys = pageToPhys(page);
    const size = PAGE_SIZE * 2 ** order;
    const { bytes } = memAt(kernel, this.phys, size);
    this.words = new Int32Array(bytes.buffer, bytes.byteOffset, size / 4);
    this.below = isLast ? null : new Array<LpaeTable | null>(size / ENTRY_BYTES).fill(null);
  }
}

/** The tables of a domain. @linux struct arm_lpae_io_pgtable, io_pgtable_ops */
export class ArmLpaeTable {
  readonly kernel: Kernel;
  readonly config: LpaeConfig;
  /** Of the first table, 0 to 2. */
  readonly startLevel: number;
  /** Tables in memory, the first included. */
  tableCount = 1;
  readonly #root: LpaeTable;
  readonly #inputLimit: number;
  readonly #outputLimit: number;
  /** The last table of the last level that was used, and which 2 MiB it maps: mappings cluster. */
  #leaf: LpaeTable | null = null;
  #leafRegion = NO_REGION;
  /** Of which level the table is that `#deepest` found. */
  #foundLevel = 0;
  /** Of the last `#tableAt` that gave null: a block is in the way, rather than no memory. */
  #blocked = false;
  // The attributes of what is mapped, in halves.
  #attrLo = 0;
  #attrHi = 0;

  /** Null without memory for the first table. @linux alloc_io_pgtable_ops, arm_64_lpae_alloc_pgtable_s1, arm_64_lpae_alloc_pgtable_s2 */
  static make(kernel: Kernel, config: LpaeConfig, gfp: Gfp): ArmLpaeTable | null {
    let startLevel = SPAN.findIndex((span) => span * ENTRIES >= 2 ** config.ias && span < 2 ** config.ias);
    let entries = 2 ** config.ias / SPAN[startLevel]!;
    if (config.stage === 2 && startLevel === 0 && entries <= S2_MAX_CONCAT) {
      startLevel = 1;
      entries *= ENTRIES;
    }
    const order = Math.max(0, Math.ceil(Math.log2(entries / ENTRIES)));
    const page = allocPages(kernel, gfp | __GFP_ZERO, order);
    return page === null ? null : new ArmLpaeTable(kernel, config, startLevel, page, order);
  }

  private constructor(kernel: Kernel, config: LpaeConfig, startLevel: number, page: Page, order: number) {
    this.kernel = kernel;
    this.config = config;
    this.startLevel = startLevel;
    this.#root = new LpaeTable(kernel, page, order, false);
    this.#inputLimit = 2 ** config.ias;
    this.#outputLimit = 2 ** config.oas;
    if (!config.coherentWalk) this.#clean(this.#root, 0, this.#root.words.length / 2);
    wmb(kernel);
  }

  /** Physical address of the first table, for the hardware. */
  get rootPhys(): PhysAddr {
    return this.#root.phys;
  }

  // Attributes

  #setAttributes(prot: number): void {
    const cached = (prot & IOMMU_CACHE) !== 0;
    const device = (prot & IOMMU_MMIO) !== 0;
    let lo = AF | (cached ? SH_IS : SH_OS);
    if (this.config.stage === 1) {
      lo |= NG;
      // There is no writing without reading in stage 1.
      if ((prot & IOMMU_WRITE) === 0) lo |= AP_RDONLY;
      if ((prot & IOMMU_PRIV) === 0) lo |= AP_UNPRIV;
      if (device) lo |= ATTR_IDX_DEV << ATTRINDX_SHIFT;
      else if (cached) lo |= ATTR_IDX_CACHE << ATTRINDX_SHIFT;
    } else {
      if ((prot & IOMMU_READ) !== 0) lo |= HAP_READ;
      if ((prot & IOMMU_WRITE) !== 0) lo |= HAP_WRITE;
      lo |= device ? MEMATTR_DEV : cached ? MEMATTR_OIWB : MEMATTR_NC;
    }
    this.#attrLo = lo;
    this.#attrHi = (prot & IOMMU_NOEXEC) !== 0 ? XN : 0;
  }

  // Mapping

  /**
   * Map `count` pages of `pgsize` bytes (4 KiB, 2 MiB or 1 GiB), all aligned to that. Returns the bytes mapped, which
   * may be fewer than asked for. When none was: EINVAL without permissions, ERANGE beyond the addresses of the tables,
   * EEXIST with a warning where something is mapped, ENOMEM. Any context if `gfp` is. @linux arm_lpae_map_pages
   */
  mapPages(iova: number, phys: number, pgsize: number, count: number, prot: number, gfp: Gfp): number {
    const bytes = pgsize * count;
    if (iova + bytes > this.#inputLimit || phys + bytes > this.#outputLimit) return ERANGE;
    if ((prot & (IOMMU_READ | IOMMU_WRITE)) === 0) return EINVAL;
    this.#setAttributes(prot);
    const level = pgsize === PAGE_SIZE ? LAST_LEVEL : pgsize === LEAF_SPAN ? 2 : 1;
    let done = 0;
    let error = 0;
    while (done < bytes) {
      const table = level === LAST_LEVEL ? this.#leafAt(iova + done, gfp) : this.#tableAt(iova + done, level, gfp);
      if (table === null) {
        error = this.#blocked ? this.#alreadyMapped(iova + done) : ENOMEM;
        break;
      }
      const first = this.#indexOf(iova + done, level);
      const room = table.words.length / 2 - first;
      const end = first + Math.min(room, (bytes - done) / pgsize);
      const stopped = this.#fill(table, level, first, end, iova + done, phys + done);
      if (!this.config.coherentWalk && stopped > first) this.#clean(table, first, stopped);
      done += (stopped - first) * pgsize;
      if (stopped === end) continue;
      error = this.#alreadyMapped(iova + done);
      break;
    }
    // What is mapped is there before anybody tells the device of it.
    wmb(this.kernel);
    return done > 0 ? done : error;
  }
  #alreadyMapped(iova: number): number {
    splat(this.kernel, 'warn', `WARNING: arm_lpae_init_pte: iova 0x${iova.toString(16)} is mapped already`);
    return EEXIST;
  }

  /** The entry for an address in a table of a level; the first table may be larger than others. */
  #indexOf(iova: number, level: number): number {
    const entry = Math.floor(iova / SPAN[level]!);
    return level === this.startLevel ? entry : offsetIn(entry, ENTRIES);
  }

  /** Write entries. Returns the first that was not, because it maps something. */
  #fill(table: LpaeTable, level: number, first: number, end: number, iova: number, phys: number): number {
    const { words, below } = table;
    const span = SPAN[level]!;
    const lo = this.#attrLo | (level === LAST_LEVEL ? TYPE_PAGE : TYPE_BLOCK);
    const hi = this.#attrHi;
    let at = phys;
    for (let index = first; index < end; index++, at += span) {
      if ((words[2 * index]! & TYPE_MASK) !== 0) {
        if (below === null || below[index] === null) return index;
        // A table, left empty by what was unmapped before.
        this.#removeTable(table, index, iova + (index - first) * span, span);
      }
      words[2 * index + 1] = hi32(at) | hi;
      words[2 * index] = lo32(at) | lo;
    }
    return end;
  }

  /** The table of the last level for an address, made if need be; null without memory, or where a block is. */
  #leafAt(iova: number, gfp: Gfp): LpaeTable | null {
    const region = Math.floor(iova / LEAF_SPAN);
    if (region === this.#leafRegion) return this.#leaf;
    const table = this.#tableAt(iova, LAST_LEVEL, gfp);
    if (table !== null) {
      this.#leaf = table;
      this.#leafRegion = region;
    }
    return table;
  }
  /** The table of a level for an address. */
  #tableAt(iova: number, level: number, gfp: Gfp): LpaeTable | null {
    let table = this.#root;
    this.#blocked = false;
    for (let at = this.startLevel; at < level; at++) {
      const index = this.#indexOf(iova, at);
      let below = table.below![index]!;
      if (below === null) {
        this.#blocked = (table.words[2 * index]! & TYPE_MASK) !== 0;
        const made = this.#blocked ? null : this.#makeTable(gfp, at + 1);
        if (made === null) return null;
        below = made;
        this.#link(table, index, made);
      }
      table = below;
    }
    return table;
  }
  #makeTable(gfp: Gfp, level: number): LpaeTable | null {
    const page = allocPages(this.kernel, gfp | __GFP_ZERO, 0);
    if (page === null) return null;
    this.tableCount++;
    const table = new LpaeTable(this.kernel, page, 0, level === LAST_LEVEL);
    if (!this.config.coherentWalk) this.#clean(table, 0, ENTRIES);
    return table;
  }
  /** A table's entries are there before the way to it is. */
  #link(table: LpaeTable, index: number, below: LpaeTable): void {
    wmb(this.kernel);
    table.below![index] = below;
    table.words[2 * index + 1] = hi32(below.phys);
    table.words[2 * index] = lo32(below.phys) | TYPE_TABLE;
    if (!this.config.coherentWalk) this.#clean(table, index, index + 1);
  }
  #clean(table: LpaeTable, first: number, end: number): void {
    const start = (table.phys + first * ENTRY_BYTES) as PhysAddr;
    archSyncDmaForDevice(this.kernel, start, (end - first) * ENTRY_BYTES, DMA_TO_DEVICE);
  }

  // Unmapping

  /**
   * Unmap up to `count` pages of `pgsize` bytes, as far as one table reaches. Returns the bytes unmapped; 0 with a warning
   * where nothing is mapped. @linux arm_lpae_unmap_pages, __arm_lpae_unmap
   */
  unmapPages(iova: number, pgsize: number, count: number, gather: IotlbGather): number {
    if (iova + pgsize * count > this.#inputLimit) return 0;
    const level = pgsize === PAGE_SIZE ? LAST_LEVEL : pgsize === LEAF_SPAN ? 2 : 1;
    let table = this.#deepest(iova, level);
    if (this.#foundLevel < level) {
      const index = this.#indexOf(iova, this.#foundLevel);
      if ((table.words[2 * index]! & TYPE_MASK) === 0) return this.#notMapped(iova);
      const split = this.#splitBlock(table, iova, level);
      if (split === null) return 0;
      table = split;
    }
    const first = this.#indexOf(iova, level);
    const end = Math.min(first + count, table.words.length / 2);
    const { words, below } = table;
    let index = first;
    for (; index < end; index++) {
      const at = iova + (index - first) * pgsize;
      if ((words[2 * index]! & TYPE_MASK) === 0) {
        this.#notMapped(at);
        break;
      }
      if (below !== null && below[index] !== null) this.#removeTable(table, index, at, pgsize);
      else {
        words[2 * index] = 0;
        words[2 * index + 1] = 0;
        if (!gather.queued) this.config.tlb.addPage(gather, at, pgsize);
      }
    }
    if (!this.config.coherentWalk && index > first) this.#clean(table, first, index);
    return (index - first) * pgsize;
  }
  #notMapped(iova: number): number {
    splat(this.kernel, 'warn', `WARNING: __arm_lpae_unmap: iova 0x${iova.toString(16)} is not mapped`);
    return 0;
  }

  /** The table for an address, of `level` or the nearest above; `#foundLevel` says of which. */
  #deepest(iova: number, level: number): LpaeTable {
    if (level === LAST_LEVEL && Math.floor(iova / LEAF_SPAN) === this.#leafRegion) {
      this.#foundLevel = LAST_LEVEL;
      return this.#leaf!;
    }
    let table = this.#root;
    let at = this.startLevel;
    for (; at < level; at++) {
      const below = table.below![this.#indexOf(iova, at)]!;
      if (below === null) break;
      table = below;
    }
    this.#foundLevel = at;
    if (at === LAST_LEVEL) {
      this.#leaf = table;
      this.#leafRegion = Math.floor(iova / LEAF_SPAN);
    }
    return table;
  }

  /** Take a table out of an entry: cleared, forgotten by the hardware, and given back. */
  #removeTable(table: LpaeTable, index: number, iova: number, span: number): void {
    const below = table.below![index]!;
    table.words[2 * index] = 0;
    table.words[2 * index + 1] = 0;
    table.below![index] = null;
    if (!this.config.coherentWalk) this.#clean(table, index, index + 1);
    this.config.tlb.flushWalk(iova, span, PAGE_SIZE);
    this.#freeTable(below);
  }
  #freeTable(table: LpaeTable): void {
    if (table.below !== null) for (const below of table.below) if (below !== null) this.#freeTable(below);
    if (table === this.#leaf) {
      this.#leaf = null;
      this.#leafRegion = NO_REGION;
    }
    this.tableCount--;
    __freePages(this.kernel, table.page, table.order);
  }

  /**
   * Part of a block is to go: put tables in its place that map the same, down to `level`. Returns the table of that level,
   * or null without memory.
   */
  #splitBlock(from: LpaeTable, iova: number, level: number): LpaeTable | null {
    let table = from;
    for (let at = this.#foundLevel; at < level; at++) {
      const index = this.#indexOf(iova, at);
      const made = this.#makeTable(GFP_ATOMIC, at + 1);
      if (made === null) return null;
      const lo = table.words[2 * index]!;
      const hi = table.words[2 * index + 1]!;
      const span = SPAN[at + 1]!;
      const start = fromLoHi(lo & 0xffff_f000, hi & ADDRESS_HI);
      const type = at + 1 === LAST_LEVEL ? TYPE_PAGE : TYPE_BLOCK;
      for (let i = 0; i < ENTRIES; i++) {
        const phys = start + i * span;
        made.words[2 * i + 1] = hi32(phys) | (hi & ~ADDRESS_HI);
        made.words[2 * i] = lo32(phys) | (lo & 0xffc) | type;
      }
      if (!this.config.coherentWalk) this.#clean(made, 0, ENTRIES);
      this.#link(table, index, made);
      table = made;
    }
    return table;
  }

  /** The physical address behind an address, or -1. @linux arm_lpae_iova_to_phys */
  iovaToPhys(iova: number): number {
    if (iova >= this.#inputLimit) return -1;
    const { words } = this.#deepest(iova, LAST_LEVEL);
    const span = SPAN[this.#foundLevel]!;
    const index = this.#indexOf(iova, this.#foundLevel);
    const lo = words[2 * index]!;
    if ((lo & TYPE_MASK) === 0) return -1;
    return fromLoHi(lo & 0xffff_f000, words[2 * index + 1]! & ADDRESS_HI) + offsetIn(iova, span);
  }

  /** Give back every table; no hardware is to use them any more. @linux free_io_pgtable_ops */
  free(): void {
    this.config.tlb.flushAll();
    this.#freeTable(this.#root);
  }
}
