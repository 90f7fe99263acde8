/**
 * dma-direct: bus addresses are physical ones, shifted by the device's windows; the CPU's caches are maintained where the
 * device does not snoop them; what the device cannot reach bounces, or fails.
 */
import { DMA_MAPPING_ERROR, type DmaAddr, PAGE_SIZE, type PhysAddr } from '../base/addr.ts';
import { EIO, KernelBug } from '../base/errno.ts';
import { archSyncDmaForCpu, archSyncDmaForDevice } from '../kernel/arch.ts';
import type { Device } from '../kernel/device.ts';
import type { DmaDataDirection } from '../kernel/dma-direction.ts';
import type { Page } from '../kernel/frame-table.ts';
import { DMA_ATTR_SKIP_CPU_SYNC } from './attrs.ts';
import { bounceMap, type IoTlbMem, ioTlbMemOf } from './bounce.ts';
import { dmaCapable, dmaToPhys, minNotZero, physToDma } from './dma-range.ts';
import { dmaKmallocNeedsBounce } from './kmalloc-bounce.ts';
import { devErrOnce, devWarnOnce, overflowText } from './report.ts';
import { type Scatterlist, sgNext } from './scatterlist.ts';

/** @linux dma_direct_map_page */
export function dmaDirectMapPage(
  dev: Device,
  page: Page,
  offset: number,
  size: number,
  dir: DmaDataDirection,
  attrs: number,
): DmaAddr {
  const phys = (page * PAGE_SIZE + offset) as PhysAddr;
  const addr = physToDma(dev, phys);
  const tlb = ioTlbMemOf(dev);
  const outOfReach = addr < 0 || addr + size - 1 > minNotZero(dev.dmaMaskLimit, dev.busDmaLimit);
  const always = tlb.forceBounce === true;
  if (outOfReach || always || (tlb.bounceUnalignedKmalloc === true && dmaKmallocNeedsBounce(dev, size, dir))) {
    return mapElsewhere(tlb, dev, phys, addr, size, dir, attrs);
  }
  if (dev.dmaCoherent === false && (attrs & DMA_ATTR_SKIP_CPU_SYNC) === 0) {
    archSyncDmaForDevice(dev.kernel, phys, size, dir);
  }
  return addr;
}
/** The decision point for what cannot be mapped as it is: bounce, or say why not. */
function mapElsewhere(
  tlb: IoTlbMem,
  dev: Device,
  phys: PhysAddr,
  addr: DmaAddr,
  size: number,
  dir: DmaDataDirection,
  attrs: number,
): DmaAddr {
  if (tlb.forceBounce || tlb.active) return bounceMap(tlb, dev, phys, size, dir, attrs);
  devWarnOnce(dev, 'dma_direct_map_page', overflowText(dev, addr, size));
  return DMA_MAPPING_ERROR;
}
/** @linux dma_direct_unmap_page */
export function dmaDirectUnmapPage(
  dev: Device,
  addr: DmaAddr,
  size: number,
  dir: DmaDataDirection,
  attrs: number,
): void {
  const tlb = ioTlbMemOf(dev);
  if (dev.dmaCoherent === true && tlb.active === false) return;
  const phys = dmaToPhys(dev, addr);
  if (phys < 0) return;
  if ((attrs & DMA_ATTR_SKIP_CPU_SYNC) === 0) syncForCpu(dev, tlb, phys, size, dir);
  if (tlb.contains(phys)) tlb.backend?.unmap(dev, phys, size, dir, attrs | DMA_ATTR_SKIP_CPU_SYNC);
}

