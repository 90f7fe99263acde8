import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  alignDown,
  alignUp,
  DMA_MAPPING_ERROR,
  dmaBitMask,
  fromLoHi,
  hexAddr,
  hi32,
  lo32,
  maskLimit,
  offsetIn,
  pagesFor,
  physAddr,
  rangeInside,
  rangesOverlap,
} from './addr.ts';
import { ffs, fls, genmask, getOrder, ilog2, isPowerOf2, roundupPowOfTwo } from './bits.ts';

const address = fc.integer({ min: 0, max: 2 ** 52 - 1 });

test('the two halves of any address make it again', () => {
  fc.assert(fc.property(address, (a) => assert.equal(fromLoHi(lo32(a), hi32(a)), a)));
});

test('aligning holds above 4 GiB, where bit operators would truncate', () => {
  assert.equal(alignDown(0x1_2345_6789, 0x1000), 0x1_2345_6000);
  assert.equal(alignUp(0x1_2345_6789, 0x1000), 0x1_2345_7000);
  assert.equal(alignUp(0x1_0000_0000, 0x1_0000_0000), 0x1_0000_0000);
  assert.equal(offsetIn(0x1_8000_0123, 0x1000), 0x123);
  fc.assert(
    fc.property(address, fc.integer({ min: 0, max: 40 }), (a, shift) => {
      const big = BigInt(a) & ~((1n << BigInt(shift)) - 1n);
      assert.equal(BigInt(alignDown(a, 2 ** shift)), big);
    }),
  );
});

test('an address must be an integer in [0, 2^52)', () => {
  assert.throws(() => physAddr(-1), /\[0, 2\^52\), found -1/);
  assert.throws(() => physAddr(2 ** 52), RangeError);
  assert.throws(() => physAddr(0.5), RangeError);
});

test('range tests are right at size 0, at the last byte and for a failed mapping', () => {
  const last = 2 ** 52 - 1;
  assert.equal(rangeInside(last, 1, last, 1), true);
  assert.equal(rangeInside(last, 2, last, 1), false);
  assert.equal(rangeInside(100, 0, 100, 0), true);
  assert.equal(rangeInside(101, 0, 100, 0), false);
  assert.equal(rangeInside(DMA_MAPPING_ERROR, 1, 0, last), false);
  assert.equal(rangesOverlap(0, 10, 9, 1), true);
  assert.equal(rangesOverlap(0, 10, 10, 1), false);
  assert.equal(rangesOverlap(5, 0, 0, 10), false);
  assert.equal(rangesOverlap(DMA_MAPPING_ERROR, 4096, 0, last), false);
});

test('masks are exact at the API and capped for comparing', () => {
  assert.equal(dmaBitMask(64), 0xffff_ffff_ffff_ffffn);
  assert.equal(dmaBitMask(24), 0xff_ffffn);
  assert.equal(dmaBitMask(0), 0n);
  assert.equal(maskLimit(dmaBitMask(64)), 2 ** 52 - 1);
  assert.equal(maskLimit(dmaBitMask(32)), 0xffff_ffff);
  assert.throws(() => dmaBitMask(65), /0 to 64 bits/);
});

test('a failed mapping prints as the kernel prints it', () => {
  assert.equal(hexAddr(DMA_MAPPING_ERROR), '0xffffffffffffffff');
  assert.equal(hexAddr(0xfffff000), '0xfffff000');
});

test('bit helpers agree with their definitions', () => {
  assert.equal(genmask(31, 0), 0xffff_ffff);
  assert.equal(genmask(7, 4), 0xf0);
  assert.equal(fls(0), 0);
  assert.equal(fls(0x8000_0000), 32);
  assert.equal(ffs(0), -1);
  assert.equal(ffs(0x30), 4);
  assert.deepEqual([0, 1, 4096, 4097, 8192, 8193].map(getOrder), [0, 0, 0, 1, 1, 2]);
  assert.equal(pagesFor(4097), 2);
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2 ** 52 - 1 }), (n) => {
      assert.ok(2 ** ilog2(n) <= n && n < 2 ** (ilog2(n) + 1));
      const up = roundupPowOfTwo(n);
      assert.ok(isPowerOf2(up) && up >= n && up < 2 * n);
    }),
  );
});
