import { PAGE_SHIFT } from '../../base/addr.ts';
import type { Prng } from '../../base/prng.ts';
import type { CacheOp } from '../observer.ts';
import type { Cache } from './cache.ts';
import { PageState, type SimBank } from './sim-bank.ts';

/** Ranges remembered: a power of two. */
const RANGES = 32;
const MAX_GROWN_BYTES = 65536;

/** Told of every line that moved by itself. */
export type LineMoved = (op: CacheOp, bank: SimBank, offset: number) => void;

/**
 * What caches do by themselves: evict dirty lines and prefetch clean ones, at seeded moments, where it hurts: in ranges
 * that cache operations or devices touched lately, their edges, and the lines just outside.
 */
export class Prefetcher {
  readonly #prng: Prng;
  readonly #cache: Cache;
  readonly #moved: LineMoved;
  readonly #banks: (SimBank | null)[] = new Array(RANGES).fill(null);
  readonly #starts = new Float64Array(RANGES);
  readonly #ends = new Float64Array(RANGES);
  #next = 0;
  #known = 0;

  constructor(prng: Prng, cache: Cache, moved: LineMoved) {
    this.#prng = prng;
    this.#cache = cache;
    this.#moved = moved;
  }

  /**
   * [start, end) of the bank is of interest. One that goes on where one of the last two ended grows that one, so that a
   * stream of small accesses does not push everything else out.
   */
  note(bank: SimBank, start: number, end: number): void {
    for (let back = 1; back <= 2; back++) {
      const at = (this.#next - back) & (RANGES - 1);
      if (this.#banks[at] !== bank) continue;
      const from = this.#starts[at] as number;
      if (start === this.#ends[at] && end - from <= MAX_GROWN_BYTES) this.#ends[at] = end;
      else if (start !== from || end !== this.#ends[at]) continue;
      return;
    }
    const at = this.#next;
    this.#banks[at] = bank;
    this.#starts[at] = start;
    this.#ends[at] = end;
    this.#next = (at + 1) & (RANGES - 1);
    if (this.#known < RANGES) this.#known++;
  }

  /** Move a few lines. */
  tick(): void {
    if (this.#known === 0) return;
    const at = this.#prng.below(this.#known);
    const bank = this.#banks[at] as SimBank;
    const lineBytes = this.#cache.lineBytes;
    const first = Math.floor((this.#starts[at] as number) / lineBytes);
    const last = Math.floor(((this.#ends[at] as number) - 1) / lineBytes);
    // The two edges and the lines outside of them are where buffers share lines with other data.
    this.#move(bank, first - this.#prng.below(2));
    this.#move(bank, last + this.#prng.below(2));
    this.#move(bank, first + this.#prng.below(last - first + 1));
  }

  #move(bank: SimBank, line: number): void {
    const lineBytes = this.#cache.lineBytes;
    const start = line * lineBytes;
    if (start < 0 || start >= bank.sizeBytes || bank.pages[start >>> PAGE_SHIFT] !== PageState.CACHED) return;
    if (this.#cache.isDirty(bank, start)) {
      this.#cache.clean(bank, start, start + lineBytes);
      this.#moved('evict', bank, start);
    } else {
      this.#cache.invalidate(bank, start, start + lineBytes);
      this.#moved('prefetch', bank, start);
    }
  }
}
