import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BusStatus } from '../machine/index.ts';
import { smmuConfig } from './smmu-v3-config.ts';
import {
  CD0,
  CDTAB,
  DATA,
  EVENT_IRQ,
  L0,
  L1,
  L2,
  L3,
  PAGE_RW,
  RAM,
  S2L1,
  S2L3,
  SmmuRig,
  STE_S2_FIELDS,
  STE_STAGE1,
  STRTAB,
} from './smmu-v3-rig.cases.ts';

const VA = 0x12_3460_0000;
/** Stream 3 translates by stage 1: page 0 of the region at VA to DATA. */
function stage1Rig(): SmmuRig {
  const rig = new SmmuRig();
  rig.ste(3, STE_STAGE1);
  rig.cd(0, CD0);
  rig.stage1(VA, { 0: BigInt(DATA) | PAGE_RW });
  return rig.start();
}
const PAGE_BLOCK_RW = PAGE_RW - 2n;
/** Stage 2: read and write, access flag. */
const S2_RW = 0x4c3n | 0x3cn;
function stage2Rig(): SmmuRig {
  const rig = new SmmuRig();
  rig.ste(3, 1n | (6n << 1n), 0n, STE_S2_FIELDS, BigInt(S2L1));
  rig.stage2(0x4020_0000, { 0: BigInt(DATA) | S2_RW });
  return rig.start();
}
const hex = (words: number[]) => words.map((word) => word.toString(16)).join(' ');

test('it says what it can do, as the unit of QEMU’s virt machine and more', () => {
  const rig = new SmmuRig();
  // S1P, S2P, AArch64, COHACC, HYP, ASID16, MSI, SEV, VMID16, CD2L, little-endian, no stalls, TERM_MODEL, two levels.
  assert.equal(rig.read(0x0), 0x0d4c_721b);
  assert.equal(rig.read(0x4), 16 | (19 << 16) | (19 << 21));
  assert.equal(rig.read(0xc), (1 << 2) | (1 << 10));
  assert.equal(rig.read(0x14), 4 | (1 << 4));
  assert.equal(rig.read(0x44), 0x1000);
  assert.throws(() => smmuConfig({ eventIrq: 1, syncIrq: 2, gerrorIrq: 3, tlbEntries: 5 }), /tlbEntries.*found 5/);
  assert.throws(() => new SmmuRig({ stage1: false, stage2: false }), /in stage 1, in stage 2 or in both/);
});

test('while it is off everything passes, or with GBPA.ABORT nothing', () => {
  const rig = new SmmuRig();
  assert.equal(rig.translate(3, 0x1234), 0x1234);
  assert.equal(rig.translate(3, 2 ** 44), -1);
  rig.write(0x44, 0x10_0000);
  rig.machine.delay(1000);
  assert.equal(rig.translate(3, 0x1234), 0x1234, 'a value without UPDATE is ignored');
  rig.write(0x44, 0x8010_0000);
  assert.equal(rig.read(0x44) >>> 31, 1, 'not in effect at once');
  rig.machine.delay(1000);
  assert.equal(rig.read(0x44), 0x10_0000);
  assert.equal(rig.translate(3, 0x1234), -1);
  assert.equal(rig.read(0x1_00a8), 0, 'no event');
});

test('control registers are acknowledged when they take effect; what is in use cannot be changed', () => {
  const rig = new SmmuRig();
  rig.write(0x20, 0xd);
  assert.equal(rig.read(0x24), 0);
  rig.machine.delay(1000);
  assert.equal(rig.read(0x24), 0xd);
  rig.write64(0x80, 0x1234_0000n);
  rig.write64(0x90, 0x1234_0000n);
  rig.write64(0xa0, 0x1234_0000n);
  assert.deepEqual([rig.read(0x80), rig.read(0x90), rig.read(0xa0)], [0, 0, 0]);
  rig.control(0x20, 0);
  rig.write64(0x80, 0x1234_0000n);
  assert.equal(rig.read(0x80), 0x1234_0000);
});

