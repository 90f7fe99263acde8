/**
 * Stream-table entries and context descriptors as the driver writes them (IHI 0070, 5.2 and 5.4): 64 bytes, of which the
 * SMMU may read 8 at any time. An entry in use is changed so that the SMMU sees the old one or the new one, and nothing
 * in between; where that cannot be it sees an invalid one.
 */
import { type DmaAddr, hi32, lo32 } from '../base/addr.ts';
import { LPAE_MAIR } from '../iommu/index.ts';
import type { Mem } from '../kernel/index.ts';

/** Words of an entry; quadword i is words 2i and 2i + 1. */
export const ENTRY_WORDS = 16;
/** @linux STRTAB_STE_DWORDS, CTXDESC_CD_DWORDS */
export const ENTRY_BYTES = 64;
const QUADWORDS = 8;

/** An entry of the stream table, or of a context table, that is being made up. @linux struct arm_smmu_ste, struct arm_smmu_cd */
export type EntryWords = Int32Array;

// Stream-table entries.
const STE_0_V = 1;
const STE_0_CFG_SHIFT = 1;
const STE_0_CFG_BYPASS = 4;
const STE_0_CFG_S1_TRANS = 5;
const STE_0_CFG_S2_TRANS = 6;
const STE_0_CFG = 7 << STE_0_CFG_SHIFT;
const STE_0_S1FMT_SHIFT = 4;
const STE_0_CTXPTR_LO = 0xffff_ffc0 | 0;
const STE_0_CTXPTR_HI = 0xf_ffff;
const STE_0_S1CDMAX_SHIFT = 27;
const STE_1_S1DSS_SSID0 = 2;
const S1C_CACHE_WBRA = 1;
const SH_ISH = 3;
/** Sharing as the access says. */
const STE_1_SHCFG_INCOMING_HI = 1 << 12;
const STE_2_S2AA64_HI = 1 << 19;
const STE_2_S2PTW_HI = 1 << 22;
const STE_2_S2R_HI = 1 << 26;
// Bits that matter, by kind of entry: S1DSS to S1CSH, MEV, S1STALLD, EATS, STRW; and SHCFG.
const STE_1_S1_USED = 0xff | (1 << 19) | (1 << 27) | (3 << 28) | (3 << 30);
const STE_1_S2_USED = (1 << 19) | (1 << 25) | (3 << 28);
const STE_1_SHCFG_HI = 3 << 12;
const STE_2_S2_USED_HI = 0x7_ffff | STE_2_S2AA64_HI | (1 << 20) | STE_2_S2PTW_HI | (1 << 25) | STE_2_S2R_HI;

// Context descriptors.
const CD_0_EPD0 = 1 << 14;
const CD_0_EPD1 = 1 << 30;
const CD_0_V = 1 << 31;
const CD_0_TTBR0_FIELDS = 0x3fff;
const CD_0_AA64_HI = 1 << 9;
const CD_0_R_HI = 1 << 13;
const CD_0_A_HI = 1 << 14;
const CD_0_ASET_HI = 1 << 15;
const CD_0_ASID_SHIFT_HI = 16;
/** Walks are cacheable and shared, or not cacheable. */
const TCR_WBWA = 1;
const TCR_SH_OS = 2;

/** Width of addresses as tables encode it. */
export function addressSizeCode(bits: number): number {
  return Math.max(0, [32, 36, 40, 42, 44, 48, 52].indexOf(bits));
}

