/**
 * Datasheets as tables. A register map is declared once, checked when it is loaded, and shared by driver and model:
 *
 *     export const CH = registerMap('CH', 0x40, {
 *       CTRL: reg(0x0c, { EN: bit(0), CHAIN_TO: bits(14, 11), BUSY: bit(24, 'ro'), RERR: bit(30, 'w1c') }),
 *     });
 *     const { EN, CHAIN_TO } = CH.CTRL;
 *     writel(EN.mask | CHAIN_TO.prep(3), io, CH.CTRL.offset);
 *
 * Every field is one class with number fields, so that code which destructures it to a module constant pays for nothing
 * but the shift and the mask.
 */

/** Read-write, read-only, write-only, write one to clear (reads show the bits), write one to set. */
export type Access = 'rw' | 'ro' | 'wo' | 'w1c' | 'w1s';
/** Register widths in bits. Wider ones are declared as halves, as they are accessed. */
export type RegisterWidth = 8 | 16 | 32;
/** Names for the values of a field. */
export type FieldValues = Readonly<Record<string, number>>;

const ACCESSES: readonly string[] = ['rw', 'ro', 'wo', 'w1c', 'w1s'];

/** A field as written down, before its map has checked it. Made by `bit` and `bits`. */
export interface FieldSpec<V extends FieldValues = FieldValues> {
  readonly hi: number;
  readonly lo: number;
  readonly access: Access | null;
  readonly values: V;
}
/** Fields by their datasheet names. */
export type FieldSpecs = Readonly<Record<string, FieldSpec>>;

/** What may be said about a register besides its fields. */
export interface RegisterOptions {
  /** Of the register and of its fields that say nothing else. Default `rw`. */
  readonly access?: Access;
  /** Value after reset. Default 0. */
  readonly reset?: number;
  /** Default 32. */
  readonly width?: RegisterWidth;
}
/** A register as written down; made by `reg` and `regArray`. A single one has count and stride 0. */
export interface RegisterSpec<F extends FieldSpecs = FieldSpecs> {
  readonly offset: number;
  readonly fields: F;
  readonly options: RegisterOptions;
  readonly count: number;
  readonly stride: number;
}
/** Registers by their datasheet names. */
export type Specs = Readonly<Record<string, RegisterSpec>>;

const NO_VALUES = {} as const;

/** One bit. Without an access right it has its register's. */
export function bit(n: number, access: Access | null = null): FieldSpec<typeof NO_VALUES> {
  return { hi: n, lo: n, access, values: NO_VALUES };
}
/** Bits `hi` down to `lo`, as the datasheet writes them; `values` names what they can hold. */
export function bits<const V extends FieldValues = typeof NO_VALUES>(
  hi: number,
  lo: number,
  access: Access | null = null,
  values: V = NO_VALUES as V,
): FieldSpec<V> {
  return { hi, lo, access, values };
}
/** A register at a byte offset from its block's base. */
export function reg<const F extends FieldSpecs>(
  offset: number,
  fields: F = {} as F,
  options: RegisterOptions = {},
): RegisterSpec<F> {
  return { offset, fields, options, count: 0, stride: 0 };
}
/** `count` equal registers, `stride` bytes apart; other registers may lie between them. */
export function regArray<const F extends FieldSpecs>(
  offset: number,
  count: number,
  stride: number,
  fields: F = {} as F,
  options: RegisterOptions = {},
): RegisterSpec<F> {
  return { offset, fields, options, count, stride };
}

/** A field of a register: all numbers are unsigned. */
export class Field<V extends FieldValues = FieldValues> {
  readonly name: string;
  /** The field's bits, in place. */
  readonly mask: number;
  /** Position of its lowest bit. */
  readonly shift: number;
  /** The largest value it holds. */
  readonly max: number;
  readonly access: Access;
  /** Its named values. */
  readonly values: V;
  /** The mask as a signed number: engines keep those from 2^31 on in another, slower form. */
  readonly #bits: number;

