/**
 * Compiled device trees (.dtb, version 16 and 17 of the format). The input is not trusted: whatever it holds, the result
 * is a tree or an FdtError that says where in the blob it is wrong.
 */
import { ADDR_LIMIT, fromLoHi } from '../base/addr.ts';
import { MAX_TREE_DEPTH, OfNode } from './of.ts';

const MAGIC = 0xd00dfeed;
const HEADER_BYTES = 40;
const FIRST_VERSION = 16;
const LAST_VERSION = 17;
const BEGIN_NODE = 1;
const END_NODE = 2;
const PROP = 3;
const NOP = 4;
const END = 9;
const MAX_NAME = 255;

/** A blob that is no device tree, or a broken one. */
export class FdtError extends Error {
  override name = 'FdtError';
  /** Where in the blob, in bytes from its start. */
  readonly offset: number;
  constructor(offset: number, message: string) {
    super(`device tree blob, offset 0x${offset.toString(16)}: ${message}`);
    this.offset = offset;
  }
}

/** A compiled device tree. */
export interface Fdt {
  readonly root: OfNode;
  /** The blob's memory reservations. */
  readonly reservations: readonly { readonly phys: number; readonly sizeBytes: number }[];
  readonly version: number;
  /** In bytes; the blob may be longer. */
  readonly totalSize: number;
}

/** Read a blob. Property values are copied. Throws `FdtError`. @linux unflatten_device_tree */
export function readFdt(blob: Uint8Array): Fdt {
  return new Reader(blob).read();
}

