/**
 * Addresses in the device tree: `reg` through the `ranges` of the buses above, and `dma-ranges`, which say what a device
 * reaches. Addresses that do not fit in 52 bits count as not translatable.
 */
import { ADDR_LIMIT, type DmaAddr, dmaBitMask, type PhysAddr } from '../base/addr.ts';
import { ilog2 } from '../base/bits.ts';
import { EINVAL, ENODEV, type Errno, OK } from '../base/errno.ts';
import { type Device, type DmaRange, devDbg, devErr, devWarn } from './device.ts';
import {
  MAX_TREE_DEPTH,
  type OfNode,
  ofParsePhandleWithArgs,
  ofPropertyMatchString,
  ofPropertyReadBool,
  ofPropertyReadString,
  ofPropertyReadU32,
  readCell,
  readNumber,
} from './of.ts';

/** No address. */
const BAD = -1;
const MAX_ADDR_CELLS = 4;
/** The bits of a PCI address's first cell that tell memory, I/O and configuration space apart. */
const PCI_SPACE = 0x0300_0000;

/** The `#address-cells` for the children of `node`, its ancestors' when it says nothing. */
function addressCellsBelow(node: OfNode): number {
  return inherited(node, '#address-cells');
}
/** */
function sizeCellsBelow(node: OfNode): number {
  return inherited(node, '#size-cells');
}
function inherited(from: OfNode, name: string): number {
  for (let node: OfNode | null = from; node !== null; node = node.parent) {
    const cells = ofPropertyReadU32(node, name);
    if (cells !== null) return cells;
  }
  return 1;
}
/** How many cells an address of `node` has: what its parent says, or an ancestor. @linux of_n_addr_cells */
export function ofAddressCells(node: OfNode): number {
  return addressCellsBelow(node.parent ?? node);
}
/** @linux of_n_size_cells */
export function ofSizeCells(node: OfNode): number {
  return sizeCellsBelow(node.parent ?? node);
}
/** Whether addresses below `bus` begin with a cell of flags. */
function isPciBus(bus: OfNode): boolean {
  const type = ofPropertyReadString(bus, 'device_type');
  return type === 'pci' || type === 'pciex' || bus.name === 'pcie';
}
function hasFlags(bus: OfNode, cells: number): boolean {
  return cells === 3 || (isPciBus(bus) && cells > 2);
}

/** An address on a bus: the number, and the cell of flags before it where there is one. */
interface BusAddress {
  value: number;
  flags: number;
}
function readAddress(bus: OfNode, bytes: Uint8Array, offset: number, cells: number): BusAddress {
  if (!hasFlags(bus, cells)) return { value: readNumber(bytes, offset, cells), flags: 0 };
  return { value: readNumber(bytes, offset + 4, cells - 1), flags: readCell(bytes, offset) };
}
function sameSpace(bus: OfNode, a: number, b: number): boolean {
  return isPciBus(bus) ? ((a ^ b) & PCI_SPACE) === 0 : a === b;
}

/** How an address of `bus` continues on the bus above, by `property` of `bus`. Returns false when it does not. */
function translateOne(bus: OfNode, above: OfNode, property: string, address: BusAddress): boolean {
  const ranges = bus.properties.get(property);
  if (ranges === undefined) return property === 'dma-ranges';
  if (ranges.length === 0) return true;
  const childCells = addressCellsBelow(bus);
  const parentCells = addressCellsBelow(above);
  const sizeCells = sizeCellsBelow(bus);
  const entryBytes = 4 * (childCells + parentCells + sizeCells);
  for (let at = 0; at + entryBytes <= ranges.length; at += entryBytes) {
    const child = readAddress(bus, ranges, at, childCells);
    const size = readNumber(ranges, at + 4 * (childCells + parentCells), sizeCells);
    if (!sameSpace(bus, child.flags, address.flags)) continue;
    if (address.value < child.value || address.value - child.value >= size) continue;
    const parent = readAddress(above, ranges, at + 4 * childCells, parentCells);
    address.value = parent.value + (address.value - child.value);
    address.flags = parent.flags;
    return true;
  }
  return false;
}

