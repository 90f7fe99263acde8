/**
 * Contiguous ranges beyond the largest buddy block: memory set aside at boot, and ranges that are cleared on demand by
 * moving what lies in them (CMA).
 */
import { alignDown, alignUp, PAGE_SIZE, type PhysAddr, pfnOf } from '../base/addr.ts';
import { roundupPowOfTwo } from '../base/bits.ts';
import { EBUSY, EINVAL, ENOMEM, type Errno, OK } from '../base/errno.ts';
import { FrameKind } from '../machine/frames.ts';
import { FrameFlag, FrameState, MAX_PAGE_ORDER, MigrateType, PAGEBLOCK_ORDER, type Page } from './frame-table.ts';
import { __GFP_MOVABLE, __GFP_NOWARN } from './gfp.ts';
import type { Kernel } from './kernel.ts';

/** Granularity of CMA areas in bytes: a pageblock. @linux CMA_MIN_ALIGNMENT_BYTES */
export const CMA_MIN_ALIGNMENT_BYTES = PAGE_SIZE << PAGEBLOCK_ORDER;

/** Where memory may be set aside. */
export interface MemblockRequest {
  readonly sizeBytes: number;
  /** A power of two, at least a page; default: a page. */
  readonly alignBytes?: number;
  /** Lowest address of the first byte; default 0. */
  readonly minPhys?: number;
  /** One past the highest address of the last byte; default: all RAM. */
  readonly limitPhys?: number;
}

/**
 * Set memory aside for good: the highest free range that fits, as memblock searches. Its frames become RESERVED. Null
 * when there is none. Meant for boot, when memory is whole. @linux memblock_phys_alloc_range
 */
export function memblockAlloc(kernel: Kernel, request: MemblockRequest): PhysAddr | null {
  const { frames, buddy } = kernel.pages;
  const size = alignUp(request.sizeBytes, PAGE_SIZE);
  const align = Math.max(request.alignBytes ?? PAGE_SIZE, PAGE_SIZE);
  buddy.drain();
  for (let i = frames.spans.length - 1; i >= 0; i--) {
    const { bank, first } = frames.spans[i]!;
    const low = alignUp(Math.max(bank.base, request.minPhys ?? 0), align);
    const end = Math.min(bank.base + bank.sizeBytes, request.limitPhys ?? Number.MAX_SAFE_INTEGER);
    for (let phys = alignDown(end - size, align); phys >= low; phys -= align) {
      if (!buddy.rangeIsFree(first + (phys - bank.base) / PAGE_SIZE, size / PAGE_SIZE)) continue;
      if (memblockReserve(kernel, phys, size)) return phys as PhysAddr;
    }
  }
  return null;
}
/**
 * Set a given range aside for good. False, and nothing done, unless all of it is free RAM. @linux memblock_reserve
 */
export function memblockReserve(kernel: Kernel, phys: number, sizeBytes: number): boolean {
  const { frames, buddy } = kernel.pages;
  const index = frames.indexOf(pfnOf(phys));
  const count = Math.ceil(sizeBytes / PAGE_SIZE);
  buddy.drain();
  if (index < 0 || frames.indexOf(pfnOf(phys) + count - 1) !== index + count - 1) return false;
  if (!buddy.rangeIsFree(index, count) || touchesCma(kernel, index, count)) return false;
  for (let i = index; i < index + count; i++) {
    buddy.isolate(i);
    frames.state[i] = FrameState.RESERVED;
    kernel.pages.adjustManaged(frames.zone[i]!, -1);
  }
  frames.setKind(index, count, FrameKind.RESERVED);
  return true;
}
/** Whether part of a range belongs to a CMA area, which is set aside though its pages are lent out. */
function touchesCma(kernel: Kernel, index: number, count: number): boolean {
  const { blockType } = kernel.pages.frames;
  const last = (index + count - 1) >>> PAGEBLOCK_ORDER;
  for (let block = index >>> PAGEBLOCK_ORDER; block <= last; block++) {
    if (blockType[block] === MigrateType.CMA) return true;
  }
  return false;
}
/**
 * Lend a reserved range of whole pageblocks to the allocator, for movable pages only. Returns EINVAL when the range is
 * not reserved or not aligned to `CMA_MIN_ALIGNMENT_BYTES`. @linux init_cma_reserved_pageblock
 */
export function initCmaReserved(kernel: Kernel, phys: number, sizeBytes: number): Errno {
  const { frames, buddy } = kernel.pages;
  const index = frames.indexOf(pfnOf(phys));
  const count = sizeBytes / PAGE_SIZE;
  if (index < 0 || phys % CMA_MIN_ALIGNMENT_BYTES !== 0 || sizeBytes % CMA_MIN_ALIGNMENT_BYTES !== 0) return EINVAL;
  if (frames.indexOf(pfnOf(phys) + count - 1) !== index + count - 1) return EINVAL;
  for (let i = index; i < index + count; i++) if (frames.state[i] !== FrameState.RESERVED) return EINVAL;
  frames.blockType.fill(MigrateType.CMA, index >>> PAGEBLOCK_ORDER, (index + count) >>> PAGEBLOCK_ORDER);
  for (let i = index; i < index + count; i++) kernel.pages.adjustManaged(frames.zone[i]!, 1);
  frames.setKind(index, count, FrameKind.FREE);
  buddy.release(index, count);
  return OK;
}

