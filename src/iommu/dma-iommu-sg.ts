/**
 * Scatterlists over an IOMMU: one contiguous range of addresses for the whole list, in which neighbours become one
 * segment where the device's limits allow it.
 */
import { alignUp, DMA_MAPPING_ERROR, type DmaAddr, lo32, offsetIn, PAGE_SIZE, type PhysAddr } from '../base/addr.ts';
import { EINVAL, ENOMEM, OK } from '../base/errno.ts';
import { archSyncDmaForCpu, archSyncDmaForDevice } from '../kernel/arch.ts';
import type { Device } from '../kernel/device.ts';
import type { DmaDataDirection } from '../kernel/dma-direction.ts';
import { GFP_ATOMIC } from '../kernel/gfp.ts';
import { DMA_ATTR_SKIP_CPU_SYNC } from '../mapping/attrs.ts';
import { dmaGetMaxSegSize, dmaGetSegBoundary } from '../mapping/mask.ts';
import { type Scatterlist, SG_DMA_SWIOTLB, sgNext, sgPhys } from '../mapping/scatterlist.ts';
import { dmaCookie } from './dma-cookie.ts';
import {
  devUseSwiotlb,
  dmaDomain,
  dmaInfoToProt,
  granuleAlign,
  iommuDmaMapPage,
  iommuDmaSyncSingleForCpu,
  iommuDmaSyncSingleForDevice,
  iommuDmaUnmapPage,
  unmapRange,
} from './dma-iommu.ts';
import { type IommuDomain, iommuMapNosync, iommuUnmap } from './domain.ts';
import { iommuObserver } from './observer.ts';

/** Masks of up to 32 bits, as nearly all are, compare low halves. */
const MASK_32 = 0xffff_ffff;

/** How far `total` is from the next multiple of `mask + 1`; 0 on one. A mask of 64 bits is a boundary at 0 alone. */
function toBoundary(total: number, mask: number): number {
  if (mask <= MASK_32) return (lo32(mask - total + 1) & mask) >>> 0;
  if (mask >= Number.MAX_SAFE_INTEGER) return total === 0 ? 0 : mask;
  return alignUp(total, mask + 1) - total;
}
function isOnBoundary(addr: number, mask: number): boolean {
  if (mask > MASK_32) return mask >= Number.MAX_SAFE_INTEGER ? addr === 0 : addr % (mask + 1) === 0;
  return (lo32(addr) & mask) === 0;
}

/** Map physically contiguous runs of the (granule-aligned) entries. Returns the bytes mapped, or an error. @linux iommu_map_sg */
export function iommuMapSg(
  domain: IommuDomain,
  iova: number,
  sgl: Scatterlist,
  nents: number,
  prot: number,
  gfp: number,
): number {
  let mapped = 0;
  let start = 0;
  let length = 0;
  let sg: Scatterlist | null = sgl;
  for (let i = 0; i <= nents; i++) {
    const phys = i < nents && sg !== null ? sgPhys(sg) : -1;
    if (length > 0 && phys !== start + length) {
      const error = iommuMapNosync(domain, iova + mapped, start, length, prot, gfp);
      if (error !== OK) {
        if (mapped > 0) iommuUnmap(domain, iova, mapped);
        return error;
      }
      iommuObserver(domain.kernel)?.map?.(domain, iova + mapped, start, length, prot);
      mapped += length;
      length = 0;
    }
    if (i === nents || sg === null) break;
    if (length === 0) start = phys;
    length += sg.length;
    sg = sgNext(sg);
  }
  domain.iotlbSyncMap(iova, mapped);
  return mapped;
}

/**
 * Stretch every entry to whole granules, keeping offset and length in the DMA fields that are unused yet, and count the
 * addresses needed, with padding where a segment would cross the device's boundary.
 */
