/**
 * What the kernel knows of every page frame: the counterpart of the kernel's array of `struct page`, as typed arrays.
 *
 * Frames are addressed by a dense index that runs over all banks. A bank's first index is congruent to its first page
 * frame number modulo the largest buddy block, so that buddy arithmetic on indexes equals that on frame numbers, and
 * stays in 32 bits whatever the physical address.
 */
import { PAGE_SIZE, type PhysAddr, pfnOf } from '../base/addr.ts';
import type { FrameKind } from '../machine/frames.ts';
import { Mem } from '../machine/mem.ts';
import type { RamBank } from '../machine/ram.ts';

declare const pageBrand: unique symbol;
/** A page: its page frame number, branded. No object stands behind it. @linux struct page */
export type Page = number & { readonly [pageBrand]: true };

/** The largest block that the buddy allocator hands out is 2^10 pages, 4 MiB. @linux MAX_PAGE_ORDER */
export const MAX_PAGE_ORDER = 10;
/** Mobility is kept per block of 2^9 pages, 2 MiB. @linux pageblock_order */
export const PAGEBLOCK_ORDER = 9;

/** What the frames of a pageblock are used for. @linux enum migratetype */
export const MigrateType = { UNMOVABLE: 0, MOVABLE: 1, RECLAIMABLE: 2, CMA: 3 } as const;
export type MigrateType = (typeof MigrateType)[keyof typeof MigrateType];

/** States of a frame: the order of a block is in the low four bits of its first frame, the others are `TAIL`. */
export const FrameState = { TAIL: 0, RESERVED: 0x20, ALLOCATED: 0x40, FREE: 0x80, PCP: 0xc0 } as const;

/** Flags of an allocated block, on its first frame. */
export const FrameFlag = {
  /** Allocated with __GFP_MOVABLE: may be migrated. */
  MOVABLE: 1,
} as const;

/** No zone: index padding between banks. */
export const NO_ZONE = 0xff;
const CHUNK_SHIFT = 10;
const CHUNK_SIZE = 1 << CHUNK_SHIFT;

interface Span {
  readonly bank: RamBank;
  readonly basePfn: number;
  readonly count: number;
  /** Index of the bank's first frame. */
  readonly first: number;
}

/** See the file's head. */
export class FrameTable {
  readonly spans: readonly Span[];
  /** Number of indexes, padding included; a multiple of the largest block. */
  readonly size: number;
  readonly state: Uint8Array;
  readonly zone: Uint8Array;
  readonly flags: Uint8Array;
  /** How many users hold a frame in place (pin_user_pages). */
  readonly pins: Uint16Array;
  /** Free-list links; -1 ends a list. */
  readonly next: Int32Array;
  readonly prev: Int32Array;
  readonly blockType: Uint8Array;
  /** Pointers handed out before, by first frame; made when first asked for. */
  readonly #mems: ((Mem | null)[] | null)[];
  /** Whom the frame belongs to (a slab, a large kmalloc), or null. */
  readonly #owners: ((object | null)[] | null)[];

  constructor(ram: readonly RamBank[]) {
    const block = 1 << MAX_PAGE_ORDER;
    let size = 0;
    this.spans = ram.map((bank) => {
      const basePfn = pfnOf(bank.base);
      const count = bank.sizeBytes / PAGE_SIZE;
      const first = size + (basePfn % block);
      size = Math.ceil((first + count) / block) * block;
      return { bank, basePfn, count, first };
    });
    this.size = size;
    this.state = new Uint8Array(size).fill(FrameState.RESERVED);
    this.zone = new Uint8Array(size).fill(NO_ZONE);
    this.flags = new Uint8Array(size);
    this.pins = new Uint16Array(size);
    this.next = new Int32Array(size).fill(-1);
    this.prev = new Int32Array(size).fill(-1);
    this.blockType = new Uint8Array(size >>> PAGEBLOCK_ORDER).fill(MigrateType.MOVABLE);
    this.#mems = new Array(size >>> CHUNK_SHIFT).fill(null);
    this.#owners = new Array(size >>> CHUNK_SHIFT).fill(null);
  }

