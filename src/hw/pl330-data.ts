/**
 * How the PL330 moves data: bursts from memory into the MFIFO (DMALD), and from there to memory (DMAST), or zeros
 * (DMASTZ). TRM 2.3 (transfers), 2.9 (MFIFO), 2.6 (aborts).
 */
import { type BusMaster, BusStatus } from '../machine/index.ts';
import { PL330 } from '../regs/pl330.ts';
import type { Thread } from './pl330-thread.ts';
import type { WriteBuffer } from './pl330-write-buffer.ts';

const { MFIFO_ERR, ST_DATA_UNAVAILABLE, DATA_READ_ERR, DATA_WRITE_ERR } = PL330.FTR;
const ADDRESS_SPACE = 0x1_0000_0000;

/** Outcomes besides the fault bits that an access may return. */
export const DONE = 0;
/** There is no room in the MFIFO now. */
export const BLOCKED = -1;

/** The data side of the controller. Accesses return DONE, BLOCKED, or bits of FTR. */
export class DataPath {
  readonly #bus: BusMaster;
  readonly #buffer: WriteBuffer;
  readonly #widthBytes: number;
  readonly #lines: number;
  readonly #channels: readonly Thread[];
  /** Traffic so far, for the engine to charge: beats on the read and on the write channel, and bytes both ways. */
  beats = 0;
  bytes = 0;

  /**
   * @param widthBytes of the bus
   * @param lines of the MFIFO, each as wide as the bus
   */
  constructor(bus: BusMaster, buffer: WriteBuffer, widthBytes: number, lines: number, channels: readonly Thread[]) {
    this.#bus = bus;
    this.#buffer = buffer;
    this.#widthBytes = widthBytes;
    this.#lines = lines;
    this.#channels = channels;
  }

