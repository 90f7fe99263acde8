import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  ABORT_LINE,
  ccr,
  Dmac,
  END,
  KILL,
  LD,
  LP0,
  LP1,
  LPEND_FOREVER,
  LPEND0,
  LPEND1,
  MOV_CCR,
  MOV_DAR,
  MOV_SAR,
  NOP,
  RMB,
  SEV,
  ST,
  STZ,
  WFE,
  WMB,
} from './pl330-rig.cases.ts';

const STOPPED = 0;
const EXECUTING = 1;
const WAITING_FOR_EVENT = 4;
const SRC = 0x4_0000;
const DST = 0x8_0000;

describe('programs', () => {
  test('nested loops copy 64 KiB and signal their end', () => {
    const dmac = new Dmac();
    const data = dmac.random(SRC, 0x1_0000);
    dmac.write(0x20, 1 << 3);
    dmac.run(0, [
      MOV_CCR(ccr(3, 16)),
      MOV_SAR(SRC),
      MOV_DAR(DST),
      LP1(2),
      LP0(256),
      LD,
      ST,
      LPEND0(2),
      LPEND1(6),
      WMB,
      SEV(3),
      END,
    ]);
    assert.deepEqual(dmac.memory.subarray(DST, DST + 0x1_0000), data);
    assert.equal(dmac.state(0), STOPPED);
    assert.equal(dmac.sar(0), SRC + 0x1_0000);
    assert.equal(dmac.dar(0), DST + 0x1_0000);
    assert.equal(dmac.interrupt(3), true);
    assert.equal(dmac.read(0x28), 8);
    dmac.write(0x2c, 8);
    assert.equal(dmac.interrupt(3), false);
  });
  test('a transfer takes its time, and the interrupt comes after its last byte', () => {
    const dmac = new Dmac();
    dmac.write(0x20, 1);
    dmac.run(
      0,
      [MOV_CCR(ccr(3, 16)), MOV_SAR(SRC), MOV_DAR(DST), LP1(2), LP0(256), LD, ST, LPEND0(2), LPEND1(6), SEV(0), END],
      40_000,
    );
    assert.equal(dmac.state(0), EXECUTING);
    const moved = dmac.sar(0) - SRC;
    assert.ok(moved > 0x4000 && moved < 0x1_0000, `moved ${moved}`);
    assert.equal(dmac.interrupt(0), false);
    dmac.rig.run(45_000);
    assert.equal(dmac.state(0), EXECUTING);
    dmac.rig.run(20_000);
    assert.equal(dmac.interrupt(0), true);
  });
  test('joined loop iterations leave what single ones leave', () => {
    for (const [src, dst, size, beats] of [
      [SRC, DST, 3, 16],
      [SRC, SRC + 128, 3, 16],
      [SRC, SRC + 64, 3, 16],
      [SRC + 64, SRC, 3, 16],
      [SRC + 5, DST + 3, 0, 7],
      [SRC, SRC + 1, 0, 16],
      [SRC + 2, DST + 6, 1, 3],
    ] as const) {
      const [joined, single] = [
        [LD, ST, RMB, WMB],
        [LD, ST, NOP, NOP],
      ].map((body) => {
        const dmac = new Dmac();
        dmac.random(SRC, 0x1_0000);
        dmac.run(1, [MOV_CCR(ccr(size, beats)), MOV_SAR(src), MOV_DAR(dst), LP0(200), body, LPEND0(4), END]);
        return dmac;
      });
      const what = `${src.toString(16)} to ${dst.toString(16)} by ${beats} of ${1 << size}`;
      const accesses = joined!.rig.accesses.some((access) => access.startsWith('copy'));
      assert.equal(accesses, dst - src !== 64 && dst - src !== 1, `${what}: joined`);
      joined!.memory.fill(0, 0x2000, 0x2100);
      single!.memory.fill(0, 0x2000, 0x2100);
      assert.deepEqual(joined!.memory, single!.memory, what);
      for (const offset of [0x100 + 8, 0x104 + 8, 0x420, 0x424, 0x428, 0x42c, 0x430]) {
        assert.equal(joined!.read(offset), single!.read(offset), `${what}: register ${offset.toString(16)}`);
      }
    }
  });
  test('a burst of bytes moves an odd length at odd addresses', () => {
    const dmac = new Dmac();
    const data = dmac.random(SRC + 1, 13);
    dmac.run(0, [MOV_CCR(ccr(0, 13)), MOV_SAR(SRC + 1), MOV_DAR(DST + 7), LD, ST, END]);
    assert.deepEqual(dmac.memory.slice(DST + 7, DST + 20), data);
    assert.equal(dmac.memory[DST + 6]! + dmac.memory[DST + 20]!, 0);
  });
  test('the first beat of an unaligned burst is short', () => {
    const dmac = new Dmac();
    const data = dmac.random(SRC, 64);
    // 4 beats of 8 bytes from 5 on: 3 + 8 + 8 + 8; stored as 27 beats of bytes less one burst of 16.
    dmac.run(0, [
      MOV_CCR(ccr(3, 4, 0, 16)),
      MOV_SAR(SRC + 5),
      MOV_DAR(DST),
      LD,
      ST,
      MOV_CCR(ccr(3, 4, 0, 11)),
      ST,
      END,
    ]);
    assert.equal(dmac.state(0), STOPPED);
    assert.equal(dmac.sar(0), SRC + 32);
    assert.deepEqual(dmac.memory.slice(DST, DST + 27), data.slice(5, 32));
    assert.equal(dmac.memory[DST + 27], 0);
  });
  test('DMAADDH and DMAADNH stride over rows forwards and backwards', () => {
    const dmac = new Dmac();
    const data = dmac.random(SRC, 4096);
    // 4 rows of 16 bytes, 256 bytes apart at the source, reversed in order at the destination.
    dmac.run(0, [
      MOV_CCR(ccr(2, 4)),
      MOV_SAR(SRC),
      MOV_DAR(DST + 48),
      LP0(4),
      LD,
      ST,
      [0x54, 0xf0, 0x00], // DMAADDH SAR, 240
      [0x5e, 0xe0, 0xff], // DMAADNH DAR, -32
      LPEND0(8),
      END,
    ]);
    for (let row = 0; row < 4; row++) {
      assert.deepEqual(
        dmac.memory.slice(DST + 16 * (3 - row), DST + 16 * (4 - row)),
        data.slice(256 * row, 256 * row + 16),
      );
    }
    assert.equal(dmac.sar(0), SRC + 1024);
    assert.equal(dmac.dar(0), DST - 16);
  });
  test('DMASTZ clears, and nothing beside', () => {
    const dmac = new Dmac();
    dmac.memory.fill(0xaa, DST - 1, DST + 0x2001);
    dmac.run(0, [MOV_CCR(ccr(3, 16)), MOV_DAR(DST), LP0(64), STZ, LPEND0(1), END]);
    assert.ok(dmac.memory.subarray(DST, DST + 0x2000).every((byte) => byte === 0));
    assert.equal(dmac.memory[DST - 1], 0xaa);
    assert.equal(dmac.memory[DST + 0x2000], 0xaa);
    assert.equal(dmac.dar(0), DST + 0x2000);
  });
  test('the bytes of each word are swapped as CCR says', () => {
    const dmac = new Dmac();
    dmac.memory.set([1, 2, 3, 4, 5, 6, 7, 8], SRC);
    for (const [code, expected] of [
      [1, [2, 1, 4, 3, 6, 5, 8, 7]],
      [2, [4, 3, 2, 1, 8, 7, 6, 5]],
      [3, [8, 7, 6, 5, 4, 3, 2, 1]],
    ] as const) {
      dmac.run(0, [MOV_CCR(ccr(3, 1) | (code << 28)), MOV_SAR(SRC), MOV_DAR(DST), LD, ST, END]);
      assert.deepEqual([...dmac.memory.slice(DST, DST + 8)], expected);
    }
  });
  test('an endless loop lasts until it is killed, and then the channel starts anew', () => {
    const dmac = new Dmac();
    dmac.run(2, [MOV_CCR(ccr(3, 16)), [MOV_SAR(SRC), MOV_DAR(DST), LD, ST].flat(), LPEND_FOREVER(14)], 5e5);
    assert.equal(dmac.state(2), EXECUTING);
    dmac.debug(2, [KILL]);
    dmac.rig.run(20_000);
    assert.equal(dmac.state(2), STOPPED);
    assert.equal(dmac.rig.pendingEvents, 0);
    dmac.run(2, [MOV_DAR(0x1234), END]);
    assert.equal(dmac.dar(2), 0x1234);
  });
  test('a burst at the end of the address space goes on at 0', () => {
    const dmac = new Dmac();
    dmac.run(0, [MOV_CCR(ccr(3, 2)), MOV_DAR(0xffff_fff8), STZ, END]);
    assert.equal(dmac.fault(0), 0x2_0000); // nothing decodes there on this rig
    assert.equal(dmac.dar(0), 0xffff_fff8);
  });
  test('channels take turns', () => {
    const dmac = new Dmac();
    const data = dmac.random(SRC, 0x8000);
    for (const channel of [0, 1, 2]) {
      dmac.program(
        0x1000 * (channel + 1),
        MOV_CCR(ccr(3, 16)),
        MOV_SAR(SRC),
        MOV_DAR(DST + 0x8000 * channel),
        LP0(256),
        LD,
        ST,
        LPEND0(2),
        END,
      );
      dmac.start(channel, 0x1000 * (channel + 1));
    }
    dmac.rig.run(60_000);
    const moved = [0, 1, 2].map((channel) => dmac.sar(channel) - SRC);
    assert.ok(Math.min(...moved) > 0 && Math.max(...moved) - Math.min(...moved) <= 0x2000, `${moved}`);
    dmac.rig.run(200_000);
    for (const channel of [0, 1, 2]) {
      assert.deepEqual(dmac.memory.slice(DST + 0x8000 * channel, DST + 0x8000 * (channel + 1)), data);
    }
  });
  test('a program changed behind its cached lines is seen after DMAGO', () => {
    const dmac = new Dmac();
    dmac.run(0, [MOV_DAR(0x1111), END]);
    dmac.run(0, [MOV_DAR(0x2222), END]);
    assert.equal(dmac.dar(0), 0x2222);
  });
});

