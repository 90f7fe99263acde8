import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DOMAIN_ID, enabledRig, PS, R, ROOT, SOURCE, VtdRig, W } from './vtd-rig.cases.ts';

const IOVA = 0xffff_f000;
const TARGET = 0x100_0000;

test('without translation every access passes as it is', () => {
  const rig = new VtdRig();
  rig.poke(TARGET, 0x1234);
  assert.equal(rig.seen(TARGET), 0x1234);
  assert.equal(rig.writes(TARGET), 'ok');
  assert.deepEqual(rig.faults(), []);
});

test('capabilities say what the unit was built as', () => {
  // As QEMU's unit prints them without interrupt remapping: cap d2008c22260206 ecap f00f42.
  const rig = new VtdRig({ faultRecords: 1, coherent: false });
  assert.equal(rig.read(0x00), 0x10);
  assert.equal(rig.read(0x08), 0x2226_0206);
  assert.equal(rig.read(0x0c), 0x00d2_008c);
  assert.equal(rig.read(0x10), 0x00f0_0f42);
  const other = new VtdRig({
    awBits: 48,
    cachingMode: true,
    passThrough: false,
    queuedInvalidation: false,
    pageSelective: false,
    superpages: 0,
    writeBufferFlush: true,
    snoopControl: true,
    maxAddressMask: 9,
    domainIdBits: 8,
  });
  assert.equal(other.read(0x08), 0x222f_0692);
  assert.equal(other.read(0x0c), 0x00c9_0700);
  assert.equal(other.read(0x10), 0x00f0_0f81);
});

test('a unit that cannot be built is refused with what is wrong', () => {
  assert.throws(() => new VtdRig({ faultRecords: 0 }), /dmar0: faultRecords is 1 to 64, found 0/);
  assert.throws(() => new VtdRig({ iotlbEntries: 100 }), /power of two from 4 to 65536, found 100/);
  assert.throws(() => new VtdRig({ awBits: 57 as 48 }), /awBits is 39 or 48, found 57/);
});

test('a page is reached through root, context and three levels of tables', () => {
  const { rig, top } = enabledRig();
  rig.map(top, IOVA, TARGET);
  rig.poke(TARGET + 0x10, 0xbeef);
  assert.equal(rig.seen(IOVA + 0x10), 0xbeef);
  assert.equal(rig.writes(IOVA + 0xffc), 'ok');
  assert.equal(rig.memory32[(TARGET + 0xffc) / 4], 0xa5a5_a5a5 | 0);
  assert.equal(rig.writes(IOVA + 0xffe), 'fault', 'the next page is not mapped');
  assert.equal(rig.device.failedAt, IOVA + 0x1000);
  assert.equal(rig.fault(), '5 b0 write 100000000');
});

test('four levels reach 48 bits, and memory above 4 GiB', () => {
  const rig = new VtdRig({ awBits: 48 });
  const top = rig.table();
  rig.context(top, { width: 2 });
  rig.enable();
  const iova = 0x7fff_dead_b000;
  rig.map(top, iova, 2 ** 32 + 0x5000, R | W, 4);
  rig.machine.ram[1]!.memory32[0x5000 / 4] = 77;
  assert.equal(rig.seen(iova), 77);
  assert.equal(rig.reads(2 ** 48), 'fault');
  assert.equal(rig.fault(), '4 b0 read 1000000000000');
});

test('a 48-bit unit walks three levels where the context says so, and then 39 bits are all', () => {
  const rig = new VtdRig({ awBits: 48 });
  const top = rig.table();
  rig.context(top, { width: 1 });
  rig.enable();
  rig.map(top, IOVA, TARGET);
  assert.equal(rig.reads(IOVA), 'ok');
  assert.equal(rig.reads(2 ** 39), 'fault');
  assert.equal(rig.fault(), '4 b0 read 8000000000');
});

test('pages of 2 MiB and 1 GiB are reached, and cross into their neighbours', () => {
  const { rig, top } = enabledRig();
  const middle = rig.table();
  rig.poke(top + 8 * 1, middle | R | W);
  rig.poke(middle + 8 * 3, 0x40_0000 | R | W | PS);
  rig.poke(middle + 8 * 4, 0x80_0000 | R | W | PS);
  rig.poke(top + 8 * 2, 0 | R | W | PS);
  const iova = 2 ** 30 + 3 * 2 ** 21;
  rig.poke(0x40_0000 + 0x12_3450, 11);
  rig.poke(0x80_0000 - 4 + 4, 12);
  assert.equal(rig.seen(iova + 0x12_3450), 11);
  assert.equal(rig.seen(iova + 2 ** 21), 12);
  assert.equal(rig.writes(iova + 2 ** 21 - 8, 16), 'ok');
  assert.equal(rig.memory32[(0x60_0000 - 4) / 4], 0xa5a5_a5a5 | 0);
  assert.equal(rig.memory32[0x80_0004 / 4], 0xa5a5_a5a5 | 0);
  rig.poke(0x234_5678, 13);
  assert.equal(rig.seen(2 * 2 ** 30 + 0x234_5678), 13);
  assert.deepEqual(rig.faults(), []);
});

