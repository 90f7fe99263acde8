/**
 * Domains of VT-d: page tables, the units whose devices use them, and under which id each unit knows them. What is
 * unmapped is invalidated by page where that is possible, else by domain.
 */
import { alignDown, hexAddr, offsetIn, PAGE_SIZE } from '../base/addr.ts';
import { ilog2 } from '../base/bits.ts';
import { EEXIST, EFAULT, EINVAL, ENODEV, ENOMEM, ENOSPC, type Errno, OK } from '../base/errno.ts';
import {
  allocVtdTable,
  DMA_PTE_READ,
  DMA_PTE_SNP,
  DMA_PTE_WRITE,
  type DomainType,
  IOMMU_READ,
  IOMMU_WRITE,
  IommuDomain,
  type IotlbGather,
  VtdPageTable,
} from '../iommu/index.ts';
import { type Device, GFP_KERNEL, type Gfp, prErr } from '../kernel/index.ts';
import {
  CONTEXT_TT_MULTI_LEVEL,
  CONTEXT_TT_PASS_THROUGH,
  FLPT_DEFAULT_DID,
  FLUSH_DOMAIN,
  FLUSH_PAGES,
  type IntelIommu,
} from './intel-iommu-unit.ts';

/** A unit with devices of the domain, and the domain's id there. (struct iommu_domain_info, struct cache_tag) */
interface DomainUnit {
  readonly unit: IntelIommu;
  readonly did: number;
  devices: number;
}

/** What the driver knows of a device. @linux struct device_domain_info */
export interface DeviceInfo {
  readonly dev: Device;
  readonly unit: IntelIommu;
  /** Bus, device and function: the source id of its requests. */
  readonly source: number;
}
/** The driver's knowledge of a device that it was asked about; null: none. */
export type InfoOf = (dev: Device) => DeviceInfo | null;

/** A domain with page tables. @linux struct dmar_domain */
export class DmarDomain extends IommuDomain {
  readonly table: VtdPageTable;
  readonly agaw: number;
  readonly #infoOf: InfoOf;
  readonly #units: DomainUnit[] = [];
  /** Low bits that every entry has. */
  readonly #always: number;
  readonly #limit: number;
  #syncsMap = false;

  /** Null without memory for the first table. @linux paging_domain_alloc */
  static make(unit: IntelIommu, type: DomainType, infoOf: InfoOf, superpages: boolean): DmarDomain | null {
    const root = allocVtdTable(unit.kernel, GFP_KERNEL, false, unit.coherent);
    if (root === null) return null;
    const table = new VtdPageTable(unit.kernel, unit.agaw + 2, root, unit.coherent);
    return new DmarDomain(unit, type, infoOf, table, superpages ? [PAGE_SIZE, ...unit.superpages] : [PAGE_SIZE]);
  }

  private constructor(
    unit: IntelIommu,
    type: DomainType,
    infoOf: InfoOf,
    table: VtdPageTable,
    pageSizes: readonly number[],
  ) {
    const limit = 2 ** unit.widthBits;
    super(unit.kernel, type, pageSizes, { apertureStart: 0, apertureEnd: limit - 1, forceAperture: true });
    this.table = table;
    this.agaw = unit.agaw;
    this.#infoOf = infoOf;
    this.#limit = limit;
    this.#always = unit.snoopControl ? DMA_PTE_SNP : 0;
  }

  // Mapping

  /** @linux intel_iommu_map */
  override mapPages(iova: number, phys: number, pgsize: number, count: number, prot: number, gfp: Gfp): number {
    if ((prot & (IOMMU_READ | IOMMU_WRITE)) === 0) return EINVAL;
    // What may be written may be read: first-level tables have nothing else, and both kinds are to behave alike.
    let flags = this.#always | DMA_PTE_READ;
    if ((prot & IOMMU_WRITE) !== 0) flags |= DMA_PTE_WRITE;
    if (iova + pgsize * count > this.#limit) {
      const bits = ilog2(this.#limit);
      const end = hexAddr(iova + pgsize * count).slice(2);
      prErr(
        this.kernel,
        `DMAR: intel_iommu_map: iommu width (${bits}) is not sufficient for the mapped address (${end})`,
      );
      return EFAULT;
    }
    const mapped = this.table.mapPages(iova, phys, pgsize, count, flags, gfp);
    if (pgsize !== PAGE_SIZE && this.table.takeReplaced()) this.flushIotlbAll();
    if (mapped === EEXIST) this.#complain(iova, phys, pgsize * count);
    return mapped;
  }
  #complain(iova: number, phys: number, size: number): void {
    for (let at = 0; at < size; at += PAGE_SIZE) {
      const known = this.table.iovaToPhys(iova + at);
      if (known < 0) continue;
      const pfn = hexAddr((iova + at) / PAGE_SIZE);
      const [old, wanted] = [known, phys + at].map((n) => hexAddr(n).slice(2));
      prErr(this.kernel, `DMAR: ERROR: DMA PTE for vPFN ${pfn} already set (to ${old} not ${wanted})`);
      return;
    }
  }