describe('events', () => {
  test('a channel waits for an event of another, and goes on behind its DMAWFE', () => {
    const dmac = new Dmac();
    dmac.run(0, [WFE(5), MOV_DAR(0xbeef), END], 1000);
    assert.equal(dmac.state(0), WAITING_FOR_EVENT);
    assert.equal((dmac.read(0x100) >>> 4) & 31, 5);
    dmac.run(1, [SEV(5), END], 1000);
    assert.equal(dmac.state(0), STOPPED);
    assert.equal(dmac.dar(0), 0xbeef);
    assert.equal(dmac.read(0x24), 0);
  });
  test('an event that comes before its DMAWFE stays, once', () => {
    const dmac = new Dmac();
    dmac.run(1, [SEV(6), END], 1000);
    assert.equal(dmac.read(0x24), 1 << 6);
    dmac.run(0, [WFE(6), WFE(6), END], 1000);
    assert.equal(dmac.state(0), WAITING_FOR_EVENT);
    assert.equal(dmac.pc(0), 0x1004);
    dmac.debug(-1, SEV(6));
    dmac.rig.run(1000);
    assert.equal(dmac.state(0), STOPPED);
  });
  test('all who wait for an event take it', () => {
    const dmac = new Dmac();
    dmac.run(0, [WFE(1), END], 500);
    dmac.run(1, [WFE(1), END], 500);
    dmac.debug(-1, SEV(1));
    dmac.rig.run(1000);
    assert.deepEqual([dmac.state(0), dmac.state(1)], [STOPPED, STOPPED]);
  });
  test('an event enabled as an interrupt wakes no thread', () => {
    const dmac = new Dmac();
    dmac.write(0x20, 1 << 4);
    dmac.run(0, [WFE(4), END], 500);
    dmac.run(1, [SEV(4), END], 500);
    assert.equal(dmac.state(0), WAITING_FOR_EVENT);
    assert.equal(dmac.interrupt(4), true);
    assert.equal(dmac.read(0x24), 1 << 4);
    dmac.write(0x2c, 0xffff_ffff);
    assert.equal(dmac.read(0x24), 0);
  });
  test('several events share a line', () => {
    const dmac = new Dmac({ irqLines: [50, 50, 51] });
    dmac.write(0x20, 7);
    dmac.run(0, [SEV(0), SEV(1), END], 1000);
    assert.equal(dmac.rig.lines.get(50), true);
    dmac.write(0x2c, 1);
    assert.equal(dmac.rig.lines.get(50), true);
    dmac.write(0x2c, 2);
    assert.equal(dmac.rig.lines.get(50), false);
  });
  test('the manager boots from memory, starts a channel, and waits', () => {
    const dmac = new Dmac({ bootAddress: 0x400 });
    dmac.program(0x400, [0xa0, 2, 0, 8, 0, 0], WFE(0), SEV(7), END);
    dmac.program(0x800, MOV_DAR(0x77), SEV(0), END);
    dmac.rig.run(2000);
    assert.equal(dmac.dar(2), 0x77);
    assert.equal(dmac.read(0) & 15, STOPPED);
    assert.equal(dmac.read(0x24), 1 << 7);
    assert.equal(dmac.read(0xe00) & 2, 2);
    assert.equal(dmac.read(0xe08), 0x400);
  });
});

test('the configuration registers of the Zynq-7000 and its identification', () => {
  const dmac = new Dmac();
  assert.equal(dmac.read(0xe00), 0x001e_3071);
  assert.equal(dmac.read(0xe04), 0x0000_0074);
  assert.equal(dmac.read(0xe14), 0x07ff_7f73);
  assert.deepEqual(
    [0, 1, 2, 3].map((n) => dmac.read(0xfe0 + 4 * n)),
    [0x30, 0x13, 0x24, 0x00],
  );
  assert.deepEqual(
    [0, 1, 2, 3].map((n) => dmac.read(0xff0 + 4 * n)),
    [0x0d, 0xf0, 0x05, 0xb1],
  );
  assert.equal(dmac.read(0x408), 0x0080_0200);
  assert.equal(dmac.rig.lines.get(ABORT_LINE), false);
});
test('a configuration that cannot be built is refused', () => {
  assert.throws(() => new Dmac({ channels: 9 }), /1 to 8 channels, found 9/);
  assert.throws(() => new Dmac({ events: 0 }), /1 to 32 events/);
  assert.throws(() => new Dmac({ events: 2, irqLines: [1, 2, 3] }), /2 events, found 3/);
});
