import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bit, bits, describe, reg, regArray, registerAt, registerMap, resetWords } from './register-map.ts';

const DEV = registerMap('DEV', 0x40, {
  CTRL: reg(0x0c, {
    EN: bit(0),
    CHAIN_TO: bits(14, 11),
    BUSY: bit(24, 'ro'),
    RERR: bit(30, 'w1c'),
    GO: bit(31, 'w1s'),
  }),
  MODE: reg(0x10, { KIND: bits(1, 0, 'rw', { COPY: 0, FILL: 1, CHAIN: 3 }), LEN: bits(31, 4) }, { reset: 0x11 }),
  ADDR: regArray(0x20, 3, 8),
  DATA: regArray(0x24, 3, 8, {}, { access: 'ro' }),
  STAT: reg(0x38, {}, { access: 'ro', width: 8, reset: 5 }),
  CMD: reg(0x38, {}, { access: 'wo', width: 8 }),
  BYTE: reg(0x39, {}, { width: 8, reset: 0xa5 }),
});
const { EN, CHAIN_TO, BUSY, RERR } = DEV.CTRL;

test('fields are placed and taken out by shift and mask', () => {
  assert.equal(EN.mask, 1);
  assert.equal(CHAIN_TO.mask, 0x7800);
  assert.equal(CHAIN_TO.prep(3), 0x1800);
  assert.equal(CHAIN_TO.get(0xffff_a7ff), 4);
  assert.equal(CHAIN_TO.put(0xffff_ffff, 0), 0xffff_87ff);
  assert.equal(DEV.CTRL.GO.prep(1), 0x8000_0000);
  assert.equal(DEV.MODE.LEN.get(0xffff_fff0), 0x0fff_ffff);
  assert.equal(BUSY.test(1 << 24), true);
  assert.equal(RERR.test(1 << 29), false);
});
test('a value that does not fit its field is refused', () => {
  assert.throws(() => CHAIN_TO.prep(16), /field CHAIN_TO holds 0 to 15, found 16/);
  assert.throws(() => CHAIN_TO.prep(-1), RangeError);
  assert.throws(() => CHAIN_TO.prep(1.5), RangeError);
});
test('arrays count from their first element and end at their last', () => {
  assert.equal(DEV.ADDR.at(0), 0x20);
  assert.equal(DEV.ADDR.at(2), 0x30);
  assert.throws(() => DEV.ADDR.at(3), /elements 0 to 2/);
});
test('a model stores what may be written, and one-bits clear or set', () => {
  const { CTRL } = DEV;
  assert.equal(CTRL.readMask, 0xc100_7801);
  assert.equal(CTRL.writeMask, 0x7801);
  assert.equal(CTRL.store(0x4100_0001, 0xffff_ffff), 0x8100_7801);
  assert.equal(CTRL.store(0x4100_0001, 0), 0x4100_0000);
  assert.equal(DEV.DATA.writeMask, 0);
  assert.equal(DEV.CMD.readMask, 0);
});
test('reset values lie in their words', () => {
  const words = resetWords(DEV);
  assert.equal(words[4], 0x11);
  assert.equal(words[0x38 / 4], 0xa505);
});
test('an access reads as in the datasheet', () => {
  assert.equal(describe(DEV, 0x0c, 0x1801), 'CTRL: EN=1 CHAIN_TO=3');
  assert.equal(describe(DEV, 0x0c, 0), 'CTRL: 0');
  assert.equal(describe(DEV, 0x0c, 2), 'CTRL: reserved=0x2');
  assert.equal(describe(DEV, 0x10, 0x31), 'MODE: KIND=FILL LEN=3');
  assert.equal(describe(DEV, 0x28, 0x1000), 'ADDR[1]: 0x1000');
  assert.equal(describe(DEV, 0x18, 0x1000), 'DEV+0x18: 0x1000');
  const chain = registerMap('CHAIN', 8, { NEXT: reg(4, { BLOCK_ADDR: bits(31, 5) }) });
  assert.equal(describe(chain, 4, 0xc040_8000), 'NEXT: BLOCK_ADDR=0xc0408000', 'an address, and not its upper bits');
  assert.equal(registerAt(DEV, 0x38)?.register.name, 'STAT');
  assert.equal(registerAt(DEV, 0x38, true)?.register.name, 'CMD');
});
test('a wrong table does not load', () => {
  const load = (message: RegExp, make: () => unknown): void => assert.throws(make, message);
  load(/register X\.A: field G: bits 4:3 overlap/, () =>
    registerMap('X', 16, { A: reg(0, { F: bits(3, 0), G: bits(4, 3) }) }),
  );
  load(/bits 8:0 do not lie in 8 bits/, () => registerMap('X', 16, { A: reg(0, { F: bits(8, 0) }, { width: 8 }) }));
  load(/bits 0:3/, () => registerMap('X', 16, { A: reg(0, { F: bits(0, 3) }) }));
  load(/ends at 0x14, the block at 0x10/, () => registerMap('X', 16, { A: reg(16) }));
  load(/not a multiple/, () => registerMap('X', 16, { A: reg(2) }));
  load(/A and B overlap at 0x4/, () => registerMap('X', 16, { A: reg(4), B: reg(6, {}, { width: 16 }) }));
  load(/overlap at 0x8/, () => registerMap('X', 32, { A: regArray(0, 4, 8), B: reg(8) }));
  load(/cannot be 2 bytes apart/, () => registerMap('X', 32, { A: regArray(0, 4, 2) }));
  load(/writable in a read-only/, () => registerMap('X', 16, { A: reg(0, { F: bit(0, 'rw') }, { access: 'ro' }) }));
  load(/unknown access right/, () => registerMap('X', 16, { A: reg(0, { F: bit(0, 'rx' as 'rw') }) }));
  load(/reset value/, () => registerMap('X', 16, { A: reg(0, {}, { reset: 256, width: 8 }) }));
  load(/value BIG = 4 does not fit/, () => registerMap('X', 16, { A: reg(0, { F: bits(1, 0, 'rw', { BIG: 4 }) }) }));
  load(/upper case/, () => registerMap('X', 16, { a: reg(0) }));
  load(/field f/, () => registerMap('X', 16, { A: reg(0, { f: bit(0) }) }));
});
