import { addrAdd, type PhysAddr, rangeInside } from '../base/addr.ts';
import type { RamBank } from './ram.ts';

/**
 * The CPU's pointer: physical memory with the bytes through which the CPU reads and writes it. Its physical address is
 * a field, not a lookup. An array on the JavaScript heap is no `Mem`; only a machine's allocators make them.
 */
export class Mem {
  readonly bank: RamBank;
  readonly phys: PhysAddr;
  /** In bytes. */
  readonly size: number;
  /** What the CPU sees: over the bank's `cpu` array, or over `memory` where the mapping is uncached. */
  readonly bytes: Uint8Array;
  /**
   * Whether the pointer lies in the kernel's linear map. Stacks, vmalloc areas and module data do not, and
   * `dmaMapSingle` refuses them (is_vmalloc_addr).
   */
  readonly linear: boolean;
  readonly #whole: Mem | null;
  #freed = false;
  #view: DataView | null = null;

  /** @internal Allocators only; drivers get theirs from kmalloc, dmaAllocCoherent and their like. */
  constructor(
    bank: RamBank,
    phys: PhysAddr,
    size: number,
    bytes: Uint8Array,
    linear: boolean,
    whole: Mem | null = null,
  ) {
    this.bank = bank;
    this.phys = phys;
    this.size = size;
    this.bytes = bytes;
    this.linear = linear;
    this.#whole = whole;
  }

  /** Pointer arithmetic: the `size` bytes from `offset` on (default: to the end). Throws `RangeError` outside. */
  slice(offset: number, size: number = this.size - offset): Mem {
    if (!rangeInside(offset, size, 0, this.size)) {
      throw new RangeError(`slice [${offset}, ${offset + size}) lies outside a memory of ${this.size} bytes`);
    }
    const bytes = this.bytes.subarray(offset, offset + size);
    return new Mem(this.bank, addrAdd(this.phys, offset), size, bytes, this.linear, this.#whole ?? this);
  }

  /** Whether the allocation that this points into was given back. */
  get freed(): boolean {
    return this.#whole === null ? this.#freed : this.#whole.#freed;
  }
  /** @internal Set by the allocator that owns the memory: true when freed, false when handed out again. */
  set freed(freed: boolean) {
    this.#freed = freed;
  }

  #data(): DataView {
    this.#view ??= new DataView(this.bytes.buffer, this.bytes.byteOffset, this.size);
    return this.#view;
  }
  /** One byte at `offset`. */
  readU8(offset: number): number {
    return this.#data().getUint8(offset);
  }
  /** Little-endian, as all loads and stores here. Throws `RangeError` outside. */
  readU16(offset: number): number {
    return this.#data().getUint16(offset, true);
  }
  readU32(offset: number): number {
    return this.#data().getUint32(offset, true);
  }
  /** An unsigned 64-bit value that must fit in 2^53 (addresses do). */
  readU64(offset: number): number {
    const view = this.#data();
    return view.getUint32(offset, true) + view.getUint32(offset + 4, true) * 0x1_0000_0000;
  }
  writeU8(offset: number, value: number): void {
    this.#data().setUint8(offset, value);
  }
  writeU16(offset: number, value: number): void {
    this.#data().setUint16(offset, value, true);
  }
  writeU32(offset: number, value: number): void {
    this.#data().setUint32(offset, value, true);
  }
  writeU64(offset: number, value: number): void {
    const view = this.#data();
    view.setUint32(offset, value % 0x1_0000_0000, true);
    view.setUint32(offset + 4, Math.floor(value / 0x1_0000_0000), true);
  }
}
