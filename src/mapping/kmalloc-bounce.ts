/** Small kmalloc buffers that may share a cache line with others: a device that does not snoop must not write to them. */
import type { Device } from '../kernel/device.ts';
import { DMA_TO_DEVICE, type DmaDataDirection } from '../kernel/dma-direction.ts';
import { kmallocSizeRoundup } from '../kernel/slab.ts';

/**
 * Whether a mapping must bounce because its memory, if it is from kmalloc, may share a cache line. Only the size is looked
 * at. Never where kmalloc's alignment is a cache line, nor for coherent devices or DMA_TO_DEVICE.
 * @linux dma_kmalloc_needs_bounce
 */
export function dmaKmallocNeedsBounce(dev: Device, size: number, dir: DmaDataDirection): boolean {
  if (dev.dmaCoherent || dir === DMA_TO_DEVICE) return false;
  const { kernel } = dev;
  const line = kernel.machine.traits.cacheLineBytes;
  if (kernel.dmaMinAlign >= line || size >= 2 * line) return false;
  return kmallocSizeRoundup(kernel, size) % line !== 0;
}
