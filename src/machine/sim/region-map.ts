import { hexAddr, rangesOverlap } from '../../base/addr.ts';
import type { RegisterBlock } from '../model.ts';

/** A block of registers and where it answers. */
export interface Region {
  readonly base: number;
  readonly end: number;
  readonly name: string;
  readonly block: RegisterBlock;
}

/** Which block answers at an address: a sorted table behind the block that answered last. */
export class RegionMap {
  readonly #what: string;
  readonly #regions: Region[] = [];
  #last: Region | null = null;

  /** @param what 'registers' or 'ports', for messages */
  constructor(what: string) {
    this.#what = what;
  }

  add(base: number, size: number, name: string, block: RegisterBlock): void {
    if (!(size > 0 && base >= 0))
      throw new RangeError(`${name}: ${size} ${this.#what} at ${hexAddr(base)} make no block`);
    for (const other of this.#regions) {
      if (rangesOverlap(base, size, other.base, other.end - other.base)) {
        throw new Error(
          `${name}: ${this.#what} ${hexAddr(base)} to ${hexAddr(base + size - 1)} are already those of ${other.name}`,
        );
      }
    }
    this.#regions.push({ base, end: base + size, name, block });
    this.#regions.sort((a, b) => a.base - b.base);
  }
  /** Remove the block that begins at `base`. */
  remove(base: number): void {
    const at = this.#regions.findIndex((region) => region.base === base);
    if (at < 0) throw new Error(`no ${this.#what} begin at ${hexAddr(base)}`);
    this.#regions.splice(at, 1);
    this.#last = null;
  }

  /** The block that answers at `addr`, or null. */
  find(addr: number): Region | null {
    const last = this.#last;
    if (last !== null && addr >= last.base && addr < last.end) return last;
    const regions = this.#regions;
    let low = 0;
    let high = regions.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((regions[middle] as Region).end <= addr) low = middle + 1;
      else high = middle;
    }
    const region = regions[low];
    if (region === undefined || addr < region.base) return null;
    this.#last = region;
    return region;
  }
}
