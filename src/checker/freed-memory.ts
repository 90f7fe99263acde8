/** The objects that the slab allocator took back last: whoever maps one of them maps freed memory. A ring. */
import { RangeIndex } from './range-index.ts';

const KEPT = 4096;

/** See the file's head. */
export class FreedMemory {
  readonly #start = new Float64Array(KEPT);
  readonly #size = new Float64Array(KEPT);
  readonly #used = new Uint8Array(KEPT);
  readonly #rights = new Uint8Array(KEPT).fill(1);
  readonly #index = new RangeIndex({ start: this.#start, size: this.#size, owner: new Int32Array(KEPT) });
  #at = 0;

  /** An object was taken back. */
  add(phys: number, size: number): void {
    const at = this.#at;
    this.#at = (at + 1) % KEPT;
    this.#drop(at);
    this.#start[at] = phys;
    this.#size[at] = size;
    this.#used[at] = 1;
    this.#index.insert(at);
  }
  /** Memory was handed out: nothing in it is free. */
  handedOut(phys: number, size: number): void {
    if (this.#index.count === 0) return;
    for (;;) {
      const at = this.#index.firstOverlapping(0, phys, phys + size, this.#rights, 1);
      if (at < 0) return;
      this.#drop(at);
    }
  }
  /** Whether any of these bytes were taken back, and not handed out again, as far as is remembered. */
  has(phys: number, size: number): boolean {
    if (this.#index.count === 0) return false;
    return this.#index.firstOverlapping(0, phys, phys + size, this.#rights, 1) >= 0;
  }
  #drop(at: number): void {
    if (this.#used[at] === 0) return;
    this.#index.remove(at);
    this.#used[at] = 0;
  }
}
