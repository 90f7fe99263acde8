/**
 * How an SMMU finds and understands a stream's configuration: stream-table entries (IHI 0070, 5.2) by way of a linear or
 * two-level table, and context descriptors (5.4), likewise.
 */
import { fromLoHi } from '../base/addr.ts';
import { type BusMaster, BusStatus } from '../machine/index.ts';
import { SMMU, SMMU_EVENT, SMMU_EVT } from '../regs/smmu-v3.ts';
import { GROUP_EL2, globalTagOf, stage2TagOf, tagOf } from './smmu-v3-cache.ts';
import { ADDRESS_BITS, type SmmuConfig } from './smmu-v3-config.ts';
import { type StreamConfig, StreamKind, type TableRegime } from './smmu-v3-stream.ts';
import { LEVEL_BYTES, Right, type SmmuWalker } from './smmu-v3-walk.ts';

const ENTRY_BYTES = 64;
/** Config fields of a stream-table entry, bits 2:0. */
const CONFIG_BYPASS = 4;
const TRANSLATES_STAGE1 = 1;
const TRANSLATES_STAGE2 = 2;
/** What becomes of accesses without substream where there are substreams. */
const S1DSS_BYPASS = 1;
const S1DSS_SUBSTREAM_0 = 2;
const STRW_EL2 = 2;
const PRIVCFG_PRIVILEGED = 3;
/** Addresses that 4 KiB granules translate have 25 to 48 bits: T0SZ. */
const T0SZ_MIN = 16;
const T0SZ_MAX = 39;
/** Tables of stage 2's first level may be up to 2^4 next to each other. */
const CONCATENATION_BITS = 4;
const GRANULE_4K = 0;
const STRTAB_BASE = SMMU.STRTAB_BASE.offset >>> 2;
const STRTAB_BASE_CFG = SMMU.STRTAB_BASE_CFG.offset >>> 2;
const { LOG2SIZE, SPLIT, FMT } = SMMU.STRTAB_BASE_CFG;
const { CD } = SMMU_EVENT.W3.CLASS.values;

/** See the file's head. Failures are left in the walker, as those of translations are. */
export class SmmuStructures {
  readonly #config: SmmuConfig;
  readonly #registers: Uint32Array;
  readonly #master: BusMaster;
  readonly #walker: SmmuWalker;
  readonly #bytes = new Uint8Array(ENTRY_BYTES);
  readonly #words = new Uint32Array(this.#bytes.buffer);

  constructor(config: SmmuConfig, registers: Uint32Array, master: BusMaster, walker: SmmuWalker) {
    this.#config = config;
    this.#registers = registers;
    this.#master = master;
    this.#walker = walker;
  }

