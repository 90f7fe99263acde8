/**
 * Model of an Intel VT-d unit: an IOMMU in front of PCI devices, in legacy mode (Architecture Specification). This is
 * what the bus and the CPU see of it: translation of requests, and registers. Tables are walked in memory (vtd-walk.ts),
 * what was found is remembered until it is invalidated (vtd-cache.ts, vtd-invalidate.ts, vtd-queue.ts), and what is
 * refused is recorded (vtd-faults.ts). Registers are words; other widths see the word's bytes when reading, and are
 * ignored when writing.
 */
import { fromLoHi, offsetIn, offsetInPage, PAGE_SIZE } from '../base/addr.ts';
import { BusStatus, type ModelHost, type RegisterBlock, type Translation, type Translator } from '../machine/index.ts';
import { resetWords } from '../regs/register-map.ts';
import { VTD, VTD_FRCD, VTD_IOTLB, VTD_SIZE_BYTES } from '../regs/vtd.ts';
import { ContextCache, DomainCache } from './vtd-cache.ts';
import {
  capabilityWords,
  FRCD_OFFSET,
  FRCD_STRIDE,
  IOTLB_OFFSET,
  type VtdConfig,
  type VtdOptions,
  vtdConfig,
} from './vtd-config.ts';
import { VtdFaultLog } from './vtd-faults.ts';
import { VtdInvalidation } from './vtd-invalidate.ts';
import { VtdQueue } from './vtd-queue.ts';
import { CAN_READ, CAN_WRITE, ContextKind, FaultReason, LEVEL_BYTES, VtdWalker } from './vtd-walk.ts';

/** Requests to these addresses are interrupts, and are not translated (3.14). */
const INTERRUPTS_START = 0xfee0_0000;
const INTERRUPTS_END = 0xfef0_0000;

const R = VTD;
const { TE, SRTP, WBF, QIE } = R.GCMD;
const { TES, RTPS, QIES } = R.GSTS;
const GSTS = R.GSTS.offset >>> 2;
const RTADDR = R.RTADDR.offset >>> 2;
const IVA = IOTLB_OFFSET + VTD_IOTLB.IVA.offset;
const IOTLB_HI = IOTLB_OFFSET + VTD_IOTLB.IOTLB_HI.offset;
const { ICC, CIRG, CAIG, FM } = R.CCMD_HI;
const { IVT, IIRG, IAIG, DID } = VTD_IOTLB.IOTLB_HI;

/** Bits that software can simply store, by word. */
function writeMasks(): Uint32Array {
  const masks = new Uint32Array(VTD_SIZE_BYTES / 4);
  for (const register of R.registers) if (register.access !== 'wo') masks[register.offset >>> 2] = register.writeMask;
  for (const register of VTD_IOTLB.registers) masks[(IOTLB_OFFSET + register.offset) >>> 2] = register.writeMask;
  return masks;
}

/** See the file's head. Made by a board, and given to the bus masters of the devices behind it as their translator. */
export class VtdModel implements RegisterBlock, Translator {
  readonly config: VtdConfig;
  readonly #words = resetWords(R);
  readonly #writable = writeMasks();
  readonly #contexts: ContextCache;
  readonly #pages4K: DomainCache;
  readonly #pages2M: DomainCache;
  readonly #pages1G: DomainCache;
  /** Tables of the last level, by the 2 MiB that they translate. */
  readonly #tables: DomainCache;
  readonly #walker: VtdWalker;
  readonly #log: VtdFaultLog;
  readonly #invalidation: VtdInvalidation;
  readonly #queue: VtdQueue;
  #translating = false;
  #protecting = false;
  #rootTable = 0;
  readonly #requestLimit: number;