function stretch(dev: Device, sgl: Scatterlist, nents: number, granule: number): number {
  const mask = dmaGetSegBoundary(dev);
  let total = 0;
  let previous: Scatterlist | null = null;
  let sg: Scatterlist | null = sgl;
  for (let i = 0; i < nents && sg !== null; i++, sg = sgNext(sg)) {
    const offset = offsetIn(sg.offset, granule);
    const pad = toBoundary(total, mask);
    const length = granuleAlign(sg.length + offset, granule);
    sg.dmaAddress = offset as DmaAddr;
    sg.dmaLength = sg.length;
    sg.offset -= offset;
    sg.length = length;
    // The range is aligned to its size, so that offsets in it say where boundaries are.
    if (pad !== 0 && pad < length - 1 && previous !== null) {
      previous.length += pad;
      total += pad;
    }
    total += length;
    previous = sg;
  }
  return total;
}

/** Restore the entries and fill in the bus segments. Returns their number. (Linux: __finalise_sg) */
function finalise(dev: Device, sgl: Scatterlist, nents: number, iova: number): number {
  const mask = dmaGetSegBoundary(dev);
  const maxLength = dmaGetMaxSegSize(dev);
  let at = iova;
  let current = sgl;
  let currentLength = 0;
  let count = 0;
  let sg: Scatterlist | null = sgl;
  for (let i = 0; i < nents && sg !== null; i++, sg = sgNext(sg)) {
    const offset: number = sg.dmaAddress;
    const length = sg.dmaLength;
    const span = sg.length;
    sg.dmaAddress = DMA_MAPPING_ERROR;
    sg.dmaLength = 0;
    sg.offset += offset;
    sg.length = length;
    if (currentLength > 0 && offset === 0 && !isOnBoundary(at, mask) && maxLength - currentLength >= length) {
      currentLength += length;
    } else {
      if (i > 0) current = sgNext(current)!;
      currentLength = length;
      count++;
      current.dmaAddress = (at + offset) as DmaAddr;
    }
    current.dmaLength = currentLength;
    at += span;
    // What ends within a granule cannot be continued.
    if (length + offset < span) currentLength = 0;
  }
  return count;
}

/** Restore the entries after a failure. (Linux: __invalidate_sg) */
function invalidate(sgl: Scatterlist, nents: number): void {
  let sg: Scatterlist | null = sgl;
  for (let i = 0; i < nents && sg !== null; i++, sg = sgNext(sg)) {
    if (sg.dmaAddress !== DMA_MAPPING_ERROR) sg.offset += sg.dmaAddress;
    if (sg.dmaLength !== 0) sg.length = sg.dmaLength;
    sg.dmaAddress = DMA_MAPPING_ERROR;
    sg.dmaLength = 0;
  }
}

/** @linux iommu_dma_map_sg */
export function iommuDmaMapSg(
  dev: Device,
  sgl: Scatterlist,
  nents: number,
  dir: DmaDataDirection,
  attrs: number,
): number {
  // Whatever an untrusted device is shown bounces, unless it is whole pages.
  if (devUseSwiotlb(dev)) return mapSgBounced(dev, sgl, nents, dir, attrs);
  sgl.dmaFlags &= ~SG_DMA_SWIOTLB;
  if (!dev.dmaCoherent && (attrs & DMA_ATTR_SKIP_CPU_SYNC) === 0) iommuDmaSyncSgForDevice(dev, sgl, nents, dir);
  const domain = dmaDomain(dev);
  const cookie = dmaCookie(domain);
  const bytes = stretch(dev, sgl, nents, cookie.granule);
  if (bytes === 0) return finalise(dev, sgl, nents, 0);
  const iova = cookie.alloc(dev, bytes, dev.dmaMaskLimit);
  if (iova === 0) {
    invalidate(sgl, nents);
    return ENOMEM;
  }
  const prot = dmaInfoToProt(dir, dev.dmaCoherent, attrs);
  const mapped = iommuMapSg(domain, iova, sgl, nents, prot, GFP_ATOMIC);
  if (mapped < bytes) {
    cookie.free(iova, bytes, false);
    invalidate(sgl, nents);
    return mapped === ENOMEM ? ENOMEM : EINVAL;
  }
  return finalise(dev, sgl, nents, iova);
}

