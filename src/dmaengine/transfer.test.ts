import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DmaAddr } from '../base/addr.ts';
import { EINVAL } from '../base/errno.ts';
import {
  Completion,
  DMA_BIDIRECTIONAL,
  DMA_TO_DEVICE,
  GFP_KERNEL,
  type Kernel,
  kmalloc,
  kzalloc,
  type Mem,
  waitForCompletion,
  waitForCompletionTimeout,
} from '../kernel/index.ts';
import { dmaMapSingle, dmaUnmapSingle } from '../mapping/index.ts';

import { DMA_MEMCPY, dmaCapMask } from './cap-mask.ts';
import { dmaReleaseChannel, dmaRequestChannel } from './channel-request.ts';
import { DmaTxState } from './cookie.ts';
import type { DmaAsyncTxDescriptor } from './descriptor.ts';

import type { FakeChan, FakeDmaDevice, FakeOptions } from './fake-provider.cases.ts';
import type { DmaengineObserver } from './observer.ts';
import { dmaenginePrepDmaMemcpy } from './prep.ts';
import { makeKernel, makeProvider } from './rig.cases.ts';
import { dmaengineSlaveConfig } from './slave-config.ts';

import { dmaenginePause, dmaengineResume, dmaengineTerminateSync } from './terminate.ts';
import { TransferError, transfer } from './transfer.ts';
import { dmaAsyncIssuePending, dmaengineSubmit, dmaengineTxStatus, dmaSyncWait } from './tx-status.ts';
import { DMA_COMPLETE, DMA_CTRL_ACK, DMA_IN_PROGRESS, DMA_PREP_INTERRUPT, DMA_TRANS_READ_FAILED } from './types.ts';

const FLAGS = DMA_PREP_INTERRUPT | DMA_CTRL_ACK;
interface Bench {
  readonly kernel: Kernel;
  readonly device: FakeDmaDevice;
  readonly chan: FakeChan;
  readonly src: Mem;
  readonly dst: Mem;
  readonly from: DmaAddr;
  readonly to: DmaAddr;
}
/** Run with a channel and two mapped buffers of 4 KiB on a coherent machine. */
function bench(body: (bench: Bench) => Promise<void> | void, options: FakeOptions = {}): () => Promise<void> {
  return async () => {
    const kernel = makeKernel();
    const device = makeProvider(kernel, options);
    await kernel.run(async () => {
      const chan = (await dmaRequestChannel(kernel, dmaCapMask(DMA_MEMCPY))) as FakeChan;
      const src = kmalloc(kernel, 4096, GFP_KERNEL)!;
      const dst = kzalloc(kernel, 4096, GFP_KERNEL)!;
      for (let i = 0; i < 4096; i++) src.bytes[i] = i * 7;
      const from = dmaMapSingle(device.dev, src, DMA_TO_DEVICE);
      const to = dmaMapSingle(device.dev, dst, DMA_BIDIRECTIONAL);
      await body({ kernel, device, chan, src, dst, from, to });
    });
  };
}
const copy = ({ chan, to, from }: Bench, len = 4096): DmaAsyncTxDescriptor =>
  dmaenginePrepDmaMemcpy(chan, to, from, len, FLAGS)!;

test('an observer sees a transfer from request to release', async () => {
  const kernel = makeKernel();
  const device = makeProvider(kernel);
  const events: string[] = [];
  const observer: DmaengineObserver = {
    request: (chan, client) => events.push(`request ${chan.name} ${client}`),
    config: () => events.push('config'),
    prep: (_chan, kind, tx, len) => events.push(`prep ${kind} ${len} ${tx !== null}`),
    submit: (_chan, _tx, cookie) => events.push(`submit ${cookie}`),
    issuePending: () => events.push('issue'),
    complete: (_chan, _tx, cookie) => events.push(`complete ${cookie}`),
    callback: (_chan, _tx, result) => events.push(`callback ${result}`),
    pause: () => events.push('pause'),
    resume: () => events.push('resume'),
    terminate: () => events.push('terminate'),
    synchronize: () => events.push('synchronize'),
    release: (chan) => events.push(`release ${chan.name}`),
  };
  kernel.dmaengineObserver = observer;
  await kernel.run(async () => {
    const chan = (await dmaRequestChannel(kernel, dmaCapMask(DMA_MEMCPY)))!;
    const mem = kmalloc(kernel, 64, GFP_KERNEL)!;
    const at = dmaMapSingle(device.dev, mem, DMA_BIDIRECTIONAL);
    dmaengineSlaveConfig(chan, {});
    await transfer(chan, { kind: 'copy', dst: (at + 32) as DmaAddr, src: at, len: 8 });
    dmaenginePause(chan);
    dmaengineResume(chan);
    await dmaengineTerminateSync(chan);
    await dmaReleaseChannel(chan);
  });
  assert.deepEqual(events, [
    ...['request dma0chan0 null', 'config', 'prep memcpy 8 true', 'submit 2', 'issue', 'complete 2', 'callback 0'],
    ...['pause', 'resume', 'terminate', 'synchronize', 'synchronize', 'release dma0chan0'],
  ]);
});

