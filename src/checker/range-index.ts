/**
 * Finds ranges by address: a chained hash over (owner, size class, bucket), where a bucket of a size class is as large
 * as the largest range in it. So a range touches at most two buckets, is found by its start with one probe, and what
 * covers a byte is found with two probes for each size class in use. Nothing is allocated per operation.
 *
 * The entries belong to the caller: columns of numbers, indexed by entry. Ranges may repeat and overlap.
 */

/** Largest size of each class, as powers of two. */
const SHIFTS = [8, 12, 16, 20, 24, 28, 32, 51] as const;
const CLASSES = SHIFTS.length;
const INVERSE = Float64Array.from(SHIFTS, (shift) => 2 ** -shift);
const LIMIT = Float64Array.from(SHIFTS, (shift) => 2 ** shift);
const GOLDEN = 0x9e3779b1 | 0;

/** The columns of the entries that an index reads. */
export interface RangeColumns {
  readonly start: Float64Array;
  readonly size: Float64Array;
  /** Who it belongs to; ranges of different owners never meet. */
  readonly owner: Int32Array;
}

/** The size class of a range. */
function classOf(size: number): number {
  if (size <= 256) return 0;
  if (size <= 4096) return 1;
  if (size <= 65536) return 2;
  let found = 3;
  while (found < CLASSES - 1 && size > LIMIT[found]!) found++;
  return found;
}

/** See the file's head. Searches return entries or -1; continue with `nextExact`. */
export class RangeIndex {
  #heads: Int32Array;
  #next: Int32Array;
  #mask: number;
  #start: Float64Array;
  #size: Float64Array;
  #owner: Int32Array;
  /** Live ranges of each size class. */
  readonly #live = new Int32Array(CLASSES);
  #count = 0;

  constructor(columns: RangeColumns) {
    this.#start = columns.start;
    this.#size = columns.size;
    this.#owner = columns.owner;
    const capacity = columns.start.length;
    this.#heads = new Int32Array(capacity).fill(-1);
    this.#mask = capacity - 1;
    this.#next = new Int32Array(capacity);
  }

  /** How many ranges are in it. */
  get count(): number {
    return this.#count;
  }

