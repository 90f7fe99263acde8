/** Coherent memory: CPU and device see each other's writes without sync calls (but not without barriers). */
import { DMA_MAPPING_ERROR, type DmaAddr } from '../base/addr.ts';
import { ENXIO, type Errno } from '../base/errno.ts';
import type { Device } from '../kernel/device.ts';
import { __GFP_COMP, __GFP_DMA, __GFP_DMA32, __GFP_HIGHMEM, __GFP_NOWARN, type Gfp } from '../kernel/gfp.ts';
import type { Mem } from '../kernel/index.ts';
import { warnOn } from '../kernel/panic.ts';
import { devCoherentSource } from './alloc-sources.ts';
import { DMA_ATTR_NO_WARN, DMA_ATTR_WRITE_COMBINE } from './attrs.ts';
import { mappingObserver, NO_PHYS } from './observer.ts';
import { type DmaCoherent, opsOf } from './ops.ts';
import { pageOrder } from './page-order.ts';
import { warnOnceAt } from './report.ts';
import type { SgTable } from './sg-table.ts';
import type { UserMapping } from './user-mapping.ts';

/**
 * Allocate zeroed memory that CPU and device both see at once: whole pages, aligned to their power of two. Null when there
 * is none within the device's coherent mask. May sleep with GFP_KERNEL. @linux dma_alloc_coherent
 */
export function dmaAllocCoherent(dev: Device, size: number, gfp: Gfp): DmaCoherent | null {
  return dmaAllocAttrs(dev, size, gfp, (gfp & __GFP_NOWARN) !== 0 ? DMA_ATTR_NO_WARN : 0);
}
/** As `dmaAllocCoherent`; the CPU may combine its writes. @linux dma_alloc_wc, dma_alloc_writecombine */
export function dmaAllocWc(dev: Device, size: number, gfp: Gfp): DmaCoherent | null {
  const noWarn = (gfp & __GFP_NOWARN) !== 0 ? DMA_ATTR_NO_WARN : 0;
  return dmaAllocAttrs(dev, size, gfp, DMA_ATTR_WRITE_COMBINE | noWarn);
}
/**
 * With `DMA_ATTR_…` bits. With `DMA_ATTR_NO_KERNEL_MAPPING`, `mem` is a cookie: reading or writing it throws.
 * @linux dma_alloc_attrs
 */
export function dmaAllocAttrs(dev: Device, size: number, gfp: Gfp, attrs: number): DmaCoherent | null {
  const { kernel } = dev;
  if (dev.coherentDmaMask === 0n) {
    warnOnceAt(kernel, 'kernel/dma/mapping.c dma_alloc_attrs', `${dev.name} has no coherent_dma_mask`);
  }
  if ((gfp & __GFP_COMP) !== 0) {
    warnOnceAt(kernel, 'kernel/dma/mapping.c dma_alloc_attrs', 'compound pages cannot be had');
    return null;
  }
  const own = devCoherentSource(dev);
  // The back end chooses the zone.
  const flags = gfp & ~(__GFP_DMA | __GFP_DMA32 | __GFP_HIGHMEM);
  const result = own !== null ? own.alloc(dev, size) : (opsOf(dev).alloc?.(dev, size, flags, attrs) ?? null);
  const observer = mappingObserver(kernel);
  if (observer !== null) {
    const phys = result === null ? NO_PHYS : result.mem.phys;
    observer.alloc?.(dev, 'coherent', phys, size, result === null ? DMA_MAPPING_ERROR : result.handle, attrs);
  }
  return result;
}
/**
 * Give coherent memory back, with all that was returned. Not with interrupts disabled: that is reported. Null memory is
 * ignored. @linux dma_free_coherent
 */
export function dmaFreeCoherent(dev: Device, size: number, mem: Mem | null, handle: DmaAddr): void {
  dmaFreeAttrs(dev, size, mem, handle, 0);
}
/** @linux dma_free_wc, dma_free_writecombine */
export function dmaFreeWc(dev: Device, size: number, mem: Mem | null, handle: DmaAddr): void {
  dmaFreeAttrs(dev, size, mem, handle, DMA_ATTR_WRITE_COMBINE);
}
/** @linux dma_free_attrs */
export function dmaFreeAttrs(dev: Device, size: number, mem: Mem | null, handle: DmaAddr, attrs: number): void {
  const { kernel } = dev;
  const observer = mappingObserver(kernel);
  if (mem !== null && devCoherentSource(dev)?.release(dev, pageOrder(size), mem) === true) {
    if (observer !== null) observer.free?.(dev, 'coherent', mem.phys, size, handle, attrs);
    return;
  }
  // Unmapping an uncached alias may have to wait for other CPUs.
  warnOn(kernel, kernel.context.irqsDisabled, 'at kernel/dma/mapping.c dma_free_attrs: interrupts are disabled');
  if (mem === null) return;
  if (observer !== null) observer.free?.(dev, 'coherent', mem.phys, size, handle, attrs);
  opsOf(dev).free?.(dev, size, mem, handle, attrs);
}

/**
 * Show coherent memory to user space: `user` says which part, and has the pointer afterwards. ENXIO when the part lies
 * outside, or the back end cannot. @linux dma_mmap_coherent
 */
export function dmaMmapCoherent(dev: Device, user: UserMapping, mem: Mem, handle: DmaAddr, size: number): Errno {
  return dmaMmapAttrs(dev, user, mem, handle, size, 0);
}
/** @linux dma_mmap_wc, dma_mmap_writecombine */
export function dmaMmapWc(dev: Device, user: UserMapping, mem: Mem, handle: DmaAddr, size: number): Errno {
  return dmaMmapAttrs(dev, user, mem, handle, size, DMA_ATTR_WRITE_COMBINE);
}
/** @linux dma_mmap_attrs */
export function dmaMmapAttrs(
  dev: Device,
  user: UserMapping,
  mem: Mem,
  handle: DmaAddr,
  size: number,
  attrs: number,
): Errno {
  return opsOf(dev).mmap?.(dev, user, mem, handle, size, attrs) ?? ENXIO;
}
/** Whether `dmaMmapAttrs` can work for this device. @linux dma_can_mmap */
export function dmaCanMmap(dev: Device): boolean {
  return opsOf(dev).mmap !== undefined;
}
/** A table of the pages of coherent memory, for sharing it. Free it with `sgFreeTable`. @linux dma_get_sgtable */
export function dmaGetSgtable(dev: Device, table: SgTable, mem: Mem, handle: DmaAddr, size: number): Errno {
  return dmaGetSgtableAttrs(dev, table, mem, handle, size, 0);
}
/** @linux dma_get_sgtable_attrs */
export function dmaGetSgtableAttrs(
  dev: Device,
  table: SgTable,
  mem: Mem,
  handle: DmaAddr,
  size: number,
  attrs: number,
): Errno {
  return opsOf(dev).getSgtable?.(dev, table, mem, handle, size, attrs) ?? ENXIO;
}
