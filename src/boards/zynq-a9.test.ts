import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type DmaAddr, isErr, OK } from '../base/index.ts';
import {
  DMA_COMPLETE,
  DMA_IN_PROGRESS,
  DMA_MEMCPY,
  DMA_PAUSED,
  DMA_PREP_INTERRUPT,
  DMA_TRANS_NOERROR,
  DMA_TRANS_READ_FAILED,
  type DmaChan,
  DmaTxState,
  dmaAsyncIssuePending,
  dmaCapMask,
  dmaenginePause,
  dmaenginePrepDmaMemcpy,
  dmaengineSubmit,
  dmaengineTerminateSync,
  dmaengineTxStatus,
  dmaReleaseChannel,
  dmaRequestChan,
  dmaRequestChannel,
} from '../dmaengine/index.ts';
import { fifoCapture, fifoLoopback } from '../drivers/fifo-client.ts';
import {
  Completion,
  complete,
  freePages,
  GFP_KERNEL,
  getFreePages,
  type Kernel,
  type Mem,
  udelay,
  waitForCompletionTimeout,
} from '../kernel/index.ts';
import type { SimMachine } from '../machine/index.ts';
import { dmaAllocCoherent, dmaFreeCoherent } from '../mapping/index.ts';
import type { BootOptions } from './board.ts';
import type { System } from './system.ts';
import { zynqA9 } from './zynq-a9.ts';

const CONTROLLER = 'f8003000.dma-controller';

async function bootZynq(
  options: BootOptions,
  main: (kernel: Kernel, system: System) => Promise<void>,
): Promise<Kernel> {
  const system = await zynqA9.boot({ ramBytes: 64 << 20, ...options });
  await system.run((kernel) => main(kernel, system));
  assert.deepEqual(await system.close(), { leaks: [], splats: [] });
  return system.kernel;
}
const onZynq = async (...args: Parameters<typeof bootZynq>): Promise<void> => void (await bootZynq(...args));
const anyChannel = async (kernel: Kernel): Promise<DmaChan> =>
  (await dmaRequestChannel(kernel, dmaCapMask(DMA_MEMCPY)))!;
const pages = (kernel: Kernel, order: number): Mem => getFreePages(kernel, GFP_KERNEL, order)!;
const lines = (kernel: Kernel): string[] => kernel.log.lines.map(({ text }) => text);

/** Submit a copy (in coherent mode: by physical addresses); gives its cookie and, later, its result. */
function copy(chan: DmaChan, dst: number, src: number, size: number) {
  const tx = dmaenginePrepDmaMemcpy(chan, dst as DmaAddr, src as DmaAddr, size, DMA_PREP_INTERRUPT)!;
  const done = new Completion(chan.device.kernel);
  const seen = { result: -1, residue: -1, done, cookie: 0 };
  tx.callbackResult = (_param, { result, residue }) => {
    seen.result = result;
    seen.residue = residue;
    complete(done);
  };
  seen.cookie = dmaengineSubmit(tx);
  dmaAsyncIssuePending(chan);
  return seen;
}
const arrived = async ({ done }: { done: Completion }): Promise<void> =>
  assert.ok((await waitForCompletionTimeout(done, 1e9)) > 0, 'not done within a second');

test('the driver finds the controller as it is built, and lets go of everything', async () => {
  const kernel = await bootZynq({}, async () => {});
  const text = lines(kernel);
  assert.ok(
    text.some((line) => line.endsWith('Loaded driver for PL330 DMAC-241330')),
    text.join('\n'),
  );
  assert.ok(text.some((line) => line.endsWith('DBUFF-128x8bytes Num_Chans-8 Num_Peri-4 Num_Events-16')));
});

