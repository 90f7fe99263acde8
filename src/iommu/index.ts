export { ArmLpaeTable, LPAE_MAIR, type LpaeConfig, type LpaeFlushOps } from './arm-lpae.ts';
export { DevIommu, devIommu } from './dev-iommu.ts';
export { DmaCookie, dmaCookie, setupDmaDomain } from './dma-cookie.ts';
export { iommuDmaOps } from './dma-iommu-ops.ts';
export { iommuMapSg } from './dma-iommu-sg.ts';
export * from './domain.ts';
export * from './iommu.ts';
export { allocIova, findIova, freeIova, IovaDomain, reserveIova } from './iova.ts';
export { allocIovaFast, freeIovaFast, IovaRcaches } from './iova-rcache.ts';
export { iommuDmaPrepareMsi, iommuGetMsiCookie } from './msi.ts';
export { type IommuObserver, iommuObserver, setIommuObserver } from './observer.ts';
export { type IommuFwspec, ofIommuSpec, ofMapId } from './of-iommu.ts';
export {
  allocVtdTable,
  DMA_PTE_LARGE_PAGE,
  DMA_PTE_READ,
  DMA_PTE_SNP,
  DMA_PTE_WRITE,
  VtdPageTable,
  type VtdTable,
} from './vtd-pgtable.ts';
