/**
 * dma_pool: small coherent blocks of one size, carved from coherent pages. As in the kernel, free blocks are linked
 * through their own first 16 bytes (the next block's address and the block's bus address), which the device reaches: one
 * that writes to a freed block corrupts the pool, here as there.
 */
import { addrAdd, alignUp, type DmaAddr, PAGE_SIZE } from '../base/addr.ts';
import { isPowerOf2 } from '../base/bits.ts';
import { KernelBug } from '../base/errno.ts';
import { mightSleep } from '../kernel/context.ts';
import { type Device, devErr } from '../kernel/device.ts';
import { devmAddAction, devmRemoveAction } from '../kernel/devres.ts';
import { __GFP_ZERO, type Gfp, gfpflagsAllowBlocking } from '../kernel/gfp.ts';
import type { Mem } from '../kernel/index.ts';
import { warnOn } from '../kernel/panic.ts';
import { dmaAllocCoherent, dmaFreeCoherent } from './coherent.ts';
import { mappingObserver } from './observer.ts';
import type { DmaCoherent } from './ops.ts';
import { hexDump, padAddr } from './report.ts';

/** What a freed block is filled with, with DMAPOOL_DEBUG. @linux POOL_POISON_FREED */
export const POOL_POISON_FREED = 0xa7;
/** What a fresh block is filled with, with DMAPOOL_DEBUG. @linux POOL_POISON_ALLOCATED */
export const POOL_POISON_ALLOCATED = 0xa9;
/** What a free block holds: two pointers (struct dma_block). */
const LINK_BYTES = 16;
const INT_MAX = 0x7fff_ffff;
const NAME_LENGTH = 31;
const NO_BLOCK = 0;

/** A block for good: what is handed out for it is always the same object. */
class PoolBlock implements DmaCoherent {
  readonly mem: Mem;
  handle: DmaAddr;
  /** The page's memory, and where in it the block lies. */
  readonly whole: Mem;
  readonly offset: number;
  /** While it is free: the next free block, and the pointer to it that was written to memory. */
  next: PoolBlock | null = null;
  link = NO_BLOCK;

  constructor(mem: Mem, handle: DmaAddr, whole: Mem, offset: number) {
    this.mem = mem;
    this.handle = handle;
    this.whole = whole;
    this.offset = offset;
  }
}

/** @linux struct dma_pool */
export class DmaPool {
  readonly dev: Device;
  /** At most 31 characters. */
  readonly name: string;
  /** From one block to the next, in bytes. */
  readonly size: number;
  /** Bytes of coherent memory that are allocated at a time. */
  readonly allocation: number;
  /** No block crosses a multiple of it. */
  readonly boundary: number;
  /** Blocks in all. */
  nrBlocks = 0;
  /** Blocks handed out. */
  nrActive = 0;
  readonly #asked: number;
  readonly #debug: boolean;
  readonly #pages: DmaCoherent[] = [];
  /** By pointer; a driver that keeps the one it was given finds its block here. */
  readonly #blocks = new Map<Mem, PoolBlock>();
  #free: PoolBlock | null = null;
  /** The list went on at an address where no block is. */
  #broken = NO_BLOCK;

  /** @internal Use `dmaPoolCreate`. */
  constructor(dev: Device, name: string, asked: number, size: number, boundary: number) {
    this.dev = dev;
    this.name = name.slice(0, NAME_LENGTH);
    this.#asked = asked;
    this.size = size;
    this.allocation = Math.max(size, PAGE_SIZE);
    this.boundary = boundary === 0 ? this.allocation : Math.min(boundary, this.allocation);
    this.#debug = dev.kernel.options.config?.DMAPOOL_DEBUG ?? false;
  }
  /** Pages (allocations of `allocation` bytes) that the pool holds. */
  get nrPages(): number {
    return this.#pages.length;
  }

