/**
 * Scatterlists: arrays of memory segments, which may be chained. In C an entry's neighbour is `sg + 1`; here entries of
 * one array are linked, so that an entry is still all that a function needs.
 */
import { type DmaAddr, offsetInPage, PAGE_SIZE, type PhysAddr } from '../base/addr.ts';
import type { Page } from '../kernel/frame-table.ts';
import type { Mem } from '../kernel/index.ts';
import type { Kernel, KernelConfig } from '../kernel/kernel.ts';
import { memAt, pageAddress, virtToPage } from '../kernel/page-alloc.ts';

/** `dmaFlags`: the segment is a bus address of another device, not memory. @linux SG_DMA_BUS_ADDRESS */
export const SG_DMA_BUS_ADDRESS = 1 << 0;
/** `dmaFlags`: the segment bounces. @linux SG_DMA_SWIOTLB */
export const SG_DMA_SWIOTLB = 1 << 1;

const NO_PAGE = 0 as Page;
/** What memory that was never mapped holds. */
const NO_ADDRESS = 0 as DmaAddr;

/** One entry. @linux struct scatterlist */
export class Scatterlist {
  /** The page in which (or pages from which on) the segment lies. @linux sg_page */
  page: Page = NO_PAGE;
  /** Offset of the segment in `page`, in bytes; may exceed a page. */
  offset = 0;
  /** In bytes. */
  length = 0;
  /** Bus address of segment number i of the mapped list, which need not be this entry's memory. @linux sg_dma_address */
  dmaAddress: DmaAddr = NO_ADDRESS;
  /** Its length; 0 behind the last mapped segment. @linux sg_dma_len */
  dmaLength = 0;
  dmaFlags = 0;
  /** @internal The entry behind this one in the same array. */
  following: Scatterlist | null = null;
  /** @internal This entry is no segment but a link to another array. */
  chainTo: Scatterlist | null = null;
  /** @internal Set on the last entry. */
  isEnd = false;
}

/** An entry of a kernel without NEED_SG_DMA_LENGTH: its DMA length is its length, and mapping overwrites it. */
class OneLengthScatterlist extends Scatterlist {
  constructor() {
    super();
    Object.defineProperty(this, 'dmaLength', {
      get: () => this.length,
      set: (length: number) => {
        this.length = length;
      },
    });
  }
}

/**
 * An array of `nents` entries, cleared, the last one marked as the end; the first is returned. What an array declaration
 * with `sg_init_table` is in C. `config` is the kernel's, of which NEED_SG_DMA_LENGTH matters. @linux NEED_SG_DMA_LENGTH
 */
