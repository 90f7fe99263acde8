/** How interrupts of PCI functions travel: several pins on one line, and what a function does to raise one. */
import type { IrqLine } from '../machine/index.ts';

/** A line that several pins pull: high while one of them is. */
export class PciIrqLine {
  readonly #line: IrqLine;
  #pullers = 0;
  constructor(line: IrqLine) {
    this.#line = line;
  }
  /** A connection for one pin. */
  pin(): PciPin {
    return new PciPin(this);
  }
  /** @internal */
  pull(change: 1 | -1): void {
    this.#pullers += change;
    this.#line.set(this.#pullers > 0);
  }
}

/** One function's interrupt pin. */
export class PciPin {
  readonly #line: PciIrqLine;
  #high = false;
  constructor(line: PciIrqLine) {
    this.#line = line;
  }
  set(high: boolean): void {
    if (high === this.#high) return;
    this.#high = high;
    this.#line.pull(high ? 1 : -1);
  }
}
