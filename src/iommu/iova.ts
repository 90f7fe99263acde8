/**
 * The allocator of I/O virtual addresses: ranges of page frames, handed out from the top of what the device can reach,
 * aligned to their size. It remembers where it last looked, and the smallest size that failed below 4 GiB.
 */
import { ilog2 } from '../base/bits.ts';
import { NIL, RangeTree } from './range-tree.ts';

/** The range above every other: the walk downward starts there. */
const IOVA_ANCHOR = Number.MAX_SAFE_INTEGER;

/** An address space of I/O virtual page frames. @linux iova_domain */
export class IovaDomain {
  readonly tree = new RangeTree();
  readonly granule: number;
  readonly startPfn: number;
  /** The first frame at or above 4 GiB. */
  readonly dma32BitPfn: number;
  /** Where the last allocation above, or at or below, 4 GiB went: the next walk starts there. */
  cachedNode: number;
  cached32Node: number;
  /** The smallest size that failed below 4 GiB since something there was freed. */
  max32AllocSize: number;

  /** @param granule page size in bytes @param startPfn the lowest frame ever handed out @linux init_iova_domain */
  constructor(granule: number, startPfn: number) {
    this.granule = granule;
    this.startPfn = startPfn;
    this.dma32BitPfn = 2 ** 32 / granule;
    this.max32AllocSize = this.dma32BitPfn;
    const anchor = this.tree.insert(IOVA_ANCHOR, IOVA_ANCHOR);
    this.cachedNode = anchor;
    this.cached32Node = anchor;
  }

  /** How many ranges are handed out or reserved. */
  get rangeCount(): number {
    return this.tree.size - 1;
  }
}

/** The lowest range at or above `limitPfn`, or that straddles it: where a walk below the limit starts. */
function findLimit(iovad: IovaDomain, limitPfn: number): number {
  const { tree } = iovad;
  let node = tree.root;
  let best = NIL;
  while (node !== NIL) {
    if (tree.hi(node) >= limitPfn) {
      best = node;
      node = tree.left(node);
    } else node = tree.right(node);
  }
  return best;
}

/**
 * Take `size` frames at or below `limitPfn`, aligned to the next power of two of their size when `sizeAligned`.
 * Returns the lowest frame, or 0 when there is no room (frame 0 is never handed out). May be called in any context.
 * @linux alloc_iova
 */
export function allocIova(iovad: IovaDomain, size: number, limitPfn: number, sizeAligned: boolean): number {
  const { tree } = iovad;
  const limit = limitPfn + 1;
  const align = sizeAligned && size > 1 ? 2 ** (ilog2(size - 1) + 1) : 1;
  const is32 = limit <= iovad.dma32BitPfn;
  if (is32 && size >= iovad.max32AllocSize) return 0;

  let node = is32 ? iovad.cached32Node : iovad.cachedNode;
  const retryPfn = tree.hi(node);
  let highPfn = limit;
  let lowPfn = iovad.startPfn;
  for (;;) {
    let newPfn: number;
    do {
      const lo = tree.lo(node);
      if (lo < highPfn) highPfn = lo;
      newPfn = highPfn - size;
      newPfn -= newPfn % align;
      node = tree.prev(node);
    } while (node !== NIL && newPfn <= tree.hi(node) && newPfn >= lowPfn);

    if (highPfn >= size && newPfn >= lowPfn) {
      const inserted = tree.insert(newPfn, newPfn + size - 1);
      if (newPfn + size - 1 < iovad.dma32BitPfn) iovad.cached32Node = inserted;
      else iovad.cachedNode = inserted;
      return newPfn;
    }
    // Nothing below where the last one went: once more from the limit down to there.
    if (lowPfn !== iovad.startPfn || retryPfn >= limit) {
      iovad.max32AllocSize = size;
      return 0;
    }
    highPfn = limit;
    lowPfn = retryPfn + 1;
    node = findLimit(iovad, limit);
  }
}

/** Give back a range by its node in the tree. @linux __free_iova */
export function __freeIova(iovad: IovaDomain, node: number): void {
  const { tree } = iovad;
  const lo = tree.lo(node);
  const below4G = tree.hi(node) < iovad.dma32BitPfn;
  if (node === iovad.cached32Node || (below4G && lo >= tree.lo(iovad.cached32Node))) {
    iovad.cached32Node = tree.next(node);
  }
  if (lo < iovad.dma32BitPfn) iovad.max32AllocSize = iovad.dma32BitPfn;
  if (lo >= tree.lo(iovad.cachedNode)) iovad.cachedNode = tree.next(node);
  tree.remove(node);
}

/** Give back the range that contains `pfn`; nothing happens when none does. @linux free_iova */
export function freeIova(iovad: IovaDomain, pfn: number): void {
  const node = iovad.tree.find(pfn);
  if (node !== NIL) __freeIova(iovad, node);
}

/** Whether a handed-out or reserved range contains `pfn`. @linux find_iova */
export function findIova(iovad: IovaDomain, pfn: number): boolean {
  return iovad.tree.find(pfn) !== NIL;
}

/** Keep [pfnLo, pfnHi] from ever being handed out; it may overlap what is reserved already. @linux reserve_iova */
export function reserveIova(iovad: IovaDomain, pfnLo: number, pfnHi: number): void {
  const { tree } = iovad;
  let lo = pfnLo;
  for (let node = tree.first(); node !== NIL && tree.lo(node) <= pfnHi; node = tree.next(node)) {
    if (tree.hi(node) < lo) continue;
    if (lo < tree.lo(node)) tree.setLo(node, lo);
    lo = tree.hi(node) + 1;
    if (pfnHi < lo) return;
  }
  tree.insert(lo, pfnHi);
}
