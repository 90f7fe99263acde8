import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Prng, physAddr } from '../base/index.ts';
import { Signal } from '../machine/index.ts';
import { Bcm2835DmaModel } from './bcm2835-dma.ts';
import { Rig } from './model-rig.cases.ts';

// Numbers typed from the datasheet, not taken from the register tables: both sides of those are under test.
const BASE = 0x3f00_7000;
const BUS = 0xc000_0000;
const [CS, CONBLK_AD, TI, SOURCE_AD, DEST_AD, TXFR_LEN, NEXTCONBK, DEBUG] = [0, 4, 8, 12, 16, 20, 28, 32];
const [ACTIVE, END, INT, DREQ, PAUSED, HELD, WAITING, ERROR] = [1, 2, 4, 8, 16, 32, 64, 256];
const [ABORT, RESET] = [2 ** 30, 2 ** 31];
const [INTEN, TDMODE, WAIT_RESP, D_INC, D_DREQ, D_IGNORE] = [1, 2, 8, 16, 64, 128];
const [S_INC, S_DREQ, S_IGNORE] = [256, 1024, 2048];
const LONG = 1e7;

const irqLines = Array.from({ length: 15 }, (_, channel) => 16 + Math.min(channel, 11));

class Bench extends Rig {
  readonly model: Bcm2835DmaModel;
  readonly requests: (Signal | null)[] = Array.from({ length: 32 }, (_, n) => (n === 5 ? new Signal('five') : null));
  constructor() {
    super(0x10_0000, BUS);
    const master = { name: 'dma' };
    this.model = new Bcm2835DmaModel(this, { base: physAddr(BASE), irqLines, master, requests: this.requests });
  }
  /** Put a control block into memory; addresses are offsets in it. */
  block(at: number, ti: number, source: number, dest: number, length: number, next = 0, stride = 0): void {
    const words = [ti, BUS + source, BUS + dest, length, stride, next === 0 ? 0 : BUS + next];
    for (const [i, word] of words.entries()) this.view.setUint32(at + 4 * i, word, true);
  }
  reg(channel: number, offset: number): number {
    return this.read(BASE + channel * 0x100 + offset);
  }
  set(channel: number, offset: number, value: number): void {
    this.write(BASE + channel * 0x100 + offset, value);
  }
  start(channel: number, at: number): void {
    this.set(channel, CONBLK_AD, BUS + at);
    this.set(channel, CS, ACTIVE);
  }
  pattern(at: number, size: number): Uint8Array {
    for (let i = 0; i < size; i++) this.memory[at + i] = (i * 7 + (i >> 8) + 1) & 255;
    return this.memory.slice(at, at + size);
  }
  bytes(at: number, size: number): Uint8Array {
    return this.memory.slice(at, at + size);
  }
}

test('a block is copied, ends, and interrupts only when it says so', () => {
  const bench = new Bench();
  const bytes = bench.pattern(0x1000, 1001);
  bench.block(0x100, S_INC | D_INC | INTEN | WAIT_RESP, 0x1000, 0x2003, 1001);
  bench.start(3, 0x100);
  assert.equal(bench.reg(3, CS) & (ACTIVE | END), ACTIVE, 'nothing completes at once');
  bench.run(LONG);
  assert.deepEqual(bench.bytes(0x2003, 1001), bytes);
  assert.equal(bench.reg(3, CS), END | INT | DREQ);
  assert.equal(bench.reg(3, CONBLK_AD), 0);
  assert.equal(bench.read(BASE + 0xfe0), 1 << 3);
  assert.equal(bench.lines.get(19), true);
  bench.set(3, CS, INT);
  assert.equal(bench.reg(3, CS), END | DREQ);
  assert.equal(bench.lines.get(19), false);

  bench.block(0x100, S_INC | D_INC, 0x1000, 0x2000, 4);
  bench.start(3, 0x100);
  bench.run(LONG);
  assert.equal(bench.reg(3, CS), END | DREQ);
  assert.equal(bench.lines.get(19), false);
});

