import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkMode, parseMode } from './mode.ts';

test('an empty mode leaves the board as it is', () => {
  assert.deepEqual(parseMode(''), { text: '', coherent: null, maskBits: null, swiotlb: null, iommu: null });
  assert.deepEqual(parseMode(' , '), parseMode(''));
});
test('terms combine, and equal modes have equal texts', () => {
  assert.deepEqual(parseMode('mask=28, coherent'), {
    text: 'coherent,mask=28',
    coherent: true,
    maskBits: 28,
    swiotlb: null,
    iommu: null,
  });
  assert.equal(parseMode('coherent,mask=28').text, parseMode('mask=28,coherent').text);
  assert.equal(parseMode('noncoherent').coherent, false);
  assert.equal(parseMode('coherent,coherent').text, 'coherent');
});
test('what is wrong is named, with what is known', () => {
  const fails = (text: string, message: string): void => {
    assert.throws(() => parseMode(text), { message });
  };
  const known = 'coherent, noncoherent, mask=BITS, swiotlb=force|noforce, iommu=off|strict|lazy|pt';
  fails('cohernet', `mode 'cohernet' is unknown; known are ${known}`);
  fails('coherent,noncoherent', "mode 'noncoherent' contradicts 'coherent'");
  fails('mask=24,mask=28', "mode 'mask=28' contradicts 'mask=24'");
  fails('mask', "mode 'mask': expected mask=BITS");
  fails('coherent=yes', "mode 'coherent=yes': expected coherent");
  fails('mask=0', "mode 'mask=0': expected a number from 1 to 64, found '0'");
  fails('mask=2x', "mode 'mask=2x': expected a number from 1 to 64, found '2x'");
  fails('swiotlb=yes', "mode 'swiotlb=yes': expected force or noforce, found 'yes'");
  fails('iommu=on', "mode 'iommu=on': expected off, strict, lazy or pt, found 'on'");
  fails('toString', `mode 'toString' is unknown; known are ${known}`);
});
test('a board refuses what it does not have', () => {
  assert.throws(() => checkMode(parseMode('mask=24'), ['coherent'], 'x86'), {
    message: "board 'x86': mode 'mask=24' is unknown; known are coherent",
  });
  assert.equal(checkMode(parseMode('coherent'), ['coherent'], 'x86').coherent, true);
});
