/**
 * Model of an Arm SMMUv3 (IHI 0070): an IOMMU that finds each stream's configuration in a stream table and translates in
 * one or two stages. This is what the bus and the CPU see of it: translation of accesses, and registers. Configurations
 * and tables are read from memory (smmu-v3-structures.ts, smmu-v3-walk.ts), what was found is remembered until it is
 * invalidated (smmu-v3-stream.ts, smmu-v3-cache.ts, smmu-v3-commands.ts), and what is refused is reported
 * (smmu-v3-events.ts). Registers are words; other widths see the word's bytes when reading, and are ignored when
 * writing.
 *
 * Not built: stalling faults, hardware update of access flags, ATS and PRI, big-endian and AArch32 tables, granules other
 * than 4 KiB.
 */
import { addrAdd, offsetIn, offsetInPage, PAGE_SIZE } from '../base/addr.ts';
import {
  BusStatus,
  type ModelHost,
  type ModelTimer,
  type RegisterBlock,
  type Translation,
  type Translator,
} from '../machine/index.ts';
import { resetWords } from '../regs/register-map.ts';
import { SMMU, SMMU_EVT, SMMU_PAGE_BYTES, SMMU_PAGE1 } from '../regs/smmu-v3.ts';
import { TagCache } from './smmu-v3-cache.ts';
import { SmmuCommands } from './smmu-v3-commands.ts';
import { identificationWords, type SmmuConfig, type SmmuOptions, smmuConfig } from './smmu-v3-config.ts';
import { SmmuEvents, SmmuSignals } from './smmu-v3-events.ts';
import { StreamCache, type StreamConfig, StreamKind } from './smmu-v3-stream.ts';
import { SmmuStructures } from './smmu-v3-structures.ts';
import { LEVEL_BYTES, SmmuWalker } from './smmu-v3-walk.ts';

const R = SMMU;
const CR0 = R.CR0.offset >>> 2;
const CR0ACK = R.CR0ACK.offset >>> 2;
const CR2 = R.CR2.offset >>> 2;
const GBPA = R.GBPA.offset >>> 2;
const IRQ_CTRL = R.IRQ_CTRL.offset >>> 2;
const IRQ_CTRLACK = R.IRQ_CTRLACK.offset >>> 2;
const { SMMUEN, EVENTQEN, CMDQEN } = R.CR0;
const CR0_BITS = SMMUEN.mask | EVENTQEN.mask | CMDQEN.mask;
const IRQ_BITS = R.IRQ_CTRL.GERROR_IRQEN.mask | R.IRQ_CTRL.EVENTQ_IRQEN.mask;

/** Registers that keep their value while a bit of CR0 (or of IRQ_CTRL, shifted) is in effect. */
const GUARD_IRQ = 0x100;
function guards(): Map<number, number> {
  const map = new Map<number, number>();
  for (const { name, offset } of R.registers) {
    if (name.startsWith('STRTAB_') || name === 'CR2') map.set(offset, SMMUEN.mask);
    else if (name === 'CR1') map.set(offset, CR0_BITS);
    else if (name.startsWith('CMDQ_')) map.set(offset, CMDQEN.mask);
    else if (name.startsWith('EVENTQ_BASE')) map.set(offset, EVENTQEN.mask);
    else if (name.startsWith('EVENTQ_IRQ')) map.set(offset, R.IRQ_CTRL.EVENTQ_IRQEN.mask * GUARD_IRQ);
    else if (name.startsWith('GERROR_IRQ')) map.set(offset, R.IRQ_CTRL.GERROR_IRQEN.mask * GUARD_IRQ);
  }
  // Software announces commands while the queue runs.
  map.delete(R.CMDQ_PROD.offset);
  return map;
}
/** Bits that software can simply store, by word. */
function writeMasks(): Uint32Array {
  const masks = new Uint32Array(SMMU_PAGE_BYTES / 4);
  for (const register of R.registers) if (register.access === 'rw') masks[register.offset >>> 2] = register.writeMask;
  return masks;
}