test('a chain is followed to its end, and low address bits are ignored', () => {
  const bench = new Bench();
  const bytes = bench.pattern(0x1000, 300);
  bench.block(0x100, S_INC | D_INC, 0x1000, 0x2000, 100, 0x20f);
  bench.block(0x200, S_INC | D_INC, 0x1064, 0x2064, 100, 0x300);
  bench.block(0x300, S_INC | D_INC | INTEN, 0x10c8, 0x20c8, 100);
  bench.set(0, CONBLK_AD, BUS + 0x11f);
  assert.equal(bench.reg(0, CONBLK_AD), BUS + 0x100);
  bench.set(0, CS, ACTIVE);
  bench.run(LONG);
  assert.deepEqual(bench.bytes(0x2000, 300), bytes);
  assert.equal(bench.reg(0, CS), END | INT | DREQ);
});

test('rows of 2D mode are YLENGTH + 1, with signed strides after each', () => {
  const bench = new Bench();
  const bytes = bench.pattern(0x1000, 64);
  const stride = (((-14 & 0xffff) << 16) | 6) >>> 0;
  bench.block(0x100, S_INC | D_INC | TDMODE, 0x1000, 0x2020, (3 << 16) | 10, 0, stride);
  bench.start(0, 0x100);
  bench.run(LONG);
  // Sources at 0, 16, 32, 48; destinations at 32, 28, 24, 20: each row is partly overwritten by the next.
  const expected = new Uint8Array(64);
  for (let row = 0; row < 4; row++) expected.set(bytes.subarray(row * 16, row * 16 + 10), 32 - 4 * row);
  assert.deepEqual(bench.bytes(0x2000, 64), expected);
});

test('the source stride of 2D mode is signed as well', () => {
  const bench = new Bench();
  const bytes = bench.pattern(0x1000, 64);
  bench.block(0x100, S_INC | D_INC | TDMODE, 0x1030, 0x2000, (3 << 16) | 10, 0, -26 & 0xffff);
  bench.start(0, 0x100);
  bench.run(LONG);
  // Sources at 48, 32, 16 and 0; the rows lie one behind the other.
  const expected = new Uint8Array(40);
  for (let row = 0; row < 4; row++) expected.set(bytes.subarray(48 - 16 * row, 58 - 16 * row), 10 * row);
  assert.deepEqual(bench.bytes(0x2000, 40), expected);
});

test('a lite channel has 16 bits of length and knows neither 2D nor IGNORE', () => {
  const bench = new Bench();
  assert.equal(bench.reg(6, DEBUG) >>> 28, 0);
  assert.equal(bench.reg(7, DEBUG) >>> 28, 1);
  assert.equal(bench.reg(7, DEBUG) & 0xff00, 7 << 8);
  const bytes = bench.pattern(0x1000, 64);
  bench.block(0x100, S_INC | D_INC | TDMODE | S_IGNORE, 0x1000, 0x2000, (3 << 16) | 10, 0, 6);
  bench.start(7, 0x100);
  bench.run(LONG);
  assert.deepEqual(bench.bytes(0x2000, 10), bytes.subarray(0, 10));
  assert.deepEqual(bench.bytes(0x200a, 54), new Uint8Array(54));
});

test('a lite channel takes twice the time of a full one', () => {
  const timeOf = (channel: number): number => {
    const bench = new Bench();
    bench.block(0x100, S_INC | D_INC | INTEN, 0x1000, 0x1_1000, 0xf000);
    bench.start(channel, 0x100);
    while (!bench.lines.get(irqLines[channel]!)) bench.run(100);
    return bench.now();
  };
  const [full, lite] = [timeOf(0), timeOf(8)];
  assert.ok(full > 50_000 && full < 200_000, `${full} ns for 60 KiB`);
  assert.ok(Math.abs(lite / full - 2) < 0.05, `${lite} ns against ${full} ns`);
});

