/**
 * The device tree: nodes and their properties. Values are bytes, big-endian cells of 32 bits, as in a compiled tree
 * (fdt.ts reads those, dt.ts builds small ones in code). Trees may come from anywhere: nothing here trusts them.
 */
import { fromLoHi } from '../base/addr.ts';
import { EINVAL, ENOENT, type Errno } from '../base/errno.ts';

/** The deepest tree that is read, and the longest chain of references that is followed. @linux FDT_MAX_DEPTH */
export const MAX_TREE_DEPTH = 64;

/** @linux struct device_node */
export class OfNode {
  /** Without unit address: `dma-controller`; the root's is ''. */
  readonly name: string;
  /** As it stands in the tree: `dma-controller@7e007000`. */
  readonly fullName: string;
  readonly properties = new Map<string, Uint8Array>();
  readonly children: OfNode[] = [];
  parent: OfNode | null;

  constructor(fullName: string, parent: OfNode | null) {
    const at = fullName.indexOf('@');
    this.name = at < 0 ? fullName : fullName.slice(0, at);
    this.fullName = fullName;
    this.parent = parent;
    parent?.children.push(this);
  }
  /** From the root: `/soc/dma-controller@7e007000`; the root's is `/`. */
  get path(): string {
    if (this.parent === null) return '/';
    let path = '';
    for (let node: OfNode = this; node.parent !== null; node = node.parent) path = `/${node.fullName}${path}`;
    return path;
  }
  get root(): OfNode {
    let node: OfNode = this;
    while (node.parent !== null) node = node.parent;
    return node;
  }
  /** What other nodes refer to it by; 0: none. */
  get phandle(): number {
    const bytes = this.properties.get('phandle') ?? this.properties.get('linux,phandle');
    return bytes !== undefined && bytes.length >= 4 ? readCell(bytes, 0) : 0;
  }
}

/** @internal The 32-bit cell at byte `offset`, which must lie inside. */
export function readCell(bytes: Uint8Array, offset: number): number {
  const high = ((bytes[offset] as number) << 8) | (bytes[offset + 1] as number);
  return high * 0x1_0000 + (((bytes[offset + 2] as number) << 8) | (bytes[offset + 3] as number));
}
/**
 * @internal A number of `cells` cells at byte `offset`: 0 for no cells, the lowest 64 bits of more than two. Above 2^53
 * it is the nearest number that can be represented.
 */
export function readNumber(bytes: Uint8Array, offset: number, cells: number): number {
  if (cells <= 0) return 0;
  const end = offset + 4 * cells;
  const lo = readCell(bytes, end - 4);
  return cells === 1 ? lo : fromLoHi(lo, readCell(bytes, end - 8));
}
/** @internal The strings of a property; null when the last is not terminated. */
export function readStrings(bytes: Uint8Array): string[] | null {
  if (bytes.length === 0 || bytes[bytes.length - 1] !== 0) return null;
  const strings: string[] = [];
  let text = '';
  for (const byte of bytes) {
    if (byte === 0) {
      strings.push(text);
      text = '';
    } else text += String.fromCharCode(byte);
  }
  return strings;
}

/** The bytes of a property, or null. @linux of_get_property, of_find_property */
export function ofGetProperty(node: OfNode, name: string): Uint8Array | null {
  return node.properties.get(name) ?? null;
}
/** Whether a property is there, whatever its value. @linux of_property_read_bool, of_property_present */
export function ofPropertyReadBool(node: OfNode, name: string): boolean {
  return node.properties.has(name);
}
/** The cell number `index` of a property, or null when it is absent or too short. @linux of_property_read_u32, of_property_read_u32_index */
export function ofPropertyReadU32(node: OfNode, name: string, index = 0): number | null {
  const bytes = node.properties.get(name);
  return bytes === undefined || bytes.length < 4 * (index + 1) ? null : readCell(bytes, 4 * index);
}
/** All cells of a property, or null when it is absent or no whole number of cells. @linux of_property_read_u32_array, of_property_count_u32_elems */
export function ofPropertyReadU32Array(node: OfNode, name: string): number[] | null {
  const bytes = node.properties.get(name);
  if (bytes === undefined || bytes.length % 4 !== 0) return null;
  return Array.from({ length: bytes.length / 4 }, (_, i) => readCell(bytes, 4 * i));
}
/** Two cells as a number, exact below 2^53; null when it is absent or too short. @linux of_property_read_u64 */
export function ofPropertyReadU64(node: OfNode, name: string): number | null {
  const bytes = node.properties.get(name);
  return bytes === undefined || bytes.length < 8 ? null : readNumber(bytes, 0, 2);
}
/** The first string of a property, or null when it is absent or none. @linux of_property_read_string */
export function ofPropertyReadString(node: OfNode, name: string): string | null {
  return ofPropertyReadStringArray(node, name)?.[0] ?? null;
}
/** The strings of a property, or null when it is absent or none. @linux of_property_read_string_array, of_property_count_strings */
export function ofPropertyReadStringArray(node: OfNode, name: string): string[] | null {
  const bytes = node.properties.get(name);
  return bytes === undefined ? null : readStrings(bytes);
}
/** Where `text` stands among the strings of a property; EINVAL without property, ENOENT when it is none of them. @linux of_property_match_string */
export function ofPropertyMatchString(node: OfNode, name: string, text: string): number | Errno {
  const strings = ofPropertyReadStringArray(node, name);
  if (strings === null) return EINVAL;
  const index = strings.indexOf(text);
  return index < 0 ? ENOENT : index;
}

