/**
 * Domains: address spaces that an IOMMU translates for the devices attached to them. Here mappings are cut into the page
 * sizes the hardware has; how a page-table entry looks is the driver's.
 */
import { hexAddr, offsetIn } from '../base/addr.ts';
import { EINVAL, type Errno, OK } from '../base/errno.ts';
import type { Device } from '../kernel/device.ts';
import type { Gfp } from '../kernel/gfp.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { prErr } from '../kernel/printk.ts';
import { iommuObserver } from './observer.ts';

/** `prot` bits of a mapping. @linux IOMMU_READ */
export const IOMMU_READ = 1 << 0;
/** @linux IOMMU_WRITE */
export const IOMMU_WRITE = 1 << 1;
/** Accesses snoop the CPU's caches. @linux IOMMU_CACHE */
export const IOMMU_CACHE = 1 << 2;
/** @linux IOMMU_NOEXEC */
export const IOMMU_NOEXEC = 1 << 3;
/** The target is registers, not memory. @linux IOMMU_MMIO */
export const IOMMU_MMIO = 1 << 4;
/** For privileged accesses only. @linux IOMMU_PRIV */
export const IOMMU_PRIV = 1 << 5;

/**
 * What a domain is for.
 * @linux IOMMU_DOMAIN_BLOCKED, IOMMU_DOMAIN_IDENTITY, IOMMU_DOMAIN_UNMANAGED, IOMMU_DOMAIN_DMA, IOMMU_DOMAIN_DMA_FQ
 */
export type DomainType =
  /** Nothing passes. */
  | 'blocked'
  /** Bus addresses are physical addresses. */
  | 'identity'
  /** Whoever made it maps. */
  | 'unmanaged'
  /** The DMA API maps; unmapping invalidates at once. */
  | 'dma'
  /** The DMA API maps; invalidation is deferred and batched. */
  | 'dma-fq';

/** The addresses a domain can translate. @linux struct iommu_domain_geometry */
export interface DomainGeometry {
  apertureStart: number;
  /** The last address. */
  apertureEnd: number;
  /** Nothing outside may be mapped. */
  forceAperture: boolean;
}

/** What was unmapped and waits to be invalidated, as one range. Reused: no unmap makes garbage. @linux struct iommu_iotlb_gather */
export class IotlbGather {
  start = 0;
  /** The last byte; below `start` when nothing was gathered. */
  end = -1;
  pgsize = 0;
  /** The range is invalidated later, with others, by a flush queue. */
  queued = false;

  /** @linux iommu_iotlb_gather_init */
  init(queued: boolean): void {
    this.start = Number.MAX_SAFE_INTEGER;
    this.end = -1;
    this.pgsize = 0;
    this.queued = queued;
  }
  /** @linux iommu_iotlb_gather_add_range */
  addRange(iova: number, size: number): void {
    if (iova < this.start) this.start = iova;
    if (iova + size - 1 > this.end) this.end = iova + size - 1;
  }
  /** Gather a page, after flushing what is gathered if the page is not next to it. @linux iommu_iotlb_gather_add_page */
  addPage(domain: IommuDomain, iova: number, size: number): void {
    const apart = iova + size < this.start || this.end + 1 < iova;
    if (this.end >= 0 && ((this.pgsize !== 0 && this.pgsize !== size) || apart)) domain.iotlbSync(this);
    this.pgsize = size;
    this.addRange(iova, size);
  }
}

/** A domain as its IOMMU driver implements it. None of these may sleep. @linux struct iommu_domain, struct iommu_domain_ops */
export abstract class IommuDomain {
  readonly kernel: Kernel;
  readonly type: DomainType;
  /** Page sizes in bytes, ascending; all of them powers of two. */
  readonly pageSizes: readonly number[];
  readonly geometry: DomainGeometry;
  /** Of dma-iommu.ts. */
  iovaCookie: unknown = null;
  /** Called with faults of its devices; true: handled. @linux iommu_set_fault_handler */
  faultHandler: ((dev: Device, iova: number, isWrite: boolean) => boolean) | null = null;

  constructor(kernel: Kernel, type: DomainType, pageSizes: readonly number[], geometry: DomainGeometry) {
    this.kernel = kernel;
    this.type = type;
    this.pageSizes = pageSizes;
    this.geometry = geometry;
  }
  /** Map `count` pages of `pgsize` bytes. Returns the bytes mapped, or a negative error when none was. */
  abstract mapPages(iova: number, phys: number, pgsize: number, count: number, prot: number, gfp: Gfp): number;
  /** Unmap `count` pages. Returns the bytes unmapped (more than asked for when a larger page had to go, 0 at a hole). */
  abstract unmapPages(iova: number, pgsize: number, count: number, gather: IotlbGather): number;
  /** Make the hardware forget what was gathered, and forget it. */
  abstract iotlbSync(gather: IotlbGather): void;
  /** Make the hardware forget the whole domain. */
  abstract flushIotlbAll(): void;
  /** Called behind every map, for hardware that remembers what was not there. */
  iotlbSyncMap(_iova: number, _size: number): void {}
  /** The physical address behind `iova`, or -1. */
  abstract iovaToPhys(iova: number): number;
  abstract attachDev(dev: Device): Errno;
  abstract detachDev(dev: Device): void;
  /** Give back the page tables. */
  abstract free(): void;
}

/** Results of `pickPageSize`, module-level so that it makes no garbage. */
let pickedCount = 0;

