/**
 * What the mapping layer asks of the CPU: cache maintenance for devices that do not snoop. The rules are arm64's, for
 * every machine: handing over to the device always cleans, whatever the direction (a later eviction of a dirty line
 * would else overwrite what the device wrote), and taking back always invalidates, unless the device only read. 32-bit
 * Arm invalidates instead of cleaning when it hands over a buffer for reading; a driver that is right under either rule
 * is right under both, and what CPU and device see differs only in bytes that neither may look at.
 */
import type { PhysAddr } from '../base/addr.ts';
import { DMA_TO_DEVICE, type DmaDataDirection } from './dma-direction.ts';
import type { Kernel } from './kernel.ts';

/** Hand [phys, phys+sizeBytes) to a device that does not snoop. Any context. @linux arch_sync_dma_for_device */
export function archSyncDmaForDevice(
  kernel: Kernel,
  phys: PhysAddr,
  sizeBytes: number,
  _direction: DmaDataDirection,
): void {
  kernel.machine.cacheClean(phys, sizeBytes);
}
/** Take it back for the CPU. Any context. @linux arch_sync_dma_for_cpu */
export function archSyncDmaForCpu(
  kernel: Kernel,
  phys: PhysAddr,
  sizeBytes: number,
  direction: DmaDataDirection,
): void {
  if (direction !== DMA_TO_DEVICE) kernel.machine.cacheInvalidate(phys, sizeBytes);
}
/** Before memory becomes coherent: nothing of it may be left in the cache. @linux arch_dma_prep_coherent */
export function archDmaPrepCoherent(kernel: Kernel, phys: PhysAddr, sizeBytes: number): void {
  kernel.machine.cacheFlush(phys, sizeBytes);
}
/** Let the CPU bypass its cache for whole pages. @linux arch_dma_set_uncached */
export function archDmaSetUncached(kernel: Kernel, phys: PhysAddr, sizeBytes: number): void {
  kernel.machine.setUncached(phys, sizeBytes, true);
}
/** Undo `archDmaSetUncached`. @linux arch_dma_clear_uncached */
export function archDmaClearUncached(kernel: Kernel, phys: PhysAddr, sizeBytes: number): void {
  kernel.machine.setUncached(phys, sizeBytes, false);
}
