/** Memory that need be contiguous for the device only: scattered pages behind an IOMMU, one block without. */
import { alignUp, DMA_MAPPING_ERROR, PAGE_SIZE } from '../base/addr.ts';
import type { Device } from '../kernel/device.ts';
import type { DmaDataDirection } from '../kernel/dma-direction.ts';
import { __GFP_COMP, type Gfp } from '../kernel/gfp.ts';
import type { Mem } from '../kernel/index.ts';
import { pageAddress } from '../kernel/page-alloc.ts';
import { DMA_ATTR_ALLOC_SINGLE_PAGES } from './attrs.ts';
import { allocPagesQuietly } from './noncoherent.ts';
import { mappingObserver, NO_PHYS } from './observer.ts';
import { opsOf } from './ops.ts';
import { warnOnceAt } from './report.ts';
import { sgPhys, sgSetPage } from './scatterlist.ts';
import { SgTable, sgAllocTable, sgFreeTable } from './sg-table.ts';

/**
 * Memory of `size` bytes that is one segment to the device, as a mapped table. The only attribute is
 * `DMA_ATTR_ALLOC_SINGLE_PAGES`. Null when there is none. May sleep with GFP_KERNEL. @linux dma_alloc_noncontiguous
 */
export function dmaAllocNoncontiguous(
  dev: Device,
  size: number,
  dir: DmaDataDirection,
  gfp: Gfp,
  attrs: number,
): SgTable | null {
  if ((attrs & ~DMA_ATTR_ALLOC_SINGLE_PAGES) !== 0 || (gfp & __GFP_COMP) !== 0) {
    warnOnceAt(dev.kernel, 'kernel/dma/mapping.c dma_alloc_noncontiguous', 'unknown attribute or compound pages');
    return null;
  }
  const ops = opsOf(dev);
  const table =
    ops.allocNoncontiguous === undefined
      ? allocSingle(dev, size, dir, gfp)
      : ops.allocNoncontiguous(dev, size, dir, gfp, attrs);
  if (table !== null) table.nents = 1;
  const observer = mappingObserver(dev.kernel);
  if (observer !== null) {
    const handle = table === null ? DMA_MAPPING_ERROR : table.sgl.dmaAddress;
    observer.alloc?.(dev, 'noncontiguous', table === null ? NO_PHYS : sgPhys(table.sgl), size, handle, attrs);
  }
  return table;
}
/** As alloc_single_sgt. */
function allocSingle(dev: Device, size: number, dir: DmaDataDirection, gfp: Gfp): SgTable | null {
  const pages = allocPagesQuietly(dev, size, dir, gfp);
  if (pages === null) return null;
  const table = new SgTable();
  sgAllocTable(table, 1, gfp);
  sgSetPage(table.sgl, pages.page, alignUp(size, PAGE_SIZE), 0);
  table.sgl.dmaAddress = pages.handle;
  table.sgl.dmaLength = table.sgl.length;
  return table;
}
/** @linux dma_free_noncontiguous */
export function dmaFreeNoncontiguous(dev: Device, size: number, table: SgTable, dir: DmaDataDirection): void {
  const observer = mappingObserver(dev.kernel);
  if (observer !== null) {
    observer.free?.(dev, 'noncontiguous', sgPhys(table.sgl), size, table.sgl.dmaAddress, 0);
  }
  const ops = opsOf(dev);
  if (ops.freeNoncontiguous !== undefined) {
    ops.freeNoncontiguous(dev, size, table, dir);
    return;
  }
  ops.freePages?.(dev, alignUp(size, PAGE_SIZE), table.sgl.page, table.sgl.dmaAddress, dir);
  sgFreeTable(table);
}
/** Pointer to the memory when it is one block; null otherwise. @linux dma_vmap_noncontiguous */
export function dmaVmapNoncontiguous(dev: Device, _size: number, table: SgTable): Mem | null {
  return table.origNents === 1 ? pageAddress(dev.kernel, table.sgl.page) : null;
}
