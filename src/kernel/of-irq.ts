/** Interrupts in the device tree: from a node's `interrupts` to a line of the machine. */
import { EINVAL, ENXIO, type Errno } from '../base/errno.ts';
import type { Kernel } from './kernel.ts';
import {
  MAX_TREE_DEPTH,
  type OfNode,
  type OfPhandleArgs,
  ofDeviceIsCompatible,
  ofFindNodeByPhandle,
  ofParsePhandleWithArgs,
  ofPropertyMatchString,
  ofPropertyReadU32,
  ofPropertyReadU32Array,
} from './of.ts';

/** Makes a line of the machine from what a node says to its interrupt controller; an error when it says nonsense. */
export type IrqXlate = (args: readonly number[]) => number | Errno;

const key = {};
const makeDomains = (): Map<OfNode, IrqXlate> => new Map();

/** Have `xlate` translate the interrupts of a controller's node, instead of the usual way. @linux irq_domain_add_linear */
export function irqDomainAdd(kernel: Kernel, controller: OfNode, xlate: IrqXlate): void {
  kernel.subsystem(key, makeDomains).set(controller, xlate);
}

/** Arm's GIC: kind (0: shared, from 32; 1: private, from 16), number, flags. */
function gicXlate(args: readonly number[]): number | Errno {
  const [kind, number] = args;
  if (number === undefined || args.length < 3 || number > 0xffff) return EINVAL;
  return kind === 0 ? 32 + number : kind === 1 ? 16 + number : EINVAL;
}
/** The BCM2835's: bank and number in it, 32 a bank. */
function bcm2835Xlate(args: readonly number[]): number | Errno {
  const [bank, number] = args;
  return bank === undefined || number === undefined || bank > 2 || number > 31 ? EINVAL : 32 * bank + number;
}
/** All others: the first cell is the line. */
function firstCellXlate(args: readonly number[]): number | Errno {
  return args[0] === undefined || args[0] > 0xffff ? EINVAL : args[0];
}
function usualXlate(controller: OfNode): IrqXlate {
  const cells = ofPropertyReadU32(controller, '#interrupt-cells');
  if (cells !== null && cells >= 3) return gicXlate;
  const bcm = ['brcm,bcm2835-armctrl-ic', 'brcm,bcm2836-armctrl-ic'];
  return bcm.some((compatible) => ofDeviceIsCompatible(controller, compatible)) ? bcm2835Xlate : firstCellXlate;
}

/** The node that `node` interrupts: its `interrupt-parent`, an ancestor's, or the next ancestor that is one. */
function interruptParent(node: OfNode): OfNode | null {
  let child: OfNode = node;
  for (let depth = 0; depth < MAX_TREE_DEPTH; depth++) {
    const phandle = ofPropertyReadU32(child, 'interrupt-parent');
    const parent: OfNode | null = phandle === null ? child.parent : ofFindNodeByPhandle(node.root, phandle);
    if (parent === null) return null;
    if (parent.properties.has('#interrupt-cells')) return parent;
    child = parent;
  }
  return null;
}

/** The controller and arguments of interrupt `index` of a node, or null. @linux of_irq_parse_one */
export function ofIrqParseOne(node: OfNode, index: number): OfPhandleArgs | null {
  const extended = ofParsePhandleWithArgs(node, 'interrupts-extended', '#interrupt-cells', index);
  if (extended !== null) return followMap(extended, unitAddress(node, extended.node));
  const controller = interruptParent(node);
  const cells = ofPropertyReadU32Array(node, 'interrupts');
  const count = controller === null ? null : ofPropertyReadU32(controller, '#interrupt-cells');
  if (controller === null || cells === null || count === null || count === 0) return null;
  const args = cells.slice(index * count, (index + 1) * count);
  return args.length === count ? followMap({ node: controller, args }, unitAddress(node, controller)) : null;
}

/** Through the `interrupt-map` of a bus that is no controller itself; `at` is the device's unit address. (Linux: of_irq_parse_raw) */
function followMap(from: OfPhandleArgs, at: readonly number[]): OfPhandleArgs | null {
  let { node, args } = from;
  let unit = at;
  for (let depth = 0; depth < MAX_TREE_DEPTH; depth++) {
    if (node.properties.has('interrupt-controller')) return { node, args };
    const map = ofPropertyReadU32Array(node, 'interrupt-map');
    if (map === null) return { node, args };
    const next = matchMap(node, map, [...unit, ...args]);
    if (next === null) return null;
    node = next.node;
    unit = next.args.slice(0, next.unitCells);
    args = next.args.slice(next.unitCells);
  }
  return null;
}
function unitAddress(device: OfNode, controller: OfNode): number[] {
  const cells = Math.min(ofPropertyReadU32(controller, '#address-cells') ?? 0, 4);
  const reg = ofPropertyReadU32Array(device, 'reg') ?? [];
  return Array.from({ length: cells }, (_, i) => reg[i] ?? 0);
}
function matchMap(
  nexus: OfNode,
  map: readonly number[],
  wanted: readonly number[],
): { node: OfNode; args: number[]; unitCells: number } | null {
  const mask = ofPropertyReadU32Array(nexus, 'interrupt-map-mask');
  for (let at = 0; at + wanted.length < map.length; ) {
    const hit = wanted.every((cell, i) => (((map[at + i] as number) ^ cell) & (mask?.[i] ?? 0xffff_ffff)) === 0);
    at += wanted.length;
    const target = ofFindNodeByPhandle(nexus.root, map[at++] as number);
    if (target === null) return null;
    const unitCells = ofPropertyReadU32(target, '#address-cells') ?? 0;
    const count = unitCells + (ofPropertyReadU32(target, '#interrupt-cells') ?? 0);
    if (count > map.length - at) return null;
    if (hit) return { node: target, args: map.slice(at, at + count), unitCells };
    at += count;
  }
  return null;
}

/** How many interrupts a node has. @linux of_irq_count */
export function ofIrqCount(node: OfNode): number {
  let count = 0;
  while (count < 1024 && ofIrqParseOne(node, count) !== null) count++;
  return count;
}
/** The machine's line for interrupt `index` of a node; ENXIO when there is none, EINVAL when it makes no sense. @linux of_irq_get, irq_of_parse_and_map */
export function ofIrqGet(kernel: Kernel, node: OfNode, index: number): number | Errno {
  const found = ofIrqParseOne(node, index);
  return found === null ? ENXIO : lineOf(kernel, found);
}
function lineOf(kernel: Kernel, { node, args }: OfPhandleArgs): number | Errno {
  const xlate = kernel.subsystem(key, makeDomains).get(node) ?? usualXlate(node);
  return xlate(args);
}
/**
 * The machine's line for pin `pin` (1 to 4) of slot `slot` on the root bus of a PCI host bridge, by its `interrupt-map`;
 * ENXIO when it goes nowhere. @linux of_irq_parse_and_map_pci
 */
export function ofIrqMapPci(kernel: Kernel, bridge: OfNode, slot: number, pin: number): number | Errno {
  const found = followMap({ node: bridge, args: [pin] }, [slot << 11, 0, 0]);
  return found === null ? ENXIO : lineOf(kernel, found);
}
/** The same by its name in `interrupt-names`. @linux of_irq_get_byname */
export function ofIrqGetByname(kernel: Kernel, node: OfNode, name: string): number | Errno {
  const index = ofPropertyMatchString(node, 'interrupt-names', name);
  return index < 0 ? ENXIO : ofIrqGet(kernel, node, index);
}