/**
 * Take the page frames [pfnStart, pfnStart+count) out of the allocator: free ones as they are, movable ones after their
 * content was moved elsewhere. Afterwards each is a single allocated page. Returns EBUSY when one of them can be neither
 * taken nor moved (pinned, or not movable), ENOMEM when there is no room to move to; then nothing has been taken (though
 * pages may have been moved). May sleep. @linux alloc_contig_range
 */
export function allocContigRange(kernel: Kernel, pfnStart: number, count: number): Errno {
  const { frames, buddy } = kernel.pages;
  const start = frames.indexOf(pfnStart);
  if (start < 0 || frames.indexOf(pfnStart + count - 1) !== start + count - 1) return EINVAL;
  const end = start + count;
  buddy.drain();
  for (let i = start; i < end; i++) {
    const error = movable(kernel, i);
    if (error !== OK) return error;
  }
  // Free frames first, so that nothing is moved to within the range.
  const taken = new Uint8Array(count);
  for (let i = start; i < end; i++) if (buddy.isolate(i)) taken[i - start] = 1;
  let result: Errno = OK;
  for (let i = start; i < end && result === OK; i++) {
    if (taken[i - start] === 0) result = moveBlock(kernel, i, start, end, taken);
  }
  if (result === OK) {
    frames.setKind(start, count, FrameKind.PAGES);
    frames.flags.fill(0, start, end);
    for (let i = start; i < end; i++) frames.markMems(i, 1, false);
    return OK;
  }
  for (let i = start; i < end; i++) if (taken[i - start] === 1) buddy.give(i, 0);
  return result;
}
/**
 * Contiguous pages, more than the largest buddy block has: the first free range that fits, aligned to the next power of
 * two of its size. Afterwards each is a single allocated page; give them back with `freeContigRange`. Null when there is
 * no such range. May sleep. @linux alloc_contig_pages
 */
export function allocContigPages(kernel: Kernel, count: number): Page | null {
  const { frames, buddy } = kernel.pages;
  const align = PAGE_SIZE * roundupPowOfTwo(count);
  buddy.drain();
  for (const { bank, first } of frames.spans) {
    const end = bank.base + bank.sizeBytes - count * PAGE_SIZE;
    for (let phys = alignUp(bank.base as number, align); phys <= end; phys += align) {
      if (!buddy.rangeIsFree(first + (phys - bank.base) / PAGE_SIZE, count)) continue;
      if (allocContigRange(kernel, pfnOf(phys), count) === OK) return pfnOf(phys) as Page;
    }
  }
  return null;
}
/** Give back a range that `allocContigRange` took, or a part of it. @linux free_contig_range */
export function freeContigRange(kernel: Kernel, pfnStart: number, count: number): void {
  for (let i = 0; i < count; i++) kernel.pages.release((pfnStart + i) as Page, 0);
}

/** First frame of the allocated block that holds a frame; -1 when none does. */
function blockHead(kernel: Kernel, index: number): number {
  const { frames } = kernel.pages;
  for (let size = 1; size <= 1 << MAX_PAGE_ORDER; size *= 2) {
    const head = index - (index % size);
    const order = frames.allocatedOrder(head);
    if (order >= 0) return head + (1 << order) > index ? head : -1;
  }
  return -1;
}
function movable(kernel: Kernel, index: number): Errno {
  const { frames } = kernel.pages;
  if (frames.state[index] === FrameState.RESERVED) return EBUSY;
  const head = blockHead(kernel, index);
  if (head < 0) return OK;
  if ((frames.flags[head]! & FrameFlag.MOVABLE) === 0) return EBUSY;
  const size = 1 << frames.allocatedOrder(head);
  for (let i = head; i < head + size; i++) if (frames.pins[i] !== 0) return EBUSY;
  return OK;
}
function moveBlock(kernel: Kernel, index: number, start: number, end: number, taken: Uint8Array): Errno {
  const { pages } = kernel;
  const { frames, buddy } = pages;
  const head = blockHead(kernel, index);
  if (head < 0) return EBUSY;
  const order = frames.allocatedOrder(head);
  const size = 1 << order;
  const target = pages.alloc(__GFP_MOVABLE | __GFP_NOWARN, order);
  if (target === null) return ENOMEM;
  const to = frames.indexOf(target);
  frames.copy(to, head, size);
  const from = frames.pageAt(head);
  for (const hook of pages.migrateHooks) {
    if (!hook(from, target)) {
      pages.release(target, order);
      return EBUSY;
    }
  }
  frames.markMems(head, size, true);
  frames.setKind(head, size, FrameKind.FREE);
  for (let i = head; i < head + size; i++) {
    const owner = frames.owner(i);
    frames.setOwner(to + (i - head), 1, owner);
    frames.setOwner(i, 1, null);
    frames.state[i] = FrameState.ALLOCATED;
    frames.flags[i] = 0;
    if (i >= start && i < end) taken[i - start] = 1;
    else buddy.give(i, 0);
  }
  return OK;
}
