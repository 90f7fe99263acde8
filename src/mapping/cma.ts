/**
 * CMA: an area of memory that is lent to movable pages, and taken back for whoever needs contiguous pages by moving them
 * away. Areas that hold a pinned page, or more movable pages than there is room for elsewhere, refuse.
 */
import { alignDown, alignUp, PAGE_SIZE, type PhysAddr, pfnOf } from '../base/addr.ts';
import { EBUSY, EINVAL, ENOMEM, type Errno, isErr, OK } from '../base/errno.ts';
import { mightSleep } from '../kernel/context.ts';
import {
  allocContigRange,
  CMA_MIN_ALIGNMENT_BYTES,
  freeContigRange,
  initCmaReserved,
  memblockAlloc,
  memblockReserve,
} from '../kernel/contig.ts';
import { __GFP_NOWARN, type Gfp } from '../kernel/gfp.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Page } from '../kernel/page-alloc.ts';
import { prErr, prInfo } from '../kernel/printk.ts';
import { Ratelimit } from '../kernel/ratelimit.ts';
import { padAddr } from './report.ts';

const FOUR_GIB = 2 ** 32;
const MIB = 2 ** 20;

/** What sysfs shows of an area, in pages. */
export interface CmaStats {
  readonly totalPages: number;
  readonly availablePages: number;
  readonly allocPagesSuccess: number;
  readonly allocPagesFail: number;
  readonly releasePagesSuccess: number;
}

/** An area. @linux struct cma */
export class Cma {
  readonly kernel: Kernel;
  readonly name: string;
  readonly base: PhysAddr;
  readonly sizeBytes: number;
  /** One byte a page: 1 when it was handed out by `cmaAlloc`. */
  readonly #taken: Uint8Array;
  readonly #failed: Ratelimit;
  #allocPagesSuccess = 0;
  #allocPagesFail = 0;
  #releasePagesSuccess = 0;