/** Carry an address of the bus `bus` up to the root: the CPU's address, or BAD. */
function translateUp(bus: OfNode, address: BusAddress, property: string): number {
  if (!countsAreSane(addressCellsBelow(bus), sizeCellsBelow(bus))) return BAD;
  let node = bus;
  for (let depth = 0; depth < MAX_TREE_DEPTH; depth++) {
    const above = property === 'dma-ranges' ? dmaParent(node) : node.parent;
    if (above === null) return address.value >= 0 && address.value < ADDR_LIMIT ? address.value : BAD;
    if (!countsAreSane(addressCellsBelow(above), sizeCellsBelow(above))) return BAD;
    if (!translateOne(node, above, property, address)) return BAD;
    node = above;
  }
  return BAD;
}
function countsAreSane(addressCells: number, sizeCells: number): boolean {
  return addressCells > 0 && addressCells <= MAX_ADDR_CELLS && sizeCells > 0 && sizeCells <= MAX_ADDR_CELLS;
}

/** A range of registers in the CPU's addresses. */
export interface OfRange {
  readonly start: PhysAddr;
  readonly sizeBytes: number;
}
/** The entry `index` of a node's `reg` in the CPU's addresses, or null when there is none or no way to it. @linux of_address_to_resource */
export function ofAddressToResource(node: OfNode, index: number): OfRange | null {
  const { parent } = node;
  const reg = node.properties.get('reg');
  if (parent === null || reg === undefined) return null;
  const addressCells = addressCellsBelow(parent);
  const sizeCells = sizeCellsBelow(parent);
  if (!countsAreSane(addressCells, sizeCells)) return null;
  const entryBytes = 4 * (addressCells + sizeCells);
  const at = index * entryBytes;
  if (at < 0 || at + entryBytes > reg.length) return null;
  const start = translateUp(parent, readAddress(parent, reg, at, addressCells), 'ranges');
  const sizeBytes = readNumber(reg, at + 4 * addressCells, sizeCells);
  return start === BAD || start + sizeBytes > ADDR_LIMIT ? null : { start: start as PhysAddr, sizeBytes };
}
/** The CPU's address of the entry `index` of `reg`, or null. @linux of_translate_address */
export function ofTranslateAddress(node: OfNode, index = 0): PhysAddr | null {
  return ofAddressToResource(node, index)?.start ?? null;
}

/** The bus through which a node's DMA goes: `interconnects` named `dma-mem`, or its parent. */
function dmaParent(node: OfNode): OfNode | null {
  const index = ofPropertyMatchString(node, 'interconnect-names', 'dma-mem');
  if (index < 0) return node.parent;
  return ofParsePhandleWithArgs(node, 'interconnects', '#interconnect-cells', index)?.node ?? node.parent;
}

/**
 * What a device below the bus `bus` reaches, by the next `dma-ranges` that is not empty, carried up to the CPU's
 * addresses; ENODEV when no bus restricts it, EINVAL when none of the entries can be used. @linux of_dma_get_range, of:dma-ranges
 */
export function ofDmaGetRange(bus: OfNode | null): DmaRange[] | Errno {
  let seen = false;
  let node = bus;
  for (let depth = 0; node !== null && depth < MAX_TREE_DEPTH; depth++, node = dmaParent(node)) {
    const ranges = node.properties.get('dma-ranges');
    if (ranges !== undefined && ranges.length > 0) return parseDmaRanges(node, ranges);
    // Below a bus that has been passed, a missing property means that DMA does not go on.
    if (seen && ranges === undefined) return ENODEV;
    seen = true;
  }
  return ENODEV;
}
function parseDmaRanges(bus: OfNode, bytes: Uint8Array): DmaRange[] | Errno {
  const above = dmaParent(bus);
  const childCells = addressCellsBelow(bus);
  const sizeCells = sizeCellsBelow(bus);
  const parentCells = addressCellsBelow(above ?? bus);
  const result: DmaRange[] = [];
  if (!countsAreSane(childCells, sizeCells) || !countsAreSane(parentCells, 1)) return EINVAL;
  const entryBytes = 4 * (childCells + parentCells + sizeCells);
  for (let at = 0; at + entryBytes <= bytes.length; at += entryBytes) {
    const dma = readAddress(bus, bytes, at, childCells);
    const cpu = readAddress(above ?? bus, bytes, at + 4 * childCells, parentCells);
    const size = readNumber(bytes, at + 4 * (childCells + parentCells), sizeCells);
    const cpuStart = above === null ? cpu.value : translateUp(above, cpu, 'dma-ranges');
    if (cpuStart === BAD || dma.value >= ADDR_LIMIT || size === 0) continue;
    const sizeBytes = Math.min(size, ADDR_LIMIT - cpuStart, ADDR_LIMIT - dma.value);
    const last = result[result.length - 1];
    if (
      last !== undefined &&
      last.dmaStart + last.sizeBytes === dma.value &&
      last.cpuStart + last.sizeBytes === cpuStart
    ) {
      result[result.length - 1] = { ...last, sizeBytes: last.sizeBytes + sizeBytes };
    } else result.push({ cpuStart: cpuStart as PhysAddr, dmaStart: dma.value as DmaAddr, sizeBytes });
  }
  return result.length === 0 ? EINVAL : result;
}