  #slot(owner: number, sizeClass: number, bucket: number): number {
    // A bucket number can exceed 32 bits; its high part is mixed in, so that truncation loses nothing that matters.
    const high = bucket >= 0x8000_0000 ? Math.floor(bucket / 0x8000_0000) : 0;
    const hash = Math.imul((bucket | 0) + Math.imul(owner + 1, 0x85ebca6b) + sizeClass * 0x27d4eb2f + high, GOLDEN);
    return (hash ^ (hash >>> 15)) & this.#mask;
  }

  /** Add entry `entry`, whose columns are filled. */
  insert(entry: number): void {
    const sizeClass = classOf(this.#size[entry]!);
    const slot = this.#slot(this.#owner[entry]!, sizeClass, Math.floor(this.#start[entry]! * INVERSE[sizeClass]!));
    this.#next[entry] = this.#heads[slot]!;
    this.#heads[slot] = entry;
    this.#live[sizeClass]!++;
    this.#count++;
  }
  /** Take out an entry; its columns must be as they were at `insert`. */
  remove(entry: number): void {
    const sizeClass = classOf(this.#size[entry]!);
    const slot = this.#slot(this.#owner[entry]!, sizeClass, Math.floor(this.#start[entry]! * INVERSE[sizeClass]!));
    const next = this.#next;
    let at = this.#heads[slot]!;
    if (at === entry) {
      this.#heads[slot] = next[entry]!;
    } else {
      while (next[at] !== entry) at = next[at]!;
      next[at] = next[entry]!;
    }
    this.#live[sizeClass]!--;
    this.#count--;
  }

  /** The newest range of exactly this owner, start and size class. */
  firstExact(owner: number, start: number, size: number): number {
    const sizeClass = classOf(size);
    if (this.#live[sizeClass] === 0) return -1;
    const slot = this.#slot(owner, sizeClass, Math.floor(start * INVERSE[sizeClass]!));
    return this.#seekExact(this.#heads[slot]!, owner, start);
  }
  /** The next older one after `entry`. */
  nextExact(entry: number, owner: number, start: number): number {
    return this.#seekExact(this.#next[entry]!, owner, start);
  }
  #seekExact(from: number, owner: number, start: number): number {
    let at = from;
    while (at >= 0 && (this.#start[at] !== start || this.#owner[at] !== owner)) at = this.#next[at]!;
    return at;
  }

  /**
   * Of the ranges that cover the byte at `position` and whose `kinds[entry]` has a bit of `accepted`, the one that
   * reaches furthest; -1 when there is none.
   */
  covering(owner: number, position: number, kinds: Uint8Array, accepted: number): number {
    let best = -1;
    let bestEnd = position;
    for (let sizeClass = 0; sizeClass < CLASSES; sizeClass++) {
      if (this.#live[sizeClass] === 0) continue;
      const bucket = Math.floor(position * INVERSE[sizeClass]!);
      for (let side = bucket > 0 ? bucket - 1 : bucket; side <= bucket; side++) {
        let at = this.#heads[this.#slot(owner, sizeClass, side)]!;
        for (; at >= 0; at = this.#next[at]!) {
          const start = this.#start[at]!;
          const end = start + this.#size[at]!;
          if (start > position || end <= bestEnd || this.#owner[at] !== owner) continue;
          if ((kinds[at]! & accepted) === 0) continue;
          best = at;
          bestEnd = end;
        }
      }
    }
    return best;
  }

  /** The first range found that shares a byte with [start, end) and is accepted as in `covering`; -1: none. */
  firstOverlapping(owner: number, start: number, end: number, kinds: Uint8Array, accepted: number): number {
    for (let sizeClass = 0; sizeClass < CLASSES; sizeClass++) {
      if (this.#live[sizeClass] === 0) continue;
      const first = Math.floor(start * INVERSE[sizeClass]!);
      const last = Math.floor((end - 1) * INVERSE[sizeClass]!);
      for (let bucket = first > 0 ? first - 1 : first; bucket <= last; bucket++) {
        let at = this.#heads[this.#slot(owner, sizeClass, bucket)]!;
        for (; at >= 0; at = this.#next[at]!) {
          const from = this.#start[at]!;
          if (from >= end || from + this.#size[at]! <= start || this.#owner[at] !== owner) continue;
          if ((kinds[at]! & accepted) !== 0) return at;
        }
      }
    }
    return -1;
  }

  /** Call `visit` for each range that shares a byte with [start, end); stops when it returns true. Order: newest first within a bucket. */
  overlapping(owner: number, start: number, end: number, visit: (entry: number) => boolean): boolean {
    for (let sizeClass = 0; sizeClass < CLASSES; sizeClass++) {
      if (this.#live[sizeClass] === 0) continue;
      const first = Math.floor(start * INVERSE[sizeClass]!);
      const last = Math.floor((end - 1) * INVERSE[sizeClass]!);
      for (let bucket = first > 0 ? first - 1 : first; bucket <= last; bucket++) {
        let at = this.#heads[this.#slot(owner, sizeClass, bucket)]!;
        while (at >= 0) {
          const next = this.#next[at]!;
          const from = this.#start[at]!;
          // Two buckets may share a slot: each range counts in its own bucket only.
          const mine = this.#owner[at] === owner && classOf(this.#size[at]!) === sizeClass;
          if (
            mine &&
            from < end &&
            from + this.#size[at]! > start &&
            Math.floor(from * INVERSE[sizeClass]!) === bucket
          ) {
            if (visit(at)) return true;
          }
          at = next;
        }
      }
    }
    return false;
  }

  /** The caller's columns have grown (to a power of two): take over the new ones and hash anew. `live` lists the entries. */
  grow(columns: RangeColumns, live: (visit: (entry: number) => void) => void): void {
    this.#start = columns.start;
    this.#size = columns.size;
    this.#owner = columns.owner;
    const capacity = columns.start.length;
    this.#heads = new Int32Array(capacity).fill(-1);
    this.#next = new Int32Array(capacity);
    this.#mask = capacity - 1;
    this.#live.fill(0);
    this.#count = 0;
    live((entry) => this.insert(entry));
  }
}
