/**
 * Modes make a board behave like another kind of machine. `--mode` is a list of terms separated by commas; each board
 * says which terms it has.
 */

/** What a mode text says; null where it says nothing, and the board is as it is. */
export interface Mode {
  /** The text, in the order of the table below: equal modes have equal texts. '' is the board as it is. */
  readonly text: string;
  readonly coherent: boolean | null;
  /** Bus addresses of devices have this many bits at most. */
  readonly maskBits: number | null;
  /** The boot argument `swiotlb`. */
  readonly swiotlb: 'force' | 'noforce' | null;
  /** What the board's IOMMU does. */
  readonly iommu: IommuSetting | null;
}

/** Off; translating, with invalidation at each unmap or deferred; or letting all through. */
export type IommuSetting = 'off' | 'strict' | 'lazy' | 'pt';

interface Term {
  /** What stands behind `=`; null for a word that stands alone. */
  readonly value: string | null;
  readonly description: string;
  /** Terms of one group contradict each other. */
  readonly group: string;
  parse(value: string): Partial<Mode>;
}

const TERMS = {
  coherent: {
    value: null,
    description: 'devices snoop the CPU caches, as on a PC',
    group: 'coherence',
    parse: () => ({ coherent: true }),
  },
  noncoherent: {
    value: null,
    description: 'devices see memory past the CPU caches; drivers must sync',
    group: 'coherence',
    parse: () => ({ coherent: false }),
  },
  mask: {
    value: 'BITS',
    description: 'devices address 2^BITS bytes at most, whatever their drivers ask for',
    group: 'mask',
    parse: (value) => ({ maskBits: numberBetween(value, 1, 64) }),
  },
  swiotlb: {
    value: 'force|noforce',
    description: 'every mapping goes through a bounce buffer, or none does',
    group: 'swiotlb',
    parse: (value) => ({ swiotlb: oneOf<'force' | 'noforce'>(value, ['force', 'noforce']) }),
  },
  iommu: {
    value: 'off|strict|lazy|pt',
    description: 'the IOMMU is off, invalidates at each unmap, does so later, or lets devices through',
    group: 'iommu',
    parse: (value) => ({ iommu: oneOf<IommuSetting>(value, ['off', 'strict', 'lazy', 'pt']) }),
  },
} satisfies Record<string, Term>;

/** A term's name. */
export type ModeTerm = keyof typeof TERMS;

/** Every term, in order. */
export const modeTerms = Object.keys(TERMS) as ModeTerm[];

function oneOf<T extends string>(text: string, known: readonly T[]): T {
  const found = known.find((word) => word === text);
  if (found !== undefined) return found;
  throw new Error(`expected ${known.slice(0, -1).join(', ')} or ${known.at(-1)}, found '${text}'`);
}
function numberBetween(text: string, low: number, high: number): number {
  const number = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (number >= low && number <= high) return number;
  throw new Error(`expected a number from ${low} to ${high}, found '${text}'`);
}

/** A term as it is written: `mask=BITS`. */
export function modeTermUsage(name: ModeTerm): string {
  const { value } = TERMS[name] as Term;
  return value === null ? name : `${name}=${value}`;
}
/** What a term does, in a few words, for help texts. */
export function modeTermDescription(name: ModeTerm): string {
  return TERMS[name].description;
}

/**
 * Parse the text of `--mode`; empty is the board as it is. Throws an Error that says what is wrong with which term, and
 * lists the terms in `known` (default: all).
 */
export function parseMode(text: string, known: readonly ModeTerm[] = modeTerms): Mode {
  const found = new Map<ModeTerm, Partial<Mode>>();
  const groups = new Map<string, string>();
  for (const term of text.split(',').map((part) => part.trim())) {
    if (term === '') continue;
    const equals = term.indexOf('=');
    const name = equals < 0 ? term : term.slice(0, equals);
    if (!known.includes(name as ModeTerm)) {
      throw new Error(`mode '${term}' is unknown; known are ${known.map(modeTermUsage).join(', ')}`);
    }
    const kind: Term = TERMS[name as ModeTerm];
    if ((kind.value === null) !== equals < 0) {
      throw new Error(`mode '${term}': expected ${modeTermUsage(name as ModeTerm)}`);
    }
    const other = groups.get(kind.group);
    if (other !== undefined && other !== term) throw new Error(`mode '${term}' contradicts '${other}'`);
    groups.set(kind.group, term);
    try {
      found.set(name as ModeTerm, kind.parse(term.slice(equals + 1)));
    } catch (error) {
      throw new Error(`mode '${term}': ${(error as Error).message}`);
    }
  }
  const present = modeTerms.filter((name) => found.has(name));
  const mode = { coherent: null, maskBits: null, swiotlb: null, iommu: null };
  for (const name of present) Object.assign(mode, found.get(name));
  return { ...mode, text: present.map((name) => groups.get(TERMS[name].group)!).join(',') };
}

/** Throws an Error when the mode uses a term which is not in `known`, the terms of `board`. */
export function checkMode(mode: Mode, known: readonly ModeTerm[], board: string): Mode {
  try {
    return parseMode(mode.text, known);
  } catch (error) {
    throw new Error(`board '${board}': ${(error as Error).message}`);
  }
}
