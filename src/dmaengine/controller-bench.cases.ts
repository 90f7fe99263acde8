/** What the cases of controller.cases.ts stand on: rigs, buffers, and the steps that many of them take. */
import assert from 'node:assert/strict';
import type { DmaAddr } from '../base/addr.ts';
import { isErr, OK } from '../base/errno.ts';
import { Prng } from '../base/prng.ts';
import {
  Completion,
  complete,
  DMA_BIDIRECTIONAL,
  DMA_FROM_DEVICE,
  DMA_TO_DEVICE,
  type DmaDataDirection,
  GFP_KERNEL,
  type Kernel,
  kfree,
  kmalloc,
  type Mem,
  msleep,
  waitForCompletionTimeout,
} from '../kernel/index.ts';
import { dmaMappingError, dmaMapSingle, dmaUnmapSingle } from '../mapping/index.ts';
import {
  DMA_COMPLETE,
  DMA_CTRL_ACK,
  type DMA_DEV_TO_MEM,
  DMA_IN_PROGRESS,
  type DMA_MEM_TO_DEV,
  DMA_MEMCPY,
  DMA_PREP_INTERRUPT,
  DMA_RESIDUE_GRANULARITY_DESCRIPTOR,
  DMA_TRANS_NOERROR,
  type DmaAsyncTxDescriptor,
  type DmaChan,
  type DmaengineResult,
  type DmaSlaveConfig,
  DmaTxState,
  describeOutstanding,
  dmaAsyncIssuePending,
  dmaCapMask,
  dmaenginePrepDmaMemcpy,
  dmaengineSlaveConfig,
  dmaengineSubmit,
  dmaengineTxStatus,
  dmaReleaseChannel,
  dmaRequestChanByMask,
} from './index.ts';

/** A peripheral with a FIFO behind a DMA request line, as the suite uses it. */
export interface PeripheralRig {
  /** The channel for the direction, not yet configured. */
  request(direction: typeof DMA_MEM_TO_DEV | typeof DMA_DEV_TO_MEM): Promise<DmaChan>;
  readonly config: DmaSlaveConfig;
  /** Bytes that reached it so far. */
  received(): Uint8Array;
  /** Bytes that it will send. */
  feed(bytes: Uint8Array): void;
}

/** A kernel with the controller's driver bound: one for each case. */
export interface ControllerRig {
  readonly kernel: Kernel;
  /** A bus address that nothing decodes. */
  readonly badAddress: number;
  /** Length of a copy that the controller cannot do in one go. */
  readonly longCopyBytes: number;
  readonly peripheral?: PeripheralRig;
  /** Have the hardware stand still (its clock off), where that can be done. */
  freeze?(): void;
}

export const FLAGS = DMA_PREP_INTERRUPT | DMA_CTRL_ACK;
export const SECOND_NS = 1_000_000_000;

/** Buffers, mapped and unmapped in one place. */
export class Bench {
  readonly rig: ControllerRig;
  readonly kernel: Kernel;
  readonly chan: DmaChan;
  readonly #mapped: { mem: Mem; addr: DmaAddr; dir: DmaDataDirection }[] = [];
  readonly #memory: Mem[] = [];

