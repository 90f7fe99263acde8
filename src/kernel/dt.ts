/**
 * Device trees written in code, for boards and tests, close to the source notation:
 *
 *     ofTree(dt('/', { '#address-cells': 1, '#size-cells': 1 }, [
 *       dt('gic: interrupt-controller@f8f01000', { 'interrupt-controller': true, '#interrupt-cells': 3, … }),
 *       dt('serial@e0001000', { compatible: ['cdns,uart'], 'interrupt-parent': '&gic', interrupts: [0, 50, 4] }),
 *     ]))
 */
import { OfNode } from './of.ts';

/**
 * A property's value: cells (a number, several, references `&label` among them; a bigint is two cells), strings, bytes,
 * true (present and empty) or false (absent).
 */
export type DtValue = number | bigint | string | boolean | Uint8Array | readonly (number | bigint | string)[];
/** A node that is not yet part of a tree. */
export interface DtSpec {
  readonly label: string | null;
  readonly fullName: string;
  readonly properties: Readonly<Record<string, DtValue>>;
  readonly children: readonly DtSpec[];
}

/** Describe a node; `name` may begin with a label: `dmac: dma-controller@f8003000`. */
export function dt(
  name: string,
  properties: Readonly<Record<string, DtValue>> = {},
  children: readonly DtSpec[] = [],
): DtSpec {
  const [, label, fullName] = /^(?:(\w+)\s*:\s*)?(\/|[\w,.+@-]+)$/.exec(name) ?? [];
  if (fullName === undefined)
    throw new Error(`device tree: expected 'name', 'name@unit' or 'label: name', found '${name}'`);
  return { label: label ?? null, fullName: fullName === '/' ? '' : fullName, properties, children };
}

/** Make the tree whose root is `spec`; labelled nodes get phandles. Throws for an unknown or repeated label, or a value that is no cell. */
export function ofTree(spec: DtSpec): OfNode {
  const labels = new Map<string, number>();
  label(spec, labels);
  return make(spec, null, labels);
}
function label(spec: DtSpec, labels: Map<string, number>): void {
  if (spec.label !== null) {
    if (labels.has(spec.label)) throw new Error(`device tree: label '${spec.label}' is given twice`);
    labels.set(spec.label, labels.size + 1);
  }
  for (const child of spec.children) label(child, labels);
}
function make(spec: DtSpec, parent: OfNode | null, labels: ReadonlyMap<string, number>): OfNode {
  const node = new OfNode(spec.fullName, parent);
  for (const [name, value] of Object.entries(spec.properties)) {
    if (value === false) continue;
    node.properties.set(name, encode(value, labels, `${node.path}: ${name}`));
  }
  const phandle = spec.label === null ? undefined : labels.get(spec.label);
  if (phandle !== undefined) node.properties.set('phandle', cells([phandle], labels, node.path));
  for (const child of spec.children) make(child, node, labels);
  return node;
}

function encode(value: Exclude<DtValue, false>, labels: ReadonlyMap<string, number>, where: string): Uint8Array {
  if (value === true) return new Uint8Array(0);
  if (value instanceof Uint8Array) return value;
  const list = Array.isArray(value)
    ? (value as readonly (number | bigint | string)[])
    : [value as number | bigint | string];
  const isText = (item: number | bigint | string): item is string => typeof item === 'string' && !item.startsWith('&');
  if (list.length > 0 && list.every(isText)) return strings(list, where);
  return cells(list, labels, where);
}
function strings(list: readonly string[], where: string): Uint8Array {
  const text = list.map((item) => `${item}\0`).join('');
  return Uint8Array.from(text, (char) => {
    const code = char.charCodeAt(0);
    if (code > 0xff || char.length > 1)
      throw new Error(`device tree: ${where}: expected Latin-1 text, found '${text}'`);
    return code;
  });
}
function cells(
  list: readonly (number | bigint | string)[],
  labels: ReadonlyMap<string, number>,
  where: string,
): Uint8Array {
  const words: number[] = [];
  for (const item of list) {
    if (typeof item === 'string') {
      const phandle = labels.get(item.slice(1));
      if (!item.startsWith('&') || phandle === undefined) {
        throw new Error(`device tree: ${where}: expected a cell or a known '&label', found '${item}'`);
      }
      words.push(phandle);
    } else if (typeof item === 'bigint') {
      if (item < 0n || item >= 1n << 64n) throw new Error(`device tree: ${where}: ${item} does not fit in two cells`);
      words.push(Number(item >> 32n), Number(item & 0xffff_ffffn));
    } else {
      if (!Number.isInteger(item) || item < -(2 ** 31) || item >= 2 ** 32) {
        throw new Error(`device tree: ${where}: expected a cell of 32 bits (a bigint makes two), found ${item}`);
      }
      words.push(item);
    }
  }
  const bytes = new Uint8Array(4 * words.length);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < words.length; i++) view.setUint32(4 * i, words[i] as number);
  return bytes;
}