  /** @internal See `dmaPoolAlloc`. */
  alloc(gfp: Gfp): DmaCoherent | null {
    if (gfpflagsAllowBlocking(gfp)) mightSleep(this.dev.kernel, 'include/linux/sched/mm.h: might_alloc');
    if (this.#free === null) {
      if (this.#broken !== NO_BLOCK) {
        throw new KernelBug(`unable to handle page fault for address: ${padAddr(this.#broken)} (pool ${this.name})`);
      }
      const page = dmaAllocCoherent(this.dev, this.allocation, gfp & ~__GFP_ZERO);
      if (page === null) return null;
      this.#carve(page);
    }
    const block = this.#pop();
    if (this.#debug) this.#checkBlock(block, gfp);
    if ((gfp & __GFP_ZERO) !== 0) block.whole.bytes.fill(0, block.offset, block.offset + this.size);
    block.mem.freed = false;
    const observer = mappingObserver(this.dev.kernel);
    if (observer !== null) observer.alloc?.(this.dev, 'pool', block.mem.phys, this.size, block.handle, 0);
    return block;
  }
  #pop(): PoolBlock {
    const block = this.#free!;
    const { whole, offset } = block;
    const link = whole.readU64(offset);
    const dma = whole.readU64(offset + 8);
    if (link === block.link) this.#free = block.next;
    else this.#follow(link);
    if (dma !== block.handle) block.handle = dma as DmaAddr;
    this.nrActive++;
    return block;
  }
  /** Somebody wrote to the link of a free block. */
  #follow(link: number): void {
    this.#free = link === NO_BLOCK ? null : this.#blockAt(link);
    this.#broken = this.#free === null ? link : NO_BLOCK;
  }
  #blockAt(phys: number): PoolBlock | null {
    for (const block of this.#blocks.values()) if (block.mem.phys === phys) return block;
    return null;
  }
  #push(block: PoolBlock, dma: DmaAddr): void {
    const next = this.#free;
    block.handle = dma;
    block.next = next;
    block.link = next === null ? NO_BLOCK : next.mem.phys;
    block.whole.writeU64(block.offset, block.link);
    block.whole.writeU64(block.offset + 8, dma < 0 ? 0 : dma);
    this.#free = block;
  }
  /** As pool_initialise_page. */
  #carve(page: DmaCoherent): void {
    const { frames } = this.dev.kernel.pages;
    const { mem: whole, handle } = page;
    if (this.#debug) whole.bytes.fill(POOL_POISON_FREED);
    const carved: PoolBlock[] = [];
    let nextBoundary = this.boundary;
    for (let offset = 0; offset + this.size <= this.allocation; ) {
      if (offset + this.size > nextBoundary) {
        offset = nextBoundary;
        nextBoundary += this.boundary;
        continue;
      }
      const mem = frames.carve(whole, offset, this.#asked);
      const block = new PoolBlock(mem, addrAdd(handle, offset), whole, offset);
      mem.freed = true;
      this.#blocks.set(mem, block);
      carved.push(block);
      offset += this.size;
    }
    // The lowest is handed out first.
    for (let i = carved.length - 1; i >= 0; i--) this.#push(carved[i]!, carved[i]!.handle);
    this.nrBlocks += carved.length;
    this.#pages.push(page);
  }
  /** As pool_check_block. */
  #checkBlock({ mem, whole, offset }: PoolBlock, gfp: Gfp): void {
    const bytes = whole.bytes.subarray(offset, offset + this.size);
    for (let i = LINK_BYTES; i < bytes.length; i++) {
      if (bytes[i] === POOL_POISON_FREED) continue;
      devErr(this.dev, `pool_check_block ${this.name}, ${pointer(mem)} (corrupted)\n${hexDump(bytes)}`);
      break;
    }
    if ((gfp & __GFP_ZERO) === 0) bytes.fill(POOL_POISON_ALLOCATED);
  }

  /** @internal See `dmaPoolFree`. */
  free(mem: Mem, dma: DmaAddr): void {
    const observer = mappingObserver(this.dev.kernel);
    if (observer !== null) observer.free?.(this.dev, 'pool', mem.phys, this.size, dma, 0);
    // Memory of somewhere else joins the list, as in a kernel that does not check.
    const block = this.#blocks.get(mem) ?? this.#blockAt(mem.phys) ?? this.#adopt(mem, dma);
    if (this.#debug && this.#blockError(block, dma)) return;
    mem.freed = true;
    block.mem.freed = true;
    this.#push(block, dma);
    this.nrActive--;
  }
  #adopt(mem: Mem, dma: DmaAddr): PoolBlock {
    const { frames } = this.dev.kernel.pages;
    const block = new PoolBlock(frames.carve(mem, 0, mem.size), dma, mem, 0);
    this.#blocks.set(mem, block);
    return block;
  }
  /** As pool_block_err. */
  #blockError(block: PoolBlock, dma: DmaAddr): boolean {
    const page = this.#pages.find(({ handle }) => dma >= handle && dma - handle < this.allocation);
    if (page === undefined) {
      devErr(this.dev, `pool_block_err ${this.name}, ${pointer(block.mem)}/${padAddr(dma)} (bad dma)`);
      return true;
    }
    for (let free = this.#free; free !== null; free = free.next) {
      if (free !== block) continue;
      devErr(this.dev, `pool_block_err ${this.name}, dma ${padAddr(dma)} already free`);
      return true;
    }
    block.whole.bytes.fill(POOL_POISON_FREED, block.offset, block.offset + this.size);
    return false;
  }

  /** @internal See `dmaPoolDestroy`. */
  destroy(): void {
    const busy = this.nrActive !== 0;
    if (busy) devErr(this.dev, `dma_pool_destroy ${this.name} busy`);
    else for (const { mem, handle } of this.#pages) dmaFreeCoherent(this.dev, this.allocation, mem, handle);
    this.#pages.length = 0;
    this.#blocks.clear();
    this.#free = null;
  }
  /** Its line of the device's `pools` file. */
  describe(): string {
    const column = (value: number, width: number): string => String(value).padStart(width);
    const blocks = `${column(this.nrActive, 4)} ${column(this.nrBlocks, 4)}`;
    return `${this.name.padEnd(16)} ${blocks} ${column(this.size, 4)} ${column(this.nrPages, 2)}`;
  }
}