/** Whether a node's DMA snoops the caches: `dma-coherent` on it or the next bus above that says so. @linux of_dma_is_coherent */
export function ofDmaIsCoherent(from: OfNode): boolean {
  let node: OfNode | null = from;
  for (let depth = 0; node !== null && depth < MAX_TREE_DEPTH; depth++, node = dmaParent(node)) {
    if (ofPropertyReadBool(node, 'dma-coherent')) return true;
    if (ofPropertyReadBool(node, 'dma-noncoherent')) return false;
  }
  return false;
}

/**
 * Set up a device's DMA addressing from the tree: windows and limit from `dma-ranges`, masks cut to what the limit
 * allows, coherence. EINVAL when the bus's `dma-ranges` are unusable. @linux of_dma_configure, of_dma_configure_id
 */
export function ofDmaConfigure(dev: Device, node: OfNode | null = dev.ofNode): Errno {
  if (node === null) return OK;
  const ranges = ofDmaGetRange(node === dev.ofNode ? dmaParent(node) : node);
  const map = typeof ranges === 'number' ? null : ranges;
  if (ranges === EINVAL) {
    devErr(dev, 'no usable entry in dma-ranges');
    return EINVAL;
  }
  if (dev.dmaMask === null) {
    devWarn(dev, 'DMA mask not set');
    dev.dmaMask = dev.coherentDmaMask;
  }
  if (map !== null) {
    let limit = 0;
    for (const range of map) limit = Math.max(limit, range.dmaStart + range.sizeBytes - 1);
    const mask = dmaBitMask(limit === 0 ? 1 : ilog2(limit) + 1);
    dev.coherentDmaMask &= mask;
    dev.dmaMask &= mask;
    dev.busDmaLimit = limit;
    dev.dmaRangeMap = map;
  }
  dev.dmaCoherent = dev.kernel.machine.traits.coherent || ofDmaIsCoherent(node);
  devDbg(dev, `device is${dev.dmaCoherent ? '' : ' not'} dma coherent`);
  return OK;
}

/** A range of RAM that the tree declares. */
export type OfMemory = OfRange;
/** RAM as the tree's memory nodes declare it, ascending; empty ranges (which a boot loader would fill in) are left out. */
export function ofMemory(root: OfNode): OfMemory[] {
  const found: OfMemory[] = [];
  for (const node of root.children) {
    if (ofPropertyReadString(node, 'device_type') !== 'memory' && node.name !== 'memory') continue;
    for (let index = 0; ; index++) {
      const range = ofAddressToResource(node, index);
      if (range === null) break;
      if (range.sizeBytes > 0) found.push(range);
    }
  }
  return found.sort((a, b) => a.start - b.start);
}
/** What /reserved-memory sets aside at fixed addresses. */
export function ofReservedMemory(root: OfNode): OfMemory[] {
  const parent = root.children.find((child) => child.name === 'reserved-memory');
  const found: OfMemory[] = [];
  for (const node of parent?.children ?? []) {
    const range = ofAddressToResource(node, 0);
    if (range !== null && range.sizeBytes > 0) found.push(range);
  }
  return found;
}