test('WAITS slow a transfer down, and waiting for responses makes its end later', () => {
  const timeOf = (ti: number): number => {
    const bench = new Bench();
    bench.block(0x100, S_INC | D_INC | INTEN | ti, 0x1000, 0x1_1000, 4096);
    bench.start(0, 0x100);
    while (!bench.lines.get(16)) bench.run(10);
    return bench.now();
  };
  const plain = timeOf(0);
  assert.ok(timeOf(31 << 21) > plain + 1024 * 31 * 3, 'dummy cycles after every word');
  const answered = timeOf(WAIT_RESP) - plain;
  assert.ok(answered > 50 && answered < 500, `${answered} ns for the last response`);
});

test('bytes and halfwords of a register can be read; writing them does nothing', () => {
  const bench = new Bench();
  const { block } = bench.registerAt(BASE)!;
  bench.set(2, CONBLK_AD, 0x1234_5660);
  assert.deepEqual(
    [0, 1, 2, 3].map((i) => block.readRegister(0x204 + i, 1)),
    [0x60, 0x56, 0x34, 0x12],
  );
  assert.deepEqual([block.readRegister(0x204, 2), block.readRegister(0x206, 2)], [0x5660, 0x1234]);
  block.writeRegister(0x204, 1, 0xff);
  assert.equal(bench.reg(2, CONBLK_AD), 0x1234_5660);
});

test('ignoring the source fills with zeroes, ignoring the destination writes nothing', () => {
  const bench = new Bench();
  bench.pattern(0x2000, 64);
  bench.block(0x100, S_IGNORE | D_INC, 0x9999_9999, 0x2004, 9, 0x120);
  bench.block(0x120, S_INC | D_IGNORE | D_INC, 0x1000, 0x2020, 300);
  bench.start(0, 0x100);
  bench.run(LONG);
  const bytes = bench.bytes(0x2000, 64);
  assert.equal(bytes[3], 22);
  assert.deepEqual(bytes.subarray(4, 13), new Uint8Array(9));
  assert.equal(bytes[13], 92);
  assert.equal(bytes[32], 225);
  assert.equal(bench.reg(0, CS) & ERROR, 0);
});

test('a source that stands still is read again for every word', () => {
  const bench = new Bench();
  bench.view.setUint32(0x1000, 0x0403_0201, true);
  bench.block(0x100, D_INC, 0x1000, 0x2000, 10);
  bench.start(0, 0x100);
  bench.run(LONG);
  assert.deepEqual([...bench.bytes(0x2000, 12)], [1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 0, 0]);
});

test('progress shows in the registers while nobody needed it finer', () => {
  const bench = new Bench();
  bench.pattern(0x1_0000, 0x8000);
  bench.block(0x100, S_INC | D_INC, 0x1_0000, 0x2_0000, 0x8000);
  bench.start(0, 0x100);
  bench.run(2000);
  const left = bench.reg(0, TXFR_LEN);
  const done = 0x8000 - left;
  assert.ok(done > 500 && done < 1500, `${done} bytes after 2 us`);
  assert.equal(bench.reg(0, SOURCE_AD), BUS + 0x1_0000 + done);
  assert.equal(bench.reg(0, DEST_AD), BUS + 0x2_0000 + done);
  assert.equal(bench.reg(0, CONBLK_AD), BUS + 0x100);
  assert.equal(bench.memory[0x2_0000 + done - 1], bench.memory[0x1_0000 + done - 1]);
  assert.equal(bench.memory[0x2_0000 + done], 0);
  assert.equal(bench.reg(0, TI), S_INC | D_INC);
});

