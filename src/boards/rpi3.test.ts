import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type DmaAddr, OK } from '../base/index.ts';
import {
  DMA_COMPLETE,
  DMA_ERROR,
  DMA_IN_PROGRESS,
  DMA_MEMCPY,
  DMA_PREP_INTERRUPT,
  DMA_TRANS_NOERROR,
  DMA_TRANS_READ_FAILED,
  DMA_TRANS_WRITE_FAILED,
  type DmaChan,
  DmaTxState,
  dmaAsyncIssuePending,
  dmaCapMask,
  dmaenginePrepDmaMemcpy,
  dmaengineSubmit,
  dmaengineTerminateSync,
  dmaengineTxStatus,
  dmaReleaseChannel,
  dmaRequestChannel,
} from '../dmaengine/index.ts';
import { fifoCapture } from '../drivers/fifo-client.ts';
import {
  Completion,
  complete,
  DMA_BIDIRECTIONAL,
  DMA_TO_DEVICE,
  freePages,
  GFP_KERNEL,
  getFreePages,
  type Kernel,
  type Mem,
  udelay,
  waitForCompletionTimeout,
} from '../kernel/index.ts';
import { BusStatus, type SimMachine } from '../machine/index.ts';
import { dmaAllocCoherent, dmaMapSingle, dmaUnmapSingle } from '../mapping/index.ts';
import type { BootOptions } from './board.ts';
import { rpi3 } from './rpi3.ts';

const SMALL = { ramBytes: 64 * 2 ** 20 };
const CONTROLLER = '3f007000.dma-controller';

async function onRpi3(options: BootOptions, main: (kernel: Kernel) => Promise<void>): Promise<void> {
  const system = await rpi3.boot({ ...SMALL, ...options });
  await system.run(main);
  assert.deepEqual(await system.close(), { leaks: [], splats: [] });
}
const anyChannel = async (kernel: Kernel): Promise<DmaChan> =>
  (await dmaRequestChannel(kernel, dmaCapMask(DMA_MEMCPY)))!;
const pages = (kernel: Kernel, order: number): Mem => getFreePages(kernel, GFP_KERNEL, order)!;

/** Submit a copy; gives its cookie and, later, its result. */
function copy(chan: DmaChan, dst: DmaAddr, src: DmaAddr, size: number) {
  const tx = dmaenginePrepDmaMemcpy(chan, dst, src, size, DMA_PREP_INTERRUPT)!;
  const done = new Completion(chan.device.kernel);
  const seen = { result: -1, done, cookie: 0 };
  tx.callbackResult = (_param, { result }) => {
    seen.result = result;
    complete(done);
  };
  seen.cookie = dmaengineSubmit(tx);
  dmaAsyncIssuePending(chan);
  return seen;
}

test('devices address RAM through the alias at 0xc0000000', () =>
  onRpi3({}, async (kernel) => {
    const chan = await anyChannel(kernel);
    const mem = pages(kernel, 0);
    const addr = dmaMapSingle(chan.device.dev, mem, DMA_TO_DEVICE);
    assert.equal(addr, 0xc000_0000 + mem.phys);
    dmaUnmapSingle(chan.device.dev, addr, mem.size, DMA_TO_DEVICE);
    freePages(kernel, mem, 0);
    await dmaReleaseChannel(chan);
  }));

test('a driver that forgets the alias gets a decode error and a failed transfer', async () => {
  const refused: number[] = [];
  const machine = {
    deviceAccess: (
      _ns: number,
      master: string,
      _w: boolean,
      addr: number,
      phys: number,
      _n: number,
      status: BusStatus,
    ) => {
      if (status === BusStatus.OK) return;
      assert.deepEqual([master, status, phys], [CONTROLLER, BusStatus.DECODE_ERROR, -1]);
      refused.push(addr);
    },
  };
  const system = await rpi3.boot({ ...SMALL, observers: { machine } });
  await system.run(async (kernel) => {
    const chan = await anyChannel(kernel);
    const [src, dst] = [pages(kernel, 0), pages(kernel, 0)];
    const [from, to] = [0xc000_0000 + src.phys, 0xc000_0000 + dst.phys] as [DmaAddr, DmaAddr];
    const state = new DmaTxState();
    for (const [badSrc, badDst, expected] of [
      [src.phys as number, to, DMA_TRANS_READ_FAILED],
      [from, dst.phys as number, DMA_TRANS_WRITE_FAILED],
    ] as const) {
      const seen = copy(chan, badDst as DmaAddr, badSrc as DmaAddr, 4096);
      assert.ok((await waitForCompletionTimeout(seen.done, 1e9)) > 0);
      assert.equal(seen.result, expected);
      assert.equal(dmaengineTxStatus(chan, seen.cookie, state), DMA_ERROR);
    }
    assert.deepEqual([refused[0], refused[16]], [src.phys, dst.phys]);
    const good = copy(chan, to, from, 4096);
    assert.ok((await waitForCompletionTimeout(good.done, 1e9)) > 0);
    assert.equal(good.result, DMA_TRANS_NOERROR);
    assert.equal(dmaengineTxStatus(chan, good.cookie, state), DMA_COMPLETE);
    await dmaReleaseChannel(chan);
  });
});

