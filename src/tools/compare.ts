/** Compares what the CPU reads with what it should read, and tells why they differ. */
import type { PhysAddr } from '../base/addr.ts';
import type { Mem } from '../machine/mem.ts';

/** Why bytes differ. */
export type Cause =
  /** Memory holds the right bytes; the CPU reads what its cache held before. */
  | 'stale'
  /** The device read memory before the CPU's stores got there: they are still in its cache. */
  | 'unwritten'
  /** Neither: the bytes are wrong in memory too. */
  | 'wrong';

/** Differing bytes [start, end), offsets into the buffer; neighbours of the same cache line are joined. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/** What differs. */
export interface Difference {
  readonly cause: Cause;
  /** How many bytes differ. */
  readonly bytes: number;
  readonly sizeBytes: number;
  readonly ranges: readonly ByteRange[];
  readonly phys: PhysAddr;
  /** The first byte that differs. */
  readonly first: {
    readonly offset: number;
    readonly expected: number;
    readonly got: number;
    readonly inMemory: number;
  };
}

/** What is expected: the bytes of another buffer, given bytes, or one value throughout. */
export type Expected = Mem | Uint8Array | number;

/** How `actual`, as the CPU reads it, differs from `expected`; null when it does not. */
export function compareBytes(actual: Mem, expected: Expected, cacheLineBytes: number): Difference | null {
  const want = expectedAt(expected);
  const memory = actual.bank.memory;
  const base = actual.phys - actual.bank.base;
  const offsets: number[] = [];
  let stale = 0;
  for (let i = 0; i < actual.size; i++) {
    const byte = want(i);
    if (actual.bytes[i] === byte) continue;
    offsets.push(i);
    if (memory[base + i] === byte) stale++;
  }
  const first = offsets[0];
  if (first === undefined) return null;
  return {
    cause: stale > 0 ? 'stale' : isUnwritten(expected, offsets) ? 'unwritten' : 'wrong',
    bytes: offsets.length,
    sizeBytes: actual.size,
    ranges: joinLines(offsets, actual.phys, cacheLineBytes),
    phys: actual.phys,
    first: {
      offset: first,
      expected: want(first),
      got: actual.bytes[first]!,
      inMemory: memory[base + first]!,
    },
  };
}

function expectedAt(expected: Expected): (i: number) => number {
  if (typeof expected === 'number') return () => expected & 0xff;
  const bytes = expected instanceof Uint8Array ? expected : expected.bytes;
  return (i) => bytes[i] ?? -1;
}

/** Whether the source's own memory lacks, at a differing byte, what the CPU stored there. */
function isUnwritten(expected: Expected, offsets: readonly number[]): boolean {
  if (typeof expected === 'number' || expected instanceof Uint8Array) return false;
  const base = expected.phys - expected.bank.base;
  return offsets.some((i) => expected.bank.memory[base + i] !== expected.bytes[i]);
}

function joinLines(offsets: readonly number[], phys: number, lineBytes: number): ByteRange[] {
  const lineOf = (offset: number) => Math.floor((phys + offset) / lineBytes);
  const ranges: { start: number; end: number }[] = [];
  for (const offset of offsets) {
    const last = ranges.at(-1);
    // A line is stale as a whole: equal bytes between two differing ones of it, or of neighbouring lines, say nothing.
    if (last !== undefined && lineOf(offset) <= lineOf(last.end - 1) + 1) last.end = offset + 1;
    else ranges.push({ start: offset, end: offset + 1 });
  }
  return ranges;
}

/** `[0x0, 0x40), [0x80, 0x1000)`; at most `most` ranges, then how many more. */
export function formatRanges(ranges: readonly ByteRange[], most = 3): string {
  const shown = ranges.slice(0, most).map(({ start, end }) => `[0x${start.toString(16)}, 0x${end.toString(16)})`);
  const more = ranges.length - shown.length;
  return shown.join(', ') + (more > 0 ? ` and ${more} more` : '');
}
