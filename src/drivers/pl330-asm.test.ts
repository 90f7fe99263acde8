import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dbgDMAGO, dbgDMAKILL, Pl330Assembler } from './pl330-asm.ts';

function assembled(write: (asm: Pl330Assembler) => void): string {
  const bytes = new Uint8Array(64);
  const asm = new Pl330Assembler();
  asm.begin(bytes, 0, bytes.length);
  write(asm);
  return [...bytes.subarray(0, asm.here)].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
}

// Typed from the encodings of TRM 4.3.
const ENCODINGS: [string, (asm: Pl330Assembler) => void, string][] = [
  ['DMAMOV SAR, 0x12345678', (a) => a.DMAMOV('SAR', 0x1234_5678), 'bc 00 78 56 34 12'],
  ['DMAMOV CCR, 0x00bd0271', (a) => a.DMAMOV('CCR', 0x00bd_0271), 'bc 01 71 02 bd 00'],
  ['DMAMOV DAR, 0xfffffff0', (a) => a.DMAMOV('DAR', 0xffff_fff0), 'bc 02 f0 ff ff ff'],
  ['DMAADDH SAR, 0x1234', (a) => a.DMAADDH('SAR', 0x1234), '54 34 12'],
  ['DMAADDH DAR, 8', (a) => a.DMAADDH('DAR', 8), '56 08 00'],
  ['DMAADNH SAR, -8', (a) => a.DMAADNH('SAR', -8), '5c f8 ff'],
  ['DMAADNH DAR, -65536', (a) => a.DMAADNH('DAR', -65_536), '5e 00 00'],
  ['DMALD', (a) => a.DMALD(), '04'],
  ['DMALDS', (a) => a.DMALD('single'), '05'],
  ['DMALDB', (a) => a.DMALD('burst'), '07'],
  ['DMAST', (a) => a.DMAST(), '08'],
  ['DMASTS', (a) => a.DMAST('single'), '09'],
  ['DMASTB', (a) => a.DMAST('burst'), '0b'],
  ['DMASTZ', (a) => a.DMASTZ(), '0c'],
  ['DMALDPS 3', (a) => a.DMALDP('single', 3), '25 18'],
  ['DMALDPB 31', (a) => a.DMALDP('burst', 31), '27 f8'],
  ['DMASTPS 0', (a) => a.DMASTP('single', 0), '29 00'],
  ['DMASTPB 1', (a) => a.DMASTP('burst', 1), '2b 08'],
  ['DMAWFP 2, single', (a) => a.DMAWFP('single', 2), '30 10'],
  ['DMAWFP 2, periph', (a) => a.DMAWFP('periph', 2), '31 10'],
  ['DMAWFP 2, burst', (a) => a.DMAWFP('burst', 2), '32 10'],
  ['DMAFLUSHP 4', (a) => a.DMAFLUSHP(4), '35 20'],
  ['DMASEV 5', (a) => a.DMASEV(5), '34 28'],
  ['DMAWFE 5', (a) => a.DMAWFE(5), '36 28'],
  ['DMAWFE 5, invalid', (a) => a.DMAWFE(5, true), '36 2a'],
  ['DMARMB, DMAWMB, DMANOP, DMAEND', (a) => [a.DMARMB(), a.DMAWMB(), a.DMANOP(), a.DMAEND()], '12 13 18 00'],
  ['DMALP LC0, 256', (a) => a.DMALP(0, 256), '20 ff'],
  ['DMALP LC1, 1', (a) => a.DMALP(1, 1), '22 00'],
];
for (const [instruction, write, bytes] of ENCODINGS) {
  test(`${instruction} is ${bytes}`, () => assert.equal(assembled(write), bytes));
}
test('loops jump back from their end to their label', () => {
  const nested = assembled((a) => {
    a.DMALP(1, 2);
    const outer = a.here;
    a.DMALP(0, 256);
    const inner = a.here;
    a.DMALD();
    a.DMAST();
    a.DMALPEND(0, inner);
    a.DMALPEND(1, outer);
  });
  assert.equal(nested, '22 01 20 ff 04 08 38 02 3c 06');
  const endless = (condition: 'always' | 'single' | 'burst'): string =>
    assembled((a) => {
      a.DMANOP();
      a.DMALPFEEND(0, condition);
    });
  assert.deepEqual([endless('always'), endless('single'), endless('burst')], ['18 28 01', '18 2d 01', '18 2f 01']);
  assert.equal(
    assembled((a) => a.DMALPEND(0, 0, 'burst')),
    '3b 00',
  );
});
test('DBGINST0 of DMAGO and DMAKILL', () => {
  assert.equal(dbgDMAGO(3, false), 0x03a0_0000);
  assert.equal(dbgDMAGO(7, true), 0x07a2_0000);
  assert.equal(dbgDMAKILL(), 0x0001_0000);
});
test('what no instruction can hold is a bug of the driver', () => {
  const refused = (write: (asm: Pl330Assembler) => void, message: RegExp): void =>
    assert.throws(() => assembled(write), message);
  refused((a) => a.DMALP(0, 257), /1 to 256 iterations, found 257/);
  refused((a) => a.DMASEV(32), /0 to 31, found 32/);
  refused((a) => a.DMAADDH('SAR', 65_536), /does not hold 65536/);
  refused((a) => a.DMAADNH('SAR', 0), /does not hold/);
  refused((a) => {
    for (let i = 0; i < 65; i++) a.DMANOP();
  }, /longer than its buffer/);
});