  /** Index of a page frame; -1 where there is no RAM. */
  indexOf(pfn: number): number {
    const { spans } = this;
    for (let i = 0; i < spans.length; i++) {
      const span = spans[i]!;
      const rel = pfn - span.basePfn;
      if (rel >= 0 && rel < span.count) return span.first + rel;
    }
    return -1;
  }
  #spanOf(index: number): Span {
    const { spans } = this;
    let i = spans.length - 1;
    while (i > 0 && index < spans[i]!.first) i--;
    return spans[i]!;
  }
  pageAt(index: number): Page {
    const span = this.#spanOf(index);
    return (span.basePfn + (index - span.first)) as Page;
  }
  physAt(index: number): PhysAddr {
    return (this.pageAt(index) * PAGE_SIZE) as PhysAddr;
  }
  /** Declare what `count` frames are used for. */
  setKind(index: number, count: number, kind: FrameKind): void {
    const span = this.#spanOf(index);
    const at = index - span.first;
    if (count === 1) span.bank.kinds[at] = kind;
    else span.bank.kinds.fill(kind, at, at + count);
  }
  /** The frames as the CPU sees them through the linear map. */
  zero(index: number, count: number): void {
    const span = this.#spanOf(index);
    const at = (index - span.first) * PAGE_SIZE;
    span.bank.cpu.fill(0, at, at + count * PAGE_SIZE);
  }
  /** Copy frames, as the CPU does (migration). */
  copy(to: number, from: number, count: number): void {
    const target = this.#spanOf(to);
    const source = this.#spanOf(from);
    const at = (from - source.first) * PAGE_SIZE;
    target.bank.cpu.set(source.bank.cpu.subarray(at, at + count * PAGE_SIZE), (to - target.first) * PAGE_SIZE);
  }

  /** Order of the allocated block that begins at `index`; -1 when none does. */
  allocatedOrder(index: number): number {
    const state = this.state[index]!;
    return (state & 0xf0) === FrameState.ALLOCATED ? state & 0xf : -1;
  }
  isFree(index: number): boolean {
    return (this.state[index]! & FrameState.FREE) !== 0;
  }

  owner(index: number): object | null {
    const chunk = this.#owners[index >>> CHUNK_SHIFT]!;
    return chunk === null ? null : chunk[index & (CHUNK_SIZE - 1)]!;
  }
  setOwner(index: number, count: number, owner: object | null): void {
    for (let i = index; i < index + count; i++) {
      let chunk = this.#owners[i >>> CHUNK_SHIFT]!;
      if (chunk === null) {
        if (owner === null) continue;
        chunk = new Array(CHUNK_SIZE).fill(null) as (object | null)[];
        this.#owners[i >>> CHUNK_SHIFT] = chunk;
      }
      chunk[i & (CHUNK_SIZE - 1)] = owner;
    }
  }

  /** The linear-map pointer to `sizeBytes` bytes from a frame on, the same object as long as the size is the same. */
  mem(index: number, sizeBytes: number): Mem {
    let chunk = this.#mems[index >>> CHUNK_SHIFT]!;
    if (chunk === null) {
      chunk = new Array(CHUNK_SIZE).fill(null) as (Mem | null)[];
      this.#mems[index >>> CHUNK_SHIFT] = chunk;
    }
    const at = index & (CHUNK_SIZE - 1);
    const cached = chunk[at]!;
    if (cached !== null && cached.size === sizeBytes) return cached;
    const mem = this.newMem(index, sizeBytes, true);
    chunk[at] = mem;
    return mem;
  }
  /** A pointer that is not kept: another mapping of the frames when not `linear`. */
  newMem(index: number, sizeBytes: number, linear: boolean): Mem {
    const { bank, first } = this.#spanOf(index);
    const at = (index - first) * PAGE_SIZE;
    return new Mem(bank, (bank.base + at) as PhysAddr, sizeBytes, bank.cpu.subarray(at, at + sizeBytes), linear);
  }
  /** A pointer that bypasses the CPU's cache, as coherent memory has on a non-coherent machine. */
  uncachedMem(index: number, sizeBytes: number): Mem {
    const { bank, first } = this.#spanOf(index);
    const at = (index - first) * PAGE_SIZE;
    return new Mem(bank, (bank.base + at) as PhysAddr, sizeBytes, bank.memory.subarray(at, at + sizeBytes), false);
  }
  /** A pointer into `whole` that is an allocation of its own: it is freed by itself. */
  carve(whole: Mem, offset: number, sizeBytes: number): Mem {
    const bytes = whole.bytes.subarray(offset, offset + sizeBytes);
    return new Mem(whole.bank, (whole.phys + offset) as PhysAddr, sizeBytes, bytes, whole.linear);
  }
  /** A pointer that can be neither read nor written. */
  opaqueMem(index: number, sizeBytes: number): Mem {
    const { bank, first } = this.#spanOf(index);
    return new Mem(bank, (bank.base + (index - first) * PAGE_SIZE) as PhysAddr, sizeBytes, new Uint8Array(0), false);
  }
  /** A block was handed out (`freed` false) or given back (true): its pointers learn of it. */
  markMems(index: number, count: number, freed: boolean): void {
    for (let i = index; i < index + count; i++) {
      const chunk = this.#mems[i >>> CHUNK_SHIFT]!;
      if (chunk === null) {
        i |= CHUNK_SIZE - 1;
        continue;
      }
      const mem = chunk[i & (CHUNK_SIZE - 1)]!;
      if (mem === null || mem.freed === freed) continue;
      // A pointer of another size belongs to an earlier allocation, and stays freed.
      if (freed || mem.size === count * PAGE_SIZE) mem.freed = freed;
      else chunk[i & (CHUNK_SIZE - 1)] = null;
    }
  }
}
