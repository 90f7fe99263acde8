/**
 * Object caches: pages carved into objects of one size, handed out last-freed first. The pointer to an object stays with
 * it, so that a warm allocation makes no garbage.
 */
import { alignUp, PAGE_SIZE, type PhysAddr, pfnOf } from '../base/addr.ts';
import { getOrder, roundupPowOfTwo } from '../base/bits.ts';
import { List, ListNode } from '../base/list.ts';
import { FrameKind } from '../machine/frames.ts';
import { Mem } from '../machine/mem.ts';
import { mightSleep } from './context.ts';
import type { Device } from './device.ts';
import { devmAddAction, devmRemoveAction } from './devres.ts';
import type { FrameTable } from './frame-table.ts';
import {
  __GFP_DIRECT_RECLAIM,
  __GFP_DMA,
  __GFP_DMA32,
  __GFP_HIGHMEM,
  __GFP_NOWARN,
  __GFP_ZERO,
  type Gfp,
  gfpNames,
} from './gfp.ts';
import type { Kernel } from './kernel.ts';
import { __freePages, allocPages, MAX_PAGE_ORDER, type Page } from './page-alloc.ts';
import { splat, warnOnce } from './panic.ts';
import { prErr, prWarn } from './printk.ts';
import { Ratelimit } from './ratelimit.ts';

/** Objects begin on cache lines. @linux SLAB_HWCACHE_ALIGN */
export const SLAB_HWCACHE_ALIGN = 0x2000;
/** Pages come from ZONE_DMA. @linux SLAB_CACHE_DMA */
export const SLAB_CACHE_DMA = 0x4000;
/** Pages come from below 4 GiB. @linux SLAB_CACHE_DMA32 */
export const SLAB_CACHE_DMA32 = 0x8000;
/** Freed objects are filled with a pattern, and checked for it when handed out again. @linux SLAB_POISON */
export const SLAB_POISON = 0x800;

/** The largest kmalloc served from a cache; above, whole pages. @linux KMALLOC_MAX_CACHE_SIZE */
export const KMALLOC_MAX_CACHE_SIZE = 8192;
const KMALLOC_SIZES = [8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192];
const POISON_FREE = 0x6b;
const POISON_END = 0xa5;
/** A slab has room for so many objects if an order up to 3 allows. */
const MIN_OBJECTS = 16;
const MAX_SLAB_ORDER = 3;
/** Empty slabs that a cache keeps. */
const KEPT_EMPTY = 2;

/** Marks the first frame of a kmalloc that is whole pages. */
class LargeAllocation {
  readonly order: number;
  constructor(order: number) {
    this.order = order;
  }
}
const LARGE = Array.from({ length: MAX_PAGE_ORDER + 1 }, (_, order) => new LargeAllocation(order));

/** Pages carved into objects. */
class Slab extends ListNode {
  readonly cache: KmemCache;
  readonly page: Page;
  readonly phys: PhysAddr;
  /** The pointer to each object, as it was handed out last. */
  readonly mems: (Mem | null)[];
  /** 1: handed out. */
  readonly used: Uint8Array;
  /** Indexes of free objects; the last freed is at the top. */
  readonly free: Uint16Array;
  freeCount: number;

  constructor(cache: KmemCache, page: Page, objects: number) {
    super();
    this.cache = cache;
    this.page = page;
    this.phys = (page * PAGE_SIZE) as PhysAddr;
    this.mems = new Array(objects).fill(null);
    this.used = new Uint8Array(objects);
    // The lowest address is handed out first.
    this.free = new Uint16Array(objects);
    for (let i = 0; i < objects; i++) this.free[i] = objects - 1 - i;
    this.freeCount = objects;
  }
}

const OUT_OF_MEMORY = {};
/** All caches together tell ten failures in five seconds. */
function outOfMemoryLimit(kernel: Kernel): Ratelimit {
  return kernel.subsystem(OUT_OF_MEMORY, () => new Ratelimit(kernel, 'slab_out_of_memory'));
}

