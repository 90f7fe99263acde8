/**
 * Streaming mappings of one buffer: the device owns it from map to unmap, but for the time between the two sync calls.
 */
import { DMA_MAPPING_ERROR, type DmaAddr, offsetInPage, PAGE_SIZE } from '../base/addr.ts';
import type { Device } from '../kernel/device.ts';
import { DMA_BIDIRECTIONAL, DMA_FROM_DEVICE, DMA_TO_DEVICE, type DmaDataDirection } from '../kernel/dma-direction.ts';
import type { Page } from '../kernel/frame-table.ts';
import { FrameKind, type Mem } from '../kernel/index.ts';
import { type MapKind, mappingObserver, NO_PHYS } from './observer.ts';
import { missingOp, opsOf } from './ops.ts';
import { devWarnOnce, invalidDirection, overflowText, warnOnceAt } from './report.ts';

/** @internal Whether `dir` can be mapped, as a comparison that costs nothing. */
export function directionIsInvalid(dir: DmaDataDirection): boolean {
  return dir !== DMA_TO_DEVICE && dir !== DMA_FROM_DEVICE && dir !== DMA_BIDIRECTIONAL;
}
/** @internal A device without mask maps nothing. */
export function maskIsMissing(dev: Device, what: string): boolean {
  if (dev.dmaMaskLimit !== 0 || dev.dmaMask !== null) return false;
  warnOnceAt(dev.kernel, `kernel/dma/mapping.c ${what}`, `${dev.name} has no dma_mask`);
  return true;
}

/**
 * Map memory for a device. Returns the address under which the device reaches it, or `DMA_MAPPING_ERROR`: check it with
 * `dmaMappingError`. Memory outside the linear map (a stack, a vmalloc area) is refused. Any context; `DMA_NONE` throws
 * `KernelBug`. @linux dma_map_single
 */
export function dmaMapSingle(dev: Device, mem: Mem, dir: DmaDataDirection): DmaAddr {
  return dmaMapSingleAttrs(dev, mem, dir, 0);
}
/** As `dmaMapSingle`, with `DMA_ATTR_…` bits. @linux dma_map_single_attrs */
export function dmaMapSingleAttrs(dev: Device, mem: Mem, dir: DmaDataDirection, attrs: number): DmaAddr {
  if (mem === null || mem.linear !== true) return mapUnusual(dev, mem, dir, attrs);
  const { phys } = mem;
  const offset = offsetInPage(phys);
  return mapPage(dev, 'single', ((phys - offset) / PAGE_SIZE) as Page, offset, mem.size, dir, attrs);
}
/** Pointers that are not of the linear map, or none at all. */
function mapUnusual(dev: Device, mem: Mem | null | undefined, dir: DmaDataDirection, attrs: number): DmaAddr {
  if (mem === null || mem === undefined) {
    // What the kernel computes for NULL lies beyond any memory.
    devWarnOnce(dev, 'dma_direct_map_page', overflowText(dev, NULL_PHYS, 0));
    mappingObserver(dev.kernel)?.map?.(dev, 'single', NO_PHYS, 0, DMA_MAPPING_ERROR, dir, attrs);
    return DMA_MAPPING_ERROR;
  }
  if (typeof mem.phys !== 'number') {
    throw new TypeError('dmaMapSingle takes a Mem from an allocator (kmalloc, getFreePages, …), found another object');
  }
  const { phys } = mem;
  // Module data is no vmalloc memory to the kernel's test, though it does not lie in the linear map either.
  if (mem.bank.kindAt(phys) === FrameKind.MODULE_DATA) {
    const offset = offsetInPage(phys);
    return mapPage(dev, 'single', ((phys - offset) / PAGE_SIZE) as Page, offset, mem.size, dir, attrs);
  }
  devWarnOnce(dev, 'dma_map_single_attrs', 'rejecting DMA map of vmalloc memory');
  mappingObserver(dev.kernel)?.map?.(dev, 'single', phys, mem.size, DMA_MAPPING_ERROR, dir, attrs);
  return DMA_MAPPING_ERROR;
}
/** __pa(NULL) on x86-64, modulo the direct map's base. */
const NULL_PHYS = 0x777f_8000_0000;

/** Map part of a page (or of the pages from it on). Any RAM will do, HIGHMEM and vmalloc pages too. @linux dma_map_page */
export function dmaMapPage(dev: Device, page: Page, offset: number, size: number, dir: DmaDataDirection): DmaAddr {
  return mapPage(dev, 'page', page, offset, size, dir, 0);
}
/** @linux dma_map_page_attrs */
export function dmaMapPageAttrs(
  dev: Device,
  page: Page,
  offset: number,
  size: number,
  dir: DmaDataDirection,
  attrs: number,
): DmaAddr {
  return mapPage(dev, 'page', page, offset, size, dir, attrs);
}
function mapPage(
  dev: Device,
  kind: MapKind,
  page: Page,
  offset: number,
  size: number,
  dir: DmaDataDirection,
  attrs: number,
): DmaAddr {
  if (directionIsInvalid(dir)) invalidDirection(dev.kernel, 'dma_map_page_attrs', dir);
  if (maskIsMissing(dev, 'dma_map_page_attrs')) return DMA_MAPPING_ERROR;
  const ops = opsOf(dev);
  if (ops.mapPage === undefined) missingOp('map_page');
  const addr = ops.mapPage(dev, page, offset, size, dir, attrs);
  const observer = mappingObserver(dev.kernel);
  if (observer !== null) observer.map?.(dev, kind, page * PAGE_SIZE + offset, size, addr, dir, attrs);
  return addr;
}

/** Give the buffer back to the CPU. Address, size and direction as at mapping. Any context. @linux dma_unmap_single */
export function dmaUnmapSingle(dev: Device, addr: DmaAddr, size: number, dir: DmaDataDirection): void {
  unmapPage(dev, 'single', addr, size, dir, 0);
}
/** @linux dma_unmap_single_attrs */
export function dmaUnmapSingleAttrs(
  dev: Device,
  addr: DmaAddr,
  size: number,
  dir: DmaDataDirection,
  attrs: number,
): void {
  unmapPage(dev, 'single', addr, size, dir, attrs);
}
/** @linux dma_unmap_page */
export function dmaUnmapPage(dev: Device, addr: DmaAddr, size: number, dir: DmaDataDirection): void {
  unmapPage(dev, 'page', addr, size, dir, 0);
}
/** @linux dma_unmap_page_attrs */
export function dmaUnmapPageAttrs(
  dev: Device,
  addr: DmaAddr,
  size: number,
  dir: DmaDataDirection,
  attrs: number,
): void {
  unmapPage(dev, 'page', addr, size, dir, attrs);
}
function unmapPage(
  dev: Device,
  kind: MapKind,
  addr: DmaAddr,
  size: number,
  dir: DmaDataDirection,
  attrs: number,
): void {
  if (directionIsInvalid(dir)) invalidDirection(dev.kernel, 'dma_unmap_page_attrs', dir);
  const observer = mappingObserver(dev.kernel);
  if (observer !== null) observer.unmap?.(dev, kind, addr, size, dir, attrs);
  opsOf(dev).unmapPage?.(dev, addr, size, dir, attrs);
}