  /** @linux intel_iommu_unmap */
  override unmapPages(iova: number, pgsize: number, count: number, gather: IotlbGather): number {
    const size = this.table.unmap(iova, pgsize * count);
    // A flush queue invalidates the whole domain later.
    if (gather.queued) return size;
    // Tables that go may be given back only when what they mapped is invalidated too, not with what was gathered before.
    if (gather.end >= 0 && this.table.hasDetached) {
      gather.addRange(iova, size);
      this.iotlbSync(gather);
    } else gather.addPage(this, iova, size);
    return size;
  }
  override iovaToPhys(iova: number): number {
    return iova < this.#limit ? this.table.iovaToPhys(iova) : -1;
  }

  // Invalidation

  /** @linux intel_iommu_tlb_sync */
  override iotlbSync(gather: IotlbGather): void {
    if (gather.end >= gather.start) this.#flushRange(gather.start, gather.end, !this.table.hasDetached);
    if (this.table.hasDetached) this.table.releaseDetached();
    gather.init(gather.queued);
  }
  /** @linux intel_flush_iotlb_all, cache_tag_flush_all */
  override flushIotlbAll(): void {
    for (const { unit, did } of this.#units) unit.flushIotlb(did, 0, 0, FLUSH_DOMAIN, false);
    this.table.releaseDetached();
  }
  /** @linux intel_iommu_iotlb_sync_map, cache_tag_flush_range_np */
  override iotlbSyncMap(iova: number, size: number): void {
    if (!this.#syncsMap || size === 0) return;
    for (const { unit, did } of this.#units) {
      if (unit.cachingMode) this.#flushUnit(unit, did, iova, iova + size - 1, false);
      else unit.flushWriteBuffer();
    }
  }

  /** In the kernel: cache_tag_flush_range. */
  #flushRange(start: number, last: number, leafOnly: boolean): void {
    const units = this.#units;
    for (let i = 0; i < units.length; i++) this.#flushUnit(units[i]!.unit, units[i]!.did, start, last, leafOnly);
  }
  /** By the smallest aligned power of two of pages that covers the range; by domain when that is too many. (cache_tag_flush_iotlb) */
  #flushUnit(unit: IntelIommu, did: number, start: number, last: number, leafOnly: boolean): void {
    const order = last - start < PAGE_SIZE ? 0 : coveringOrder(start, last);
    if (!unit.pageSelective || order > unit.maxAddressMask) unit.flushIotlb(did, 0, 0, FLUSH_DOMAIN, false);
    else {
      const first = order === 0 ? start : alignDown(start, PAGE_SIZE * 2 ** order);
      unit.flushIotlb(did, first, order, FLUSH_PAGES, leafOnly);
    }
  }

  // Devices

  /**
   * ENODEV for a device that no unit serves, EINVAL when its unit cannot walk these tables, ENOSPC without a free id,
   * ENOMEM. @linux intel_iommu_attach_device, dmar_domain_attach_device
   */
  override attachDev(dev: Device): Errno {
    const info = this.#infoOf(dev);
    if (info === null) return ENODEV;
    const { unit, source } = info;
    if (unit.agaw !== this.agaw || unit.coherent !== this.table.coherent) return EINVAL;
    if (this.#limit > 2 ** unit.widthBits || (this.#always !== 0 && !unit.snoopControl)) return EINVAL;
    let known = this.#units.find((entry) => entry.unit === unit);
    if (known === undefined) {
      const did = unit.allocDomainId();
      if (did < 0) {
        prErr(this.kernel, `DMAR: ${unit.name}: No free domain ids`);
        return ENOSPC;
      }
      known = { unit, did, devices: 0 };
      this.#units.push(known);
    }
    known.devices++;
    this.#noteUnits();
    if (unit.setContext(source, known.did, CONTEXT_TT_MULTI_LEVEL, this.agaw, this.table.root.phys)) return OK;
    this.#drop(known);
    return ENOMEM;
  }
  /** @linux device_block_translation, domain_detach_iommu */
  override detachDev(dev: Device): void {
    const info = this.#infoOf(dev);
    const known = this.#units.find((entry) => entry.unit === info?.unit);
    if (info === null || known === undefined) return;
    info.unit.clearContext(info.source);
    this.#drop(known);
  }
  #drop(known: DomainUnit): void {
    if (--known.devices > 0) return;
    this.#units.splice(this.#units.indexOf(known), 1);
    known.unit.freeDomainId(known.did);
    this.#noteUnits();
  }
  #noteUnits(): void {
    this.#syncsMap = this.#units.some(({ unit }) => unit.syncsMap);
  }

  /** The domain's id on a unit, or -1. @linux domain_id_iommu */
  idOn(unit: IntelIommu): number {
    return this.#units.find((entry) => entry.unit === unit)?.did ?? -1;
  }
  /** @linux domain_exit */
  override free(): void {
    this.table.free();
  }
}

