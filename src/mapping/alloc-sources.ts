/**
 * Where coherent memory comes from besides the page allocator: contiguous areas, the atomic pool, a device's own memory.
 * Each is a file of its own that registers here; without it the page allocator serves.
 */
import type { Device } from '../kernel/device.ts';
import type { Gfp } from '../kernel/gfp.ts';
import type { Mem } from '../kernel/index.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { __freePages, allocPages, type Page } from '../kernel/page-alloc.ts';
import type { DmaCoherent } from './ops.ts';
import { pageOrder } from './page-order.ts';

/** CMA. @linux dma_alloc_contiguous, dma_free_contiguous */
export interface ContiguousSource {
  /** Null: not from here; the page allocator is asked next. */
  alloc(dev: Device, sizeBytes: number, gfp: Gfp): Page | null;
  /** False when the page is not from here. */
  free(dev: Device, page: Page, sizeBytes: number): boolean;
}
/** Uncached memory kept for allocations that may not sleep. @linux dma_alloc_from_pool, dma_free_from_pool */
export interface AtomicPoolSource {
  /** Null when it is empty: the allocation fails. */
  alloc(dev: Device, sizeBytes: number, gfp: Gfp): DmaCoherent | null;
  free(dev: Device, mem: Mem, sizeBytes: number): boolean;
}
/** Memory of one device, at `dev.dmaMem`. A device that has it allocates from nowhere else. @linux struct dma_coherent_mem */
export interface DevCoherentSource {
  alloc(dev: Device, sizeBytes: number): DmaCoherent | null;
  /** False when the memory is not from here. */
  release(dev: Device, order: number, mem: Mem): boolean;
  /** Whether the memory is from here: then its address is no bus address that the device's windows make. */
  contains?(mem: Mem): boolean;
}

/** The sources of a kernel. */
export class AllocSources {
  contiguous: ContiguousSource | null = null;
  atomicPool: AtomicPoolSource | null = null;
  /** Serves all devices that do not snoop, and nothing else does. */
  globalCoherent: DevCoherentSource | null = null;
}
const KEY = {};
const makeSources = (): AllocSources => new AllocSources();

/** The kernel's sources, for whoever provides or uses one. */
export function allocSources(kernel: Kernel): AllocSources {
  return kernel.subsystem(KEY, makeSources);
}
/** The device's own memory, or null. */
export function devCoherentSource(dev: Device): DevCoherentSource | null {
  return dev.dmaMem as DevCoherentSource | null;
}

/** @internal From a contiguous area if there is one, else from the page allocator. */
export function allocContiguousOrPages(dev: Device, sizeBytes: number, gfp: Gfp): Page | null {
  const page = allocSources(dev.kernel).contiguous?.alloc(dev, sizeBytes, gfp) ?? null;
  return page ?? allocPages(dev.kernel, gfp, pageOrder(sizeBytes));
}
/** @internal @linux dma_free_contiguous */
export function freeContiguousOrPages(dev: Device, page: Page, sizeBytes: number): void {
  if (allocSources(dev.kernel).contiguous?.free(dev, page, sizeBytes) === true) return;
  __freePages(dev.kernel, page, pageOrder(sizeBytes));
}
