/** One SMMUv3 as its driver sees it: what it can do, its reset sequence, and the commands that other parts need. */
import { hi32, lo32 } from '../base/addr.ts';
import { ENXIO, type Errno, OK } from '../base/errno.ts';
import {
  type Device,
  devErr,
  devInfo,
  devWarn,
  type IoMem,
  type Kernel,
  readl,
  readlPollTimeout,
  readlRelaxed,
  writelRelaxed,
} from '../kernel/index.ts';
import { SMMU, SMMU_CMD_TLBI, SMMU_OP } from '../regs/smmu-v3.ts';
import {
  CMDQ_BATCH_ENTRIES,
  SMMU_POLL_TIMEOUT_US,
  type SmmuBatch,
  type SmmuCmdq,
  type SmmuEvtq,
} from './arm-smmu-v3-queue.ts';
import type { StreamTable } from './arm-smmu-v3-strtab.ts';

const R = SMMU;
/** Features, as the kernel numbers them in its messages. @linux ARM_SMMU_FEAT_2_LVL_STRTAB */
export const Feature = {
  TWO_LEVEL_STRTAB: 1 << 0,
  TWO_LEVEL_CDTAB: 1 << 1,
  TT_LE: 1 << 2,
  SEV: 1 << 6,
  MSI: 1 << 7,
  COHERENCY: 1 << 8,
  TRANS_S1: 1 << 9,
  TRANS_S2: 1 << 10,
  HYP: 1 << 12,
  RANGE_INV: 1 << 15,
  NESTING: 1 << 19,
  ATTR_TYPES_OVR: 1 << 20,
} as const;

const OAS_BITS = [32, 36, 40, 42, 44, 48, 52] as const;
/** Addresses of the kernel's own tables have so many bits. @linux VA_BITS */
export const VA_BITS = 48;
/** Cacheability of CR1: write-back. */
const CR1_CACHE_WB = 1;
const SH_ISH = 3;
/** A CFGI_STE_RANGE of everything. */
const CFGI_ALL_RANGE = 31;
const { NUM, SCALE } = SMMU_CMD_TLBI.W0;
const { TG, TTL } = SMMU_CMD_TLBI.W2;
/** Granules of a range: at most 32 times a power of two. */
const RANGE_NUM_MAX = 31;
const GRANULE_SHIFT = 12;

/** Numbers from 1 on, each given out once. */
class NumberPool {
  readonly #limit: number;
  readonly #free: number[] = [];
  #next = 1;
  constructor(bits: number) {
    this.#limit = 2 ** bits;
  }
  /** -1 when there are none left. */
  take(): number {
    return this.#free.pop() ?? (this.#next < this.#limit ? this.#next++ : -1);
  }
  put(number: number): void {
    this.#free.push(number);
  }
}

/** @linux struct arm_smmu_device */
export class ArmSmmuDevice {
  readonly dev: Device;
  readonly kernel: Kernel;
  readonly io: IoMem;
  readonly page1: IoMem;
  features = 0;
  sidBits = 0;
  commandBits = 0;
  eventBits = 0;
  /** Of intermediate addresses, and of physical ones. */
  ias = 0;
  oas = 0;
  asids = new NumberPool(0);
  vmids = new NumberPool(0);
  // Made by `probe`, before anything else uses the device.
  cmdq!: SmmuCmdq;
  evtq!: SmmuEvtq;
  strtab!: StreamTable;

  constructor(dev: Device, io: IoMem, page1: IoMem) {
    this.dev = dev;
    this.kernel = dev.kernel;
    this.io = io;
    this.page1 = page1;
  }
  /** Whether it has a feature. */
  can(feature: number): boolean {
    return (this.features & feature) !== 0;
  }
  /** It writes over a CMD_SYNC in memory when it is complete. @linux ARM_SMMU_OPT_MSIPOLL */
  get msiPoll(): boolean {
    return this.can(Feature.MSI) && this.can(Feature.COHERENCY);
  }

  // What it can do