function syncForCpu(dev: Device, tlb: IoTlbMem, phys: PhysAddr, size: number, dir: DmaDataDirection): void {
  if (!dev.dmaCoherent) archSyncDmaForCpu(dev.kernel, phys, size, dir);
  if (tlb.contains(phys)) tlb.backend?.syncForCpu(dev, phys, size, dir);
}
function syncForDevice(dev: Device, tlb: IoTlbMem, phys: PhysAddr, size: number, dir: DmaDataDirection): void {
  if (tlb.contains(phys)) tlb.backend?.syncForDevice(dev, phys, size, dir);
  if (!dev.dmaCoherent) archSyncDmaForDevice(dev.kernel, phys, size, dir);
}
/** @linux dma_direct_sync_single_for_cpu */
export function dmaDirectSyncSingleForCpu(dev: Device, addr: DmaAddr, size: number, dir: DmaDataDirection): void {
  const phys = dmaToPhys(dev, addr);
  if (phys >= 0) syncForCpu(dev, ioTlbMemOf(dev), phys, size, dir);
}
/** @linux dma_direct_sync_single_for_device */
export function dmaDirectSyncSingleForDevice(dev: Device, addr: DmaAddr, size: number, dir: DmaDataDirection): void {
  const phys = dmaToPhys(dev, addr);
  if (phys >= 0) syncForDevice(dev, ioTlbMemOf(dev), phys, size, dir);
}
/** @linux dma_direct_sync_sg_for_cpu */
export function dmaDirectSyncSgForCpu(dev: Device, sgl: Scatterlist, nents: number, dir: DmaDataDirection): void {
  let sg: Scatterlist | null = sgl;
  for (let i = 0; i < nents && sg !== null; i++, sg = sgNext(sg)) {
    dmaDirectSyncSingleForCpu(dev, sg.dmaAddress, sg.length, dir);
  }
}
/** @linux dma_direct_sync_sg_for_device */
export function dmaDirectSyncSgForDevice(dev: Device, sgl: Scatterlist, nents: number, dir: DmaDataDirection): void {
  let sg: Scatterlist | null = sgl;
  for (let i = 0; i < nents && sg !== null; i++, sg = sgNext(sg)) {
    dmaDirectSyncSingleForDevice(dev, sg.dmaAddress, sg.length, dir);
  }
}

/** Every entry becomes a segment of its own: without IOMMU nothing is merged. @linux dma_direct_map_sg */
export function dmaDirectMapSg(
  dev: Device,
  sgl: Scatterlist,
  nents: number,
  dir: DmaDataDirection,
  attrs: number,
): number {
  const tlb = ioTlbMemOf(dev);
  // A device for which mapping is no more than a comparison gets it without a call for each entry.
  const plain = dev.dmaRangeMap === null && !tlb.forceBounce && !tlb.bounceUnalignedKmalloc;
  const clean = !dev.dmaCoherent && (attrs & DMA_ATTR_SKIP_CPU_SYNC) === 0;
  const limit = minNotZero(dev.dmaMaskLimit, dev.busDmaLimit);
  let sg: Scatterlist | null = sgl;
  for (let i = 0; i < nents; i++) {
    if (sg === null)
      throw new KernelBug(`NULL pointer dereference: the scatterlist ends after ${i} of ${nents} entries`);
    const { length, offset } = sg;
    let addr = (sg.page * PAGE_SIZE + offset) as DmaAddr;
    if (!plain || clean || addr + length - 1 > limit) {
      addr = dmaDirectMapPage(dev, sg.page, offset, length, dir, attrs);
      if (addr === DMA_MAPPING_ERROR) {
        dmaDirectUnmapSg(dev, sgl, i, dir, attrs | DMA_ATTR_SKIP_CPU_SYNC);
        return EIO;
      }
    }
    sg.dmaAddress = addr;
    sg.dmaLength = length;
    sg = sgNext(sg);
  }
  return nents;
}
/** @linux dma_direct_unmap_sg */
export function dmaDirectUnmapSg(
  dev: Device,
  sgl: Scatterlist,
  nents: number,
  dir: DmaDataDirection,
  attrs: number,
): void {
  const tlb = ioTlbMemOf(dev);
  const { dmaCoherent } = dev;
  if (dmaCoherent === true && tlb.active === false) return;
  // Then only what bounced needs anything; the rest is passed without a call for each entry.
  const plain = dmaCoherent === true && dev.dmaRangeMap === null;
  let sg: Scatterlist | null = sgl;
  for (let i = 0; i < nents && sg !== null; i++, sg = sgNext(sg)) {
    if (plain && !tlb.contains(sg.dmaAddress)) continue;
    dmaDirectUnmapPage(dev, sg.dmaAddress, sg.dmaLength, dir, attrs);
  }
}

/** Registers of another device have no window: their bus address is the physical one. @linux dma_direct_map_resource */
export function dmaDirectMapResource(
  dev: Device,
  phys: PhysAddr,
  size: number,
  _dir: DmaDataDirection,
  _attrs: number,
): DmaAddr {
  const addr = phys as number as DmaAddr;
  if (dmaCapable(dev, addr, size)) return addr;
  devErrOnce(dev, 'dma_direct_map_resource', overflowText(dev, addr, size));
  return DMA_MAPPING_ERROR;
}

/** @linux dma_direct_need_sync */
export function dmaDirectNeedSync(dev: Device, addr: DmaAddr): boolean {
  return !dev.dmaCoherent || ioTlbMemOf(dev).contains(dmaToPhys(dev, addr));
}
