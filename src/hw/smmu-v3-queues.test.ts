import assert from 'node:assert/strict';
import { test } from 'node:test';
import { physAddr } from '../base/addr.ts';
import {
  BASE,
  CD0,
  CMDQ,
  DATA,
  EVENT_IRQ,
  EVENTQ,
  GERROR_IRQ,
  L2,
  L3,
  PAGE_RW,
  RAM,
  S2L1,
  SmmuRig,
  STE_S2_FIELDS,
  STE_STAGE1,
  SYNC_IRQ,
} from './smmu-v3-rig.cases.ts';

const VA = 0x12_3460_0000;
const OTHER = DATA + 0x1_0000;
const NOT_GLOBAL = 0x800n;
/** Streams 3 (ASID 5) and 4 (ASID 6) over the same tables. */
function rigOf(options = {}): SmmuRig {
  const rig = new SmmuRig(options);
  rig.ste(3, STE_STAGE1);
  rig.ste(4, STE_STAGE1 + 64n);
  rig.cd(0, CD0);
  rig.cd(1, CD0 + (1n << 48n));
  rig.stage1(VA, Object.fromEntries(Array.from({ length: 512 }, (_, i) => [i, BigInt(DATA) | PAGE_RW])));
  return rig.start();
}
const moveTo = (rig: SmmuRig, phys: number, page = 0) => rig.set64(L3 + 8 * page, BigInt(phys) | PAGE_RW);
const OP = (op: number, low = 0n) => BigInt(op) | low;
const SYNC: readonly [bigint, bigint] = [OP(0x46), 0n];

test('a translation is used until it is invalidated, whatever memory says', () => {
  const ways: Record<string, readonly [bigint, bigint]> = {
    NSNH_ALL: [OP(0x30), 0n],
    NH_ALL: [OP(0x10), 0n],
    NH_ASID: [OP(0x11, 5n << 48n), 0n],
    NH_VA: [OP(0x12, 5n << 48n), BigInt(VA) | 1n],
    NH_VAA: [OP(0x13), BigInt(VA)],
    S12_VMALL: [OP(0x28), 0n],
  };
  for (const [name, command] of Object.entries(ways)) {
    const rig = rigOf();
    assert.equal(rig.translate(3, VA), DATA);
    moveTo(rig, OTHER);
    assert.equal(rig.translate(3, VA), DATA, name);
    rig.command([command]);
    assert.equal(rig.translate(3, VA), OTHER, name);
  }
});

test('an invalidation leaves alone what it does not name', () => {
  const harmless: Record<string, readonly [bigint, bigint]> = {
    'another ASID': [OP(0x11, 6n << 48n), 0n],
    'another ASID’s page': [OP(0x12, 6n << 48n), BigInt(VA)],
    'another page': [OP(0x12, 5n << 48n), BigInt(VA + 4096)],
    'another VMID': [OP(0x28, 1n << 32n), 0n],
    'stage 2': [OP(0x2a), BigInt(VA)],
    EL2: [OP(0x20), 0n],
    configuration: [OP(0x04), 31n],
  };
  for (const [name, command] of Object.entries(harmless)) {
    const rig = rigOf();
    for (const sid of [3, 4]) assert.equal(rig.translate(sid, VA), DATA);
    moveTo(rig, OTHER);
    rig.command([command]);
    assert.equal(rig.translate(3, VA), DATA, name);
  }
});

test('without the bit nG a translation is every ASID’s', () => {
  const rig = rigOf();
  rig.set64(L3, (BigInt(DATA) | PAGE_RW) & ~NOT_GLOBAL);
  assert.equal(rig.translate(3, VA), DATA);
  moveTo(rig, OTHER);
  assert.equal(rig.translate(4, VA), DATA, 'found by the other ASID');
  rig.command([[OP(0x11, 5n << 48n), 0n]]);
  assert.equal(rig.translate(3, VA), DATA, 'NH_ASID leaves it');
  rig.command([[OP(0x12, 6n << 48n), BigInt(VA)]]);
  assert.equal(rig.translate(3, VA), OTHER, 'NH_VA takes it');
});