  /** ENXIO for a unit that this driver cannot use. @linux arm_smmu_device_hw_probe */
  readFeatures(treeSaysCoherent: boolean): Errno {
    const error = this.#readIdr0(treeSaysCoherent);
    if (error !== OK) return error;
    const idr1 = readlRelaxed(this.io, R.IDR1.offset);
    if (R.IDR1.TABLES_PRESET.test(idr1) || R.IDR1.QUEUES_PRESET.test(idr1) || R.IDR1.REL.test(idr1)) {
      devErr(this.dev, 'embedded implementation not supported');
      return ENXIO;
    }
    if (R.IDR1.ATTR_TYPES_OVR.test(idr1)) this.features |= Feature.ATTR_TYPES_OVR;
    this.commandBits = R.IDR1.CMDQS.get(idr1);
    if (2 ** this.commandBits <= CMDQ_BATCH_ENTRIES) {
      // A batch and its CMD_SYNC must fit.
      devErr(this.dev, `command queue size <= ${CMDQ_BATCH_ENTRIES} entries not supported`);
      return ENXIO;
    }
    this.eventBits = R.IDR1.EVENTQS.get(idr1);
    this.sidBits = R.IDR1.SIDSIZE.get(idr1);
    // A two-level table that one second level covers is no more than that.
    if (this.sidBits <= 8) this.features &= ~Feature.TWO_LEVEL_STRTAB;
    if (R.IDR3.RIL.test(readlRelaxed(this.io, R.IDR3.offset))) this.features |= Feature.RANGE_INV;
    const idr5 = readlRelaxed(this.io, R.IDR5.offset);
    if (!R.IDR5.GRAN4K.test(idr5)) {
      devErr(this.dev, 'no granule of 4 KiB');
      return ENXIO;
    }
    const oas = OAS_BITS[R.IDR5.OAS.get(idr5)];
    if (oas === undefined) devInfo(this.dev, 'unknown output address size. Truncating to 48-bit');
    this.oas = Math.min(oas ?? 48, 48);
    this.ias = Math.max(this.ias, this.oas);
    if (this.can(Feature.TRANS_S1) && this.can(Feature.TRANS_S2)) this.features |= Feature.NESTING;
    const features = `0x${this.features.toString(16).padStart(8, '0')}`;
    devInfo(this.dev, `ias ${this.ias}-bit, oas ${this.oas}-bit (features ${features})`);
    return OK;
  }

