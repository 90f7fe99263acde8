/** Messages that could flood the log: ten in five seconds unless told otherwise, the rest counted. */
import type { Kernel } from './kernel.ts';
import { prWarn } from './printk.ts';

const INTERVAL_NS = 5e9;
const BURST = 10;

/** One place that prints. @linux struct ratelimit_state */
export class Ratelimit {
  readonly #kernel: Kernel;
  readonly #function: string;
  readonly #intervalNs: number;
  readonly #burst: number;
  #beginNs = Number.NEGATIVE_INFINITY;
  #printed = 0;
  #missed = 0;

  /** `name` is the function that the kernel names when it tells how much was left out; '': it does not tell. */
  constructor(kernel: Kernel, name: string, intervalNs = INTERVAL_NS, burst = BURST) {
    this.#kernel = kernel;
    this.#function = name;
    this.#intervalNs = intervalNs;
    this.#burst = burst;
  }
  /** Whether a message may be printed now. @linux __ratelimit */
  allow(): boolean {
    const now = this.#kernel.machine.now();
    if (now - this.#beginNs >= this.#intervalNs) {
      if (this.#missed > 0 && this.#function !== '')
        prWarn(this.#kernel, `${this.#function}: ${this.#missed} callbacks suppressed`);
      this.#beginNs = now;
      this.#printed = 0;
      this.#missed = 0;
    }
    if (this.#printed < this.#burst) {
      this.#printed++;
      return true;
    }
    this.#missed++;
    return false;
  }
}
