/**
 * The ledger: every live mapping and allocation, in columns of numbers. A multiset: the same device and address may be
 * mapped many times, as the zero page is. Adding and taking out allocate nothing.
 */
import type { Trace } from './place.ts';
import { RangeIndex } from './range-index.ts';

/** What made an entry. SINGLE covers single and page, which are one to dma-debug: either unmaps the other. */
export const EntryType = { SINGLE: 0, SG: 1, COHERENT: 2, RESOURCE: 3 } as const;
/** One of `EntryType`'s numbers. */
export type EntryType = (typeof EntryType)[keyof typeof EntryType];

const typeNames = ['single', 'scatter-gather', 'coherent', 'resource'] as const;
/** As dma-debug words it. */
export function entryTypeName(type: EntryType): string {
  return typeNames[type];
}

/** Flags of an entry. */
export const EntryFlag = {
  /** `dmaMappingError` was asked, or need not be. */
  ERROR_CHECKED: 1,
  /** Made in the probe of its device's driver, which still holds it: no leak before the driver is unbound. */
  HELD_BY_DRIVER: 2,
  /** Mapped by the page interface, which takes what has no linear address. */
  PAGE: 4,
  /** Its physical range is RAM and known. */
  HAS_PHYS: 8,
  /** Reported as leaked. */
  LEAK_TOLD: 16,
  /** Coherent memory that the CPU caches all the same: dma_alloc_pages and dma_alloc_noncontiguous. */
  CACHED: 32,
} as const;

/** What a device may do with an entry: bits for `RangeIndex.covering`. */
export const MAY_READ = 1;
export const MAY_WRITE = 2;
const RIGHTS_BY_DIRECTION = [MAY_READ | MAY_WRITE, MAY_READ, MAY_WRITE, 0] as const;

const FIRST_CAPACITY = 1024;
/** The owner under which physical ranges are indexed: memory is everybody's. */
const MEMORY = 0;

/** See the file's head. An entry is a number, valid until `remove`. */
export class Ledger {
  /** First DMA address. */
  address = new Float64Array(FIRST_CAPACITY);
  /** First physical address, where `HAS_PHYS`. */
  phys = new Float64Array(FIRST_CAPACITY);
  size = new Float64Array(FIRST_CAPACITY);
  /** Index into the checker's devices. */
  device = new Int32Array(FIRST_CAPACITY);
  type = new Uint8Array(FIRST_CAPACITY);
  direction = new Uint8Array(FIRST_CAPACITY);
  rights = new Uint8Array(FIRST_CAPACITY);
  flags = new Uint8Array(FIRST_CAPACITY);
  attrs = new Int32Array(FIRST_CAPACITY);
  timeNs = new Float64Array(FIRST_CAPACITY);
  /** For scatterlists: how many entries the driver mapped. */
  sgNents = new Int32Array(FIRST_CAPACITY);
  /** For scatterlists: how many came out. */
  sgMapped = new Int32Array(FIRST_CAPACITY);
  /** What the device wrote lies within [wroteFrom, wroteTo), relative to the start; empty where wroteTo is 0. */
  wroteFrom = new Float64Array(FIRST_CAPACITY);
  wroteTo = new Float64Array(FIRST_CAPACITY);
  /** Where the device's writes went: the physical address of the entry's start. Not `phys` where they bounce. */
  devicePhys = new Float64Array(FIRST_CAPACITY);
  /** Where it was made. */
  readonly traces: (Trace | null)[] = new Array(FIRST_CAPACITY).fill(null);
  /** 1 for entries in use. */
  #live = new Uint8Array(FIRST_CAPACITY);
  #memory = new Int32Array(FIRST_CAPACITY).fill(MEMORY);
  #free = new Int32Array(FIRST_CAPACITY);
  #freeCount = 0;
  #used = 0;
  readonly byAddress: RangeIndex;
  readonly byPhys: RangeIndex;

