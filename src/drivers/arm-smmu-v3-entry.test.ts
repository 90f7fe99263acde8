import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DmaAddr } from '../base/addr.ts';
import { GFP_KERNEL, Kernel, kzalloc, type Mem } from '../kernel/index.ts';
import { SimMachine } from '../machine/index.ts';
import {
  cdUsed,
  ENTRY_WORDS,
  EntryWriter,
  makeAbortSte,
  makeBypassSte,
  makeCdTableSte,
  makeS1Cd,
  makeS2Ste,
  steUsed,
  type UsedBits,
} from './arm-smmu-v3-entry.ts';

const ram = [{ base: 0x4000_0000, sizeBytes: 4 << 20 }];
const kernel = new Kernel(new SimMachine({ name: 'entries', coherent: true, seed: 1, ram }), {});

function made(make: (target: Int32Array) => void): Int32Array {
  const target = new Int32Array(ENTRY_WORDS);
  make(target);
  return target;
}
const s1Tables = { table: 0x4567_8000, asid: 7, ias: 48, oas: 44, coherentWalk: true };
const s2Tables = { table: 0x4abc_d000, vmid: 9, ias: 44, oas: 44, startLevel: 0, coherentWalk: true };
const stes = {
  invalid: new Int32Array(ENTRY_WORDS),
  abort: made(makeAbortSte),
  bypass: made((target) => makeBypassSte(target, true)),
  stage1: made((target) => makeCdTableSte(target, 0x1_2345_6740 as DmaAddr, 0, 0)),
  'another stage1': made((target) => makeCdTableSte(target, 0x1_2345_6780 as DmaAddr, 0, 0)),
  stage2: made((target) => makeS2Ste(target, s2Tables, true)),
};
const cds = {
  invalid: new Int32Array(ENTRY_WORDS),
  one: made((target) => makeS1Cd(target, s1Tables)),
  'other id': made((target) => makeS1Cd(target, { ...s1Tables, asid: 8 })),
  'other table': made((target) => makeS1Cd(target, { ...s1Tables, table: 0x4999_9000, asid: 8 })),
};

function quadwords(entry: ArrayLike<number>): string[] {
  return Array.from({ length: 8 }, (_, i) => {
    const [lo, hi] = [entry[2 * i]! >>> 0, entry[2 * i + 1]! >>> 0];
    return (BigInt(hi) * 2n ** 32n + BigInt(lo)).toString(16);
  });
}

test('entries have the bits of the specification', () => {
  assert.deepEqual(quadwords(stes.abort).slice(0, 4), ['1', '0', '0', '0']);
  assert.deepEqual(quadwords(stes.bypass).slice(0, 4), ['9', '100000000000', '0', '0']);
  // S1DSS 2, inner and outer write-back, inner shareable.
  assert.deepEqual(quadwords(stes.stage1).slice(0, 4), ['12345674b', 'd6', '0', '0']);
  // PS 44 bits, 4 KiB, inner shareable, write-back, from level 0, T0SZ 20; AArch64, PTW, R.
  assert.deepEqual(quadwords(stes.stage2).slice(0, 4), ['d', '100000000000', '44c359400000009', '4abcd000']);
  // ASID 7, ASET, A, R, AArch64, IPS 44 bits; valid, no upper half, inner shareable, write-back, T0SZ 16.
  assert.deepEqual(quadwords(cds.one), ['7e204c0003510', '45678000', '0', 'f404ff44', '0', '0', '0', '0']);
});

/** Every state of the entry that the hardware can see: after each 8-byte store, and what it may still remember. */
function statesBetween(from: Int32Array, to: Int32Array, used: UsedBits): { states: string[][]; syncs: number } {
  const mem: Mem = kzalloc(kernel, 64, GFP_KERNEL)!;
  for (let i = 0; i < ENTRY_WORDS; i++) mem.writeU32(4 * i, from[i]! >>> 0);
  const states: string[][] = [];
  let syncs = 0;
  const note = () => {
    const now = new Int32Array(ENTRY_WORDS);
    for (let i = 0; i < ENTRY_WORDS; i++) now[i] = mem.readU32(4 * i);
    const bits = new Int32Array(ENTRY_WORDS);
    used(now, bits);
    states.push(quadwords(now.map((word, i) => word & bits[i]!)));
  };
  // Stores come in pairs of words: the state is complete after each second one.
  const write = mem.writeU32.bind(mem);
  let stores = 0;
  mem.writeU32 = (offset, value) => {
    write(offset, value);
    if (++stores % 2 === 0) note();
  };
  new EntryWriter().write(mem, 0, to, used, () => syncs++);
  mem.writeU32 = write;
  for (let i = 0; i < ENTRY_WORDS; i++) assert.equal(mem.readU32(4 * i), to[i]! >>> 0, 'the target, whole');
  return { states, syncs };
}
function check(from: Int32Array, to: Int32Array, used: UsedBits, hitless: boolean): void {
  const { states, syncs } = statesBetween(from, to, used);
  const seen = (entry: Int32Array) => {
    const bits = new Int32Array(ENTRY_WORDS);
    used(entry, bits);
    return quadwords(entry.map((word, i) => word & bits[i]!)).join();
  };
  const allowed = new Set([seen(from), seen(to)]);
  if (!hitless) allowed.add(quadwords(new Int32Array(ENTRY_WORDS)).join());
  for (const state of states) assert.ok(allowed.has(state.join()), state.join(' '));
  assert.equal(states.some((state) => state.every((word) => word === '0')) || hitless, true);
  assert.ok(syncs <= 3, `${syncs} syncs`);
}

const HITLESS_STE: [keyof typeof stes, keyof typeof stes][] = [
  ['invalid', 'stage1'],
  ['abort', 'stage1'],
  ['stage1', 'abort'],
  ['abort', 'stage2'],
  ['stage2', 'abort'],
  ['bypass', 'stage1'],
  ['stage1', 'bypass'],
  ['bypass', 'stage2'],
  ['stage2', 'bypass'],
  ['stage1', 'another stage1'],
  ['stage1', 'stage1'],
];
for (const [from, to] of HITLESS_STE) {
  test(`a stream from ${from} to ${to}: the old entry or the new one, at any time`, () => {
    check(stes[from], stes[to], steUsed, true);
  });
}
test('a descriptor whose id alone changes is never invalid; with its table it is, for a moment', () => {
  check(cds.invalid, cds.one, cdUsed, true);
  check(cds.one, cds['other id'], cdUsed, true);
  check(cds.one, cds['other table'], cdUsed, false);
});
