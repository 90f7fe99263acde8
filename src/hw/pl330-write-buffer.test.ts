import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  ccr,
  Dmac,
  END,
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
  WMB,
} from './pl330-rig.cases.ts';

const SRC = 0x4_0000;
const DST = 0x8_0000;
const SEEDS = 40;
type Code = (number | number[])[];

/** Programs that store `bytes` bytes from DST on, before they signal. */
const programs: readonly { readonly name: string; readonly bytes: number; readonly body: Code }[] = [
  { name: 'a joined loop', bytes: 1024, body: [LP0(8), LD, ST, LPEND0(2)] },
  { name: 'one burst', bytes: 128, body: [LD, ST] },
  { name: 'zeros', bytes: 256, body: [STZ, STZ] },
  { name: 'a loop of zeros', bytes: 1024, body: [LP0(8), STZ, LPEND0(1)] },
];

/** Run to the interrupt, then to the end. Which bytes were wrong at the interrupt, and when the channel had stopped. */
function bytesMissing(seed: number, body: Code, bytes: number, barrier: Code): { at: number[]; after: number } {
  const dmac = new Dmac({}, 1 << 20, seed);
  const isZeros = body.flat().includes(STZ);
  const expected = isZeros ? new Uint8Array(bytes) : dmac.random(SRC, bytes);
  dmac.memory.fill(0xee, DST, DST + bytes);
  dmac.write(0x20, 1);
  dmac.program(0x1000, MOV_CCR(ccr(3, 16)), MOV_SAR(SRC), MOV_DAR(DST), ...body, ...barrier, SEV(0), END);
  dmac.start(0, 0x1000);
  const missing = () => [...expected.keys()].filter((i) => dmac.memory[DST + i] !== expected[i]);
  for (let steps = 0; !dmac.interrupt(0); steps++) {
    assert.ok(steps < 10_000, `no interrupt, seed ${seed}`);
    dmac.rig.run(5);
  }
  const at = missing();
  while (dmac.state(0) !== 0) dmac.rig.run(5);
  return { at, after: missing().length };
}

for (const { name, bytes, body } of programs) {
  test(`${name}: without DMAWMB the event may come before the last store, never with it`, () => {
    let late = 0;
    for (let seed = 1; seed <= SEEDS; seed++) {
      const ordered = bytesMissing(seed, body, bytes, [WMB]);
      assert.deepEqual([ordered.at.length, ordered.after], [0, 0], `seed ${seed}`);
      const { at, after } = bytesMissing(seed, body, bytes, [NOP]);
      assert.equal(after, 0, `a channel that has stopped has stored everything, seed ${seed}`);
      if (at.length > 0) late++;
      assert.ok(
        at.every((i) => i >= bytes - 128),
        `only the last burst is late, seed ${seed}`,
      );
    }
    assert.ok(late > SEEDS / 5 && late < (SEEDS * 4) / 5, `${late} of ${SEEDS} seeds show it`);
  });
}

test('a store that fails after its event was heard is a fault of the store', () => {
  let late = 0;
  for (let seed = 1; seed <= SEEDS; seed++) {
    const dmac = new Dmac({}, 1 << 20, seed);
    dmac.write(0x20, 1);
    dmac.rig.failNextAt = DST + 8;
    dmac.run(0, [MOV_CCR(ccr(3, 16)), MOV_SAR(SRC), MOV_DAR(DST), LD, ST, SEV(0), END]);
    assert.deepEqual(
      [dmac.state(0), dmac.fault(0), dmac.pc(0), dmac.dar(0)],
      [15, 1 << 17, 0x1013, DST],
      `seed ${seed}`,
    );
    if (dmac.interrupt(0)) late++;
  }
  assert.ok(late > 0 && late < SEEDS, `${late} of ${SEEDS}`);
});