/** A cache of objects of one size. @linux struct kmem_cache */
export class KmemCache {
  readonly kernel: Kernel;
  readonly name: string;
  /** What an object holds, in bytes. @linux kmem_cache_size */
  readonly objectSize: number;
  /** From one object to the next. */
  readonly stride: number;
  readonly flags: number;
  /** Objects handed out. */
  live = 0;
  readonly #order: number;
  readonly #perSlab: number;
  readonly #partial = new List<Slab>('partial');
  readonly #full = new List<Slab>('full');
  readonly #empty = new List<Slab>('empty');
  destroyed = false;

  /** @internal Use `kmemCacheCreate`. */
  constructor(kernel: Kernel, name: string, size: number, align: number, flags: number) {
    this.kernel = kernel;
    this.name = name;
    this.objectSize = size;
    this.flags = flags;
    this.stride = alignUp(Math.max(size, 1), align);
    let order = getOrder(this.stride);
    while (order < MAX_SLAB_ORDER && Math.floor((PAGE_SIZE << order) / this.stride) < MIN_OBJECTS) order++;
    this.#order = order;
    this.#perSlab = Math.floor((PAGE_SIZE << order) / this.stride);
  }

  /** @internal An object of `size` bytes (at most `objectSize`), or null. */
  alloc(gfp: Gfp, size: number): Mem | null {
    const { kernel } = this;
    if ((gfp & __GFP_DIRECT_RECLAIM) !== 0) mightSleep(kernel, 'include/linux/sched/mm.h: might_alloc');
    const slab = this.#partial.first ?? this.#empty.first ?? this.#grow(gfp);
    if (slab === null) return null;
    const index = slab.free[--slab.freeCount]!;
    slab.used[index] = 1;
    this.live++;
    if (slab.freeCount === 0) this.#move(slab, this.#full);
    else if (slab.list === (this.#empty as unknown)) this.#move(slab, this.#partial);
    const mem = this.#pointer(slab, index, size);
    if ((this.flags & SLAB_POISON) !== 0) this.#checkPoison(slab, index);
    if ((gfp & __GFP_ZERO) !== 0) mem.bytes.fill(0);
    if (kernel.observer !== null) kernel.observer.alloc?.(kernel.machine.now(), 'slab', mem.phys, size);
    return mem;
  }
  #pointer(slab: Slab, index: number, size: number): Mem {
    const kept = slab.mems[index]!;
    if (kept !== null && kept.size === size) {
      kept.freed = false;
      return kept;
    }
    const bank = this.kernel.machine.bankAt(slab.phys)!;
    const phys = (slab.phys + index * this.stride) as PhysAddr;
    const at = phys - bank.base;
    const mem = new Mem(bank, phys, size, bank.cpu.subarray(at, at + size), true);
    slab.mems[index] = mem;
    return mem;
  }
  #move(slab: Slab, to: List<Slab>): void {
    const from = slab.list as unknown as List<Slab> | null;
    if (from !== null) from.remove(slab);
    to.pushFront(slab);
  }
  #grow(gfp: Gfp): Slab | null {
    const { kernel } = this;
    let flags = gfp & ~(__GFP_ZERO | __GFP_HIGHMEM);
    if ((this.flags & SLAB_CACHE_DMA) !== 0) flags |= __GFP_DMA;
    if ((this.flags & SLAB_CACHE_DMA32) !== 0) flags |= __GFP_DMA32;
    const page = allocPages(kernel, flags, this.#order);
    if (page === null) {
      if ((gfp & __GFP_NOWARN) === 0) this.#warnOutOfMemory(gfp);
      return null;
    }
    const slab = new Slab(this, page, this.#perSlab);
    const { frames } = kernel.pages;
    const index = frames.indexOf(page);
    frames.setKind(index, 1 << this.#order, FrameKind.SLAB);
    frames.setOwner(index, 1 << this.#order, slab);
    if ((this.flags & SLAB_POISON) !== 0) for (let i = 0; i < this.#perSlab; i++) this.#poison(slab, i);
    this.#empty.pushFront(slab);
    return slab;
  }
  #warnOutOfMemory(gfp: Gfp): void {
    if (!outOfMemoryLimit(this.kernel).allow()) return;
    const mode = `0x${gfp.toString(16)}(${gfpNames(gfp)})`;
    prWarn(this.kernel, `SLUB: Unable to allocate memory on CPU 0 (of node 0) on node -1, gfp=${mode}`);
    const sizes = `object size: ${this.objectSize}, buffer size: ${this.stride}`;
    prWarn(this.kernel, `  cache: ${this.name}, ${sizes}, default order: ${this.#order}, min order: ${this.#order}`);
  }
  #bytesOf(slab: Slab, index: number): Uint8Array {
    const bank = this.kernel.machine.bankAt(slab.phys)!;
    const at = slab.phys - bank.base + index * this.stride;
    return bank.cpu.subarray(at, at + this.objectSize);
  }
  #poison(slab: Slab, index: number): void {
    const bytes = this.#bytesOf(slab, index);
    bytes.fill(POISON_FREE);
    bytes[bytes.length - 1] = POISON_END;
  }
  #checkPoison(slab: Slab, index: number): void {
    const bytes = this.#bytesOf(slab, index);
    const last = bytes.length - 1;
    for (let i = 0; i <= last; i++) {
      const expected = i === last ? POISON_END : POISON_FREE;
      if (bytes[i] === expected) continue;
      const at = hex(slab.phys + index * this.stride + i);
      splat(this.kernel, 'memory', `BUG ${this.name} (Not tainted): Poison overwritten`, [
        `${at} @offset=${i}. First byte 0x${bytes[i]!.toString(16)} instead of 0x${expected.toString(16)}`,
      ]);
      return;
    }
  }

