/**
 * Historical: names that old drivers and books use and Linux 6.12 no longer has. Each is what it was last defined as, in
 * today's terms. New code uses the `dma…` functions.
 */
import type { DmaAddr } from '../base/addr.ts';
import { PAGE_SIZE, type PhysAddr } from '../base/addr.ts';
import { EIO, type Errno, OK } from '../base/errno.ts';
import type { Device } from '../kernel/device.ts';
import {
  DMA_BIDIRECTIONAL,
  DMA_FROM_DEVICE,
  DMA_NONE,
  DMA_TO_DEVICE,
  type DmaDataDirection,
} from '../kernel/dma-direction.ts';
import { GFP_ATOMIC, type Gfp } from '../kernel/gfp.ts';
import type { Mem } from '../kernel/index.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { memAt, type Page, physToPage } from '../kernel/page-alloc.ts';
import { defaultIoTlbMem } from './bounce.ts';
import { dmaAllocCoherent, dmaFreeCoherent } from './coherent.ts';
import { dmaDirectSyncSingleForCpu, dmaDirectSyncSingleForDevice } from './direct.ts';
import { dmaMappingError } from './error.ts';
import { dmaSetCoherentMask, dmaSetMask } from './mask.ts';
import { type DmaCoherent, getDmaOps } from './ops.ts';
import { type DmaPool, dmaPoolAlloc, dmaPoolCreate, dmaPoolDestroy, dmaPoolFree } from './pool.ts';
import { warnOnceAt } from './report.ts';
import type { Scatterlist } from './scatterlist.ts';
import { dmaMapSg, dmaUnmapSg } from './sg.ts';
import { dmaMapPage, dmaMapSingle, dmaUnmapPage, dmaUnmapSingle } from './streaming.ts';
import { dmaSyncSgForCpu, dmaSyncSgForDevice, dmaSyncSingleForCpu, dmaSyncSingleForDevice } from './sync.ts';

/** Historical name of a bus address of 64 bits. @linux dma64_addr_t */
export type Dma64Addr = DmaAddr;

/** Historical. @linux PCI_DMA_BIDIRECTIONAL */
export const PCI_DMA_BIDIRECTIONAL = DMA_BIDIRECTIONAL;
/** Historical. @linux PCI_DMA_TODEVICE */
export const PCI_DMA_TODEVICE = DMA_TO_DEVICE;
/** Historical. @linux PCI_DMA_FROMDEVICE */
export const PCI_DMA_FROMDEVICE = DMA_FROM_DEVICE;
/** Historical. @linux PCI_DMA_NONE */
export const PCI_DMA_NONE = DMA_NONE;