/** @linux iommu_dma_unmap_sg */
export function iommuDmaUnmapSg(
  dev: Device,
  sgl: Scatterlist,
  nents: number,
  dir: DmaDataDirection,
  attrs: number,
): void {
  if ((sgl.dmaFlags & SG_DMA_SWIOTLB) !== 0) {
    let entry: Scatterlist | null = sgl;
    for (let i = 0; i < nents && entry !== null; i++, entry = sgNext(entry)) {
      iommuDmaUnmapPage(dev, entry.dmaAddress, entry.dmaLength, dir, attrs);
    }
    return;
  }
  if (!dev.dmaCoherent && (attrs & DMA_ATTR_SKIP_CPU_SYNC) === 0) iommuDmaSyncSgForCpu(dev, sgl, nents, dir);
  let end = 0;
  const start = sgl.dmaAddress;
  let sg: Scatterlist | null = sgl;
  for (let i = 0; i < nents && sg !== null && sg.dmaLength !== 0; i++, sg = sgNext(sg)) {
    end = sg.dmaAddress + sg.dmaLength;
  }
  if (end !== 0) unmapRange(dev, start, end - start);
}

/** Every entry by itself, so that each bounces where it must. (Linux: iommu_dma_map_sg_swiotlb) */
function mapSgBounced(dev: Device, sgl: Scatterlist, nents: number, dir: DmaDataDirection, attrs: number): number {
  sgl.dmaFlags |= SG_DMA_SWIOTLB;
  let sg: Scatterlist | null = sgl;
  for (let i = 0; i < nents && sg !== null; i++, sg = sgNext(sg)) {
    const addr = iommuDmaMapPage(dev, sg.page, sg.offset, sg.length, dir, attrs);
    if (addr === DMA_MAPPING_ERROR) {
      iommuDmaUnmapSg(dev, sgl, i, dir, attrs | DMA_ATTR_SKIP_CPU_SYNC);
      return EINVAL;
    }
    sg.dmaAddress = addr;
    sg.dmaLength = sg.length;
  }
  return nents;
}

/** @linux iommu_dma_sync_sg_for_cpu */
export function iommuDmaSyncSgForCpu(dev: Device, sgl: Scatterlist, nents: number, dir: DmaDataDirection): void {
  const bounced = (sgl.dmaFlags & SG_DMA_SWIOTLB) !== 0;
  if (dev.dmaCoherent && !bounced) return;
  let sg: Scatterlist | null = sgl;
  for (let i = 0; i < nents && sg !== null; i++, sg = sgNext(sg)) {
    if (bounced) iommuDmaSyncSingleForCpu(dev, sg.dmaAddress, sg.length, dir);
    else archSyncDmaForCpu(dev.kernel, (sg.page * PAGE_SIZE + sg.offset) as PhysAddr, sg.length, dir);
  }
}
/** @linux iommu_dma_sync_sg_for_device */
export function iommuDmaSyncSgForDevice(dev: Device, sgl: Scatterlist, nents: number, dir: DmaDataDirection): void {
  const bounced = (sgl.dmaFlags & SG_DMA_SWIOTLB) !== 0;
  if (dev.dmaCoherent && !bounced) return;
  let sg: Scatterlist | null = sgl;
  for (let i = 0; i < nents && sg !== null; i++, sg = sgNext(sg)) {
    if (bounced) iommuDmaSyncSingleForDevice(dev, sg.dmaAddress, sg.length, dir);
    else archSyncDmaForDevice(dev.kernel, (sg.page * PAGE_SIZE + sg.offset) as PhysAddr, sg.length, dir);
  }
}
