/**
 * The buddy allocator: free blocks of 2^order frames in lists by zone, mobility and order, linked through the frame
 * table; single frames pass through a small last-freed-first stack per zone and mobility, as the kernel's per-CPU lists.
 */
import { FrameState, type FrameTable, MAX_PAGE_ORDER, MigrateType, NO_ZONE, PAGEBLOCK_ORDER } from './frame-table.ts';

const { FREE, PCP, TAIL, ALLOCATED } = FrameState;
const { UNMOVABLE, MOVABLE, RECLAIMABLE, CMA } = MigrateType;
const ORDERS = MAX_PAGE_ORDER + 1;
const TYPES = 4;
const PCP_TYPES = 3;
/** Frames moved between a per-CPU stack and the lists at a time, and how many a stack holds. */
const PCP_BATCH = 31;
const PCP_HIGH = 4 * PCP_BATCH;

/** Where an allocation of a mobility may take blocks of another, in this order. */
const FALLBACKS: readonly (readonly MigrateType[])[] = [
  [RECLAIMABLE, MOVABLE],
  [RECLAIMABLE, UNMOVABLE],
  [UNMOVABLE, MOVABLE],
  [],
];

/** See the file's head. Indexes are the frame table's. */
export class Buddy {
  readonly #frames: FrameTable;
  readonly #heads: Int32Array;
  readonly #tails: Int32Array;
  /** Bit o is set when the list of order o is not empty; by zone and mobility. */
  readonly #orders: Uint16Array;
  readonly #pcp: Int32Array;
  readonly #pcpCount: Uint8Array;
  /** Free frames by zone, those on the per-CPU stacks included. */
  readonly free: Int32Array;
  /** Of those, the ones in CMA pageblocks. */
  readonly freeCma: Int32Array;

  constructor(frames: FrameTable, zones: number) {
    this.#frames = frames;
    this.#heads = new Int32Array(zones * TYPES * ORDERS).fill(-1);
    this.#tails = new Int32Array(zones * TYPES * ORDERS).fill(-1);
    this.#orders = new Uint16Array(zones * TYPES);
    this.#pcp = new Int32Array(zones * PCP_TYPES * (PCP_HIGH + PCP_BATCH));
    this.#pcpCount = new Uint8Array(zones * PCP_TYPES);
    this.free = new Int32Array(zones);
    this.freeCma = new Int32Array(zones);
  }