  /** Lines that `count` bytes take: they lie in the MFIFO as they will lie at the destination. */
  #linesFor(thread: Thread, count: number): number {
    return count === 0 ? 0 : Math.ceil(((thread.dar % this.#widthBytes) + count) / this.#widthBytes);
  }
  /** Whether the MFIFO takes `bytes` bytes more of this thread beside what all threads have in it. */
  hasRoom(thread: Thread, bytes: number): boolean {
    let used = this.#linesFor(thread, thread.count + bytes);
    for (const other of this.#channels) if (other !== thread) used += this.#linesFor(other, other.count);
    return used <= this.#lines;
  }

  /** DMALD of `beats` beats: an unaligned first beat carries only the bytes up to its end. */
  load(thread: Thread, beats: number): number {
    const { srcSize, srcInc } = thread;
    const missing = thread.sar % srcSize;
    const bytes = srcInc ? srcSize * beats - missing : (srcSize - missing) * beats;
    if (!this.hasRoom(thread, bytes)) {
      return this.#linesFor(thread, bytes) > this.#lines ? MFIFO_ERR.mask : BLOCKED;
    }
    const tail = thread.tail(bytes);
    const status = srcInc
      ? this.#read(thread.sar, thread.data, tail, bytes)
      : this.#readFixed(thread.sar, thread.data, tail, srcSize - missing, beats);
    this.beats += beats;
    this.bytes += bytes;
    if (status !== BusStatus.OK) return DATA_READ_ERR.mask;
    if (thread.swapBytes > 1) swap(thread.data, tail, bytes, thread.swapBytes);
    thread.count += bytes;
    if (srcInc) thread.sar = (thread.sar + bytes) >>> 0;
    return DONE;
  }

  /** DMAST of `beats` beats. */
  store(thread: Thread, beats: number): number {
    const { dstSize, dstInc } = thread;
    const missing = thread.dar % dstSize;
    const bytes = dstInc ? dstSize * beats - missing : (dstSize - missing) * beats;
    if (thread.count < bytes) {
      return this.#linesFor(thread, bytes) > this.#lines ? MFIFO_ERR.mask : ST_DATA_UNAVAILABLE.mask;
    }
    this.beats += beats;
    this.bytes += bytes;
    if (dstInc && this.#buffer.mayBeOvertaken(thread)) {
      const { data, head, heldData } = thread;
      for (let i = 0; i < bytes; i++) heldData[i] = data[head + i]!;
      this.#buffer.hold(thread, thread.pc, thread.dar, bytes);
    } else {
      const status = dstInc
        ? this.#write(thread.dar, thread.data, thread.head, bytes)
        : this.#writeFixed(thread.dar, thread.data, thread.head, dstSize - missing, beats);
      if (status !== BusStatus.OK) return DATA_WRITE_ERR.mask;
    }
    if (dstInc) thread.dar = (thread.dar + bytes) >>> 0;
    thread.take(bytes);
    return DONE;
  }

  /** DMASTZ: as DMAST, with zeros instead of data. */
  storeZeros(thread: Thread): number {
    const { dstSize, dstInc, dstBeats } = thread;
    const missing = thread.dar % dstSize;
    const bytes = dstInc ? dstSize * dstBeats - missing : dstSize - missing;
    this.beats += dstBeats;
    this.bytes += bytes;
    if (dstInc && this.#buffer.mayBeOvertaken(thread)) {
      thread.heldData.fill(0, 0, bytes);
      this.#buffer.hold(thread, thread.pc, thread.dar, bytes);
      thread.dar = (thread.dar + bytes) >>> 0;
      return DONE;
    }
    let status: BusStatus = BusStatus.OK;
    for (let beat = dstInc ? dstBeats - 1 : 0; beat < dstBeats && status === BusStatus.OK; beat++) {
      status = this.#zero(thread.dar, bytes);
    }
    if (status !== BusStatus.OK) return DATA_WRITE_ERR.mask;
    if (dstInc) thread.dar = (thread.dar + bytes) >>> 0;
    return DONE;
  }

  // Addresses have 32 bits, and a burst at their end goes on at 0.

  #read(addr: number, into: Uint8Array, offset: number, bytes: number): BusStatus {
    const first = Math.min(bytes, ADDRESS_SPACE - addr);
    const status = this.#bus.read(addr, into, offset, first);
    if (first === bytes || status !== BusStatus.OK) return status;
    return this.#bus.read(0, into, offset + first, bytes - first);
  }
  #write(addr: number, from: Uint8Array, offset: number, bytes: number): BusStatus {
    const first = Math.min(bytes, ADDRESS_SPACE - addr);
    const status = this.#bus.write(addr, from, offset, first);
    if (first === bytes || status !== BusStatus.OK) return status;
    return this.#bus.write(0, from, offset + first, bytes - first);
  }
  #zero(addr: number, bytes: number): BusStatus {
    const first = Math.min(bytes, ADDRESS_SPACE - addr);
    const status = this.#bus.fill(addr, 0, first);
    if (first === bytes || status !== BusStatus.OK) return status;
    return this.#bus.fill(0, 0, bytes - first);
  }

  // A fixed address is most likely a FIFO: one access a beat, words as words.

  #readFixed(addr: number, into: Uint8Array, offset: number, size: number, beats: number): BusStatus {
    for (let beat = 0, at = offset; beat < beats; beat++, at += size) {
      const status = size === 4 ? this.#bus.read32(addr) : this.#bus.read(addr, into, at, size);
      if (status !== BusStatus.OK) return status;
      if (size === 4) {
        const word = this.#bus.value32;
        into[at] = word;
        into[at + 1] = word >>> 8;
        into[at + 2] = word >>> 16;
        into[at + 3] = word >>> 24;
      }
    }
    return BusStatus.OK;
  }
  #writeFixed(addr: number, from: Uint8Array, offset: number, size: number, beats: number): BusStatus {
    for (let beat = 0, at = offset; beat < beats; beat++, at += size) {
      const word =
        size === 4 ? (from[at]! | (from[at + 1]! << 8) | (from[at + 2]! << 16) | (from[at + 3]! << 24)) >>> 0 : 0;
      const status = size === 4 ? this.#bus.write32(addr, word) : this.#bus.write(addr, from, at, size);
      if (status !== BusStatus.OK) return status;
    }
    return BusStatus.OK;
  }
}

/** Reverse every whole group of `group` bytes; what is left at the end stays (the TRM leaves it open). */
function swap(data: Uint8Array, start: number, bytes: number, group: number): void {
  for (let at = start; at + group <= start + bytes; at += group) {
    for (let low = at, high = at + group - 1; low < high; low++, high--) {
      const kept = data[low]!;
      data[low] = data[high]!;
      data[high] = kept;
    }
  }
}