/** The order of the smallest naturally aligned power of two of pages that contains [start, last]. (calculate_psi_aligned_address) */
function coveringOrder(start: number, last: number): number {
  let first = Math.floor(start / PAGE_SIZE);
  let final = Math.floor(last / PAGE_SIZE);
  let order = 0;
  for (; first !== final; order++) {
    first = Math.floor(first / 2);
    final = Math.floor(final / 2);
  }
  return order;
}

/**
 * Bus addresses are physical addresses: by pass-through where the unit has it, else through tables that map all memory
 * one to one, made when they are first needed. @linux si_domain
 */
export class IntelIdentityDomain extends IommuDomain {
  readonly #infoOf: InfoOf;
  /** Ranges besides memory that devices need. */
  readonly #ranges: readonly { readonly start: number; readonly sizeBytes: number }[];
  /** Tables, by the unit that they were made for. */
  readonly #mapped = new Map<IntelIommu, DmarDomain>();

  constructor(
    unit: IntelIommu,
    infoOf: InfoOf,
    ranges: readonly { readonly start: number; readonly sizeBytes: number }[],
  ) {
    super(unit.kernel, 'identity', [PAGE_SIZE], { apertureStart: 0, apertureEnd: 2 ** 52 - 1, forceAperture: false });
    this.#infoOf = infoOf;
    this.#ranges = ranges;
  }

  override attachDev(dev: Device): Errno {
    const info = this.#infoOf(dev);
    if (info === null) return ENODEV;
    const { unit, source } = info;
    if (unit.passThrough) {
      return unit.setContext(source, FLPT_DEFAULT_DID, CONTEXT_TT_PASS_THROUGH, unit.agaw, 0) ? OK : ENOMEM;
    }
    const domain = this.#mapped.get(unit) ?? this.#mapAll(unit);
    return domain === null ? ENOMEM : domain.attachDev(dev);
  }
  override detachDev(dev: Device): void {
    const info = this.#infoOf(dev);
    if (info === null) return;
    if (info.unit.passThrough) info.unit.clearContext(info.source);
    else this.#mapped.get(info.unit)?.detachDev(dev);
  }

  /** In the kernel: si_domain_init, iommu_domain_identity_map. */
  #mapAll(unit: IntelIommu): DmarDomain | null {
    const domain = DmarDomain.make(unit, 'identity', this.#infoOf, true);
    if (domain === null) return null;
    const ranges = [
      ...this.kernel.machine.ram.map(({ base, sizeBytes }) => ({ start: base, sizeBytes })),
      ...this.#ranges,
    ];
    for (const { start, sizeBytes } of ranges) {
      if (mapOneToOne(domain, start, sizeBytes)) continue;
      domain.free();
      return null;
    }
    this.#mapped.set(unit, domain);
    return domain;
  }

  // Nothing is mapped here, and nothing forgotten.
  override mapPages(): number {
    return EINVAL;
  }
  override unmapPages(): number {
    return 0;
  }
  override iotlbSync(gather: IotlbGather): void {
    gather.init(gather.queued);
  }
  override flushIotlbAll(): void {}
  override iovaToPhys(iova: number): number {
    return iova;
  }
  override free(): void {
    for (const domain of this.#mapped.values()) domain.free();
    this.#mapped.clear();
  }
}

/** With the largest pages that fit. Returns false without memory. */
function mapOneToOne(domain: DmarDomain, start: number, sizeBytes: number): boolean {
  for (let at = start; at < start + sizeBytes; ) {
    let size = PAGE_SIZE;
    for (const larger of domain.pageSizes) {
      if (offsetIn(at, larger) === 0 && at + larger <= start + sizeBytes) size = larger;
    }
    if (domain.iovaToPhys(at) < 0) {
      const mapped = domain.mapPages(at, at, size, 1, IOMMU_READ | IOMMU_WRITE, GFP_KERNEL);
      if (mapped < 0) return false;
    }
    at += size;
  }
  return true;
}
