/** The stream table: an entry for each stream id, in one table or in two levels whose second is made when it is needed. */
import { type DmaAddr, hi32, lo32 } from '../base/addr.ts';
import { ENOMEM, type Errno, OK } from '../base/errno.ts';
import {
  type Device,
  devErr,
  devWarn,
  dmaWmb,
  GFP_KERNEL,
  type IoMem,
  type Mem,
  writelRelaxed,
} from '../kernel/index.ts';
import { dmaAllocCoherent, dmaFreeCoherent } from '../mapping/index.ts';
import { SMMU } from '../regs/smmu-v3.ts';
import { ENTRY_BYTES, ENTRY_WORDS, type EntryWords } from './arm-smmu-v3-entry.ts';

/** Stream ids of a table of the second level, as a power of two: a PCI bus. */
const STRTAB_SPLIT = 8;
const L2_ENTRIES = 2 ** STRTAB_SPLIT;
const MAX_L1_ENTRIES = 2 ** 17;
const L1_ENTRY_BYTES = 8;
const { LINEAR, TWO_LEVEL } = SMMU.STRTAB_BASE_CFG.FMT.values;

/** Memory that the SMMU reads. */
export interface SharedMemory {
  readonly mem: Mem;
  readonly handle: DmaAddr;
}

/** @linux struct arm_smmu_strtab_cfg */
export class StreamTable {
  readonly #dev: Device;
  readonly #top: SharedMemory;
  /** Tables of the second level; null where there is none. Linear tables have no second level. */
  readonly #second: (SharedMemory | null)[] | null;
  /** What entries begin as. */
  readonly #initial: EntryWords;
  readonly #config: number;

  /** Null, with a message, without memory. @linux arm_smmu_init_strtab */
  static make(dev: Device, sidBits: number, twoLevels: boolean, initial: EntryWords): StreamTable | null {
    const { FMT, LOG2SIZE, SPLIT } = SMMU.STRTAB_BASE_CFG;
    let config = FMT.prep(LINEAR) | LOG2SIZE.prep(sidBits);
    let bytes = ENTRY_BYTES * 2 ** sidBits;
    let l1Entries = 0;
    if (twoLevels) {
      l1Entries = Math.min(2 ** Math.max(sidBits - STRTAB_SPLIT, 0), MAX_L1_ENTRIES);
      const covered = Math.log2(l1Entries) + STRTAB_SPLIT;
      if (covered < sidBits) devWarn(dev, `2-level strtab only covers ${covered}/${sidBits} bits of SID`);
      config = FMT.prep(TWO_LEVEL) | LOG2SIZE.prep(covered) | SPLIT.prep(STRTAB_SPLIT);
      bytes = l1Entries * L1_ENTRY_BYTES;
    }
    const top = dmaAllocCoherent(dev, bytes, GFP_KERNEL);
    if (top !== null) return new StreamTable(dev, top, l1Entries, initial, config);
    devErr(dev, `failed to allocate ${twoLevels ? 'l1' : 'linear'} stream table (${bytes} bytes)`);
    return null;
  }
  private constructor(dev: Device, top: SharedMemory, l1Entries: number, initial: EntryWords, config: number) {
    this.#dev = dev;
    this.#top = top;
    this.#initial = initial;
    this.#config = config;
    this.#second = l1Entries > 0 ? new Array<SharedMemory | null>(l1Entries).fill(null) : null;
    if (this.#second === null) this.#initEntries(top.mem);
  }
  #initEntries(mem: Mem): void {
    for (let at = 0; at < mem.size; at += ENTRY_BYTES) {
      for (let i = 0; i < ENTRY_WORDS; i++) mem.writeU32(at + 4 * i, this.#initial[i]! >>> 0);
    }
    dmaWmb(this.#dev.kernel);
  }

  /** Tell the SMMU where it is. */
  install(io: IoMem): void {
    writelRelaxed(lo32(this.#top.handle), io, SMMU.STRTAB_BASE.offset);
    writelRelaxed((hi32(this.#top.handle) | SMMU.STRTAB_BASE_HI.RA.mask) >>> 0, io, SMMU.STRTAB_BASE_HI.offset);
    writelRelaxed(this.#config, io, SMMU.STRTAB_BASE_CFG.offset);
  }

  /** Whether there can be an entry for the stream. @linux arm_smmu_sid_in_range */
  has(sid: number): boolean {
    if (this.#second !== null) return sid < this.#second.length * L2_ENTRIES;
    return sid < this.#top.mem.size / ENTRY_BYTES;
  }
  /** Make sure that there is an entry for the stream. ENOMEM. @linux arm_smmu_init_sid_strtab, arm_smmu_init_l2_strtab */
  prepare(sid: number): Errno {
    const second = this.#second;
    const index = Math.floor(sid / L2_ENTRIES);
    if (second === null || second[index] !== null) return OK;
    const table = dmaAllocCoherent(this.#dev, L2_ENTRIES * ENTRY_BYTES, GFP_KERNEL);
    if (table === null) {
      devErr(this.#dev, `failed to allocate l2 stream table for SID ${sid}`);
      return ENOMEM;
    }
    this.#initEntries(table.mem);
    second[index] = table;
    const { mem } = this.#top;
    mem.writeU32(L1_ENTRY_BYTES * index + 4, hi32(table.handle));
    // The span: 2^(n - 1) entries.
    mem.writeU32(L1_ENTRY_BYTES * index, (lo32(table.handle) | (STRTAB_SPLIT + 1)) >>> 0);
    dmaWmb(this.#dev.kernel);
    return OK;
  }
  /** The memory in which the entry of a prepared stream lies. @linux arm_smmu_get_step_for_sid */
  memOf(sid: number): Mem {
    return this.#second === null ? this.#top.mem : this.#second[Math.floor(sid / L2_ENTRIES)]!.mem;
  }
  /** And where in it. */
  offsetOf(sid: number): number {
    return ENTRY_BYTES * (this.#second === null ? sid : sid % L2_ENTRIES);
  }

  free(): void {
    for (const table of [this.#top, ...(this.#second ?? [])]) {
      if (table !== null) dmaFreeCoherent(this.#dev, table.mem.size, table.mem, table.handle);
    }
  }
}