  /** Maps its registers. Throws an Error when no such unit can be built. */
  constructor(host: ModelHost, options: VtdOptions = {}) {
    const config = vtdConfig(options);
    this.config = config;
    capabilityWords(config, this.#words);
    const { name, iotlbEntries } = config;
    const few = Math.max(4, iotlbEntries / 4);
    this.#contexts = new ContextCache(config.contextEntries);
    this.#pages4K = new DomainCache(iotlbEntries, LEVEL_BYTES[1]);
    this.#pages2M = new DomainCache(few, LEVEL_BYTES[2]);
    this.#pages1G = new DomainCache(few, LEVEL_BYTES[3]);
    this.#tables = new DomainCache(few, LEVEL_BYTES[2]);
    const tables = host.busMaster({ name, coherent: config.coherent, observed: false });
    const messages = host.busMaster({ name, coherent: true, observed: false });
    this.#walker = new VtdWalker(config, tables);
    this.#log = new VtdFaultLog(this.#words, config.faultRecords, messages);
    const sizes = [this.#pages4K, this.#pages2M, this.#pages1G];
    this.#invalidation = new VtdInvalidation(config, this.#contexts, sizes, this.#tables);
    this.#queue = new VtdQueue(config, this.#words, messages, this.#log, this.#invalidation);
    this.#requestLimit = 2 ** config.awBits;
    host.mapRegisters(config.base, VTD_SIZE_BYTES, name, this);
  }

  // Translation

  translate(requesterId: number, addr: number, sizeBytes: number, isWrite: boolean, result: Translation): BusStatus {
    if (addr >= INTERRUPTS_START && addr < INTERRUPTS_END) return interruptRequest(addr, sizeBytes, isWrite, result);
    if (!this.#translating) return this.#untranslated(addr, sizeBytes, result);
    let context = this.#contexts.find(requesterId);
    if (context < 0) {
      context = this.#loadContext(requesterId, addr, isWrite);
      if (context < 0) return BusStatus.TRANSLATION_FAULT;
    }
    const kind = this.#contexts.kinds[context]!;
    if (kind === ContextKind.TRANSLATED) {
      const page = Math.floor(addr / PAGE_SIZE);
      const at = this.#pages4K.find(this.#contexts.domains[context]!, page);
      if (at >= 0 && (this.#pages4K.rights[at]! & (isWrite ? CAN_WRITE : CAN_READ)) !== 0) {
        const offset = offsetInPage(addr);
        result.phys = this.#pages4K.values[at]! + offset;
        result.sizeBytes = PAGE_SIZE - offset;
        return BusStatus.OK;
      }
      return this.#translateLarge(requesterId, context, addr, at, isWrite, result);
    }
    return this.#passOrRefuse(requesterId, kind, context, addr, sizeBytes, isWrite, result);
  }

  #untranslated(addr: number, sizeBytes: number, result: Translation): BusStatus {
    if (this.#protecting && this.#isProtected(addr, sizeBytes)) return BusStatus.TRANSLATION_FAULT;
    result.phys = addr;
    result.sizeBytes = sizeBytes;
    return BusStatus.OK;
  }
  #isProtected(addr: number, sizeBytes: number): boolean {
    const words = this.#words;
    const low = words[R.PLMBASE.offset >>> 2]!;
    const lowEnd = words[R.PLMLIMIT.offset >>> 2]! + 1;
    const at = R.PHMBASE.offset >>> 2;
    const high = fromLoHi(words[at]!, words[at + 1]!);
    const highEnd = fromLoHi(words[at + 2]!, words[at + 3]!) + 1;
    return (addr < lowEnd && addr + sizeBytes > low) || (addr < highEnd && addr + sizeBytes > high);
  }

  #passOrRefuse(
    source: number,
    kind: number,
    context: number,
    addr: number,
    sizeBytes: number,
    isWrite: boolean,
    result: Translation,
  ): BusStatus {
    if (kind === ContextKind.ABSENT)
      return this.#refuse(source, context, addr, isWrite, FaultReason.CONTEXT_NOT_PRESENT);
    if (addr >= this.#requestLimit) return this.#refuse(source, context, addr, isWrite, FaultReason.BEYOND_WIDTH);
    result.phys = addr;
    result.sizeBytes = Math.min(sizeBytes, this.#requestLimit - addr);
    return BusStatus.OK;
  }

  /** Fetch the context of a source. Returns its entry, or -1 after recording the fault. */
  #loadContext(source: number, addr: number, isWrite: boolean): number {
    const walker = this.#walker;
    const reason = walker.context(this.#rootTable, source);
    const isAbsent = reason === FaultReason.ROOT_NOT_PRESENT || reason === FaultReason.CONTEXT_NOT_PRESENT;
    if (reason !== FaultReason.NONE && !(isAbsent && this.config.cachingMode)) {
      if (!walker.silent) this.#log.record(source, addr, isWrite, reason);
      return -1;
    }
    const contexts = this.#contexts;
    const at = contexts.claim(source);
    contexts.domains[at] = walker.domain;
    contexts.kinds[at] = walker.kind;
    contexts.levels[at] = walker.levels;
    contexts.tables[at] = walker.table;
    contexts.silent[at] = walker.silent ? 1 : 0;
    if (reason === FaultReason.NONE) return at;
    if (!walker.silent) this.#log.record(source, addr, isWrite, reason);
    return -1;
  }

  /** No translation of 4 KiB allows it: `small` is the entry that forbids it, or -1. */
  #translateLarge(
    source: number,
    context: number,
    addr: number,
    small: number,
    isWrite: boolean,
    result: Translation,
  ): BusStatus {
    const refused = isWrite ? FaultReason.WRITE : FaultReason.READ;
    if (small >= 0) return this.#refuse(source, context, addr, isWrite, refused);
    const domain = this.#contexts.domains[context]!;
    let cache = this.#pages2M;
    let at = cache.count === 0 ? -1 : cache.find(domain, Math.floor(addr / cache.pageBytes));
    if (at < 0 && this.#pages1G.count > 0) {
      cache = this.#pages1G;
      at = cache.find(domain, Math.floor(addr / cache.pageBytes));
    }
    if (at < 0) return this.#walkPage(source, context, addr, isWrite, result);
    if ((cache.rights[at]! & (isWrite ? CAN_WRITE : CAN_READ)) === 0) {
      return this.#refuse(source, context, addr, isWrite, refused);
    }
    const offset = offsetIn(addr, cache.pageBytes);
    result.phys = cache.values[at]! + offset;
    result.sizeBytes = cache.pageBytes - offset;
    return BusStatus.OK;
  }

  #walkPage(source: number, context: number, addr: number, isWrite: boolean, result: Translation): BusStatus {
    const { domains, levels, tables } = this.#contexts;
    const domain = domains[context]!;
    const level = levels[context]!;
    if (addr >= this.#requestLimit || addr >= LEVEL_BYTES[level]! * 512) {
      return this.#refuse(source, context, addr, isWrite, FaultReason.BEYOND_WIDTH);
    }
    const walker = this.#walker;
    const region = Math.floor(addr / LEVEL_BYTES[2]);
    const known = this.#tables.find(domain, region);
    const reason =
      known >= 0
        ? walker.page(this.#tables.values[known]!, 1, this.#tables.rights[known]!, addr, isWrite)
        : walker.page(tables[context]!, level, CAN_READ | CAN_WRITE, addr, isWrite);
    const page = Math.floor(addr / PAGE_SIZE);
    if (reason !== FaultReason.NONE) {
      if (this.config.cachingMode && walker.rights === 0) this.#pages4K.insert(domain, page, 0, 0);
      return this.#refuse(source, context, addr, isWrite, reason);
    }
    const { pageBytes } = walker;
    if (pageBytes === PAGE_SIZE) {
      if (known < 0) this.#tables.insert(domain, region, walker.lastTable, walker.lastTableRights);
      this.#pages4K.insert(domain, page, walker.phys, walker.rights);
    } else if (pageBytes === LEVEL_BYTES[2]) this.#pages2M.insert(domain, region, walker.phys, walker.rights);
    else this.#pages1G.insert(domain, Math.floor(addr / pageBytes), walker.phys, walker.rights);
    const offset = offsetIn(addr, pageBytes);
    result.phys = walker.phys + offset;
    result.sizeBytes = pageBytes - offset;
    return BusStatus.OK;
  }

  #refuse(source: number, context: number, addr: number, isWrite: boolean, reason: number): BusStatus {
    if (this.#contexts.silent[context] === 0) this.#log.record(source, addr, isWrite, reason);
    return BusStatus.TRANSLATION_FAULT;
  }

  // Registers

  readRegister(offset: number, width: number): number {
    const word = this.#words[offset >>> 2]!;
    return width === 4 ? word : word >>> (8 * (offset & 3));
  }

  writeRegister(offset: number, width: number, value: number): void {
    if (width !== 4) return;
    switch (offset) {
      case R.IQT.offset:
        this.#queue.writeTail(value);
        return;
      case R.GCMD.offset:
        this.#command(value);
        return;
      case R.CCMD_HI.offset:
        this.#contextCommand(value);
        return;
      case IOTLB_HI:
        this.#iotlbCommand(value);
        return;
      case R.FSTS.offset:
        if (this.#log.writeStatus(value)) this.#queue.run();
        return;
      case R.FECTL.offset:
        this.#log.event.writeControl(value);
        return;
      case R.IECTL.offset:
        this.#queue.completion.writeControl(value);
        return;
      case R.ICS.offset:
        this.#queue.writeCompletionStatus(value);
        return;
      case R.PMEN.offset:
        this.#protect(value);
        return;
      default:
        this.#store(offset, value);
    }
  }

  #store(offset: number, value: number): void {
    const record = Math.floor((offset - FRCD_OFFSET) / FRCD_STRIDE);
    if (record >= 0 && record < this.config.faultRecords) {
      if (offset % FRCD_STRIDE === VTD_FRCD.STATUS.offset) this.#log.writeRecord(record, value);
      return;
    }
    const at = offset >>> 2;
    const writable = this.#writable[at]!;
    this.#words[at] = ((this.#words[at]! & ~writable) | (value & writable)) >>> 0;
  }

  /** GCMD: what differs from the status is what is asked for; one-shot commands are done at once. */
  #command(value: number): void {
    const words = this.#words;
    let status = words[GSTS]!;
    if (SRTP.test(value)) {
      this.#rootTable = fromLoHi(words[RTADDR]! & R.RTADDR.RTA.mask, words[RTADDR + 1]!);
      status |= RTPS.mask;
    }
    if (WBF.test(value)) status &= ~R.GSTS.WBFS.mask;
    const queued = QIE.test(value) && this.config.queuedInvalidation;
    if (queued !== QIES.test(status)) {
      this.#queue.enable(queued);
      status = queued ? status | QIES.mask : status & ~QIES.mask;
    }
    this.#translating = TE.test(value);
    status = this.#translating ? status | TES.mask : status & ~TES.mask;
    words[GSTS] = status >>> 0;
  }

  #contextCommand(value: number): void {
    const at = R.CCMD.offset >>> 2;
    const low = this.#words[at]!;
    let stored = (value & (FM.mask | CIRG.mask)) >>> 0;
    const granularity = CIRG.get(value);
    if (ICC.test(value) && granularity !== CIRG.values.RESERVED) {
      const done = this.#invalidation.contexts(granularity, low & 0xffff, low >>> 16, FM.get(value));
      stored = (stored | CAIG.prep(done)) >>> 0;
    }
    this.#words[at + 1] = stored;
  }

  #iotlbCommand(value: number): void {
    const at = IVA >>> 2;
    const low = this.#words[at]!;
    let stored = (value & ~(IVT.mask | IAIG.mask)) >>> 0;
    const granularity = IIRG.get(value);
    if (IVT.test(value) && granularity !== IIRG.values.RESERVED) {
      const addr = fromLoHi(low & VTD_IOTLB.IVA.ADDR.mask, this.#words[at + 1]!);
      const leafOnly = VTD_IOTLB.IVA.IH.test(low);
      const mask = VTD_IOTLB.IVA.AM.get(low);
      const done = this.#invalidation.translations(granularity, DID.get(value), addr, mask, leafOnly);
      stored = (stored | IAIG.prep(done)) >>> 0;
    }
    this.#words[IOTLB_HI >>> 2] = stored;
  }

  #protect(value: number): void {
    if (!this.config.protectedMemory) return;
    const enabled = R.PMEN.EPM.test(value);
    this.#words[R.PMEN.offset >>> 2] = enabled ? (R.PMEN.EPM.mask | R.PMEN.PRS.mask) >>> 0 : 0;
    this.#protecting = enabled;
  }
}

/** A device's write to the interrupt range goes to the interrupt controller as it is; a read finds nobody. */
function interruptRequest(addr: number, sizeBytes: number, isWrite: boolean, result: Translation): BusStatus {
  if (!isWrite) return BusStatus.DECODE_ERROR;
  result.phys = addr;
  result.sizeBytes = Math.min(sizeBytes, INTERRUPTS_END - addr);
  return BusStatus.OK;
}
