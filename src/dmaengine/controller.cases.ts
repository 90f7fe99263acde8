/**
 * What every controller driver must do, whatever its hardware. A driver's test makes a rig (a kernel on a machine with
 * the controller bound) and runs these cases; it skips one only with a reason.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DmaAddr } from '../base/addr.ts';
import { isErr, OK } from '../base/errno.ts';
import { Prng } from '../base/prng.ts';
import { complete, DMA_FROM_DEVICE, DMA_TO_DEVICE, KernelPanic, msleep, waitForCompletion } from '../kernel/index.ts';
import { dmaMapSg, dmaUnmapSg, sgAlloc, sgAt, sgInitTable, sgSetBuf } from '../mapping/index.ts';
import {
  alignedTo,
  Bench,
  brokenCopy,
  type ControllerRig,
  copyAndCheck,
  FLAGS,
  longCopy,
  onChannel,
  onPeripheral,
  prepared,
  queueMany,
  submitted,
  untilBegun,
  wake,
} from './controller-bench.cases.ts';
import {
  DMA_COMPLETE,
  DMA_CTRL_ACK,
  DMA_CYCLIC,
  DMA_DEV_TO_MEM,
  DMA_ERROR,
  DMA_IN_PROGRESS,
  DMA_MEM_TO_DEV,
  DMA_MEMCPY,
  DMA_PAUSED,
  DMA_RESIDUE_GRANULARITY_DESCRIPTOR,
  DMA_TRANS_NOERROR,
  DmaTxState,
  dmaAsyncIssuePending,
  dmaCapMask,
  dmaDevices,
  dmaenginePause,
  dmaenginePrepDmaCyclic,
  dmaenginePrepDmaMemcpy,
  dmaenginePrepSlaveSg,
  dmaenginePrepSlaveSingle,
  dmaengineResume,
  dmaengineSynchronize,
  dmaengineTerminateAsync,
  dmaengineTerminateSync,
  dmaengineTxStatus,
  dmaHasCap,
  dmaReleaseChannel,
  dmaRequestChanByMask,
} from './index.ts';

export type { ControllerRig, PeripheralRig } from './controller-bench.cases.ts';

/** The cases by name. */
export type ControllerCase = keyof typeof cases;

/** Run the suite for one driver. `skips`: case → why it does not apply. */
export function controllerCases(
  name: string,
  makeRig: () => Promise<ControllerRig> | ControllerRig,
  skips: Partial<Record<ControllerCase, string>> = {},
): void {
  for (const [title, body] of Object.entries(cases)) {
    test(`${name}: ${title}`, { skip: skips[title as ControllerCase] ?? false }, async () => {
      const rig = await makeRig();
      await body(rig);
    });
  }
}

