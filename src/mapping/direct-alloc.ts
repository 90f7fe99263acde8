/** dma-direct's allocations: pages that the device reaches, uncached where it does not snoop the CPU's caches. */
import { alignUp, type DmaAddr, PAGE_SIZE } from '../base/addr.ts';
import type { Errno } from '../base/errno.ts';
import { archDmaClearUncached, archDmaPrepCoherent, archDmaSetUncached } from '../kernel/arch.ts';
import type { Device } from '../kernel/device.ts';
import type { DmaDataDirection } from '../kernel/dma-direction.ts';
import {
  __GFP_DMA,
  __GFP_DMA32,
  __GFP_NOWARN,
  __GFP_ZERO,
  GFP_KERNEL,
  type Gfp,
  gfpflagsAllowBlocking,
} from '../kernel/gfp.ts';
import { FrameKind, type Mem } from '../kernel/index.ts';
import { allocPages, type Page, PageHighMem, pageToPhys, physToPage } from '../kernel/page-alloc.ts';
import { allocSources, devCoherentSource, freeContiguousOrPages } from './alloc-sources.ts';
import { DMA_ATTR_NO_KERNEL_MAPPING, DMA_ATTR_NO_WARN } from './attrs.ts';
import { ioTlbMemOf } from './bounce.ts';
import { dmaCoherentOk, dmaToPhys, minNotZero, physToDma } from './dma-range.ts';
import type { DmaCoherent, DmaPages } from './ops.ts';
import { pageCount, pageOrder } from './page-order.ts';
import { sgSetPage } from './scatterlist.ts';
import { type SgTable, sgAllocTable } from './sg-table.ts';
import { mapUser, type UserMapping } from './user-mapping.ts';

/** The zone in which all memory is reachable, if one must be asked for (dma_direct_optimal_gfp_mask). */
function optimalZone(dev: Device, physLimit: number): Gfp {
  if (physLimit <= dev.kernel.pages.zoneDmaLimit) return __GFP_DMA;
  return physLimit < 2 ** 32 ? __GFP_DMA32 : 0;
}
/** @internal The zone that a device's coherent memory must come from. @linux dma_direct_optimal_gfp_mask */
export function optimalGfp(dev: Device): Gfp {
  return optimalZone(dev, coherentPhysLimit(dev));
}
/** The last physical address a coherent allocation may have; Infinity when no window of the device ends there. */
function coherentPhysLimit(dev: Device): number {
  const limit = minNotZero(dev.coherentDmaMaskLimit, dev.busDmaLimit) as DmaAddr;
  const phys = dmaToPhys(dev, limit);
  return phys < 0 ? Number.POSITIVE_INFINITY : phys;
}
/** As __dma_direct_alloc_pages. */
function allocReachable(dev: Device, size: number, gfp: Gfp, allowHighmem: boolean): Page | null {
  const { kernel } = dev;
  const tlb = ioTlbMemOf(dev);
  if (tlb.forAlloc) return tlb.backend?.allocPages(dev, size) ?? null;
  const physLimit = coherentPhysLimit(dev);
  let flags = gfp | optimalZone(dev, physLimit);
  let page = allocSources(kernel).contiguous?.alloc(dev, size, flags) ?? null;
  if (page !== null && (!dmaCoherentOk(dev, pageToPhys(page), size) || (!allowHighmem && PageHighMem(kernel, page)))) {
    freeContiguousOrPages(dev, page, size);
    page = null;
  }
  for (;;) {
    page ??= allocPages(kernel, flags, pageOrder(size));
    if (page === null || dmaCoherentOk(dev, pageToPhys(page), size)) return page;
    freeContiguousOrPages(dev, page, size);
    page = null;
    const { hasZoneDma, hasZoneDma32 } = kernel.pages;
    if (hasZoneDma32 && Number.isFinite(physLimit) && (flags & (__GFP_DMA | __GFP_DMA32)) === 0) flags |= __GFP_DMA32;
    else if (hasZoneDma && (flags & __GFP_DMA) === 0) flags = (flags & ~__GFP_DMA32) | __GFP_DMA;
    else return null;
  }
}
/** @internal Declare the frames of a coherent allocation. */
export function setCoherentKind(dev: Device, page: Page, size: number): void {
  const { frames } = dev.kernel.pages;
  frames.setKind(frames.indexOf(page), pageCount(size), FrameKind.COHERENT);
}

