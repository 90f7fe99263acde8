import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Signal } from '../machine/index.ts';
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
const FAULTING = 15;
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

describe('peripherals', () => {
  const FIFO = 0xe000_0000;
  /** A FIFO register that requests while it holds a burst of words (or one, for single requests). */
  function withFifo(): { dmac: Dmac; words: number[]; push(...more: number[]): void; acknowledged: string[] } {
    const burst = new Signal('burst');
    const single = new Signal('single');
    const last = new Signal('last');
    const acknowledged: string[] = [];
    const request = { burst, single, last, acknowledge: (kind: string) => void acknowledged.push(kind) };
    const dmac = new Dmac({ requests: [null, request] });
    const words: number[] = [];
    const drive = (): void => {
      last.set(words.length === 1);
      burst.set(words.length >= 4);
      single.set(words.length >= 1);
    };
    dmac.rig.mapRegisters(FIFO, 4, 'fifo', {
      readRegister: () => {
        const value = words.shift() ?? 0xdead_dead;
        drive();
        return value;
      },
      writeRegister: (_offset, _width, value) => void words.push(value),
    });
    return {
      dmac,
      words,
      acknowledged,
      push(...more) {
        words.push(...more);
        drive();
      },
    };
  }
  const FROM_FIFO = 0x4000 | (2 << 1) | (3 << 4) | (2 << 15) | (3 << 18); // fixed source, words, bursts of 4
  const words = (dmac: Dmac, count: number): number[] => [...new Uint32Array(dmac.memory.buffer, DST, count)];

  test('bursts move when they are requested, and not before', () => {
    const { dmac, push, acknowledged } = withFifo();
    // DMAWFP burst; DMALDPB; DMAST; twice
    dmac.run(
      0,
      [MOV_CCR(FROM_FIFO), MOV_SAR(FIFO), MOV_DAR(DST), LP0(2), [0x32, 8], [0x27, 8], ST, LPEND0(5), END],
      5000,
    );
    assert.equal(dmac.state(0), 7);
    assert.equal((dmac.read(0x100) >>> 4) & 31, 1);
    push(1, 2, 3);
    dmac.rig.run(1000);
    assert.deepEqual(words(dmac, 4), [0, 0, 0, 0]);
    push(4);
    dmac.rig.run(1000);
    assert.deepEqual(words(dmac, 4), [1, 2, 3, 4]);
    assert.equal(dmac.state(0), 7);
    push(5, 6, 7, 8);
    dmac.rig.run(1000);
    assert.deepEqual(words(dmac, 8), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert.equal(dmac.state(0), STOPPED);
    assert.deepEqual(acknowledged, ['burst', 'burst']);
  });
  test('a single request moves one beat, and conditional instructions follow the request', () => {
    const { dmac, push, acknowledged } = withFifo();
    // DMALPFE; DMAWFP periph; DMALDPS; DMASTS; DMALDPB; DMASTB; DMALPEND until the last request
    const loop = [[0x31, 8], [0x25, 8], [0x09], [0x27, 8], [0x0b]].flat();
    dmac.run(0, [MOV_CCR(FROM_FIFO), MOV_SAR(FIFO), MOV_DAR(DST), loop, LPEND_FOREVER(8), END], 1000);
    push(1, 2, 3, 4, 5, 6);
    dmac.rig.run(5000);
    assert.deepEqual(words(dmac, 7), [1, 2, 3, 4, 5, 6, 0]);
    assert.deepEqual(acknowledged, ['burst', 'single', 'single']);
    assert.equal(dmac.state(0), STOPPED);
  });
  test('stores to a peripheral go to its register one by one', () => {
    const { dmac, push, words: fifo } = withFifo();
    dmac.memory.set([1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0x78, 0x56, 0x34, 0x12], SRC);
    push(9, 9, 9, 9);
    dmac.run(
      0,
      [
        MOV_CCR(1 | (2 << 1) | (3 << 4) | (2 << 15) | (3 << 18)),
        MOV_SAR(SRC),
        MOV_DAR(FIFO),
        [0x32, 8],
        LD,
        [0x2b, 8],
        END,
      ],
      5000,
    );
    assert.deepEqual(fifo, [9, 9, 9, 9, 1, 2, 3, 0x1234_5678]);
    assert.equal(dmac.dar(0), FIFO);
  });
  test('DMAFLUSHP tells the peripheral', () => {
    const { dmac, acknowledged } = withFifo();
    dmac.run(0, [[0x35, 8], END], 1000);
    assert.deepEqual(acknowledged, ['flush']);
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
