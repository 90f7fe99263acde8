/**
 * The walk of a VT-d unit through its tables in memory: root entry by bus, context entry by device and function, then
 * page tables of 3 or 4 levels (Architecture Specification, chapters 3 and 9). Entries are read as they are in memory
 * at that moment, through the unit's own connection to it.
 */
import { fromLoHi, offsetIn } from '../base/addr.ts';
import { type BusMaster, BusStatus } from '../machine/index.ts';
import { sagawOf, type VtdConfig } from './vtd-config.ts';

/** Fault reasons (7.3). 0: none. */
export const FaultReason = {
  NONE: 0x0,
  ROOT_NOT_PRESENT: 0x1,
  CONTEXT_NOT_PRESENT: 0x2,
  CONTEXT_INVALID: 0x3,
  BEYOND_WIDTH: 0x4,
  WRITE: 0x5,
  READ: 0x6,
  TABLE_ACCESS: 0x7,
  ROOT_ACCESS: 0x8,
  CONTEXT_ACCESS: 0x9,
  ROOT_RESERVED: 0xa,
  CONTEXT_RESERVED: 0xb,
  ENTRY_RESERVED: 0xc,
} as const;

/** What a context entry makes of its device's accesses. */
export const ContextKind = { ABSENT: 0, TRANSLATED: 1, PASS_THROUGH: 2 } as const;

/** Rights, as in bits 1:0 of a page-table entry. */
export const CAN_READ = 1;
export const CAN_WRITE = 2;
/** An entry of level 2 or 3 is itself the page. */
const PS = 1 << 7;
const SNP = 1 << 11;
const TM_HI = 1 << 30;
const ENTRY_BYTES = 8;
/** Bytes that an entry of a level spans. */
export const LEVEL_BYTES = [0, 2 ** 12, 2 ** 21, 2 ** 30, 2 ** 39] as const;

/** See the file's head. Results are in its fields, so that no walk makes garbage. */
export class VtdWalker {
  /** Of the last page walk: the page's physical address, its size, and the rights of the whole way to it. */
  phys = 0;
  pageBytes = 0;
  rights = 0;
  /** The table of the last level that it went through, or -1, and the rights of the way to that. */
  lastTable = -1;
  lastTableRights = 0;
  /** Of the last context. */
  domain = 0;
  kind: number = ContextKind.ABSENT;
  levels = 0;
  table = 0;
  silent = false;
  readonly #master: BusMaster;
  readonly #bytes = new Uint8Array(16);
  readonly #words = new Uint32Array(this.#bytes.buffer);
  /** Bits of an entry's upper word that lie above the physical address lines, up to bit 51. */
  readonly #reservedHigh: number;
  /** The same in root and context entries, where nothing above is ignored. */
  readonly #beyondHigh: number;
  readonly #sagaw: number;
  readonly #passThrough: boolean;
  readonly #domainLimit: number;
  readonly #superpages: number;
  readonly #reservedLeaf: number;

  constructor(config: VtdConfig, master: BusMaster) {
    this.#master = master;
    this.#reservedHigh = 0x000f_ffff & ~(2 ** (config.hostAddressBits - 32) - 1);
    this.#beyondHigh = this.#reservedHigh | 0xfff0_0000;
    this.#sagaw = sagawOf(config);
    this.#passThrough = config.passThrough;
    this.#domainLimit = 2 ** config.domainIdBits;
    this.#superpages = config.superpages;
    this.#reservedLeaf = config.snoopControl ? 0 : SNP;
  }

