/** One case's outcome, and how the recorded one is compared with the one that came out here. */

/** What came out of one case, in the words of the file. */
export interface CaseOutcome {
  readonly name: string;
  readonly expected: unknown;
  readonly got: unknown;
  /** Where the first bounce lies in the pool, here and by how many slots it lay further on the recorded machine. */
  readonly bounce?: BouncePlace | undefined;
}
/** See `CaseOutcome.bounce`. */
export interface BouncePlace {
  readonly slot: number;
  readonly slotsBehind: number;
}
/** Whether the case came out as recorded. */
export function agrees({ expected, got }: CaseOutcome): boolean {
  return sameJson(expected, got);
}

/**
 * What an address says. `iova`: all of it was decided by the mapping API. `page`: the page allocator decided the page,
 * so that only the offset in it tells. `slot`: a bounce buffer; its place in the pool tells, the pool's place does not.
 */
export type AddressKind = 'iova' | 'page' | 'slot';

/** How the kernel printed a failed mapping. */
export const FAILED = 'FAIL 0xffffffffffffffff';
/** How it printed a failed allocation. */
export const NULL_HANDLE = 'FAIL 0x0';

/** An address as the files print it. */
export function hex(address: number): string {
  return address < 0 ? FAILED : `0x${address.toString(16)}`;
}

/** The part of a recorded or computed address that must be equal; slots are numbers already. */
export function addressPart(text: string, kind: AddressKind, slot: number): string {
  if (!isAddress(text)) return text;
  const address = Number(text);
  if (kind === 'iova') return text;
  if (kind === 'page') return `page+0x${(address % 4096).toString(16)}`;
  return `slot${slot}+0x${(address % SLOT_BYTES).toString(16)}`;
}
export function isAddress(text: string): boolean {
  return /^0x[0-9a-f]+$/i.test(text);
}

const SLOT_BYTES = 2048;
/** Slots of a segment, which no bounce crosses. */
export const SEGMENT_SLOTS = 128;
/** Slots of an area of the recorded machines' pools: searches wrap within one. */
const AREA_SLOTS = (32 * 2 ** 20) / SLOT_BYTES;

/** Slots counted from the start of the segment in which the first one that was seen lies, modulo an area. */
export class SlotNumbers {
  #origin: number | null = null;

  of(address: number): number {
    const slot = Math.floor(address / SLOT_BYTES);
    this.#origin ??= slot - (slot % SEGMENT_SLOTS);
    return (((slot - this.#origin) % AREA_SLOTS) + AREA_SLOTS) % AREA_SLOTS;
  }
  /** The next one is the first again. */
  forget(): void {
    this.#origin = null;
  }
}

/** Deep equality of JSON values, keys in any order. */
export function sameJson(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const keys = Object.keys(a);
  if (keys.length !== Object.keys(b).length) return false;
  return keys.every((key) => sameJson((a as Record<string, unknown>)[key], (b as Record<string, unknown>)[key]));
}
