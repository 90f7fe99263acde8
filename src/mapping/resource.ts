/** Mapping another device's registers (a peripheral's FIFO) for a DMA controller. */
import { DMA_MAPPING_ERROR, type DmaAddr, type PhysAddr } from '../base/addr.ts';
import type { Device } from '../kernel/device.ts';
import type { DmaDataDirection } from '../kernel/dma-direction.ts';
import { mappingObserver } from './observer.ts';
import { opsOf } from './ops.ts';
import { invalidDirection } from './report.ts';
import { directionIsInvalid, maskIsMissing } from './streaming.ts';

/**
 * Map `size` bytes of registers at a physical address. No cache is involved. Returns `DMA_MAPPING_ERROR` when the device
 * cannot reach them. Any context. @linux dma_map_resource
 */
export function dmaMapResource(
  dev: Device,
  phys: PhysAddr,
  size: number,
  dir: DmaDataDirection,
  attrs: number,
): DmaAddr {
  if (directionIsInvalid(dir)) invalidDirection(dev.kernel, 'dma_map_resource', dir);
  if (maskIsMissing(dev, 'dma_map_resource')) return DMA_MAPPING_ERROR;
  const addr = opsOf(dev).mapResource?.(dev, phys, size, dir, attrs) ?? DMA_MAPPING_ERROR;
  const observer = mappingObserver(dev.kernel);
  if (observer !== null) observer.map?.(dev, 'resource', phys, size, addr, dir, attrs);
  return addr;
}
/** @linux dma_unmap_resource */
export function dmaUnmapResource(dev: Device, addr: DmaAddr, size: number, dir: DmaDataDirection, attrs: number): void {
  if (directionIsInvalid(dir)) invalidDirection(dev.kernel, 'dma_unmap_resource', dir);
  const observer = mappingObserver(dev.kernel);
  if (observer !== null) observer.unmap?.(dev, 'resource', addr, size, dir, attrs);
  opsOf(dev).unmapResource?.(dev, addr, size, dir, attrs);
}