test('an injected bus error becomes the result of its transfer alone', async () => {
  const system = await rpi3.boot({ ...SMALL, mode: 'coherent' });
  await system.run(async (kernel) => {
    const chan = await anyChannel(kernel);
    const [src, dst] = [pages(kernel, 1), pages(kernel, 1)];
    const [from, to] = [0xc000_0000 + src.phys, 0xc000_0000 + dst.phys] as [DmaAddr, DmaAddr];
    (system.machine as SimMachine).faults.failBusAccess(CONTROLLER, from + 1000);
    src.bytes.fill(7);
    const [first, second] = [copy(chan, to, from, 2048), copy(chan, to, from, 2048)];
    assert.ok((await waitForCompletionTimeout(second.done, 1e9)) > 0);
    assert.deepEqual([first.result, second.result], [DMA_TRANS_READ_FAILED, DMA_TRANS_NOERROR]);
    assert.ok(dst.bytes.subarray(0, 2048).every((byte) => byte === 7));
    await dmaReleaseChannel(chan);
  });
});

test('the last control block of a copy waits for its writes before it interrupts', () =>
  onRpi3({}, async (kernel) => {
    const chan = await anyChannel(kernel);
    const { dev } = chan.device;
    const buffer = pages(kernel, 1);
    const addr = dmaMapSingle(dev, buffer, DMA_BIDIRECTIONAL);
    const machine = kernel.machine as SimMachine;
    const fetched: number[] = [];
    machine.observer = {
      deviceAccess: (_ns, _master, isWrite, _addr, phys, size) => {
        if (!isWrite && size === 32) fetched.push(phys);
      },
    };
    const { done } = copy(chan, (addr + 4096) as DmaAddr, addr, 4096);
    assert.ok((await waitForCompletionTimeout(done, 1e9)) > 0);
    machine.observer = null;
    assert.equal(fetched.length, 1);
    const block = fetched[0]!;
    const { memory, base } = machine.bankAt(block)!;
    const info = new DataView(memory.buffer, memory.byteOffset + block - base).getUint32(0, true);
    assert.equal(info & 9, 9, `INTEN (1) and WAIT_RESP (8) in TI 0x${info.toString(16)}`);
    dmaUnmapSingle(dev, addr, buffer.size, DMA_BIDIRECTIONAL);
    freePages(kernel, buffer, 1);
    await dmaReleaseChannel(chan);
  }));

test('residue counts down with the position in the running control block', () =>
  onRpi3({ mode: 'coherent' }, async (kernel) => {
    const chan = await anyChannel(kernel);
    const [src, dst] = [pages(kernel, 5), pages(kernel, 5)];
    const [from, to] = [0xc000_0000 + src.phys, 0xc000_0000 + dst.phys] as [DmaAddr, DmaAddr];
    const state = new DmaTxState();
    const [running, waiting] = [copy(chan, to, from, src.size), copy(chan, to, from, 4096)];
    let last = src.size;
    for (let round = 0; round < 20; round++) {
      udelay(kernel, 5);
      assert.equal(dmaengineTxStatus(chan, running.cookie, state), DMA_IN_PROGRESS);
      assert.ok(state.residue < last && state.residue > 0, `${state.residue} after ${last}`);
      last = state.residue;
      assert.equal(dmaengineTxStatus(chan, waiting.cookie, state), DMA_IN_PROGRESS);
      assert.equal(state.residue, 4096, 'a descriptor that waits has its whole length');
    }
    assert.equal(await dmaengineTerminateSync(chan), OK);
    assert.equal(running.result, -1);
    // After a terminate in the middle, the channel starts afresh.
    const again = copy(chan, to, from, src.size);
    assert.ok((await waitForCompletionTimeout(again.done, 1e9)) > 0);
    assert.equal(again.result, DMA_TRANS_NOERROR);
    freePages(kernel, src, 5);
    freePages(kernel, dst, 5);
    await dmaReleaseChannel(chan);
  }));

