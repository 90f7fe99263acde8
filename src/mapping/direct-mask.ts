/** What dma-direct says of masks. */
import { dmaBitMask, maskLimit, PAGE_SIZE, type PhysAddr, pfnOf } from '../base/addr.ts';
import { ilog2 } from '../base/bits.ts';
import type { Device } from '../kernel/device.ts';
import { ioTlbMemOf } from './bounce.ts';
import { minNotZero, physToDma } from './dma-range.ts';
import { SIZE_MAX } from './limits.ts';

/** Physical address of the last page frame. */
function lastPage(dev: Device): PhysAddr {
  return ((dev.kernel.pages.maxPfn - 1) * PAGE_SIZE) as PhysAddr;
}
/**
 * Whether memory can be found for a mask: any of 32 bits and more; a narrower one when it covers all memory, or at least
 * ZONE_DMA. @linux dma_direct_supported
 */
export function dmaDirectSupported(dev: Device, mask: bigint): boolean {
  const limit = maskLimit(mask);
  if (limit >= 2 ** 32 - 1) return true;
  const { hasZoneDma, zoneDmaLimit } = dev.kernel.pages;
  const needed = hasZoneDma ? Math.min(lastPage(dev), zoneDmaLimit) : lastPage(dev);
  const addr = physToDma(dev, needed as PhysAddr);
  return addr >= 0 && limit >= addr;
}
/** The narrowest mask that reaches all memory. @linux dma_direct_get_required_mask */
export function dmaDirectGetRequiredMask(dev: Device): bigint {
  const addr = physToDma(dev, lastPage(dev));
  return addr < 0 ? dmaBitMask(64) : dmaBitMask(ilog2(Math.max(addr, 1)) + 1);
}
/** Whether the device's windows show all of RAM. @linux dma_direct_all_ram_mapped */
export function dmaDirectAllRamMapped(dev: Device): boolean {
  const windows = dev.dmaRangeMap;
  if (windows === null) return true;
  for (const bank of dev.kernel.machine.ram) {
    let pfn = pfnOf(bank.base);
    const end = pfn + bank.sizeBytes / PAGE_SIZE;
    while (pfn < end) {
      const at = pfn;
      const window = windows.find((w) => at >= pfnOf(w.cpuStart) && at < pfnOf(w.cpuStart + w.sizeBytes));
      if (window === undefined) return false;
      pfn = pfnOf(window.cpuStart + window.sizeBytes);
    }
  }
  return true;
}
/** @internal Whether a direct-mapped device reaches less than all memory. */
export function dmaDirectIsLimited(dev: Device): boolean {
  const reach = minNotZero(dev.dmaMaskLimit, dev.busDmaLimit);
  return reach < maskLimit(dmaDirectGetRequiredMask(dev)) || !dmaDirectAllRamMapped(dev);
}
/** Unlimited, unless what is mapped may have to bounce. @linux dma_direct_max_mapping_size */
export function dmaDirectMaxMappingSize(dev: Device): number {
  const tlb = ioTlbMemOf(dev);
  const mayBounce = tlb.active && tlb.backend !== null && (tlb.forceBounce || dmaDirectIsLimited(dev));
  return mayBounce ? tlb.backend!.maxMappingSize(dev) : SIZE_MAX;
}
