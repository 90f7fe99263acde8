import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Prng } from '../base/prng.ts';
import { NIL, RangeTree } from './range-tree.ts';

test('random insertions and removals keep the tree balanced, ordered and threaded', () => {
  for (let seed = 1; seed <= 40; seed++) {
    const prng = new Prng(seed);
    const tree = new RangeTree();
    const live = new Map<number, number>();
    for (let step = 0; step < 400; step++) {
      const pfn = prng.below(300) * 4;
      const node = live.get(pfn);
      if (node === undefined) live.set(pfn, tree.insert(pfn, pfn + prng.below(4)));
      else {
        tree.remove(node);
        live.delete(pfn);
      }
      if (step % 10 === 0) tree.verify();
    }
    tree.verify();
    assert.equal(tree.size, live.size, `seed ${seed}`);
    const order: number[] = [];
    for (let node = tree.first(); node !== NIL; node = tree.next(node)) order.push(tree.lo(node));
    assert.deepEqual(
      order,
      [...live.keys()].sort((a, b) => a - b),
      `seed ${seed}`,
    );
    for (const [pfn, node] of live) {
      assert.equal(tree.find(pfn), node);
      assert.equal(tree.find(tree.hi(node)), node);
      assert.equal(tree.find(tree.hi(node) + 4) === node, false);
    }
  }
});