test('clearing ACTIVE pauses in place, setting it resumes', () => {
  const bench = new Bench();
  const bytes = bench.pattern(0x1_0000, 0x8000);
  bench.block(0x100, S_INC | D_INC | INTEN, 0x1_0000, 0x2_0000, 0x8000);
  bench.start(0, 0x100);
  bench.run(10_000);
  bench.set(0, CS, 0);
  assert.equal(bench.reg(0, CS), PAUSED | WAITING | DREQ);
  bench.run(1000);
  assert.equal(bench.reg(0, CS), PAUSED | DREQ, 'outstanding writes are answered meanwhile');
  const left = bench.reg(0, TXFR_LEN);
  bench.run(LONG);
  assert.equal(bench.reg(0, TXFR_LEN), left);
  bench.set(0, CS, ACTIVE);
  bench.run(LONG);
  assert.deepEqual(bench.bytes(0x2_0000, 0x8000), bytes);
  assert.equal(bench.reg(0, CS), END | INT | DREQ);
});

test('ABORT gives up one block and goes on with the next', () => {
  const bench = new Bench();
  bench.pattern(0x1_0000, 0x8000);
  bench.block(0x100, S_INC | D_INC | INTEN, 0x1_0000, 0x2_0000, 0x8000, 0x120);
  bench.block(0x120, S_INC | D_INC, 0x1_0000, 0x3_0000, 16);
  bench.start(0, 0x100);
  bench.run(5000);
  bench.set(0, CS, ABORT | ACTIVE);
  bench.run(LONG);
  assert.equal(bench.memory[0x2_7fff], 0);
  assert.deepEqual(bench.bytes(0x3_0000, 16), bench.bytes(0x1_0000, 16));
  assert.equal(bench.reg(0, CS), END | DREQ, 'the aborted block did not interrupt');
});

test('RESET clears the channel, and it starts afresh', () => {
  const bench = new Bench();
  bench.block(0x100, S_INC | D_INC | INTEN, 0x1_0000, 0x2_0000, 0x8000);
  bench.start(0, 0x100);
  bench.run(5000);
  bench.set(0, CS, RESET);
  for (const offset of [CONBLK_AD, TI, SOURCE_AD, DEST_AD, TXFR_LEN, NEXTCONBK]) assert.equal(bench.reg(0, offset), 0);
  assert.equal(bench.reg(0, CS), DREQ);
  assert.equal(bench.pendingEvents, 0);
  bench.block(0x100, S_INC | D_INC | INTEN, 0x1000, 0x2000, 4);
  bench.start(0, 0x100);
  bench.run(LONG);
  assert.equal(bench.reg(0, CS), END | INT | DREQ);
});

test('the list can be altered while the channel is paused', () => {
  const bench = new Bench();
  bench.pattern(0x1_0000, 0x8000);
  bench.block(0x100, S_INC | D_INC, 0x1_0000, 0x2_0000, 0x8000, 0x120);
  bench.block(0x120, S_INC | D_INC, 0x1_0000, 0x3_0000, 16);
  bench.start(0, 0x100);
  bench.run(5000);
  bench.set(0, CS, 0);
  bench.set(0, NEXTCONBK, 0);
  bench.set(0, CS, ACTIVE);
  bench.run(LONG);
  assert.equal(bench.memory[0x2_7fff], bench.memory[0x1_7fff]);
  assert.equal(bench.memory[0x3_0000], 0);
});

test('without a request nothing moves, and the channel says why', () => {
  const bench = new Bench();
  const request = bench.requests[5]!;
  const words: number[] = [];
  bench.mapRegisters(0x7e20_3000, 4, 'fifo', {
    readRegister: () => 0,
    writeRegister: (_o, _w, value) => words.push(value),
  });
  for (let i = 0; i < 5; i++) bench.view.setUint32(0x1000 + 4 * i, 100 + i, true);
  const ti = S_INC | D_DREQ | (5 << 16) | INTEN;
  bench.block(0x100, ti, 0x1000, 0, 20);
  bench.view.setUint32(0x108, 0x7e20_3000, true);
  bench.start(2, 0x100);
  bench.run(LONG);
  assert.deepEqual(words, []);
  assert.equal(bench.reg(2, CS), ACTIVE | PAUSED | HELD);
  request.set(true);
  bench.run(100);
  request.set(false);
  assert.equal(bench.reg(2, CS) & (DREQ | HELD), 0);
  bench.run(LONG);
  const first = words.length;
  assert.ok(first >= 1 && first <= 3, `${first} words while it was requested`);
  assert.equal(bench.reg(2, SOURCE_AD), BUS + 0x1000 + 4 * first);
  request.set(true);
  bench.run(LONG);
  assert.deepEqual(words, [100, 101, 102, 103, 104]);
  assert.equal(bench.reg(2, CS), END | INT | DREQ);
});

