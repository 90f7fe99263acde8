/**
 * The invalidation queue of a VT-d unit: a ring of descriptors in memory that software fills and the unit works off in
 * order (Architecture Specification, 6.5.2). A descriptor that makes no sense stops the queue where it stands.
 */
import { fromLoHi } from '../base/addr.ts';
import { type BusMaster, BusStatus } from '../machine/index.ts';
import { QI_CC, QI_DESC_BYTES, QI_IOTLB, QI_TYPE, QI_WAIT, VTD } from '../regs/vtd.ts';
import type { VtdConfig } from './vtd-config.ts';
import type { VtdFaultLog } from './vtd-faults.ts';
import { VtdEvent } from './vtd-faults.ts';
import type { VtdInvalidation } from './vtd-invalidate.ts';

/** Descriptors fetched at once. */
const FETCH = 4;
const HEAD = VTD.IQH.offset >>> 2;
const TAIL = VTD.IQT.offset >>> 2;
const ADDRESS = VTD.IQA.offset >>> 2;
const ERROR = VTD.IQERCD.offset >>> 2;
const STATUS = VTD.FSTS.offset >>> 2;
const COMPLETION = VTD.ICS.offset >>> 2;
const { IQE } = VTD.FSTS;
/** Why a descriptor is refused (IQERCD.IQEI). */
const QueueError = { TAIL: 1, FETCH: 2, TYPE: 3, RESERVED: 4, STATUS_ADDRESS: 5 } as const;
const TYPE_MASK = 0xe0f;

/** See the file's head. */
export class VtdQueue {
  readonly completion: VtdEvent;
  enabled = false;
  readonly #words: Uint32Array;
  readonly #master: BusMaster;
  readonly #log: VtdFaultLog;
  readonly #invalidation: VtdInvalidation;
  readonly #maxAddressMask: number;
  readonly #bytes = new Uint8Array(FETCH * QI_DESC_BYTES);
  readonly #descriptors = new Uint32Array(this.#bytes.buffer);
  #error = 0;

  constructor(
    config: VtdConfig,
    words: Uint32Array,
    master: BusMaster,
    log: VtdFaultLog,
    invalidation: VtdInvalidation,
  ) {
    this.#words = words;
    this.#master = master;
    this.#log = log;
    this.#invalidation = invalidation;
    this.#maxAddressMask = config.maxAddressMask;
    this.completion = new VtdEvent(words, VTD.IECTL.offset, master);
  }

  /** The queue is switched on or off; off, its head goes back to the start. */
  enable(enabled: boolean): void {
    this.enabled = enabled;
    if (!enabled) this.#words[HEAD] = 0;
  }

  /** Work off what there is. */
  run(): void {
    const words = this.#words;
    if (!this.enabled || (words[STATUS]! & IQE.mask) !== 0) return;
    const queueBytes = QI_DESC_BYTES << (8 + (words[ADDRESS]! & 7));
    const base = fromLoHi(words[ADDRESS]! & 0xffff_f000, words[ADDRESS + 1]!);
    const tail = words[TAIL]!;
    if (tail >= queueBytes || (words[ADDRESS]! & VTD.IQA.DW.mask) !== 0) {
      this.#fail(QueueError.TAIL);
      return;
    }
    let head = words[HEAD]!;
    while (head !== tail) {
      let bytes = (tail > head ? tail : queueBytes) - head;
      if (bytes > FETCH * QI_DESC_BYTES) bytes = FETCH * QI_DESC_BYTES;
      if (this.#master.read(base + head, this.#bytes, 0, bytes) !== BusStatus.OK) {
        this.#fail(QueueError.FETCH);
        return;
      }
      for (let at = 0; at < bytes; at += QI_DESC_BYTES) {
        if (!this.#execute(at >>> 2)) {
          this.#fail(this.#error);
          return;
        }
        head += QI_DESC_BYTES;
        if (head === queueBytes) head = 0;
        words[HEAD] = head;
      }
    }
  }
  #fail(error: number): void {
    this.#words[ERROR] = error;
    this.#log.set(IQE.mask);
  }
  #refuse(error: number): boolean {
    this.#error = error;
    return false;
  }

  #execute(at: number): boolean {
    const d = this.#descriptors;
    const w0 = d[at]!;
    switch (w0 & TYPE_MASK) {
      case QI_TYPE.WAIT:
        return this.#wait(w0, d[at + 1]!, d[at + 2]!, d[at + 3]!);
      case QI_TYPE.IOTLB:
        return this.#iotlb(w0, d[at + 1]!, d[at + 2]!, d[at + 3]!);
      case QI_TYPE.CONTEXT:
        return this.#context(w0, d[at + 1]!, d[at + 2]! | d[at + 3]!);
      case QI_TYPE.DEVICE_IOTLB:
      case QI_TYPE.INTERRUPT_ENTRY:
        // Neither devices' own translations nor interrupt remapping are cached here.
        return true;
      default:
        return this.#refuse(QueueError.TYPE);
    }
  }

  #context(w0: number, w1: number, rest: number): boolean {
    const granularity = QI_CC.W0.G.get(w0);
    if (granularity === 0 || rest !== 0 || (w0 & 0xf1c0) !== 0 || w1 >>> 18 !== 0) {
      return this.#refuse(QueueError.RESERVED);
    }
    this.#invalidation.contexts(granularity, w0 >>> 16, w1 & 0xffff, QI_CC.W1.FM.get(w1));
    return true;
  }

  #iotlb(w0: number, w1: number, w2: number, w3: number): boolean {
    const granularity = (w0 >>> 4) & 3;
    const mask = w2 & 0x3f;
    if (granularity === 0 || w1 !== 0 || (w0 & 0xf100) !== 0 || (w2 & 0xf80) !== 0) {
      return this.#refuse(QueueError.RESERVED);
    }
    if (granularity === 3 && mask > this.#maxAddressMask) return this.#refuse(QueueError.RESERVED);
    const leafOnly = (w2 & QI_IOTLB.W2.IH.mask) !== 0;
    this.#invalidation.translations(granularity, w0 >>> 16, fromLoHi(w2 & 0xffff_f000, w3), mask, leafOnly);
    return true;
  }

  #wait(w0: number, data: number, w2: number, w3: number): boolean {
    if ((w0 & 0xffff_f100) !== 0) return this.#refuse(QueueError.RESERVED);
    if ((w0 & QI_WAIT.W0.SW.mask) !== 0) {
      const address = fromLoHi(w2 & 0xffff_fffc, w3);
      if ((w2 & 3) !== 0 || this.#master.write32(address, data) !== BusStatus.OK) {
        return this.#refuse(QueueError.STATUS_ADDRESS);
      }
    }
    if ((w0 & QI_WAIT.W0.IF.mask) !== 0 && (this.#words[COMPLETION]! & VTD.ICS.IWC.mask) === 0) {
      this.#words[COMPLETION] = VTD.ICS.IWC.mask;
      this.completion.raise();
    }
    return true;
  }

  /** Software says that it has seen completions. */
  writeCompletionStatus(value: number): void {
    this.#words[COMPLETION] = VTD.ICS.store(this.#words[COMPLETION]!, value);
    if (this.#words[COMPLETION] === 0) this.completion.withdraw();
  }
  /** Software moves the tail, or the queue. */
  writeTail(value: number): void {
    this.#words[TAIL] = value & VTD.IQT.QT.mask;
    this.run();
  }
}