const cases = {
  'it is registered with a copying channel': (rig: ControllerRig) =>
    onChannel(rig, async ({ chan, kernel }) => {
      assert.match(chan.name, /^dma\d+chan\d+$/);
      assert.ok(dmaDevices(kernel).includes(chan.device));
      assert.ok(dmaHasCap(DMA_MEMCPY, chan.device.capMask));
      assert.equal(chan.clientCount, 1);
    }),

  'copies of 1 byte to 64 KiB and beyond are exact': (rig: ControllerRig) =>
    onChannel(rig, async (bench) => {
      const unit = await alignedTo(bench);
      for (const len of [
        1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 33, 63, 64, 65, 255, 256, 1000, 4095, 4096, 4097, 65535, 65536, 65537,
        100_003,
      ]) {
        if (len % unit === 0) await copyAndCheck(bench, len, 0, 0);
      }
    }),

  'unaligned sources, destinations and lengths are exact, down to one byte': (rig: ControllerRig) =>
    onChannel(rig, async (bench) => {
      const unit = await alignedTo(bench);
      for (let srcOff = 0; srcOff < 8; srcOff += unit) {
        for (let dstOff = 0; dstOff < 8; dstOff += unit) {
          for (const len of [1, 2, 5, 8, 13, 64, 67, 133]) {
            if (len % unit === 0) await copyAndCheck(bench, len, srcOff, dstOff);
          }
        }
      }
      const prng = new Prng(4711);
      for (let i = 0; i < 60; i++) {
        const [len, srcOff, dstOff] = [prng.between(1, 9000), prng.below(4096), prng.below(4096)].map(
          (n) => n - (n % unit),
        );
        if (len! > 0) await copyAndCheck(bench, len!, srcOff!, dstOff!);
      }
    }),

  'a copy longer than the hardware takes in one go is split': (rig: ControllerRig) =>
    onChannel(rig, async (bench) => {
      const unit = await alignedTo(bench);
      await copyAndCheck(bench, rig.longCopyBytes, 0, 0);
      if (unit === 1) await copyAndCheck(bench, rig.longCopyBytes + 5, 3, 1);
    }),

  'nothing moves before issue_pending': (rig: ControllerRig) =>
    onChannel(rig, async (bench) => {
      let called = 0;
      const { cookie, dst } = longCopy(bench, () => called++);
      await msleep(bench.kernel, 50);
      assert.equal(dmaengineTxStatus(bench.chan, cookie), DMA_IN_PROGRESS);
      assert.equal(called, 0);
      bench.unmapAll();
      assert.ok(dst.bytes.every((byte) => byte === 0));
      assert.equal(await dmaengineTerminateSync(bench.chan), OK);
    }),

  'a hang without issue_pending is reported with the descriptors': async (rig: ControllerRig) => {
    let name = '';
    const run = onChannel(rig, async (bench) => {
      name = bench.chan.name;
      for (let i = 0; i < 3; i++) longCopy(bench, () => {});
      await waitForCompletion(bench.completion());
    });
    await assert.rejects(run, (error: Error) => {
      assert.equal(error.name, 'HungTaskError');
      assert.ok(
        error.message.includes(`3 descriptors submitted on ${name}, issue_pending never called`),
        error.message,
      );
      return true;
    });
  },

  'callbacks come in the order of submission, cookies too': (rig: ControllerRig) =>
    onChannel(rig, async (bench) => {
      const { order, cookies } = await queueMany(bench, 50, 256);
      assert.deepEqual(
        order,
        Array.from({ length: 50 }, (_, i) => i),
      );
      for (let i = 1; i < cookies.length; i++) assert.equal(cookies[i], cookies[i - 1]! + 1);
      for (const cookie of cookies) assert.equal(dmaengineTxStatus(bench.chan, cookie), DMA_COMPLETE);
    }),

  '10,000 descriptors may be queued at once': (rig: ControllerRig) =>
    onChannel(rig, async (bench) => {
      const { order } = await queueMany(bench, 10_000, 16);
      assert.equal(order.length, 10_000);
      assert.ok(order.every((value, i) => value === i));
    }),

  'a callback may submit again': (rig: ControllerRig) =>
    onChannel(rig, async (bench) => {
      const { chan } = bench;
      const src = bench.random(4096, 3);
      const dst = bench.alloc(4096);
      const from = bench.map(src, DMA_TO_DEVICE);
      const to = bench.map(dst, DMA_FROM_DEVICE);
      const done = bench.completion();
      let rounds = 0;
      const next = (): void => {
        if (rounds === 20) {
          complete(done);
          return;
        }
        const at = 200 * rounds++;
        const tx = prepared(dmaenginePrepDmaMemcpy(chan, (to + at) as DmaAddr, (from + at) as DmaAddr, 200, FLAGS));
        tx.callback = next;
        submitted(tx);
        dmaAsyncIssuePending(chan);
      };
      next();
      await bench.issueAndWait(done);
      bench.unmapAll();
      assert.deepEqual(dst.bytes.subarray(0, 4000), src.bytes.subarray(0, 4000));
    }),

  'without DMA_PREP_INTERRUPT a copy is done all the same': (rig: ControllerRig) =>
    onChannel(rig, async (bench) => {
      const src = bench.random(512, 9);
      const dst = bench.alloc(512);
      const from = bench.map(src, DMA_TO_DEVICE);
      const to = bench.map(dst, DMA_FROM_DEVICE);
      const cookie = submitted(prepared(dmaenginePrepDmaMemcpy(bench.chan, to, from, 512, DMA_CTRL_ACK)));
      dmaAsyncIssuePending(bench.chan);
      for (let i = 0; dmaengineTxStatus(bench.chan, cookie) !== DMA_COMPLETE; i++) {
        assert.ok(i < 1000, 'never complete');
        await msleep(bench.kernel, 1);
      }
      bench.unmapAll();
      assert.deepEqual(dst.bytes, src.bytes);
    }),

  'the residue moves down while a copy runs, and is zero in the end': (rig: ControllerRig) =>
    onChannel(rig, async (bench) => {
      const done = bench.completion();
      const { cookie, len } = longCopy(bench, () => complete(done));
      const state = new DmaTxState();
      dmaAsyncIssuePending(bench.chan);
      let last = len;
      let steps = 0;
      while (dmaengineTxStatus(bench.chan, cookie, state) === DMA_IN_PROGRESS) {
        assert.ok(state.residue <= last, `residue grew from ${last} to ${state.residue}`);
        if (state.residue < last) steps++;
        last = state.residue;
        await msleep(bench.kernel, 0.02);
      }
      assert.equal(state.residue, 0);
      if (bench.chan.device.residueGranularity !== DMA_RESIDUE_GRANULARITY_DESCRIPTOR)
        assert.ok(steps >= 3, `${steps} steps`);
      await bench.issueAndWait(done);
    }),

  'terminated in the middle: no callback comes, and the channel works on': (rig: ControllerRig) =>
    onChannel(rig, async (bench) => {
      let called = 0;
      const { cookie, len } = longCopy(bench, () => called++);
      longCopy(bench, () => called++);
      dmaAsyncIssuePending(bench.chan);
      await untilBegun(bench, cookie, len);
      assert.equal(await dmaengineTerminateSync(bench.chan), OK);
      bench.freeAll();
      await msleep(bench.kernel, 100);
      assert.equal(called, 0);
      await copyAndCheck(bench, 4096, 0, 0);
    }),

  'terminate_async needs no sleep, synchronize makes it final': (rig: ControllerRig) =>
    onChannel(rig, async (bench) => {
      let called = 0;
      const done = bench.completion();
      // From a callback, as audio drivers do.
      const src = bench.random(64, 1);
      const from = bench.map(src, DMA_TO_DEVICE);
      const to = bench.map(bench.alloc(64), DMA_FROM_DEVICE);
      const tx = prepared(dmaenginePrepDmaMemcpy(bench.chan, to, from, 64, FLAGS));
      tx.callback = () => {
        assert.equal(dmaengineTerminateAsync(bench.chan), OK);
        complete(done);
      };
      submitted(tx);
      longCopy(bench, () => called++);
      await bench.issueAndWait(done);
      await dmaengineSynchronize(bench.chan);
      await msleep(bench.kernel, 100);
      assert.equal(called, 0);
      bench.freeAll();
      await copyAndCheck(bench, 100, 0, 0);
    }),

  'paused it stands still, resumed it ends exactly': (rig: ControllerRig) =>
    onChannel(rig, async (bench) => {
      const done = bench.completion();
      const { cookie, len, src, dst } = longCopy(bench, () => complete(done));
      dmaAsyncIssuePending(bench.chan);
      await untilBegun(bench, cookie, len);
      assert.equal(dmaenginePause(bench.chan), OK);
      // What was under way may still arrive.
      await msleep(bench.kernel, 1);
      const state = new DmaTxState();
      assert.equal(dmaengineTxStatus(bench.chan, cookie, state), DMA_PAUSED);
      const { residue } = state;
      await msleep(bench.kernel, 50);
      assert.equal(dmaengineTxStatus(bench.chan, cookie, state), DMA_PAUSED);
      assert.equal(state.residue, residue);
      assert.equal(dmaengineResume(bench.chan), OK);
      await bench.issueAndWait(done);
      bench.unmapAll();
      assert.deepEqual(dst.bytes, src.bytes);
    }),

  'released while busy, without terminate: the hardware is stopped, nothing calls back': async (rig: ControllerRig) => {
    let called = 0;
    await rig.kernel.run(async () => {
      const chan = await dmaRequestChanByMask(rig.kernel, dmaCapMask(DMA_MEMCPY));
      assert.ok(!isErr(chan));
      const bench = new Bench(rig, chan);
      const { cookie, len, dst } = longCopy(bench, () => called++);
      longCopy(bench, () => called++);
      dmaAsyncIssuePending(chan);
      await untilBegun(bench, cookie, len);
      await dmaReleaseChannel(chan);
      bench.unmapAll();
      const after = Uint8Array.from(dst.bytes);
      await msleep(rig.kernel, 100);
      assert.deepEqual(dst.bytes, after, 'the buffer changed after the channel was released');
      bench.freeAll();
    });
    assert.equal(called, 0);
    await onChannel(rig, (bench) => copyAndCheck(bench, 1000, 0, 0));
  },

  'a channel may be terminated, released and taken again': async (rig: ControllerRig) => {
    let called = 0;
    await onChannel(rig, async (bench) => {
      const { cookie, len } = longCopy(bench, () => called++);
      dmaAsyncIssuePending(bench.chan);
      await untilBegun(bench, cookie, len);
      assert.equal(await dmaengineTerminateSync(bench.chan), OK);
    });
    await onChannel(rig, (bench) => copyAndCheck(bench, 1000, 0, 0));
    assert.equal(called, 0);
  },

  'a callback that throws ends the run with its error': async (rig: ControllerRig) => {
    const mistake = new Error('a mistake in a callback');
    const run = onChannel(rig, async (bench) => {
      longCopy(bench, () => {
        throw mistake;
      });
      dmaAsyncIssuePending(bench.chan);
      await msleep(bench.kernel, 1000);
    });
    await assert.rejects(run, (error: Error) => error instanceof KernelPanic && error.cause === mistake);
  },

  'a source that nothing decodes gives an error result, and the channel works on': (rig: ControllerRig) =>
    onChannel(rig, async (bench) => {
      const to = bench.map(bench.alloc(256), DMA_FROM_DEVICE);
      const { result, cookie } = await brokenCopy(bench, to, rig.badAddress as DmaAddr, 256);
      assert.notEqual(result, DMA_TRANS_NOERROR);
      assert.equal(dmaengineTxStatus(bench.chan, cookie), DMA_ERROR);
      bench.freeAll();
      await copyAndCheck(bench, 300, 0, 0);
    }),

  'a destination that nothing decodes gives an error result, and the channel works on': (rig: ControllerRig) =>
    onChannel(rig, async (bench) => {
      const from = bench.map(bench.random(256, 2), DMA_TO_DEVICE);
      const { result, cookie } = await brokenCopy(bench, rig.badAddress as DmaAddr, from, 256);
      assert.notEqual(result, DMA_TRANS_NOERROR);
      assert.equal(dmaengineTxStatus(bench.chan, cookie), DMA_ERROR);
      bench.freeAll();
      await copyAndCheck(bench, 300, 0, 0);
    }),

  'what is queued behind a failed copy still runs': (rig: ControllerRig) =>
    onChannel(rig, async (bench) => {
      const { chan } = bench;
      const src = bench.random(128, 5);
      const dst = bench.alloc(128);
      const from = bench.map(src, DMA_TO_DEVICE);
      const to = bench.map(dst, DMA_FROM_DEVICE);
      const done = bench.completion();
      const results: number[] = [];
      for (const [d, s] of [
        [to, rig.badAddress],
        [to, from],
      ] as const) {
        const tx = prepared(dmaenginePrepDmaMemcpy(chan, d, s as DmaAddr, 128, FLAGS));
        tx.callbackResult = (_param, { result }) => {
          results.push(result);
          if (results.length === 2) complete(done);
        };
        submitted(tx);
      }
      await bench.issueAndWait(done);
      bench.unmapAll();
      assert.notEqual(results[0], DMA_TRANS_NOERROR);
      assert.equal(results[1], DMA_TRANS_NOERROR);
      assert.deepEqual(dst.bytes, src.bytes);
    }),

  'a buffer goes to a FIFO, byte for byte': (rig: ControllerRig) =>
    onPeripheral(rig, DMA_MEM_TO_DEV, async (bench, { received }) => {
      const src = bench.random(1024, 11);
      const from = bench.map(src, DMA_TO_DEVICE);
      const done = bench.completion();
      const tx = prepared(dmaenginePrepSlaveSingle(bench.chan, from, 1024, DMA_MEM_TO_DEV, FLAGS));
      tx.callback = wake;
      tx.callbackParam = done;
      submitted(tx);
      await bench.issueAndWait(done);
      assert.deepEqual(Uint8Array.from(received()), Uint8Array.from(src.bytes));
    }),

  'a scatterlist is filled from a FIFO in order': (rig: ControllerRig) =>
    onPeripheral(rig, DMA_DEV_TO_MEM, async (bench, { feed }) => {
      const sizes = [64, 256, 4, 700];
      const total = sizes.reduce((sum, size) => sum + size, 0);
      const data = new Uint8Array(total);
      new Prng(17).fill(data);
      feed(data);
      const parts = sizes.map((size) => bench.alloc(size));
      const sgl = sgAlloc(sizes.length);
      sgInitTable(sgl, sizes.length);
      parts.forEach((part, i) => void sgSetBuf(sgAt(sgl, i), part));
      const { dev } = bench.chan.device;
      const count = dmaMapSg(dev, sgl, sizes.length, DMA_FROM_DEVICE);
      assert.ok(count > 0);
      const done = bench.completion();
      const tx = prepared(dmaenginePrepSlaveSg(bench.chan, sgl, count, DMA_DEV_TO_MEM, FLAGS));
      tx.callback = wake;
      tx.callbackParam = done;
      submitted(tx);
      await bench.issueAndWait(done);
      dmaUnmapSg(dev, sgl, sizes.length, DMA_FROM_DEVICE);
      assert.deepEqual(Uint8Array.from(parts.flatMap(({ bytes }) => [...bytes])), data);
    }),

  'a cyclic transfer calls back each period until terminated': (rig: ControllerRig) =>
    onPeripheral(rig, DMA_MEM_TO_DEV, async (bench, { received }) => {
      assert.ok(
        dmaHasCap(DMA_CYCLIC, bench.chan.device.capMask),
        'no cyclic transfers: skip this case, with the reason',
      );
      const [bufLen, periodLen] = [1024, 256];
      const src = bench.random(bufLen, 23);
      const from = bench.map(src, DMA_TO_DEVICE);
      const done = bench.completion();
      const tx = prepared(dmaenginePrepDmaCyclic(bench.chan, from, bufLen, periodLen, DMA_MEM_TO_DEV, FLAGS));
      let periods = 0;
      tx.callback = () => {
        if (++periods === 10) complete(done);
      };
      submitted(tx);
      await bench.issueAndWait(done);
      assert.equal(await dmaengineTerminateSync(bench.chan), OK);
      const seen = periods;
      await msleep(bench.kernel, 100);
      assert.equal(periods, seen, 'a callback after terminate');
      const bytes = received();
      assert.ok(bytes.length >= 10 * periodLen);
      assert.ok(bytes.every((byte, i) => byte === src.bytes[i % bufLen]));
    }),
};