test('a lite channel splits what its 16 bits of length do not hold', async () => {
  const blocks: number[] = [];
  const machine = {
    deviceAccess: (_ns: number, _m: string, isWrite: boolean, addr: number, _p: number, size: number) => {
      if (!isWrite && size === 32) blocks.push(addr);
    },
  };
  const system = await rpi3.boot({ ...SMALL, mode: 'coherent', observers: { machine } });
  await system.run(async (kernel) => {
    const isChannel8 = (chan: DmaChan): boolean => 'isLite' in chan && 'ch' in chan && chan.ch === 8;
    const chan = (await dmaRequestChannel(kernel, dmaCapMask(DMA_MEMCPY), isChannel8))!;
    const [src, dst] = [pages(kernel, 6), pages(kernel, 6)];
    for (let i = 0; i < src.size; i++) src.bytes[i] = (i * 31) >> 3;
    const [from, to] = [0xc000_0000 + src.phys, 0xc000_0000 + dst.phys] as [DmaAddr, DmaAddr];
    const seen = copy(chan, (to + 1) as DmaAddr, (from + 3) as DmaAddr, 200_001);
    assert.ok((await waitForCompletionTimeout(seen.done, 1e9)) > 0);
    assert.equal(blocks.length, 4);
    assert.deepEqual(dst.bytes.slice(1, 200_002), src.bytes.slice(3, 200_004));
    assert.equal(dst.bytes[0], 0);
    assert.equal(dst.bytes[200_002], 0);
    await dmaReleaseChannel(chan);
  });
});

test('channels that share an interrupt line finish side by side', async () => {
  const system = await rpi3.boot({ ...SMALL, mode: 'coherent' });
  await system.run(async (kernel) => {
    const shared: DmaChan[] = [];
    const isShared = (chan: DmaChan): boolean => 'ch' in chan && (chan.ch as number) >= 11;
    for (let i = 0; i < 4; i++) shared.push((await dmaRequestChannel(kernel, dmaCapMask(DMA_MEMCPY), isShared))!);
    const [src, dst] = [pages(kernel, 2), pages(kernel, 2)];
    src.bytes.fill(9);
    const running = shared.map((chan, i) => {
      const at = i * 4096;
      return copy(chan, (0xc000_0000 + dst.phys + at) as DmaAddr, (0xc000_0000 + src.phys + at) as DmaAddr, 4096);
    });
    for (const { done } of running) assert.ok((await waitForCompletionTimeout(done, 1e9)) > 0);
    assert.deepEqual(dst.bytes, src.bytes);
    for (const chan of shared) await dmaReleaseChannel(chan);
  });
  assert.deepEqual(system.kernel.splats, []);
});

test('10,000 descriptors can be queued at once', async () => {
  const system = await rpi3.boot({ ...SMALL, mode: 'coherent' });
  await system.run(async (kernel) => {
    const chan = await anyChannel(kernel);
    const [src, dst] = [pages(kernel, 4), pages(kernel, 4)];
    for (let i = 0; i < src.size; i++) src.bytes[i] = i >> 2;
    let order = 0;
    const done = new Completion(kernel);
    for (let i = 0; i < 10_000; i++) {
      const [to, from] = [0xc000_0000 + dst.phys + 6 * i, 0xc000_0000 + src.phys + 6 * i];
      const tx = dmaenginePrepDmaMemcpy(chan, to as DmaAddr, from as DmaAddr, 6, DMA_PREP_INTERRUPT)!;
      tx.callback = () => {
        assert.equal(order, i);
        if (++order === 10_000) complete(done);
      };
      dmaengineSubmit(tx);
    }
    dmaAsyncIssuePending(chan);
    assert.ok((await waitForCompletionTimeout(done, 10e9)) > 0, `${order} done`);
    assert.deepEqual(dst.bytes.slice(0, 60_000), src.bytes.slice(0, 60_000));
    await dmaReleaseChannel(chan);
  });
});

test('a slow controller overruns the FIFO of a fast port', async () => {
  for (const [factor, late] of [
    [1, false],
    [400, true],
  ] as const) {
    const system = await rpi3.boot(SMALL);
    await system.run(async (kernel) => {
      const port = kernel.devices.find(({ name }) => name.endsWith('serial-port'))!;
      const controller = kernel.devices.find(({ name }) => name === CONTROLLER)!;
      const ring = dmaAllocCoherent(controller, 4096, GFP_KERNEL)!;
      (system.machine as SimMachine).faults.slowDown(factor);
      const words: number[] = [];
      const onPeriod = (period: number): void => {
        for (let i = 0; i < 256; i++) words.push(ring.mem.readU32((period % 4) * 1024 + 4 * i));
      };
      // Both the port and the controller are slowed down; only the port is told to make up for it.
      const { error, status } = await fifoCapture(port, ring, 1024, 3, onPeriod, {
        rateHz: 1_000_000 * factor,
        timeoutNs: 1e9,
      });
      assert.equal(error, OK);
      assert.equal((status & 2) !== 0, late, `status ${status} with factor ${factor}`);
      assert.equal(
        words.every((word, i) => word === i),
        !late,
      );
    });
  }
});
