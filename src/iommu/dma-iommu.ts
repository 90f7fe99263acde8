/**
 * The DMA API over an IOMMU: every mapping gets addresses of the device's own space, and page-table entries behind them.
 */
import { DMA_MAPPING_ERROR, type DmaAddr, maskLimit, offsetIn, PAGE_SIZE, type PhysAddr } from '../base/addr.ts';
import { OK } from '../base/errno.ts';
import { archSyncDmaForCpu, archSyncDmaForDevice } from '../kernel/arch.ts';
import type { Device } from '../kernel/device.ts';
import { DMA_BIDIRECTIONAL, DMA_TO_DEVICE, type DmaDataDirection } from '../kernel/dma-direction.ts';
import { GFP_ATOMIC } from '../kernel/gfp.ts';
import { memAt, type Page } from '../kernel/page-alloc.ts';
import { DMA_ATTR_PRIVILEGED, DMA_ATTR_SKIP_CPU_SYNC } from '../mapping/attrs.ts';
import { type IoTlbMem, ioTlbMemOf } from '../mapping/bounce.ts';
import { dmaGetMinAlignMask } from '../mapping/mask.ts';
import { devWarnOnce, warnOnceAt } from '../mapping/report.ts';
import { iommuDomainOf } from './dev-iommu.ts';
import { dmaCookie } from './dma-cookie.ts';
import {
  IOMMU_CACHE,
  IOMMU_MMIO,
  IOMMU_PRIV,
  IOMMU_READ,
  IOMMU_WRITE,
  type IommuDomain,
  IotlbGather,
  iommuIovaToPhys,
  iommuMap,
  iommuUnmapFast,
} from './domain.ts';

/** @internal The domain through which the DMA API maps for the device. */
export function dmaDomain(dev: Device): IommuDomain {
  return iommuDomainOf(dev)!;
}

/** Permissions of a mapping: what the device may do is the reverse of the transfer's direction. @linux dma_info_to_prot */
export function dmaInfoToProt(dir: DmaDataDirection, coherent: boolean, attrs: number): number {
  let prot = coherent ? IOMMU_CACHE : 0;
  if ((attrs & DMA_ATTR_PRIVILEGED) !== 0) prot |= IOMMU_PRIV;
  if (dir === DMA_BIDIRECTIONAL) return prot | IOMMU_READ | IOMMU_WRITE;
  return dir === DMA_TO_DEVICE ? prot | IOMMU_READ : prot | IOMMU_WRITE;
}

/** @internal Round up to whole granules. */
export function granuleAlign(size: number, granule: number): number {
  return Math.ceil(size / granule) * granule;
}

// One CPU: no unmap is under way while another begins.
const gather = new IotlbGather();

/** @internal @linux __iommu_dma_map */
export function mapRange(dev: Device, phys: number, size: number, prot: number, limit: number): DmaAddr {
  const domain = dmaDomain(dev);
  const cookie = dmaCookie(domain);
  const { granule } = cookie;
  if (dev.dmaParms !== null && dmaGetMinAlignMask(dev) > granule - 1) {
    devWarnOnce(dev, '__iommu_dma_map', 'Unsupported alignment constraint');
    return DMA_MAPPING_ERROR;
  }
  const offset = offsetIn(phys, granule);
  const bytes = granuleAlign(size + offset, granule);
  const iova = cookie.alloc(dev, bytes, limit);
  if (iova === 0) return DMA_MAPPING_ERROR;
  if (iommuMap(domain, iova, phys - offset, bytes, prot, GFP_ATOMIC) !== OK) {
    cookie.free(iova, bytes, false);
    return DMA_MAPPING_ERROR;
  }
  return (iova + offset) as DmaAddr;
}

/** @internal @linux __iommu_dma_unmap */
export function unmapRange(dev: Device, addr: number, size: number): void {
  const domain = dmaDomain(dev);
  const cookie = dmaCookie(domain);
  const offset = offsetIn(addr, cookie.granule);
  const iova = addr - offset;
  const bytes = granuleAlign(size + offset, cookie.granule);
  const queued = cookie.flushQueue !== null;
  gather.init(queued);
  const unmapped = iommuUnmapFast(domain, iova, bytes, gather);
  if (unmapped !== bytes) {
    warnOnceAt(dev.kernel, 'drivers/iommu/dma-iommu.c __iommu_dma_unmap', `unmapped ${unmapped} of ${bytes} bytes`);
  }
  if (!queued && gather.end >= 0) domain.iotlbSync(gather);
  cookie.free(iova, bytes, queued);
}

/** Whether a mapping must bounce, so that an untrusted device sees nothing that shares the page. @linux dev_use_swiotlb */
export function devUseSwiotlb(dev: Device): boolean {
  return dev.untrusted;
}

