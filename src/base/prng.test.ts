import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Prng } from './prng.ts';

const draw = (prng: Prng, count = 64) => Array.from({ length: count }, () => prng.u32());

test('the same seed gives the same numbers, another seed others', () => {
  assert.deepEqual(draw(new Prng(7)), draw(new Prng(7)));
  assert.notDeepEqual(draw(new Prng(7)), draw(new Prng(8)));
});

test('a fork does not depend on how much was drawn from its parent', () => {
  const parent = new Prng(3);
  const early = draw(parent.fork('cache'));
  draw(parent);
  assert.deepEqual(draw(parent.fork('cache')), early);
  assert.notDeepEqual(draw(parent.fork('bus')), early);
});

test('numbers stay in their range and spread over it', () => {
  const prng = new Prng(1);
  const seen = new Array<number>(10).fill(0);
  for (let i = 0; i < 10_000; i++) {
    const n = prng.between(5, 14);
    assert.ok(n >= 5 && n <= 14);
    seen[n - 5]!++;
  }
  for (const count of seen) assert.ok(count > 850 && count < 1150, `uneven: ${seen}`);
});
