/** One case's outcome, and how the recorded one is compared with the one that came out here. */

/** What came out of one case, in the words of the file. */
export interface CaseOutcome {
  readonly name: string;
  readonly expected: unknown;
  readonly got: unknown;
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

/** The part of a recorded or computed address that must be equal. `origin` is the first address of the pool's history. */
export function addressPart(text: string, kind: AddressKind, origin: number | null): string {
  if (!/^0x[0-9a-f]+$/i.test(text)) return text;
  const address = Number(text);
  switch (kind) {
    case 'iova':
      return text;
    case 'page':
      return `page+0x${(address % 4096).toString(16)}`;
    case 'slot':
      return `slot${origin === null ? '' : poolSlot(address, origin)}+0x${(address % 2048).toString(16)}`;
  }
}

/** Areas of the pool are this large on the recorded machine, and searches wrap within one. */
const AREA_BYTES = 32 * 2 ** 20;
const SLOT_BYTES = 2048;

/** Slots of a segment, which no bounce crosses. */
export const SEGMENT_SLOTS = 128;

/** The slot of `address`, counted from the start of the segment of `origin`, modulo an area. */
function poolSlot(address: number, origin: number): number {
  const first = Math.floor(origin / SLOT_BYTES);
  const slots = Math.floor(address / SLOT_BYTES) - (first - (first % SEGMENT_SLOTS));
  const area = AREA_BYTES / SLOT_BYTES;
  return ((slots % area) + area) % area;
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
