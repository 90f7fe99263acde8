/**
 * How an SMMU reads translation tables of the VMSAv8-64 format with a granule of 4 KiB (Arm Architecture Reference
 * Manual, D8): stage 1, stage 2, and both, where the addresses in stage 1's tables are intermediate ones.
 */
import { alignDown, fromLoHi, offsetIn, PAGE_SIZE } from '../base/addr.ts';
import { type BusMaster, BusStatus } from '../machine/index.ts';
import { SMMU_EVENT, SMMU_EVT } from '../regs/smmu-v3.ts';
import { type StreamConfig, StreamKind, type TableRegime } from './smmu-v3-stream.ts';

/** Bytes that one entry of a table of level 0 to 3 stands for. */
export const LEVEL_BYTES: readonly number[] = [2 ** 39, 2 ** 30, 2 ** 21, PAGE_SIZE];

/** Rights of stage 1 for accesses without and with privilege, and of stage 2. */
export const Right = { READ: 1, WRITE: 2, PRIVILEGED_READ: 4, PRIVILEGED_WRITE: 8, STAGE2_READ: 16, STAGE2_WRITE: 32 };
const ALL_STAGE1 = 15;
const ALL_STAGE2 = 48;

// Descriptors, lower and upper half.
const VALID = 1;
/** A table, or on level 3 a page; without it a block. */
const TABLE_OR_PAGE = 2;
const AP_UNPRIVILEGED = 1 << 6;
const AP_READ_ONLY = 1 << 7;
const S2AP_READ = 1 << 6;
const S2AP_WRITE = 1 << 7;
const ACCESS_FLAG = 1 << 10;
const NOT_GLOBAL = 1 << 11;
const ADDRESS_LO = 0xffff_f000;
const ADDRESS_HI = 0xf_ffff;
const APTABLE_NO_UNPRIVILEGED = 1 << 29;
const APTABLE_READ_ONLY = 1 << 30;

const { TT, IN } = SMMU_EVENT.W3.CLASS.values;

/** See the file's head. */
export class SmmuWalker {
  // What a walk that succeeds found.
  /** Of the page's first byte. */
  phys = 0;
  pageBytes = 0;
  rights = 0;
  isGlobal = false;
  /** Intermediate address of the page's first byte, where both stages translate. */
  ipa = 0;
  /** The table that held a page of 4 KiB, and what the tables above it allow. */
  lastTable = 0;
  lastRights = 0;
  // Why one does not.
  event = 0;
  faultInStage2 = false;
  faultClass = 0;
  /** Intermediate address of a fault in stage 2, or where a fetch failed. */
  faultAddress = 0;
  readonly #master: BusMaster;
  readonly #bytes = new Uint8Array(8);
  readonly #words = new Uint32Array(this.#bytes.buffer);
  /** The leaf that `#descend` found. */
  #lo = 0;
  #hi = 0;
  #level = 0;
  #table = 0;
  #allowed = 0;

  constructor(master: BusMaster) {
    this.#master = master;
  }

