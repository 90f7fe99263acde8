/**
 * What random programs are made of: steps of plain numbers, which a program reads relative to what is live at that
 * moment. So any part of a program is a program, and a failing one shrinks to the steps that matter.
 */
import fc from 'fast-check';
import type { Prng } from '../base/index.ts';
import { DMA_BIDIRECTIONAL, DMA_FROM_DEVICE, DMA_TO_DEVICE, type DmaDataDirection } from '../kernel/index.ts';

export const OPS = [
  'map-single',
  'map-page',
  'map-vmalloc',
  'map-sg',
  'alloc-pages',
  'unmap',
  'sync',
  'sync-range',
  'device-write',
  'device-read',
  'cpu-write',
  'cpu-read',
  'alloc-coherent',
  'alloc-pool',
  'use-coherent',
  'free-coherent',
  'wait',
] as const;
export type OpKind = (typeof OPS)[number];

/** One step. Which of the numbers count depends on the kind; each is taken modulo what there is. */
export interface Op {
  kind: OpKind;
  /** Which device. */
  device: number;
  /** Which of what is live; how many entries a list has. */
  which: number;
  /** Bytes, from 1 to 256 KiB. */
  size: number;
  offset: number;
  dir: DmaDataDirection;
  /** The pattern of what is written. */
  value: number;
  /** Variants: bit 0 leaves out the implicit sync, bit 1 takes memory that all devices reach, bit 2 is for each kind. */
  flags: number;
}

const DIRECTIONS = [DMA_TO_DEVICE, DMA_FROM_DEVICE, DMA_BIDIRECTIONAL] as const;
export const MAX_BYTES = 256 * 1024;
/** Where slots, pages and segments end, and beside it. */
const CORNERS = [1, 2, 31, 32, 33, 64, 2047, 2048, 2049, 4095, 4096, 4097, 8192, 65_536, 65_537, 258_048, MAX_BYTES];

/** Steps for fast-check. */
export const opArbitrary: fc.Arbitrary<Op> = fc.record({
  kind: fc.constantFrom(...OPS),
  device: fc.nat(7),
  which: fc.nat(63),
  size: fc.oneof(
    { weight: 6, arbitrary: fc.integer({ min: 1, max: 8192 }) },
    { weight: 3, arbitrary: fc.constantFrom(...CORNERS) },
    { weight: 1, arbitrary: fc.integer({ min: 1, max: MAX_BYTES }) },
  ),
  offset: fc.nat(MAX_BYTES),
  dir: fc.constantFrom(...DIRECTIONS),
  value: fc.nat(255),
  flags: fc.nat(7),
});

/** The same from a generator, into `op`: for runs so long that the steps cannot be kept. */
export function drawOp(prng: Prng, op: Op): void {
  op.kind = OPS[prng.below(OPS.length)]!;
  op.device = prng.below(8);
  op.which = prng.below(64);
  op.size = drawSize(prng);
  op.offset = prng.below(MAX_BYTES);
  op.dir = DIRECTIONS[prng.below(3)]!;
  op.value = prng.below(256);
  op.flags = prng.below(8);
}
/** Mostly small, so that a million steps end; now and then as large as can be. */
function drawSize(prng: Prng): number {
  const luck = prng.below(1000);
  if (luck === 0) return 1 + prng.below(MAX_BYTES);
  if (luck < 20) return CORNERS[prng.below(CORNERS.length - 4)]!;
  return 1 + prng.below(luck < 200 ? 4096 : 512);
}
export function emptyOp(): Op {
  return { kind: 'wait', device: 0, which: 0, size: 1, offset: 0, dir: DMA_TO_DEVICE, value: 0, flags: 0 };
}
/** For messages: `map-single 0 100+32 to-device`. */
export function opText(op: Op): string {
  const dir = ['bidirectional', 'to-device', 'from-device'][op.dir];
  return `${op.kind} #${op.which} of device ${op.device}, ${op.offset}+${op.size} ${dir}, ${op.value}, ${op.flags}`;
}
