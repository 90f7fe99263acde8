/** The DMA mapping API. */
export {
  DMA_MAPPING_ERROR,
  type DmaAddr,
  dmaBitMask,
  type PhysAddr,
} from '../base/addr.ts';
export {
  DMA_BIDIRECTIONAL,
  DMA_FROM_DEVICE,
  DMA_NONE,
  DMA_TO_DEVICE,
  type DmaDataDirection,
  dmaDirectionName,
} from '../kernel/dma-direction.ts';
export {
  AllocSources,
  type AtomicPoolSource,
  allocSources,
  type ContiguousSource,
  type DevCoherentSource,
} from './alloc-sources.ts';
export { type AtomicPoolSizes, atomicPoolSizes } from './atomic-pool.ts';
export * from './attrs.ts';
export * from './block.ts';
export { type BounceBackend, defaultIoTlbMem, IoTlbMem, ioTlbMemOf } from './bounce.ts';
export * from './cma.ts';
export * from './coherent.ts';
export * from './coherent-pool.ts';
export * from './contiguous.ts';
export { dmaToPhys, physToDma } from './dma-range.ts';
export * from './error.ts';
export * from './historical.ts';
export * from './init.ts';
export { dmaKmallocNeedsBounce } from './kmalloc-bounce.ts';
export { SIZE_MAX } from './limits.ts';
export * from './managed.ts';
export * from './mask.ts';
export * from './noncoherent.ts';
export * from './noncontiguous.ts';
export { type AllocKind, type MapKind, type MappingObserver, mappingObserver } from './observer.ts';
export { type DmaCoherent, type DmaMapOps, type DmaPages, dmaDirectOps, getDmaOps, setDmaOps } from './ops.ts';
export * from './owned.ts';
export * from './pool.ts';
export * from './reserved-memory.ts';
export * from './resource.ts';
export * from './scatterlist.ts';
export * from './sg.ts';
export * from './sg-table.ts';
export {
  dmaMapPage,
  dmaMapPageAttrs,
  dmaMapSingle,
  dmaMapSingleAttrs,
  dmaUnmapPage,
  dmaUnmapPageAttrs,
  dmaUnmapSingle,
  dmaUnmapSingleAttrs,
} from './streaming.ts';
export { IO_TLB_SEGSIZE, IO_TLB_SHIFT, IO_TLB_SIZE } from './swiotlb-areas.ts';
export * from './swiotlb-init.ts';
export * from './sync.ts';
export * from './unmap-state.ts';
export { UserMapping } from './user-mapping.ts';
