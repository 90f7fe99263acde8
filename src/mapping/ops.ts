/**
 * How a device's mappings are made: by dma-direct, or by the operations that something in front of the device (an IOMMU)
 * has installed. This is the only place that chooses.
 */
import type { DmaAddr, PhysAddr } from '../base/addr.ts';
import { type Errno, KernelBug } from '../base/errno.ts';
import type { Device } from '../kernel/device.ts';
import type { DmaDataDirection } from '../kernel/dma-direction.ts';
import type { Page } from '../kernel/frame-table.ts';
import type { Gfp } from '../kernel/gfp.ts';
import type { Mem } from '../kernel/index.ts';
import {
  dmaDirectMapPage,
  dmaDirectMapResource,
  dmaDirectMapSg,
  dmaDirectNeedSync,
  dmaDirectSyncSgForCpu,
  dmaDirectSyncSgForDevice,
  dmaDirectSyncSingleForCpu,
  dmaDirectSyncSingleForDevice,
  dmaDirectUnmapPage,
  dmaDirectUnmapSg,
} from './direct.ts';
import {
  dmaDirectAlloc,
  dmaDirectAllocPages,
  dmaDirectFree,
  dmaDirectFreePages,
  dmaDirectGetSgtable,
  dmaDirectMmap,
} from './direct-alloc.ts';
import { dmaDirectGetRequiredMask, dmaDirectMaxMappingSize, dmaDirectSupported } from './direct-mask.ts';
import type { Scatterlist } from './scatterlist.ts';
import type { SgTable } from './sg-table.ts';
import type { UserMapping } from './user-mapping.ts';

/** Memory that CPU and device see alike: the CPU's pointer and the device's address. */
export interface DmaCoherent {
  readonly mem: Mem;
  readonly handle: DmaAddr;
}
/** Pages that a device can reach, and where it sees them. */
export interface DmaPages {
  readonly page: Page;
  readonly handle: DmaAddr;
}

/**
 * What a mapping back end can do. An absent operation is one the back end does not offer; calling for it gives what the
 * kernel gives then (an error, null, or nothing done). Errors of `mapSg` are EINVAL, ENOMEM, EIO or EREMOTEIO.
 * @linux struct dma_map_ops
 */
export interface DmaMapOps {
  alloc?(dev: Device, size: number, gfp: Gfp, attrs: number): DmaCoherent | null;
  free?(dev: Device, size: number, mem: Mem, handle: DmaAddr, attrs: number): void;
  allocPages?(dev: Device, size: number, dir: DmaDataDirection, gfp: Gfp): DmaPages | null;
  freePages?(dev: Device, size: number, page: Page, handle: DmaAddr, dir: DmaDataDirection): void;
  allocNoncontiguous?(dev: Device, size: number, dir: DmaDataDirection, gfp: Gfp, attrs: number): SgTable | null;
  freeNoncontiguous?(dev: Device, size: number, table: SgTable, dir: DmaDataDirection): void;
  mmap?(dev: Device, user: UserMapping, mem: Mem, handle: DmaAddr, size: number, attrs: number): Errno;
  getSgtable?(dev: Device, table: SgTable, mem: Mem, handle: DmaAddr, size: number, attrs: number): Errno;
  mapPage?(dev: Device, page: Page, offset: number, size: number, dir: DmaDataDirection, attrs: number): DmaAddr;
  unmapPage?(dev: Device, addr: DmaAddr, size: number, dir: DmaDataDirection, attrs: number): void;
  /** Returns the number of bus segments, or a negative error. */
  mapSg?(dev: Device, sgl: Scatterlist, nents: number, dir: DmaDataDirection, attrs: number): number;
  unmapSg?(dev: Device, sgl: Scatterlist, nents: number, dir: DmaDataDirection, attrs: number): void;
  mapResource?(dev: Device, phys: PhysAddr, size: number, dir: DmaDataDirection, attrs: number): DmaAddr;
  unmapResource?(dev: Device, addr: DmaAddr, size: number, dir: DmaDataDirection, attrs: number): void;
  syncSingleForCpu?(dev: Device, addr: DmaAddr, size: number, dir: DmaDataDirection): void;
  syncSingleForDevice?(dev: Device, addr: DmaAddr, size: number, dir: DmaDataDirection): void;
  syncSgForCpu?(dev: Device, sgl: Scatterlist, nents: number, dir: DmaDataDirection): void;
  syncSgForDevice?(dev: Device, sgl: Scatterlist, nents: number, dir: DmaDataDirection): void;
  /** Whether a mapped address needs the sync calls; absent: yes, when there is any sync operation. */
  needSync?(dev: Device, addr: DmaAddr): boolean;
  dmaSupported?(dev: Device, mask: bigint): boolean;
  getRequiredMask?(dev: Device): bigint;
  maxMappingSize?(dev: Device): number;
  optMappingSize?(dev: Device): number;
  getMergeBoundary?(dev: Device): number;
}

/** dma-direct as operations. @linux dma_map_direct */
export const dmaDirectOps: DmaMapOps = {
  alloc: dmaDirectAlloc,
  free: dmaDirectFree,
  allocPages: dmaDirectAllocPages,
  freePages: dmaDirectFreePages,
  mmap: dmaDirectMmap,
  getSgtable: dmaDirectGetSgtable,
  mapPage: dmaDirectMapPage,
  unmapPage: dmaDirectUnmapPage,
  mapSg: dmaDirectMapSg,
  unmapSg: dmaDirectUnmapSg,
  mapResource: dmaDirectMapResource,
  syncSingleForCpu: dmaDirectSyncSingleForCpu,
  syncSingleForDevice: dmaDirectSyncSingleForDevice,
  syncSgForCpu: dmaDirectSyncSgForCpu,
  syncSgForDevice: dmaDirectSyncSgForDevice,
  needSync: dmaDirectNeedSync,
  dmaSupported: dmaDirectSupported,
  getRequiredMask: dmaDirectGetRequiredMask,
  maxMappingSize: dmaDirectMaxMappingSize,
};

/** The operations installed on a device; null: dma-direct. @linux get_dma_ops */
export function getDmaOps(dev: Device): DmaMapOps | null {
  return dev.dmaOps as DmaMapOps | null;
}
/** Install operations, or with null dma-direct. Only while nothing is mapped. @linux set_dma_ops */
export function setDmaOps(dev: Device, ops: DmaMapOps | null): void {
  dev.dmaOps = ops;
}
/** @internal Who maps for this device. */
export function opsOf(dev: Device): DmaMapOps {
  return (dev.dmaOps as DmaMapOps | null) ?? dmaDirectOps;
}
/** @internal The operations lack one that the kernel calls unseen. */
export function missingOp(name: string): never {
  throw new KernelBug(`NULL pointer dereference: dma_map_ops.${name} is not set`);
}
