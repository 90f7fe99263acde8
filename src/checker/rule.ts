/** What a rule is. Findings are data; a rule turns its findings' values into words, and nothing else does. */
import type { Place } from './place.ts';

/**
 * `error`: wrong on some machine that the kernel supports, with the bytes at stake. `portability`: works here, breaks
 * elsewhere. `note`: worth knowing.
 */
export type Severity = 'error' | 'portability' | 'note';

/** A broken rule, as the rule itself sees it. */
export interface Broken<V> {
  /** The device's name, or '' where none is involved. */
  readonly device: string;
  /** `DRIVER DEVICE`, as the kernel's messages begin. */
  readonly deviceString: string;
  readonly timeNs: number;
  /** `process`, `softirq`, `hardirq` or `hardware`, and the task's name where there is one: `process main`. */
  readonly context: string;
  /** Where it was broken; null when the device did it or the place is unknown. */
  readonly at: Place | null;
  /** Where the mapping, allocation or descriptor was made. */
  readonly mappedAt: Place | null;
  /** How often it happened at the same places. */
  readonly times: number;
  readonly values: V;
}

/** A rule of the DMA API. Its id is its key in the registry. */
export interface Rule<V> {
  readonly severity: Severity;
  /** The rule in one line. */
  readonly statement: string;
  /** What dma-debug or the kernel says when it is broken, without values; null where they say nothing. */
  readonly wording: string | null;
  /** Why it holds, and what happens when it is broken: paragraphs; indented lines stay as they are. */
  readonly page: string;
  /** One line: what happened, with the values. */
  message(broken: Broken<V>): string;
  /** dma-debug's or the kernel's line for it; null where the kernel says nothing. */
  kernel(broken: Broken<V>): string | null;
  /** What to do, in one line; null where only the author can know. */
  fix(broken: Broken<V>): string | null;
}

/** Write a rule down; for the type of its values. */
export function rule<V>(definition: Rule<V>): Rule<V> {
  return definition;
}

/** An address as dma-debug prints it: sixteen digits. */
export function paddedHex(address: number): string {
  return address < 0 ? '0xffffffffffffffff' : `0x${address.toString(16).padStart(16, '0')}`;
}
/** `1 byte`, `4096 bytes`. */
export function bytesText(n: number): string {
  return n === 1 ? '1 byte' : `${n} bytes`;
}

/** A range of bytes, relative to the start of a mapping. */
export interface ByteRange {
  readonly offset: number;
  readonly bytes: number;
}
/** `0–63, 128–4095` and how many there are in all; at most `most` ranges are spelled out. */
export function rangesText(ranges: readonly ByteRange[], most = 4): string {
  const texts = ranges
    .slice(0, most)
    .map(({ offset, bytes }) => (bytes === 1 ? `${offset}` : `${offset}–${offset + bytes - 1}`));
  const total = ranges.reduce((sum, { bytes }) => sum + bytes, 0);
  const more = ranges.length > most ? ` and ${ranges.length - most} more ranges` : '';
  return `${total === 1 ? 'byte' : 'bytes'} ${texts.join(', ')}${more} (${total} in all)`;
}
/** ` before line 23` (` line 23` without preposition), or nothing where the place is unknown. */
export function lineText(preposition: string, place: Place | null): string {
  if (place === null) return '';
  const separator = preposition === '' || preposition.startsWith(';') || preposition.startsWith(',') ? '' : ' ';
  return `${separator}${preposition} line ${place.line}`;
}
