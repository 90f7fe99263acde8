/**
 * Second-level page tables of Intel VT-d, as its driver keeps them: tables of 512 entries of 64 bits, one a page, in
 * pages of the page allocator. Beside each table stands an object with a view of its words and, above the last level,
 * the tables below, so that no entry has to be read back to find the way. What the hardware reaches is what is in
 * memory; nothing is shared with the model that walks it.
 */
import { fromLoHi, hi32, lo32, offsetIn, PAGE_SIZE, type PhysAddr } from '../base/addr.ts';
import { EEXIST, ENOMEM } from '../base/errno.ts';
import { __GFP_ZERO, type Gfp } from '../kernel/gfp.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { __freePages, allocPages, memAt, type Page, pageToPhys } from '../kernel/page-alloc.ts';

/** @linux DMA_PTE_READ */
export const DMA_PTE_READ = 1 << 0;
/** @linux DMA_PTE_WRITE */
export const DMA_PTE_WRITE = 1 << 1;
/** The entry of a middle level is a large page. @linux DMA_PTE_LARGE_PAGE */
export const DMA_PTE_LARGE_PAGE = 1 << 7;
/** Accesses snoop the CPU's caches. @linux DMA_PTE_SNP */
export const DMA_PTE_SNP = 1 << 11;

const PRESENT = DMA_PTE_READ | DMA_PTE_WRITE;
const ENTRIES = 512;
const ENTRY_BYTES = 8;
const LEAF_SPAN = 2 ** 21;
// A division costs several times a multiplication, and powers of two have exact inverses.
const REGIONS_PER_BYTE = 2 ** -21;
const PAGES_PER_BYTE = 2 ** -12;
/** Bytes that an entry of a level spans. */
const SPAN = [0, 2 ** 12, 2 ** 21, 2 ** 30, 2 ** 39] as const;
const NO_REGION = -1;

/** A table in memory. @linux struct dma_pte */
export class VtdTable {
  readonly page: Page;
  readonly phys: PhysAddr;
  /** Entry i is words 2i and 2i + 1. */
  readonly words: Int32Array;
  /** The tables that its entries point to; null in the last level. */
  readonly below: (VtdTable | null)[] | null;
  /** On the list of those to be given back. */
  next: VtdTable | null = null;

  constructor(kernel: Kernel, page: Page, isLeaf: boolean) {
    this.page = page;
    this.phys = pageToPhys(page);
    const { bytes } = memAt(kernel, this.phys, PAGE_SIZE);
    this.words = new Int32Array(bytes.buffer, bytes.byteOffset, PAGE_SIZE / 4);
    this.below = isLeaf ? null : new Array<VtdTable | null>(ENTRIES).fill(null);
  }
}

/** An empty table, written back for a walker that does not snoop; null without memory. @linux alloc_pgtable_page */
export function allocVtdTable(kernel: Kernel, gfp: Gfp, isLeaf: boolean, coherent: boolean): VtdTable | null {
  const page = allocPages(kernel, gfp | __GFP_ZERO, 0);
  if (page === null) return null;
  const table = new VtdTable(kernel, page, isLeaf);
  if (!coherent) kernel.machine.cacheClean(table.phys, PAGE_SIZE);
  return table;
}

/**
 * The tables of a domain. Addresses and sizes are multiples of 4 KiB, and lie within the width of the tables: the domain
 * checks both.
 */
export class VtdPageTable {
  readonly kernel: Kernel;
  /** 3 or 4. */
  readonly levels: number;
  readonly root: VtdTable;
  /** The walker snoops the CPU's caches, so that entries need not be written back. */
  readonly coherent: boolean;
  /** Tables in memory, the root included. */
  tableCount = 1;
  /** The last table of the last level that was used, and which 2 MiB it maps: mappings cluster. */
  #leaf: VtdTable | null = null;
  #leafRegion = NO_REGION;
  /** Tables that were taken out and may still be in the hardware's caches. */
  #detached: VtdTable | null = null;

  #replaced = false;
  /** Why the last call that failed did: an entry is in use, or there is no memory. */
  #inUse = false;
  /** Of which level the table is that `#deepest` found. */
  #foundLevel = 1;

  /** Takes over the root. */
  constructor(kernel: Kernel, levels: number, root: VtdTable, coherent: boolean) {
    this.kernel = kernel;
    this.levels = levels;
    this.root = root;
    this.coherent = coherent;
  }