test('ranges: so many granules, no more', () => {
  const rig = rigOf();
  for (let page = 0; page < 64; page++) assert.equal(rig.translate(3, VA + 4096 * page), DATA);
  for (let page = 0; page < 64; page++) moveTo(rig, OTHER, page);
  // (2 + 1) × 2^3 pages of 4 KiB from page 8 on.
  rig.command([[OP(0x12, (2n << 12n) | (3n << 20n) | (5n << 48n)), BigInt(VA + 8 * 4096) | (1n << 10n) | 1n]]);
  for (let page = 0; page < 64; page++) {
    assert.equal(rig.translate(3, VA + 4096 * page), page >= 8 && page < 32 ? OTHER : DATA, `page ${page}`);
  }
});

test('a table that is known is used until an invalidation says that tables have changed', () => {
  const rig = rigOf();
  const second = RAM + 0x9_0000;
  assert.equal(rig.translate(3, VA), DATA);
  rig.set64(L2 + 8 * (Math.floor(VA / 2 ** 21) % 512), BigInt(second) | 3n);
  rig.set64(second, BigInt(OTHER) | PAGE_RW);
  rig.command([[OP(0x12, 5n << 48n), BigInt(VA) | 1n]]);
  assert.equal(rig.translate(3, VA), DATA, 'with LEAF the old table is still read');
  rig.command([[OP(0x12, 5n << 48n), BigInt(VA)]]);
  assert.equal(rig.translate(3, VA), OTHER);
});

test('configurations are used until they are invalidated; so is their absence', () => {
  const rig = rigOf();
  assert.equal(rig.translate(7, VA), -1);
  rig.ste(7, STE_STAGE1);
  assert.equal(rig.translate(7, VA), -1);
  rig.command([[OP(0x03, 7n << 32n), 1n]]);
  assert.equal(rig.translate(7, VA), DATA);
  rig.ste(7, 0n);
  rig.command([[OP(0x03, 6n << 32n), 1n]]);
  assert.equal(rig.translate(7, VA), DATA, 'another stream’s');
  // Streams 4 to 7.
  rig.command([[OP(0x04, 5n << 32n), 1n]]);
  assert.equal(rig.translate(7, VA), -1);
});

test('a context descriptor has invalidations of its own', () => {
  for (const command of [
    [OP(0x05, 3n << 32n), 1n],
    [OP(0x06, 3n << 32n), 0n],
    [OP(0x03, 3n << 32n), 1n],
  ] as const) {
    const rig = rigOf();
    assert.equal(rig.translate(3, VA), DATA);
    rig.cd(0, 0n);
    assert.equal(rig.translate(3, VA), DATA);
    rig.command([[OP(0x05, 4n << 32n), 1n]]);
    assert.equal(rig.translate(3, VA), DATA);
    rig.command([command]);
    assert.equal(rig.translate(3, VA), -1);
    assert.equal(rig.events()[0]![0], 0xa);
  }
});

test('CFGI_CD does not read the stream-table entry again', () => {
  const rig = rigOf();
  assert.equal(rig.translate(3, VA), DATA);
  rig.ste(3, 0n);
  rig.command([[OP(0x05, 3n << 32n), 1n]]);
  assert.equal(rig.translate(3, VA), DATA);
});

test('stage 2 is invalidated by intermediate address, or by VMID', () => {
  for (const command of [
    [OP(0x2a, 9n << 32n), 0x4020_0001n],
    [OP(0x28, 9n << 32n), 0n],
    [OP(0x30), 0n],
  ] as const) {
    const rig = new SmmuRig();
    rig.ste(3, 1n | (6n << 1n), 0n, STE_S2_FIELDS, BigInt(S2L1));
    rig.stage2(0x4020_0000, { 0: BigInt(DATA) | 0x4ffn });
    rig.start();
    assert.equal(rig.translate(3, 0x4020_0000), DATA);
    rig.stage2(0x4020_0000, { 0: BigInt(OTHER) | 0x4ffn });
    for (const other of [
      [OP(0x10, 9n << 32n), 0n],
      [OP(0x12, 9n << 32n), 0x4020_0000n],
      [OP(0x2a, 8n << 32n), 0x4020_0000n],
    ] as const) {
      rig.command([other]);
    }
    assert.equal(rig.translate(3, 0x4020_0000), DATA);
    rig.command([command]);
    assert.equal(rig.translate(3, 0x4020_0000), OTHER);
  }
});

