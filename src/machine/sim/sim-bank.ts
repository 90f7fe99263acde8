import { PAGE_SHIFT, type PhysAddr } from '../../base/addr.ts';
import { RamBank } from '../ram.ts';

/** How a page of RAM is reached by the CPU. Larger values: uncached, with store buffer slot `value - FIRST_SLOT`. */
export const PageState = { CACHED: 0, UNCACHED: 1, FIRST_SLOT: 2 } as const;

/** A bank with what the simulation keeps about its pages. */
export class SimBank extends RamBank {
  readonly end: number;
  /** One `PageState` per page. */
  readonly pages: Uint8Array;
  /** How many pages are uncached: nothing to look at while it is 0. */
  uncachedPages = 0;

  constructor(base: PhysAddr, sizeBytes: number, coherent: boolean) {
    super(base, sizeBytes, coherent);
    this.end = base + sizeBytes;
    this.pages = new Uint8Array(sizeBytes >>> PAGE_SHIFT);
  }
}
