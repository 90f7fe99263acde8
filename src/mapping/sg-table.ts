/** Tables that own their scatterlist, built as the kernel does: in chained page-sized arrays, contiguous pages merged. */
import { alignDown, PAGE_SIZE } from '../base/addr.ts';
import { EINVAL, type Errno, OK } from '../base/errno.ts';
import type { Page } from '../kernel/frame-table.ts';
import type { Gfp } from '../kernel/gfp.ts';
import type { KernelConfig } from '../kernel/kernel.ts';
import { forEachSg, Scatterlist, sgAlloc, sgAt, sgChain, sgNext, sgSetPage } from './scatterlist.ts';

/** Entries of one array of a chained table: as many as fit in a page. @linux SG_MAX_SINGLE_ALLOC */
export const SG_MAX_SINGLE_ALLOC = PAGE_SIZE / 32;

/** @linux struct sg_table */
export class SgTable {
  /** The list; meaningless before `sgAllocTable` and after `sgFreeTable`. */
  sgl: Scatterlist = new Scatterlist();
  /** Entries that are mapped (bus segments). */
  nents = 0;
  /** Entries of the list. */
  origNents = 0;
}

/**
 * Give a table `nents` entries. EINVAL for none. The entries live on the JavaScript heap: `gfp` is there for the
 * kernel's form, and nothing fails for lack of memory. @linux sg_alloc_table
 */
export function sgAllocTable(table: SgTable, nents: number, _gfp: Gfp, config?: KernelConfig): Errno {
  if (nents === 0) return EINVAL;
  let left = nents;
  let previous: Scatterlist | null = null;
  let previousSize = 0;
  while (left > 0) {
    // A full array spends its last entry on the link to the next.
    const last = left <= SG_MAX_SINGLE_ALLOC;
    const size = last ? left : SG_MAX_SINGLE_ALLOC;
    const array = sgAlloc(size, config);
    if (previous === null) table.sgl = array;
    else sgChain(previous, previousSize, array);
    if (!last) sgAt(array, size - 1).isEnd = false;
    previous = array;
    previousSize = size;
    left -= last ? size : size - 1;
  }
  table.nents = table.origNents = nents;
  return OK;
}
/** Forget the list. @linux sg_free_table */
export function sgFreeTable(table: SgTable): void {
  table.sgl = new Scatterlist();
  table.nents = table.origNents = 0;
}

/**
 * A table over `size` bytes from `offset` in the first of `pages` on, with physically contiguous pages in one entry.
 * @linux sg_alloc_table_from_pages
 */
export function sgAllocTableFromPages(
  table: SgTable,
  pages: readonly Page[],
  offset: number,
  size: number,
  gfp: Gfp,
): Errno {
  return sgAllocTableFromPagesSegment(table, pages, offset, size, 0xffff_ffff, gfp);
}
/**
 * As `sgAllocTableFromPages`, no entry longer than `maxSegment` bytes, which is rounded down to pages; EINVAL when
 * nothing is left of it, or without pages. @linux sg_alloc_table_from_pages_segment
 */
export function sgAllocTableFromPagesSegment(
  table: SgTable,
  pages: readonly Page[],
  offset: number,
  size: number,
  maxSegment: number,
  gfp: Gfp,
): Errno {
  const maxPages = alignDown(maxSegment, PAGE_SIZE) / PAGE_SIZE;
  if (maxPages < 1) return EINVAL;
  let chunks = 0;
  for (let i = 0; i < pages.length; i = chunkEnd(pages, i, maxPages)) chunks++;
  const error = sgAllocTable(table, chunks, gfp);
  if (error !== OK) return error;
  let sg: Scatterlist | null = table.sgl;
  let left = size;
  let start = offset;
  for (let i = 0; i < pages.length && sg !== null; sg = sgNext(sg)) {
    const end = chunkEnd(pages, i, maxPages);
    const bytes = (end - i) * PAGE_SIZE - start;
    sgSetPage(sg, pages[i]!, Math.min(left, bytes), start);
    left -= Math.min(left, bytes);
    start = 0;
    i = end;
  }
  return OK;
}
function chunkEnd(pages: readonly Page[], start: number, maxPages: number): number {
  let end = start + 1;
  while (end < pages.length && end - start < maxPages && pages[end] === pages[end - 1]! + 1) end++;
  return end;
}

/** Call `fn` with every entry of a table: the CPU's view. @linux for_each_sgtable_sg */
export function forEachSgtableSg(table: SgTable, fn: (sg: Scatterlist, index: number) => void): void {
  forEachSg(table.sgl, table.origNents, fn);
}
/** Call `fn` with every mapped segment: the device's view. @linux for_each_sgtable_dma_sg */
export function forEachSgtableDmaSg(table: SgTable, fn: (sg: Scatterlist, index: number) => void): void {
  forEachSg(table.sgl, table.nents, fn);
}