test('all eight channels copy side by side', () =>
  onZynq({ mode: 'coherent' }, async (kernel, { machine }) => {
    const [src, dst] = [pages(kernel, 7), pages(kernel, 7)];
    for (let i = 0; i < src.size; i++) src.bytes[i] = (i * 7) >> 4;
    const chans: DmaChan[] = [];
    for (let i = 0; i < 8; i++) chans.push(await anyChannel(kernel));
    assert.equal(await dmaRequestChannel(kernel, dmaCapMask(DMA_MEMCPY)), null);
    const part = src.size / 8;
    const alone = copy(chans[0]!, dst.phys, src.phys, part);
    const startNs = machine.now();
    await arrived(alone);
    const aloneNs = machine.now() - startNs;
    const together = chans.map((chan, i) => copy(chan, dst.phys + part * i, src.phys + part * i, part));
    for (const one of together) await arrived(one);
    const ratio = (machine.now() - startNs - aloneNs) / aloneNs;
    assert.ok(ratio > 7 && ratio < 9, `eight copies take ${ratio} times one`);
    assert.deepEqual(dst.bytes, src.bytes);
    for (const chan of chans) await dmaReleaseChannel(chan);
    freePages(kernel, src, 7);
    freePages(kernel, dst, 7);
  }));

test('residue follows the running program, and what waits has its whole length', () =>
  onZynq({ mode: 'coherent' }, async (kernel) => {
    const chan = await anyChannel(kernel);
    const [src, dst] = [pages(kernel, 6), pages(kernel, 6)];
    const state = new DmaTxState();
    const running = copy(chan, dst.phys, src.phys, src.size);
    const waiting = copy(chan, dst.phys, src.phys, 4096);
    const last = copy(chan, dst.phys, src.phys, 512);
    let before = src.size + 1;
    for (let round = 0; round < 20; round++) {
      assert.equal(dmaengineTxStatus(chan, running.cookie, state), DMA_IN_PROGRESS);
      assert.ok(state.residue < before && state.residue > 0, `${state.residue} after ${before}`);
      before = state.residue;
      assert.equal(dmaengineTxStatus(chan, waiting.cookie, state), DMA_IN_PROGRESS);
      assert.equal(state.residue, 4096);
      assert.equal(dmaengineTxStatus(chan, last.cookie, state), DMA_IN_PROGRESS);
      assert.equal(state.residue, 512);
      udelay(kernel, 12);
    }
    await arrived(last);
    assert.equal(dmaengineTxStatus(chan, running.cookie, state), DMA_COMPLETE);
    assert.equal(state.residue, 0);
    await dmaReleaseChannel(chan);
    freePages(kernel, src, 6);
    freePages(kernel, dst, 6);
  }));

test('a pause keeps the residue for reading, and only terminate ends it', () =>
  onZynq({ mode: 'coherent' }, async (kernel) => {
    const chan = await anyChannel(kernel);
    const [src, dst] = [pages(kernel, 6), pages(kernel, 6)];
    const state = new DmaTxState();
    const paused = copy(chan, dst.phys, src.phys, src.size);
    udelay(kernel, 100);
    assert.equal(dmaenginePause(chan), OK);
    assert.equal(dmaengineTxStatus(chan, paused.cookie, state), DMA_PAUSED);
    const { residue } = state;
    assert.ok(residue > 0 && residue < src.size, `residue ${residue}`);
    const behind = copy(chan, dst.phys, src.phys, 64);
    udelay(kernel, 1000);
    assert.equal(dmaengineTxStatus(chan, paused.cookie, state), DMA_PAUSED);
    assert.equal(state.residue, residue);
    assert.equal(await dmaengineTerminateSync(chan), OK);
    assert.deepEqual([paused.result, behind.result], [-1, -1]);
    const again = copy(chan, dst.phys, src.phys, 64);
    await arrived(again);
    assert.equal(again.result, DMA_TRANS_NOERROR);
    await dmaReleaseChannel(chan);
    freePages(kernel, src, 6);
    freePages(kernel, dst, 6);
  }));

test('a bus error in the middle ends its transfer alone, with result, residue and a line in the log', async () => {
  const kernel = await bootZynq({ mode: 'coherent' }, async (kernel, { machine }) => {
    const chan = await anyChannel(kernel);
    const [src, dst] = [pages(kernel, 4), pages(kernel, 4)];
    src.bytes.fill(7);
    dst.bytes.fill(0);
    (machine as SimMachine).faults.failBusAccess(CONTROLLER, src.phys + 20_000);
    const broken = copy(chan, dst.phys, src.phys, src.size);
    const queued = copy(chan, dst.phys + 40_000, src.phys, 1000);
    await arrived(queued);
    assert.deepEqual([broken.result, queued.result], [DMA_TRANS_READ_FAILED, DMA_TRANS_NOERROR]);
    assert.equal(broken.residue, src.size - 20_000 + (20_000 % 128));
    assert.ok(dst.bytes.subarray(0, 19_968).every((byte) => byte === 7));
    assert.ok(dst.bytes.subarray(20_000, 40_000).every((byte) => byte === 0));
    assert.ok(dst.bytes.subarray(40_000, 41_000).every((byte) => byte === 7));
    await dmaReleaseChannel(chan);
    freePages(kernel, src, 4);
    freePages(kernel, dst, 4);
  });
  const aborted = lines(kernel).find((line) => line.includes('aborted'));
  assert.match(aborted ?? '', /channel thread 0 aborted: DATA_READ_ERR at program counter 0x[0-9a-f]+/);
});

