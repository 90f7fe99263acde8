/**
 * The atomic pools: memory that was made uncached beforehand, for coherent allocations that may not sleep. One pool for
 * each zone; when one runs low, a work makes it larger.
 */
import { alignUp, PAGE_SIZE, type PhysAddr } from '../base/addr.ts';
import { getOrder, roundupPowOfTwo } from '../base/bits.ts';
import { archDmaPrepCoherent, archDmaSetUncached } from '../kernel/arch.ts';
import type { Device } from '../kernel/device.ts';
import { __GFP_NOWARN, GFP_DMA, GFP_DMA32, GFP_KERNEL, type Gfp, gfpNames } from '../kernel/gfp.ts';
import { FrameKind, type Mem } from '../kernel/index.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { allocPages, MAX_PAGE_ORDER, type Page, pageToPhys } from '../kernel/page-alloc.ts';
import { warnOn } from '../kernel/panic.ts';
import { prErr, prInfo } from '../kernel/printk.ts';
import { scheduleWork, Work } from '../kernel/workqueue.ts';
import { type AtomicPoolSource, allocSources } from './alloc-sources.ts';
import { defaultCma } from './contiguous.ts';
import { optimalGfp } from './direct-alloc.ts';
import { dmaCoherentOk, physToDma } from './dma-range.ts';
import { memparse } from './memparse.ts';
import type { DmaCoherent } from './ops.ts';

const KIB = 1024;
/** 128 KiB for each GiB of RAM. */
const RAM_SHARE = 8192;
const MIN_BYTES = 128 * KIB;

/** One contiguous part of a pool. */
interface Chunk {
  readonly phys: PhysAddr;
  readonly taken: Uint8Array;
}

/** The pool of a zone (struct gen_pool). */
class Pool {
  readonly gfp: Gfp;
  /** Newest first. */
  readonly #chunks: Chunk[] = [];
  sizeBytes = 0;
  availableBytes = 0;

  constructor(gfp: Gfp) {
    this.gfp = gfp;
  }
  add(phys: PhysAddr, sizeBytes: number): void {
    this.#chunks.unshift({ phys, taken: new Uint8Array(sizeBytes / PAGE_SIZE) });
    this.sizeBytes += sizeBytes;
    this.availableBytes += sizeBytes;
  }
  /** The first place that fits, aligned within its chunk to the size's power of two; -1 without any (gen_pool_first_fit_order_align). */
  take(sizeBytes: number): number {
    const count = sizeBytes / PAGE_SIZE;
    const align = roundupPowOfTwo(count);
    for (const { phys, taken } of this.#chunks) {
      for (let at = 0; at + count <= taken.length; at += align) {
        if (taken.indexOf(1, at) >= 0 && taken.indexOf(1, at) < at + count) continue;
        taken.fill(1, at, at + count);
        this.availableBytes -= sizeBytes;
        return phys + at * PAGE_SIZE;
      }
    }
    return -1;
  }
  give(phys: number, sizeBytes: number): boolean {
    for (const chunk of this.#chunks) {
      const at = (phys - chunk.phys) / PAGE_SIZE;
      const end = at + sizeBytes / PAGE_SIZE;
      if (at < 0 || end > chunk.taken.length) continue;
      chunk.taken.fill(0, at, end);
      this.availableBytes += sizeBytes;
      return true;
    }
    return false;
  }
}

/** The pools of a kernel. */
class AtomicPools implements AtomicPoolSource {
  readonly #kernel: Kernel;
  /** Below this, a pool grows. */
  readonly #wantedBytes: number;
  readonly #work: Work;
  readonly #normal: Pool | null;
  readonly #dma: Pool | null;
  readonly #dma32: Pool | null;

