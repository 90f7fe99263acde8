/**
 * Caches of freed address ranges, so that the tree is not touched for the sizes that drivers map all the time: per CPU
 * two magazines a size, and a depot of full ones behind them, which shrinks again over time.
 */
import { ilog2, roundupPowOfTwo } from '../base/bits.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { delTimerSync, KernelTimer, modTimer } from '../kernel/timer.ts';
import { allocIova, freeIova, type IovaDomain } from './iova.ts';

/** Entries of a magazine: with its size field it fills 1 KiB. */
const IOVA_MAG_SIZE = 127;
/** Ranges of 2^0 to 2^5 frames are cached. */
const IOVA_RANGE_CACHE_MAX_SIZE = 6;
/** The most pages that the caches keep. @linux iova_rcache_range */
export const IOVA_MAX_CACHED_PAGES = 2 ** (IOVA_RANGE_CACHE_MAX_SIZE - 1);
/** Ranges of more frames are not rounded up to a power of two. */
const ROUNDED_BELOW = 2 ** (IOVA_RANGE_CACHE_MAX_SIZE - 1);
/** The depot gives back one magazine so often. */
const IOVA_DEPOT_DELAY_NS = 100_000_000;
/** One CPU is simulated. */
const ONLINE_CPUS = 1;

class Magazine {
  readonly pfns = new Float64Array(IOVA_MAG_SIZE);
  size = 0;
  next: Magazine | null = null;

  /** The newest frame at or below `limitPfn`, or 0. */
  pop(limitPfn: number): number {
    let i = this.size - 1;
    while (this.pfns[i]! > limitPfn) if (--i < 0) return 0;
    const pfn = this.pfns[i]!;
    this.pfns[i] = this.pfns[--this.size]!;
    return pfn;
  }
}

class Rcache {
  loaded = new Magazine();
  prev = new Magazine();
  depot: Magazine | null = null;
  depotSize = 0;
  /** Emptied magazines, kept for reuse. */
  spare: Magazine | null = null;
  readonly trim: KernelTimer;

  constructor(trim: KernelTimer) {
    this.trim = trim;
  }
  swap(): void {
    const { loaded } = this;
    this.loaded = this.prev;
    this.prev = loaded;
  }
  pushDepot(magazine: Magazine): void {
    magazine.next = this.depot;
    this.depot = magazine;
    this.depotSize++;
  }
  popDepot(): Magazine | null {
    const magazine = this.depot;
    if (magazine === null) return null;
    this.depot = magazine.next;
    magazine.next = null;
    this.depotSize--;
    return magazine;
  }
  discard(magazine: Magazine): void {
    magazine.size = 0;
    magazine.next = this.spare;
    this.spare = magazine;
  }
  empty(): Magazine {
    const magazine = this.spare ?? new Magazine();
    this.spare = magazine.next;
    magazine.next = null;
    return magazine;
  }
}

/** The caches in front of one address space. @linux iova_rcache */
export class IovaRcaches {
  readonly iovad: IovaDomain;
  readonly #rcaches: Rcache[] = [];

  /** @linux iova_domain_init_rcaches */
  constructor(kernel: Kernel, iovad: IovaDomain) {
    this.iovad = iovad;
    for (let order = 0; order < IOVA_RANGE_CACHE_MAX_SIZE; order++) {
      const trim = new KernelTimer(kernel, () => this.#trimDepot(order), 'iova_depot');
      this.#rcaches.push(new Rcache(trim));
    }
  }

  /** @internal */
  insert(pfn: number, size: number): boolean {
    const order = size <= 1 ? 0 : ilog2(size - 1) + 1;
    if (order >= IOVA_RANGE_CACHE_MAX_SIZE) return false;
    const rcache = this.#rcaches[order]!;
    if (rcache.loaded.size === IOVA_MAG_SIZE) {
      if (rcache.prev.size < IOVA_MAG_SIZE) rcache.swap();
      else {
        rcache.pushDepot(rcache.loaded);
        rcache.loaded = rcache.empty();
        modTimer(rcache.trim, IOVA_DEPOT_DELAY_NS);
      }
    }
    rcache.loaded.pfns[rcache.loaded.size++] = pfn;
    return true;
  }

  /** @internal */
  get(size: number, limitPfn: number): number {
    const order = size <= 1 ? 0 : ilog2(size - 1) + 1;
    if (order >= IOVA_RANGE_CACHE_MAX_SIZE) return 0;
    const rcache = this.#rcaches[order]!;
    if (rcache.loaded.size === 0) {
      if (rcache.prev.size !== 0) rcache.swap();
      else {
        const full = rcache.popDepot();
        if (full === null) return 0;
        rcache.discard(rcache.loaded);
        rcache.loaded = full;
      }
    }
    return rcache.loaded.pop(limitPfn - size);
  }

  /** Give every cached range back to the tree. */
  flush(): void {
    for (const rcache of this.#rcaches) {
      this.#freePfns(rcache.loaded);
      this.#freePfns(rcache.prev);
    }
    for (const rcache of this.#rcaches) {
      for (let magazine = rcache.popDepot(); magazine !== null; magazine = rcache.popDepot()) {
        this.#freePfns(magazine);
        rcache.discard(magazine);
      }
    }
  }

  /** Stop the depots' timers and give everything back, as when the domain goes. @linux put_iova_domain */
  destroy(): void {
    for (const rcache of this.#rcaches) delTimerSync(rcache.trim);
    this.flush();
  }

  /** Cached ranges in all magazines: for statistics and leak checks. */
  get cachedCount(): number {
    let count = 0;
    for (const rcache of this.#rcaches) {
      count += rcache.loaded.size + rcache.prev.size + rcache.depotSize * IOVA_MAG_SIZE;
    }
    return count;
  }

  #freePfns(magazine: Magazine): void {
    for (let i = 0; i < magazine.size; i++) freeIova(this.iovad, magazine.pfns[i]!);
    magazine.size = 0;
  }

  #trimDepot(order: number): void {
    const rcache = this.#rcaches[order]!;
    if (rcache.depotSize <= ONLINE_CPUS) return;
    const magazine = rcache.popDepot()!;
    this.#freePfns(magazine);
    rcache.discard(magazine);
    modTimer(rcache.trim, IOVA_DEPOT_DELAY_NS);
  }
}

/**
 * Take `size` frames at or below `limitPfn`, from the caches if they have some. With `flushRcache` the caches are emptied
 * before it gives up. Returns the lowest frame, 0 for none. May be called in any context. @linux alloc_iova_fast
 */
export function allocIovaFast(rcaches: IovaRcaches, size: number, limitPfn: number, flushRcache: boolean): number {
  // A range that will be cached must be a power of two, or the cache could hand out one that is too small.
  const rounded = size < ROUNDED_BELOW ? roundupPowOfTwo(size) : size;
  const cached = rcaches.get(rounded, limitPfn + 1);
  if (cached !== 0) return cached;
  const pfn = allocIova(rcaches.iovad, rounded, limitPfn, true);
  if (pfn !== 0 || !flushRcache) return pfn;
  rcaches.flush();
  return allocIova(rcaches.iovad, rounded, limitPfn, true);
}

/** Give back `size` frames from `pfn` on; small ranges stay in the caches. @linux free_iova_fast */
export function freeIovaFast(rcaches: IovaRcaches, pfn: number, size: number): void {
  if (!rcaches.insert(pfn, size)) freeIova(rcaches.iovad, pfn);
}