export function sgAlloc(nents: number, config?: KernelConfig): Scatterlist {
  if (!Number.isInteger(nents) || nents < 1)
    throw new RangeError(`a scatterlist has at least one entry, found ${nents}`);
  const oneLength = config?.NEED_SG_DMA_LENGTH === false;
  const head = oneLength ? new OneLengthScatterlist() : new Scatterlist();
  let last = head;
  for (let i = 1; i < nents; i++) {
    const entry = oneLength ? new OneLengthScatterlist() : new Scatterlist();
    last.following = entry;
    last = entry;
  }
  last.isEnd = true;
  return head;
}
/** Clear `nents` entries of an array and mark the last of them as the end. @linux sg_init_table */
export function sgInitTable(sgl: Scatterlist, nents: number): void {
  for (let i = 0; i < nents; i++) {
    const sg = sgAt(sgl, i);
    sg.page = NO_PAGE;
    sg.offset = sg.length = sg.dmaLength = sg.dmaFlags = 0;
    sg.dmaAddress = NO_ADDRESS;
    sg.chainTo = null;
    sg.isEnd = i === nents - 1;
  }
}
/** One entry over `mem`. @linux sg_init_one */
export function sgInitOne(sg: Scatterlist, mem: Mem): void {
  sgInitTable(sg, 1);
  sgSetBuf(sg, mem);
}
/** `sgl + index`, within one array. Throws outside. */
export function sgAt(sgl: Scatterlist, index: number): Scatterlist {
  let sg: Scatterlist | null = sgl;
  for (let i = 0; i < index && sg !== null; i++) sg = sg.following;
  if (sg === null) throw new RangeError(`scatterlist entry ${index} lies outside its array`);
  return sg;
}
/** Point an entry at `length` bytes from `offset` in `page` on. @linux sg_set_page */
export function sgSetPage(sg: Scatterlist, page: Page, length: number, offset: number): void {
  sg.page = page;
  sg.offset = offset;
  sg.length = length;
}
/** Point an entry at linear-map memory. @linux sg_set_buf */
export function sgSetBuf(sg: Scatterlist, mem: Mem): void {
  sgSetPage(sg, virtToPage(mem), mem.size, offsetInPage(mem.phys));
}
/** The next entry, chains followed; null behind the last. @linux sg_next */
export function sgNext(sg: Scatterlist): Scatterlist | null {
  if (sg.isEnd) return null;
  const next = sg.following;
  return next !== null && next.chainTo !== null ? next.chainTo : next;
}
/** Call `fn` with `nents` entries in order. @linux for_each_sg */
export function forEachSg(sgl: Scatterlist, nents: number, fn: (sg: Scatterlist, index: number) => void): void {
  let sg: Scatterlist | null = sgl;
  for (let i = 0; i < nents && sg !== null; i++, sg = sgNext(sg)) fn(sg, i);
}
/** The last entry of a list, chains followed. @linux sg_last */
export function sgLast(sgl: Scatterlist): Scatterlist {
  let last = sgl;
  for (let sg = sgNext(sgl); sg !== null; sg = sgNext(sg)) last = sg;
  return last;
}
/** How many entries a list has, chains followed. @linux sg_nents */
export function sgNents(sgl: Scatterlist): number {
  let count = 0;
  for (let sg: Scatterlist | null = sgl; sg !== null; sg = sgNext(sg)) count++;
  return count;
}
/** How many entries hold the first `length` bytes; -1 when the list is shorter. @linux sg_nents_for_len */
export function sgNentsForLen(sgl: Scatterlist, length: number): number {
  if (length === 0) return 0;
  let count = 0;
  let total = 0;
  for (let sg: Scatterlist | null = sgl; sg !== null; sg = sgNext(sg)) {
    count++;
    total += sg.length;
    if (total >= length) return count;
  }
  return -1;
}
/** Mark an entry as the last. @linux sg_mark_end */
export function sgMarkEnd(sg: Scatterlist): void {
  sg.isEnd = true;
  sg.chainTo = null;
}
/** The list goes on behind this entry. @linux sg_unmark_end */
export function sgUnmarkEnd(sg: Scatterlist): void {
  sg.isEnd = false;
}
/** @linux sg_is_last */
export function sgIsLast(sg: Scatterlist): boolean {
  return sg.isEnd;
}
/** @linux sg_is_chain */
export function sgIsChain(sg: Scatterlist): boolean {
  return sg.chainTo !== null;
}
/**
 * Continue the array `previous` of `previousNents` entries with `sgl`. The array's last entry becomes the link, so that
 * it cannot hold a segment. @linux sg_chain
 */
export function sgChain(previous: Scatterlist, previousNents: number, sgl: Scatterlist): void {
  const link = sgAt(previous, previousNents - 1);
  link.page = NO_PAGE;
  link.offset = 0;
  link.length = 0;
  link.isEnd = false;
  link.chainTo = sgl;
}

/** @linux sg_page */
export function sgPage(sg: Scatterlist): Page {
  return sg.page;
}
/** Physical address of the segment. @linux sg_phys */
export function sgPhys(sg: Scatterlist): PhysAddr {
  return (sg.page * PAGE_SIZE + sg.offset) as PhysAddr;
}
/** Pointer to the segment; null for HIGHMEM pages. @linux sg_virt */
export function sgVirt(kernel: Kernel, sg: Scatterlist): Mem | null {
  return pageAddress(kernel, sg.page) === null ? null : memAt(kernel, sgPhys(sg), sg.length);
}
/** @linux sg_dma_address */
export function sgDmaAddress(sg: Scatterlist): DmaAddr {
  return sg.dmaAddress;
}
/** @linux sg_dma_len */
export function sgDmaLen(sg: Scatterlist): number {
  return sg.dmaLength;
}