test('a burst is moved per request, from a peripheral to memory', () => {
  const bench = new Bench();
  const request = bench.requests[5]!;
  let next = 1;
  bench.mapRegisters(0x7e20_3000, 4, 'fifo', { readRegister: () => next++, writeRegister: () => {} });
  bench.block(0x100, D_INC | S_DREQ | (5 << 16) | (4 << 12), 0, 0x2000, 32);
  bench.view.setUint32(0x104, 0x7e20_3000, true);
  bench.start(2, 0x100);
  bench.run(LONG);
  request.set(true);
  request.set(false);
  bench.run(LONG);
  assert.deepEqual([...new Uint32Array(bench.bytes(0x2000, 32).buffer)], [1, 2, 3, 4, 0, 0, 0, 0]);
});

test('a paused channel does not answer a request', () => {
  const bench = new Bench();
  bench.block(0x100, S_INC | D_INC | D_DREQ | (5 << 16), 0x1000, 0x2000, 4);
  bench.memory[0x1000] = 7;
  bench.start(2, 0x100);
  bench.run(LONG);
  bench.set(2, CS, 0);
  bench.requests[5]!.set(true);
  bench.run(LONG);
  assert.equal(bench.memory[0x2000], 0);
  bench.set(2, CS, ACTIVE);
  bench.run(LONG);
  assert.equal(bench.memory[0x2000], 7);
});

test('a refused read sets READ_ERROR and loses one burst; the block still ends', () => {
  const bench = new Bench();
  bench.pattern(0x1000, 1024);
  bench.block(0x100, S_INC | D_INC | INTEN, 0x1000, 0x2000, 1024);
  bench.failNextAt = BUS + 0x1000 + 300;
  bench.start(0, 0x100);
  bench.run(LONG);
  assert.equal(bench.reg(0, CS), END | INT | ERROR | DREQ);
  assert.equal(bench.reg(0, DEBUG) & 7, 4);
  assert.deepEqual(bench.bytes(0x2000, 300), bench.bytes(0x1000, 300));
  assert.deepEqual(bench.bytes(0x212c, 212), new Uint8Array(212));
  assert.deepEqual(bench.bytes(0x2200, 512), bench.bytes(0x1200, 512));
  bench.set(0, DEBUG, 4);
  assert.equal(bench.reg(0, CS) & ERROR, 0, 'ERROR goes with the flags of DEBUG');
});

test('a refused write sets FIFO_ERROR', () => {
  const bench = new Bench();
  bench.block(0x100, S_INC | D_INC | INTEN, 0x1000, 0x1000_0000, 16);
  bench.start(0, 0x100);
  bench.run(LONG);
  assert.equal(bench.reg(0, CS), END | INT | ERROR | DREQ);
  assert.equal(bench.reg(0, DEBUG) & 7, 2);
});

test('a control block that cannot be fetched stops the channel without an interrupt', () => {
  const bench = new Bench();
  bench.set(0, CONBLK_AD, 0x1000);
  bench.set(0, CS, ACTIVE);
  bench.run(LONG);
  assert.equal(bench.reg(0, CS), ERROR | DREQ);
  assert.equal(bench.reg(0, DEBUG) & 7, 4);
  assert.equal(bench.reg(0, CONBLK_AD), 0x1000);
  assert.equal(bench.pendingEvents, 0);
});

