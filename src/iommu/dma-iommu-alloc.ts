/** Coherent and other allocations over an IOMMU. */
import { alignUp, DMA_MAPPING_ERROR, type DmaAddr, PAGE_SIZE, type PhysAddr, pfnOf } from '../base/addr.ts';
import type { Errno } from '../base/errno.ts';
import { archDmaClearUncached } from '../kernel/arch.ts';
import { allocContigPages, freeContigRange } from '../kernel/contig.ts';
import type { Device } from '../kernel/device.ts';
import { DMA_BIDIRECTIONAL, type DmaDataDirection } from '../kernel/dma-direction.ts';
import {
  __GFP_COMP,
  __GFP_DMA,
  __GFP_DMA32,
  __GFP_HIGHMEM,
  __GFP_NOWARN,
  GFP_KERNEL,
  type Gfp,
  gfpflagsAllowBlocking,
} from '../kernel/gfp.ts';
import type { Mem } from '../kernel/index.ts';
import { MAX_PAGE_ORDER, type Page, pageToPhys, physToPage } from '../kernel/page-alloc.ts';
import { allocContiguousOrPages, allocSources, freeContiguousOrPages } from '../mapping/alloc-sources.ts';
import { cpuPointer, setCoherentKind } from '../mapping/direct-alloc.ts';
import type { DmaCoherent, DmaPages } from '../mapping/ops.ts';
import { pageCount, pageOrder } from '../mapping/page-order.ts';
import { sgSetPage } from '../mapping/scatterlist.ts';
import { SgTable, sgAllocTable, sgFreeTable } from '../mapping/sg-table.ts';
import { mapUser, type UserMapping } from '../mapping/user-mapping.ts';
import { coherentLimit, dmaDomain, dmaInfoToProt, mapRange, unmapRange } from './dma-iommu.ts';
import { iommuIovaToPhys } from './domain.ts';

/**
 * Pages for the device. The kernel may scatter them, since the IOMMU makes them contiguous for the device and its own
 * page tables for the CPU; here the CPU's pointer is one array, so that they are always contiguous.
 */
function allocBytes(dev: Device, bytes: number, gfp: Gfp): Page | null {
  const flags = gfp & ~(__GFP_DMA | __GFP_DMA32 | __GFP_HIGHMEM | __GFP_COMP);
  if (pageOrder(bytes) <= MAX_PAGE_ORDER) return allocContiguousOrPages(dev, bytes, flags);
  return gfpflagsAllowBlocking(gfp) ? allocContigPages(dev.kernel, pageCount(bytes)) : null;
}
function freeBytes(dev: Device, phys: number, bytes: number): void {
  if (pageOrder(bytes) <= MAX_PAGE_ORDER) freeContiguousOrPages(dev, physToPage(phys as PhysAddr), bytes);
  else freeContigRange(dev.kernel, pfnOf(phys), pageCount(bytes));
}