/** See the file's head. Made by a board, and given to the bus masters of the devices behind it as their translator. */
export class SmmuModel implements RegisterBlock, Translator {
  readonly config: SmmuConfig;
  /** Commands done, by number: for tests and statistics. */
  readonly executedCommands: Uint32Array;
  readonly #words = resetWords(R);
  readonly #page1 = resetWords(SMMU_PAGE1);
  readonly #writable = writeMasks();
  readonly #guards = guards();
  readonly #streams: StreamCache;
  readonly #pages4K: TagCache;
  readonly #pages2M: TagCache;
  readonly #pages1G: TagCache;
  readonly #tables: TagCache;
  readonly #walker: SmmuWalker;
  readonly #structures: SmmuStructures;
  readonly #signals: SmmuSignals;
  readonly #events: SmmuEvents;
  readonly #commands: SmmuCommands;
  readonly #controlTimer: ModelTimer;
  /** The value that GBPA is to have. */
  #nextGbpa = 0;
  #gbpaPending = false;
  #enabled = false;
  /** The stream of the last access. */
  #last: StreamConfig | null = null;
  readonly #outputLimit: number;

  /** Maps its registers. Throws an Error when no such unit can be built. */
  constructor(host: ModelHost, options: SmmuOptions) {
    const config = smmuConfig(options);
    this.config = config;
    identificationWords(config, this.#words);
    const { name, tlbEntries } = config;
    const few = Math.max(4, tlbEntries / 4);
    this.#streams = new StreamCache(config.configEntries);
    this.#pages4K = new TagCache(tlbEntries, PAGE_SIZE);
    this.#pages2M = new TagCache(few, LEVEL_BYTES[2]!);
    this.#pages1G = new TagCache(few, LEVEL_BYTES[1]!);
    this.#tables = new TagCache(few, LEVEL_BYTES[2]!);
    const master = host.busMaster({ name, coherent: config.coherent, observed: false });
    const wires = {
      event: host.irqLine(config.eventIrq),
      sync: host.irqLine(config.syncIrq),
      gerror: host.irqLine(config.gerrorIrq),
    };
    this.#walker = new SmmuWalker(master);
    this.#structures = new SmmuStructures(config, this.#words, master, this.#walker);
    this.#signals = new SmmuSignals(this.#words, master, wires, config.msi);
    this.#events = new SmmuEvents(this.#words, this.#page1, master, this.#signals, config.eventQueueBits);
    const pages = [this.#pages4K, this.#pages2M, this.#pages1G];
    const caches = { streams: this.#streams, pages, tables: this.#tables };
    this.#commands = new SmmuCommands(host, config, this.#words, master, this.#signals, caches);
    this.executedCommands = this.#commands.executed;
    this.#controlTimer = host.timer(() => this.#settle());
    this.#outputLimit = 2 ** config.addressBits;
    host.mapRegisters(config.base, SMMU_PAGE_BYTES, name, this);
    host.mapRegisters(addrAdd(config.base, SMMU_PAGE_BYTES), SMMU_PAGE_BYTES, `${name} page 1`, {
      readRegister: (offset, width) => readWord(this.#page1, offset, width),
      writeRegister: (offset, width, value) => this.#writePage1(offset, width, value),
    });
  }

  /** Events that were lost because their queue was full, or off. */
  get lostEvents(): number {
    return this.#events.lost;
  }

  // Translation

  translate(requesterId: number, addr: number, sizeBytes: number, isWrite: boolean, result: Translation): BusStatus {
    return this.translateSubstream(requesterId, -1, addr, sizeBytes, isWrite, result);
  }

  /** An access with a substream id, or without (-1). */
  translateSubstream(
    sid: number,
    ssid: number,
    addr: number,
    sizeBytes: number,
    isWrite: boolean,
    result: Translation,
  ): BusStatus {
    if (!this.#enabled) return this.#untranslated(addr, sizeBytes, result);
    const last = this.#last;
    const known = last !== null && last.sid === sid && last.ssid === ssid ? last : this.#streams.find(sid, ssid);
    const stream = known ?? this.#loadStream(sid, ssid, addr, isWrite);
    if (stream === null) return BusStatus.TRANSLATION_FAULT;
    this.#last = stream;
    if (stream.kind >= StreamKind.STAGE1) {
      if (!stream.contextLoaded && !this.#structures.loadContext(stream)) return this.#report(stream, addr, isWrite);
      const at = this.#pages4K.find(stream.tag, stream.globalTag, Math.floor(addr / PAGE_SIZE));
      if (at < 0) return this.#translateLarge(stream, addr, isWrite, result);
      return this.#finish(this.#pages4K, at, stream, addr, isWrite, result);
    }
    if (stream.kind === StreamKind.BYPASS) return this.#bypass(stream, addr, sizeBytes, isWrite, result);
    if (stream.kind === StreamKind.BAD) {
      this.#walker.event = stream.badEvent;
      this.#walker.faultAddress = 0;
      this.#report(stream, addr, isWrite);
    }
    return BusStatus.TRANSLATION_FAULT;
  }

  /** GBPA: all pass, or none. */
  #untranslated(addr: number, sizeBytes: number, result: Translation): BusStatus {
    if (R.GBPA.ABORT.test(this.#words[GBPA]!) || addr >= this.#outputLimit) return BusStatus.TRANSLATION_FAULT;
    result.phys = addr;
    result.sizeBytes = Math.min(sizeBytes, this.#outputLimit - addr);
    return BusStatus.OK;
  }

  #loadStream(sid: number, ssid: number, addr: number, isWrite: boolean): StreamConfig | null {
    const stream = this.#streams.claim(sid);
    if (this.#structures.load(stream, sid, ssid)) return stream;
    const walker = this.#walker;
    const isUnknown = walker.event === SMMU_EVT.C_BAD_STREAMID;
    if (!isUnknown || R.CR2.RECINVSID.test(this.#words[CR2]!)) {
      this.#events.report(walker, sid, ssid, addr, isWrite, false);
    }
    return null;
  }

  #bypass(stream: StreamConfig, addr: number, sizeBytes: number, isWrite: boolean, result: Translation): BusStatus {
    if (addr >= this.#outputLimit) {
      this.#refuse(SMMU_EVT.F_ADDR_SIZE, false, 0);
      return this.#report(stream, addr, isWrite);
    }
    result.phys = addr;
    result.sizeBytes = Math.min(sizeBytes, this.#outputLimit - addr);
    return BusStatus.OK;
  }

  #translateLarge(stream: StreamConfig, addr: number, isWrite: boolean, result: Translation): BusStatus {
    for (let i = 0; i < 2; i++) {
      const cache = i === 0 ? this.#pages2M : this.#pages1G;
      if (cache.count === 0) continue;
      const at = cache.find(stream.tag, stream.globalTag, Math.floor(addr / cache.pageBytes));
      if (at >= 0) return this.#finish(cache, at, stream, addr, isWrite, result);
    }
    return this.#walk(stream, addr, isWrite, result);
  }

  #walk(stream: StreamConfig, addr: number, isWrite: boolean, result: Translation): BusStatus {
    const walker = this.#walker;
    const tables = this.#tables;
    const region = Math.floor(addr / LEVEL_BYTES[2]!);
    const single = stream.kind !== StreamKind.NESTED;
    const known = single ? tables.find(stream.tag, stream.globalTag, region) : -1;
    const found =
      known >= 0
        ? walker.walkFrom(stream, tables.values[known]!, tables.rights[known]!, addr)
        : walker.walk(stream, addr);
    if (!found) return this.#report(stream, addr, isWrite);
    const { pageBytes, phys, rights, ipa } = walker;
    const cache =
      pageBytes === PAGE_SIZE ? this.#pages4K : pageBytes === LEVEL_BYTES[2] ? this.#pages2M : this.#pages1G;
    if (pageBytes === PAGE_SIZE && single && known < 0) {
      tables.insert(stream.tag, region, walker.lastTable, walker.lastRights, 0);
    }
    const page = Math.floor(addr / pageBytes);
    const tag = walker.isGlobal ? stream.globalTag : stream.tag;
    cache.insert(tag, page, phys, rights, ipa);
    return this.#finish(cache, cache.find(tag, tag, page), stream, addr, isWrite, result);
  }

  /** A cached translation, if it allows the access. */
  #finish(
    cache: TagCache,
    at: number,
    stream: StreamConfig,
    addr: number,
    isWrite: boolean,
    result: Translation,
  ): BusStatus {
    const { pageBytes } = cache;
    const offset = pageBytes === PAGE_SIZE ? offsetInPage(addr) : offsetIn(addr, pageBytes);
    const needed = isWrite ? stream.writeMask : stream.readMask;
    if ((cache.rights[at]! & needed) === needed) {
      result.phys = cache.values[at]! + offset;
      result.sizeBytes = pageBytes - offset;
      return BusStatus.OK;
    }
    // Stage 1 refuses first.
    const inStage2 = (cache.rights[at]! & needed & 15) !== 0;
    const ipa = stream.kind === StreamKind.NESTED ? cache.ipas[at]! + offset : addr;
    this.#refuse(SMMU_EVT.F_PERMISSION, inStage2, inStage2 ? ipa : 0);
    return this.#report(stream, addr, isWrite);
  }

  #refuse(event: number, inStage2: boolean, address: number): void {
    const walker = this.#walker;
    walker.event = event;
    walker.faultInStage2 = inStage2;
    walker.faultClass = 2;
    walker.faultAddress = address;
  }
  #report(stream: StreamConfig, addr: number, isWrite: boolean): BusStatus {
    const walker = this.#walker;
    if (walker.event >= SMMU_EVT.F_TRANSLATION && stream.kind !== StreamKind.BYPASS) {
      const regime = walker.faultInStage2 ? stream.stage2 : stream.stage1;
      if (!regime.record) return BusStatus.TRANSLATION_FAULT;
    }
    this.#events.report(walker, stream.sid, stream.ssid, addr, isWrite, stream.privileged);
    return BusStatus.TRANSLATION_FAULT;
  }

  // Registers

  readRegister(offset: number, width: number): number {
    return readWord(this.#words, offset, width);
  }

  writeRegister(offset: number, width: number, value: number): void {
    if (width !== 4) return;
    switch (offset) {
      case R.CMDQ_PROD.offset:
        this.#words[offset >>> 2] = value & R.CMDQ_PROD.WR.mask;
        this.#commands.kick();
        return;
      case R.CR0.offset:
      case R.IRQ_CTRL.offset:
        this.#words[offset >>> 2] = (value & (offset === R.CR0.offset ? CR0_BITS : IRQ_BITS)) >>> 0;
        this.#controlTimer.start(this.config.controlNs);
        return;
      case R.GBPA.offset:
        this.#writeGbpa(value);
        return;
      case R.GERRORN.offset:
        this.#words[offset >>> 2] = value & R.GERRORN.writeMask;
        this.#commands.acknowledged();
        return;
      default:
        this.#store(offset, value);
    }
  }
  #store(offset: number, value: number): void {
    const words = this.#words;
    const guard = this.#guards.get(offset) ?? 0;
    if ((guard & words[CR0ACK]!) !== 0 || ((guard / GUARD_IRQ) & words[IRQ_CTRLACK]!) !== 0) return;
    const writable = this.#writable[offset >>> 2]!;
    words[offset >>> 2] = ((words[offset >>> 2]! & ~writable) | (value & writable)) >>> 0;
  }
  /** A value without UPDATE is ignored, and so is one while another is on its way. */
  #writeGbpa(value: number): void {
    if (!R.GBPA.UPDATE.test(value) || this.#gbpaPending) return;
    this.#gbpaPending = true;
    this.#nextGbpa = (value & R.GBPA.writeMask & ~R.GBPA.UPDATE.mask) >>> 0;
    this.#words[GBPA] = (this.#words[GBPA]! | R.GBPA.UPDATE.mask) >>> 0;
    this.#controlTimer.start(this.config.controlNs);
  }
  #writePage1(offset: number, width: number, value: number): void {
    if (width !== 4) return;
    const { EVENTQ_PROD, EVENTQ_CONS } = SMMU_PAGE1;
    if (offset === EVENTQ_CONS.offset) this.#page1[offset >>> 2] = (value & EVENTQ_CONS.writeMask) >>> 0;
    else if (offset === EVENTQ_PROD.offset && !EVENTQEN.test(this.#words[CR0ACK]!)) {
      this.#page1[offset >>> 2] = (value & EVENTQ_PROD.writeMask) >>> 0;
    }
  }

  /** What was asked of the control registers takes effect. */
  #settle(): void {
    const words = this.#words;
    words[CR0ACK] = words[CR0]!;
    words[IRQ_CTRLACK] = words[IRQ_CTRL]!;
    this.#enabled = SMMUEN.test(words[CR0]!);
    if (this.#gbpaPending) {
      this.#gbpaPending = false;
      words[GBPA] = this.#nextGbpa;
    }
    this.#commands.kick();
  }
}

function readWord(words: Uint32Array, offset: number, width: number): number {
  const word = words[offset >>> 2]!;
  return width === 4 ? word : word >>> (8 * (offset & 3));
}