test('rights are those of every level together', () => {
  const { rig, top } = enabledRig();
  const leaf = rig.map(top, IOVA, TARGET, R | W);
  const middle = rig.memory32[(top + 8 * 3) / 4]! & ~0xfff;
  rig.poke(middle + 8 * 511, (leaf & ~0xfff) | R);
  assert.equal(rig.reads(IOVA), 'ok');
  assert.equal(rig.writes(IOVA), 'fault');
  assert.equal(rig.fault(), '5 b0 write fffff000');
  rig.map(top, 0x4000_0000, TARGET, W);
  assert.equal(rig.writes(0x4000_0000), 'ok');
  assert.equal(rig.reads(0x4000_0000), 'fault');
  assert.equal(rig.fault(), '6 b0 read 40000000');
});

test('a device reaches nothing of another device', () => {
  const { rig, top } = enabledRig();
  const otherTop = rig.table();
  rig.context(otherTop, { source: SOURCE + 8, domain: DOMAIN_ID + 1 });
  rig.map(top, IOVA, TARGET);
  rig.map(otherTop, IOVA - 4096, TARGET + 4096);
  assert.equal(rig.reads(IOVA), 'ok');
  assert.equal(rig.reads(IOVA, 4, rig.other), 'fault');
  assert.equal(rig.reads(IOVA - 4096, 4, rig.other), 'ok');
  assert.equal(rig.reads(IOVA - 4096), 'fault');
  assert.deepEqual(rig.faults(), ['6 b8 read fffff000', '6 b0 read ffffe000']);
});

// Each row: what is broken, and the reason that the specification gives it (7.3).
const REASONS: [string, number, (rig: VtdRig, top: number, leaf: number, context: number) => void][] = [
  ['root entry not present', 0x1, (rig) => rig.poke(ROOT, 0)],
  ['context entry not present', 0x2, (rig, top) => void rig.context(top, { present: 0 })],
  ['tables of a width that there is not', 0x3, (rig, top) => void rig.context(top, { width: 2 })],
  ['a translation type that is reserved', 0x3, (rig, top) => void rig.context(top, { type: 3 })],
  [
    'a translation type for device IOTLBs, which there are none of',
    0x3,
    (rig, top) => void rig.context(top, { type: 1 }),
  ],
  ['a page that is not present', 0x6, (rig, _, leaf) => rig.poke(leaf, TARGET)],
  ['a middle table that is not present', 0x6, (rig, top) => rig.poke(top + 8 * 3, 0)],
  ['a table where there is no memory', 0x7, (rig, top) => rig.poke(top + 8 * 3, 0x3000_0000 | R | W)],
  ['a root table where there is no memory', 0x8, (rig) => reroot(rig, 0x3000_0000)],
  ['a context table where there is no memory', 0x9, (rig) => rig.poke(ROOT, 0x3000_0001)],
  ['reserved bits in the root entry', 0xa, (rig) => rig.poke(ROOT, rig.memory32[ROOT / 4]! | 0x10)],
  ['a context table beyond the address lines', 0xa, (rig) => rig.poke(ROOT, rig.memory32[ROOT / 4]!, 0x80)],
  ['something in the upper half of the root entry', 0xa, (rig) => rig.poke(ROOT + 8, 1)],
  ['reserved bits in the context entry', 0xb, (rig, top) => void rig.context(top, { w0: 0x20 })],
  ['bit 7 of the context entry’s upper half', 0xb, (rig, top) => void rig.context(top, { w2: 0x80 })],
  ['the top of the context entry', 0xb, (rig, top) => void rig.context(top, { w3: 1 })],
  ['a page beyond the address lines', 0xc, (rig, _, leaf) => rig.poke(leaf, TARGET | R | W, 0x80)],
  ['the snoop bit without snoop control', 0xc, (rig, _, leaf) => rig.poke(leaf, TARGET | R | W | 0x800)],
  ['the transient bit without device IOTLBs', 0xc, (rig, _, leaf) => rig.poke(leaf, TARGET | R | W, 0x4000_0000)],
  ['a large page that is not aligned', 0xc, (rig, top) => rig.poke(top + 8 * 3, 0x4000_1000 | R | W | PS)],
];
for (const [what, reason, spoil] of REASONS) {
  test(`${what}: fault reason 0x${reason.toString(16)}`, () => {
    const rig = new VtdRig();
    const top = rig.table();
    const context = rig.context(top);
    const leaf = rig.map(top, IOVA, TARGET);
    rig.enable();
    spoil(rig, top, leaf, context);
    assert.equal(rig.reads(IOVA), 'fault');
    assert.equal(rig.fault(), `${reason} b0 read fffff000`);
    assert.equal(rig.writes(IOVA), 'fault');
    assert.equal(rig.fault(), `${reason === 6 ? 5 : reason} b0 write fffff000`);
    assert.equal(rig.memory32[TARGET / 4], 0, 'nothing was written');
  });
}
function reroot(rig: VtdRig, table: number): void {
  rig.write(0x20, table);
  rig.write(0x18, 0xc000_0000);
}

