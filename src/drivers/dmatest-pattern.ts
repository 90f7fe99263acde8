/**
 * dmatest's buffer patterns. Each byte says where it belongs: bit 7 in the source, bit 6 to be copied, bit 5 to be
 * overwritten; the low five bits are the inverse of a counter. They repeat every 32 bytes, so that buffers are filled
 * from a prepared stretch and compared by words, and only a word that differs is looked at byte by byte.
 */

/** Bit 7: a byte of the source buffer. @linux PATTERN_SRC */
export const PATTERN_SRC = 0x80;
/** A byte of the destination buffer. @linux PATTERN_DST */
export const PATTERN_DST = 0x00;
/** Bit 6: a byte that is to be copied. @linux PATTERN_COPY */
export const PATTERN_COPY = 0x40;
/** Bit 5: a byte that is to be overwritten. @linux PATTERN_OVERWRITE */
export const PATTERN_OVERWRITE = 0x20;
/** The counter's bits. @linux PATTERN_COUNT_MASK */
export const PATTERN_COUNT_MASK = 0x1f;
/** What stands for the counter in fills. @linux PATTERN_MEMSET_IDX */
export const PATTERN_MEMSET_IDX = 0x01;

/** How many mismatches of one region are printed. */
export const MAX_ERROR_COUNT = 32;

const PERIOD = 32;

/** The byte with these flags at a counter. */
export function patternByte(pattern: number, counter: number, isMemset: boolean): number {
  return pattern | (~(isMemset ? PATTERN_MEMSET_IDX : counter) & PATTERN_COUNT_MASK);
}

/** Stretches of the four patterns, long enough for one buffer size. */
export class DmatestPatterns {
  readonly isMemset: boolean;
  readonly bufSize: number;
  readonly #source: Uint8Array;
  readonly #copied: Uint8Array;
  readonly #untouched: Uint8Array;
  readonly #overwritten: Uint8Array;
  /** By flags (their upper three bits), then by counter modulo 32: four bytes as a little-endian signed word. */
  readonly #words: readonly Int32Array[];

  constructor(bufSize: number, isMemset: boolean) {
    this.bufSize = bufSize;
    this.isMemset = isMemset;
    this.#source = stretch(PATTERN_SRC, bufSize, isMemset);
    this.#copied = stretch(PATTERN_SRC | PATTERN_COPY, bufSize, isMemset);
    this.#untouched = stretch(PATTERN_DST, bufSize, isMemset);
    this.#overwritten = stretch(PATTERN_DST | PATTERN_OVERWRITE, bufSize, isMemset);
    this.#words = Array.from({ length: 8 }, (_, flags) => wordTable(flags << 5, isMemset));
  }

  /** Fill a source buffer, of which [start, start+len) is to be copied. @linux dmatest_init_srcs */
  initSource(buf: Uint8Array, start: number, len: number): void {
    fillAround(buf, this.#source, this.#copied, start, len);
  }
  /** Fill a destination buffer, of which [start, start+len) is to be overwritten. @linux dmatest_init_dsts */
  initDestination(buf: Uint8Array, start: number, len: number): void {
    fillAround(buf, this.#untouched, this.#overwritten, start, len);
  }

  /**
   * How many bytes of [start, end) are not what `pattern` and the counter (which is `counter` at `start`) say; the first
   * `MAX_ERROR_COUNT` less `before` of them are told to `mismatch`. @linux dmatest_verify, dmatest_mismatch
   */
  verify(
    buf: Uint8Array,
    words: Int32Array,
    start: number,
    end: number,
    counter: number,
    pattern: number,
    before: number,
    mismatch: (index: number, counter: number, actual: number) => void,
  ): number {
    const table = this.#words[pattern >>> 5]!;
    let errors = 0;
    let i = start;
    while (i < end) {
      if ((i & 3) === 0 && i + 4 <= end) {
        i = firstDifference(words, table, i, end, counter - start);
        if (i >= end) break;
      }
      const stop = Math.min(end, (i & ~3) + 4);
      for (; i < stop; i++) {
        const at = counter + i - start;
        const actual = buf[i]!;
        if (actual === patternByte(pattern, at, this.isMemset)) continue;
        if (before + errors < MAX_ERROR_COUNT) mismatch(i, at, actual);
        errors++;
      }
    }
    return errors;
  }
}

/** The first word in [from, end) that differs, or where fewer than four bytes are left, or `end`. */
function firstDifference(words: Int32Array, table: Int32Array, from: number, end: number, shift: number): number {
  const lastWord = end >>> 2;
  let phase = (from + shift) & (PERIOD - 1);
  let word = from >>> 2;
  while (word < lastWord && words[word] === table[phase]) {
    word++;
    phase = (phase + 4) & (PERIOD - 1);
  }
  return word << 2;
}

function stretch(pattern: number, size: number, isMemset: boolean): Uint8Array {
  const bytes = new Uint8Array(size);
  for (let i = 0; i < Math.min(PERIOD, size); i++) bytes[i] = patternByte(pattern, i, isMemset);
  for (let done = PERIOD; done < size; done *= 2) bytes.copyWithin(done, 0, done);
  return bytes;
}

function wordTable(pattern: number, isMemset: boolean): Int32Array {
  const table = new Int32Array(PERIOD);
  for (let i = 0; i < PERIOD; i++) {
    for (let j = 3; j >= 0; j--) table[i] = (table[i]! << 8) | patternByte(pattern, i + j, isMemset);
  }
  return table;
}

function fillAround(buf: Uint8Array, outside: Uint8Array, inside: Uint8Array, start: number, len: number): void {
  buf.set(outside);
  buf.set(inside.subarray(start, start + len), start);
}
