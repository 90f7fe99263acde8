import type { Prng } from '../../base/prng.ts';

/** A power of two. */
const LATENCIES = 1024;

/** Register writes on their way: first in, first out, each due a little after it was made. A ring of typed arrays. */
export class PostedWrites {
  /** When the first one arrives; Infinity when none is on its way. */
  nextDue = Number.POSITIVE_INFINITY;
  length = 0;
  /** Of the write that `take` took. */
  addr = 0;
  width = 0;
  value = 0;
  /** How long writes take, in turn: drawn once, since drawing costs more than the rest of a write. */
  readonly #latencies = new Float64Array(LATENCIES);
  #turn = 0;
  #lastDue = 0;
  #head = 0;
  #mask = 63;
  #addrs = new Float64Array(64);
  #dues = new Float64Array(64);
  #values = new Uint32Array(64);
  #widths = new Uint8Array(64);

  /** Each takes from `minNs` to `maxNs`, but never overtakes the one before it. */
  constructor(prng: Prng, minNs: number, maxNs: number) {
    for (let i = 0; i < LATENCIES; i++) this.#latencies[i] = prng.between(minNs, maxNs);
  }

  push(nowNs: number, addr: number, width: number, value: number): void {
    if (this.length > this.#mask) this.#grow();
    const at = (this.#head + this.length++) & this.#mask;
    let due = nowNs + (this.#latencies[this.#turn] as number);
    this.#turn = (this.#turn + 1) & (LATENCIES - 1);
    if (due < this.#lastDue) due = this.#lastDue;
    this.#lastDue = due;
    this.#addrs[at] = addr;
    this.#dues[at] = due;
    this.#values[at] = value;
    this.#widths[at] = width;
    if (this.length === 1) this.nextDue = due;
  }

  /** Take the first one, which must exist, into `addr`, `width` and `value`. */
  take(): void {
    const at = this.#head;
    this.addr = this.#addrs[at] as number;
    this.value = this.#values[at] as number;
    this.width = this.#widths[at] as number;
    this.#head = (at + 1) & this.#mask;
    this.nextDue = --this.length === 0 ? Number.POSITIVE_INFINITY : (this.#dues[this.#head] as number);
  }

  #grow(): void {
    const old = { addrs: this.#addrs, dues: this.#dues, values: this.#values, widths: this.#widths };
    const size = 2 * (this.#mask + 1);
    this.#addrs = new Float64Array(size);
    this.#dues = new Float64Array(size);
    this.#values = new Uint32Array(size);
    this.#widths = new Uint8Array(size);
    for (let i = 0; i < this.length; i++) {
      const at = (this.#head + i) & this.#mask;
      this.#addrs[i] = old.addrs[at] as number;
      this.#dues[i] = old.dues[at] as number;
      this.#values[i] = old.values[at] as number;
      this.#widths[i] = old.widths[at] as number;
    }
    this.#head = 0;
    this.#mask = size - 1;
  }
}
