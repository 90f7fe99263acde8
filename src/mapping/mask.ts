/** What a device can address, and the shape of the segments it takes. */
import { dmaBitMask, maskLimit } from '../base/addr.ts';
import { EIO, type Errno, OK } from '../base/errno.ts';
import type { Device } from '../kernel/device.ts';
import { devDbg } from '../kernel/device.ts';
import { dmaDirectAllRamMapped } from './direct-mask.ts';
import { minNotZero } from './dma-range.ts';
import { DEFAULT_MAX_SEGMENT_BYTES, SIZE_MAX } from './limits.ts';
import { dmaDirectOps, opsOf } from './ops.ts';
import { warnOnceAt } from './report.ts';

/** Whether the device can work with a mask on this machine. @linux dma_supported */
export function dmaSupported(dev: Device, mask: bigint): boolean {
  return opsOf(dev).dmaSupported?.(dev, mask) ?? true;
}
/**
 * Declare which bus addresses the device can produce (`dmaBitMask(n)`). EIO when memory cannot be found for it, or the
 * bus has given the device no mask; the old mask holds then. Process context, before anything is mapped. @linux dma_set_mask
 */
export function dmaSetMask(dev: Device, mask: bigint): Errno {
  if (dev.dmaMask === null || !dmaSupported(dev, mask)) return EIO;
  dev.dmaMask = mask;
  return OK;
}
/** The same for coherent allocations. @linux dma_set_coherent_mask */
export function dmaSetCoherentMask(dev: Device, mask: bigint): Errno {
  if (!dmaSupported(dev, mask)) return EIO;
  dev.coherentDmaMask = mask;
  return OK;
}
/** Both at once. @linux dma_set_mask_and_coherent */
export function dmaSetMaskAndCoherent(dev: Device, mask: bigint): Errno {
  const error = dmaSetMask(dev, mask);
  if (error === OK) dmaSetCoherentMask(dev, mask);
  return error;
}
/** Both at once for a device whose bus gave it no mask. @linux dma_coerce_mask_and_coherent */
export function dmaCoerceMaskAndCoherent(dev: Device, mask: bigint): Errno {
  dev.dmaMask = dev.coherentDmaMask;
  return dmaSetMaskAndCoherent(dev, mask);
}
/** The streaming mask; 32 bits where none is set. @linux dma_get_mask */
export function dmaGetMask(dev: Device): bigint {
  return dev.dmaMask === null || dev.dmaMask === 0n ? dmaBitMask(32) : dev.dmaMask;
}
/** The mask that would reach all memory. @linux dma_get_required_mask */
export function dmaGetRequiredMask(dev: Device): bigint {
  return opsOf(dev).getRequiredMask?.(dev) ?? dmaBitMask(32);
}
/** Whether the device reaches less than all memory. @linux dma_addressing_limited */
export function dmaAddressingLimited(dev: Device): boolean {
  const ops = opsOf(dev);
  const reach = minNotZero(maskLimit(dmaGetMask(dev)), dev.busDmaLimit);
  const limited = reach < maskLimit(dmaGetRequiredMask(dev)) || (ops === dmaDirectOps && !dmaDirectAllRamMapped(dev));
  if (limited) devDbg(dev, 'device is DMA addressing limited');
  return limited;
}

/** The largest single mapping, in bytes; `SIZE_MAX`: no limit. @linux dma_max_mapping_size */
export function dmaMaxMappingSize(dev: Device): number {
  return opsOf(dev).maxMappingSize?.(dev) ?? SIZE_MAX;
}
/** The largest mapping that is made quickly, in bytes. @linux dma_opt_mapping_size */
export function dmaOptMappingSize(dev: Device): number {
  return Math.min(dmaMaxMappingSize(dev), opsOf(dev).optMappingSize?.(dev) ?? SIZE_MAX);
}
/** Segments that end and begin on this boundary (a mask) are merged; 0: never. @linux dma_get_merge_boundary */
export function dmaGetMergeBoundary(dev: Device): number {
  return opsOf(dev).getMergeBoundary?.(dev) ?? 0;
}

function parmsOf(dev: Device, what: string): NonNullable<Device['dmaParms']> | null {
  if (dev.dmaParms === null)
    warnOnceAt(dev.kernel, `include/linux/dma-mapping.h ${what}`, `${dev.name} has no dma_parms`);
  return dev.dmaParms;
}
/** Longest segment the device takes, in bytes. A device without parameters from its bus is reported. @linux dma_set_max_seg_size */
export function dmaSetMaxSegSize(dev: Device, sizeBytes: number): void {
  const parms = parmsOf(dev, 'dma_set_max_seg_size');
  if (parms !== null) parms.maxSegmentSize = sizeBytes;
}
/** 64 KiB where nothing was set. @linux dma_get_max_seg_size */
export function dmaGetMaxSegSize(dev: Device): number {
  return dev.dmaParms?.maxSegmentSize || DEFAULT_MAX_SEGMENT_BYTES;
}
/** No segment crosses a multiple of `mask + 1`. @linux dma_set_seg_boundary */
export function dmaSetSegBoundary(dev: Device, mask: number): void {
  const parms = parmsOf(dev, 'dma_set_seg_boundary');
  if (parms !== null) parms.segmentBoundaryMask = mask;
}
/** `SIZE_MAX`, all ones, where nothing was set. @linux dma_get_seg_boundary */
export function dmaGetSegBoundary(dev: Device): number {
  return dev.dmaParms?.segmentBoundaryMask || SIZE_MAX;
}
/** Low address bits that a bounce buffer must have in common with the original. @linux dma_set_min_align_mask */
export function dmaSetMinAlignMask(dev: Device, mask: number): void {
  const parms = parmsOf(dev, 'dma_set_min_align_mask');
  if (parms !== null) parms.minAlignMask = mask;
}
/** @linux dma_get_min_align_mask */
export function dmaGetMinAlignMask(dev: Device): number {
  return dev.dmaParms?.minAlignMask ?? 0;
}
/** How large and how aligned a buffer must be to share no cache line, in bytes. @linux dma_get_cache_alignment */
export function dmaGetCacheAlignment(dev: Device): number {
  const { machine, dmaMinAlign } = dev.kernel;
  return machine.traits.coherent ? 1 : Math.max(dmaMinAlign, machine.traits.cacheLineBytes);
}