test('stage 1: pages, blocks of 2 MiB and 1 GiB', () => {
  const rig = stage1Rig();
  assert.equal(rig.translate(3, VA + 0x123), DATA + 0x123);
  assert.equal(rig.sizeBytes, 4096 - 0x123);
  rig.set64(L2 + 8 * (Math.floor((VA + 2 ** 21) / 2 ** 21) % 512), 0x4060_0000n | PAGE_BLOCK_RW);
  assert.equal(rig.translate(3, VA + 2 ** 21 + 0x12345), 0x4061_2345);
  assert.equal(rig.sizeBytes, 2 ** 21 - 0x12345);
  rig.set64(L1 + 8 * 511, 0x8000_0000n | PAGE_BLOCK_RW);
  const top = Math.floor(VA / 2 ** 39) * 2 ** 39 + 511 * 2 ** 30;
  assert.equal(rig.translate(3, top + 0x3fff_ffff, true), 0xbfff_ffff);
  assert.equal(rig.sizeBytes, 1);
  assert.deepEqual(rig.events(), []);
});

test('accesses of a device go through the tables, page by page', () => {
  const rig = stage1Rig();
  rig.set64(L3 + 8, BigInt(DATA + 0x9000) | PAGE_RW);
  const bytes = Uint8Array.from({ length: 8192 }, (_, i) => i % 251);
  assert.equal(rig.master(3).write(VA, bytes, 0, 8192), BusStatus.OK);
  const { memory } = rig.machine.bankAt(DATA)!;
  assert.deepEqual(memory.slice(DATA - RAM, DATA - RAM + 4096), bytes.slice(0, 4096));
  assert.deepEqual(memory.slice(DATA + 0x9000 - RAM, DATA + 0xa000 - RAM), bytes.slice(4096));
  assert.equal(rig.master(3).write(VA, bytes, 0, 8192 + 1), BusStatus.TRANSLATION_FAULT);
  assert.equal(rig.master(3).failedAt, VA + 8192);
});

test('each fault of stage 1 is reported with its number, stream and address', () => {
  const rig = stage1Rig();
  const fault = (entry: bigint, isWrite: boolean, id: number, w3: number) => {
    rig.set64(L3 + 8 * 7, entry);
    assert.equal(rig.translate(3, VA + 0x7abc, isWrite), -1);
    const [event] = rig.events();
    assert.equal(hex(event!), hex([id, 3, 0, w3, 0x3460_7abc, 0x12, 0, 0]));
  };
  const page = BigInt(DATA) | PAGE_RW;
  fault(0n, false, 0x10, 0x208);
  fault(0n, true, 0x10, 0x200);
  fault(page & ~2n, false, 0x10, 0x208); // a block on the last level
  fault(page & ~0x400n, false, 0x12, 0x208); // no access flag
  fault(page | (1n << 44n), false, 0x11, 0x208); // beyond 44 bits
  fault(page | 0x80n, true, 0x13, 0x200); // read only
  rig.command([[0x30n, 0n]]);
  fault(page & ~0x40n, false, 0x13, 0x208); // for privileged accesses
  // Beyond what T0SZ says there is no translation.
  rig.cd(0, (CD0 & ~63n) | 25n, BigInt(L1));
  rig.command([
    [(3n << 32n) | 5n, 0n],
    [0x30n, 0n],
  ]);
  assert.equal(rig.translate(3, 2 ** 39), -1);
  assert.equal(hex(rig.events()[0]!), hex([0x10, 3, 0, 0x208, 0, 0x80, 0, 0]));
  assert.equal(rig.lines.filter((line) => line === EVENT_IRQ).length, 8);
});

test('a table that cannot be read is reported with its address', () => {
  const rig = stage1Rig();
  rig.set64(L2 + 8 * (Math.floor(VA / 2 ** 21) % 512), 0x1_2345_6000n | 3n);
  assert.equal(rig.translate(3, VA + 0x5000), -1);
  assert.equal(hex(rig.events()[0]!), hex([0xb, 3, 0, 0x108, 0x3460_5000, 0x12, 0x2345_6028, 1]));
});

