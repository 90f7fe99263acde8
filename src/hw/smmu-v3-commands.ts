/**
 * The command queue of an SMMU: a ring of commands in memory that software fills and the unit works off in order, each
 * in its time (IHI 0070, 3.5 and 4). One that makes no sense stops the queue where it stands, until software has
 * acknowledged the error.
 */
import { fromLoHi, PAGE_SIZE } from '../base/addr.ts';
import { type BusMaster, BusStatus, type ModelHost, type ModelTimer } from '../machine/index.ts';
import { SMMU, SMMU_CMD_BYTES, SMMU_CMD_CFGI, SMMU_CMD_SYNC, SMMU_CMD_TLBI, SMMU_OP } from '../regs/smmu-v3.ts';
import { GROUP_EL2, globalTagOf, stage2TagOf, type TagCache, tagOf } from './smmu-v3-cache.ts';
import type { SmmuConfig } from './smmu-v3-config.ts';
import type { SmmuSignals } from './smmu-v3-events.ts';
import type { StreamCache } from './smmu-v3-stream.ts';

/** Commands fetched at once. */
const FETCH = 16;
const CR0ACK = SMMU.CR0ACK.offset >>> 2;
const CR2 = SMMU.CR2.offset >>> 2;
const BASE = SMMU.CMDQ_BASE.offset >>> 2;
const PROD = SMMU.CMDQ_PROD.offset >>> 2;
const CONS = SMMU.CMDQ_CONS.offset >>> 2;
const { ERR } = SMMU.CMDQ_CONS;
const { CERROR_NONE, CERROR_ILL, CERROR_ABT } = ERR.values;
const { CMDQ_ERR } = SMMU.GERROR;
const { CMDQEN } = SMMU.CR0;
const { SSV, SSID } = SMMU_CMD_CFGI.W0;
const { NUM, SCALE } = SMMU_CMD_TLBI.W0;
const { LEAF, TG } = SMMU_CMD_TLBI.W2;
const { CS } = SMMU_CMD_SYNC.W0;
/** CFGI_STE_RANGE of this range is CFGI_ALL. */
const RANGE_ALL = 31;

/** What commands act on. */
export interface SmmuCaches {
  readonly streams: StreamCache;
  /** Of 4 KiB, 2 MiB and 1 GiB. */
  readonly pages: readonly TagCache[];
  /** Tables of the last level. */
  readonly tables: TagCache;
}

/** See the file's head. */
export class SmmuCommands {
  readonly #config: SmmuConfig;
  readonly #words: Uint32Array;
  readonly #master: BusMaster;
  readonly #signals: SmmuSignals;
  readonly #caches: SmmuCaches;
  /** Pages and tables. */
  readonly #all: readonly TagCache[];
  readonly #timer: ModelTimer;
  readonly #bytes = new Uint8Array(FETCH * SMMU_CMD_BYTES);
  readonly #commands = new Uint32Array(this.#bytes.buffer);
  /** Commands that the timer stands for. */
  #batch = 0;
  /** Commands done, by number. */
  readonly executed = new Uint32Array(256);

  constructor(
    host: ModelHost,
    config: SmmuConfig,
    words: Uint32Array,
    master: BusMaster,
    signals: SmmuSignals,
    caches: SmmuCaches,
  ) {
    this.#config = config;
    this.#words = words;
    this.#master = master;
    this.#signals = signals;
    this.#caches = caches;
    this.#all = [...caches.pages, caches.tables];
    this.#timer = host.timer(() => this.#work());
  }

  /** Something has changed that may let the queue go on. */
  kick(): void {
    if (this.#timer.pending || !this.#mayRun()) return;
    const pending = this.#pending();
    if (pending === 0) return;
    this.#batch = pending < FETCH ? pending : FETCH;
    this.#timer.start(this.#config.fetchNs + this.#batch * this.#config.commandNs);
  }

  #mayRun(): boolean {
    return (this.#words[CR0ACK]! & CMDQEN.mask) !== 0 && !this.#signals.isActive(CMDQ_ERR.mask);
  }
  #sizeBits(): number {
    const bits = this.#words[BASE]! & 0x1f;
    return bits < this.#config.commandQueueBits ? bits : this.#config.commandQueueBits;
  }
  #pending(): number {
    const wrap = 2 << this.#sizeBits();
    return (this.#words[PROD]! - this.#words[CONS]!) & (wrap - 1);
  }

  #work(): void {
    const words = this.#words;
    if (!this.#mayRun()) return;
    const size = 1 << this.#sizeBits();
    const start = fromLoHi(words[BASE]! & 0xffff_ffe0, words[BASE + 1]! & 0xf_ffff);
    let left = Math.min(this.#batch, this.#pending());
    while (left > 0) {
      const cons = words[CONS]! & (2 * size - 1);
      const index = cons & (size - 1);
      const count = left < size - index ? left : size - index;
      if (this.#master.read(start + index * SMMU_CMD_BYTES, this.#bytes, 0, count * SMMU_CMD_BYTES) !== BusStatus.OK) {
        this.#stop(cons, CERROR_ABT);
        return;
      }
      for (let i = 0; i < count; i++) {
        const at = (cons + i) & (2 * size - 1);
        if (!this.#execute(4 * i)) {
          this.#stop(at, CERROR_ILL);
          return;
        }
        words[CONS] = (at + 1) & (2 * size - 1);
      }
      left -= count;
    }
    this.kick();
  }
  #stop(at: number, error: number): void {
    this.#words[CONS] = (at | ERR.prep(error)) >>> 0;
    this.#signals.error(CMDQ_ERR.mask);
  }
  /** Software has acknowledged global errors. */
  acknowledged(): void {
    if (!this.#signals.isActive(CMDQ_ERR.mask)) {
      this.#words[CONS] = ERR.put(this.#words[CONS]!, CERROR_NONE);
      this.kick();
    }
  }