test('EL2’s translations are its own', () => {
  const rig = new SmmuRig();
  rig.ste(3, STE_STAGE1, 2n << 30n);
  rig.cd(0, CD0);
  rig.stage1(VA, { 0: BigInt(DATA) | PAGE_RW });
  rig.start();
  assert.equal(rig.translate(3, VA), DATA);
  moveTo(rig, OTHER);
  rig.command([
    [OP(0x30), 0n],
    [OP(0x28), 0n],
  ]);
  assert.equal(rig.translate(3, VA), DATA);
  rig.command([[OP(0x22), BigInt(VA)]]);
  assert.equal(rig.translate(3, VA), OTHER);
  moveTo(rig, DATA);
  rig.command([[OP(0x20), 0n]]);
  assert.equal(rig.translate(3, VA), DATA);
});

test('translations are finite: what was long ago is read from memory again', () => {
  const rig = rigOf({ tlbEntries: 16 });
  assert.equal(rig.translate(3, VA), DATA);
  moveTo(rig, OTHER);
  for (let page = 1; page < 40; page++) rig.translate(3, VA + 4096 * page);
  assert.equal(rig.translate(3, VA), OTHER);
});

test('commands take their time', () => {
  const rig = rigOf();
  rig.set64(CMDQ, ...SYNC, ...SYNC);
  rig.write(0x98, 2);
  assert.equal(rig.read(0x9c), 0, 'not yet');
  rig.machine.delay(1000);
  assert.equal(rig.read(0x9c), 2);
});

test('the command queue wraps, and takes as many commands as it has entries', () => {
  const rig = rigOf();
  for (let i = 0; i < 5; i++) rig.command(Array.from({ length: 7 }, () => SYNC));
  assert.equal(rig.read(0x9c), 35 % 32);
  rig.command(Array.from({ length: 16 }, () => SYNC));
  assert.equal(rig.read(0x9c), (35 + 16) % 32);
  assert.equal(rig.smmu.executedCommands[0x46], 51);
});

test('an unknown command stops the queue until it is acknowledged', () => {
  const rig = rigOf();
  rig.command([SYNC, [OP(0x55), 0n], SYNC]);
  assert.equal(rig.read(0x9c), 1 | (1 << 24), 'CERROR_ILL, at the command');
  assert.equal(rig.read(0x60), 1);
  assert.deepEqual(rig.lines, [GERROR_IRQ]);
  rig.set64(CMDQ + 16, ...SYNC);
  rig.machine.delay(1000);
  assert.equal(rig.read(0x9c), 1 | (1 << 24), 'still');
  rig.write(0x64, 1);
  rig.machine.delay(1000);
  assert.equal(rig.read(0x9c), 3);
  assert.equal(rig.read(0x60), 1, 'no error: it equals GERRORN');
});

test('commands of what the unit does not have are unknown', () => {
  const stage1: Record<string, bigint> = {
    S2_IPA: 0x2an,
    S12_VMALL: 0x28n,
    EL2_ALL: 0x20n,
    ATC_INV: 0x40n,
    RESUME: 0x44n,
  };
  for (const [name, op] of Object.entries(stage1)) {
    const rig = rigOf({ stage2: false, hypervisor: false });
    rig.command([[op, 0n]]);
    assert.equal(rig.read(0x9c) >>> 24, 1, name);
  }
  const rig = new SmmuRig({ stage1: false }).start();
  rig.command([[0x11n, 0n]]);
  assert.equal(rig.read(0x9c) >>> 24, 1);
});

test('commands that cannot be fetched stop the queue', () => {
  const rig = new SmmuRig();
  rig.write64(0x90, 0x9_0000_0004n);
  rig.control(0x50, 1);
  rig.control(0x20, 8);
  rig.write(0x98, 3);
  rig.machine.delay(1000);
  assert.equal(rig.read(0x9c), 2 << 24);
  assert.deepEqual(rig.lines, [GERROR_IRQ]);
});