/** Historical: `dmaMapSingle`. @linux pci_map_single */
export function pciMapSingle(dev: Device, mem: Mem, dir: DmaDataDirection): DmaAddr {
  return dmaMapSingle(dev, mem, dir);
}
/** Historical: `dmaUnmapSingle`. @linux pci_unmap_single */
export function pciUnmapSingle(dev: Device, addr: DmaAddr, size: number, dir: DmaDataDirection): void {
  dmaUnmapSingle(dev, addr, size, dir);
}
/** Historical: `dmaMapPage`. @linux pci_map_page */
export function pciMapPage(dev: Device, page: Page, offset: number, size: number, dir: DmaDataDirection): DmaAddr {
  return dmaMapPage(dev, page, offset, size, dir);
}
/** Historical: `dmaUnmapPage`. @linux pci_unmap_page */
export function pciUnmapPage(dev: Device, addr: DmaAddr, size: number, dir: DmaDataDirection): void {
  dmaUnmapPage(dev, addr, size, dir);
}
/** Historical: `dmaMapSg`. @linux pci_map_sg */
export function pciMapSg(dev: Device, sgl: Scatterlist, nents: number, dir: DmaDataDirection): number {
  return dmaMapSg(dev, sgl, nents, dir);
}
/** Historical: `dmaUnmapSg`. @linux pci_unmap_sg */
export function pciUnmapSg(dev: Device, sgl: Scatterlist, nents: number, dir: DmaDataDirection): void {
  dmaUnmapSg(dev, sgl, nents, dir);
}
/** Historical: `dmaSyncSingleForCpu`. @linux pci_dma_sync_single_for_cpu */
export function pciDmaSyncSingleForCpu(dev: Device, addr: DmaAddr, size: number, dir: DmaDataDirection): void {
  dmaSyncSingleForCpu(dev, addr, size, dir);
}
/** Historical: `dmaSyncSingleForDevice`. @linux pci_dma_sync_single_for_device */
export function pciDmaSyncSingleForDevice(dev: Device, addr: DmaAddr, size: number, dir: DmaDataDirection): void {
  dmaSyncSingleForDevice(dev, addr, size, dir);
}
/** Historical: `dmaSyncSgForCpu`. @linux pci_dma_sync_sg_for_cpu */
export function pciDmaSyncSgForCpu(dev: Device, sgl: Scatterlist, nents: number, dir: DmaDataDirection): void {
  dmaSyncSgForCpu(dev, sgl, nents, dir);
}
/** Historical: `dmaSyncSgForDevice`. @linux pci_dma_sync_sg_for_device */
export function pciDmaSyncSgForDevice(dev: Device, sgl: Scatterlist, nents: number, dir: DmaDataDirection): void {
  dmaSyncSgForDevice(dev, sgl, nents, dir);
}
/** Historical: one call for both directions of ownership; what was left of it hands the buffer to the CPU. @linux dma_sync_single, pci_dma_sync_single */
export function dmaSyncSingle(dev: Device, addr: DmaAddr, size: number, dir: DmaDataDirection): void {
  dmaSyncSingleForCpu(dev, addr, size, dir);
}
/** Historical, likewise. @linux dma_sync_sg, pci_dma_sync_sg */
export function dmaSyncSg(dev: Device, sgl: Scatterlist, nents: number, dir: DmaDataDirection): void {
  dmaSyncSgForCpu(dev, sgl, nents, dir);
}
/** Historical: `dmaMappingError`. @linux pci_dma_mapping_error */
export function pciDmaMappingError(dev: Device, addr: DmaAddr): Errno {
  return dmaMappingError(dev, addr);
}
/** Historical: `dmaAllocCoherent`, always with GFP_ATOMIC. @linux pci_alloc_consistent, pci_zalloc_consistent */
export function pciAllocConsistent(dev: Device, size: number): DmaCoherent | null {
  return dmaAllocCoherent(dev, size, GFP_ATOMIC);
}
/** Historical: `dmaFreeCoherent`. @linux pci_free_consistent */
export function pciFreeConsistent(dev: Device, size: number, mem: Mem | null, handle: DmaAddr): void {
  dmaFreeCoherent(dev, size, mem, handle);
}
/** Historical: `dmaPoolCreate`. @linux pci_pool_create */
export function pciPoolCreate(
  name: string,
  dev: Device,
  size: number,
  align: number,
  boundary: number,
): DmaPool | null {
  return dmaPoolCreate(name, dev, size, align, boundary);
}
/** Historical: `dmaPoolDestroy`. @linux pci_pool_destroy */
export function pciPoolDestroy(pool: DmaPool | null): void {
  dmaPoolDestroy(pool);
}
/** Historical: `dmaPoolAlloc`. @linux pci_pool_alloc */
export function pciPoolAlloc(pool: DmaPool, gfp: Gfp): DmaCoherent | null {
  return dmaPoolAlloc(pool, gfp);
}
/** Historical: `dmaPoolFree`. @linux pci_pool_free */
export function pciPoolFree(pool: DmaPool, mem: Mem, handle: DmaAddr): void {
  dmaPoolFree(pool, mem, handle);
}
/** Historical: `dmaSetMask`. @linux pci_set_dma_mask */
export function pciSetDmaMask(dev: Device, mask: bigint): Errno {
  return dmaSetMask(dev, mask);
}
/** Historical: `dmaSetCoherentMask`. @linux pci_set_consistent_dma_mask */
export function pciSetConsistentDmaMask(dev: Device, mask: bigint): Errno {
  return dmaSetCoherentMask(dev, mask);
}

