/** The operations that the DMA API uses for a device behind an IOMMU. */
import { dmaBitMask } from '../base/addr.ts';
import type { Device } from '../kernel/device.ts';
import { ioTlbMemOf } from '../mapping/bounce.ts';
import { SIZE_MAX } from '../mapping/limits.ts';
import type { DmaMapOps } from '../mapping/ops.ts';
import { dmaCookie } from './dma-cookie.ts';
import {
  devUseSwiotlb,
  dmaDomain,
  iommuDmaMapPage,
  iommuDmaMapResource,
  iommuDmaNeedSync,
  iommuDmaSyncSingleForCpu,
  iommuDmaSyncSingleForDevice,
  iommuDmaUnmapPage,
  iommuDmaUnmapResource,
} from './dma-iommu.ts';
import {
  iommuDmaAlloc,
  iommuDmaAllocNoncontiguous,
  iommuDmaAllocPages,
  iommuDmaFree,
  iommuDmaFreeNoncontiguous,
  iommuDmaFreePages,
  iommuDmaGetSgtable,
  iommuDmaMmap,
} from './dma-iommu-alloc.ts';
import { iommuDmaMapSg, iommuDmaSyncSgForCpu, iommuDmaSyncSgForDevice, iommuDmaUnmapSg } from './dma-iommu-sg.ts';
import { IOVA_MAX_CACHED_PAGES } from './iova-rcache.ts';

/** What is larger than the allocator's caches keep is slow to map. (Linux: iommu_dma_opt_mapping_size) */
function optMappingSize(dev: Device): number {
  return IOVA_MAX_CACHED_PAGES * dmaCookie(dmaDomain(dev)).granule;
}
/** (Linux: iommu_dma_max_mapping_size) */
function maxMappingSize(dev: Device): number {
  const { backend } = ioTlbMemOf(dev);
  return devUseSwiotlb(dev) && backend !== null ? backend.maxMappingSize(dev) : SIZE_MAX;
}
/** Segments merge where one ends and the next begins at a page. (Linux: iommu_dma_get_merge_boundary) */
function getMergeBoundary(dev: Device): number {
  return dmaCookie(dmaDomain(dev)).granule - 1;
}

/** @linux iommu_dma_ops */
export const iommuDmaOps: DmaMapOps = {
  alloc: iommuDmaAlloc,
  free: iommuDmaFree,
  allocPages: iommuDmaAllocPages,
  freePages: iommuDmaFreePages,
  allocNoncontiguous: iommuDmaAllocNoncontiguous,
  freeNoncontiguous: iommuDmaFreeNoncontiguous,
  mmap: iommuDmaMmap,
  getSgtable: iommuDmaGetSgtable,
  mapPage: iommuDmaMapPage,
  unmapPage: iommuDmaUnmapPage,
  mapSg: iommuDmaMapSg,
  unmapSg: iommuDmaUnmapSg,
  mapResource: iommuDmaMapResource,
  unmapResource: iommuDmaUnmapResource,
  syncSingleForCpu: iommuDmaSyncSingleForCpu,
  syncSingleForDevice: iommuDmaSyncSingleForDevice,
  syncSgForCpu: iommuDmaSyncSgForCpu,
  syncSgForDevice: iommuDmaSyncSgForDevice,
  needSync: iommuDmaNeedSync,
  // Every mask is possible: addresses come from the device's own space.
  dmaSupported: () => true,
  getRequiredMask: () => dmaBitMask(32),
  maxMappingSize,
  optMappingSize,
  getMergeBoundary,
};
