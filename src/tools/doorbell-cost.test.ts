import assert from 'node:assert/strict';
import { test } from 'node:test';
import { costByDescriptor, costByRegister, doorbellPaysFrom, PCIE_3, X86_CPU } from './doorbell-cost.ts';

test('ten descriptors of 65 bytes: 1800 bytes by register, 1534 by doorbell, as the paper says', () => {
  assert.equal(costByRegister(10, 65).bytesToDevice, 1800);
  assert.equal(costByDescriptor(10, 65).bytesToDevice, 1534);
});
test('a byte less saves a store: a descriptor of 129 bytes takes three, one of 128 two', () => {
  assert.equal(costByRegister(1, 129).mmios, 3);
  assert.equal(costByRegister(1, 128).mmios, 2);
  assert.equal(costByDescriptor(1, 129).mmios, 1);
});
test('reads and their answers are cut at the link’s limits', () => {
  assert.deepEqual(costByDescriptor(10, 65), {
    mmios: 1,
    reads: 3,
    completions: 10,
    bytesToDevice: 8 + 26 + 1280 + 10 * 22,
    bytesFromDevice: 3 * 26,
  });
  const wide = { ...PCIE_3, maxCompletion: 256 };
  assert.equal(costByDescriptor(10, 65, wide).completions, 5);
  assert.equal(costByDescriptor(10, 65, { ...PCIE_3, maxReadRequest: 128 }).reads, 10);
  assert.equal(costByRegister(1, 65, PCIE_3, { ...X86_CPU, cacheLine: 128 }).bytesToDevice, 154);
});
test('one descriptor is cheaper stored; from the second on the doorbell pays', () => {
  assert.ok(costByRegister(1, 65).bytesToDevice < costByDescriptor(1, 65).bytesToDevice);
  assert.equal(doorbellPaysFrom(65), 2);
  assert.equal(doorbellPaysFrom(64), 4, 'half an answer of 128 bytes is lost on an odd one');
  assert.equal(doorbellPaysFrom(256), 1);
  assert.equal(doorbellPaysFrom(64, { ...PCIE_3, maxCompletion: 64, completionHeader: 20 }), null);
});
test('nothing can be handed over of nothing', () => {
  assert.throws(() => costByRegister(0, 64), /expected 1 or more descriptors, found 0/);
  assert.throws(() => costByDescriptor(1, 0.5), /expected 1 or more bytes of a descriptor, found 0.5/);
});