  constructor() {
    this.byAddress = new RangeIndex({ start: this.address, size: this.size, owner: this.device });
    this.byPhys = new RangeIndex({ start: this.phys, size: this.size, owner: this.#memory });
  }

  /** Live entries. */
  get count(): number {
    return this.byAddress.count;
  }
  /** Entries that were ever needed at once: for telling growth. */
  get capacity(): number {
    return this.address.length;
  }
  /** Whether an entry number is in use. */
  isLive(entry: number): boolean {
    return this.#live[entry] === 1;
  }

  /**
   * Add an entry. `phys` is -1 where there is no RAM behind it. The columns that are not given are zero and may be set
   * at once; `rights` follow from the direction.
   */
  add(
    device: number,
    type: EntryType,
    address: number,
    phys: number,
    size: number,
    direction: number,
    attrs: number,
    flags: number,
    timeNs: number,
  ): number {
    if (this.#freeCount === 0 && this.#used === this.address.length) this.#grow();
    const entry = this.#freeCount > 0 ? this.#free[--this.#freeCount]! : this.#used++;
    this.address[entry] = address;
    this.phys[entry] = phys;
    this.size[entry] = size;
    this.device[entry] = device;
    this.type[entry] = type;
    this.direction[entry] = direction;
    this.rights[entry] = RIGHTS_BY_DIRECTION[direction]!;
    this.attrs[entry] = attrs;
    this.flags[entry] = phys >= 0 ? flags | EntryFlag.HAS_PHYS : flags;
    this.timeNs[entry] = timeNs;
    this.sgNents[entry] = 0;
    this.sgMapped[entry] = 0;
    this.wroteTo[entry] = 0;
    this.#live[entry] = 1;
    this.byAddress.insert(entry);
    if (phys >= 0) this.byPhys.insert(entry);
    return entry;
  }

  /** Take an entry out. */
  remove(entry: number): void {
    this.byAddress.remove(entry);
    if ((this.flags[entry]! & EntryFlag.HAS_PHYS) !== 0) this.byPhys.remove(entry);
    this.#live[entry] = 0;
    this.traces[entry] = null;
    this.#free[this.#freeCount++] = entry;
  }

  /**
   * The entry of exactly this device and address that fits best: the same size, type and direction count, in this order
   * of weight, newest first among equals; -1 when there is none. As dma-debug, so that among mappings of one address
   * the one that was meant is found.
   */
  find(device: number, address: number, size: number, type: EntryType, direction: number): number {
    const { byAddress } = this;
    let best = -1;
    let bestFit = -1;
    for (let at = byAddress.firstExact(device, address, size); at >= 0; at = byAddress.nextExact(at, device, address)) {
      const fit = this.#fit(at, size, type, direction);
      if (fit === 7) return at;
      if (fit > bestFit) {
        best = at;
        bestFit = fit;
      }
    }
    if (best >= 0 && this.size[best] === size) return best;
    // Not of that size: look in the other size classes too.
    byAddress.overlapping(device, address, address + 1, (at) => {
      if (this.address[at] !== address) return false;
      const fit = this.#fit(at, size, type, direction);
      if (fit > bestFit) {
        best = at;
        bestFit = fit;
      }
      return false;
    });
    return best;
  }
  #fit(entry: number, size: number, type: EntryType, direction: number): number {
    return (
      (this.size[entry] === size ? 4 : 0) +
      (this.type[entry] === type ? 2 : 0) +
      (this.direction[entry] === direction ? 1 : 0)
    );
  }

  /** Call `visit` for every live entry, oldest slot first. */
  forEach(visit: (entry: number) => void): void {
    for (let entry = 0; entry < this.#used; entry++) if (this.#live[entry] === 1) visit(entry);
  }
  /** An entry whose memory shares a byte with [phys, phys+size) and that has one of the rights; -1: none. */
  firstInMemory(phys: number, size: number, rights: number): number {
    return this.byPhys.firstOverlapping(MEMORY, phys, phys + size, this.rights, rights);
  }
  /** Call `visit` for every live entry whose memory shares a byte with [phys, phys+size), until it returns true. */
  inMemory(phys: number, size: number, visit: (entry: number) => boolean): boolean {
    return this.byPhys.overlapping(MEMORY, phys, phys + size, visit);
  }

  #grow(): void {
    const capacity = this.address.length * 2;
    const wider = (column: Float64Array) => {
      const next = new Float64Array(capacity);
      next.set(column);
      return next;
    };
    const widerInt = (column: Int32Array) => {
      const next = new Int32Array(capacity);
      next.set(column);
      return next;
    };
    const widerByte = (column: Uint8Array) => {
      const next = new Uint8Array(capacity);
      next.set(column);
      return next;
    };
    this.address = wider(this.address);
    this.phys = wider(this.phys);
    this.size = wider(this.size);
    this.timeNs = wider(this.timeNs);
    this.wroteFrom = wider(this.wroteFrom);
    this.wroteTo = wider(this.wroteTo);
    this.devicePhys = wider(this.devicePhys);
    this.device = widerInt(this.device);
    this.attrs = widerInt(this.attrs);
    this.sgNents = widerInt(this.sgNents);
    this.sgMapped = widerInt(this.sgMapped);
    this.#memory = new Int32Array(capacity).fill(MEMORY);
    this.#free = widerInt(this.#free);
    this.type = widerByte(this.type);
    this.direction = widerByte(this.direction);
    this.rights = widerByte(this.rights);
    this.flags = widerByte(this.flags);
    this.#live = widerByte(this.#live);
    for (let entry = capacity / 2; entry < capacity; entry++) this.traces.push(null);
    const live = (visit: (entry: number) => void) => this.forEach(visit);
    this.byAddress.grow({ start: this.address, size: this.size, owner: this.device }, live);
    this.byPhys.grow({ start: this.phys, size: this.size, owner: this.#memory }, (visit) =>
      this.forEach((entry) => {
        if ((this.flags[entry]! & EntryFlag.HAS_PHYS) !== 0) visit(entry);
      }),
    );
  }
}