  /**
   * Fetch and decode the entry of a stream into `stream`. False: it could not be fetched, and nothing is to be kept. One
   * that makes no sense is decoded as BAD.
   */
  load(stream: StreamConfig, sid: number, ssid: number): boolean {
    const at = this.#entryAddress(sid);
    if (at < 0) return false;
    if (!this.#fetch(at, ENTRY_BYTES, SMMU_EVT.F_STE_FETCH)) return false;
    stream.contextLoaded = false;
    stream.badEvent = 0;
    this.#decode(stream, ssid);
    stream.sid = sid;
    stream.ssid = ssid;
    return true;
  }

  #entryAddress(sid: number): number {
    const registers = this.#registers;
    const config = registers[STRTAB_BASE_CFG]!;
    const base = fromLoHi(registers[STRTAB_BASE]! & 0xffff_ffc0, registers[STRTAB_BASE + 1]! & 0xf_ffff);
    const bits = Math.min(LOG2SIZE.get(config), this.#config.streamIdBits);
    if (sid >= 2 ** bits) return this.#noEntry();
    const isTwoLevel = this.#config.twoLevelStreams && FMT.get(config) === FMT.values.TWO_LEVEL;
    if (!isTwoLevel) return base + sid * ENTRY_BYTES;
    const split = SPLIT.get(config);
    if (!this.#fetch(base + 8 * Math.floor(sid / 2 ** split), 8, SMMU_EVT.F_STE_FETCH)) return -1;
    const span = this.#words[0]! & 0x1f;
    const index = sid % 2 ** split;
    // A span of n stands for 2^(n - 1) entries.
    if (span === 0 || span - 1 > split || index >= 2 ** (span - 1)) return this.#noEntry();
    return fromLoHi(this.#words[0]! & 0xffff_ffc0, this.#words[1]! & 0xf_ffff) + index * ENTRY_BYTES;
  }
  #noEntry(): number {
    this.#fail(SMMU_EVT.C_BAD_STREAMID, 0);
    return -1;
  }

  #decode(stream: StreamConfig, ssid: number): void {
    const w = this.#words;
    const fields = (w[0]! >>> 1) & 7;
    stream.privileged = ((w[3]! >>> 16) & 3) === PRIVCFG_PRIVILEGED;
    const el2 = w[2]! >>> 30 === STRW_EL2;
    stream.group = el2 ? GROUP_EL2 : w[4]! & 0xffff;
    setMasks(stream);
    if ((w[0]! & 1) === 0) bad(stream, SMMU_EVT.C_BAD_STE);
    else if (fields < CONFIG_BYPASS) stream.kind = StreamKind.ABORT;
    else if (fields === CONFIG_BYPASS) stream.kind = StreamKind.BYPASS;
    else this.#decodeTranslation(stream, fields, ssid, el2);
  }

  #decodeTranslation(stream: StreamConfig, fields: number, ssid: number, el2: boolean): void {
    const w = this.#words;
    const config = this.#config;
    const stage1 = (fields & TRANSLATES_STAGE1) !== 0;
    const stage2 = (fields & TRANSLATES_STAGE2) !== 0;
    const world = w[2]! >>> 30;
    const badWorld = world !== 0 && (!el2 || stage2 || !config.hypervisor);
    if ((stage1 && !config.stage1) || (stage2 && !config.stage2) || badWorld) {
      bad(stream, SMMU_EVT.C_BAD_STE);
      return;
    }
    stream.kind = stage1 ? (stage2 ? StreamKind.NESTED : StreamKind.STAGE1) : StreamKind.STAGE2;
    if (stage2 && !this.#decodeStage2(stream.stage2)) bad(stream, SMMU_EVT.C_BAD_STE);
    if (stage1) this.#decodeStage1(stream, ssid);
    else {
      stream.tag = stage2TagOf(stream.group);
      stream.globalTag = stream.tag;
      stream.contextLoaded = true;
      if (ssid >= 0) bad(stream, SMMU_EVT.C_BAD_SUBSTREAMID);
    }
  }

  #decodeStage1(stream: StreamConfig, ssid: number): void {
    const w = this.#words;
    const { twoLevelContexts, substreamIdBits } = this.#config;
    stream.contextTable = fromLoHi(w[0]! & 0xffff_ffc0, w[1]! & 0xf_ffff);
    stream.contextBits = w[1]! >>> 27;
    stream.contextFormat = (w[0]! >>> 4) & 3;
    const badFormat =
      stream.contextBits > 0 && (stream.contextFormat === 3 || (stream.contextFormat > 0 && !twoLevelContexts));
    if (stream.contextBits > substreamIdBits || badFormat) {
      bad(stream, SMMU_EVT.C_BAD_STE);
      return;
    }
    if (stream.kind === StreamKind.BAD) return;
    if (ssid >= 0) {
      if (ssid >= 2 ** stream.contextBits || stream.contextBits === 0) bad(stream, SMMU_EVT.C_BAD_SUBSTREAMID);
      return;
    }
    if (stream.contextBits === 0) return;
    const without = w[2]! & 3;
    if (without === S1DSS_BYPASS) this.#bypassStage1(stream);
    else if (without !== S1DSS_SUBSTREAM_0) bad(stream, SMMU_EVT.F_STREAM_DISABLED);
  }
  #bypassStage1(stream: StreamConfig): void {
    stream.contextLoaded = true;
    stream.kind = stream.kind === StreamKind.NESTED ? StreamKind.STAGE2 : StreamKind.BYPASS;
    stream.tag = stage2TagOf(stream.group);
    stream.globalTag = stream.tag;
  }

  /** False when the entry's fields for stage 2 make no sense. */
  #decodeStage2(regime: TableRegime): boolean {
    const w = this.#words;
    const high = w[5]!;
    const t0sz = high & 0x3f;
    regime.table = fromLoHi(w[6]! & 0xffff_fff0, w[7]! & 0xf_ffff);
    regime.inputBits = 64 - t0sz;
    regime.outputBits = Math.min(ADDRESS_BITS[(high >>> 16) & 7]!, this.#config.addressBits);
    regime.startLevel = 2 - ((high >>> 6) & 3);
    regime.ignoreAccessFlag = (high & (1 << 21)) !== 0;
    regime.record = (high & (1 << 26)) !== 0;
    regime.hierarchical = false;
    const isAArch64 = (high & (1 << 19)) !== 0;
    const bigEndian = (high & (1 << 20)) !== 0;
    const stalls = (high & (1 << 25)) !== 0;
    if (!isAArch64 || bigEndian || stalls || ((high >>> 14) & 3) !== GRANULE_4K) return false;
    if (t0sz < T0SZ_MIN || t0sz > T0SZ_MAX || regime.startLevel < 0) return false;
    const indexBits = regime.inputBits - Math.log2(LEVEL_BYTES[regime.startLevel]!);
    if (indexBits < 1 || indexBits > 9 + CONCATENATION_BITS) return false;
    return regime.table < 2 ** this.#config.addressBits;
  }

  /**
   * Fetch and decode the context descriptor of a stream that needs one. False: it could not be fetched, or makes no
   * sense; what there is to report is in the walker.
   */
  loadContext(stream: StreamConfig): boolean {
    const index = Math.max(stream.ssid, 0);
    let at = stream.contextTable + index * ENTRY_BYTES;
    if (stream.contextBits > 0 && stream.contextFormat !== 0) {
      const leafBits = stream.contextFormat === 1 ? 6 : 10;
      const first = stream.contextTable + 8 * (index >>> leafBits);
      if (!this.#fetchContext(stream, first, 8)) return false;
      if ((this.#words[0]! & 1) === 0) return this.#fail(SMMU_EVT.C_BAD_SUBSTREAMID, 0);
      const leaf = fromLoHi(this.#words[0]! & 0xffff_f000, this.#words[1]! & 0xf_ffff);
      at = leaf + (index & (2 ** leafBits - 1)) * ENTRY_BYTES;
    }
    if (!this.#fetchContext(stream, at, ENTRY_BYTES)) return false;
    if (!this.#decodeContext(stream)) return this.#fail(SMMU_EVT.C_BAD_CD, 0);
    stream.contextLoaded = true;
    return true;
  }
  /** Where stage 2 translates as well, context descriptors are at intermediate addresses. */
  #fetchContext(stream: StreamConfig, addr: number, size: number): boolean {
    let at = addr;
    if (stream.kind === StreamKind.NESTED) {
      const walker = this.#walker;
      if (!walker.stage2(stream.stage2, addr, CD)) return false;
      at = walker.phys + (addr % walker.pageBytes);
    }
    return this.#fetch(at, size, SMMU_EVT.F_CD_FETCH);
  }

  /** False when it makes no sense. */
  #decodeContext(stream: StreamConfig): boolean {
    const w = this.#words;
    const low = w[0]!;
    const high = w[1]!;
    const regime = stream.stage1;
    const { addressBits } = this.#config;
    const t0sz = low & 0x3f;
    const walksDisabled = (low & (1 << 14)) !== 0;
    regime.table = fromLoHi(w[2]! & 0xffff_fff0, w[3]! & 0xf_ffff);
    // Where walks are disabled, no address has a translation.
    regime.inputBits = walksDisabled ? 0 : 64 - t0sz;
    regime.outputBits = Math.min(ADDRESS_BITS[high & 7]!, addressBits);
    regime.startLevel = t0sz <= 24 ? 0 : t0sz <= 33 ? 1 : 2;
    regime.ignoreAccessFlag = (high & (1 << 3)) !== 0;
    regime.record = (high & (1 << 13)) !== 0;
    regime.hierarchical = (w[2]! & 2) === 0;
    const asid = high >>> 16;
    stream.tag = tagOf(stream.group, asid);
    stream.globalTag = globalTagOf(stream.group);
    const isValid = low >>> 31 === 1;
    const bigEndian = (low & (1 << 15)) !== 0;
    const isAArch64 = (high & (1 << 9)) !== 0;
    const updatesFlags = (high & (3 << 10)) !== 0;
    const stalls = (high & (1 << 12)) !== 0;
    // TERM_MODEL: what is refused must be aborted.
    const aborts = (high & (1 << 14)) !== 0;
    if (!isValid || bigEndian || !isAArch64 || updatesFlags || stalls || !aborts) return false;
    if (walksDisabled) return true;
    if (((low >>> 6) & 3) !== GRANULE_4K || t0sz < T0SZ_MIN || t0sz > T0SZ_MAX) return false;
    return regime.table < 2 ** (stream.kind === StreamKind.NESTED ? 48 : addressBits);
  }

  #fetch(at: number, size: number, event: number): boolean {
    if (this.#master.read(at, this.#bytes, 0, size) === BusStatus.OK) return true;
    return this.#fail(event, at);
  }
  #fail(event: number, address: number): boolean {
    const walker = this.#walker;
    walker.event = event;
    walker.faultInStage2 = false;
    walker.faultClass = 0;
    walker.faultAddress = address;
    return false;
  }
}

function bad(stream: StreamConfig, event: number): void {
  stream.kind = StreamKind.BAD;
  stream.badEvent = event;
}
function setMasks(stream: StreamConfig): void {
  stream.readMask = Right.STAGE2_READ | (stream.privileged ? Right.PRIVILEGED_READ : Right.READ);
  stream.writeMask = Right.STAGE2_WRITE | (stream.privileged ? Right.PRIVILEGED_WRITE : Right.WRITE);
}
