import { type PhysAddr, physAddr } from '../../base/addr.ts';
import { IRQ_LINES as LINES, LOCAL_IRQ, type MsiVector } from '../contract.ts';
import type { IrqLine } from '../model.ts';

/** Wired lines are numbered below this, message-signalled ones from here on. */
export const FIRST_MSI_LINE = 1024;
/** The CPU's own interrupt stands behind all others, and is called `LOCAL_IRQ` outside. */
const LOCAL = LINES;
/** A vector's data word is its number plus this (on x86, vectors below 32 are the CPU's exceptions). */
const FIRST_MSI_DATA = 32;

const ENABLED = 1;
const HIGH = 2;
const EDGE = 4;
/** Its handler runs. */
const MASKED = 8;

/** The interrupt controller: which line is enabled, high, or has an edge that was not delivered yet. */
export class InterruptController {
  /** How many lines could be delivered now. */
  deliverable = 0;
  readonly msiBase: number;
  readonly #state = new Uint8Array(LINES + 1);
  /** One bit per line that could be delivered. */
  readonly #ready = new Int32Array((LINES >>> 5) + 1);
  readonly #lose = new Uint32Array(LINES);
  readonly #msiUsed = new Uint8Array(LINES - FIRST_MSI_LINE);

  /** @param msiBase where devices write their messages, or -1 on a machine without them */
  constructor(msiBase: number) {
    this.msiBase = msiBase;
    this.#state[LOCAL] = ENABLED;
  }

  irqLine(line: number): IrqLine {
    if (!(line >= 0 && line < FIRST_MSI_LINE)) {
      throw new RangeError(`wired interrupt lines are 0 to ${FIRST_MSI_LINE - 1}, found ${line}`);
    }
    return {
      line,
      set: (high) => this.#level(line, high),
      pulse: () => this.#edge(line),
    };
  }

  enable(line: number): void {
    this.#update(this.#checked(line), (this.#state[line] as number) | ENABLED);
  }
  disable(line: number): void {
    this.#update(this.#checked(line), (this.#state[line] as number) & ~ENABLED);
  }
  lose(line: number, count: number): void {
    this.#lose[this.#checked(line)] = count;
  }

  raiseLocal(): void {
    this.#update(LOCAL, (this.#state[LOCAL] as number) | EDGE);
  }

  /** Take the lowest line that can be delivered, which must exist: its edge is spent, and it is masked until `end`. */
  take(): number {
    const ready = this.#ready;
    let word = 0;
    while (ready[word] === 0) word++;
    const bits = ready[word] as number;
    const line = (word << 5) + 31 - Math.clz32(bits & -bits);
    this.#update(line, ((this.#state[line] as number) & ~EDGE) | MASKED);
    return line === LOCAL ? LOCAL_IRQ : line;
  }
  /** The handler of the line has ended, or let further interrupts in. */
  end(line: number): void {
    const slot = line === LOCAL_IRQ ? LOCAL : line;
    this.#update(slot, (this.#state[slot] as number) & ~MASKED);
  }

  allocateMsi(): MsiVector {
    if (this.msiBase < 0) throw new Error('this machine has no message-signalled interrupts (no msiBase)');
    const index = this.#msiUsed.indexOf(0);
    if (index < 0) throw new Error(`all ${this.#msiUsed.length} message-signalled interrupts are in use`);
    this.#msiUsed[index] = 1;
    return { line: FIRST_MSI_LINE + index, address: physAddr(this.msiBase) as PhysAddr, data: FIRST_MSI_DATA + index };
  }
  freeMsi(vector: MsiVector): void {
    const index = vector.line - FIRST_MSI_LINE;
    if (this.#msiUsed[index] !== 1) throw new Error(`interrupt ${vector.line} is no allocated message-signalled one`);
    this.#msiUsed[index] = 0;
    this.#update(vector.line, 0);
  }
  /** A device wrote a message. One that no vector has is lost, as on hardware. */
  message(data: number): void {
    const index = data - FIRST_MSI_DATA;
    if (this.#msiUsed[index] === 1) this.#edge(FIRST_MSI_LINE + index);
  }

  #level(line: number, high: boolean): void {
    const state = this.#state[line] as number;
    if (!high) this.#update(line, state & ~HIGH);
    else if ((state & HIGH) === 0 && !this.#lost(line)) this.#update(line, state | HIGH);
  }
  #edge(line: number): void {
    if (!this.#lost(line)) this.#update(line, (this.#state[line] as number) | EDGE);
  }
  #lost(line: number): boolean {
    if (this.#lose[line] === 0) return false;
    (this.#lose[line] as number)--;
    return true;
  }
  #checked(line: number): number {
    if (!(line >= 0 && line < LINES)) throw new RangeError(`interrupt lines are 0 to ${LINES - 1}, found ${line}`);
    return line;
  }
  #update(line: number, state: number): void {
    this.#state[line] = state;
    const word = line >>> 5;
    const bit = 1 << (line & 31);
    const was = ((this.#ready[word] as number) & bit) !== 0;
    const is = (state & (ENABLED | MASKED)) === ENABLED && (state & (HIGH | EDGE)) !== 0;
    if (was === is) return;
    this.#ready[word] = (this.#ready[word] as number) ^ bit;
    this.deliverable += is ? 1 : -1;
  }
}