class Reader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #structEnd = 0;
  #stringsStart = 0;
  #stringsEnd = 0;
  #at = 0;

  constructor(blob: Uint8Array) {
    this.#bytes = blob.slice();
    this.#view = new DataView(this.#bytes.buffer);
  }

  read(): Fdt {
    const length = this.#bytes.length;
    if (length < HEADER_BYTES) throw new FdtError(0, `expected a header of ${HEADER_BYTES} bytes, found ${length}`);
    const magic = this.#u32(0);
    if (magic !== MAGIC) throw new FdtError(0, `expected the magic number 0xd00dfeed, found 0x${magic.toString(16)}`);
    const totalSize = this.#u32(4);
    const version = this.#u32(20);
    const compatible = this.#u32(24);
    if (version < FIRST_VERSION || compatible > LAST_VERSION) {
      throw new FdtError(20, `expected format version ${FIRST_VERSION} or ${LAST_VERSION}, found ${version}`);
    }
    if (totalSize < HEADER_BYTES || totalSize > length) {
      throw new FdtError(4, `the header says ${totalSize} bytes, the blob has ${length}: truncated?`);
    }
    const structStart = this.#u32(8);
    this.#stringsStart = this.#u32(12);
    this.#stringsEnd = this.#blockEnd(12, this.#stringsStart, this.#u32(32), totalSize, 'strings block');
    // Version 16 does not say how long the structure block is; it ends at its END token.
    const structSize = version >= 17 ? this.#u32(36) : Math.max(totalSize - structStart, 0);
    this.#structEnd = this.#blockEnd(8, structStart, structSize, totalSize, 'structure block');
    if (structStart % 4 !== 0) throw new FdtError(8, `the structure block is not aligned: it begins at ${structStart}`);
    const reservations = this.#reservations(this.#u32(16), totalSize);
    this.#at = structStart;
    return { root: this.#tree(), reservations, version, totalSize };
  }

  #u32(offset: number): number {
    return this.#view.getUint32(offset);
  }
  #blockEnd(field: number, start: number, size: number, totalSize: number, what: string): number {
    if (start < HEADER_BYTES || start + size > totalSize) {
      throw new FdtError(
        field,
        `the ${what} [${start}, ${start + size}) lies outside of the blob's ${totalSize} bytes`,
      );
    }
    return start + size;
  }

  #reservations(start: number, totalSize: number): { phys: number; sizeBytes: number }[] {
    const found: { phys: number; sizeBytes: number }[] = [];
    for (let at = start; ; at += 16) {
      if (at < HEADER_BYTES || at + 16 > totalSize) {
        throw new FdtError(at < totalSize ? at : 16, 'the memory reservations are not ended by an empty one');
      }
      const phys = fromLoHi(this.#u32(at + 4), this.#u32(at));
      const sizeBytes = fromLoHi(this.#u32(at + 12), this.#u32(at + 8));
      if (sizeBytes === 0) return found;
      if (phys + sizeBytes > ADDR_LIMIT) throw new FdtError(at, 'a memory reservation lies above 2^52');
      found.push({ phys, sizeBytes });
    }
  }

  #tree(): OfNode {
    let root: OfNode | null = null;
    let node: OfNode | null = null;
    let depth = 0;
    for (;;) {
      const at = this.#at;
      const token = this.#token();
      if (token === NOP) continue;
      if (token === BEGIN_NODE) {
        if (++depth > MAX_TREE_DEPTH) throw new FdtError(at, `nodes are nested deeper than ${MAX_TREE_DEPTH}`);
        if (node === null && root !== null) throw new FdtError(at, 'a second root node');
        node = new OfNode(this.#nodeName(at, depth), node);
        root ??= node;
      } else if (token === PROP) {
        if (node === null) throw new FdtError(at, 'a property outside of any node');
        this.#property(at, node);
      } else if (token === END_NODE) {
        if (node === null) throw new FdtError(at, 'the end of a node, but none is open');
        node = node.parent;
        depth--;
      } else if (token === END) {
        if (root === null) throw new FdtError(at, 'the tree has no root node');
        if (node !== null) throw new FdtError(at, `the tree ends inside of node ${node.path}`);
        return root;
      } else throw new FdtError(at, `expected a token (1, 2, 3, 4 or 9), found 0x${token.toString(16)}`);
    }
  }
  #token(): number {
    if (this.#at + 4 > this.#structEnd) throw new FdtError(this.#at, 'the structure block ends without its END token');
    const token = this.#u32(this.#at);
    this.#at += 4;
    return token;
  }
  #nodeName(at: number, depth: number): string {
    const name = this.#string(this.#at, this.#structEnd, 'a node name');
    this.#at += (name.length + 4) & ~3; // its terminator and padding
    if (depth === 1) return '';
    if (name === '' || name.includes('/')) throw new FdtError(at, `expected a node name, found '${name}'`);
    return name;
  }
  #property(at: number, node: OfNode): void {
    if (this.#at + 8 > this.#structEnd) throw new FdtError(at, 'a property is cut off');
    const size = this.#u32(this.#at);
    const nameOffset = this.#u32(this.#at + 4);
    const start = this.#at + 8;
    if (size > this.#structEnd - start)
      throw new FdtError(at, `a property of ${size} bytes reaches past the structure block`);
    if (nameOffset >= this.#stringsEnd - this.#stringsStart) {
      throw new FdtError(at, `a property's name lies outside of the strings block, at ${nameOffset}`);
    }
    const name = this.#string(this.#stringsStart + nameOffset, this.#stringsEnd, 'a property name');
    this.#at = start + Math.ceil(size / 4) * 4;
    // Of several of one name the first counts, as in the kernel.
    if (!node.properties.has(name)) node.properties.set(name, this.#bytes.subarray(start, start + size));
  }
  #string(start: number, end: number, what: string): string {
    let text = '';
    for (let at = start; at < end; at++) {
      const byte = this.#bytes[at] as number;
      if (byte === 0) return text;
      // Lest a blob whose properties all share one endless name takes for ever.
      if (text.length === MAX_NAME) throw new FdtError(start, `${what} is longer than ${MAX_NAME} characters`);
      text += String.fromCharCode(byte);
    }
    throw new FdtError(start, `${what} is not terminated`);
  }
}
