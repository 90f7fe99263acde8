/** Messages that could flood the log: ten in five seconds, the rest counted. */
import type { Kernel } from '../kernel/kernel.ts';
import { prWarn } from '../kernel/printk.ts';

const INTERVAL_NS = 5e9;
const BURST = 10;

/** One place that prints. @linux struct ratelimit_state */
export class Ratelimit {
  readonly #kernel: Kernel;
  readonly #function: string;
  #beginNs = Number.NEGATIVE_INFINITY;
  #printed = 0;
  #missed = 0;

  /** `name` is the function that the kernel names when it tells how much was left out. */
  constructor(kernel: Kernel, name: string) {
    this.#kernel = kernel;
    this.#function = name;
  }
  /** Whether a message may be printed now. @linux __ratelimit */
  allow(): boolean {
    const now = this.#kernel.machine.now();
    if (now - this.#beginNs >= INTERVAL_NS) {
      if (this.#missed > 0) prWarn(this.#kernel, `${this.#function}: ${this.#missed} callbacks suppressed`);
      this.#beginNs = now;
      this.#printed = 0;
      this.#missed = 0;
    }
    if (this.#printed < BURST) {
      this.#printed++;
      return true;
    }
    this.#missed++;
    return false;
  }
}
