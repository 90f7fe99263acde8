import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  ccr,
  Dmac,
  END,
  KILL,
  LD,
  LP0,
  LPEND0,
  MOV_CCR,
  MOV_DAR,
  MOV_SAR,
  NOP,
  SEV,
  ST,
  STZ,
  WFE,
} from './pl330-rig.cases.ts';

const STOPPED = 0;
const EXECUTING = 1;
const FAULTING = 15;
const SRC = 0x4_0000;
const DST = 0x8_0000;

describe('faults', () => {
  const FAULTS: [string, (number | number[])[], number, number][] = [
    ['an undefined instruction', [NOP, 0xff], 0x1, 1],
    ['DMAGO in a channel', [[0xa0, 1, 0, 0, 0, 0]], 0x1, 0],
    ['DMAMOV to no register', [[0xbc, 3, 0, 0, 0, 0]], 0x2, 0],
    ['beats wider than the bus', [MOV_CCR(ccr(4, 1))], 0x2, 0],
    ['DMASEV of an event that is not built', [SEV(16)], 0x2, 0],
    ['DMASEV with reserved bits', [[0x34, 0x01]], 0x2, 0],
    ['DMAWFE of an event that is not built', [WFE(31)], 0x2, 0],
    ['DMAWFP of a peripheral that is not built', [[0x30, 4 << 3]], 0x2, 0],
    ['DMAWFP of two kinds', [[0x33, 0]], 0x2, 0],
    ['DMALD bs without x', [0x06], 0x2, 0],
    ['DMALPEND bs without x', [LP0(2), [0x3a, 0]], 0x2, 2],
    ['a store without data', [MOV_CCR(ccr(2, 1)), MOV_DAR(DST), ST], 0x2000, 12],
    ['a load where nothing answers', [MOV_CCR(ccr(2, 1)), MOV_SAR(0x7000_0000), LD], 0x4_0000, 12],
    ['a store where nothing answers', [MOV_CCR(ccr(2, 1)), MOV_SAR(SRC), MOV_DAR(0x7000_0000), LD, ST], 0x2_0000, 19],
    ['clearing where nothing answers', [MOV_CCR(ccr(2, 1)), MOV_DAR(0x7000_0000), STZ], 0x2_0000, 12],
  ];
  for (const [what, code, fault, at] of FAULTS) {
    test(`${what} faults at its instruction`, () => {
      const dmac = new Dmac();
      dmac.run(3, code, 10_000);
      assert.equal(dmac.state(3), FAULTING);
      assert.equal(dmac.fault(3), fault);
      assert.equal(dmac.pc(3), 0x4000 + at);
      assert.equal(dmac.read(0x34), 1 << 3);
      assert.equal(dmac.aborted, true);
      dmac.debug(3, [KILL]);
      dmac.rig.run(1000);
      assert.equal(dmac.state(3), STOPPED);
      assert.equal(dmac.fault(3), 0);
      assert.equal(dmac.read(0x34), 0);
      assert.equal(dmac.aborted, false);
    });
  }
  test('an instruction that cannot be fetched faults', () => {
    const dmac = new Dmac();
    dmac.start(0, 0x7000_0000);
    dmac.rig.run(1000);
    assert.equal(dmac.fault(0), 0x1_0000);
    assert.equal(dmac.pc(0), 0x7000_0000);
  });
  test('a burst larger than the MFIFO faults', () => {
    const dmac = new Dmac({ mfifoLines: 8 });
    dmac.run(0, [MOV_CCR(ccr(3, 9)), MOV_SAR(SRC), LD], 1000);
    assert.equal(dmac.fault(0), 0x1000);
    dmac.run(1, [MOV_CCR(ccr(3, 8, 3, 9)), MOV_SAR(SRC), LD, ST], 1000);
    assert.equal(dmac.fault(1), 0x1000);
  });
  test('data that will straddle lines at the destination takes a line more', () => {
    const outcome = (dst: number): number => {
      const dmac = new Dmac({ mfifoLines: 8 });
      dmac.run(0, [MOV_CCR(ccr(3, 8)), MOV_SAR(SRC), MOV_DAR(dst), LD, NOP, END], 20_000);
      return dmac.fault(0);
    };
    assert.equal(outcome(DST), 0);
    assert.equal(outcome(DST + 4), 0x1000);
  });
  test('what a killed thread had loaded is gone: its next program cannot store it', () => {
    const dmac = new Dmac();
    dmac.random(SRC, 64);
    dmac.run(0, [MOV_CCR(ccr(3, 8)), MOV_SAR(SRC), MOV_DAR(DST), LD, WFE(0), END], 2000);
    dmac.debug(0, [KILL]);
    dmac.rig.run(1000);
    assert.equal(dmac.state(0), STOPPED);
    dmac.run(0, [MOV_CCR(ccr(3, 8)), MOV_DAR(DST), ST, END], 2000);
    assert.equal(dmac.fault(0), 0x2000); // no data for the store
    assert.deepEqual(dmac.memory.slice(DST, DST + 64), new Uint8Array(64));
  });
  test('loads that fill the MFIFO lock up, and the watchdog ends that', () => {
    const dmac = new Dmac({ mfifoLines: 16 });
    dmac.run(0, [MOV_CCR(ccr(3, 8)), MOV_SAR(SRC), MOV_DAR(DST), LD, LD, LD, ST, END], 4000);
    assert.equal(dmac.state(0), EXECUTING);
    dmac.rig.run(10_000);
    assert.equal(dmac.fault(0), 0x8000_0000);
    assert.equal(dmac.aborted, true);
    assert.equal(dmac.rig.pendingEvents, 0);
  });
  test('a lock-up is only reported when WD says so', () => {
    const dmac = new Dmac({ mfifoLines: 16 });
    dmac.write(0xe80, 1);
    dmac.run(0, [MOV_CCR(ccr(3, 8)), MOV_SAR(SRC), MOV_DAR(DST), LD, LD, LD, ST, END], 20_000);
    assert.equal(dmac.state(0), EXECUTING);
    assert.equal(dmac.aborted, true);
    dmac.debug(0, [KILL]);
    dmac.rig.run(1000);
    assert.equal(dmac.aborted, false);
    assert.equal(dmac.state(0), STOPPED);
  });
  test('a load waits for the room that another channel holds, and goes on when that stores', () => {
    const dmac = new Dmac({ mfifoLines: 16 });
    const data = dmac.random(SRC, 128);
    dmac.run(0, [MOV_CCR(ccr(3, 16)), MOV_SAR(SRC), MOV_DAR(DST), LD, WFE(0), ST, END], 2000);
    dmac.run(1, [MOV_CCR(ccr(3, 1)), MOV_SAR(SRC), MOV_DAR(DST + 256), LD, ST, END], 20_000);
    assert.equal(dmac.state(1), EXECUTING);
    dmac.debug(-1, SEV(0));
    dmac.rig.run(2000);
    assert.deepEqual([dmac.state(0), dmac.state(1)], [STOPPED, STOPPED]);
    assert.deepEqual(dmac.memory.slice(DST, DST + 128), data);
    assert.deepEqual(dmac.memory.slice(DST + 256, DST + 264), data.slice(0, 8));
  });
  test('a fault in the middle of a joined loop is that of its burst', () => {
    const memoryBytes = 1 << 20;
    for (const [src, dst, fault, pc] of [
      [memoryBytes - 0x800, DST, 0x4_0000, 20],
      [SRC, memoryBytes - 0x800, 0x2_0000, 21],
    ] as const) {
      const dmac = new Dmac();
      dmac.run(0, [MOV_CCR(ccr(3, 16)), MOV_SAR(src), MOV_DAR(dst), LP0(64), LD, ST, LPEND0(2), END], 100_000);
      assert.equal(dmac.fault(0), fault);
      assert.equal(dmac.pc(0), 0x1000 + pc);
      assert.equal(dmac.dar(0), dst + 0x800);
      assert.equal(dmac.sar(0), src + 0x800 + (fault === 0x2_0000 ? 128 : 0));
      assert.equal(dmac.read(0x40c), 63 - 16);
    }
  });
  test('only DMAKILL reaches a faulting thread; the others go on', () => {
    const dmac = new Dmac();
    dmac.run(0, [0xff], 1000);
    dmac.debug(0, SEV(1));
    dmac.rig.run(1000);
    assert.equal(dmac.read(0x24), 0);
    dmac.run(1, [MOV_DAR(5), END], 1000);
    assert.equal(dmac.dar(1), 5);
    assert.equal(dmac.state(0), FAULTING);
  });
  test('the manager faults by what the debug registers give it', () => {
    const dmac = new Dmac();
    dmac.debug(-1, [0xa0, 8, 0, 0, 0, 0]);
    dmac.rig.run(1000);
    assert.equal(dmac.read(0x30), 1);
    assert.equal(dmac.read(0x38), 0x4000_0002);
    assert.equal(dmac.aborted, true);
    dmac.debug(-1, [KILL]);
    dmac.rig.run(1000);
    assert.equal(dmac.read(0x30), 0);
    dmac.debug(-1, [LD]);
    dmac.rig.run(1000);
    assert.equal(dmac.read(0x38), 0x4000_0001);
  });
  test('DMAGO of a channel that runs does nothing', () => {
    const dmac = new Dmac();
    dmac.run(0, [WFE(0), END], 500);
    dmac.start(0, 0x9000);
    assert.equal(dmac.pc(0), 0x1002);
    assert.equal(dmac.read(0x30), 0);
  });
  test('what is non-secure may not use what is secure', () => {
    const dmac = new Dmac({ eventsNonSecure: 1, peripheralsNonSecure: 2, managerNonSecure: true });
    const run = (channel: number, ...code: (number | number[])[]): number => {
      dmac.program(0x1000 * (channel + 1), ...code);
      dmac.start(channel, 0x1000 * (channel + 1), true);
      dmac.rig.run(1000);
      return dmac.fault(channel);
    };
    assert.equal(run(0, SEV(0), END), 0);
    assert.equal(dmac.read(0x100) & (1 << 21), 1 << 21);
    assert.equal(run(1, SEV(1), END), 0x20);
    assert.equal(run(2, WFE(1), END), 0x20);
    assert.equal(run(3, [0x35, 0 << 3], END), 0x40);
    assert.equal(run(4, [0x35, 1 << 3], END), 0);
    assert.equal(run(5, MOV_CCR(ccr(0, 1)), END), 0x80);
    assert.equal(run(6, MOV_CCR(ccr(0, 1) | 0x0080_0200), END), 0);
    dmac.start(7, 0x1000, false);
    dmac.rig.run(1000);
    assert.equal(dmac.read(0x38), 0x4000_0010);
    assert.equal(dmac.read(0) & (1 << 9), 1 << 9);
  });
});