  /** @internal Use `cmaInitReservedMem`. */
  constructor(kernel: Kernel, name: string, base: PhysAddr, sizeBytes: number) {
    this.kernel = kernel;
    this.name = name;
    this.base = base;
    this.sizeBytes = sizeBytes;
    this.#taken = new Uint8Array(sizeBytes / PAGE_SIZE);
    this.#failed = new Ratelimit(kernel, '__cma_alloc');
  }
  get basePfn(): number {
    return pfnOf(this.base);
  }
  /** Pages of the area. */
  get count(): number {
    return this.#taken.length;
  }
  get stats(): CmaStats {
    let taken = 0;
    for (const bit of this.#taken) taken += bit;
    return {
      totalPages: this.count,
      availablePages: this.count - taken,
      allocPagesSuccess: this.#allocPagesSuccess,
      allocPagesFail: this.#allocPagesFail,
      releasePagesSuccess: this.#releasePagesSuccess,
    };
  }
  /** Whether pages [page, page+count) begin in the area. @linux cma_pages_valid */
  contains(page: Page): boolean {
    return page >= this.basePfn && page < this.basePfn + this.count;
  }

  /** @internal See `cmaAlloc`. */
  alloc(count: number, alignOrder: number, gfp: Gfp): Page | null {
    mightSleep(this.kernel, 'mm/cma.c: __cma_alloc');
    if (count === 0 || count > this.count) return null;
    const align = 2 ** alignOrder;
    let result: Errno = ENOMEM;
    let start = 0;
    for (;;) {
      const at = this.#findFree(start, count, align);
      if (at < 0) break;
      this.#taken.fill(1, at, at + count);
      result = allocContigRange(this.kernel, this.basePfn + at, count);
      if (result === OK) {
        this.#allocPagesSuccess += count;
        return (this.basePfn + at) as Page;
      }
      this.#taken.fill(0, at, at + count);
      if (result !== EBUSY) break;
      // Something there cannot be moved: further up it may be otherwise.
      start = at + align;
    }
    this.#allocPagesFail += count;
    if ((gfp & __GFP_NOWARN) === 0 && this.#failed.allow()) this.#reportFailure(count, result);
    return null;
  }
  /** The first run of free pages whose frame number is aligned; -1 without any (bitmap_find_next_zero_area_off). */
  #findFree(start: number, count: number, align: number): number {
    const taken = this.#taken;
    let at = start;
    for (;;) {
      at = alignUp(this.basePfn + at, align) - this.basePfn;
      const end = at + count;
      if (end > taken.length) return -1;
      let i = end - 1;
      while (i >= at && taken[i] === 0) i--;
      if (i < at) return at;
      at = i + 1;
    }
  }
  #reportFailure(count: number, error: Errno): void {
    prErr(this.kernel, `cma: __cma_alloc: ${this.name}: alloc failed, req-size: ${count} pages, ret: ${error}`);
    const parts: string[] = [];
    let total = 0;
    for (let i = 0; i < this.count; i++) {
      if (this.#taken[i] !== 0) continue;
      const first = i;
      while (i < this.count && this.#taken[i] === 0) i++;
      parts.push(`${i - first}@${first}`);
      total += i - first;
    }
    const free = `${parts.join('+')}=> ${total} free of ${this.count} total pages`;
    prInfo(this.kernel, `cma: number of available pages: ${free}`);
  }

  /** @internal See `cmaRelease`. */
  release(page: Page, count: number): boolean {
    if (!this.contains(page)) return false;
    freeContigRange(this.kernel, page, count);
    this.#taken.fill(0, page - this.basePfn, page - this.basePfn + count);
    this.#releasePagesSuccess += count;
    return true;
  }
}

/**
 * `count` contiguous pages of an area, aligned to 2^alignOrder; each is a single allocated page. Null without room, after
 * the kernel's message unless `__GFP_NOWARN`. May sleep. @linux cma_alloc
 */
export function cmaAlloc(cma: Cma, count: number, alignOrder: number, gfp: Gfp): Page | null {
  return cma.alloc(count, alignOrder, gfp);
}
/** Give pages back; false, and nothing done, when they are not of this area. @linux cma_release */
export function cmaRelease(cma: Cma, page: Page, count: number): boolean {
  return cma.release(page, count);
}

/** The areas of a kernel. */
class CmaAreas {
  readonly areas: Cma[] = [];
}
const KEY = {};
const makeAreas = (): CmaAreas => new CmaAreas();
/** All areas, in the order in which they were declared. */
export function cmaAreas(kernel: Kernel): readonly Cma[] {
  return kernel.subsystem(KEY, makeAreas).areas;
}

/**
 * Make an area of memory that is set aside already, and lend it to movable pages. EINVAL when it is not aligned to a
 * pageblock or spans two zones. @linux cma_init_reserved_mem
 */
export function cmaInitReservedMem(kernel: Kernel, base: PhysAddr, sizeBytes: number, name: string): Cma | Errno {
  const { frames } = kernel.pages;
  const first = frames.indexOf(pfnOf(base));
  const last = frames.indexOf(pfnOf(base + sizeBytes) - 1);
  if (sizeBytes <= 0 || first < 0 || last < 0) return EINVAL;
  if (frames.zone[first] !== frames.zone[last]) {
    prErr(kernel, `cma: CMA area ${name} could not be activated`);
    return EINVAL;
  }
  const error = initCmaReserved(kernel, base, sizeBytes);
  if (error !== OK) return error;
  const area = new Cma(kernel, name, base, sizeBytes);
  kernel.subsystem(KEY, makeAreas).areas.push(area);
  return area;
}

/** Where an area shall lie. */
export interface CmaRequest {
  readonly sizeBytes: number;
  /** Lowest address; 0: any. */
  readonly base: number;
  /** One past the highest address; 0: the end of RAM. */
  readonly limit: number;
  /** At `base` and nowhere else. */
  readonly fixed: boolean;
  readonly name: string;
}

/**
 * Set memory aside for an area, sizes and addresses rounded to pageblocks: at `base` when `fixed`, else from 4 GiB upward
 * if there is as much memory, else as high as possible below `limit`. EINVAL, EBUSY or ENOMEM when it cannot be. At boot.
 * @linux cma_declare_contiguous
 */
export function cmaDeclareContiguous(kernel: Kernel, request: CmaRequest): Cma | Errno {
  const area = declare(kernel, request);
  const mib = Math.floor(alignUp(request.sizeBytes, CMA_MIN_ALIGNMENT_BYTES) / MIB);
  if (isErr(area)) prErr(kernel, `cma: Failed to reserve ${mib} MiB on node -1`);
  else prInfo(kernel, `cma: Reserved ${mib} MiB at ${padAddr(area.base)} on node -1`);
  return area;
}
function declare(kernel: Kernel, request: CmaRequest): Cma | Errno {
  const align = CMA_MIN_ALIGNMENT_BYTES;
  if (request.sizeBytes === 0) return EINVAL;
  if (request.fixed && request.base % align !== 0) {
    prErr(kernel, `cma: Region at ${padAddr(request.base)} must be aligned to ${padAddr(align)} bytes`);
    return EINVAL;
  }
  const base = alignUp(request.base, align);
  const sizeBytes = alignUp(request.sizeBytes, align);
  const end = kernel.pages.maxPfn * PAGE_SIZE;
  let limit = alignDown(request.limit, align);
  if (limit === 0 || limit > end) limit = end;
  if (base + sizeBytes > limit) {
    const where = `Size (${padAddr(sizeBytes)}) of region at ${padAddr(base)} exceeds limit (${padAddr(limit)})`;
    prErr(kernel, `cma: ${where}`);
    return EINVAL;
  }
  const at = request.fixed && base !== 0 ? reserveAt(kernel, base, sizeBytes) : reserve(kernel, base, limit, sizeBytes);
  return at < 0 ? (at as Errno) : cmaInitReservedMem(kernel, at as PhysAddr, sizeBytes, request.name);
}
function reserveAt(kernel: Kernel, base: number, sizeBytes: number): number {
  return memblockReserve(kernel, base, sizeBytes) ? base : EBUSY;
}
function reserve(kernel: Kernel, base: number, limit: number, sizeBytes: number): number {
  const alignBytes = CMA_MIN_ALIGNMENT_BYTES;
  // Bottom-up, so that compaction moves pages out of the area and not into it; not where narrow devices need memory.
  for (let at = FOUR_GIB; at + sizeBytes <= limit; at += alignBytes) {
    if (memblockReserve(kernel, at, sizeBytes)) return at;
  }
  const { highmemStart = Number.POSITIVE_INFINITY } = kernel.options;
  let limitPhys = limit;
  if (base < highmemStart && limit > highmemStart) {
    const high = memblockAlloc(kernel, { sizeBytes, alignBytes, minPhys: highmemStart, limitPhys: limit });
    if (high !== null) return high;
    limitPhys = highmemStart;
  }
  return memblockAlloc(kernel, { sizeBytes, alignBytes, minPhys: base, limitPhys }) ?? ENOMEM;
}