  constructor(rig: ControllerRig, chan: DmaChan) {
    this.rig = rig;
    this.kernel = rig.kernel;
    this.chan = chan;
  }
  alloc(size: number): Mem {
    const mem = kmalloc(this.kernel, size, GFP_KERNEL);
    assert.ok(mem !== null, `kmalloc of ${size} bytes`);
    this.#memory.push(mem);
    return mem;
  }
  random(size: number, seed: number): Mem {
    const mem = this.alloc(size);
    new Prng(seed).fill(mem.bytes);
    return mem;
  }
  map(mem: Mem, dir: DmaDataDirection): DmaAddr {
    const { dev } = this.chan.device;
    const addr = dmaMapSingle(dev, mem, dir);
    assert.equal(dmaMappingError(dev, addr), OK);
    this.#mapped.push({ mem, addr, dir });
    return addr;
  }
  /** Give every buffer back to the CPU. */
  unmapAll(): void {
    for (const { mem, addr, dir } of this.#mapped.splice(0)) dmaUnmapSingle(this.chan.device.dev, addr, mem.size, dir);
  }
  freeAll(): void {
    this.unmapAll();
    for (const mem of this.#memory.splice(0)) kfree(this.kernel, mem);
  }
  completion(): Completion {
    const done = new Completion(this.kernel, 'test');
    done.waitsFor = () => describeOutstanding(this.chan);
    return done;
  }
  /** Issue, and wait for one callback; the test fails instead of hanging. */
  async issueAndWait(done: Completion, timeoutNs = 30 * SECOND_NS): Promise<void> {
    dmaAsyncIssuePending(this.chan);
    const left = await waitForCompletionTimeout(done, timeoutNs);
    assert.ok(left > 0, `not done after ${timeoutNs / SECOND_NS} s: ${describeOutstanding(this.chan)}`);
  }
}

export function prepared(tx: DmaAsyncTxDescriptor | null): DmaAsyncTxDescriptor {
  assert.ok(tx !== null, 'the provider refused to prepare');
  return tx;
}
export function submitted(tx: DmaAsyncTxDescriptor): number {
  const cookie = dmaengineSubmit(tx);
  assert.ok(cookie > 0, `submit gave ${cookie}`);
  return cookie;
}
export const wake = (param: unknown): void => complete(param as Completion);

/** Run `body` as a task with a copy channel; nothing may be reported meanwhile. */
export async function onChannel(rig: ControllerRig, body: (bench: Bench) => Promise<void>): Promise<void> {
  await rig.kernel.run(async () => {
    const chan = await dmaRequestChanByMask(rig.kernel, dmaCapMask(DMA_MEMCPY));
    assert.ok(!isErr(chan), 'a channel that copies');
    const bench = new Bench(rig, chan);
    await body(bench);
    bench.freeAll();
    await dmaReleaseChannel(chan);
  });
  assert.deepEqual(
    rig.kernel.splats.map(({ message }) => message),
    [],
  );
}

/** Copy, and check every byte of both buffers. `guard` bytes on each side of the destination must survive. */
export async function copyAndCheck(bench: Bench, len: number, srcOff: number, dstOff: number): Promise<void> {
  const guard = 64;
  const src = bench.random(srcOff + len, len + 1);
  const dst = bench.alloc(dstOff + len + guard);
  dst.bytes.fill(0x5a);
  const expected = Uint8Array.from(dst.bytes);
  expected.set(src.bytes.subarray(srcOff, srcOff + len), dstOff);
  const from = bench.map(src, DMA_TO_DEVICE);
  const to = bench.map(dst, DMA_BIDIRECTIONAL);
  const done = bench.completion();
  const tx = prepared(
    dmaenginePrepDmaMemcpy(bench.chan, (to + dstOff) as DmaAddr, (from + srcOff) as DmaAddr, len, FLAGS),
  );
  tx.callback = wake;
  tx.callbackParam = done;
  const cookie = submitted(tx);
  await bench.issueAndWait(done);
  assert.equal(dmaengineTxStatus(bench.chan, cookie), DMA_COMPLETE);
  bench.unmapAll();
  const wrong = dst.bytes.findIndex((byte, i) => byte !== expected[i]);
  assert.equal(wrong, -1, `copy of ${len} bytes from +${srcOff} to +${dstOff}: byte ${wrong - dstOff} is wrong`);
  bench.freeAll();
}

export async function alignedTo(bench: Bench): Promise<number> {
  return 2 ** bench.chan.device.copyAlign;
}

/** Copies of `count` pieces of `piece` bytes each, queued at once; the order in which their callbacks came. */
export async function queueMany(
  bench: Bench,
  count: number,
  piece: number,
): Promise<{ order: number[]; cookies: number[] }> {
  const src = bench.random(count * piece, count);
  const dst = bench.alloc(count * piece);
  const from = bench.map(src, DMA_TO_DEVICE);
  const to = bench.map(dst, DMA_FROM_DEVICE);
  const done = bench.completion();
  const order: number[] = [];
  const cookies: number[] = [];
  for (let i = 0; i < count; i++) {
    const at = i * piece;
    const tx = prepared(dmaenginePrepDmaMemcpy(bench.chan, (to + at) as DmaAddr, (from + at) as DmaAddr, piece, FLAGS));
    tx.callback = () => {
      order.push(i);
      if (order.length === count) complete(done);
    };
    cookies.push(submitted(tx));
  }
  await bench.issueAndWait(done, 100 * SECOND_NS);
  bench.unmapAll();
  assert.deepEqual(dst.bytes, src.bytes);
  return { order, cookies };
}

/** A copy long enough that something can be done in its middle. */
export function longCopy(bench: Bench, callback: () => void): { cookie: number; len: number; src: Mem; dst: Mem } {
  const len = 1 << 20;
  const src = bench.random(len, 7);
  const dst = bench.alloc(len);
  dst.bytes.fill(0);
  const from = bench.map(src, DMA_TO_DEVICE);
  const to = bench.map(dst, DMA_FROM_DEVICE);
  const tx = prepared(dmaenginePrepDmaMemcpy(bench.chan, to, from, len, FLAGS));
  tx.callback = callback;
  return { cookie: submitted(tx), len, src, dst };
}

/** Poll until the hardware has begun: the residue moved, or some time passed where it does not say. */
export async function untilBegun(bench: Bench, cookie: number, len: number): Promise<void> {
  const state = new DmaTxState();
  const fine = bench.chan.device.residueGranularity !== DMA_RESIDUE_GRANULARITY_DESCRIPTOR;
  for (let i = 0; i < 200; i++) {
    await msleep(bench.kernel, 0.005);
    const status = dmaengineTxStatus(bench.chan, cookie, state);
    assert.equal(status, DMA_IN_PROGRESS, 'the copy ended before anything could be done in its middle');
    if ((fine && state.residue < len) || (!fine && i >= 2)) return;
  }
  assert.fail('the residue did not move');
}

export async function brokenCopy(
  bench: Bench,
  dst: DmaAddr,
  src: DmaAddr,
  len: number,
): Promise<{ result: number; cookie: number }> {
  const done = bench.completion();
  const outcome: DmaengineResult = { result: DMA_TRANS_NOERROR, residue: 0 };
  const tx = prepared(dmaenginePrepDmaMemcpy(bench.chan, dst, src, len, FLAGS));
  tx.callbackResult = (_param, { result, residue }) => {
    outcome.result = result;
    outcome.residue = residue;
    complete(done);
  };
  const cookie = submitted(tx);
  await bench.issueAndWait(done);
  return { result: outcome.result, cookie };
}

export async function onPeripheral(
  rig: ControllerRig,
  direction: typeof DMA_MEM_TO_DEV | typeof DMA_DEV_TO_MEM,
  body: (bench: Bench, peripheral: PeripheralRig) => Promise<void>,
): Promise<void> {
  const { peripheral, kernel } = rig;
  assert.ok(peripheral !== undefined, 'the rig has no peripheral: skip this case, with the reason');
  await kernel.run(async () => {
    const chan = await peripheral.request(direction);
    assert.equal(dmaengineSlaveConfig(chan, peripheral.config), OK);
    const bench = new Bench(rig, chan);
    await body(bench, peripheral);
    bench.freeAll();
    await dmaReleaseChannel(chan);
  });
  assert.deepEqual(
    kernel.splats.map(({ message }) => message),
    [],
  );
}