/** The largest page that fits address, physical address and size, and how many of it before a larger one would fit. */
function pickPageSize(domain: IommuDomain, iova: number, phys: number, size: number): number {
  const sizes = domain.pageSizes;
  if (size === sizes[0]) {
    pickedCount = 1;
    return size;
  }
  let i = sizes.length - 1;
  while (i > 0 && (sizes[i]! > size || lowBits(iova, sizes[i]!) !== 0 || lowBits(phys, sizes[i]!) !== 0)) i--;
  const pgsize = sizes[i]!;
  let span = size;
  if (i + 1 < sizes.length) {
    const larger = sizes[i + 1]!;
    const misfit = lowBits(iova, larger);
    if (misfit === lowBits(phys, larger)) {
      const toBoundary = larger - misfit;
      if (toBoundary + larger <= size) span = toBoundary;
    }
  }
  pickedCount = Math.floor(span / pgsize);
  return pgsize;
}
/** `a` modulo a page size; a division only for sizes of many gigabytes. */
function lowBits(a: number, pageSize: number): number {
  return pageSize <= 2 ** 31 ? offsetIn(a, pageSize) : a % pageSize;
}

/** @internal As `iommuMap`, without the synchronisation behind it. */
export function iommuMapNosync(
  domain: IommuDomain,
  iova: number,
  phys: number,
  size: number,
  prot: number,
  gfp: Gfp,
): Errno {
  const smallest = domain.pageSizes[0];
  if (smallest === undefined) return EINVAL;
  if (lowBits(iova, smallest) !== 0 || lowBits(phys, smallest) !== 0 || lowBits(size, smallest) !== 0) {
    prErr(
      domain.kernel,
      `unaligned: iova ${hexAddr(iova)} pa ${hexAddr(phys)} size 0x${size.toString(16)} min_pagesz 0x${smallest.toString(16)}`,
    );
    return EINVAL;
  }
  if (size === smallest) {
    const mapped = domain.mapPages(iova, phys, size, 1, prot, gfp);
    return mapped < 0 ? (mapped as Errno) : OK;
  }
  let done = 0;
  while (done < size) {
    const pgsize = pickPageSize(domain, iova + done, phys + done, size - done);
    const mapped = domain.mapPages(iova + done, phys + done, pgsize, pickedCount, prot, gfp);
    if (mapped < 0) {
      if (done > 0) iommuUnmap(domain, iova, done);
      return mapped as Errno;
    }
    done += mapped;
  }
  return OK;
}

/**
 * Map [phys, phys+size) at `iova`; all three multiples of the smallest page. EINVAL for what is not aligned, ENOMEM
 * without memory for tables, EEXIST where something is mapped; nothing is left mapped then. Any context if `gfp` is.
 * @linux iommu_map
 */
export function iommuMap(domain: IommuDomain, iova: number, phys: number, size: number, prot: number, gfp: Gfp): Errno {
  const error = iommuMapNosync(domain, iova, phys, size, prot, gfp);
  if (error !== OK) return error;
  domain.iotlbSyncMap(iova, size);
  iommuObserver(domain.kernel)?.map?.(domain, iova, phys, size, prot);
  return OK;
}

/** Unmap without invalidating: `gather` says what is to be. Returns the bytes unmapped. @linux iommu_unmap_fast */
export function iommuUnmapFast(domain: IommuDomain, iova: number, size: number, gather: IotlbGather): number {
  let done = 0;
  while (done < size) {
    const pgsize = pickPageSize(domain, iova + done, iova + done, size - done);
    const unmapped = domain.unmapPages(iova + done, pgsize, pickedCount, gather);
    if (unmapped === 0) break;
    done += unmapped;
  }
  iommuObserver(domain.kernel)?.unmap?.(domain, iova, size, done);
  return done;
}
/** Invalidate what was gathered. @linux iommu_iotlb_sync */
export function iommuIotlbSync(domain: IommuDomain, gather: IotlbGather): void {
  domain.iotlbSync(gather);
}
/** Make the hardware forget everything of the domain. @linux iommu_flush_iotlb_all */
export function iommuFlushIotlbAll(domain: IommuDomain): void {
  domain.flushIotlbAll();
}
/** Unmap and invalidate. Returns the bytes unmapped. @linux iommu_unmap */
export function iommuUnmap(domain: IommuDomain, iova: number, size: number): number {
  const gather = new IotlbGather();
  gather.init(false);
  const done = iommuUnmapFast(domain, iova, size, gather);
  domain.iotlbSync(gather);
  return done;
}
/** The physical address behind `iova`, or -1; what an identity domain is given. @linux iommu_iova_to_phys */
export function iommuIovaToPhys(domain: IommuDomain, iova: number): number {
  if (domain.type === 'identity') return iova;
  if (domain.type === 'blocked') return -1;
  return domain.iovaToPhys(iova);
}
/** Be told of faults in the domain. @linux iommu_set_fault_handler */
export function iommuSetFaultHandler(
  domain: IommuDomain,
  handler: ((dev: Device, iova: number, isWrite: boolean) => boolean) | null,
): void {
  domain.faultHandler = handler;
}
/** For drivers: a device's access was refused. Returns whether a handler took it. @linux report_iommu_fault */
export function reportIommuFault(domain: IommuDomain, dev: Device, iova: number, isWrite: boolean): boolean {
  return domain.faultHandler?.(dev, iova, isWrite) ?? false;
}
