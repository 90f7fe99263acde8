/**
 * What the mapping layer tells its observer (`kernel.mappingObserver`): every call of a driver, failed ones too. Without
 * an observer it costs one comparison. Unmap, free and sync are told before they take effect: from the call on, the
 * memory is no longer what it was to the driver, and the address may be given out again before the call returns.
 */
import type { DmaAddr, PhysAddr } from '../base/addr.ts';
import type { Device } from '../kernel/device.ts';
import type { DmaDataDirection } from '../kernel/dma-direction.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Scatterlist } from './scatterlist.ts';

/** By which call something was mapped. */
export type MapKind = 'single' | 'page' | 'resource';
/** By which call something was allocated. */
export type AllocKind = 'coherent' | 'pages' | 'noncontiguous' | 'pool';

/** Implement any of these. */
export interface MappingObserver {
  /** `addr` is `DMA_MAPPING_ERROR` when it failed. `phys` is -1 where the pointer was none. */
  map?(
    dev: Device,
    kind: MapKind,
    phys: number,
    size: number,
    addr: DmaAddr,
    dir: DmaDataDirection,
    attrs: number,
  ): void;
  unmap?(dev: Device, kind: MapKind, addr: DmaAddr, size: number, dir: DmaDataDirection, attrs: number): void;
  /** `mapped` is the number of bus segments, or the negative error. */
  mapSg?(dev: Device, sg: Scatterlist, nents: number, mapped: number, dir: DmaDataDirection, attrs: number): void;
  unmapSg?(dev: Device, sg: Scatterlist, nents: number, dir: DmaDataDirection, attrs: number): void;
  sync?(dev: Device, addr: DmaAddr, size: number, dir: DmaDataDirection, forCpu: boolean): void;
  syncSg?(dev: Device, sg: Scatterlist, nents: number, dir: DmaDataDirection, forCpu: boolean): void;
  /** A buffer is about to bounce: `addr` is its own bus address, as far as it has one. @linux swiotlb_bounced */
  bounced?(dev: Device, addr: DmaAddr, size: number, forced: boolean): void;
  /** `handle` is `DMA_MAPPING_ERROR` and `phys` -1 when it failed. */
  alloc?(dev: Device, kind: AllocKind, phys: PhysAddr, size: number, handle: DmaAddr, attrs: number): void;
  /** `phys` is what the caller gave back, as far as it can be told; -1 otherwise. */
  free?(dev: Device, kind: AllocKind, phys: PhysAddr, size: number, handle: DmaAddr, attrs: number): void;
  /** The driver asked whether `addr` is a failed mapping. */
  mappingError?(dev: Device, addr: DmaAddr): void;
}

/** No physical address. */
export const NO_PHYS = -1 as PhysAddr;

/** The kernel's observer, or null. */
export function mappingObserver(kernel: Kernel): MappingObserver | null {
  return kernel.mappingObserver as MappingObserver | null;
}
