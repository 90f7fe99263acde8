/** Domains of the SMMUv3: translation tables, the id under which the unit caches them, and the devices that use them. */
import { PAGE_SIZE } from '../base/addr.ts';
import { EINVAL, ENODEV, type Errno, OK } from '../base/errno.ts';
import { ArmLpaeTable, type DomainType, IommuDomain, type IotlbGather, type LpaeFlushOps } from '../iommu/index.ts';
import { type Device, GFP_KERNEL, type Gfp } from '../kernel/index.ts';
import { SMMU_OP } from '../regs/smmu-v3.ts';
import { type ArmSmmuDevice, Feature, VA_BITS } from './arm-smmu-v3-device.ts';
import { ENTRY_WORDS, makeBypassSte, makeCdTableSte, makeS1Cd, makeS2Ste } from './arm-smmu-v3-entry.ts';
import type { ArmSmmuMaster } from './arm-smmu-v3-master.ts';
import { SmmuBatch } from './arm-smmu-v3-queue.ts';

const PAGE_SIZES = [PAGE_SIZE, 2 ** 21, 2 ** 30];
/** The driver's knowledge of a device that it was asked about; null: none. */
export type MasterOf = (dev: Device) => ArmSmmuMaster | null;

/** A domain with translation tables. @linux struct arm_smmu_domain */
export class ArmSmmuDomain extends IommuDomain implements LpaeFlushOps {
  readonly smmu: ArmSmmuDevice;
  readonly stage: 1 | 2;
  readonly table: ArmLpaeTable;
  /** ASID in stage 1, VMID in stage 2. */
  readonly id: number;
  readonly #masterOf: MasterOf;
  /** VMID and ASID as commands have them. */
  readonly #tag: number;
  readonly #batch = new SmmuBatch();
  readonly #target = new Int32Array(ENTRY_WORDS);

  /** Null without a free id, or without memory for the first table. @linux arm_smmu_domain_alloc_paging, arm_smmu_domain_finalise */
  static make(smmu: ArmSmmuDevice, type: DomainType, masterOf: MasterOf): ArmSmmuDomain | null {
    const stage = smmu.can(Feature.TRANS_S1) ? 1 : 2;
    const id = (stage === 1 ? smmu.asids : smmu.vmids).take();
    if (id < 0) return null;
    // The tables' owner is the domain, which needs the tables: it hears of nothing before it is complete.
    const owner: { domain: ArmSmmuDomain | null } = { domain: null };
    const tlb: LpaeFlushOps = {
      flushAll: () => owner.domain?.flushAll(),
      flushWalk: (iova, size, granule) => owner.domain?.flushWalk(iova, size, granule),
      addPage: (gather, iova, granule) => owner.domain?.addPage(gather, iova, granule),
    };
    const ias = stage === 1 ? VA_BITS : smmu.ias;
    const oas = stage === 1 ? smmu.ias : smmu.oas;
    const config = { stage, ias, oas, coherentWalk: smmu.can(Feature.COHERENCY), tlb } as const;
    const table = ArmLpaeTable.make(smmu.kernel, config, GFP_KERNEL);
    if (table === null) {
      (stage === 1 ? smmu.asids : smmu.vmids).put(id);
      return null;
    }
    owner.domain = new ArmSmmuDomain(smmu, type, masterOf, stage, id, table);
    return owner.domain;
  }

  private constructor(
    smmu: ArmSmmuDevice,
    type: DomainType,
    masterOf: MasterOf,
    stage: 1 | 2,
    id: number,
    table: ArmLpaeTable,
  ) {
    const apertureEnd = 2 ** table.config.ias - 1;
    super(smmu.kernel, type, PAGE_SIZES, { apertureStart: 0, apertureEnd, forceAperture: true });
    this.smmu = smmu;
    this.stage = stage;
    this.id = id;
    this.table = table;
    this.#masterOf = masterOf;
    this.#tag = stage === 1 ? id * 0x1_0000 : id;
  }

  override mapPages(iova: number, phys: number, pgsize: number, count: number, prot: number, gfp: Gfp): number {
    return this.table.mapPages(iova, phys, pgsize, count, prot, gfp);
  }
  override unmapPages(iova: number, pgsize: number, count: number, gather: IotlbGather): number {
    return this.table.unmapPages(iova, pgsize, count, gather);
  }
  override iovaToPhys(iova: number): number {
    return this.table.iovaToPhys(iova);
  }

