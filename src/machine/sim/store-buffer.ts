import type { Prng } from '../../base/prng.ts';
import { PageState, type SimBank } from './sim-bank.ts';

/** Pages whose pending stores are followed at the same time; the least recently used gives way. */
const SLOTS = 12;
const PAGE_WORDS = 1024;
/** Idling for so long drains everything. */
const MAX_PATIENCE_NS = 10_000;

/** One followed page: what devices see of it for sure. */
class Slot {
  bank: SimBank | null = null;
  page = -1;
  usedAt = 0;
  /** The page as of the last barrier, and later where a device has seen or written it. */
  readonly shadow = new Int32Array(PAGE_WORDS);
  readonly shadowBytes = new Uint8Array(this.shadow.buffer);
  live: Int32Array = this.shadow;
}

/**
 * Weak ordering: stores to uncached memory are pending until a barrier. `memory` holds what the CPU stored; a slot's
 * shadow holds what devices see for sure. Where the two differ, each word is seen old or new, as the seed decides.
 *
 * A barrier must not compare megabytes: only the pages that devices used last, and fresh allocations, are followed. What
 * is stored elsewhere is seen at once, which real hardware may do as well.
 */
export class StoreBuffer {
  /** Whether any page is followed. */
  active = false;
  readonly #prng: Prng;
  readonly #slots: Slot[] = [];
  #clock = 0;
  /** Idle time until everything has drained. */
  #patienceNs = 0;

  constructor(prng: Prng) {
    this.#prng = prng;
    for (let i = 0; i < SLOTS; i++) this.#slots.push(new Slot());
  }

  /** Follow a page from now on: everything stored so far is visible. */
  follow(bank: SimBank, page: number): void {
    let oldest = 0;
    for (let i = 1; i < SLOTS; i++) {
      if ((this.#slots[i] as Slot).usedAt < (this.#slots[oldest] as Slot).usedAt) oldest = i;
    }
    const slot = this.#slots[oldest] as Slot;
    if (slot.bank !== null) slot.bank.pages[slot.page] = PageState.UNCACHED;
    slot.bank = bank;
    slot.page = page;
    slot.usedAt = ++this.#clock;
    slot.live = bank.memory32.subarray(page * PAGE_WORDS, (page + 1) * PAGE_WORDS);
    slot.shadow.set(slot.live);
    bank.pages[page] = PageState.FIRST_SLOT + oldest;
    this.active = true;
  }
  /** The page is no longer uncached. */
  forget(bank: SimBank, page: number): void {
    const slot = this.#slots[(bank.pages[page] as number) - PageState.FIRST_SLOT];
    if (slot === undefined) return;
    slot.bank = null;
    slot.usedAt = 0;
    this.active = this.#slots.some((other) => other.bank !== null);
  }

  /** A barrier: every store so far is visible. */
  drain(): void {
    for (let i = 0; i < SLOTS; i++) {
      const slot = this.#slots[i] as Slot;
      if (slot.bank !== null) slot.shadow.set(slot.live);
    }
  }
  /** Some stores reach memory by themselves. */
  drainOne(): void {
    const slot = this.#slots[this.#prng.below(SLOTS)] as Slot;
    if (slot.bank !== null) slot.shadow.set(slot.live);
  }
  /** Time passed while the CPU idled: the longer, the likelier everything has drained. */
  passed(ns: number): void {
    this.#patienceNs -= ns;
    if (this.#patienceNs > 0) return;
    this.#patienceNs = this.#prng.below(MAX_PATIENCE_NS);
    this.drain();
  }

  /**
   * A device has read [offset, offset+size) of the bank, and `into` holds what is in memory from `intoOffset` on: put
   * back what it does not see yet.
   */
  read(bank: SimBank, offset: number, size: number, into: Uint8Array, intoOffset: number): void {
    const end = offset + size;
    const lastWord = (end - 1) >>> 2;
    for (let word = offset >>> 2; word <= lastWord; ) {
      const page = word >>> 10;
      const pageEnd = Math.min(lastWord + 1, (page + 1) << 10);
      const slot = this.#slotOf(bank, page);
      if (slot === null) {
        word = pageEnd;
        continue;
      }
      const first = page << 10;
      for (; word < pageEnd; word++) {
        if (slot.live[word - first] === slot.shadow[word - first]) continue;
        if (this.#prng.below(2) === 0) {
          slot.shadow[word - first] = slot.live[word - first] as number;
          continue;
        }
        const from = Math.max(offset, word << 2);
        const to = Math.min(end, (word << 2) + 4);
        for (let at = from; at < to; at++) {
          into[intoOffset + at - offset] = slot.shadowBytes[at - (first << 2)] as number;
        }
      }
    }
  }

  /** A device has written [offset, offset+size) of the bank: that is what devices see. */
  written(bank: SimBank, offset: number, size: number): void {
    const end = offset + size;
    for (let at = offset; at < end; ) {
      const page = at >>> 12;
      const pageEnd = Math.min(end, (page + 1) * 4096);
      const slot = this.#slotOf(bank, page);
      if (slot !== null) {
        const start = page * 4096;
        for (let i = at; i < pageEnd; i++) slot.shadowBytes[i - start] = bank.memory[i] as number;
      }
      at = pageEnd;
    }
  }

  /** The slot of a page that a device uses; a page that was not followed yet is, from now on. */
  #slotOf(bank: SimBank, page: number): Slot | null {
    const state = bank.pages[page] as number;
    if (state === PageState.CACHED) return null;
    if (state === PageState.UNCACHED) {
      this.follow(bank, page);
      return null;
    }
    const slot = this.#slots[state - PageState.FIRST_SLOT] as Slot;
    slot.usedAt = ++this.#clock;
    return slot;
  }
}