  /** Whether since the last call a large page took the place of a table, which the hardware may still know. */
  takeReplaced(): boolean {
    const replaced = this.#replaced;
    this.#replaced = false;
    return replaced;
  }
  /** Whether tables wait for `releaseDetached`. */
  get hasDetached(): boolean {
    return this.#detached !== null;
  }
  /** Give back what was detached; the hardware has forgotten it. @linux iommu_put_pages_list */
  releaseDetached(): void {
    for (let table = this.#detached; table !== null; table = table.next) __freePages(this.kernel, table.page, 0);
    this.#detached = null;
  }

  /**
   * Map `count` pages of `pgsize` bytes. `flags` are the entry's low bits. Returns the bytes mapped; ENOMEM without
   * memory for a table, EEXIST where an entry is in use, and then nothing of this call stays mapped.
   * @linux __domain_mapping
   */
  mapPages(iova: number, phys: number, pgsize: number, count: number, flags: number, gfp: Gfp): number {
    if (count === 1 && pgsize === PAGE_SIZE) return this.#mapPage(iova, phys, flags, gfp);
    const bytes = pgsize * count;
    const level = pgsize === PAGE_SIZE ? 1 : pgsize === LEAF_SPAN ? 2 : 3;
    const bits = level === 1 ? flags : flags | DMA_PTE_LARGE_PAGE;
    for (let done = 0; done < bytes; ) {
      const table = level === 1 ? this.#leafAt(iova + done, gfp) : this.#tableAt(iova + done, level, gfp);
      const first = offsetIn(Math.floor((iova + done) / pgsize), ENTRIES);
      const left = (bytes - done) / pgsize;
      const end = left < ENTRIES - first ? first + left : ENTRIES;
      const stopped = table === null ? first : this.#fill(table, level, first, end, phys + done, pgsize, bits);
      if (table !== null && !this.coherent && stopped > first) this.#clean(table, first, stopped);
      done += (stopped - first) * pgsize;
      if (stopped === end) continue;
      if (done > 0) this.unmap(iova, done);
      return this.#inUse ? EEXIST : ENOMEM;
    }
    return bytes;
  }

  #mapPage(iova: number, phys: number, flags: number, gfp: Gfp): number {
    const table = this.#leafAt(iova, gfp);
    if (table === null) return this.#inUse ? EEXIST : ENOMEM;
    const { words } = table;
    const index = offsetIn(Math.floor(iova * PAGES_PER_BYTE), ENTRIES);
    if ((words[2 * index]! | words[2 * index + 1]!) !== 0) return EEXIST;
    words[2 * index + 1] = hi32(phys);
    words[2 * index] = lo32(phys) | flags;
    if (!this.coherent) this.#clean(table, index, index + 1);
    return PAGE_SIZE;
  }