test('permissions in tables of upper levels hold for all below, unless the context says otherwise', () => {
  const rig = stage1Rig();
  const at = L1 + 8 * (Math.floor(VA / 2 ** 30) % 512);
  rig.set64(at, BigInt(L2) | 3n | (1n << 62n));
  assert.equal(rig.translate(3, VA), DATA);
  assert.equal(rig.translate(3, VA, true), -1);
  rig.set64(at, BigInt(L2) | 3n | (1n << 61n));
  rig.command([[0x30n, 0n]]);
  assert.equal(rig.translate(3, VA), -1);
  rig.cd(0, CD0, BigInt(L0) | 2n);
  rig.command([
    [(3n << 32n) | 5n, 0n],
    [0x30n, 0n],
  ]);
  assert.equal(rig.translate(3, VA, true), DATA);
});

test('privileged streams use the other permissions, and say so in events', () => {
  const rig = new SmmuRig();
  rig.ste(3, STE_STAGE1, 3n << 48n);
  rig.cd(0, CD0);
  rig.stage1(VA, { 0: (BigInt(DATA) | PAGE_RW) & ~0x40n });
  rig.start();
  assert.equal(rig.translate(3, VA, true), DATA);
  assert.equal(rig.translate(3, VA + 4096), -1);
  assert.equal(rig.events()[0]![3], 0x20a);
});

test('faults are recorded where the context descriptor asks for it', () => {
  const rig = stage1Rig();
  rig.cd(0, CD0 & ~(1n << 45n));
  assert.equal(rig.translate(3, VA + 4096), -1);
  assert.deepEqual(rig.events(), []);
});

test('bad configurations: streams, entries and descriptors', () => {
  const rig = stage1Rig();
  const refuse = (sid: number, words: number[]) => {
    rig.command([[4n, 31n]]);
    assert.equal(rig.translate(sid, VA), -1);
    assert.equal(hex(rig.events()[0] ?? []), hex([...words, 0, 0, 0, 0, 0, 0, 0].slice(0, words.length ? 8 : 0)));
  };
  refuse(256, [2, 256]); // beyond the table
  refuse(4, [4, 4]); // not valid
  rig.ste(4, 1n);
  refuse(4, []); // abort, in silence
  rig.ste(4, STE_STAGE1 | (1n << 59n));
  refuse(4, [4, 4]); // substreams, which there are none of
  rig.ste(4, 1n | (6n << 1n), 0n, STE_S2_FIELDS & ~(1n << 51n), BigInt(S2L1));
  refuse(4, [4, 4]); // stage 2 of AArch32
  rig.ste(4, 1n | (6n << 1n), 0n, (STE_S2_FIELDS & ~(63n << 32n)) | (44n << 32n), BigInt(S2L1));
  refuse(4, [4, 4]); // a first level without index
  rig.ste(4, 1n | (5n << 1n) | 0x1_0000_0000n);
  refuse(4, [9, 4, 0, 0, 0, 0, 0, 1]); // descriptors where no memory is
  rig.ste(4, STE_STAGE1 + 64n);
  refuse(4, [0xa, 4]); // descriptor not valid
  for (const broken of [CD0 & ~(1n << 41n), CD0 & ~(1n << 46n), CD0 | (1n << 44n), CD0 | (1n << 6n), CD0 & ~63n]) {
    rig.cd(1, broken);
    refuse(4, [0xa, 4]);
  }
  rig.cd(1, CD0, 1n << 45n);
  refuse(4, [0xa, 4]); // table beyond 44 bits
  rig.cd(1, CD0 | (1n << 14n));
  refuse(4, [0x10, 4, 0, 0x208, 0x3460_0000, 0x12]); // walks disabled
  rig.cd(1, CD0);
  rig.command([[4n, 31n]]);
  assert.equal(rig.translate(4, VA), DATA);
});

test('streams beyond the table are reported only when CR2 asks for it', () => {
  const rig = new SmmuRig();
  rig.write64(0x80, BigInt(STRTAB));
  rig.write(0x88, 8);
  rig.write64(0xa0, BigInt(0x4005_0003));
  rig.control(0x20, 5);
  assert.equal(rig.translate(300, 0), -1);
  assert.deepEqual(rig.events(), []);
});