  #readIdr0(treeSaysCoherent: boolean): Errno {
    const { IDR0 } = R;
    const idr0 = readlRelaxed(this.io, IDR0.offset);
    const note = (condition: boolean, feature: number) => {
      if (condition) this.features |= feature;
    };
    note(IDR0.ST_LEVEL.get(idr0) === IDR0.ST_LEVEL.values.TWO_LEVEL, Feature.TWO_LEVEL_STRTAB);
    note(IDR0.CD2L.test(idr0), Feature.TWO_LEVEL_CDTAB);
    const endian = IDR0.TTENDIAN.get(idr0);
    if (endian !== IDR0.TTENDIAN.values.LITTLE && endian !== IDR0.TTENDIAN.values.MIXED) {
      devErr(this.dev, 'unknown/unsupported TT endianness!');
      return ENXIO;
    }
    note(true, Feature.TT_LE);
    note(IDR0.SEV.test(idr0), Feature.SEV);
    note(IDR0.MSI.test(idr0), Feature.MSI);
    note(IDR0.HYP.test(idr0), Feature.HYP);
    // What the tree says of coherence holds: the register may not know how the unit is built in.
    const registerSays = IDR0.COHACC.test(idr0);
    if (registerSays !== treeSaysCoherent) {
      devWarn(this.dev, `IDR0.COHACC overridden by FW configuration (${treeSaysCoherent})`);
    }
    note(treeSaysCoherent, Feature.COHERENCY);
    note(IDR0.S1P.test(idr0), Feature.TRANS_S1);
    note(IDR0.S2P.test(idr0), Feature.TRANS_S2);
    if (!this.can(Feature.TRANS_S1 | Feature.TRANS_S2)) {
      devErr(this.dev, 'no translation support!');
      return ENXIO;
    }
    const format = IDR0.TTF.get(idr0);
    if (format === IDR0.TTF.values.BOTH) this.ias = 40;
    else if (format !== IDR0.TTF.values.AARCH64) {
      devErr(this.dev, 'AArch64 table format not supported!');
      return ENXIO;
    }
    this.asids = new NumberPool(IDR0.ASID16.test(idr0) ? 16 : 8);
    this.vmids = new NumberPool(IDR0.VMID16.test(idr0) ? 16 : 8);
    return OK;
  }

  // Switching on and off

  /** Write a control register, and wait until it has taken effect. ETIMEDOUT. @linux arm_smmu_write_reg_sync */
  async writeAndWait(value: number, offset: number, ackOffset: number): Promise<Errno> {
    writelRelaxed(value, this.io, offset);
    return readlPollTimeout(this.io, ackOffset, (held) => held === value, 1, SMMU_POLL_TIMEOUT_US);
  }
  /** What becomes of accesses while the unit is off. ETIMEDOUT. @linux arm_smmu_update_gbpa */
  async updateGbpa(set: number, clear: number): Promise<Errno> {
    const { GBPA } = R;
    const idle = (value: number) => !GBPA.UPDATE.test(value);
    let error = await readlPollTimeout(this.io, GBPA.offset, idle, 0, SMMU_POLL_TIMEOUT_US);
    if (error !== OK) return error;
    const value = ((readlRelaxed(this.io, GBPA.offset) & ~clear) | set | GBPA.UPDATE.mask) >>> 0;
    writelRelaxed(value, this.io, GBPA.offset);
    error = await readlPollTimeout(this.io, GBPA.offset, idle, 0, SMMU_POLL_TIMEOUT_US);
    if (error !== OK) devErr(this.dev, 'GBPA not responding to update');
    return error;
  }
  /** @linux arm_smmu_device_disable */
  async disable(): Promise<Errno> {
    const error = await this.writeAndWait(0, R.CR0.offset, R.CR0ACK.offset);
    if (error !== OK) devErr(this.dev, 'failed to clear cr0');
    return error;
  }

  /**
   * Bring the unit to a known state and switch it on; `setupInterrupts` is called before translation begins.
   * @linux arm_smmu_device_reset
   */
  async reset(setupInterrupts: () => Promise<Errno>): Promise<Errno> {
    const { SMMUEN, CMDQEN, EVENTQEN } = R.CR0;
    if (SMMUEN.test(readlRelaxed(this.io, R.CR0.offset))) {
      devWarn(this.dev, 'SMMU currently enabled! Resetting...');
      await this.updateGbpa(R.GBPA.ABORT.mask, 0);
    }
    let error = await this.disable();
    if (error !== OK) return error;
    const { CR1, CR2 } = R;
    writelRelaxed(
      CR1.TABLE_SH.prep(SH_ISH) |
        CR1.TABLE_OC.prep(CR1_CACHE_WB) |
        CR1.TABLE_IC.prep(CR1_CACHE_WB) |
        CR1.QUEUE_SH.prep(SH_ISH) |
        CR1.QUEUE_OC.prep(CR1_CACHE_WB) |
        CR1.QUEUE_IC.prep(CR1_CACHE_WB),
      this.io,
      CR1.offset,
    );
    writelRelaxed(CR2.PTM.mask | CR2.RECINVSID.mask, this.io, CR2.offset);
    this.strtab.install(this.io);
    this.cmdq.install();
    let enables: number = CMDQEN.mask;
    error = await this.#enable(enables, 'failed to enable command queue');
    if (error !== OK) return error;
    this.invalidateEverything();
    this.evtq.install();
    enables |= EVENTQEN.mask;
    error = await this.#enable(enables, 'failed to enable event queue');
    if (error !== OK) return error;
    error = await setupInterrupts();
    if (error !== OK) {
      devErr(this.dev, 'failed to setup irqs');
      return error;
    }
    return this.#enable(enables | SMMUEN.mask, 'failed to enable SMMU interface');
  }
  async #enable(bits: number, message: string): Promise<Errno> {
    const error = await this.writeAndWait(bits, R.CR0.offset, R.CR0ACK.offset);
    if (error !== OK) devErr(this.dev, message);
    return error;
  }

  // Commands

  /** Whatever the unit remembers from before. */
  invalidateEverything(): void {
    this.cmdq.issueWithSync(SMMU_OP.CFGI_STE_RANGE, 0, CFGI_ALL_RANGE, 0);
    if (this.can(Feature.HYP)) this.cmdq.issueWithSync(SMMU_OP.TLBI_EL2_ALL, 0, 0, 0);
    this.cmdq.issueWithSync(SMMU_OP.TLBI_NSNH_ALL, 0, 0, 0);
  }
  /** Make the unit read a stream's entry again. @linux arm_smmu_sync_ste_for_sid */
  syncSte(sid: number): void {
    this.cmdq.issueWithSync(SMMU_OP.CFGI_STE, sid, 1, 0);
  }
  /** The same for its context descriptor. @linux arm_smmu_sync_cd */
  syncCd(sid: number): void {
    this.cmdq.issueWithSync(SMMU_OP.CFGI_CD, sid, 1, 0);
  }

  /**
   * Add to a batch what makes the unit forget [iova, iova+size), pages of `granule`; `tag` is VMID and ASID in place.
   * @linux __arm_smmu_tlb_inv_range
   */
  batchRange(
    batch: SmmuBatch,
    op: number,
    tag: number,
    iova: number,
    size: number,
    granule: number,
    leaf: number,
  ): void {
    if (!this.can(Feature.RANGE_INV)) {
      for (let at = iova; at < iova + size; at += granule) {
        this.cmdq.batchAdd(batch, op, tag, lo32(at) | leaf, hi32(at));
      }
      return;
    }
    let pages = size / 2 ** GRANULE_SHIFT;
    // Leaves of one size are all on one level.
    const level = leaf === 0 ? 0 : granule === 2 ** 12 ? 3 : granule === 2 ** 21 ? 2 : 1;
    const fixed = leaf | (TG.values.KIB_4 << TG.shift) | (level << TTL.shift);
    for (let at = iova; pages > 0; ) {
      // Lower bits first: what is left is then a multiple of a larger power of two.
      const scale = trailingZeros(pages);
      const num = (pages / 2 ** scale) % (RANGE_NUM_MAX + 1);
      const w0 = op | ((num - 1) << NUM.shift) | (scale << SCALE.shift);
      this.cmdq.batchAdd(batch, w0, tag, lo32(at) | fixed, hi32(at));
      const span = num * 2 ** scale;
      at += span * 2 ** GRANULE_SHIFT;
      pages -= span;
    }
  }

  /** Whether nothing answers at the registers. */
  get isAbsent(): boolean {
    return readl(this.io, R.IDR0.offset) === 0xffff_ffff && readl(this.io, R.IDR1.offset) === 0xffff_ffff;
  }
}

/** Of a number above 0, which may exceed 32 bits. */
function trailingZeros(n: number): number {
  const low = n % 2 ** 32;
  if (low !== 0) return 31 - Math.clz32(low & -low);
  return 32 + trailingZeros(n / 2 ** 32);
}
