/**
 * The TLBs of an SMMU: translations, and pointers to tables of the last level, each with the address space it belongs to
 * as a tag. Finite and set-associative; within a set the oldest entry goes first. Whatever is in here is used, whether
 * or not memory has changed since: only an invalidation makes the unit forget.
 */
import { offsetIn } from '../base/addr.ts';

/** Entries of a set. */
const WAYS = 4;
const EMPTY = -1;
/** A tag is a group (which VMID, or EL2) and, below, an ASID of 16 bits or one of the following two. */
const ASIDS = 2 ** 17;
/** Stage 1 translations that hold for every ASID of the group. */
const GLOBAL = 2 ** 16;
/** Stage 2 alone. */
const STAGE2 = 2 ** 16 + 1;
/** The group of EL2; smaller ones are VMIDs of EL1. */
export const GROUP_EL2 = 2 ** 16;

/** The tag of a stage 1 translation of one ASID. */
export function tagOf(group: number, asid: number): number {
  return group * ASIDS + asid;
}
/** The tag of a stage 1 translation of all ASIDs. */
export function globalTagOf(group: number): number {
  return group * ASIDS + GLOBAL;
}
/** The tag of a translation by stage 2 alone. */
export function stage2TagOf(group: number): number {
  return group * ASIDS + STAGE2;
}

/** Values by tag and page number, pages being of one size. */
export class TagCache {
  /** Of the pages that the numbers count. */
  readonly pageBytes: number;
  /** Entries that hold something: nothing needs to be looked for while it is 0. */
  count = 0;
  /** Physical addresses, by entry. */
  readonly values: Float64Array;
  /** What is allowed; the bits are the walker's. */
  readonly rights: Uint8Array;
  /** The intermediate physical address, where both stages translate. */
  readonly ipas: Float64Array;
  readonly #pages: Float64Array;
  readonly #tags: Float64Array;
  readonly #oldest: Uint8Array;
  readonly #sets: number;
  // Which entries an invalidation is about.
  #tag = 0;
  #otherTag = 0;
  #group = 0;

  /** `entries` is a power of two, at least `WAYS`. */
  constructor(entries: number, pageBytes: number) {
    this.pageBytes = pageBytes;
    this.#sets = entries / WAYS;
    this.values = new Float64Array(entries);
    this.rights = new Uint8Array(entries);
    this.ipas = new Float64Array(entries);
    this.#pages = new Float64Array(entries).fill(EMPTY);
    this.#tags = new Float64Array(entries).fill(EMPTY);
    this.#oldest = new Uint8Array(this.#sets);
  }

  /** The entry of a page with either tag, or -1. */
  find(tag: number, globalTag: number, page: number): number {
    const pages = this.#pages;
    const start = offsetIn(page, this.#sets) * WAYS;
    for (let at = start; at < start + WAYS; at++) {
      if (pages[at] !== page) continue;
      const held = this.#tags[at];
      if (held === tag || held === globalTag) return at;
    }
    return -1;
  }

  /** Remember a page, in the place of another one if need be. */
  insert(tag: number, page: number, value: number, rights: number, ipa: number): void {
    const set = offsetIn(page, this.#sets);
    let at = this.find(tag, tag, page);
    if (at < 0) {
      at = set * WAYS;
      const end = at + WAYS;
      while (at < end && this.#pages[at] !== EMPTY) at++;
      if (at === end) {
        const way = this.#oldest[set]!;
        this.#oldest[set] = (way + 1) % WAYS;
        at = set * WAYS + way;
      } else this.count++;
    }
    this.#pages[at] = page;
    this.#tags[at] = tag;
    this.values[at] = value;
    this.rights[at] = rights;
    this.ipas[at] = ipa;
  }

  dropAll(): void {
    if (this.count === 0) return;
    this.#pages.fill(EMPTY);
    this.#tags.fill(EMPTY);
    this.count = 0;
  }
  /** Forget all VMIDs' translations, or EL2's. */
  dropWorld(el2: boolean): void {
    for (let at = 0; this.count > 0 && at < this.#tags.length; at++) {
      const tag = this.#tags[at]!;
      if (tag !== EMPTY && tag >= GROUP_EL2 * ASIDS === el2) this.#drop(at);
    }
  }
  /** Forget a group's translations, of both stages. */
  dropGroup(group: number): void {
    for (let at = 0; this.count > 0 && at < this.#tags.length; at++) {
      const tag = this.#tags[at]!;
      if (tag !== EMPTY && Math.floor(tag / ASIDS) === group) this.#drop(at);
    }
  }
  /** Forget a group's translations that stage 1 has a part in. */
  dropStage1(group: number): void {
    this.#select(EMPTY, EMPTY, group);
    for (let at = 0; this.count > 0 && at < this.#tags.length; at++) if (this.#isMeant(at)) this.#drop(at);
  }
  /** Forget what has exactly this tag. */
  dropTag(tag: number): void {
    for (let at = 0; this.count > 0 && at < this.#tags.length; at++) if (this.#tags[at] === tag) this.#drop(at);
  }
  /**
   * Forget the pages that share a byte with [addr, addr + sizeBytes) and have one of the tags (-1: none), or any tag of
   * stage 1 in the group (-1: no group).
   */
  dropRange(addr: number, sizeBytes: number, tag: number, otherTag: number, group: number): void {
    if (this.count === 0) return;
    this.#select(tag, otherTag, group);
    const first = Math.floor(addr / this.pageBytes);
    const last = Math.floor((addr + sizeBytes - 1) / this.pageBytes);
    if (last - first < this.#sets) {
      for (let page = first; page <= last; page++) {
        const start = offsetIn(page, this.#sets) * WAYS;
        for (let at = start; at < start + WAYS; at++) {
          if (this.#pages[at] === page && this.#isMeant(at)) this.#drop(at);
        }
      }
      return;
    }
    for (let at = 0; at < this.#pages.length; at++) {
      const page = this.#pages[at]!;
      if (page >= first && page <= last && this.#isMeant(at)) this.#drop(at);
    }
  }

  #select(tag: number, otherTag: number, group: number): void {
    this.#tag = tag;
    this.#otherTag = otherTag;
    this.#group = group;
  }
  #isMeant(at: number): boolean {
    const tag = this.#tags[at]!;
    if (tag === EMPTY) return false;
    if (tag === this.#tag || tag === this.#otherTag) return true;
    return this.#group >= 0 && Math.floor(tag / ASIDS) === this.#group && tag % ASIDS !== STAGE2;
  }
  #drop(at: number): void {
    this.#pages[at] = EMPTY;
    this.#tags[at] = EMPTY;
    this.count--;
  }
}
