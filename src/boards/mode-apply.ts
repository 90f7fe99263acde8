/** What a mode changes in a board's device tree and in its kernel. */
import { hexAddr } from '../base/index.ts';
import {
  type KernelOptions,
  type OfNode,
  ofDeviceIsCompatible,
  ofPropertyReadU32,
  ofPropertyReadU32Array,
} from '../kernel/index.ts';
import type { Mode } from './mode.ts';

/** From here on a mask limits nothing: boards' buses have 32 address lines. */
const ALL_BITS = 32;

/**
 * The tree with the mode's limits: `mask=BITS` closes each bus at 2^BITS by its `dma-ranges`, so that no device gets
 * further, whatever mask its driver sets. Throws an Error when nothing of the RAM is left.
 */
export function treeFor(tree: OfNode, mode: Mode): OfNode {
  if (mode.maskBits === null || mode.maskBits >= ALL_BITS) return tree;
  for (const bus of tree.children) {
    if (ofDeviceIsCompatible(bus, 'simple-bus')) closeBus(bus, 2 ** mode.maskBits, mode);
  }
  return tree;
}

function closeBus(bus: OfNode, limit: number, mode: Mode): void {
  for (const name of ['#address-cells', '#size-cells']) {
    const cells = ofPropertyReadU32(bus, name) ?? 1;
    if (cells !== 1) throw new Error(`mode '${mode.text}': ${bus.path}: expected ${name} of 1, found ${cells}`);
  }
  const ranges = ofPropertyReadU32Array(bus, 'dma-ranges') ?? [];
  const windows = ranges.length === 0 ? [0, 0, limit] : ranges;
  const kept: number[] = [];
  for (let i = 0; i + 2 < windows.length; i += 3) {
    const [dma, cpu, sizeBytes] = windows.slice(i, i + 3) as [number, number, number];
    if (dma < limit) kept.push(dma, cpu, Math.min(sizeBytes, limit - dma));
  }
  if (kept.length === 0) {
    const first = Math.min(...windows.filter((_, i) => i % 3 === 0));
    throw new Error(
      `mode '${mode.text}': devices on ${bus.path} would reach no memory: it begins at bus address ${hexAddr(first)}`,
    );
  }
  const bytes = new Uint8Array(4 * kept.length);
  const view = new DataView(bytes.buffer);
  for (const [i, cell] of kept.entries()) view.setUint32(4 * i, cell);
  bus.properties.set('dma-ranges', bytes);
}

/**
 * The kernel is told of the limit as a SoC's support code would: what all devices reach is ZONE_DMA. Other terms become
 * boot arguments, behind the board's own.
 */
export function kernelOptionsFor(options: KernelOptions, mode: Mode): KernelOptions {
  let result = options;
  if (mode.maskBits !== null && mode.maskBits < ALL_BITS) {
    const limit = 2 ** mode.maskBits;
    result = { ...result, zoneDmaLimit: Math.min(options.zoneDmaLimit ?? limit, limit) };
    const { lowAddressLimit } = options;
    if (lowAddressLimit !== undefined) result = { ...result, lowAddressLimit: Math.min(lowAddressLimit, limit) };
  }
  if (mode.swiotlb !== null) result = { ...result, cmdline: `${result.cmdline ?? ''} swiotlb=${mode.swiotlb}`.trim() };
  return result;
}
