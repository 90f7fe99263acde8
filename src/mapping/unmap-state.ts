/**
 * What a driver keeps of a mapping for unmapping it later. On machines where unmapping needs nothing (the kernel's
 * configuration lacks NEED_DMA_MAP_STATE) it takes no room, forgets what is stored, and reads as 0; a driver that uses
 * these functions for nothing but unmapping works either way.
 */
import type { DmaAddr } from '../base/addr.ts';
import type { Kernel } from '../kernel/kernel.ts';

/** A place for an address, in a driver's own structure. */
export class DmaUnmapAddr {
  /** @internal */
  value = 0 as DmaAddr;
  /** @internal */
  readonly kept: boolean;

  /** @internal Use `DEFINE_DMA_UNMAP_ADDR`. */
  constructor(kept: boolean) {
    this.kept = kept;
  }
}
/** A place for a length. */
export class DmaUnmapLen {
  /** @internal */
  value = 0;
  /** @internal */
  readonly kept: boolean;

  /** @internal Use `DEFINE_DMA_UNMAP_LEN`. */
  constructor(kept: boolean) {
    this.kept = kept;
  }
}
/** What takes no room is the same for all. */
const NO_ADDR = new DmaUnmapAddr(false);
const NO_LEN = new DmaUnmapLen(false);

/** Whether this kernel's drivers must keep what they need to unmap. @linux NEED_DMA_MAP_STATE */
export function needDmaMapState(kernel: Kernel): boolean {
  return kernel.options.config?.NEED_DMA_MAP_STATE ?? true;
}
/** Declare a place for an address. @linux DEFINE_DMA_UNMAP_ADDR */
export function DEFINE_DMA_UNMAP_ADDR(kernel: Kernel): DmaUnmapAddr {
  return needDmaMapState(kernel) ? new DmaUnmapAddr(true) : NO_ADDR;
}
/** Declare a place for a length. @linux DEFINE_DMA_UNMAP_LEN */
export function DEFINE_DMA_UNMAP_LEN(kernel: Kernel): DmaUnmapLen {
  return needDmaMapState(kernel) ? new DmaUnmapLen(true) : NO_LEN;
}
/** What was stored last; 0 at first, and where nothing is kept. @linux dma_unmap_addr */
export function dmaUnmapAddr(place: DmaUnmapAddr): DmaAddr {
  return place.value;
}
/** @linux dma_unmap_addr_set */
export function dmaUnmapAddrSet(place: DmaUnmapAddr, addr: DmaAddr): void {
  if (place.kept) place.value = addr;
}
/** What was stored last, in bytes; 0 at first, and where nothing is kept. @linux dma_unmap_len */
export function dmaUnmapLen(place: DmaUnmapLen): number {
  return place.value;
}
/** @linux dma_unmap_len_set */
export function dmaUnmapLenSet(place: DmaUnmapLen, sizeBytes: number): void {
  if (place.kept) place.value = sizeBytes;
}