test('CMD_SYNC tells of its completion by wire or by message', () => {
  const rig = rigOf();
  rig.command([[OP(0x46, 1n << 12n), 0n]]);
  assert.deepEqual(rig.lines, [SYNC_IRQ]);
  const flag = RAM + 0xa_0000;
  rig.command([[OP(0x46, (1n << 12n) | (0x1234_5678n << 32n)), BigInt(flag)]]);
  assert.equal(rig.get64(flag), 0x1234_5678n);
  assert.deepEqual(rig.lines, [SYNC_IRQ]);
  rig.command([[OP(0x46, 1n << 12n), 0x7_0000_0000n]]);
  assert.equal(rig.read(0x60), 1 << 4, 'nobody takes the message');
  rig.command([[OP(0x46, 2n << 12n), 0n]]);
  assert.equal(rig.read(0x9c) >>> 24, 0, 'SEV');
});

test('interrupts may be messages to the interrupt controller', () => {
  const rig = new SmmuRig();
  const vector = rig.machine.allocateMsi();
  rig.machine.enableIrqLine(vector.line);
  rig.write64(0xb0, BigInt(vector.address));
  rig.write(0xb8, vector.data);
  rig.start();
  rig.write64(0xb0, 0n);
  assert.equal(rig.read(0xb0), vector.address, 'what is in use cannot be changed');
  assert.equal(rig.translate(9, 0), -1);
  rig.machine.delay(100);
  assert.deepEqual(rig.lines, [vector.line]);
});

test('the event queue interrupts when it is no longer empty, and tells once of events that were lost', () => {
  const rig = rigOf();
  const miss = (n: number) => {
    for (let i = 0; i < n; i++) rig.translate(3, 2 ** 21 * i);
  };
  miss(3);
  rig.machine.delay(100);
  assert.deepEqual(rig.lines, [EVENT_IRQ]);
  miss(7);
  assert.equal(rig.read(0x1_00a8), (8 | 0x8000_0000) >>> 0, 'full: 8 records, and the overflow flag');
  assert.equal(rig.smmu.lostEvents, 2);
  assert.equal(rig.events().length, 8);
  miss(9);
  assert.equal(rig.read(0x1_00a8) >>> 31, 1, 'not acknowledged: no second telling');
  assert.equal(rig.events().length, 8);
  rig.write(0x1_00ac, (rig.read(0x1_00ac) | 0x8000_0000) >>> 0);
  rig.machine.delay(1000);
  miss(9);
  assert.equal(rig.read(0x1_00a8) >>> 31, 0, 'acknowledged: the flag changes again');
  assert.equal(rig.events().length, 8);
  assert.deepEqual(rig.lines, [EVENT_IRQ, EVENT_IRQ, EVENT_IRQ]);
});

test('events that cannot be written are a global error, once until it is acknowledged', () => {
  const rig = new SmmuRig();
  rig.write64(0x80, 0x5_0000_0000n);
  rig.write(0x88, 8);
  rig.write64(0xa0, 0x6_0000_0003n);
  rig.control(0x50, 5);
  rig.control(0x20, 5);
  for (let i = 0; i < 3; i++) rig.translate(3, 0);
  rig.machine.delay(100);
  assert.equal(rig.read(0x60), 4);
  assert.deepEqual(rig.lines, [GERROR_IRQ]);
  rig.write(0x64, 4);
  rig.machine.delay(500);
  rig.translate(3, 0);
  assert.equal(rig.read(0x60), 0);
  assert.equal(rig.smmu.lostEvents, 4);
  assert.equal(rig.machine.read32(physAddr(BASE + 0x1_00a8)), 0);
  assert.equal(rig.get64(EVENTQ), 0n);
});

test('a hit makes no garbage worth speaking of', () => {
  const rig = rigOf();
  for (let i = 0; i < 20000; i++) rig.translate(3, VA + (i % 512) * 4096);
  const before = process.memoryUsage().heapUsed;
  for (let i = 0; i < 200_000; i++) rig.translate(3, VA + (i % 512) * 4096);
  const grown = process.memoryUsage().heapUsed - before;
  assert.ok(grown < 4 * 2 ** 20, `${grown} bytes`);
});
