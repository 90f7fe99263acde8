/** The DMA API's use of CMA: the default area of the `cma=` argument, areas of devices, and coherent memory from both. */
import { alignUp, PAGE_SIZE } from '../base/addr.ts';
import { getOrder } from '../base/bits.ts';
import { isErr } from '../base/errno.ts';
import type { Device } from '../kernel/device.ts';
import { __GFP_NOWARN, GFP_KERNEL, type Gfp, gfpflagsAllowBlocking } from '../kernel/gfp.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Page } from '../kernel/page-alloc.ts';
import { allocSources, type ContiguousSource, freeContiguousOrPages } from './alloc-sources.ts';
import { type Cma, cmaDeclareContiguous } from './cma.ts';
import { minNotZero } from './dma-range.ts';
import { memparse } from './memparse.ts';

/** Contiguous memory is aligned to its power of two, up to this order of pages (CONFIG_CMA_ALIGNMENT). */
const CMA_ALIGNMENT = 8;
const MIB = 2 ** 20;

/** What `cma=SIZE[@BASE[-LIMIT]]` says. */
export interface CmaArgument {
  readonly sizeBytes: number;
  readonly base: number;
  /** 0: none. With a base and no limit, the area's end: it lies at the base then. */
  readonly limit: number;
}
/** Sizes may have the suffixes K, M, G and so on. What cannot be read counts as 0, as in the kernel. @linux early_cma, boot:cma */
export function parseCma(text: string): CmaArgument {
  const size = memparse(text);
  if (!size.rest.startsWith('@')) return { sizeBytes: size.value, base: 0, limit: 0 };
  const base = memparse(size.rest.slice(1));
  if (!base.rest.startsWith('-')) return { sizeBytes: size.value, base: base.value, limit: base.value + size.value };
  return { sizeBytes: size.value, base: base.value, limit: memparse(base.rest.slice(1)).value };
}

/** The CMA of a kernel. */
class Contiguous implements ContiguousSource {
  defaultArea: Cma | null = null;

  /** As dma_alloc_contiguous. */
  alloc(dev: Device, sizeBytes: number, gfp: Gfp): Page | null {
    // Moving pages away sleeps.
    if (!gfpflagsAllowBlocking(gfp)) return null;
    const own = dev.cmaArea as Cma | null;
    if (own === null && sizeBytes <= PAGE_SIZE) return null;
    const area = own ?? this.defaultArea;
    if (area === null) return null;
    const order = Math.min(getOrder(sizeBytes), CMA_ALIGNMENT);
    return area.alloc(alignUp(sizeBytes, PAGE_SIZE) / PAGE_SIZE, order, gfp & __GFP_NOWARN);
  }
  /** As dma_free_contiguous. */
  free(dev: Device, page: Page, sizeBytes: number): boolean {
    const area = (dev.cmaArea as Cma | null) ?? this.defaultArea;
    return area?.release(page, alignUp(sizeBytes, PAGE_SIZE) / PAGE_SIZE) ?? false;
  }
}
const KEY = {};
const makeContiguous = (kernel: Kernel): Contiguous => {
  const contiguous = new Contiguous();
  allocSources(kernel).contiguous = contiguous;
  return contiguous;
};

/** @internal Make an area the one for devices without their own. */
export function setDefaultCma(kernel: Kernel, area: Cma): void {
  kernel.subsystem(KEY, makeContiguous).defaultArea = area;
}
/** The default area, or null. @linux dma_contiguous_default_area */
export function defaultCma(kernel: Kernel): Cma | null {
  return kernel.subsystem(KEY, makeContiguous).defaultArea;
}
/** The area a device allocates from, or null. @linux dev_get_cma_area */
export function devGetCmaArea(dev: Device): Cma | null {
  return (dev.cmaArea as Cma | null) ?? defaultCma(dev.kernel);
}
/** Give a device an area of its own; null: the default one. */
export function devSetCmaArea(dev: Device, area: Cma | null): void {
  defaultCma(dev.kernel);
  dev.cmaArea = area;
}

/**
 * Set up the default area that `cma=` (or the configuration's CMA_SIZE_MBYTES) asks for, unless a device tree has one.
 * Once, at boot. @linux dma_contiguous_reserve
 */
export function dmaContiguousReserve(kernel: Kernel): void {
  if (defaultCma(kernel) !== null) return;
  const text = kernel.cmdline.get('cma');
  const { zoneDmaLimit = 0, config } = kernel.options;
  let argument: CmaArgument = { sizeBytes: (config?.CMA_SIZE_MBYTES ?? 0) * MIB, base: 0, limit: 0 };
  if (text !== undefined) argument = parseCma(text);
  const { sizeBytes, base } = argument;
  if (sizeBytes === 0) return;
  const limit = minNotZero(argument.limit, zoneDmaLimit);
  const fixed = base + sizeBytes === argument.limit;
  const area = cmaDeclareContiguous(kernel, { sizeBytes, base, limit, fixed, name: 'reserved' });
  if (!isErr(area)) setDefaultCma(kernel, area);
}

/**
 * Contiguous pages for a device: from its area, or for more than a page from the default one, aligned to their power of
 * two (up to 2^8 pages). Null when there is no area, no room, or the allocation may not sleep. @linux dma_alloc_contiguous
 */
export function dmaAllocContiguous(dev: Device, sizeBytes: number, gfp: Gfp): Page | null {
  return dev.kernel.subsystem(KEY, makeContiguous).alloc(dev, sizeBytes, gfp);
}
/** Give them back; pages of no area go to the page allocator. @linux dma_free_contiguous */
export function dmaFreeContiguous(dev: Device, page: Page, sizeBytes: number): void {
  freeContiguousOrPages(dev, page, sizeBytes);
}
/** `count` pages of the device's area, aligned to 2^alignOrder (at most 2^8) pages. May sleep. @linux dma_alloc_from_contiguous */
export function dmaAllocFromContiguous(dev: Device, count: number, alignOrder: number, noWarn: boolean): Page | null {
  const gfp = GFP_KERNEL | (noWarn ? __GFP_NOWARN : 0);
  return devGetCmaArea(dev)?.alloc(count, Math.min(alignOrder, CMA_ALIGNMENT), gfp) ?? null;
}
/** Give them back; false when they are not of the device's area. @linux dma_release_from_contiguous */
export function dmaReleaseFromContiguous(dev: Device, page: Page, count: number): boolean {
  return devGetCmaArea(dev)?.release(page, count) ?? false;
}