  constructor(kernel: Kernel, sizeBytes: number) {
    this.#kernel = kernel;
    this.#wantedBytes = sizeBytes;
    this.#work = new Work(kernel, () => this.#grow(), 'atomic_pool_work_fn');
    const has = (name: 'DMA' | 'DMA32' | 'NORMAL'): boolean => kernel.pages.zone(name).managed > 0;
    this.#normal = has('NORMAL') ? this.#make(GFP_KERNEL) : null;
    this.#dma = has('DMA') ? this.#make(GFP_KERNEL | GFP_DMA) : null;
    this.#dma32 = has('DMA32') ? this.#make(GFP_KERNEL | GFP_DMA32) : null;
  }
  /** As __dma_atomic_pool_init. */
  #make(gfp: Gfp): Pool | null {
    const pool = new Pool(gfp);
    if (!this.#expand(pool, this.#wantedBytes)) {
      const what = `${Math.floor(this.#wantedBytes / KIB)} KiB ${gfpNames(gfp)} pool`;
      prErr(this.#kernel, `DMA: failed to allocate ${what} for atomic allocation`);
      return null;
    }
    const what = `${pool.sizeBytes / KIB} KiB ${gfpNames(gfp)} pool`;
    prInfo(this.#kernel, `DMA: preallocated ${what} for atomic allocations`);
    return pool;
  }
  /** As atomic_pool_expand. */
  #expand(pool: Pool, sizeBytes: number): boolean {
    const kernel = this.#kernel;
    for (let order = Math.min(getOrder(sizeBytes), MAX_PAGE_ORDER); order >= 0; order--) {
      const page = this.#fromCma(pool.gfp, order) ?? allocPages(kernel, pool.gfp | __GFP_NOWARN, order);
      if (page === null) continue;
      const bytes = PAGE_SIZE << order;
      const phys = pageToPhys(page);
      archDmaPrepCoherent(kernel, phys, bytes);
      archDmaSetUncached(kernel, phys, bytes);
      this.#setKind(page, bytes, FrameKind.RESERVED);
      pool.add(phys, bytes);
      return true;
    }
    return false;
  }
  #fromCma(gfp: Gfp, order: number): Page | null {
    const area = defaultCma(this.#kernel);
    if (area === null) return null;
    const last = area.base + area.sizeBytes - 1;
    const { zoneDmaLimit } = this.#kernel.pages;
    if ((gfp & GFP_DMA) !== 0 && last > zoneDmaLimit) return null;
    if ((gfp & GFP_DMA32) !== 0 && last > Math.max(2 ** 32 - 1, zoneDmaLimit)) return null;
    return area.alloc(1 << order, order, GFP_KERNEL);
  }
  #setKind(page: Page, sizeBytes: number, kind: FrameKind): void {
    const { frames } = this.#kernel.pages;
    frames.setKind(frames.indexOf(page), sizeBytes / PAGE_SIZE, kind);
  }
  /** As atomic_pool_work_fn. */
  #grow(): void {
    for (const pool of [this.#dma, this.#dma32, this.#normal]) {
      if (pool !== null && pool.availableBytes < this.#wantedBytes) this.#expand(pool, pool.sizeBytes);
    }
  }
  /** The pools to try, in order: the one of the wanted zone, then those whose memory every device reaches more easily (dma_guess_pool). */
  #candidates(gfp: Gfp): readonly Pool[] {
    const all = [this.#normal, this.#dma32, this.#dma];
    const from = (gfp & GFP_DMA) !== 0 ? 2 : (gfp & GFP_DMA32) !== 0 ? 1 : 0;
    return all.slice(from).filter((pool) => pool !== null);
  }

  /** As dma_alloc_from_pool. */
  alloc(dev: Device, sizeBytes: number, gfp: Gfp): DmaCoherent | null {
    const bytes = alignUp(sizeBytes, PAGE_SIZE);
    // Behind an IOMMU every page will do.
    const anywhere = dev.dmaOps !== null;
    const candidates = this.#candidates(anywhere ? gfp : gfp | optimalGfp(dev));
    for (const pool of candidates) {
      const phys = pool.take(bytes) as PhysAddr;
      if (phys < 0) continue;
      if (!anywhere && !dmaCoherentOk(dev, phys, bytes)) {
        pool.give(phys, bytes);
        continue;
      }
      if (pool.availableBytes < this.#wantedBytes) scheduleWork(this.#work);
      return this.#hand(dev, phys, sizeBytes, bytes);
    }
    const { kernel } = dev;
    if (candidates.length === 0) warnOn(kernel, true, `Failed to get suitable pool for ${dev.name}`);
    else warnOn(kernel, (gfp & __GFP_NOWARN) === 0, `DMA pool exhausted for ${dev.name}`);
    return null;
  }
  #hand(dev: Device, phys: PhysAddr, sizeBytes: number, bytes: number): DmaCoherent {
    const { frames } = dev.kernel.pages;
    const index = frames.indexOf(phys / PAGE_SIZE);
    frames.setKind(index, bytes / PAGE_SIZE, FrameKind.COHERENT);
    const mem = frames.uncachedMem(index, sizeBytes);
    mem.bytes.fill(0);
    return { mem, handle: physToDma(dev, phys) };
  }
  /** As dma_free_from_pool. */
  free(_dev: Device, mem: Mem, sizeBytes: number): boolean {
    const bytes = alignUp(sizeBytes, PAGE_SIZE);
    for (const pool of this.#candidates(0)) {
      if (!pool.give(mem.phys, bytes)) continue;
      this.#setKind((mem.phys / PAGE_SIZE) as Page, bytes, FrameKind.RESERVED);
      mem.freed = true;
      return true;
    }
    return false;
  }
  /** What debugfs shows. */
  get sizes(): AtomicPoolSizes {
    return {
      poolSizeDma: this.#dma?.sizeBytes ?? 0,
      poolSizeDma32: this.#dma32?.sizeBytes ?? 0,
      poolSizeKernel: this.#normal?.sizeBytes ?? 0,
    };
  }
}

/** The files of debugfs's dma_pools folder, in bytes. */
export interface AtomicPoolSizes {
  readonly poolSizeDma: number;
  readonly poolSizeDma32: number;
  readonly poolSizeKernel: number;
}
/** How large the pools are now; all 0 on a machine that needs none. */
export function atomicPoolSizes(kernel: Kernel): AtomicPoolSizes {
  const pools = allocSources(kernel).atomicPool;
  return pools instanceof AtomicPools ? pools.sizes : { poolSizeDma: 0, poolSizeDma32: 0, poolSizeKernel: 0 };
}
/**
 * Set up the atomic pools of a machine whose devices do not snoop: `coherent_pool=SIZE` each, by default 128 KiB for each
 * GiB of RAM. Once, at boot. @linux dma_atomic_pool_init, boot:coherent_pool
 */
export function dmaAtomicPoolInit(kernel: Kernel): void {
  if (kernel.machine.traits.coherent) return;
  let bytes = memparse(kernel.cmdline.get('coherent_pool') ?? '').value;
  if (bytes === 0) {
    const pages = Math.floor(kernel.pages.managedPages / RAM_SHARE);
    bytes = Math.max(Math.min(pages, 1 << MAX_PAGE_ORDER) * PAGE_SIZE, MIN_BYTES);
  }
  allocSources(kernel).atomicPool = new AtomicPools(kernel, bytes);
}