  #link(index: number, order: number, type: number, atEnd: boolean): void {
    const { next, prev, state, zone } = this.#frames;
    const group = zone[index]! * TYPES + type;
    const list = group * ORDERS + order;
    state[index] = FREE | order;
    if (atEnd) {
      const tail = this.#tails[list]!;
      prev[index] = tail;
      next[index] = -1;
      if (tail < 0) this.#heads[list] = index;
      else next[tail] = index;
      this.#tails[list] = index;
    } else {
      const head = this.#heads[list]!;
      next[index] = head;
      prev[index] = -1;
      if (head < 0) this.#tails[list] = index;
      else prev[head] = index;
      this.#heads[list] = index;
    }
    this.#orders[group] = this.#orders[group]! | (1 << order);
  }
  #unlink(index: number, order: number, type: number): void {
    const { next, prev, state, zone } = this.#frames;
    const group = zone[index]! * TYPES + type;
    const list = group * ORDERS + order;
    const after = next[index]!;
    const before = prev[index]!;
    if (before < 0) this.#heads[list] = after;
    else next[before] = after;
    if (after < 0) this.#tails[list] = before;
    else prev[after] = before;
    if (this.#heads[list]! < 0) this.#orders[group] = this.#orders[group]! & ~(1 << order);
    state[index] = TAIL;
  }
  #typeOf(index: number): MigrateType {
    return this.#frames.blockType[index >>> PAGEBLOCK_ORDER] as MigrateType;
  }

  /** Split a block that is on no list down to `order`, from the upper half on; its first part is kept. */
  #expand(index: number, have: number, order: number, type: number): void {
    for (let o = have - 1; o >= order; o--) this.#link(index + (1 << o), o, type, false);
  }
  #takeSmallest(zone: number, order: number, type: number): number {
    const group = zone * TYPES + type;
    const fitting = this.#orders[group]! >>> order;
    if (fitting === 0) return -1;
    const have = order + 31 - Math.clz32(fitting & -fitting);
    const index = this.#heads[group * ORDERS + have]!;
    this.#unlink(index, have, type);
    this.#expand(index, have, order, type);
    return index;
  }
  /** Take from another mobility: the largest block first, whose pageblocks then change sides, so as to fragment least. */
  #steal(zone: number, order: number, type: MigrateType): number {
    for (let have = MAX_PAGE_ORDER; have >= order; have--) {
      for (const other of FALLBACKS[type]!) {
        if ((this.#orders[zone * TYPES + other]! & (1 << have)) === 0) continue;
        const index = this.#heads[(zone * TYPES + other) * ORDERS + have]!;
        this.#unlink(index, have, other);
        const claimed = this.#claim(index, have, other, type);
        this.#expand(index, have, order, claimed ? type : other);
        return index;
      }
    }
    return -1;
  }
  #claim(index: number, order: number, from: MigrateType, to: MigrateType): boolean {
    const { blockType, state, zone } = this.#frames;
    const block = index >>> PAGEBLOCK_ORDER;
    if (order >= PAGEBLOCK_ORDER) {
      blockType.fill(to, block, block + (1 << (order - PAGEBLOCK_ORDER)));
      return true;
    }
    if (to === MOVABLE && order < PAGEBLOCK_ORDER >> 1) return false;
    const start = block << PAGEBLOCK_ORDER;
    const end = start + (1 << PAGEBLOCK_ORDER);
    let free = 1 << order;
    for (let i = start; i < end; i++) {
      if (zone[i] !== zone[index]) return false;
      if ((state[i]! & 0xf0) === FREE) free += 1 << (state[i]! & 0xf);
    }
    if (free < 1 << (PAGEBLOCK_ORDER - 1)) return false;
    for (let i = start; i < end; i++) {
      if ((state[i]! & 0xf0) !== FREE) continue;
      const o = state[i]! & 0xf;
      this.#unlink(i, o, from);
      this.#link(i, o, to, false);
    }
    blockType[block] = to;
    return true;
  }
  #rmqueue(zone: number, order: number, type: MigrateType): number {
    // Movable allocations use a CMA area evenly with the rest, so that it is not left idle until memory is short.
    const cma = type === MOVABLE;
    let index = -1;
    if (cma && this.freeCma[zone]! > this.free[zone]! >>> 1) index = this.#takeSmallest(zone, order, CMA);
    if (index < 0) index = this.#takeSmallest(zone, order, type);
    if (index < 0 && cma) index = this.#takeSmallest(zone, order, CMA);
    if (index < 0) index = this.#steal(zone, order, type);
    if (index >= 0 && this.#typeOf(index) === CMA) this.freeCma[zone] = this.freeCma[zone]! - (1 << order);
    return index;
  }

  /** A block of 2^order frames of the zone, marked as allocated; -1 when there is none. */
  take(zone: number, order: number, type: MigrateType): number {
    let index: number;
    if (order === 0 && type !== CMA) {
      const stack = zone * PCP_TYPES + type;
      if (this.#pcpCount[stack] === 0) this.#refill(zone, type);
      const count = this.#pcpCount[stack]!;
      if (count === 0) return -1;
      this.#pcpCount[stack] = count - 1;
      index = this.#pcp[stack * (PCP_HIGH + PCP_BATCH) + count - 1]!;
    } else {
      index = this.#rmqueue(zone, order, type);
      if (index < 0) return -1;
    }
    this.free[zone] = this.free[zone]! - (1 << order);
    this.#frames.state[index] = ALLOCATED | order;
    return index;
  }
  #refill(zone: number, type: MigrateType): void {
    const stack = zone * PCP_TYPES + type;
    const base = stack * (PCP_HIGH + PCP_BATCH);
    let count = 0;
    while (count < PCP_BATCH) {
      const index = this.#rmqueue(zone, 0, type);
      if (index < 0) break;
      this.#frames.state[index] = PCP;
      this.#pcp[base + count++] = index;
    }
    // The first one taken from the lists is the first one handed out.
    this.#pcp.subarray(base, base + count).reverse();
    this.#pcpCount[stack] = count;
  }

  /** Give a block back. It must be allocated, or never have been free (boot). */
  give(index: number, order: number, atEnd = false): void {
    const zone = this.#frames.zone[index]!;
    const type = this.#typeOf(index);
    this.free[zone] = this.free[zone]! + (1 << order);
    if (order !== 0 || type === CMA || atEnd) {
      this.#merge(index, order, atEnd);
      return;
    }
    const stack = zone * PCP_TYPES + type;
    const base = stack * (PCP_HIGH + PCP_BATCH);
    let count = this.#pcpCount[stack]!;
    if (count >= PCP_HIGH) {
      this.#drainStack(stack, PCP_BATCH);
      count = this.#pcpCount[stack]!;
    }
    this.#frames.state[index] = PCP;
    this.#pcp[base + count] = index;
    this.#pcpCount[stack] = count + 1;
  }
  #merge(start: number, from: number, atEnd: boolean): void {
    const { blockType, state, zone } = this.#frames;
    let index = start;
    let order = from;
    const type = this.#typeOf(index);
    if (type === CMA) this.freeCma[zone[index]!] = this.freeCma[zone[index]!]! + (1 << order);
    state[index] = TAIL;
    while (order < MAX_PAGE_ORDER) {
      const buddy = index ^ (1 << order);
      if (zone[buddy] !== zone[index] || state[buddy] !== (FREE | order)) break;
      const buddyType = this.#typeOf(buddy);
      if (buddyType !== type) {
        if (buddyType === CMA || type === CMA) break;
        const block = buddy >>> PAGEBLOCK_ORDER;
        this.#unlink(buddy, order, buddyType);
        blockType.fill(type, block, block + (1 << (order - PAGEBLOCK_ORDER)));
      } else {
        this.#unlink(buddy, order, type);
      }
      index = Math.min(index, buddy);
      order++;
    }
    this.#link(index, order, type, atEnd);
  }
  /** Move the `count` frames that were freed first from a per-CPU stack to the lists. */
  #drainStack(stack: number, count: number): void {
    const base = stack * (PCP_HIGH + PCP_BATCH);
    const have = this.#pcpCount[stack]!;
    const drained = Math.min(count, have);
    for (let i = 0; i < drained; i++) this.#merge(this.#pcp[base + i]!, 0, false);
    this.#pcp.copyWithin(base, base + drained, base + have);
    this.#pcpCount[stack] = have - drained;
  }
  /** Empty the per-CPU stacks, so that their frames can merge. @linux drain_all_pages */
  drain(): void {
    for (let stack = 0; stack < this.#pcpCount.length; stack++) this.#drainStack(stack, this.#pcpCount[stack]!);
  }

  /** Whether all frames of [index, index+count) are free or lie in free blocks. The stacks must have been drained. */
  rangeIsFree(index: number, count: number): boolean {
    for (let i = index; i < index + count; ) {
      const head = this.#freeHead(i);
      if (head < 0) return false;
      i = head + (1 << (this.#frames.state[head]! & 0xf));
    }
    return true;
  }
  /** First frame of the free block that frame `index` lies in; -1 when it is not free. */
  #freeHead(index: number): number {
    const { state } = this.#frames;
    for (let order = 0; order <= MAX_PAGE_ORDER; order++) {
      const head = index - (index % (1 << order));
      const found = state[head]!;
      if ((found & 0xf0) === FREE && head + (1 << (found & 0xf)) > index) return head;
    }
    return -1;
  }
  /**
   * Take one frame out of the free block it lies in, and mark it allocated; false when it is not free. The stacks must
   * have been drained.
   */
  isolate(index: number): boolean {
    const { state, zone } = this.#frames;
    const head = this.#freeHead(index);
    if (head < 0) return false;
    const type = this.#typeOf(head);
    const whole = state[head]! & 0xf;
    this.#unlink(head, whole, type);
    let at = head;
    for (let order = whole - 1; order >= 0; order--) {
      const upper = at + (1 << order);
      if (index >= upper) {
        this.#link(at, order, type, false);
        at = upper;
      } else {
        this.#link(upper, order, type, false);
      }
    }
    const id = zone[index]!;
    this.free[id] = this.free[id]! - 1;
    if (type === CMA) this.freeCma[id] = this.freeCma[id]! - 1;
    state[index] = ALLOCATED;
    return true;
  }
  /** Give the frames of a reserved range to the allocator: boot, and CMA areas. */
  release(index: number, count: number): void {
    const { zone } = this.#frames;
    let at = index;
    const end = index + count;
    while (at < end) {
      let order = 0;
      while (
        order < MAX_PAGE_ORDER &&
        at % (2 << order) === 0 &&
        at + (2 << order) <= end &&
        zone[at + (2 << order) - 1] === zone[at]
      ) {
        order++;
      }
      if (zone[at] !== NO_ZONE) {
        this.#frames.state.fill(TAIL, at, at + (1 << order));
        this.give(at, order, true);
      }
      at += 1 << order;
    }
  }
  /** Free blocks of each order: what /proc/buddyinfo shows. */
  freeBlocks(zone: number): number[] {
    const counts = new Array<number>(ORDERS).fill(0);
    for (let type = 0; type < TYPES; type++) {
      for (let order = 0; order < ORDERS; order++) {
        let index = this.#heads[(zone * TYPES + type) * ORDERS + order]!;
        for (; index >= 0; index = this.#frames.next[index]!) counts[order] = counts[order]! + 1;
      }
    }
    return counts;
  }
}