  /** False: there is no such command. */
  #execute(at: number): boolean {
    const c = this.#commands;
    const op = c[at]! & 0xff;
    this.executed[op]!++;
    if (op >= SMMU_OP.TLBI_NH_ALL && op < SMMU_OP.ATC_INV) return this.#invalidate(op, at);
    switch (op) {
      case SMMU_OP.PREFETCH_CONFIG:
      case SMMU_OP.PREFETCH_ADDR:
        // A hint, which need not be taken.
        return true;
      case SMMU_OP.CFGI_STE: {
        const sid = c[at + 1]!;
        this.#caches.streams.dropStreams(sid, sid);
        return true;
      }
      case SMMU_OP.CFGI_STE_RANGE:
        this.#dropStreamRange(c[at + 1]!, SMMU_CMD_CFGI.W2.RANGE.get(c[at + 2]!));
        return true;
      case SMMU_OP.CFGI_CD:
        this.#caches.streams.dropContexts(c[at + 1]!, SSV.test(c[at]!) ? SSID.get(c[at]!) : 0);
        return this.#config.stage1;
      case SMMU_OP.CFGI_CD_ALL:
        this.#caches.streams.dropContexts(c[at + 1]!, -1);
        return this.#config.stage1;
      case SMMU_OP.SYNC:
        this.#sync(c[at]!, c[at + 1]!, c[at + 2]!, c[at + 3]!);
        return CS.get(c[at]!) !== 3;
      default:
        return false;
    }
  }

  #dropStreamRange(sid: number, range: number): void {
    if (range === RANGE_ALL) {
      this.#caches.streams.dropStreams(0, 0xffff_ffff);
      return;
    }
    const count = 2 ** (range + 1);
    const first = sid - (sid % count);
    this.#caches.streams.dropStreams(first, first + count - 1);
  }

  #sync(w0: number, data: number, lo: number, hi: number): void {
    // SEV wakes CPUs that wait for an event; nobody needs waking here.
    if (CS.get(w0) === CS.values.IRQ) this.#signals.sync(fromLoHi(lo & 0xffff_fffc, hi & 0xf_ffff), data);
  }

  #invalidate(op: number, at: number): boolean {
    const { stage1, stage2, hypervisor } = this.#config;
    const c = this.#commands;
    const vmid = stage2 ? c[at + 1]! & 0xffff : 0;
    const asid = c[at + 1]! >>> 16;
    const e2h = SMMU.CR2.E2H.test(this.#words[CR2]!);
    switch (op) {
      case SMMU_OP.TLBI_NSNH_ALL:
        for (const cache of this.#all) cache.dropWorld(false);
        return true;
      case SMMU_OP.TLBI_NH_ALL:
        for (const cache of this.#all) cache.dropStage1(vmid);
        return stage1;
      case SMMU_OP.TLBI_NH_ASID:
        for (const cache of this.#all) cache.dropTag(tagOf(vmid, asid));
        return stage1;
      case SMMU_OP.TLBI_NH_VA:
        this.#dropRange(at, tagOf(vmid, asid), globalTagOf(vmid), -1);
        return stage1;
      case SMMU_OP.TLBI_NH_VAA:
        this.#dropRange(at, -1, -1, vmid);
        return stage1;
      case SMMU_OP.TLBI_S12_VMALL:
        for (const cache of this.#all) cache.dropGroup(vmid);
        return stage2;
      case SMMU_OP.TLBI_S2_IPA:
        this.#dropRange(at, stage2TagOf(vmid), -1, -1);
        return stage2;
      case SMMU_OP.TLBI_EL2_ALL:
        for (const cache of this.#all) cache.dropWorld(true);
        return hypervisor;
      case SMMU_OP.TLBI_EL2_ASID:
        for (const cache of this.#all) cache.dropTag(tagOf(GROUP_EL2, asid));
        return hypervisor && e2h;
      case SMMU_OP.TLBI_EL2_VA:
        if (e2h) this.#dropRange(at, tagOf(GROUP_EL2, asid), globalTagOf(GROUP_EL2), -1);
        else this.#dropRange(at, -1, -1, GROUP_EL2);
        return hypervisor;
      case SMMU_OP.TLBI_EL2_VAA:
        this.#dropRange(at, -1, -1, GROUP_EL2);
        return hypervisor && e2h;
      default:
        return false;
    }
  }
  /** One page, or with TG a range. Pointers to tables go as well, unless LEAF says that tables have not changed. */
  #dropRange(at: number, tag: number, otherTag: number, group: number): void {
    const c = this.#commands;
    const w0 = c[at]!;
    const w2 = c[at + 2]!;
    const addr = fromLoHi(w2 & 0xffff_f000, c[at + 3]!);
    let size = PAGE_SIZE;
    if (this.#config.rangeInvalidation && TG.get(w2) === TG.values.KIB_4) {
      size = (NUM.get(w0) + 1) * 2 ** SCALE.get(w0) * PAGE_SIZE;
    }
    const { pages, tables } = this.#caches;
    for (let i = 0; i < pages.length; i++) pages[i]!.dropRange(addr, size, tag, otherTag, group);
    if ((w2 & LEAF.mask) === 0) tables.dropRange(addr, size, tag, otherTag, group);
  }
}