test('a stream-table entry that cannot be fetched is reported with its address', () => {
  const rig = new SmmuRig();
  rig.write64(0x80, 0x5_0000_0000n);
  rig.write(0x88, 8);
  rig.write64(0xa0, BigInt(0x4005_0003));
  rig.control(0x20, 5);
  assert.equal(rig.translate(2, 0), -1);
  assert.equal(hex(rig.events()[0]!), hex([3, 2, 0, 0, 0, 0, 0x80, 5]));
});

test('two-level stream tables: spans, and what they leave out', () => {
  const rig = new SmmuRig();
  const second = RAM + 0x6_0000;
  // Six bits index the second level. A span of 3 stands for four entries, of 2 for two; 8 is more than six bits have.
  rig.set64(STRTAB + 8, BigInt(second) | 3n);
  rig.set64(STRTAB + 16, BigInt(second) | 2n);
  rig.set64(STRTAB + 24, BigInt(second) | 8n);
  rig.set64(second + 64, 1n | (4n << 1n));
  rig.start({ strtabCfg: 8 | (6 << 6) | (1 << 16) });
  assert.equal(rig.translate(64 + 1, 0x5000), 0x5000);
  assert.equal(rig.translate(64 + 4, 0x5000), -1);
  assert.equal(rig.translate(128 + 1, 0x5000), 0x5000);
  assert.equal(rig.translate(128 + 2, 0x5000), -1);
  assert.equal(rig.translate(192 + 1, 0x5000), -1);
  assert.equal(rig.translate(1, 0x5000), -1);
  assert.deepEqual(
    rig.events().map(([id, sid]) => [id, sid]),
    [
      [2, 68],
      [2, 130],
      [2, 193],
      [2, 1],
    ],
  );
});

test('context tables of two levels, and what substreams may', () => {
  const rig = new SmmuRig({ substreamIdBits: 16 });
  const leaf = RAM + 0x7_0000;
  // 64 KiB leaves of 1024 descriptors, 2^12 substreams; without substream: substream 0.
  rig.ste(3, STE_STAGE1 | (2n << 4n) | (12n << 59n), 2n);
  rig.set64(CDTAB, BigInt(leaf) | 1n);
  rig.set64(CDTAB + 8, BigInt(leaf) | 1n);
  rig.set64(leaf, CD0, BigInt(L0));
  rig.set64(leaf + 64 * 5, CD0 | (6n << 48n), BigInt(L0));
  rig.stage1(VA, { 0: BigInt(DATA) | PAGE_RW });
  rig.start();
  assert.equal(rig.translate(3, VA), DATA);
  assert.equal(rig.translate(3, VA, false, 1024 + 5), DATA);
  assert.equal(rig.translate(3, VA + 4096, true, 1024 + 5), -1);
  assert.equal(hex(rig.events()[0]!), hex([0x10 | 0x800 | (1029 << 12), 3, 0, 0x200, 0x3460_1000, 0x12, 0, 0]));
  assert.equal(rig.translate(3, VA, false, 4096), -1);
  assert.equal(rig.events()[0]![0]! & 0xff, 8);
  assert.equal(rig.translate(3, VA, false, 2048), -1);
  assert.equal(rig.events()[0]![0]! & 0xff, 8);
  // 4 KiB leaves of 64 descriptors.
  rig.ste(4, STE_STAGE1 | (1n << 4n) | (12n << 59n), 0n);
  assert.equal(rig.translate(4, VA, false, 64 + 5), DATA);
  assert.equal(rig.translate(4, VA), -1);
  assert.equal(rig.events()[0]![0], 6, 'without substream: disabled');
  rig.ste(5, STE_STAGE1 | (1n << 4n) | (12n << 59n), 1n);
  assert.equal(rig.translate(5, VA), VA, 'without substream: passed through');
});

test('stage 2: tables from level 1, its own rights and events', () => {
  const rig = stage2Rig();
  assert.equal(rig.translate(3, 0x4020_0080, true), DATA + 0x80);
  rig.set64(S2L3 + 8, BigInt(DATA) | (S2_RW & ~0x80n));
  assert.equal(rig.translate(3, 0x4020_1080), DATA + 0x80);
  assert.equal(rig.translate(3, 0x4020_1080, true), -1);
  assert.equal(rig.translate(3, 0x4020_2080), -1);
  assert.equal(rig.translate(3, 2 ** 39 + 4096), -1);
  assert.deepEqual(rig.events().map(hex), [
    hex([0x13, 3, 0, 0x280, 0x4020_1080, 0, 0x4020_1000, 0]),
    hex([0x10, 3, 0, 0x288, 0x4020_2080, 0, 0x4020_2000, 0]),
    hex([0x10, 3, 0, 0x288, 0x1000, 0x80, 0x1000, 0x80]),
  ]);
});

