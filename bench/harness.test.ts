import assert from 'node:assert/strict';
import { test } from 'node:test';
import { measure, table } from './harness.ts';

test('measures every case against the reference of the same run', () => {
  const order: string[] = [];
  const note = (name: string) => (n: number) => {
    if (order.at(-1) !== name) order.push(name);
    for (let i = 0; i < n; i++) Math.sqrt(i);
  };
  const reference = { name: 'nothing', run: note('reference') };
  const result = measure('suite', { a: note('a'), b: note('b') }, { rounds: 3, roundMs: 0.1, reference });
  assert.deepEqual(
    result.rows.map(({ name }) => name),
    ['nothing', 'a', 'b'],
  );
  assert.equal(result.rows[0]!.ratio, 1);
  assert.ok(result.rows.every(({ nsPerOp, ratio }) => nsPerOp > 0 && ratio > 0));
  // Interleaved: after the warm-up, each round runs all three.
  assert.match(order.join(), /^reference,a,b,(reference,a,b,){2}reference,a,b/);
  assert.match(table(result), /^suite .*\n.*ns\/op +ratio +garbage B\/op\nnothing /);
});