  /** Find the context entry of a source. Returns the reason why there is none. */
  context(rootTable: number, source: number): number {
    const words = this.#words;
    this.silent = false;
    this.kind = ContextKind.ABSENT;
    this.domain = 0;
    const bus = source >>> 8;
    if (this.#master.read(rootTable + bus * 16, this.#bytes, 0, 16) !== BusStatus.OK) return FaultReason.ROOT_ACCESS;
    if ((words[0]! & 1) === 0) return FaultReason.ROOT_NOT_PRESENT;
    if ((words[0]! & 0xffe) !== 0 || (words[1]! & this.#beyondHigh) !== 0 || words[2] !== 0 || words[3] !== 0) {
      return FaultReason.ROOT_RESERVED;
    }
    const contexts = fromLoHi(words[0]! & 0xffff_f000, words[1]!);
    if (this.#master.read(contexts + (source & 0xff) * 16, this.#bytes, 0, 16) !== BusStatus.OK) {
      return FaultReason.CONTEXT_ACCESS;
    }
    return this.#decodeContext(words[0]!, words[1]!, words[2]!, words[3]!);
  }

  #decodeContext(w0: number, w1: number, w2: number, w3: number): number {
    this.silent = (w0 & 2) !== 0;
    if ((w0 & 1) === 0) return FaultReason.CONTEXT_NOT_PRESENT;
    const domain = (w2 >>> 8) & 0xffff;
    const reserved = (w0 & 0xff0) | (w1 & this.#beyondHigh) | (w2 & 0xff00_0080) | w3;
    if (reserved !== 0 || domain >= this.#domainLimit) return FaultReason.CONTEXT_RESERVED;
    const type = (w0 >>> 2) & 3;
    const width = w2 & 7;
    if (type === 2) {
      // A pass-through entry must ask for the widest tables that there are.
      if (!this.#passThrough || 1 << (width + 1) <= this.#sagaw) return FaultReason.CONTEXT_INVALID;
    } else if (type !== 0) return FaultReason.CONTEXT_INVALID;
    if (((this.#sagaw >>> width) & 1) === 0) return FaultReason.CONTEXT_INVALID;
    this.domain = domain;
    this.kind = type === 2 ? ContextKind.PASS_THROUGH : ContextKind.TRANSLATED;
    this.levels = width + 2;
    this.table = fromLoHi(w0 & 0xffff_f000, w1);
    return FaultReason.NONE;
  }

  /**
   * Walk from `table`, of level `level`, to the page of `addr`; `rights` are those of the way up to there. Returns the
   * reason why an access of the kind fails.
   */
  page(table: number, level: number, rights: number, addr: number, isWrite: boolean): number {
    const words = this.#words;
    const needed = isWrite ? CAN_WRITE : CAN_READ;
    const refused = isWrite ? FaultReason.WRITE : FaultReason.READ;
    this.lastTable = -1;
    this.rights = rights;
    for (let at = level, entries = table; ; at--) {
      if (at === 1) {
        this.lastTable = entries;
        this.lastTableRights = this.rights;
      }
      const span = LEVEL_BYTES[at]!;
      const entry = entries + offsetIn(Math.floor(addr / span), 512) * ENTRY_BYTES;
      if (this.#master.read(entry, this.#bytes, 0, ENTRY_BYTES) !== BusStatus.OK) return FaultReason.TABLE_ACCESS;
      const lo = words[0]!;
      const hi = words[1]!;
      if ((lo & (CAN_READ | CAN_WRITE)) === 0) {
        this.rights = 0;
        return refused;
      }
      const isPage = at === 1 || (lo & PS) !== 0;
      if (this.#hasReserved(lo, hi, at, isPage)) return FaultReason.ENTRY_RESERVED;
      this.rights &= lo;
      if ((this.rights & needed) === 0) return refused;
      const phys = fromLoHi(lo & 0xffff_f000, hi & 0x000f_ffff);
      if (isPage) {
        this.phys = phys;
        this.pageBytes = span;
        return FaultReason.NONE;
      }
      entries = phys;
    }
  }

  #hasReserved(lo: number, hi: number, level: number, isPage: boolean): boolean {
    if ((hi & (this.#reservedHigh | TM_HI)) !== 0) return true;
    if (!isPage) return false;
    if ((lo & this.#reservedLeaf) !== 0) return true;
    if (level === 1) return false;
    // A large page: of a size that there is, and aligned to it.
    return level - 1 > this.#superpages || (lo & (LEVEL_BYTES[level]! - 1) & 0xffff_f000) !== 0;
  }
}
