import type { SimBank } from './sim-bank.ts';

/** Above this many words, a typed array's own copy is faster than a loop. */
const BULK_WORDS = 128;

/**
 * The CPU's caches on a non-coherent machine, as three arrays per bank: the operations of its lines. Ranges are offsets
 * in a bank, already rounded out to whole lines. On a coherent machine (no `fill`) none of them does anything.
 */
export class Cache {
  readonly lineBytes: number;
  readonly #lineWords: number;

  constructor(lineBytes: number) {
    this.lineBytes = lineBytes;
    this.#lineWords = lineBytes >>> 2;
  }

  /** Write dirty lines of [start, end) back to memory. */
  clean(bank: SimBank, start: number, end: number): void {
    const fill = bank.fill32;
    if (fill === null) return;
    const cpu = bank.cpu32;
    const lineWords = this.#lineWords;
    const lastWord = end >>> 2;
    let word = start >>> 2;
    while (word < lastWord) {
      // Eight words at once: a clean range is the common case, and costs this loop alone.
      const dirty =
        ((cpu[word] as number) ^ (fill[word] as number)) |
        ((cpu[word + 1] as number) ^ (fill[word + 1] as number)) |
        ((cpu[word + 2] as number) ^ (fill[word + 2] as number)) |
        ((cpu[word + 3] as number) ^ (fill[word + 3] as number)) |
        ((cpu[word + 4] as number) ^ (fill[word + 4] as number)) |
        ((cpu[word + 5] as number) ^ (fill[word + 5] as number)) |
        ((cpu[word + 6] as number) ^ (fill[word + 6] as number)) |
        ((cpu[word + 7] as number) ^ (fill[word + 7] as number));
      if (dirty === 0) {
        word += 8;
        continue;
      }
      const first = word - (word % lineWords);
      word = first + lineWords;
      while (word < lastWord && this.#isDirty(cpu, fill, word)) word += lineWords;
      writeBack(bank, first, word);
    }
  }

  #isDirty(cpu: Int32Array, fill: Int32Array, first: number): boolean {
    const end = first + this.#lineWords;
    for (let word = first; word < end; word++) if (cpu[word] !== fill[word]) return true;
    return false;
  }

  /** Drop the lines of [start, end) and fill them from memory. */
  invalidate(bank: SimBank, start: number, end: number): void {
    const fill = bank.fill32;
    if (fill === null) return;
    const cpu = bank.cpu32;
    const memory = bank.memory32;
    const firstWord = start >>> 2;
    const lastWord = end >>> 2;
    if (lastWord - firstWord >= BULK_WORDS) {
      const source = memory.subarray(firstWord, lastWord);
      cpu.set(source, firstWord);
      fill.set(source, firstWord);
      return;
    }
    for (let word = firstWord; word < lastWord; word++) {
      const value = memory[word] as number;
      cpu[word] = value;
      fill[word] = value;
    }
  }

  /** Whether the line at `start` holds what memory does not. */
  isDirty(bank: SimBank, start: number): boolean {
    return bank.fill32 !== null && this.#isDirty(bank.cpu32, bank.fill32, start >>> 2);
  }
}

function writeBack(bank: SimBank, firstWord: number, lastWord: number): void {
  const cpu = bank.cpu32;
  const fill = bank.fill32 as Int32Array;
  const memory = bank.memory32;
  if (lastWord - firstWord >= BULK_WORDS) {
    const source = cpu.subarray(firstWord, lastWord);
    memory.set(source, firstWord);
    fill.set(source, firstWord);
    return;
  }
  for (let word = firstWord; word < lastWord; word++) {
    const value = cpu[word] as number;
    memory[word] = value;
    fill[word] = value;
  }
}