/** @linux iommu_dma_alloc */
export function iommuDmaAlloc(dev: Device, size: number, gfp: Gfp, attrs: number): DmaCoherent | null {
  const bytes = alignUp(size, PAGE_SIZE);
  if (bytes === 0) return null;
  const prot = dmaInfoToProt(DMA_BIDIRECTIONAL, dev.dmaCoherent, attrs);
  if (!dev.dmaCoherent && !gfpflagsAllowBlocking(gfp)) return allocAtomic(dev, bytes, gfp, prot);
  const page = allocBytes(dev, bytes, gfp);
  if (page === null) return null;
  const handle = mapRange(dev, pageToPhys(page), bytes, prot, coherentLimit(dev));
  if (handle === DMA_MAPPING_ERROR) {
    freeBytes(dev, pageToPhys(page), bytes);
    return null;
  }
  setCoherentKind(dev, page, bytes);
  return { mem: cpuPointer(dev, page, size, bytes), handle };
}
/** Making memory uncached may sleep; who may not takes what is uncached already. */
function allocAtomic(dev: Device, bytes: number, gfp: Gfp, prot: number): DmaCoherent | null {
  const pool = allocSources(dev.kernel).atomicPool;
  const taken = pool === null ? null : pool.alloc(dev, bytes, gfp | __GFP_NOWARN);
  if (taken === null) return null;
  const handle = mapRange(dev, taken.mem.phys, bytes, prot, coherentLimit(dev));
  if (handle !== DMA_MAPPING_ERROR) return { mem: taken.mem, handle };
  pool!.free(dev, taken.mem, bytes);
  return null;
}
/** @linux iommu_dma_free */
export function iommuDmaFree(dev: Device, size: number, mem: Mem, handle: DmaAddr): void {
  const bytes = alignUp(size, PAGE_SIZE);
  unmapRange(dev, handle, bytes);
  mem.freed = true;
  if (allocSources(dev.kernel).atomicPool?.free(dev, mem, bytes) === true) return;
  if (!dev.dmaCoherent) archDmaClearUncached(dev.kernel, mem.phys, bytes);
  freeBytes(dev, mem.phys, bytes);
}

/** @linux dma_common_alloc_pages */
export function iommuDmaAllocPages(dev: Device, size: number, dir: DmaDataDirection, gfp: Gfp): DmaPages | null {
  const bytes = alignUp(size, PAGE_SIZE);
  const page = allocBytes(dev, bytes, gfp);
  if (page === null) return null;
  const { frames } = dev.kernel.pages;
  frames.zero(frames.indexOf(page), pageCount(bytes));
  const handle = mapRange(dev, pageToPhys(page), bytes, dmaInfoToProt(dir, dev.dmaCoherent, 0), coherentLimit(dev));
  if (handle !== DMA_MAPPING_ERROR) return { page, handle };
  freeBytes(dev, pageToPhys(page), bytes);
  return null;
}
/** @linux dma_common_free_pages */
export function iommuDmaFreePages(dev: Device, size: number, page: Page, handle: DmaAddr): void {
  const bytes = alignUp(size, PAGE_SIZE);
  unmapRange(dev, handle, bytes);
  freeBytes(dev, pageToPhys(page), bytes);
}

/** @linux iommu_dma_alloc_noncontiguous */
export function iommuDmaAllocNoncontiguous(dev: Device, size: number, dir: DmaDataDirection, gfp: Gfp): SgTable | null {
  const pages = iommuDmaAllocPages(dev, size, dir, gfp);
  if (pages === null) return null;
  const table = new SgTable();
  sgAllocTable(table, 1, gfp);
  const { sgl } = table;
  sgSetPage(sgl, pages.page, alignUp(size, PAGE_SIZE), 0);
  sgl.dmaAddress = pages.handle;
  sgl.dmaLength = sgl.length;
  return table;
}
/** @linux iommu_dma_free_noncontiguous */
export function iommuDmaFreeNoncontiguous(dev: Device, size: number, table: SgTable): void {
  iommuDmaFreePages(dev, size, table.sgl.page, table.sgl.dmaAddress);
  sgFreeTable(table);
}

/** @linux iommu_dma_mmap */
export function iommuDmaMmap(dev: Device, user: UserMapping, mem: Mem, _handle: DmaAddr, size: number): Errno {
  return mapUser(dev.kernel, user, mem.phys, size, !dev.dmaCoherent);
}
/** @linux iommu_dma_get_sgtable */
export function iommuDmaGetSgtable(dev: Device, table: SgTable, _mem: Mem, handle: DmaAddr, size: number): Errno {
  const error = sgAllocTable(table, 1, GFP_KERNEL);
  const phys = iommuIovaToPhys(dmaDomain(dev), handle) as PhysAddr;
  if (error === 0) sgSetPage(table.sgl, physToPage(phys), alignUp(size, PAGE_SIZE), 0);
  return error;
}
