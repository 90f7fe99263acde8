/**
 * What a VT-d unit remembers of its tables: translations by domain, tables of the last level by domain, and context
 * entries by source. Finite and set-associative; within a set the oldest entry goes first. Whatever is in here is used,
 * whether or not memory has changed since: only an invalidation makes the unit forget.
 */
import { offsetIn } from '../base/addr.ts';

/** Entries of a set. */
const WAYS = 4;
/** Page numbers of 48-bit addresses fit below; a domain id stands above. */
const PAGES = 2 ** 36;
const EMPTY = -1;

/**
 * Values by domain and page number, pages being of one size: translations (the value is the page's physical address), or
 * pointers to tables (the value is the table's).
 */
export class DomainCache {
  /** Of the pages that the numbers count. */
  readonly pageBytes: number;
  /** Entries that hold something: nothing needs to be looked for while it is 0. */
  count = 0;
  /** Physical addresses, by entry. */
  readonly values: Float64Array;
  /** Bit 0: may be read, bit 1: may be written; by entry. Neither: known not to be present. */
  readonly rights: Uint8Array;
  readonly #keys: Float64Array;
  readonly #domains: Int32Array;
  readonly #oldest: Uint8Array;
  readonly #sets: number;

  /** `entries` is a power of two, at least `WAYS`. */
  constructor(entries: number, pageBytes: number) {
    this.pageBytes = pageBytes;
    this.#sets = entries / WAYS;
    this.values = new Float64Array(entries);
    this.rights = new Uint8Array(entries);
    this.#keys = new Float64Array(entries).fill(EMPTY);
    this.#domains = new Int32Array(entries).fill(EMPTY);
    this.#oldest = new Uint8Array(this.#sets);
  }

  /** The entry of a page, or -1. */
  find(domain: number, page: number): number {
    const key = domain * PAGES + page;
    const keys = this.#keys;
    const at = offsetIn(page, this.#sets) * WAYS;
    if (keys[at] === key) return at;
    if (keys[at + 1] === key) return at + 1;
    if (keys[at + 2] === key) return at + 2;
    return keys[at + 3] === key ? at + 3 : -1;
  }

  /** Remember a page, in the place of another one if need be. */
  insert(domain: number, page: number, value: number, rights: number): void {
    const set = offsetIn(page, this.#sets);
    let at = this.find(domain, page);
    if (at < 0) {
      at = set * WAYS;
      const end = at + WAYS;
      while (at < end && this.#keys[at] !== EMPTY) at++;
      if (at === end) {
        const way = this.#oldest[set]!;
        this.#oldest[set] = (way + 1) % WAYS;
        at = set * WAYS + way;
      } else this.count++;
    }
    this.#keys[at] = domain * PAGES + page;
    this.#domains[at] = domain;
    this.values[at] = value;
    this.rights[at] = rights;
  }

  dropAll(): void {
    if (this.count === 0) return;
    this.#keys.fill(EMPTY);
    this.#domains.fill(EMPTY);
    this.count = 0;
  }
  dropDomain(domain: number): void {
    if (this.count === 0) return;
    const domains = this.#domains;
    for (let at = 0; at < domains.length; at++) if (domains[at] === domain) this.#drop(at);
  }
  /** Forget the pages that share a byte with [addr, addr + sizeBytes). */
  dropRange(domain: number, addr: number, sizeBytes: number): void {
    if (this.count === 0) return;
    const first = Math.floor(addr / this.pageBytes);
    const last = Math.floor((addr + sizeBytes - 1) / this.pageBytes);
    if (last - first < this.#sets) {
      for (let page = first; page <= last; page++) {
        const at = this.find(domain, page);
        if (at >= 0) this.#drop(at);
      }
      return;
    }
    const keys = this.#keys;
    const low = domain * PAGES + first;
    const high = domain * PAGES + last;
    for (let at = 0; at < keys.length; at++) if (keys[at]! >= low && keys[at]! <= high) this.#drop(at);
  }
  #drop(at: number): void {
    this.#keys[at] = EMPTY;
    this.#domains[at] = EMPTY;
    this.count--;
  }
}

/** Context entries by source id (bus, device and function of the requester). */
export class ContextCache {
  /** By entry: the domain, 0 for sources that have none (caching mode). */
  readonly domains: Int32Array;
  /** The translation type; `CONTEXT_ABSENT` when none is present. */
  readonly kinds: Uint8Array;
  /** Levels of its page tables. */
  readonly levels: Uint8Array;
  /** Physical address of its first page table. */
  readonly tables: Float64Array;
  /** Whether faults of the source are not to be recorded. */
  readonly silent: Uint8Array;
  readonly #sources: Int32Array;
  readonly #oldest: Uint8Array;
  readonly #sets: number;

  constructor(entries: number) {
    this.#sets = entries / WAYS;
    this.domains = new Int32Array(entries);
    this.kinds = new Uint8Array(entries);
    this.levels = new Uint8Array(entries);
    this.tables = new Float64Array(entries);
    this.silent = new Uint8Array(entries);
    this.#sources = new Int32Array(entries).fill(EMPTY);
    this.#oldest = new Uint8Array(this.#sets);
  }

  /** The entry of a source, or -1. */
  find(source: number): number {
    const sources = this.#sources;
    const at = this.#setOf(source) * WAYS;
    if (sources[at] === source) return at;
    if (sources[at + 1] === source) return at + 1;
    if (sources[at + 2] === source) return at + 2;
    return sources[at + 3] === source ? at + 3 : -1;
  }
  /** A source's set: devices of one bus differ in the bits above the function, functions of one device below. */
  #setOf(source: number): number {
    return (source ^ (source >>> 3)) & (this.#sets - 1);
  }

  /** An entry for a source that has none, to be filled in. */
  claim(source: number): number {
    const set = this.#setOf(source);
    let at = set * WAYS;
    const end = at + WAYS;
    while (at < end && this.#sources[at] !== EMPTY) at++;
    if (at === end) {
      const way = this.#oldest[set]!;
      this.#oldest[set] = (way + 1) % WAYS;
      at = set * WAYS + way;
    }
    this.#sources[at] = source;
    return at;
  }

  dropAll(): void {
    this.#sources.fill(EMPTY);
  }
  dropDomain(domain: number): void {
    for (let at = 0; at < this.#sources.length; at++) if (this.domains[at] === domain) this.#sources[at] = EMPTY;
  }
  /** Forget the sources of a domain that equal `source` but for the bits of `ignored`. */
  dropSource(domain: number, source: number, ignored: number): void {
    for (let at = 0; at < this.#sources.length; at++) {
      const held = this.#sources[at]!;
      if (held !== EMPTY && this.domains[at] === domain && ((held ^ source) & ~ignored) === 0) {
        this.#sources[at] = EMPTY;
      }
    }
  }
}