test(
  'transfer copies and fills, and returns when it is done',
  bench(async ({ chan, src, dst, from, to }) => {
    await transfer(chan, { kind: 'copy', dst: to, src: from, len: 4096 });
    assert.deepEqual(dst.bytes, src.bytes);
    await transfer(chan, { kind: 'fill', dst: to, value: 7, len: 10, timeoutNs: 1e9 });
    assert.ok(dst.bytes.subarray(0, 10).every((byte) => byte === 7));
  }),
);

test(
  'transfer throws what went wrong: refused, failed, timed out',
  bench(async ({ chan, device, to, from, dst }) => {
    const copyOf = (src: number) =>
      transfer(chan, { kind: 'copy', dst: to, src: src as DmaAddr, len: 4096, timeoutNs: 1e8 });
    device.refusals = 1;
    await assert.rejects(copyOf(from), {
      name: 'TransferError',
      errno: EINVAL,
      message: /copy on dma0chan0: the provider cannot/,
    });
    await assert.rejects(copyOf(0x9000_0000), (error: unknown) => {
      assert.ok(error instanceof TransferError);
      assert.deepEqual([error.result, error.residue], [DMA_TRANS_READ_FAILED, 4096]);
      assert.match(error.message, /read failed, 4096 bytes not transferred/);
      return true;
    });
    device.stuck = true;
    await assert.rejects(copyOf(from), /not done after 100000000 ns/);
    assert.equal(chan.active, null, 'it was terminated');
    assert.ok(dst.bytes.every((byte) => byte === 0));
  }),
);

test('a hung wait for a plain completion names every channel with something unissued', async () => {
  const kernel = makeKernel();
  const device = makeProvider(kernel, { channels: 2 });
  const run = kernel.run(async () => {
    const [a, b] = [
      (await dmaRequestChannel(kernel, dmaCapMask(DMA_MEMCPY)))!,
      (await dmaRequestChannel(kernel, dmaCapMask(DMA_MEMCPY)))!,
    ];
    const mem = kmalloc(kernel, 64, GFP_KERNEL)!;
    const at = dmaMapSingle(device.dev, mem, DMA_BIDIRECTIONAL);
    for (let i = 0; i < 3; i++) dmaengineSubmit(dmaenginePrepDmaMemcpy(b, (at + 32) as DmaAddr, at, 8, FLAGS)!);
    dmaSyncWait(a, dmaengineSubmit(dmaenginePrepDmaMemcpy(a, (at + 32) as DmaAddr, at, 8, FLAGS)!));
    dmaengineSubmit(dmaenginePrepDmaMemcpy(a, (at + 32) as DmaAddr, at, 8, FLAGS)!);
    await waitForCompletion(new Completion(kernel, 'my own'));
  });
  await assert.rejects(run, (error: Error) => {
    assert.match(error.message, /completion 'my own'/);
    assert.match(error.message, /^1 descriptor submitted on dma0chan0, issue_pending not called since$/m);
    assert.match(error.message, /^3 descriptors submitted on dma0chan1, issue_pending never called$/m);
    return true;
  });
});

test('a transfer that hangs says what its channel waits for', async () => {
  const kernel = makeKernel();
  const device = makeProvider(kernel);
  device.stuck = true;
  const run = kernel.run(async () => {
    const chan = (await dmaRequestChannel(kernel, dmaCapMask(DMA_MEMCPY)))!;
    const mem = kmalloc(kernel, 64, GFP_KERNEL)!;
    const at = dmaMapSingle(device.dev, mem, DMA_BIDIRECTIONAL);
    await transfer(chan, { kind: 'copy', dst: (at + 32) as DmaAddr, src: at, len: 8 });
  });
  await assert.rejects(run, /1 descriptor issued on dma0chan0, not complete/);
});

test(
  'residue is that of the asked cookie',
  bench(async (set) => {
    const { chan, kernel } = set;
    const first = dmaengineSubmit(copy(set, 4000));
    const second = dmaengineSubmit(copy(set, 100));
    const done = new Completion(kernel, 'never');
    dmaAsyncIssuePending(chan);
    const state = new DmaTxState();
    assert.equal(dmaengineTxStatus(chan, second, state), DMA_IN_PROGRESS);
    assert.deepEqual([state.residue, state.last, state.used], [100, first - 1, second]);
    dmaengineTxStatus(chan, first, state);
    assert.equal(state.residue, 4000);
    await waitForCompletionTimeout(done, 1e6);
    assert.equal(dmaengineTxStatus(chan, first, state), DMA_COMPLETE);
    assert.equal(state.residue, 0);
    dmaUnmapSingle(chan.device.dev, set.from, 4096, DMA_TO_DEVICE);
  }),
);