test('a lost interrupt leaves a channel that terminate brings back', () =>
  onZynq({ mode: 'coherent' }, async (kernel, { machine }) => {
    const chan = await anyChannel(kernel);
    const [src, dst] = [pages(kernel, 0), pages(kernel, 0)];
    (machine as SimMachine).faults.loseInterrupts(32 + 14, 1);
    const lost = copy(chan, dst.phys, src.phys, 4096);
    assert.equal(await waitForCompletionTimeout(lost.done, 1e6), 0);
    assert.equal(await dmaengineTerminateSync(chan), OK);
    const next = copy(chan, dst.phys, src.phys, 4096);
    await arrived(next);
    assert.deepEqual([lost.result, next.result], [-1, DMA_TRANS_NOERROR]);
    await dmaReleaseChannel(chan);
    freePages(kernel, src, 0);
    freePages(kernel, dst, 0);
  }));

for (const mode of ['coherent', 'noncoherent']) {
  test(`samples go through the FIFO port and back, in bursts and one by one, ${mode}`, () =>
    onZynq({ mode }, async (kernel) => {
      const port = kernel.devices.find(({ name }) => name.endsWith('serial-port'))!;
      for (const burst of [1, 4, 16]) {
        const [tx, rx] = [pages(kernel, 1), pages(kernel, 1)];
        for (let i = 0; i < tx.size; i++) tx.bytes[i] = (i * 13) >> 2;
        const result = await fifoLoopback(port, tx, rx, { burst, pieces: 2 });
        assert.deepEqual(result, { error: OK, status: 0, txResidue: 0, rxResidue: 0 }, `bursts of ${burst}`);
        assert.deepEqual(rx.bytes, tx.bytes);
        freePages(kernel, tx, 1);
        freePages(kernel, rx, 1);
      }
    }));
}

test('a ring of periods is captured without a gap while all other channels copy', () =>
  onZynq({ mode: 'coherent' }, async (kernel) => {
    const port = kernel.devices.find(({ name }) => name.endsWith('serial-port'))!;
    const controller = kernel.devices.find(({ name }) => name === CONTROLLER)!;
    const ring = dmaAllocCoherent(controller, 4096, GFP_KERNEL)!;
    const [src, dst] = [pages(kernel, 8), pages(kernel, 8)];
    const isCopier = (chan: DmaChan): boolean => chan.chanId >= 4;
    const chans: DmaChan[] = [];
    for (let i = 0; i < 4; i++) chans.push((await dmaRequestChannel(kernel, dmaCapMask(DMA_MEMCPY), isCopier))!);
    for (const chan of chans) copy(chan, dst.phys, src.phys, src.size);
    const words: number[] = [];
    const onPeriod = (period: number): void => {
      for (let i = 0; i < 256; i++) words.push(ring.mem.readU32((period % 4) * 1024 + 4 * i));
    };
    const { error, status } = await fifoCapture(port, ring, 1024, 10, onPeriod, { rateHz: 500_000 });
    assert.deepEqual([error, status], [OK, 0]);
    assert.equal(words.length, 2560);
    assert.ok(words.every((word, i) => word === i));
    for (const chan of chans) {
      assert.equal(await dmaengineTerminateSync(chan), OK);
      await dmaReleaseChannel(chan);
    }
    dmaFreeCoherent(controller, 4096, ring.mem, ring.handle);
    freePages(kernel, src, 8);
    freePages(kernel, dst, 8);
  }));

test('a name in the tree that the controller does not have gives no channel', () =>
  onZynq({}, async (kernel) => {
    const port = kernel.devices.find(({ name }) => name.endsWith('serial-port'))!;
    assert.ok(isErr(await dmaRequestChan(port, 'third')));
  }));
