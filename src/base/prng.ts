/** The one source of randomness: a seeded generator (sfc32), so that a run can be repeated to the byte. */
export class Prng {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;
  /** The seed it was made from, to print and to repeat. */
  readonly seed: number;

  /** @param seed any integer in [0, 2^32) */
  constructor(seed: number) {
    this.seed = seed >>> 0;
    // Signed, as all that follows: an engine keeps numbers from 2^31 on in another, slower form.
    this.#a = 0x9e3779b9 | 0;
    this.#b = 0x243f6a88;
    this.#c = seed | 0;
    for (let i = 0; i < 12; i++) this.u32();
  }

  /** A generator of its own for one purpose, so that drawing more in one place changes nothing in another. */
  fork(label: string): Prng {
    let hash = (this.seed ^ 0x811c9dc5) >>> 0;
    for (let i = 0; i < label.length; i++) hash = Math.imul(hash ^ label.charCodeAt(i), 0x01000193) >>> 0;
    return new Prng(hash);
  }

  /** Uniform in [0, 2^32). */
  u32(): number {
    const t = (((this.#a + this.#b) | 0) + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + t) | 0;
    return t >>> 0;
  }
  /** Uniform in [0, limit), limit up to 2^32. */
  below(limit: number): number {
    return Math.floor((this.u32() / 0x1_0000_0000) * limit);
  }
  /** Uniform in [low, high], both included. */
  between(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }
  /** True with probability numerator/denominator. */
  chance(numerator: number, denominator: number): boolean {
    return this.below(denominator) < numerator;
  }
  /** Fill with random bytes. */
  fill(bytes: Uint8Array): void {
    for (let i = 0; i < bytes.length; i += 4) {
      const word = this.u32();
      for (let j = 0; j < 4 && i + j < bytes.length; j++) bytes[i + j] = word >>> (8 * j);
    }
  }
}
