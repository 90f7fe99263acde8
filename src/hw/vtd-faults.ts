/**
 * How a VT-d unit tells of what went wrong: fault recording registers, filled in turn; the fault status register; and
 * the fault event, an interrupt message that can be masked and pends meanwhile (Architecture Specification, 7.4).
 */
import { alignDown, fromLoHi, hi32, lo32, PAGE_SIZE } from '../base/addr.ts';
import type { BusMaster } from '../machine/index.ts';
import { VTD, VTD_FRCD } from '../regs/vtd.ts';
import { FRCD_OFFSET, FRCD_STRIDE } from './vtd-config.ts';

const { PFO, PPF, AFO, APF, IQE, ICE, ITE, FRI } = VTD.FSTS;
const { F, FR, T } = VTD_FRCD.STATUS;
/** Conditions that ask for an event. */
const EVENTS = PFO.mask | PPF.mask | AFO.mask | APF.mask | IQE.mask | ICE.mask | ITE.mask;

/** An interrupt of the unit's own: control (mask, pending), data, address, upper address, in four words in a row. */
export class VtdEvent {
  readonly #words: Uint32Array;
  readonly #control: number;
  readonly #master: BusMaster;

  constructor(words: Uint32Array, controlOffset: number, master: BusMaster) {
    this.#words = words;
    this.#control = controlOffset >>> 2;
    this.#master = master;
  }
  /** Its condition has come about: send the message, or keep it. */
  raise(): void {
    const words = this.#words;
    words[this.#control] = (words[this.#control]! | VTD.FECTL.IP.mask) >>> 0;
    this.#send();
  }
  /** Software has dealt with every condition, so that nothing is left to tell. */
  withdraw(): void {
    this.#words[this.#control] = this.#words[this.#control]! & ~VTD.FECTL.IP.mask;
  }
  writeControl(value: number): void {
    const words = this.#words;
    words[this.#control] = ((words[this.#control]! & VTD.FECTL.IP.mask) | (value & VTD.FECTL.IM.mask)) >>> 0;
    this.#send();
  }
  #send(): void {
    const words = this.#words;
    const control = words[this.#control]!;
    if ((control & VTD.FECTL.IP.mask) === 0 || (control & VTD.FECTL.IM.mask) !== 0) return;
    this.withdraw();
    const address = fromLoHi(words[this.#control + 2]!, words[this.#control + 3]!);
    this.#master.write32(address, words[this.#control + 1]!);
  }
}

/** See the file's head. The registers' words are the unit's. */
export class VtdFaultLog {
  readonly event: VtdEvent;
  readonly #words: Uint32Array;
  readonly #count: number;
  /** The record that the next fault goes to. */
  #next = 0;

  constructor(words: Uint32Array, count: number, master: BusMaster) {
    this.#words = words;
    this.#count = count;
    this.event = new VtdEvent(words, VTD.FECTL.offset, master);
  }

  /** A request was refused. Recorded unless the records are full, or were full and software has not seen it yet. */
  record(source: number, addr: number, isWrite: boolean, reason: number): void {
    const words = this.#words;
    if ((words[STATUS]! & PFO.mask) !== 0) return;
    const at = (FRCD_OFFSET + this.#next * FRCD_STRIDE) >>> 2;
    if ((words[at + 3]! & F.mask) !== 0) {
      this.set(PFO.mask);
      return;
    }
    const page = alignDown(addr, PAGE_SIZE);
    words[at] = lo32(page);
    words[at + 1] = hi32(page);
    words[at + 2] = source;
    words[at + 3] = (F.mask | (isWrite ? 0 : T.mask) | FR.prep(reason)) >>> 0;
    if ((words[STATUS]! & PPF.mask) === 0) words[STATUS] = FRI.put(words[STATUS]!, this.#next);
    this.#next = (this.#next + 1) % this.#count;
    this.set(PPF.mask);
  }

  /** Set a status bit. While software has not dealt with an earlier one, that asks for no further event. */
  set(bit: number): void {
    const before = this.#words[STATUS]!;
    this.#words[STATUS] = (before | bit) >>> 0;
    if ((before & EVENTS) === 0) this.event.raise();
  }

  /** Software writes FSTS. Returns whether the invalidation queue may go on. */
  writeStatus(value: number): boolean {
    const before = this.#words[STATUS]!;
    this.#words[STATUS] = VTD.FSTS.store(before, value);
    this.#settled();
    return (before & value & IQE.mask) !== 0;
  }
  /** Software writes the last word of record `index`. */
  writeRecord(index: number, value: number): void {
    const words = this.#words;
    const at = ((FRCD_OFFSET + index * FRCD_STRIDE) >>> 2) + 3;
    words[at] = VTD_FRCD.STATUS.store(words[at]!, value);
    for (let i = 0; i < this.#count; i++) {
      if ((words[((FRCD_OFFSET + i * FRCD_STRIDE) >>> 2) + 3]! & F.mask) !== 0) return;
    }
    words[STATUS] = words[STATUS]! & ~PPF.mask;
    this.#settled();
  }
  #settled(): void {
    if ((this.#words[STATUS]! & EVENTS) === 0) this.event.withdraw();
  }
}
const STATUS = VTD.FSTS.offset >>> 2;