  /** Translate an access of a stream, whose tables are to be used. */
  walk(stream: StreamConfig, addr: number): boolean {
    if (stream.kind === StreamKind.STAGE2) {
      if (!this.stage2(stream.stage2, addr, IN)) return false;
      this.rights |= ALL_STAGE1;
      this.isGlobal = false;
      this.ipa = 0;
      return true;
    }
    const nested = stream.kind === StreamKind.NESTED ? stream.stage2 : null;
    if (!this.#descend(stream.stage1, addr, addr, false, nested, IN)) return false;
    return this.#finishStage1(nested, addr);
  }
  /** The same from a table of the last level that is known; not where both stages translate. */
  walkFrom(stream: StreamConfig, table: number, allowed: number, addr: number): boolean {
    const inStage2 = stream.kind === StreamKind.STAGE2;
    const regime = inStage2 ? stream.stage2 : stream.stage1;
    this.#allowed = allowed;
    if (!this.#step(regime, addr, table, 3, inStage2, null, IN)) return false;
    if (!inStage2) return this.#finishStage1(null, addr);
    this.#finishStage2();
    this.rights |= ALL_STAGE1;
    this.isGlobal = false;
    this.ipa = 0;
    return true;
  }

  /** Translate an intermediate address. */
  stage2(regime: TableRegime, ipa: number, faultClass: number): boolean {
    if (!this.#descend(regime, ipa, ipa, true, null, faultClass)) return false;
    this.#finishStage2();
    if (faultClass === IN || (this.rights & Right.STAGE2_READ) !== 0) return true;
    return this.#fail(SMMU_EVT.F_PERMISSION, true, faultClass, ipa);
  }

  #finishStage2(): void {
    const lo = this.#lo;
    this.pageBytes = LEVEL_BYTES[this.#level]!;
    this.phys = this.#output(this.pageBytes);
    this.rights = 0;
    if ((lo & S2AP_READ) !== 0) this.rights |= Right.STAGE2_READ;
    if ((lo & S2AP_WRITE) !== 0) this.rights |= Right.STAGE2_WRITE;
    this.lastTable = this.#table;
    this.lastRights = ALL_STAGE1;
  }

  #finishStage1(nested: TableRegime | null, addr: number): boolean {
    const lo = this.#lo;
    let rights = Right.PRIVILEGED_READ | Right.PRIVILEGED_WRITE;
    if ((lo & AP_UNPRIVILEGED) !== 0) rights |= Right.READ | Right.WRITE;
    if ((lo & AP_READ_ONLY) !== 0) rights &= ~(Right.WRITE | Right.PRIVILEGED_WRITE);
    rights &= this.#allowed;
    const isGlobal = (lo & NOT_GLOBAL) === 0;
    const pageBytes = LEVEL_BYTES[this.#level]!;
    const output = this.#output(pageBytes);
    this.lastTable = this.#table;
    this.lastRights = this.#allowed;
    this.isGlobal = isGlobal;
    if (nested === null) {
      this.phys = output;
      this.pageBytes = pageBytes;
      this.rights = rights | ALL_STAGE2;
      this.ipa = 0;
      return true;
    }
    const ipa = output + (addr % pageBytes);
    if (!this.stage2(nested, ipa, IN)) return false;
    this.isGlobal = isGlobal;
    this.rights |= rights;
    // The smaller page of the two is what holds for all of it.
    if (pageBytes < this.pageBytes) {
      this.phys += alignDown(ipa % this.pageBytes, pageBytes);
      this.pageBytes = pageBytes;
    }
    this.ipa = alignDown(ipa, this.pageBytes);
    return true;
  }

  /** The output address of the leaf. */
  #output(pageBytes: number): number {
    return alignDown(fromLoHi(this.#lo & ADDRESS_LO, this.#hi & ADDRESS_HI), pageBytes);
  }

  /** Go down to the leaf for `addr`. */
  #descend(
    regime: TableRegime,
    addr: number,
    ipa: number,
    inStage2: boolean,
    nested: TableRegime | null,
    faultClass: number,
  ): boolean {
    if (addr >= 2 ** regime.inputBits) return this.#fail(SMMU_EVT.F_TRANSLATION, inStage2, faultClass, ipa);
    let table = regime.table;
    this.#allowed = ALL_STAGE1;
    for (let level = regime.startLevel; ; level++) {
      if (!this.#step(regime, addr, table, level, inStage2, nested, faultClass)) return false;
      if (this.#level < 4) return true;
      table = fromLoHi(this.#lo & ADDRESS_LO, this.#hi & ADDRESS_HI);
    }
  }

  /** Read the entry for `addr` in a table. True with `#level` below 4: it is the leaf; with 4: it leads to a table. */
  #step(
    regime: TableRegime,
    addr: number,
    table: number,
    level: number,
    inStage2: boolean,
    nested: TableRegime | null,
    faultClass: number,
  ): boolean {
    const entry = Math.floor(addr / LEVEL_BYTES[level]!);
    let at = table + 8 * (level === regime.startLevel ? entry : offsetIn(entry, 512));
    if (nested !== null) {
      const allowed = this.#allowed;
      if (!this.stage2(nested, at, TT)) return false;
      this.#allowed = allowed;
      at = this.phys + (at % this.pageBytes);
    }
    if (this.#master.read(at, this.#bytes, 0, 8) !== BusStatus.OK) {
      return this.#fail(SMMU_EVT.F_WALK_EABT, inStage2, TT, at);
    }
    const lo = this.#words[0]!;
    const hi = this.#words[1]!;
    this.#lo = lo;
    this.#hi = hi;
    const isTable = (lo & TABLE_OR_PAGE) !== 0;
    // Neither the first level's blocks nor the last level's exist.
    if ((lo & VALID) === 0 || (!isTable && (level === 0 || level === 3))) {
      return this.#fail(SMMU_EVT.F_TRANSLATION, inStage2, faultClass, addr);
    }
    if (fromLoHi(lo & ADDRESS_LO, hi & ADDRESS_HI) >= 2 ** regime.outputBits) {
      return this.#fail(SMMU_EVT.F_ADDR_SIZE, inStage2, faultClass, addr);
    }
    if (isTable && level < 3) {
      if (regime.hierarchical) this.#restrict(hi);
      this.#level = 4;
      return true;
    }
    this.#level = level;
    this.#table = table;
    if ((lo & ACCESS_FLAG) === 0 && !regime.ignoreAccessFlag) {
      return this.#fail(SMMU_EVT.F_ACCESS, inStage2, faultClass, addr);
    }
    return true;
  }
  #restrict(hi: number): void {
    if ((hi & APTABLE_NO_UNPRIVILEGED) !== 0) this.#allowed &= ~(Right.READ | Right.WRITE);
    if ((hi & APTABLE_READ_ONLY) !== 0) this.#allowed &= ~(Right.WRITE | Right.PRIVILEGED_WRITE);
  }

  #fail(event: number, inStage2: boolean, faultClass: number, address: number): boolean {
    this.event = event;
    this.faultInStage2 = inStage2;
    this.faultClass = faultClass;
    this.faultAddress = inStage2 || event === SMMU_EVT.F_WALK_EABT ? address : 0;
    return false;
  }
}
