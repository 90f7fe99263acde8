/** Memory within a device's reach that is mapped, not coherent: whole pages, kept in sync with the sync calls. */
import { alignUp, DMA_MAPPING_ERROR, type DmaAddr, PAGE_SIZE } from '../base/addr.ts';
import type { Device } from '../kernel/device.ts';
import type { DmaDataDirection } from '../kernel/dma-direction.ts';
import { __GFP_COMP, __GFP_DMA, __GFP_DMA32, __GFP_HIGHMEM, __GFP_ZERO, type Gfp } from '../kernel/gfp.ts';
import type { Mem } from '../kernel/index.ts';
import { type Page, pageToPhys, virtToPage } from '../kernel/page-alloc.ts';
import { allocContiguousOrPages, freeContiguousOrPages } from './alloc-sources.ts';
import { DMA_ATTR_SKIP_CPU_SYNC } from './attrs.ts';
import { mappingObserver, NO_PHYS } from './observer.ts';
import { type DmaCoherent, type DmaMapOps, type DmaPages, opsOf } from './ops.ts';
import { pageCount } from './page-order.ts';
import { warnOnceAt } from './report.ts';

/** @internal Without telling the observer. */
export function allocPagesQuietly(dev: Device, size: number, dir: DmaDataDirection, gfp: Gfp): DmaPages | null {
  const { kernel } = dev;
  const site = 'kernel/dma/mapping.c __dma_alloc_pages';
  if (dev.coherentDmaMask === 0n) {
    warnOnceAt(kernel, site, `${dev.name} has no coherent_dma_mask`);
    return null;
  }
  if ((gfp & (__GFP_DMA | __GFP_DMA32 | __GFP_HIGHMEM | __GFP_COMP)) !== 0) {
    warnOnceAt(kernel, site, `zone flags and compound pages cannot be asked for (gfp 0x${gfp.toString(16)})`);
    return null;
  }
  return opsOf(dev).allocPages?.(dev, alignUp(size, PAGE_SIZE), dir, gfp) ?? null;
}
/**
 * Pages for the device, zeroed, mapped in direction `dir`: call the sync functions around CPU accesses. Null when there
 * are none within the coherent mask. May sleep with GFP_KERNEL. @linux dma_alloc_pages
 */
export function dmaAllocPages(dev: Device, size: number, dir: DmaDataDirection, gfp: Gfp): DmaPages | null {
  const pages = allocPagesQuietly(dev, size, dir, gfp);
  const observer = mappingObserver(dev.kernel);
  if (observer !== null) {
    const phys = pages === null ? NO_PHYS : pageToPhys(pages.page);
    observer.alloc?.(dev, 'pages', phys, size, pages === null ? DMA_MAPPING_ERROR : pages.handle, 0);
  }
  return pages;
}
/** @linux dma_free_pages */
export function dmaFreePages(dev: Device, size: number, page: Page, handle: DmaAddr, dir: DmaDataDirection): void {
  const observer = mappingObserver(dev.kernel);
  if (observer !== null) observer.free?.(dev, 'pages', pageToPhys(page), size, handle, 0);
  opsOf(dev).freePages?.(dev, alignUp(size, PAGE_SIZE), page, handle, dir);
}
/** `dmaAllocPages` with a pointer instead of a page. @linux dma_alloc_noncoherent */
export function dmaAllocNoncoherent(dev: Device, size: number, dir: DmaDataDirection, gfp: Gfp): DmaCoherent | null {
  const pages = dmaAllocPages(dev, size, dir, gfp);
  if (pages === null) return null;
  const { frames } = dev.kernel.pages;
  return { mem: frames.mem(frames.indexOf(pages.page), size), handle: pages.handle };
}
/** @linux dma_free_noncoherent */
export function dmaFreeNoncoherent(dev: Device, size: number, mem: Mem, handle: DmaAddr, dir: DmaDataDirection): void {
  dmaFreePages(dev, size, virtToPage(mem), handle, dir);
  mem.freed = true;
}

/** `allocPages` for back ends that have `mapPage`: pages from anywhere, mapped. @linux dma_common_alloc_pages */
export function dmaCommonAllocPages(
  ops: DmaMapOps,
  dev: Device,
  size: number,
  dir: DmaDataDirection,
  gfp: Gfp,
): DmaPages | null {
  const page = allocContiguousOrPages(dev, size, gfp & ~__GFP_ZERO);
  if (page === null) return null;
  const handle = ops.mapPage?.(dev, page, 0, size, dir, DMA_ATTR_SKIP_CPU_SYNC) ?? DMA_MAPPING_ERROR;
  if (handle === DMA_MAPPING_ERROR) {
    freeContiguousOrPages(dev, page, size);
    return null;
  }
  const { frames } = dev.kernel.pages;
  frames.zero(frames.indexOf(page), pageCount(size));
  return { page, handle };
}
/** @linux dma_common_free_pages */
export function dmaCommonFreePages(
  ops: DmaMapOps,
  dev: Device,
  size: number,
  page: Page,
  handle: DmaAddr,
  dir: DmaDataDirection,
): void {
  ops.unmapPage?.(dev, handle, size, dir, DMA_ATTR_SKIP_CPU_SYNC);
  freeContiguousOrPages(dev, page, size);
}