  // Invalidation

  /** @linux arm_smmu_tlb_inv_page_nosync */
  addPage(gather: IotlbGather, iova: number, granule: number): void {
    gather.addPage(this, iova, granule);
  }
  /** @linux arm_smmu_iotlb_sync, arm_smmu_tlb_inv_range_domain */
  override iotlbSync(gather: IotlbGather): void {
    if (gather.pgsize !== 0) this.#invalidate(gather.start, gather.end - gather.start + 1, gather.pgsize, true);
    gather.init(gather.queued);
  }
  /** @linux arm_smmu_tlb_inv_walk */
  flushWalk(iova: number, size: number, granule: number): void {
    this.#invalidate(iova, size, granule, false);
  }
  #invalidate(iova: number, size: number, granule: number, leaf: boolean): void {
    const op = this.stage === 1 ? SMMU_OP.TLBI_NH_VA : SMMU_OP.TLBI_S2_IPA;
    this.smmu.batchRange(this.#batch, op, this.#tag, iova, size, granule, leaf ? 1 : 0);
    this.smmu.cmdq.batchSubmit(this.#batch);
  }
  /** @linux arm_smmu_tlb_inv_context */
  flushAll(): void {
    const op = this.stage === 1 ? SMMU_OP.TLBI_NH_ASID : SMMU_OP.TLBI_S12_VMALL;
    this.smmu.cmdq.issueWithSync(op, this.#tag, 0, 0);
  }
  override flushIotlbAll(): void {
    this.flushAll();
  }

  // Devices

  /**
   * ENODEV for a device that no unit serves, EINVAL when another unit does, ENOMEM without memory for its context
   * descriptor. @linux arm_smmu_attach_dev
   */
  override attachDev(dev: Device): Errno {
    const master = this.#masterOf(dev);
    if (master === null) return ENODEV;
    if (master.smmu !== this.smmu) return EINVAL;
    const { ias, oas, coherentWalk } = this.table.config;
    const common = { table: this.table.rootPhys, ias, oas, coherentWalk };
    if (this.stage === 1) {
      const error = master.allocContextTable();
      if (error !== OK) return error;
      makeS1Cd(this.#target, { ...common, asid: this.id });
      master.writeContext(this.#target);
      makeCdTableSte(this.#target, master.contextHandle, 0, 0);
      master.install(this.#target);
      return OK;
    }
    const tables = { ...common, vmid: this.id, startLevel: this.table.startLevel };
    makeS2Ste(this.#target, tables, this.smmu.can(Feature.ATTR_TYPES_OVR));
    master.install(this.#target);
    master.clearContext();
    return OK;
  }
  /** The next domain's entry takes the place of this one's; a device that is gone is blocked by the driver. */
  override detachDev(_dev: Device): void {}

  /** @linux arm_smmu_domain_free_paging */
  override free(): void {
    this.table.free();
    (this.stage === 1 ? this.smmu.asids : this.smmu.vmids).put(this.id);
  }
}

/** Every address is a physical one. @linux arm_smmu_identity_domain */
export class ArmSmmuIdentityDomain extends IommuDomain {
  readonly #masterOf: MasterOf;
  readonly #target = new Int32Array(ENTRY_WORDS);

  constructor(smmu: ArmSmmuDevice, masterOf: MasterOf) {
    super(smmu.kernel, 'identity', [], { apertureStart: 0, apertureEnd: 2 ** smmu.oas - 1, forceAperture: false });
    this.#masterOf = masterOf;
  }
  override mapPages(): number {
    return EINVAL;
  }
  override unmapPages(): number {
    return 0;
  }
  override iotlbSync(): void {}
  override flushIotlbAll(): void {}
  override iovaToPhys(iova: number): number {
    return iova;
  }
  /** @linux arm_smmu_attach_dev_identity */
  override attachDev(dev: Device): Errno {
    const master = this.#masterOf(dev);
    if (master === null) return ENODEV;
    makeBypassSte(this.#target, master.smmu.can(Feature.ATTR_TYPES_OVR));
    master.install(this.#target);
    master.clearContext();
    return OK;
  }
  override detachDev(): void {}
  override free(): void {}
}
