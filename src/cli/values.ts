/** Option values: each parser says what was expected and what it found. */
import { CliError } from './errors.ts';

/** An integer in [low, high]; decimal or 0x…. */
export function integer(option: string, text: string, low: number, high: number): number {
  const value = /^-?(\d+|0x[0-9a-f]+)$/i.test(text)
    ? Number(text.replace('-', '')) * (text.startsWith('-') ? -1 : 1)
    : NaN;
  if (Number.isSafeInteger(value) && value >= low && value <= high) return value === 0 ? 0 : value;
  const range = high >= Number.MAX_SAFE_INTEGER ? `of at least ${low}` : `from ${low} to ${high}`;
  throw new CliError(`${option}: expected a whole number ${range}, found '${text}'`);
}

/** A number of bytes: 4096, 64K, 1M (powers of 1024). */
export function byteCount(option: string, text: string, low: number, high: number): number {
  const match = /^(\d+)([KMG]?)(i?B)?$/i.exec(text);
  const scale: Record<string, number> = { '': 1, K: 1024, M: 1024 ** 2, G: 1024 ** 3 };
  const value = match === null ? NaN : Number(match[1]) * (scale[(match[2] ?? '').toUpperCase()] ?? NaN);
  if (Number.isSafeInteger(value) && value >= low && value <= high) return value;
  throw new CliError(`${option}: expected ${low} to ${high} bytes (such as 4096, 64K or 1M), found '${text}'`);
}

/** A module's switch: given alone it is on; Y, y, 1, true or N, n, 0, false as the kernel reads them. */
export function flag(option: string, value: string | boolean | undefined): boolean | undefined {
  if (value === undefined || typeof value === 'boolean') return value;
  if (/^(y|yes|1|on|true)$/i.test(value)) return true;
  if (/^(n|no|0|off|false)$/i.test(value)) return false;
  throw new CliError(`${option}: expected Y or N, found '${value}'`);
}

/** A seed. */
export function seedValue(option: string, text: string): number {
  return integer(option, text, 0, 0xffff_ffff);
}

/** The most seeds that one command runs. */
const MOST_SEEDS = 100_000;

/** `A..B`, both included, or one seed. */
export function seedRange(option: string, text: string): number[] {
  const [from = '', to, ...rest] = text.split('..');
  const first = seedValue(option, from);
  const last = to === undefined ? first : seedValue(option, to);
  if (rest.length > 0 || last < first) {
    throw new CliError(`${option}: expected A..B with A not above B (such as 1..100), found '${text}'`);
  }
  if (last - first >= MOST_SEEDS)
    throw new CliError(`${option}: expected at most ${MOST_SEEDS} seeds, found '${text}'`);
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}

/** One of some words. */
export function oneOf<T extends string>(option: string, text: string, words: readonly T[]): T {
  if ((words as readonly string[]).includes(text)) return text as T;
  throw new CliError(`${option}: expected ${listOf(words)}, found '${text}'`);
}

/** `a, b or c`. */
export function listOf(words: readonly string[], last: 'or' | 'and' = 'or'): string {
  return words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} ${last} ${words.at(-1)}`;
}

/** The word of `known` that `word` was probably meant to be, or undefined. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(word.length / 3)) + 1;
  for (const candidate of known) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + same));
    }
    row = next;
  }
  return row[b.length]!;
}
