/**
 * How an SMMU tells of what happened: interrupts (wires or messages), global errors, and the event queue, a ring of
 * records in memory (IHI 0070, 3.5, 3.18, 6.3.19 and 7).
 */
import { fromLoHi, hi32, lo32 } from '../base/addr.ts';
import { type BusMaster, BusStatus, type IrqLine } from '../machine/index.ts';
import { SMMU, SMMU_EVENT, SMMU_EVT, SMMU_EVT_BYTES, SMMU_PAGE1 } from '../regs/smmu-v3.ts';
import type { SmmuWalker } from './smmu-v3-walk.ts';

const CR0ACK = SMMU.CR0ACK.offset >>> 2;
const IRQ_CTRLACK = SMMU.IRQ_CTRLACK.offset >>> 2;
const GERROR = SMMU.GERROR.offset >>> 2;
const GERRORN = SMMU.GERRORN.offset >>> 2;
const GERROR_IRQ = SMMU.GERROR_IRQ_CFG0.offset >>> 2;
const EVENTQ_IRQ = SMMU.EVENTQ_IRQ_CFG0.offset >>> 2;
const EVENTQ_BASE = SMMU.EVENTQ_BASE.offset >>> 2;
const PROD = SMMU_PAGE1.EVENTQ_PROD.offset >>> 2;
const CONS = SMMU_PAGE1.EVENTQ_CONS.offset >>> 2;
const { EVENTQ_ABT_ERR, MSI_EVENTQ_ABT_ERR, MSI_GERROR_ABT_ERR, MSI_CMDQ_ABT_ERR } = SMMU.GERROR;
const OVERFLOW = SMMU_PAGE1.EVENTQ_PROD.OVFLG.mask;
const INDEX = SMMU_PAGE1.EVENTQ_PROD.WR.mask;
const { PNU, RNW, S2, CLASS } = SMMU_EVENT.W3;

/** Wires of a unit. */
export interface SmmuWires {
  readonly event: IrqLine;
  readonly sync: IrqLine;
  readonly gerror: IrqLine;
}

/** The unit's interrupts and its global errors. */
export class SmmuSignals {
  readonly #words: Uint32Array;
  readonly #master: BusMaster;
  readonly #wires: SmmuWires;
  readonly #msi: boolean;

  constructor(words: Uint32Array, master: BusMaster, wires: SmmuWires, msi: boolean) {
    this.#words = words;
    this.#master = master;
    this.#wires = wires;
    this.#msi = msi;
  }

  /** A global error has come about. One that software has not acknowledged yet tells nothing new. */
  error(bit: number): void {
    const words = this.#words;
    if (((words[GERROR]! ^ words[GERRORN]!) & bit) !== 0) return;
    words[GERROR] = (words[GERROR]! ^ bit) >>> 0;
    if (!SMMU.IRQ_CTRL.GERROR_IRQEN.test(words[IRQ_CTRLACK]!)) return;
    if (!this.#message(GERROR_IRQ, this.#wires.gerror)) this.error(MSI_GERROR_ABT_ERR.mask);
  }
  /** Whether a global error waits for software. */
  isActive(bit: number): boolean {
    return ((this.#words[GERROR]! ^ this.#words[GERRORN]!) & bit) !== 0;
  }
  /** The event queue is no longer empty. */
  event(): void {
    if (!SMMU.IRQ_CTRL.EVENTQ_IRQEN.test(this.#words[IRQ_CTRLACK]!)) return;
    if (!this.#message(EVENTQ_IRQ, this.#wires.event)) this.error(MSI_EVENTQ_ABT_ERR.mask);
  }
  /** A CMD_SYNC that asks for an interrupt is complete: a message, or (address 0) the wire. */
  sync(address: number, data: number): void {
    if (address === 0 || !this.#msi) this.#wires.sync.pulse();
    else if (this.#master.write32(address, data) !== BusStatus.OK) this.error(MSI_CMDQ_ABT_ERR.mask);
  }
  /** False when the message found nobody. */
  #message(config: number, wire: IrqLine): boolean {
    const words = this.#words;
    const address = fromLoHi(words[config]! & 0xffff_fffc, words[config + 1]! & 0xf_ffff);
    if (address === 0 || !this.#msi) {
      wire.pulse();
      return true;
    }
    return this.#master.write32(address, words[config + 2]!) === BusStatus.OK;
  }
}

/** The event queue. */
export class SmmuEvents {
  readonly #words: Uint32Array;
  readonly #page1: Uint32Array;
  readonly #master: BusMaster;
  readonly #signals: SmmuSignals;
  readonly #limitBits: number;
  readonly #bytes = new Uint8Array(SMMU_EVT_BYTES);
  readonly #record = new Uint32Array(this.#bytes.buffer);
  /** Records that were not written because the queue was full, or off. */
  lost = 0;

  constructor(words: Uint32Array, page1: Uint32Array, master: BusMaster, signals: SmmuSignals, limitBits: number) {
    this.#words = words;
    this.#page1 = page1;
    this.#master = master;
    this.#signals = signals;
    this.#limitBits = limitBits;
  }

  /** Report what the walker found wrong with an access. */
  report(walker: SmmuWalker, sid: number, ssid: number, addr: number, isWrite: boolean, privileged: boolean): void {
    const record = this.#record;
    record.fill(0);
    const { event } = walker;
    record[0] = event;
    if (ssid >= 0) record[0] |= SMMU_EVENT.W0.SSV.mask | SMMU_EVENT.W0.SSID.prep(ssid);
    record[1] = sid;
    if (event >= SMMU_EVT.F_WALK_EABT) {
      record[3] =
        (isWrite ? 0 : RNW.mask) |
        (privileged ? PNU.mask : 0) |
        (walker.faultInStage2 ? S2.mask : 0) |
        CLASS.prep(walker.faultClass);
      record[4] = lo32(addr);
      record[5] = hi32(addr);
    }
    // Fetch addresses are told to 8 bytes, intermediate ones to their page.
    const at = walker.faultAddress;
    record[6] = lo32(at) & (event <= SMMU_EVT.F_WALK_EABT ? 0xffff_fff8 : 0xffff_f000);
    record[7] = hi32(at);
    this.#push();
  }

  #push(): void {
    const page1 = this.#page1;
    if (!SMMU.CR0.EVENTQEN.test(this.#words[CR0ACK]!)) {
      this.lost++;
      return;
    }
    const base = this.#words[EVENTQ_BASE]!;
    const size = 2 ** Math.min(SMMU.EVENTQ_BASE.LOG2SIZE.get(base), this.#limitBits);
    const prod = page1[PROD]!;
    const cons = page1[CONS]!;
    const apart = (prod ^ cons) & (2 * size - 1);
    if (apart === size) {
      this.lost++;
      // A new overflow is told only when software has acknowledged the last one.
      if (((prod ^ cons) & OVERFLOW) === 0) page1[PROD] = (prod ^ OVERFLOW) >>> 0;
      return;
    }
    const start = fromLoHi(base & 0xffff_ffe0, this.#words[EVENTQ_BASE + 1]! & 0xf_ffff);
    const at = start + (prod & (size - 1)) * SMMU_EVT_BYTES;
    if (this.#master.write(at, this.#bytes, 0, SMMU_EVT_BYTES) !== BusStatus.OK) {
      this.lost++;
      this.#signals.error(EVENTQ_ABT_ERR.mask);
      return;
    }
    page1[PROD] = ((prod & OVERFLOW) | ((prod + 1) & INDEX & (2 * size - 1))) >>> 0;
    if (apart === 0) this.#signals.event();
  }
}