/** @linux dma_direct_alloc */
export function dmaDirectAlloc(dev: Device, size: number, gfp: Gfp, attrs: number): DmaCoherent | null {
  const bytes = alignUp(size, PAGE_SIZE);
  const tlb = ioTlbMemOf(dev);
  let flags = gfp & ~__GFP_ZERO;
  if ((attrs & DMA_ATTR_NO_WARN) !== 0) flags |= __GFP_NOWARN;
  const noMapping = (attrs & DMA_ATTR_NO_KERNEL_MAPPING) !== 0 && !tlb.forAlloc;
  if (!noMapping && !dev.dmaCoherent) {
    const { globalCoherent } = allocSources(dev.kernel);
    if (globalCoherent !== null) return globalCoherent.alloc(dev, size);
  }
  if (!noMapping && !dev.dmaCoherent && !tlb.forAlloc && !gfpflagsAllowBlocking(gfp)) {
    // Making memory uncached may sleep.
    const pool = allocSources(dev.kernel).atomicPool;
    if (pool !== null) return pool.alloc(dev, size, flags);
  }
  const page = allocReachable(dev, bytes, flags, true);
  if (page === null) return null;
  setCoherentKind(dev, page, bytes);
  const mem = noMapping ? cookie(dev, page, bytes) : cpuPointer(dev, page, size, bytes);
  return { mem, handle: physToDma(dev, pageToPhys(page)) };
}
/** A pointer that cannot be read or written (dma_direct_alloc_no_mapping). */
function cookie(dev: Device, page: Page, bytes: number): Mem {
  const phys = pageToPhys(page);
  if (!dev.dmaCoherent) archDmaPrepCoherent(dev.kernel, phys, bytes);
  const { frames } = dev.kernel.pages;
  return frames.opaqueMem(frames.indexOf(page), bytes);
}
/** @internal The zeroed memory as the CPU is to see it: uncached where the device does not snoop. */
export function cpuPointer(dev: Device, page: Page, size: number, bytes: number): Mem {
  const { kernel } = dev;
  const phys = pageToPhys(page);
  const { frames } = kernel.pages;
  const index = frames.indexOf(page);
  if (dev.dmaCoherent && !PageHighMem(kernel, page)) {
    frames.zero(index, bytes / PAGE_SIZE);
    return frames.mem(index, size);
  }
  archDmaPrepCoherent(kernel, phys, bytes);
  // The uncached alias is not the linear map: it cannot be mapped again. Zeroed before it is uncached, since the stores of
  // the CPU may be pending from then on.
  const whole = frames.uncachedMem(index, bytes);
  whole.bytes.fill(0);
  if (!dev.dmaCoherent) archDmaSetUncached(kernel, phys, bytes);
  return size === bytes ? whole : frames.uncachedMem(index, size);
}

/** What is freed is the page behind `handle`; the alias that goes away is that of `mem`. @linux dma_direct_free */
export function dmaDirectFree(dev: Device, size: number, mem: Mem, handle: DmaAddr, attrs: number): void {
  const bytes = alignUp(size, PAGE_SIZE);
  const tlb = ioTlbMemOf(dev);
  mem.freed = true;
  if ((attrs & DMA_ATTR_NO_KERNEL_MAPPING) !== 0 && !tlb.forAlloc) {
    freeContiguousOrPages(dev, physToPage(mem.phys), bytes);
    return;
  }
  const { globalCoherent, atomicPool } = allocSources(dev.kernel);
  if (!dev.dmaCoherent && globalCoherent?.release(dev, pageOrder(size), mem) === true) return;
  if (atomicPool?.free(dev, mem, bytes) === true) return;
  if (!dev.dmaCoherent && mem.bank.contains(mem.phys, bytes)) archDmaClearUncached(dev.kernel, mem.phys, bytes);
  const page = physToPage(dmaToPhys(dev, handle));
  if (tlb.backend?.freePages(dev, page, bytes) === true) return;
  freeContiguousOrPages(dev, page, bytes);
}

/** @linux dma_direct_alloc_pages */
export function dmaDirectAllocPages(dev: Device, size: number, _dir: DmaDataDirection, gfp: Gfp): DmaPages | null {
  const page = allocReachable(dev, size, gfp & ~__GFP_ZERO, false);
  if (page === null) return null;
  const { frames } = dev.kernel.pages;
  frames.zero(frames.indexOf(page), pageCount(size));
  return { page, handle: physToDma(dev, pageToPhys(page)) };
}
/** @linux dma_direct_free_pages */
export function dmaDirectFreePages(
  dev: Device,
  size: number,
  page: Page,
  _handle: DmaAddr,
  _dir: DmaDataDirection,
): void {
  if (ioTlbMemOf(dev).backend?.freePages(dev, page, size) === true) return;
  freeContiguousOrPages(dev, page, size);
}

/** @linux dma_direct_mmap */
export function dmaDirectMmap(
  dev: Device,
  user: UserMapping,
  mem: Mem,
  handle: DmaAddr,
  size: number,
  _attrs: number,
): Errno {
  if (devCoherentSource(dev)?.contains?.(mem) === true) return mapUser(dev.kernel, user, mem.phys, size, true);
  return mapUser(dev.kernel, user, dmaToPhys(dev, handle), size, !dev.dmaCoherent);
}
/** @linux dma_direct_get_sgtable */
export function dmaDirectGetSgtable(
  dev: Device,
  table: SgTable,
  _mem: Mem,
  handle: DmaAddr,
  size: number,
  _attrs: number,
): Errno {
  const error = sgAllocTable(table, 1, GFP_KERNEL);
  if (error === 0) sgSetPage(table.sgl, physToPage(dmaToPhys(dev, handle)), alignUp(size, PAGE_SIZE), 0);
  return error;
}