/** Whether `compatible` is one of the node's, letter case aside. @linux of_device_is_compatible */
export function ofDeviceIsCompatible(node: OfNode, compatible: string): boolean {
  const wanted = compatible.toLowerCase();
  return ofPropertyReadStringArray(node, 'compatible')?.some((own) => own.toLowerCase() === wanted) ?? false;
}
/** Whether its `status` is absent, `okay` or `ok`. @linux of_device_is_available */
export function ofDeviceIsAvailable(node: OfNode): boolean {
  const bytes = node.properties.get('status');
  if (bytes === undefined) return true;
  const status = readStrings(bytes)?.[0];
  return status === 'okay' || status === 'ok';
}

/** The node and all below it, parents first, in the tree's order. @linux for_each_of_allnodes */
export function* ofAllNodes(root: OfNode): Generator<OfNode> {
  const stack = [root];
  for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
    yield node;
    for (let i = node.children.length - 1; i >= 0; i--) stack.push(node.children[i] as OfNode);
  }
}
/** The node at a path (`/soc/serial@1000`; unit addresses may be left out; a path without slash is an alias), or null. @linux of_find_node_by_path */
export function ofFindNodeByPath(root: OfNode, path: string): OfNode | null {
  if (!path.startsWith('/')) {
    const [alias, ...rest] = path.split('/');
    const aliases = root.children.find((child) => child.name === 'aliases');
    const target = aliases === undefined || alias === undefined ? null : ofPropertyReadString(aliases, alias);
    return target?.startsWith('/') ? ofFindNodeByPath(root, [target, ...rest].join('/')) : null;
  }
  let node: OfNode = root;
  for (const part of path.split('/')) {
    if (part === '') continue;
    const next =
      node.children.find((child) => child.fullName === part) ?? node.children.find((child) => child.name === part);
    if (next === undefined) return null;
    node = next;
  }
  return node;
}
/** The first node that is compatible, or null. @linux of_find_compatible_node */
export function ofFindCompatibleNode(root: OfNode, compatible: string): OfNode | null {
  for (const node of ofAllNodes(root)) if (ofDeviceIsCompatible(node, compatible)) return node;
  return null;
}

const phandles = new WeakMap<OfNode, Map<number, OfNode>>();
/** The node with this phandle in the tree of `root`, or null. @linux of_find_node_by_phandle */
export function ofFindNodeByPhandle(root: OfNode, phandle: number): OfNode | null {
  if (phandle === 0) return null;
  let known = phandles.get(root);
  const hit = known?.get(phandle);
  if (hit !== undefined && hit.phandle === phandle) return hit;
  // The tree is new, or has changed since.
  known = new Map();
  for (const node of ofAllNodes(root)) {
    const own = node.phandle;
    if (own !== 0 && !known.has(own)) known.set(own, node);
  }
  phandles.set(root, known);
  return known.get(phandle) ?? null;
}

/** A reference with its arguments. @linux struct of_phandle_args */
export interface OfPhandleArgs {
  readonly node: OfNode;
  readonly args: readonly number[];
}
/**
 * The entry `index` of a list of references, each with as many arguments as the node it names says in `cellsName` (null:
 * none), e.g. `ofParsePhandleWithArgs(node, 'dmas', '#dma-cells', 0)`. null when there is no such entry, it is empty, or
 * the list is malformed up to it. @linux of_parse_phandle_with_args
 */
export function ofParsePhandleWithArgs(
  node: OfNode,
  listName: string,
  cellsName: string | null,
  index: number,
): OfPhandleArgs | null {
  return walkPhandles(node, listName, cellsName, index) as OfPhandleArgs | null;
}
/** The node that the entry `index` of a list of bare references names, or null. @linux of_parse_phandle */
export function ofParsePhandle(node: OfNode, listName: string, index: number): OfNode | null {
  return ofParsePhandleWithArgs(node, listName, null, index)?.node ?? null;
}
/** How many entries a list of references has, or ENOENT without list, EINVAL when it is malformed. @linux of_count_phandle_with_args */
export function ofCountPhandleWithArgs(node: OfNode, listName: string, cellsName: string | null): number | Errno {
  if (!node.properties.has(listName)) return ENOENT;
  return walkPhandles(node, listName, cellsName, -1) as number | Errno;
}
/** With `index` -1: counts. */
function walkPhandles(
  node: OfNode,
  listName: string,
  cellsName: string | null,
  index: number,
): OfPhandleArgs | number | null {
  const cells = ofPropertyReadU32Array(node, listName);
  if (cells === null) return index < 0 ? EINVAL : null;
  const { root } = node;
  let at = 0;
  let entry = 0;
  for (; at < cells.length; entry++) {
    const phandle = cells[at++] as number;
    if (phandle === 0) {
      if (entry === index) return null;
      continue;
    }
    const target = ofFindNodeByPhandle(root, phandle);
    const count = target === null ? null : cellsName === null ? 0 : ofPropertyReadU32(target, cellsName);
    if (target === null || count === null || count > cells.length - at) return index < 0 ? EINVAL : null;
    if (entry === index) return { node: target, args: cells.slice(at, at + count) };
    at += count;
  }
  return index < 0 ? entry : null;
}