  /** @internal Take an object back; `expected` is the cache the caller names, or null (kfree). */
  static free(kernel: Kernel, mem: Mem, expected: KmemCache | null): void {
    const { frames } = kernel.pages;
    const index = frames.indexOf(pfnOf(mem.phys));
    const slab = index < 0 ? null : frames.owner(index);
    if (!(slab instanceof Slab)) {
      freeForeign(kernel, mem, slab, frames, index);
      return;
    }
    const { cache } = slab;
    if (expected !== null && expected !== cache) {
      const what = `cache_from_obj: Wrong slab cache. ${expected.name} but object is from ${cache.name}`;
      splat(kernel, 'memory', what);
    }
    const offset = mem.phys - slab.phys;
    const at = Math.floor(offset / cache.stride);
    if (offset % cache.stride !== 0 || at >= slab.used.length) {
      cache.#report(mem, 'Invalid object pointer');
      return;
    }
    if (slab.used[at] === 0) {
      cache.#report(mem, 'Object already free');
      return;
    }
    cache.#put(slab, at, mem);
  }
  #report(mem: Mem, problem: string): void {
    const fix = `FIX ${this.name}: Object at ${hex(mem.phys)} not freed`;
    splat(this.kernel, 'memory', `BUG ${this.name} (Not tainted): ${problem}`, [fix]);
  }
  #put(slab: Slab, index: number, mem: Mem): void {
    const { kernel } = this;
    if (kernel.observer !== null) kernel.observer.free?.(kernel.machine.now(), 'slab', mem.phys, mem.size);
    mem.freed = true;
    const kept = slab.mems[index]!;
    if (kept !== null) kept.freed = true;
    slab.used[index] = 0;
    slab.free[slab.freeCount++] = index;
    this.live--;
    if ((this.flags & SLAB_POISON) !== 0) this.#poison(slab, index);
    if (slab.freeCount < slab.used.length) {
      if (slab.freeCount === 1) this.#move(slab, this.#partial);
      return;
    }
    this.#move(slab, this.#empty);
    if (this.#empty.length > KEPT_EMPTY) this.#discard();
  }
  /** Give the empty slab that was used longest ago back to the page allocator. */
  #discard(): void {
    const slab = this.#empty.last;
    if (slab === null) return;
    this.#empty.remove(slab);
    const { frames } = this.kernel.pages;
    frames.setOwner(frames.indexOf(slab.page), 1 << this.#order, null);
    __freePages(this.kernel, slab.page, this.#order);
  }
  /** @internal @linux kmem_cache_shrink */
  shrink(): void {
    while (!this.#empty.isEmpty) this.#discard();
  }
}

function hex(n: number): string {
  return `0x${n.toString(16).padStart(16, '0')}`;
}
/** Free what is no slab object: a large kmalloc, or nothing that kfree may be called with. */
function freeForeign(kernel: Kernel, mem: Mem, owner: object | null, frames: FrameTable, index: number): void {
  if (owner instanceof LargeAllocation) {
    if (mem.phys % PAGE_SIZE !== 0 || frames.allocatedOrder(index) !== owner.order) {
      splat(kernel, 'memory', `BUG: kfree: invalid pointer ${hex(mem.phys)} into a large allocation`);
      return;
    }
    frames.setOwner(index, 1, null);
    mem.freed = true;
    __freePages(kernel, frames.pageAt(index), owner.order);
    return;
  }
  const problem = mem.freed ? ' (freed already)' : '';
  splat(kernel, 'memory', `WARNING: object pointer: ${hex(mem.phys)} was not allocated by kmalloc${problem}`);
}

/** The kmalloc caches of a kernel. */
class KmallocCaches {
  readonly sizes: readonly number[];
  readonly #normal: (KmemCache | null)[];
  readonly #dma: (KmemCache | null)[];
  /** Index of the class for each size, in steps of 8 bytes. */
  readonly classOf: Uint8Array;
  readonly #kernel: Kernel;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
    // Objects must not share a cache line where that would corrupt them.
    this.sizes = KMALLOC_SIZES.filter((size) => size >= kernel.dmaMinAlign && size % kernel.dmaMinAlign === 0);
    this.#normal = this.sizes.map(() => null);
    this.#dma = this.sizes.map(() => null);
    this.classOf = new Uint8Array(KMALLOC_MAX_CACHE_SIZE / 8 + 1);
    for (let i = 0; i < this.classOf.length; i++) this.classOf[i] = this.sizes.findIndex((size) => size >= i * 8);
  }
  cache(size: number, dma: boolean): KmemCache {
    const at = this.classOf[(size + 7) >>> 3]!;
    const caches = dma ? this.#dma : this.#normal;
    return caches[at] ?? this.#make(caches, at, dma);
  }
  #make(caches: (KmemCache | null)[], at: number, dma: boolean): KmemCache {
    const size = this.sizes[at]!;
    const label = size >= 1024 ? `${size / 1024}k` : `${size}`;
    const align = Math.max(this.#kernel.dmaMinAlign, size & -size);
    const flags = dma ? SLAB_CACHE_DMA : 0;
    const cache = new KmemCache(this.#kernel, `${dma ? 'dma-' : ''}kmalloc-${label}`, size, align, flags);
    caches[at] = cache;
    return cache;
  }
}
const KEY = {};
const makeCaches = (kernel: Kernel): KmallocCaches => new KmallocCaches(kernel);
function kmallocCaches(kernel: Kernel): KmallocCaches {
  return kernel.subsystem(KEY, makeCaches);
}

/**
 * Memory of `size` bytes for CPU and DMA, in the linear map, aligned to ARCH_DMA_MINALIGN (a power of two to its size). Up
 * to 8 KiB from size classes, above whole pages. Null when there is none. May sleep with GFP_KERNEL. @linux kmalloc
 */
export function kmalloc(kernel: Kernel, size: number, gfp: Gfp): Mem | null {
  if (size > KMALLOC_MAX_CACHE_SIZE) return kmallocLarge(kernel, size, gfp);
  let flags = gfp;
  if ((gfp & (__GFP_HIGHMEM | __GFP_DMA32)) !== 0) flags = fixFlags(kernel, gfp);
  return kmallocCaches(kernel)
    .cache(size, (flags & __GFP_DMA) !== 0)
    .alloc(flags, size);
}
/** kmalloc serves from the linear map, and from no DMA32 caches (kmalloc_fix_flags). */
function fixFlags(kernel: Kernel, gfp: Gfp): Gfp {
  const fixed = gfp & ~(__GFP_HIGHMEM | __GFP_DMA32);
  const bad = `0x${(gfp & ~fixed).toString(16)} (${gfpNames(gfp & ~fixed)})`;
  prWarn(
    kernel,
    `Unexpected gfp: ${bad}. Fixing up to gfp: 0x${fixed.toString(16)} (${gfpNames(fixed)}). Fix your code!`,
  );
  return fixed;
}
/** As kmalloc_large. */
function kmallocLarge(kernel: Kernel, size: number, gfp: Gfp): Mem | null {
  const order = getOrder(size);
  const flags = (gfp & (__GFP_HIGHMEM | __GFP_DMA32)) !== 0 ? fixFlags(kernel, gfp) : gfp;
  const page = allocPages(kernel, flags, order);
  if (page === null) return null;
  const { frames } = kernel.pages;
  const index = frames.indexOf(page);
  frames.setOwner(index, 1, LARGE[order]!);
  return frames.mem(index, size);
}
/** @linux kzalloc */
export function kzalloc(kernel: Kernel, size: number, gfp: Gfp): Mem | null {
  return kmalloc(kernel, size, gfp | __GFP_ZERO);
}
/** @linux kmalloc_array */
export function kmallocArray(kernel: Kernel, count: number, size: number, gfp: Gfp): Mem | null {
  return kmalloc(kernel, count * size, gfp);
}
/** @linux kcalloc */
export function kcalloc(kernel: Kernel, count: number, size: number, gfp: Gfp): Mem | null {
  return kmalloc(kernel, count * size, gfp | __GFP_ZERO);
}
/** A copy of `bytes`. @linux kmemdup */
export function kmemdup(kernel: Kernel, bytes: Uint8Array, gfp: Gfp): Mem | null {
  const mem = kmalloc(kernel, bytes.length, gfp);
  mem?.bytes.set(bytes);
  return mem;
}
/** Give back what kmalloc and its like returned; null is ignored. A double or foreign free is reported, and nothing done. Any context. @linux kfree */
export function kfree(kernel: Kernel, mem: Mem | null): void {
  if (mem !== null) KmemCache.free(kernel, mem, null);
}
/** How many bytes may be used of what kmalloc returned. @linux ksize */
export function ksize(kernel: Kernel, mem: Mem): number {
  const { frames } = kernel.pages;
  const index = frames.indexOf(pfnOf(mem.phys));
  const owner = index < 0 ? null : frames.owner(index);
  if (owner instanceof Slab) return owner.cache.objectSize;
  return owner instanceof LargeAllocation ? PAGE_SIZE << owner.order : 0;
}
/** What kmalloc rounds a size up to. @linux kmalloc_size_roundup */
export function kmallocSizeRoundup(kernel: Kernel, size: number): number {
  if (size > KMALLOC_MAX_CACHE_SIZE) return PAGE_SIZE << getOrder(size);
  const caches = kmallocCaches(kernel);
  return size === 0 ? 0 : caches.sizes[caches.classOf[(size + 7) >>> 3]!]!;
}

/**
 * A cache of objects of `size` bytes, aligned to `align` (a power of two; 0: eight bytes) and with `SLAB_…` flags. Objects
 * for DMA on a non-coherent machine need an alignment of a cache line, which this function does not add. @linux kmem_cache_create
 */
export function kmemCacheCreate(kernel: Kernel, name: string, size: number, align: number, flags: number): KmemCache {
  if (size < 1 || size > PAGE_SIZE << MAX_PAGE_ORDER) throw new RangeError(`cache ${name}: objects of ${size} bytes`);
  const line = kernel.machine.traits.cacheLineBytes;
  let wanted = Math.max(align, 8);
  // Small objects share a line, but none straddles two.
  if ((flags & SLAB_HWCACHE_ALIGN) !== 0) wanted = Math.max(wanted, Math.min(line, roundupPowOfTwo(size)));
  return new KmemCache(kernel, name, size, wanted, flags);
}
/** An object, or null. May sleep with GFP_KERNEL. @linux kmem_cache_alloc */
export function kmemCacheAlloc(cache: KmemCache, gfp: Gfp): Mem | null {
  if (warnOnce(cache.kernel, cache.destroyed, `kmem_cache_alloc from ${cache.name}, which was destroyed`)) return null;
  return cache.alloc(gfp, cache.objectSize);
}
/** @linux kmem_cache_zalloc */
export function kmemCacheZalloc(cache: KmemCache, gfp: Gfp): Mem | null {
  return kmemCacheAlloc(cache, gfp | __GFP_ZERO);
}
/** Give an object back to its cache. A double free, or an object of another cache, is reported. Any context. @linux kmem_cache_free */
export function kmemCacheFree(cache: KmemCache, mem: Mem): void {
  KmemCache.free(cache.kernel, mem, cache);
}
/** Give empty slabs back to the page allocator. @linux kmem_cache_shrink */
export function kmemCacheShrink(cache: KmemCache): void {
  cache.shrink();
}
/** Give all pages back. Live objects are reported, and their pages kept. May sleep. @linux kmem_cache_destroy */
export function kmemCacheDestroy(cache: KmemCache | null): void {
  if (cache === null) return;
  mightSleep(cache.kernel, 'mm/slab_common.c: kmem_cache_destroy');
  cache.destroyed = true;
  cache.shrink();
  if (cache.live === 0) return;
  prErr(cache.kernel, `${cache.live} objects remaining in ${cache.name} on __kmem_cache_shutdown()`);
  const message = `kmem_cache_destroy ${cache.name}: Slab cache still has objects when called`;
  splat(cache.kernel, 'memory', message);
}

/** kmalloc that is freed when the device's driver is unbound. @linux devm_kmalloc */
export function devmKmalloc(dev: Device, size: number, gfp: Gfp): Mem | null {
  const mem = kmalloc(dev.kernel, size, gfp);
  if (mem !== null) devmAddAction(dev, releaseOf(dev, mem));
  return mem;
}
/** @linux devm_kzalloc */
export function devmKzalloc(dev: Device, size: number, gfp: Gfp): Mem | null {
  return devmKmalloc(dev, size, gfp | __GFP_ZERO);
}
/** @linux devm_kcalloc */
export function devmKcalloc(dev: Device, count: number, size: number, gfp: Gfp): Mem | null {
  return devmKmalloc(dev, count * size, gfp | __GFP_ZERO);
}
/** Free managed memory early. @linux devm_kfree */
export function devmKfree(dev: Device, mem: Mem): void {
  const release = releases.get(mem);
  if (warnOnce(dev.kernel, release === undefined || !devmRemoveAction(dev, release), 'devm_kfree of foreign memory'))
    return;
  kfree(dev.kernel, mem);
}
/** The release action of managed memory, to find it again. */
const releases = new WeakMap<Mem, () => void>();
function releaseOf(dev: Device, mem: Mem): () => void {
  const release = (): void => kfree(dev.kernel, mem);
  releases.set(mem, release);
  return release;
}
