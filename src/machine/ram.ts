import { PAGE_SHIFT, type PhysAddr } from '../base/addr.ts';
import type { FrameKind } from './frames.ts';

/** The largest bank: typed arrays index slower above 2^31. A machine with more has several banks. */
export const MAX_BANK_BYTES = 2 ** 31;

/**
 * A bank of RAM at a physical address. `memory` is what devices see. On a coherent machine the CPU uses the same array;
 * on a non-coherent one `cpu` is what its loads and stores see, and `fill` is what each cache line held when it was last
 * filled or cleaned: a line is dirty where `cpu` differs from `fill`. The fields ending in 32 are the same bytes as
 * words, for code that compares or moves much.
 */
export class RamBank {
  readonly base: PhysAddr;
  readonly sizeBytes: number;
  readonly memory: Uint8Array;
  readonly cpu: Uint8Array;
  readonly fill: Uint8Array | null;
  readonly memory32: Int32Array;
  readonly cpu32: Int32Array;
  readonly fill32: Int32Array | null;
  /** One `FrameKind` per page frame. */
  readonly kinds: Uint8Array;

  constructor(base: PhysAddr, sizeBytes: number, coherent: boolean, memory = new Uint8Array(sizeBytes)) {
    if (sizeBytes <= 0 || sizeBytes > MAX_BANK_BYTES || sizeBytes % 4096 !== 0 || base % 4096 !== 0) {
      throw new RangeError(
        `a RAM bank is whole pages, at most 2 GiB; found ${sizeBytes} bytes at 0x${base.toString(16)}`,
      );
    }
    this.base = base;
    this.sizeBytes = sizeBytes;
    this.memory = memory;
    this.cpu = coherent ? memory : new Uint8Array(sizeBytes);
    this.fill = coherent ? null : new Uint8Array(sizeBytes);
    this.memory32 = words(memory);
    this.cpu32 = coherent ? this.memory32 : words(this.cpu);
    this.fill32 = this.fill === null ? null : words(this.fill);
    this.kinds = new Uint8Array(sizeBytes >>> PAGE_SHIFT);
  }

  /** Whether all `sizeBytes` bytes at `phys` lie in this bank. */
  contains(phys: number, sizeBytes = 1): boolean {
    return phys >= this.base && phys - this.base <= this.sizeBytes - sizeBytes;
  }
  /** What the frame at `phys` is used for; `phys` must lie in the bank. */
  kindAt(phys: number): FrameKind {
    return this.kinds[(phys - this.base) >>> PAGE_SHIFT] as FrameKind;
  }
  /** Declare what the frames of [phys, phys+sizeBytes) are used for. */
  setKind(phys: number, sizeBytes: number, kind: FrameKind): void {
    this.kinds.fill(kind, (phys - this.base) >>> PAGE_SHIFT, (phys - this.base + sizeBytes + 4095) >>> PAGE_SHIFT);
  }
}

function words(bytes: Uint8Array): Int32Array {
  return new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2);
}