/** Nothing passes. @linux arm_smmu_make_abort_ste */
export function makeAbortSte(target: EntryWords): void {
  target.fill(0);
  target[0] = STE_0_V;
}
/** Everything passes. @linux arm_smmu_make_bypass_ste */
export function makeBypassSte(target: EntryWords, overridesAttributes: boolean): void {
  target.fill(0);
  target[0] = STE_0_V | (STE_0_CFG_BYPASS << STE_0_CFG_SHIFT);
  if (overridesAttributes) target[3] = STE_1_SHCFG_INCOMING_HI;
}
/** Stage 1, with the context descriptors at `table`. @linux arm_smmu_make_cdtable_ste */
export function makeCdTableSte(target: EntryWords, table: DmaAddr, cdMax: number, format: number): void {
  target.fill(0);
  target[0] = STE_0_V | (STE_0_CFG_S1_TRANS << STE_0_CFG_SHIFT) | (format << STE_0_S1FMT_SHIFT) | lo32(table);
  target[1] = hi32(table) | (cdMax << STE_0_S1CDMAX_SHIFT);
  target[2] = STE_1_S1DSS_SSID0 | (S1C_CACHE_WBRA << 2) | (S1C_CACHE_WBRA << 4) | (SH_ISH << 6);
}
/** What an entry for stage 2 needs to know of the tables. */
export interface Stage2Tables {
  readonly table: number;
  readonly vmid: number;
  readonly ias: number;
  readonly oas: number;
  readonly startLevel: number;
  readonly coherentWalk: boolean;
}
/** @linux arm_smmu_make_s2_domain_ste */
export function makeS2Ste(target: EntryWords, tables: Stage2Tables, overridesAttributes: boolean): void {
  target.fill(0);
  target[0] = STE_0_V | (STE_0_CFG_S2_TRANS << STE_0_CFG_SHIFT);
  if (overridesAttributes) target[3] = STE_1_SHCFG_INCOMING_HI;
  const cache = tables.coherentWalk ? TCR_WBWA : 0;
  const shared = tables.coherentWalk ? SH_ISH : TCR_SH_OS;
  const vtcr =
    (64 - tables.ias) |
    ((2 - tables.startLevel) << 6) |
    (cache << 8) |
    (cache << 10) |
    (shared << 12) |
    (addressSizeCode(tables.oas) << 16);
  target[4] = tables.vmid;
  target[5] = vtcr | STE_2_S2AA64_HI | STE_2_S2PTW_HI | STE_2_S2R_HI;
  target[6] = lo32(tables.table);
  target[7] = hi32(tables.table);
}

/** What a context descriptor needs to know of the tables. */
export interface Stage1Tables {
  readonly table: number;
  readonly asid: number;
  readonly ias: number;
  readonly oas: number;
  readonly coherentWalk: boolean;
}
/** @linux arm_smmu_make_s1_cd */
export function makeS1Cd(target: EntryWords, tables: Stage1Tables): void {
  target.fill(0);
  const cache = tables.coherentWalk ? TCR_WBWA : 0;
  const shared = tables.coherentWalk ? SH_ISH : TCR_SH_OS;
  target[0] = (64 - tables.ias) | (cache << 8) | (cache << 10) | (shared << 12) | CD_0_EPD1 | CD_0_V;
  target[1] =
    addressSizeCode(tables.oas) |
    CD_0_AA64_HI |
    CD_0_R_HI |
    CD_0_A_HI |
    CD_0_ASET_HI |
    (tables.asid << CD_0_ASID_SHIFT_HI);
  target[2] = lo32(tables.table);
  target[3] = hi32(tables.table);
  target[6] = LPAE_MAIR | 0;
}

/** Which bits of an entry the SMMU looks at. */
export type UsedBits = (entry: EntryWords, used: EntryWords) => void;