  /** @internal */
  constructor(name: string, spec: FieldSpec<V>, access: Access) {
    this.name = name;
    this.shift = spec.lo;
    this.max = spec.hi - spec.lo === 31 ? 0xffffffff : 2 ** (spec.hi - spec.lo + 1) - 1;
    this.#bits = this.max << spec.lo;
    this.mask = this.#bits >>> 0;
    this.access = access;
    this.values = spec.values;
  }
  /** The value in place, to be ORed into a word. Throws `RangeError` when it does not fit. */
  prep(value: number): number {
    if (value < 0 || value > this.max || !Number.isInteger(value)) {
      throw new RangeError(`field ${this.name} holds 0 to ${this.max}, found ${value}`);
    }
    return (value << this.shift) >>> 0;
  }
  /** The field's value in a word. */
  get(word: number): number {
    return (word & this.#bits) >>> this.shift;
  }
  /** The word with the field replaced. Throws `RangeError` when the value does not fit. */
  put(word: number, value: number): number {
    return ((word & ~this.#bits) | this.prep(value)) >>> 0;
  }
  /** Whether any bit of the field is set. */
  test(word: number): boolean {
    return (word & this.#bits) !== 0;
  }
}

/** A register, or an array of equal ones. */
export class Register {
  readonly name: string;
  /** Byte offset in its block; of the first one for an array. */
  readonly offset: number;
  readonly width: RegisterWidth;
  readonly access: Access;
  readonly reset: number;
  /** Elements of an array; 1 for a single register. */
  readonly count: number;
  /** Bytes from one element to the next; 0 for a single register. */
  readonly stride: number;
  readonly fields: readonly Field[];
  /** Bits that a read shows; the rest read as zero. */
  readonly readMask: number;
  /** Bits that a write stores. */
  readonly writeMask: number;
  /** Bits that writing one clears. */
  readonly clearMask: number;
  /** Bits that writing one sets. */
  readonly setMask: number;

  /** @internal */
  constructor(name: string, spec: RegisterSpec) {
    this.name = name;
    this.offset = spec.offset;
    this.width = spec.options.width ?? 32;
    this.access = spec.options.access ?? 'rw';
    this.reset = spec.options.reset ?? 0;
    this.count = spec.count === 0 ? 1 : spec.count;
    this.stride = spec.stride;
    this.fields = Object.entries(spec.fields).map(([key, field]) => new Field(key, field, field.access ?? this.access));
    const whole = this.width === 32 ? 0xffffffff : 2 ** this.width - 1;
    // A register without fields is one field of its own.
    const parts = this.fields.length > 0 ? this.fields : [{ mask: whole, access: this.access }];
    const maskOf = (accept: (access: Access) => boolean): number =>
      parts.reduce((mask, part) => (accept(part.access) ? mask | part.mask : mask), 0) >>> 0;
    this.readMask = maskOf((access) => access !== 'wo');
    this.writeMask = maskOf((access) => access === 'rw' || access === 'wo');
    this.clearMask = maskOf((access) => access === 'w1c');
    this.setMask = maskOf((access) => access === 'w1s');
  }
  /** Byte offset of element `index` of an array. Throws `RangeError` outside. */
  at(index: number): number {
    if (index < 0 || index >= this.count || !Number.isInteger(index)) {
      throw new RangeError(`${this.name} has elements 0 to ${this.count - 1}, found ${index}`);
    }
    return this.offset + index * this.stride;
  }
  /** For models: what the register holds after `written` was written to it while it held `held`. */
  store(held: number, written: number): number {
    const kept = (held & ~this.writeMask) | (written & this.writeMask) | (written & this.setMask);
    return (kept & ~(written & this.clearMask)) >>> 0;
  }
}

type Fields<F extends FieldSpecs> = { readonly [K in keyof F]: F[K] extends FieldSpec<infer V> ? Field<V> : never };
type RegisterOf<S> = S extends { readonly fields: infer F extends FieldSpecs } ? Register & Fields<F> : never;

/** What every map has besides its registers, which are properties by their datasheet names. */
export interface RegisterBlockInfo {
  readonly name: string;
  readonly sizeBytes: number;
  /** In the order of declaration. */
  readonly registers: readonly Register[];
}
/** A checked map. */
export type RegisterMap<S extends Specs> = RegisterBlockInfo & { readonly [K in keyof S]: RegisterOf<S[K]> };

const NAME = /^[A-Z][A-Z0-9_]*$/;

/**
 * Declare a block of registers. Throws an Error that names block, register and field when a name is not upper case,
 * fields overlap or leave their register, registers overlap (a read-only and a write-only one may share an offset),
 * leave the block or are not aligned, or an access right or reset value makes no sense.
 */
export function registerMap<const S extends Specs>(name: string, sizeBytes: number, specs: S): RegisterMap<S> {
  const registers: Register[] = [];
  const map: Record<string, unknown> = { name, sizeBytes, registers };
  for (const [key, spec] of Object.entries(specs)) {
    const fail = (what: string): never => {
      throw new Error(`register ${name}.${key}: ${what}`);
    };
    checkSpec(key, spec, sizeBytes, fail);
    const register = new Register(key, spec);
    registers.push(register);
    map[key] = Object.assign(register, Object.fromEntries(register.fields.map((field) => [field.name, field])));
  }
  checkDisjoint(name, registers);
  return map as RegisterMap<S>;
}

type Fail = (what: string) => never;

function checkSpec(key: string, spec: RegisterSpec, sizeBytes: number, fail: Fail): void {
  const { access = 'rw', reset = 0, width = 32 } = spec.options;
  if (!NAME.test(key)) fail('a register is named in upper case');
  if (width !== 8 && width !== 16 && width !== 32) fail(`is 8, 16 or 32 bits wide, found ${width}`);
  if (!ACCESSES.includes(access)) fail(`unknown access right '${access}'`);
  const bytes = width / 8;
  const stride = spec.count === 0 ? bytes : spec.stride;
  if (!Number.isInteger(spec.count) || spec.count < 0)
    fail(`an array has a whole number of elements, found ${spec.count}`);
  if (stride < bytes || stride % bytes !== 0) fail(`elements of ${bytes} bytes cannot be ${stride} bytes apart`);
  if (!Number.isInteger(spec.offset) || spec.offset < 0 || spec.offset % bytes !== 0) {
    fail(`offset ${spec.offset} is not a multiple of its ${bytes} bytes`);
  }
  const end = spec.offset + Math.max(spec.count - 1, 0) * stride + bytes;
  if (end > sizeBytes) fail(`ends at 0x${end.toString(16)}, the block at 0x${sizeBytes.toString(16)}`);
  if (!Number.isInteger(reset) || reset < 0 || reset >= 2 ** width)
    fail(`reset value ${reset} does not fit ${width} bits`);
  let taken = 0;
  for (const [fieldName, field] of Object.entries(spec.fields)) {
    taken |= checkField(fieldName, field, taken, access, width, fail);
  }
}

/** Returns the field's bits. */
function checkField(name: string, field: FieldSpec, taken: number, access: Access, width: number, fail: Fail): number {
  const { hi, lo } = field;
  if (!NAME.test(name)) fail(`field ${name}: a field is named in upper case`);
  if (!Number.isInteger(hi) || !Number.isInteger(lo) || lo < 0 || hi < lo || hi >= width) {
    fail(`field ${name}: bits ${hi}:${lo} do not lie in ${width} bits, highest first`);
  }
  const mask = ((0xffffffff >>> (31 - hi)) & (0xffffffff << lo)) >>> 0;
  if ((taken & mask) !== 0) fail(`field ${name}: bits ${hi}:${lo} overlap another field`);
  if (field.access !== null && !ACCESSES.includes(field.access))
    fail(`field ${name}: unknown access right '${field.access}'`);
  if (access === 'ro' && field.access !== null && field.access !== 'ro')
    fail(`field ${name}: writable in a read-only register`);
  if (access === 'wo' && field.access !== null && field.access !== 'wo')
    fail(`field ${name}: readable in a write-only register`);
  for (const [valueName, value] of Object.entries(field.values)) {
    if (value < 0 || value > mask >>> lo || !Number.isInteger(value))
      fail(`field ${name}: value ${valueName} = ${value} does not fit`);
  }
  return mask;
}

function checkDisjoint(mapName: string, registers: readonly Register[]): void {
  const elements = registers.flatMap((register) =>
    Array.from({ length: register.count }, (_, index) => ({ register, start: register.at(index) })),
  );
  elements.sort((a, b) => a.start - b.start);
  for (let i = 0; i < elements.length; i++) {
    const { register, start } = elements[i]!;
    for (let j = i + 1; j < elements.length && elements[j]!.start < start + register.width / 8; j++) {
      const other = elements[j]!.register;
      const shared = [register.access, other.access].sort().join() === 'ro,wo';
      if (!shared)
        throw new Error(`registers ${mapName}.${register.name} and ${other.name} overlap at 0x${start.toString(16)}`);
    }
  }
}

/**
 * For models: the value after reset of every 32-bit word of the block, by offset / 4. Narrower registers have their
 * bytes in place.
 */
export function resetWords(map: RegisterBlockInfo): Uint32Array {
  const words = new Uint32Array(Math.ceil(map.sizeBytes / 4));
  for (const register of map.registers) {
    for (let index = 0; index < register.count; index++) {
      const at = register.at(index);
      words[at >>> 2]! |= register.reset << ((at & 3) * 8);
    }
  }
  return words;
}

/** The register (and element) at a byte offset; null where nothing is declared. With two at one offset, `isWrite` chooses. */
export function registerAt(
  map: RegisterBlockInfo,
  offset: number,
  isWrite = false,
): { register: Register; index: number } | null {
  const hidden: Access = isWrite ? 'ro' : 'wo';
  let found: { register: Register; index: number } | null = null;
  for (const register of map.registers) {
    const index = register.stride === 0 ? 0 : Math.floor((offset - register.offset) / register.stride);
    if (index < 0 || index >= register.count || register.offset + index * register.stride !== offset) continue;
    if (found === null || found.register.access === hidden) found = { register, index };
  }
  return found;
}

/**
 * An access in words, for timelines: `CTRL: EN=1 CHAIN_TO=3`. Fields that are 0 are left out; bits of no field print as
 * `reserved`; an unknown offset prints as hexadecimal.
 */
export function describe(map: RegisterBlockInfo, offset: number, value: number, isWrite = false): string {
  const found = registerAt(map, offset, isWrite);
  if (found === null) return `${map.name}+0x${offset.toString(16)}: 0x${value.toString(16)}`;
  const { register, index } = found;
  const name = register.stride === 0 ? register.name : `${register.name}[${index}]`;
  if (register.fields.length === 0) return `${name}: 0x${value.toString(16)}`;
  const parts: string[] = [];
  let rest = value >>> 0;
  for (const field of register.fields) {
    rest = (rest & ~field.mask) >>> 0;
    // An address is shown as one: its low bits that the register has no room for are zeros.
    const held = /ADDR|BASE/.test(field.name) ? (value & field.mask) >>> 0 : field.get(value);
    const named = Object.entries(field.values).find(([, known]) => known === held)?.[0];
    if (named !== undefined) parts.push(`${field.name}=${named}`);
    else if (held !== 0) parts.push(`${field.name}=${held < 1024 ? held : `0x${held.toString(16)}`}`);
  }
  if (rest !== 0) parts.push(`reserved=0x${rest.toString(16)}`);
  return `${name}: ${parts.length > 0 ? parts.join(' ') : '0'}`;
}