/**
 * Historical: declare that the device makes double address cycles, which reach all memory without mapping. EIO behind an
 * IOMMU, or where bus addresses are not physical ones: there it must map. @linux pci_dac_set_dma_mask
 */
export function pciDacSetDmaMask(dev: Device, mask: bigint): Errno {
  if (!pciDacDmaSupported(dev, mask)) return EIO;
  dev.dmaMask = mask;
  return OK;
}
/** Historical. @linux pci_dac_dma_supported */
export function pciDacDmaSupported(dev: Device, mask: bigint): boolean {
  const reachesAll = mask >= BigInt(dev.kernel.pages.maxPfn) * BigInt(PAGE_SIZE) - 1n;
  return getDmaOps(dev) === null && dev.dmaRangeMap === null && reachesAll;
}
/** Historical: the address of page memory for double address cycles. Nothing is mapped, nothing synced, nothing fails. @linux pci_dac_page_to_dma */
export function pciDacPageToDma(_dev: Device, page: Page, offset: number, _dir: DmaDataDirection): Dma64Addr {
  return (page * PAGE_SIZE + offset) as Dma64Addr;
}
/** Historical. @linux pci_dac_dma_to_page */
export function pciDacDmaToPage(_dev: Device, addr: Dma64Addr): Page {
  return physToPage(addr as number as PhysAddr);
}
/** Historical. @linux pci_dac_dma_to_offset */
export function pciDacDmaToOffset(_dev: Device, addr: Dma64Addr): number {
  return addr % PAGE_SIZE;
}
/** Historical. @linux pci_dac_dma_sync_single_for_cpu */
export function pciDacDmaSyncSingleForCpu(dev: Device, addr: Dma64Addr, size: number, dir: DmaDataDirection): void {
  dmaDirectSyncSingleForCpu(dev, addr, size, dir);
}
/** Historical. @linux pci_dac_dma_sync_single_for_device */
export function pciDacDmaSyncSingleForDevice(dev: Device, addr: Dma64Addr, size: number, dir: DmaDataDirection): void {
  dmaDirectSyncSingleForDevice(dev, addr, size, dir);
}

/** Why a physical address is not what some device of this machine must use; null when it is. */
function whyNotPhysical(kernel: Kernel): string | null {
  if (defaultIoTlbMem(kernel).forceBounce) return 'all its buffers bounce';
  for (const dev of kernel.devices) {
    if (dev.dmaOps !== null) return `${dev.name} is behind an IOMMU`;
    if (dev.dmaRangeMap !== null) return `${dev.name} sees memory at other addresses`;
  }
  return null;
}
function reportBusAddress(kernel: Kernel, name: string): void {
  warnOnceAt(kernel, name, `${name} is deprecated: use the DMA mapping functions`);
  const why = whyNotPhysical(kernel);
  if (why !== null) warnOnceAt(kernel, `${name} (address)`, `${name} gives a wrong address on this machine: ${why}`);
}
/**
 * Historical: the bus address of memory, as if it were the physical one. Reported as deprecated, and as wrong on a machine
 * with an IOMMU, address windows or forced bouncing. @linux virt_to_bus
 */
export function virtToBus(kernel: Kernel, mem: Mem): DmaAddr {
  reportBusAddress(kernel, 'virt_to_bus');
  return mem.phys as number as DmaAddr;
}
/** Historical, the other way round, for `sizeBytes` bytes; reported likewise. Throws where there is no RAM. @linux bus_to_virt */
export function busToVirt(kernel: Kernel, addr: DmaAddr, sizeBytes: number): Mem {
  reportBusAddress(kernel, 'bus_to_virt');
  return memAt(kernel, addr, sizeBytes);
}
