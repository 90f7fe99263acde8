/** The address space behind a domain of the DMA API: its allocator, and in lazy mode its flush queue. */
import { ilog2 } from '../base/bits.ts';
import { type Device, devInfo } from '../kernel/device.ts';
import { devIsPci, pciHostBridgeOf } from '../kernel/pci-host-bridge.ts';
import { minNotZero } from '../mapping/dma-range.ts';
import { devIommu } from './dev-iommu.ts';
import type { IommuDomain } from './domain.ts';
import { FlushQueue } from './flush-queue.ts';
import type { ResvRegion } from './iommu.ts';
import { IovaDomain, reserveIova } from './iova.ts';
import { allocIovaFast, freeIovaFast, IovaRcaches } from './iova-rcache.ts';

/** The last address of 32 bits. */
const DMA_32BIT_LIMIT = 0xffff_ffff;

/** See the file's head. @linux struct iommu_dma_cookie */
export class DmaCookie {
  readonly domain: IommuDomain;
  readonly iovad: IovaDomain;
  readonly rcaches: IovaRcaches;
  /** Null in strict mode. */
  readonly flushQueue: FlushQueue | null;
  /** The granule in bytes: the smallest page of the domain. */
  readonly granule: number;

  /** @linux iommu_dma_init_domain */
  constructor(domain: IommuDomain) {
    const { kernel, geometry } = domain;
    this.domain = domain;
    this.granule = domain.pageSizes[0]!;
    // Address 0 is never used: it stands for failure in the allocator.
    const startPfn = Math.max(1, Math.ceil(geometry.apertureStart / this.granule));
    this.iovad = new IovaDomain(this.granule, startPfn);
    this.rcaches = new IovaRcaches(kernel, this.iovad);
    this.flushQueue = domain.type === 'dma-fq' ? new FlushQueue(kernel, domain, this.rcaches) : null;
  }

  /** Take no addresses that lie in `region`. */
  reserve(start: number, end: number): void {
    reserveIova(this.iovad, Math.floor(start / this.granule), Math.floor(end / this.granule));
  }

  /**
   * Addresses for `size` bytes (a multiple of the granule) that `dev` reaches with a mask up to `maskLimit`. Below 4 GiB
   * first, since devices that say 64 bits do not always mean it; once that fails it is not tried again for the device.
   * Returns 0 when there are none. @linux iommu_dma_alloc_iova
   */
  alloc(dev: Device, size: number, maskLimit: number): number {
    const { granule, rcaches } = this;
    const { geometry } = this.domain;
    const pages = size / granule;
    let limit = minNotZero(maskLimit, dev.busDmaLimit);
    if (geometry.forceAperture && geometry.apertureEnd < limit) limit = geometry.apertureEnd;
    const own = devIommu(dev)!;
    if (limit > DMA_32BIT_LIMIT && own.pci32BitWorkaround) {
      const pfn = allocIovaFast(rcaches, pages, Math.floor(DMA_32BIT_LIMIT / granule), false);
      if (pfn !== 0) return pfn * granule;
      own.pci32BitWorkaround = false;
      devInfo(dev, `Using ${ilog2(limit) + 1}-bit DMA addresses`);
    }
    return allocIovaFast(rcaches, pages, Math.floor(limit / granule), true) * granule;
  }

  /** Give back what `alloc` gave. @linux iommu_dma_free_iova */
  free(iova: number, size: number, queued: boolean): void {
    const pfn = iova / this.granule;
    const pages = size / this.granule;
    if (queued && this.flushQueue !== null) this.flushQueue.queue(pfn, pages);
    else freeIovaFast(this.rcaches, pfn, pages);
  }

  /** @linux iommu_put_dma_cookie */
  destroy(): void {
    this.flushQueue?.destroy();
    this.rcaches.destroy();
  }
}

/** @internal The cookie of a domain of the DMA API. */
export function dmaCookie(domain: IommuDomain): DmaCookie {
  return domain.iovaCookie as DmaCookie;
}

/**
 * Make a domain serve the DMA API for `dev`: an allocator that leaves out what the device cannot use, which are the
 * windows of its PCI host bridge (those addresses go to other devices, never to memory) and the reserved regions.
 */
export function setupDmaDomain(domain: IommuDomain, dev: Device, regions: readonly ResvRegion[]): void {
  const cookie = new DmaCookie(domain);
  domain.iovaCookie = cookie;
  if (devIsPci(dev)) {
    const bridge = pciHostBridgeOf(dev);
    for (const window of bridge?.windows ?? []) {
      if (window.type === 'mem') cookie.reserve(window.start - window.offset, window.end - window.offset);
    }
  }
  for (const region of regions) {
    if (region.type !== 'sw-msi') cookie.reserve(region.start, region.start + region.sizeBytes - 1);
  }
}
