/** Golden files: what a real kernel was seen to decide. Here they are read and checked; nothing is computed. */

/** A file that is no golden file; the message says where and what was expected. */
export class GoldenError extends Error {
  override name = 'GoldenError';
}

/** What was tried, told by the shape of the result. */
export type GoldenKind = 'map_sg' | 'iova' | 'fill' | 'dma_mask' | 'dma_pool' | 'swiotlb';

/** The machine on which a file was recorded. */
export interface RecordedMachine {
  readonly cmdline: string;
  readonly ramBytes: number;
  /** The device under test was marked as untrusted. */
  readonly untrusted: boolean;
}

/** A golden file. `result` is checked by its kind's replay, field by field. */
export interface GoldenFile {
  readonly name: string;
  readonly kind: GoldenKind;
  readonly variant: string;
  readonly machine: RecordedMachine;
  readonly result: Fields;
}

const GIB = 2 ** 30;

/** An object read from JSON whose fields are taken by type, with errors that name the place. */
export class Fields {
  readonly #value: Readonly<Record<string, unknown>>;
  readonly where: string;
  constructor(value: unknown, where: string) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw new GoldenError(`${where}: expected an object, found ${describe(value)}`);
    }
    this.#value = value as Record<string, unknown>;
    this.where = where;
  }
  has(name: string): boolean {
    return this.#value[name] !== undefined;
  }
  /** The field as it stands in the file. */
  raw(name: string): unknown {
    return this.#value[name];
  }
  #fail(name: string, expected: string): never {
    throw new GoldenError(`${this.where}.${name}: expected ${expected}, found ${describe(this.#value[name])}`);
  }
  text(name: string): string {
    const value = this.#value[name];
    return typeof value === 'string' ? value : this.#fail(name, 'a string');
  }
  /** A whole number in [low, high], as a number or as text (`0xffff`). */
  number(name: string, low: number, high: number): number {
    const value = this.#value[name];
    const number = typeof value === 'string' && value !== '' ? Number(value) : value;
    if (typeof number !== 'number' || !Number.isInteger(number) || number < low || number > high) {
      this.#fail(name, `a whole number from ${low} to ${high}`);
    }
    return number;
  }
  list(name: string): readonly unknown[] {
    const value = this.#value[name];
    return Array.isArray(value) ? value : this.#fail(name, 'a list');
  }
  /** A list of objects. */
  objects(name: string): Fields[] {
    return this.list(name).map((item, i) => new Fields(item, `${this.where}.${name}[${i}]`));
  }
  texts(name: string): string[] {
    return this.list(name).map((item) => (typeof item === 'string' ? item : this.#fail(name, 'a list of strings')));
  }
}

function describe(value: unknown): string {
  if (value === undefined) return 'nothing';
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}

/** Read a golden file. `name` is its name without folder, which says the variant (`map_sg.intel-strict.json`). */
export function parseGolden(name: string, text: string): GoldenFile {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new GoldenError(`not JSON: ${(error as Error).message}`);
  }
  const file = new Fields(json, 'file');
  const result = new Fields(file.raw('result'), 'result');
  const cmdline = file.text('cmdline');
  const variant = variantOf(name, cmdline);
  return {
    name,
    kind: kindOf(result),
    variant,
    machine: {
      cmdline,
      ramBytes: ramOf(file, variant),
      untrusted: /untrusted/.test(variant) || /labname=\S*untrusted/.test(cmdline),
    },
    result,
  };
}

function kindOf(result: Fields): GoldenKind {
  if (result.has('mapped_until_failure')) return 'fill';
  if (result.has('steps')) return 'iova';
  if (result.has('content')) return 'swiotlb';
  const first = result.objects('cases')[0];
  if (first === undefined) throw new GoldenError('result.cases: expected at least one case, found none');
  if (first.has('in')) return 'map_sg';
  if (first.has('bits')) return 'dma_mask';
  if (first.has('created')) return 'dma_pool';
  throw new GoldenError(
    'result: expected the cases of map_sg, iova, fill, dma_mask, dma_pool or swiotlb, found none of them',
  );
}

/** `map_sg.intel-strict-6G.json` is of variant `intel-strict-6G`. */
function variantOf(name: string, cmdline: string): string {
  const stem = name.replace(/\.json$/i, '');
  const dot = stem.indexOf('.');
  if (dot >= 0 && dot < stem.length - 1) return stem.slice(dot + 1);
  return /labname=golden\d*-(\S+)/.exec(cmdline)?.[1] ?? 'none';
}

/** The memory that the machine had: what the kernel counted, and what it keeps for itself, in whole GiB. */
function ramOf(file: Fields, variant: string): number {
  const named = /(?:^|-)(\d{1,2})G(?:-|$)/.exec(variant)?.[1];
  if (named !== undefined && Number(named) > 0) return Number(named) * GIB;
  const total = file.has('mem') ? /(\d+)\s*kB/.exec(file.text('mem'))?.[1] : undefined;
  if (total === undefined) return 2 * GIB;
  return Math.max(1, Math.ceil((Number(total) * 1024) / GIB)) * GIB;
}