test('what is reserved depends on how the unit is built', () => {
  const small = enabledRig({ superpages: 1 });
  small.rig.poke(small.top + 8 * 3, 0 | R | W | PS);
  assert.equal(small.rig.reads(IOVA), 'fault');
  assert.equal(small.rig.fault(), '12 b0 read fffff000');
  const snooping = enabledRig({ snoopControl: true });
  snooping.rig.map(snooping.top, IOVA, TARGET, R | W | 0x800);
  assert.equal(snooping.rig.reads(IOVA), 'ok');
  const wide = enabledRig({ hostAddressBits: 46 });
  wide.rig.poke(wide.rig.map(wide.top, IOVA, TARGET), TARGET | R | W, 0x80);
  assert.equal(wide.rig.reads(IOVA), 'nobody', 'there is no memory at 512 GiB, but the entry is right');
  const few = enabledRig({ domainIdBits: 4 });
  few.rig.context(few.top, { domain: 16 });
  assert.equal(few.rig.reads(IOVA), 'fault');
  assert.equal(few.rig.fault(), '11 b0 read fffff000');
});

test('a device that is passed through reaches memory as it is, within the width', () => {
  const rig = new VtdRig();
  rig.context(0, { type: 2 });
  rig.enable();
  rig.poke(TARGET, 5);
  assert.equal(rig.seen(TARGET), 5);
  assert.equal(rig.writes(TARGET), 'ok');
  assert.equal(rig.reads(2 ** 39), 'fault');
  assert.equal(rig.fault(), '4 b0 read 8000000000');
  const without = new VtdRig({ passThrough: false });
  without.context(0, { type: 2 });
  without.enable();
  assert.equal(without.reads(TARGET), 'fault');
  assert.equal(without.fault(), '3 b0 read 1000000');
});

test('faults of a source whose context says so are not recorded', () => {
  const rig = new VtdRig();
  const top = rig.table();
  rig.context(top, { silent: 1 });
  rig.enable();
  assert.equal(rig.reads(IOVA), 'fault');
  assert.equal(rig.read(0x34), 0);
  rig.context(top, { source: SOURCE + 8, silent: 1, present: 0 });
  assert.equal(rig.reads(IOVA, 4, rig.other), 'fault');
  assert.equal(rig.read(0x34), 0);
});

test('a write to the interrupt range is an interrupt, whatever the tables say; a read finds nobody', () => {
  const { rig, top } = enabledRig();
  const vector = rig.machine.allocateMsi();
  rig.machine.enableIrqLine(vector.line);
  rig.map(top, 0xfee0_0000, TARGET);
  const message = new Uint8Array(4);
  new DataView(message.buffer).setUint32(0, vector.data, true);
  assert.equal(rig.answer(rig.device.write(vector.address, message, 0, 4)), 'ok');
  rig.machine.timePoint();
  assert.equal(rig.irqOf(vector), 1);
  assert.equal(rig.memory32[TARGET / 4], 0, 'and memory was not written');
  assert.equal(rig.reads(0xfee0_0000), 'nobody');
  assert.equal(rig.writes(0xfee8_0000), 'nobody');
  assert.deepEqual(rig.faults(), []);
});

test('one changed entry in memory changes what the device reaches, once the unit has forgotten the old one', () => {
  const { rig, top } = enabledRig();
  const leaf = rig.map(top, IOVA, TARGET);
  rig.poke(TARGET, 1);
  rig.poke(TARGET + 4096, 2);
  assert.equal(rig.seen(IOVA), 1);
  rig.poke(leaf, (TARGET + 4096) | R | W);
  assert.equal(rig.seen(IOVA), 1, 'it still has the old entry');
  rig.write(0xfc, 0x9000_0000);
  assert.equal(rig.seen(IOVA), 2);
});

test('protected memory is closed to devices that are not translated', () => {
  const rig = new VtdRig({ protectedMemory: true });
  assert.equal(rig.read(0x08) & 0x60, 0x60);
  rig.write(0x68, TARGET);
  rig.write(0x6c, TARGET + 0x1f_ffff);
  rig.write(0x64, 0x8000_0000);
  assert.equal(rig.read(0x64), 0x8000_0001);
  assert.equal(rig.reads(TARGET + 0x1000), 'fault');
  assert.equal(rig.reads(TARGET + 0x20_0000), 'ok');
  assert.equal(rig.writes(TARGET - 2), 'fault');
  rig.write(0x64, 0);
  assert.equal(rig.read(0x64), 0);
  assert.equal(rig.reads(TARGET + 0x1000), 'ok');
});

test('registers are read by bytes, and written by words only', () => {
  const rig = new VtdRig();
  assert.equal(rig.machine.read8((0xfed9_0000 + 0x09) as never), 0x02);
  rig.machine.write16((0xfed9_0000 + 0x3c) as never, 0x1234);
  assert.equal(rig.read(0x3c), 0);
  rig.write(0x08, 0xffff_ffff);
  assert.equal(rig.read(0x08), 0x2226_0206, 'capabilities are read-only');
  rig.write(0x44, 0x12);
  assert.equal(rig.read(0x44), 0x12);
});