/** A pointer of the CPU, as %p would print it. */
function pointer(mem: Mem): string {
  return mem.phys.toString(16).padStart(16, '0');
}
function poolsOf(dev: Device): DmaPool[] {
  dev.dmaPools ??= [];
  return dev.dmaPools as DmaPool[];
}

/**
 * A pool of blocks of `size` bytes (at least 16), aligned to `align` (a power of two; 0: 1), none of which crosses a
 * multiple of `boundary` (a power of two not below `size`; 0: no such limit). Null for a size of 0 or parameters that are
 * none of these. May sleep. @linux dma_pool_create
 */
export function dmaPoolCreate(
  name: string,
  dev: Device,
  size: number,
  align: number,
  boundary: number,
): DmaPool | null {
  mightSleep(dev.kernel, 'mm/dmapool.c: dma_pool_create');
  const step = align === 0 ? 1 : align;
  if (!isPowerOf2(step) || !(size > 0 && size <= INT_MAX)) return null;
  const bytes = alignUp(Math.max(size, LINK_BYTES), step);
  if (boundary !== 0 && (boundary < bytes || !isPowerOf2(boundary))) return null;
  const pool = new DmaPool(dev, name, size, bytes, boundary);
  poolsOf(dev).unshift(pool);
  return pool;
}
/**
 * Give the pool's pages back. One with blocks in use is reported as busy, and its pages are lost. Null is ignored. May
 * sleep. @linux dma_pool_destroy
 */
export function dmaPoolDestroy(pool: DmaPool | null): void {
  if (pool === null) return;
  mightSleep(pool.dev.kernel, 'mm/dmapool.c: dma_pool_destroy');
  const pools = poolsOf(pool.dev);
  const at = pools.indexOf(pool);
  if (at >= 0) pools.splice(at, 1);
  pool.destroy();
}
/**
 * A block with unknown content; null without memory. The object is the same each time for the same block. May sleep with
 * GFP_KERNEL. @linux dma_pool_alloc
 */
export function dmaPoolAlloc(pool: DmaPool, gfp: Gfp): DmaCoherent | null {
  return pool.alloc(gfp);
}
/** A block of zeros. @linux dma_pool_zalloc */
export function dmaPoolZalloc(pool: DmaPool, gfp: Gfp): DmaCoherent | null {
  return pool.alloc(gfp | __GFP_ZERO);
}
/**
 * Give a block back, with both of its addresses. Nothing is checked, as in the kernel, unless the kernel is configured
 * with DMAPOOL_DEBUG: a wrong address or a second free corrupts the pool. Any context. @linux dma_pool_free
 */
export function dmaPoolFree(pool: DmaPool, mem: Mem, handle: DmaAddr): void {
  pool.free(mem, handle);
}
/** The device's `pools` file: a heading, and a line for each pool (blocks in use, blocks, their size, pages). */
export function dmaPoolsShow(dev: Device): string {
  return ['poolinfo - 0.1', ...poolsOf(dev).map((pool) => pool.describe()), ''].join('\n');
}

/** The release actions of managed pools, to find them again. */
const releases = new WeakMap<DmaPool, () => void>();

/** `dmaPoolCreate`, destroyed with the driver. @linux dmam_pool_create */
export function dmamPoolCreate(
  name: string,
  dev: Device,
  size: number,
  align: number,
  boundary: number,
): DmaPool | null {
  const pool = dmaPoolCreate(name, dev, size, align, boundary);
  if (pool === null) return null;
  const release = (): void => dmaPoolDestroy(pool);
  releases.set(pool, release);
  devmAddAction(dev, release);
  return pool;
}
/** Destroy a managed pool early; one that is not managed is reported. @linux dmam_pool_destroy */
export function dmamPoolDestroy(pool: DmaPool): void {
  const release = releases.get(pool);
  const known = release !== undefined && devmRemoveAction(pool.dev, release);
  if (warnOn(pool.dev.kernel, !known, `at mm/dmapool.c dmam_pool_destroy: ${pool.name} is not managed`)) return;
  dmaPoolDestroy(pool);
}
