/**
 * Which bytes of a non-coherent machine's memory are out of date, for the device or for the CPU. The three arrays of a
 * bank say it: a byte was written by the CPU and is not in memory yet where `cpu` differs from `fill`, and was written
 * by a device and is not in the cache's view where `memory` differs from `fill`.
 */
import type { RamBank } from '../machine/ram.ts';
import type { ByteRange } from './rule.ts';

/** A bank's arrays as words, to compare four bytes at once. */
interface Words {
  readonly memory: Int32Array;
  readonly cpu: Int32Array;
}
const wordsByBank = new WeakMap<RamBank, Words>();

function wordsOf(bank: RamBank): Words {
  let words = wordsByBank.get(bank);
  if (words === undefined) {
    const { memory, cpu, sizeBytes } = bank;
    words = {
      memory: new Int32Array(memory.buffer, memory.byteOffset, sizeBytes / 4),
      cpu: new Int32Array(cpu.buffer, cpu.byteOffset, sizeBytes / 4),
    };
    wordsByBank.set(bank, words);
  }
  return words;
}

/** The first offset in [start, end) at which memory and the CPU's view differ, to the word; -1 where they agree. */
function firstDifference(bank: RamBank, start: number, end: number): number {
  const { memory, cpu } = wordsOf(bank);
  const last = (end + 3) >>> 2;
  for (let word = start >>> 2; word < last; word++) {
    if (memory[word] !== cpu[word]) return Math.max(start, word * 4);
  }
  return -1;
}

/** Bytes of [offset, offset+size) in the bank whose newest value is still in the cache; relative to `offset`. */
export function staleForDevice(bank: RamBank, offset: number, size: number): ByteRange[] {
  const { memory, cpu, fill } = bank;
  if (fill === null) return [];
  return rangesWhere(bank, offset, size, (at) => memory[at] !== cpu[at] && cpu[at] !== fill[at]);
}
/** Bytes of [offset, offset+size) in the bank of which the CPU sees an old value; relative to `offset`. */
export function staleForCpu(bank: RamBank, offset: number, size: number): ByteRange[] {
  const { memory, cpu, fill } = bank;
  if (fill === null) return [];
  return rangesWhere(bank, offset, size, (at) => memory[at] !== cpu[at] && cpu[at] === fill[at]);
}
function rangesWhere(bank: RamBank, offset: number, size: number, isStale: (at: number) => boolean): ByteRange[] {
  const first = firstDifference(bank, offset, offset + size);
  if (first < 0) return [];
  const ranges: ByteRange[] = [];
  let from = -1;
  for (let at = first; at <= offset + size; at++) {
    if (at < offset + size && isStale(at)) {
      if (from < 0) from = at;
    } else if (from >= 0) {
      ranges.push({ offset: from - offset, bytes: at - from });
      from = -1;
    }
  }
  return joinNear(ranges);
}
/** Bytes of a bounced buffer in which the CPU's view differs from what the device wrote to the slot. */
export function differences(a: Uint8Array, aOffset: number, b: Uint8Array, bOffset: number, size: number): ByteRange[] {
  const ranges: ByteRange[] = [];
  let from = -1;
  for (let i = 0; i <= size; i++) {
    if (i < size && a[aOffset + i] !== b[bOffset + i]) {
      if (from < 0) from = i;
    } else if (from >= 0) {
      ranges.push({ offset: from, bytes: i - from });
      from = -1;
    }
  }
  return joinNear(ranges);
}

/** Old and new bytes can be equal by chance: gaps of a few bytes between stale ones are no ranges of their own. */
const GAP = 8;
function joinNear(ranges: readonly ByteRange[]): ByteRange[] {
  const joined: { offset: number; bytes: number }[] = [];
  for (const { offset, bytes } of ranges) {
    const last = joined[joined.length - 1];
    if (last !== undefined && offset - last.offset - last.bytes <= GAP) {
      last.bytes = Math.max(last.bytes, offset + bytes - last.offset);
    } else joined.push({ offset, bytes });
  }
  return joined;
}
/** Ranges in any order, which may overlap, as few ascending ones. */
export function mergeRanges(ranges: readonly ByteRange[]): ByteRange[] {
  return joinNear(ranges.slice().sort((a, b) => a.offset - b.offset));
}