/** Bounce an unaligned buffer into pages of its own, whose rest is cleared. Returns -1 when that cannot be. */
export function bounceWhole(
  dev: Device,
  tlb: IoTlbMem,
  phys: number,
  size: number,
  dir: DmaDataDirection,
  attrs: number,
): number {
  if (!tlb.active || tlb.backend === null) {
    devWarnOnce(dev, 'iommu_dma_map_page', 'DMA bounce buffers are inactive, unable to map unaligned transaction.');
    return -1;
  }
  const { granule } = dmaCookie(dmaDomain(dev));
  const slots = tlb.backend.mapSlots(dev, phys as PhysAddr, size, granule - 1, dir, attrs);
  if (slots < 0) return -1;
  const before = offsetIn(slots, granule);
  const after = granuleAlign(slots + size, granule) - (slots + size);
  if (before > 0) memAt(dev.kernel, slots - before, before).bytes.fill(0);
  if (after > 0) memAt(dev.kernel, slots + size, after).bytes.fill(0);
  return slots;
}

/** @linux iommu_dma_map_page */
export function iommuDmaMapPage(
  dev: Device,
  page: Page,
  offset: number,
  size: number,
  dir: DmaDataDirection,
  attrs: number,
): DmaAddr {
  let phys: number = page * PAGE_SIZE + offset;
  const coherent = dev.dmaCoherent;
  let tlb: IoTlbMem | null = null;
  if (devUseSwiotlb(dev)) {
    const { granule } = dmaCookie(dmaDomain(dev));
    if (offsetIn(phys, granule) !== 0 || offsetIn(size, granule) !== 0) {
      tlb = ioTlbMemOf(dev);
      phys = bounceWhole(dev, tlb, phys, size, dir, attrs);
      if (phys < 0) return DMA_MAPPING_ERROR;
    }
  }
  if (!coherent && (attrs & DMA_ATTR_SKIP_CPU_SYNC) === 0) {
    archSyncDmaForDevice(dev.kernel, phys as PhysAddr, size, dir);
  }
  const addr = mapRange(dev, phys, size, dmaInfoToProt(dir, coherent, attrs), dev.dmaMaskLimit);
  if (addr === DMA_MAPPING_ERROR && tlb !== null) tlb.backend!.unmap(dev, phys as PhysAddr, size, dir, attrs);
  return addr;
}

/** @linux iommu_dma_unmap_page */
export function iommuDmaUnmapPage(
  dev: Device,
  addr: DmaAddr,
  size: number,
  dir: DmaDataDirection,
  attrs: number,
): void {
  const tlb = ioTlbMemOf(dev);
  // A trusted, coherent device needs nothing of the physical address: the kernel looks it up only to warn.
  const phys = iommuIovaToPhys(dmaDomain(dev), addr);
  if (phys < 0) {
    warnOnceAt(dev.kernel, 'drivers/iommu/dma-iommu.c iommu_dma_unmap_page', 'the address is not mapped');
    return;
  }
  if (!dev.dmaCoherent && (attrs & DMA_ATTR_SKIP_CPU_SYNC) === 0) {
    archSyncDmaForCpu(dev.kernel, phys as PhysAddr, size, dir);
  }
  unmapRange(dev, addr, size);
  if (tlb.contains(phys)) tlb.backend?.unmap(dev, phys as PhysAddr, size, dir, attrs);
}

/** @linux iommu_dma_sync_single_for_cpu */
export function iommuDmaSyncSingleForCpu(dev: Device, addr: DmaAddr, size: number, dir: DmaDataDirection): void {
  const tlb = ioTlbMemOf(dev);
  if (dev.dmaCoherent && !devUseSwiotlb(dev)) return;
  const phys = iommuIovaToPhys(dmaDomain(dev), addr) as PhysAddr;
  if (phys < 0) return;
  if (!dev.dmaCoherent) archSyncDmaForCpu(dev.kernel, phys, size, dir);
  if (tlb.contains(phys)) tlb.backend?.syncForCpu(dev, phys, size, dir);
}
/** @linux iommu_dma_sync_single_for_device */
export function iommuDmaSyncSingleForDevice(dev: Device, addr: DmaAddr, size: number, dir: DmaDataDirection): void {
  const tlb = ioTlbMemOf(dev);
  if (dev.dmaCoherent && !devUseSwiotlb(dev)) return;
  const phys = iommuIovaToPhys(dmaDomain(dev), addr) as PhysAddr;
  if (phys < 0) return;
  if (tlb.contains(phys)) tlb.backend?.syncForDevice(dev, phys, size, dir);
  if (!dev.dmaCoherent) archSyncDmaForDevice(dev.kernel, phys, size, dir);
}

/** @linux iommu_dma_map_resource */
export function iommuDmaMapResource(
  dev: Device,
  phys: PhysAddr,
  size: number,
  dir: DmaDataDirection,
  attrs: number,
): DmaAddr {
  return mapRange(dev, phys, size, dmaInfoToProt(dir, false, attrs) | IOMMU_MMIO, dev.dmaMaskLimit);
}
/** @linux iommu_dma_unmap_resource */
export function iommuDmaUnmapResource(dev: Device, addr: DmaAddr, size: number): void {
  unmapRange(dev, addr, size);
}

/** Whether the sync calls do anything for the device. */
export function iommuDmaNeedSync(dev: Device, addr: DmaAddr): boolean {
  if (!dev.dmaCoherent) return true;
  return devUseSwiotlb(dev) && ioTlbMemOf(dev).contains(iommuIovaToPhys(dmaDomain(dev), addr));
}
/** @internal The mask of coherent allocations as a number. */
export function coherentLimit(dev: Device): number {
  return maskLimit(dev.coherentDmaMask);
}
