import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KernelBug } from '../base/errno.ts';
import {
  cookiesBetween,
  DMA_MIN_COOKIE,
  DmaTxState,
  dmaAsyncIsComplete,
  dmaCookieAssign,
  dmaCookieComplete,
  dmaCookieInit,
  dmaCookieStatus,
  dmaSetInFlightBytes,
  dmaSetResidue,
  dmaSubmitError,
} from './cookie.ts';
import { DmaAsyncTxDescriptor, dmaAsyncTxDescriptorInit } from './descriptor.ts';
import { DmaChan } from './dma-chan.ts';
import { makeKernel, makeProvider } from './rig.cases.ts';
import { DMA_COMPLETE, DMA_IN_PROGRESS } from './types.ts';

function channel(): DmaChan {
  const chan = new DmaChan();
  chan.device = makeProvider(makeKernel());
  return chan;
}
function descriptor(chan: DmaChan): DmaAsyncTxDescriptor {
  const tx = new DmaAsyncTxDescriptor();
  dmaAsyncTxDescriptorInit(tx, chan);
  return tx;
}

test('cookies count up from the second one', () => {
  const chan = channel();
  chan.cookie = 77;
  dmaCookieInit(chan);
  assert.deepEqual([chan.cookie, chan.completedCookie], [DMA_MIN_COOKIE, DMA_MIN_COOKIE]);
  const tx = descriptor(chan);
  assert.equal(dmaCookieAssign(tx), 2);
  assert.equal(tx.cookie, 2);
  assert.equal(dmaCookieAssign(descriptor(chan)), 3);
});

test('behind the largest cookie comes the smallest', () => {
  const chan = channel();
  chan.cookie = 0x7fff_ffff;
  assert.equal(dmaCookieAssign(descriptor(chan)), DMA_MIN_COOKIE);
});

test('completing zeroes the cookie, and completing twice is a bug', () => {
  const chan = channel();
  const tx = descriptor(chan);
  const cookie = dmaCookieAssign(tx);
  dmaCookieComplete(tx);
  assert.equal(chan.completedCookie, cookie);
  assert.equal(tx.cookie, 0);
  assert.throws(() => dmaCookieComplete(tx), KernelBug);
});

test('completion is told by comparing, across the wrap too', () => {
  for (const [cookie, complete, used, expected] of [
    [3, 5, 9, DMA_COMPLETE],
    [5, 5, 9, DMA_COMPLETE],
    [6, 5, 9, DMA_IN_PROGRESS],
    [9, 5, 9, DMA_IN_PROGRESS],
    // Older than the last wrap.
    [10, 5, 9, DMA_COMPLETE],
    // Submitted: 0x7ffffffe, 0x7fffffff, 1, 2; completed up to 0x7ffffffe.
    [0x7fff_fffe, 0x7fff_fffe, 2, DMA_COMPLETE],
    [0x7fff_ffff, 0x7fff_fffe, 2, DMA_IN_PROGRESS],
    [1, 0x7fff_fffe, 2, DMA_IN_PROGRESS],
    [2, 0x7fff_fffe, 2, DMA_IN_PROGRESS],
    [3, 0x7fff_fffe, 2, DMA_COMPLETE],
  ] as const) {
    assert.equal(dmaAsyncIsComplete(cookie, complete, used), expected, `${cookie} of ${complete}..${used}`);
  }
});

test('the status fills the state, with a residue of zero until the provider sets one', () => {
  const chan = channel();
  chan.completedCookie = 4;
  chan.cookie = 6;
  const state = new DmaTxState();
  state.residue = state.inFlightBytes = 99;
  assert.equal(dmaCookieStatus(chan, 5, state), DMA_IN_PROGRESS);
  assert.deepEqual({ ...state }, { last: 4, used: 6, residue: 0, inFlightBytes: 0 });
  dmaSetResidue(state, 12);
  dmaSetInFlightBytes(state, 8);
  assert.deepEqual([state.residue, state.inFlightBytes], [12, 8]);
  dmaSetResidue(null, 1);
  dmaSetInFlightBytes(null, 1);
  assert.equal(dmaCookieStatus(chan, 4, null), DMA_COMPLETE);
});

test('negative cookies are errors', () => {
  assert.equal(dmaSubmitError(-22), true);
  assert.equal(dmaSubmitError(1), false);
});

test('cookies between two are counted across the wrap', () => {
  assert.equal(cookiesBetween(3, 3), 0);
  assert.equal(cookiesBetween(3, 10), 7);
  // 0x7fffffff, 1, 2
  assert.equal(cookiesBetween(0x7fff_fffe, 2), 3);
});