test('stage 2 may begin with several tables next to each other', () => {
  const rig = new SmmuRig();
  // 41-bit addresses from level 1: four tables.
  rig.ste(3, 1n | (6n << 1n), 0n, (STE_S2_FIELDS & ~(63n << 32n)) | (23n << 32n), BigInt(RAM + 0x8_0000));
  rig.set64(RAM + 0x8_0000 + 8 * 1600, 0x4000_0000n | (S2_RW & ~2n));
  rig.start();
  assert.equal(rig.translate(3, 1600 * 2 ** 30 + 0x1234), 0x4000_1234);
});

test('both stages: tables and output of stage 1 are intermediate addresses', () => {
  const rig = new SmmuRig();
  const shift = 0x80_0000;
  // Stage 2 moves everything by 8 MiB, in pages.
  const entries: Record<number, bigint> = {};
  for (let page = 0; page < 512; page++) entries[page] = BigInt(RAM + 4096 * page) | S2_RW;
  rig.stage2(RAM + shift, entries);
  rig.ste(3, 1n | (7n << 1n) | BigInt(CDTAB + shift), 0n, STE_S2_FIELDS, BigInt(S2L1));
  rig.cd(0, CD0, BigInt(L0 + shift));
  rig.stage1(VA, { 0: BigInt(DATA + shift) | PAGE_RW, 1: BigInt(DATA + shift + 0x1000) | PAGE_RW });
  rig.set64(L0 + 8 * Math.floor(VA / 2 ** 39), BigInt(L1 + shift) | 3n);
  rig.set64(L1 + 8 * (Math.floor(VA / 2 ** 30) % 512), BigInt(L2 + shift) | 3n);
  rig.set64(L2 + 8 * (Math.floor(VA / 2 ** 21) % 512), BigInt(L3 + shift) | 3n);
  rig.start();
  assert.equal(rig.translate(3, VA + 8, true), DATA + 8);
  // Stage 2 refuses the write; stage 1 knows nothing of it.
  rig.set64(S2L3 + 8 * 0x101, (entries[0x101] as bigint) & ~0x80n);
  assert.equal(rig.translate(3, VA + 0x1008), DATA + 0x1008);
  assert.equal(rig.translate(3, VA + 0x1008, true), -1);
  const ipa = DATA + shift + 0x1000;
  assert.equal(hex(rig.events()[0]!), hex([0x13, 3, 0, 0x280, 0x3460_1008, 0x12, ipa, 0]));
  // A table of stage 1 that stage 2 does not map.
  rig.set64(S2L3 + 8 * 0x33, 0n);
  rig.command([[0x30n, 0n]]);
  assert.equal(rig.translate(3, VA), -1);
  assert.equal(hex(rig.events()[0]!), hex([0x10, 3, 0, 0x188, 0x3460_0000, 0x12, L3 + shift, 0]));
  // The context descriptor, likewise.
  rig.set64(S2L3 + 8 * 0x20, 0n);
  rig.command([[4n, 31n]]);
  assert.equal(rig.translate(3, VA), -1);
  assert.equal(hex(rig.events()[0]!), hex([0x10, 3, 0, 0x88, 0x3460_0000, 0x12, CDTAB + shift, 0]));
});

test('bypass passes, up to the width of addresses', () => {
  const rig = new SmmuRig();
  rig.ste(3, 1n | (4n << 1n));
  rig.start();
  assert.equal(rig.translate(3, 0x1234_5678, true), 0x1234_5678);
  assert.equal(rig.translate(3, 2 ** 44), -1);
  assert.equal(hex(rig.events()[0]!), hex([0x11, 3, 0, 0x208, 0, 0x1000, 0, 0]));
});