/** @linux arm_smmu_get_ste_used */
export function steUsed(entry: EntryWords, used: EntryWords): void {
  used.fill(0);
  used[0] = STE_0_V;
  if ((entry[0]! & STE_0_V) === 0) return;
  const config = (entry[0]! & STE_0_CFG) >> STE_0_CFG_SHIFT;
  used[0] = STE_0_V | STE_0_CFG;
  const translates = config > STE_0_CFG_BYPASS;
  if (translates && (config & 1) !== 0) {
    used[0] |= (3 << STE_0_S1FMT_SHIFT) | STE_0_CTXPTR_LO;
    used[1] = STE_0_CTXPTR_HI | (0x1f << STE_0_S1CDMAX_SHIFT);
    used[2] = STE_1_S1_USED;
    used[4] = 0xffff;
  }
  if (translates && (config & 2) !== 0) {
    used[2]! |= STE_1_S2_USED;
    used[3] = STE_1_SHCFG_HI;
    used[4] = 0xffff;
    used[5] = STE_2_S2_USED_HI;
    used[6] = 0xffff_fff0 | 0;
    used[7] = 0xf_ffff;
  }
  if (config === STE_0_CFG_BYPASS) used[3] = STE_1_SHCFG_HI;
}
/** @linux arm_smmu_get_cd_used */
export function cdUsed(entry: EntryWords, used: EntryWords): void {
  used.fill(0);
  used[0] = CD_0_V;
  if ((entry[0]! & CD_0_V) === 0) return;
  used.fill(-1);
  // Without a lower half of the address space, what describes it does not matter.
  if ((entry[0]! & CD_0_EPD0) !== 0) {
    used[0] = ~CD_0_TTBR0_FIELDS;
    used[2] = 0;
    used[3] = 0;
  }
}

/** Changes entries. @linux struct arm_smmu_entry_writer */
export class EntryWriter {
  readonly #entry = new Int32Array(ENTRY_WORDS);
  readonly #currentUsed = new Int32Array(ENTRY_WORDS);
  readonly #targetUsed = new Int32Array(ENTRY_WORDS);
  /** The entry as it can be while the SMMU still follows the old one. */
  readonly #between = new Int32Array(ENTRY_WORDS);

  /**
   * Make the entry at `offset` of `mem` what `target` says. `sync` makes the SMMU read it again, and returns when it has.
   * @linux arm_smmu_write_entry
   */
  write(mem: Mem, offset: number, target: EntryWords, used: UsedBits, sync: () => void): void {
    const entry = this.#entry;
    for (let i = 0; i < ENTRY_WORDS; i++) entry[i] = mem.readU32(offset + 4 * i);
    const critical = this.#compare(target, used);
    const between = this.#between;
    const put = (from: EntryWords, first: number, count: number) => {
      if (this.#put(mem, offset, from, first, count)) sync();
    };
    if (critical === 0) put(target, 0, QUADWORDS);
    else if ((critical & (critical - 1)) === 0) {
      // One quadword decides: everything else before it, and what it made useless after it.
      const index = 31 - Math.clz32(critical);
      between[2 * index] = entry[2 * index]!;
      between[2 * index + 1] = entry[2 * index + 1]!;
      put(between, 0, QUADWORDS);
      put(target, index, 1);
      put(target, 0, QUADWORDS);
    } else {
      between[0] = 0;
      between[1] = 0;
      put(between, 0, 1);
      put(target, 1, QUADWORDS - 1);
      put(target, 0, 1);
    }
  }
  /** Which quadwords differ in bits that matter, as bits. */
  #compare(target: EntryWords, used: UsedBits): number {
    const entry = this.#entry;
    const currentUsed = this.#currentUsed;
    const targetUsed = this.#targetUsed;
    used(entry, currentUsed);
    used(target, targetUsed);
    let differing = 0;
    for (let i = 0; i < ENTRY_WORDS; i++) {
      const between = (entry[i]! & currentUsed[i]!) | (target[i]! & ~currentUsed[i]!);
      this.#between[i] = between;
      if ((between & targetUsed[i]!) !== target[i]!) differing |= 1 << (i >> 1);
    }
    return differing;
  }
  /** Store quadwords that differ, each at once. Returns whether any did. */
  #put(mem: Mem, offset: number, from: EntryWords, first: number, count: number): boolean {
    const entry = this.#entry;
    let changed = false;
    for (let i = 2 * first; i < 2 * (first + count); i += 2) {
      if (entry[i] === from[i] && entry[i + 1] === from[i + 1]) continue;
      entry[i] = from[i]!;
      entry[i + 1] = from[i + 1]!;
      mem.writeU32(offset + 4 * i, from[i]! >>> 0);
      mem.writeU32(offset + 4 * i + 4, from[i + 1]! >>> 0);
      changed = true;
    }
    return changed;
  }
}