  /** Write entries. Returns the first that was not, because it is in use. */
  #fill(
    table: VtdTable,
    level: number,
    first: number,
    end: number,
    phys: number,
    pgsize: number,
    bits: number,
  ): number {
    const { words } = table;
    let at = phys;
    for (let index = first; index < end; index++) {
      if ((words[2 * index]! | words[2 * index + 1]!) !== 0 && !this.#replaceable(table, level, index)) {
        this.#inUse = true;
        return index;
      }
      words[2 * index + 1] = hi32(at);
      words[2 * index] = lo32(at) | bits;
      at += pgsize;
    }
    return end;
  }
  /** Whether an entry that is in use is a table without pages, which a large page may take the place of. */
  #replaceable(table: VtdTable, level: number, index: number): boolean {
    const below = table.below?.[index] ?? null;
    if (level === 1 || below === null || !this.#isEmpty(below)) return false;
    this.#detach(below);
    table.below![index] = null;
    this.#replaced = true;
    return true;
  }
  #isEmpty(table: VtdTable): boolean {
    for (let i = 0; i < ENTRIES; i++) {
      if ((table.words[2 * i]! & PRESENT) === 0) continue;
      const below = table.below?.[i] ?? null;
      if (below === null || !this.#isEmpty(below)) return false;
    }
    return true;
  }

  /** The table of the last level for an address, made if need be; null without memory or where a large page is. */
  #leafAt(iova: number, gfp: Gfp): VtdTable | null {
    const region = Math.floor(iova * REGIONS_PER_BYTE);
    if (region === this.#leafRegion) return this.#leaf;
    const table = this.#tableAt(iova, 1, gfp);
    if (table !== null) {
      this.#leaf = table;
      this.#leafRegion = region;
    }
    return table;
  }
  /** The table of a level for an address. (pfn_to_dma_pte) */
  #tableAt(iova: number, level: number, gfp: Gfp): VtdTable | null {
    let table = this.root;
    for (let at = this.levels; at > level; at--) {
      const index = offsetIn(Math.floor(iova / SPAN[at]!), ENTRIES);
      let below = table.below![index]!;
      if (below === null) {
        this.#inUse = (table.words[2 * index]! & PRESENT) !== 0;
        const made = this.#inUse ? null : allocVtdTable(this.kernel, gfp, at === 2, this.coherent);
        if (made === null) return null;
        below = made;
        this.tableCount++;
        table.below![index] = made;
        table.words[2 * index + 1] = hi32(made.phys);
        table.words[2 * index] = lo32(made.phys) | PRESENT;
        if (!this.coherent) this.#clean(table, index, index + 1);
      }
      table = below;
    }
    return table;
  }
  /** The same where nothing is made: the deepest table for an address; `#foundLevel` says of which level it is. */
  #deepest(iova: number): VtdTable {
    const region = Math.floor(iova * REGIONS_PER_BYTE);
    this.#foundLevel = 1;
    if (region === this.#leafRegion) return this.#leaf!;
    let table = this.root;
    for (let at = this.levels; at > 1; at--) {
      const below = table.below![offsetIn(Math.floor(iova / SPAN[at]!), ENTRIES)]!;
      if (below === null) {
        this.#foundLevel = at;
        return table;
      }
      table = below;
    }
    this.#leaf = table;
    this.#leafRegion = region;
    return table;
  }

  /**
   * Clear what maps [iova, iova+size), all of a large page that only part of it lies in, and take out tables that it
   * covers whole. Returns the bytes, at least `size`. @linux domain_unmap, intel_iommu_unmap
   */
  unmap(iova: number, size: number): number {
    const table = this.#deepest(iova);
    const level = this.#foundLevel;
    if (level === 1 && size === PAGE_SIZE) {
      const index = offsetIn(Math.floor(iova * PAGES_PER_BYTE), ENTRIES);
      table.words[2 * index] = 0;
      table.words[2 * index + 1] = 0;
      if (!this.coherent) this.#clean(table, index, index + 1);
      return PAGE_SIZE;
    }
    if (level === 1 && this.#clearRun(table, iova, size)) return size;
    let start = iova;
    let bytes = size;
    if (level > 1) {
      const span = SPAN[level]!;
      const index = offsetIn(Math.floor(iova / span), ENTRIES);
      if ((table.words[2 * index]! & PRESENT) !== 0) {
        start = iova - (iova % span);
        bytes = Math.max(start + span, iova + size) - iova;
      }
    }
    this.#clear(this.root, this.levels, 0, start, iova + bytes - 1);
    return bytes;
  }

  /** Clear entries of one table of the last level; false when it is covered whole, or the range goes on behind it. */
  #clearRun(table: VtdTable, iova: number, size: number): boolean {
    const first = offsetIn(Math.floor(iova * PAGES_PER_BYTE), ENTRIES);
    const end = first + size * PAGES_PER_BYTE;
    if (end > ENTRIES || end - first === ENTRIES) return false;
    const { words } = table;
    for (let word = 2 * first; word < 2 * end; word++) words[word] = 0;
    if (!this.coherent) this.#clean(table, first, end);
    return true;
  }

  /** Clear entries of a table that begins at `base`, for [first, last]. (dma_pte_clear_level) */
  #clear(table: VtdTable, level: number, base: number, first: number, last: number): void {
    const span = SPAN[level]!;
    const { words, below } = table;
    const from = first <= base ? 0 : Math.floor((first - base) / span);
    const to = Math.min(ENTRIES - 1, Math.floor((last - base) / span));
    let cleared = -1;
    let clearedEnd = -1;
    for (let index = from; index <= to; index++) {
      if ((words[2 * index]! & PRESENT) === 0) continue;
      const at = base + index * span;
      const under = below === null ? null : below[index]!;
      if (first <= at && last >= at + span - 1) {
        if (under !== null) {
          this.#detach(under);
          below![index] = null;
        }
        words[2 * index] = 0;
        words[2 * index + 1] = 0;
        if (cleared < 0) cleared = index;
        clearedEnd = index + 1;
      } else if (under !== null) this.#clear(under, level - 1, at, first, last);
    }
    if (cleared >= 0 && !this.coherent) this.#clean(table, cleared, clearedEnd);
  }
  /** Put a table and all below it on the list of those to be given back. (dma_pte_list_pagetables) */
  #detach(table: VtdTable): void {
    if (table.below !== null) for (const below of table.below) if (below !== null) this.#detach(below);
    table.next = this.#detached;
    this.#detached = table;
    this.tableCount--;
    if (table === this.#leaf) {
      this.#leaf = null;
      this.#leafRegion = NO_REGION;
    }
  }

  #clean(table: VtdTable, first: number, end: number): void {
    this.kernel.machine.cacheClean((table.phys + first * ENTRY_BYTES) as PhysAddr, (end - first) * ENTRY_BYTES);
  }

  /** The physical address behind an address, or -1. @linux intel_iommu_iova_to_phys */
  iovaToPhys(iova: number): number {
    const { words } = this.#deepest(iova);
    const span = SPAN[this.#foundLevel]!;
    const index = offsetIn(Math.floor(iova / span), ENTRIES);
    const lo = words[2 * index]!;
    if ((lo & PRESENT) === 0) return -1;
    return fromLoHi(lo & 0xffff_f000, words[2 * index + 1]! & 0xf_ffff) + offsetIn(iova, span);
  }

  /** Give back every table; no hardware uses them any more. */
  free(): void {
    this.releaseDetached();
    this.#detach(this.root);
    this.releaseDetached();
  }
}