test('READ_LAST_NOT_SET_ERROR can be injected', () => {
  const bench = new Bench();
  bench.model.raiseErrors(4, 1);
  assert.equal(bench.reg(4, CS), ERROR | DREQ);
  bench.set(4, DEBUG, 1);
  assert.equal(bench.reg(4, CS), DREQ);
});

test('a block that points at itself runs on, and takes time each round', () => {
  const bench = new Bench();
  bench.block(0x100, S_INC | D_INC | INTEN, 0x1000, 0x2000, 0, 0x100);
  bench.start(0, 0x100);
  bench.run(1_000_000);
  assert.equal(bench.reg(0, CS) & (ACTIVE | INT), ACTIVE | INT);
  assert.equal(bench.pendingEvents, 1);
  assert.ok(bench.accesses.length < 10_000, `${bench.accesses.length} rounds in a millisecond`);
  bench.set(0, CS, RESET);
  bench.run(1_000_000);
  assert.equal(bench.pendingEvents, 0);
});

test('a channel switched off in ENABLE waits', () => {
  const bench = new Bench();
  bench.memory[0x1000] = 7;
  bench.block(0x100, S_INC | D_INC, 0x1000, 0x2000, 4);
  assert.equal(bench.read(BASE + 0xff0), 0x7fff);
  bench.write(BASE + 0xff0, 0x7ffe);
  bench.start(0, 0x100);
  bench.run(LONG);
  assert.equal(bench.memory[0x2000], 0);
  bench.write(BASE + 0xff0, 0x7fff);
  bench.run(LONG);
  assert.equal(bench.memory[0x2000], 7);
});

test('channels that share a line hold it until the last one is cleared', () => {
  const bench = new Bench();
  bench.block(0x100, S_INC | D_INC | INTEN, 0x1000, 0x2000, 4);
  bench.start(12, 0x100);
  bench.start(13, 0x100);
  bench.run(LONG);
  assert.equal(bench.read(BASE + 0xfe0), 3 << 12);
  bench.set(12, CS, INT);
  assert.equal(bench.lines.get(27), true);
  bench.set(13, CS, INT);
  assert.equal(bench.lines.get(27), false);
});

test('10,000 random control blocks neither throw nor hang', () => {
  const seed = 20835;
  const prng = new Prng(seed);
  const bench = new Bench();
  bench.mapRegisters(0x7e20_3000, 4, 'fifo', { readRegister: () => 1, writeRegister: () => {} });
  const address = (): number =>
    prng.chance(1, 8) ? prng.u32() : prng.chance(1, 8) ? 0x7e20_3000 : BUS + 0x2_0000 + prng.below(0xc_0000);
  for (let round = 0; round < 10_000; round++) {
    const channel = prng.below(15);
    const at = 0x20 * prng.between(1, 200);
    const rows = prng.chance(1, 50) ? prng.below(0x4000) : prng.below(4);
    const length = ((rows << 16) | prng.below(prng.chance(1, 20) ? 0x1000 : 64)) >>> 0;
    const next = prng.chance(1, 3) ? BUS + prng.below(0x2000) : 0;
    const words = [prng.u32(), address(), address(), prng.chance(1, 500) ? prng.u32() : length, prng.u32(), next];
    for (const [i, word] of words.entries()) bench.view.setUint32(at + 4 * i, word, true);
    const offset = prng.below(16) * 4;
    if (prng.chance(1, 4)) bench.set(channel, offset, prng.u32());
    bench.start(channel, at);
    bench.run(prng.below(3000));
    bench.requests[5]!.set(prng.chance(1, 2));
    bench.reg(channel, offset);
    if (prng.chance(1, 16)) bench.set(channel, CS, RESET);
    bench.accesses.length = 0;
  }
  for (let channel = 0; channel < 15; channel++) bench.set(channel, CS, RESET);
  bench.run(LONG);
  assert.equal(bench.pendingEvents, 0, `seed ${seed}`);
});
