import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type DmaAddr, dmaAddr, physAddr } from '../base/addr.ts';
import { EINVAL, ENOSYS, ENXIO, OK } from '../base/errno.ts';
import {
  Completion,
  complete,
  DMA_BIDIRECTIONAL,
  DMA_FROM_DEVICE,
  DMA_TO_DEVICE,
  GFP_KERNEL,
  type Kernel,
  KernelTimer,
  kmalloc,
  kzalloc,
  type Mem,
  modTimer,
  msleep,
  waitForCompletion,
} from '../kernel/index.ts';
import { dmaMapSingle, type MappingObserver } from '../mapping/index.ts';
import {
  DmaengineDescCallback,
  dmaengineDescCallbackValid,
  dmaengineDescClearCallback,
  dmaengineDescGetCallback,
  dmaengineDescGetCallbackInvoke,
} from './callback.ts';
import {
  DMA_MEMCPY,
  DMA_REPEAT,
  DMA_SLAVE,
  dmaCapClear,
  dmaCapMask,
  dmaCapSet,
  dmaCapsSatisfy,
  dmaHasCap,
  dmaTransactionTypeName,
} from './cap-mask.ts';
import { dmaRequestChannel } from './channel-request.ts';

import type { DmaAsyncTxDescriptor } from './descriptor.ts';
import { type DmaChan, dmaChanName } from './dma-chan.ts';
import { DmaDevice } from './dma-device.ts';
import type { FakeChan, FakeDmaDevice, FakeOptions } from './fake-provider.cases.ts';
import {
  dmaenginePrepDmaCyclic,
  dmaenginePrepDmaMemcpy,
  dmaenginePrepDmaMemset,
  dmaenginePrepInterleavedDma,
  dmaenginePrepPeripheralDmaVec,
  dmaenginePrepSlaveSg,
  dmaenginePrepSlaveSingle,
} from './prep.ts';
import { makeDevice, makeKernel, makeProvider } from './rig.cases.ts';
import {
  type DmaInterleavedTemplate,
  dmaengineGetDstIcg,
  dmaengineGetSrcIcg,
  dmaengineSlaveConfig,
  dmaGetSlaveCaps,
  emptySlaveCaps,
} from './slave-config.ts';
import { dmaChanSysfs, dmaengineSummary, sysClassDma } from './sysfs.ts';
import {
  dmaenginePause,
  dmaengineResume,
  dmaengineSynchronize,
  dmaengineTerminateAll,
  dmaengineTerminateAsync,
} from './terminate.ts';

import {
  dmaAsyncIssuePending,
  dmaAsyncIsTxComplete,
  dmaengineSubmit,
  dmaSyncWait,
  dmaWaitForAsyncTx,
} from './tx-status.ts';
import {
  DMA_COMPLETE,
  DMA_CTRL_ACK,
  DMA_DEV_TO_DEV,
  DMA_ERROR,
  DMA_IN_PROGRESS,
  DMA_MEM_TO_DEV,
  DMA_MEM_TO_MEM,
  DMA_PREP_INTERRUPT,
  DMA_PREP_REPEAT,
  DMA_TRANS_NONE,
  DMA_TRANS_READ_FAILED,
  dmaBuswidths,
  dmaengineTxResultName,
  dmaStatusName,
  dmaTransferDirectionName,
  isSlaveDirection,
} from './types.ts';
import { dmaDescriptorUnmap, dmaengineGetUnmapData, dmaengineUnmapPut, dmaSetUnmap } from './unmap-data.ts';

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

test('capability sets hold, add, drop and compare types', () => {
  const mask = dmaCapMask(DMA_MEMCPY, DMA_SLAVE);
  assert.equal(dmaHasCap(DMA_SLAVE, mask), true);
  assert.equal(dmaHasCap(DMA_REPEAT, mask), false);
  assert.equal(dmaCapSet(DMA_REPEAT, mask), dmaCapMask(DMA_MEMCPY, DMA_SLAVE, DMA_REPEAT));
  assert.equal(dmaCapClear(DMA_SLAVE, mask), dmaCapMask(DMA_MEMCPY));
  assert.equal(dmaCapsSatisfy(mask, dmaCapMask(DMA_MEMCPY)), true);
  assert.equal(dmaCapsSatisfy(mask, dmaCapMask(DMA_MEMCPY, DMA_REPEAT)), false);
  assert.equal(dmaTransactionTypeName(DMA_SLAVE), 'DMA_SLAVE');
});

test('directions, states and widths have names and bits', () => {
  assert.equal(dmaTransferDirectionName(DMA_MEM_TO_DEV), 'mem to dev');
  assert.deepEqual(([DMA_MEM_TO_MEM, DMA_MEM_TO_DEV, DMA_DEV_TO_DEV, DMA_TRANS_NONE] as const).map(isSlaveDirection), [
    false,
    true,
    true,
    false,
  ]);
  assert.equal(dmaStatusName(DMA_IN_PROGRESS), 'in progress');
  assert.equal(dmaengineTxResultName(DMA_TRANS_READ_FAILED), 'read failed');
  assert.equal(dmaBuswidths(1, 4, 16, 128), 0b1_0000_0000_0001_0010);
});

test('operations that a provider has not are refused', () => {
  const kernel = makeKernel();
  const device = new DmaDevice(makeDevice(kernel, 'bare'));
  const chan = { device } as DmaChan;
  const template = { sgl: [], numf: 0 } as unknown as DmaInterleavedTemplate;
  const at = dmaAddr(0x1000);
  assert.equal(dmaenginePrepDmaMemcpy(chan, at, at, 1, 0), null);
  assert.equal(dmaenginePrepDmaMemset(chan, at, 0, 1, 0), null);
  assert.equal(dmaenginePrepSlaveSingle(chan, at, 1, DMA_MEM_TO_DEV, 0), null);
  assert.equal(dmaenginePrepSlaveSg(chan, null as never, 1, DMA_MEM_TO_DEV, 0), null);
  assert.equal(dmaenginePrepPeripheralDmaVec(chan, [], DMA_MEM_TO_DEV, 0), null);
  assert.equal(dmaenginePrepDmaCyclic(chan, at, 4, 2, DMA_MEM_TO_DEV, 0), null);
  assert.equal(dmaenginePrepInterleavedDma(chan, template, 0), null);
  assert.equal(dmaengineSlaveConfig(chan, {}), ENOSYS);
  assert.equal(dmaengineTerminateAll(chan), ENOSYS);
  assert.equal(dmaengineTerminateAsync(chan), EINVAL);
  assert.equal(dmaenginePause(chan), ENOSYS);
  assert.equal(dmaengineResume(chan), ENOSYS);
  assert.equal(dmaGetSlaveCaps(chan, emptySlaveCaps()), ENXIO);
});

test(
  'a slave’s configuration and abilities pass through the core',
  bench(({ chan, device }) => {
    const config = { dstAddr: physAddr(0x4000_0000), dstAddrWidth: 4, dstMaxburst: 8 } as const;
    assert.equal(dmaengineSlaveConfig(chan, config), OK);
    assert.deepEqual(chan.config, config);
    assert.equal(dmaengineSlaveConfig(chan, { srcMaxburst: 17 }), EINVAL);
    const caps = emptySlaveCaps();
    assert.equal(dmaGetSlaveCaps(chan, caps), OK);
    assert.deepEqual(
      [caps.cmdPause, caps.cmdResume, caps.cmdTerminate, caps.srcAddrWidths],
      [true, true, true, dmaBuswidths(1, 4)],
    );
    device.deviceCaps = (_chan, own) => {
      own.maxBurst = 3;
    };
    dmaGetSlaveCaps(chan, caps);
    assert.equal(caps.maxBurst, 3);
    device.directions = 0;
    assert.equal(dmaGetSlaveCaps(chan, caps), ENXIO);
  }),
);

test(
  'wrappers of other transfers hand over what they were given',
  bench(({ chan, device, from }) => {
    const tx = {} as DmaAsyncTxDescriptor;
    const calls: unknown[][] = [];
    const record = (...args: unknown[]): DmaAsyncTxDescriptor => {
      calls.push(args);
      return tx;
    };
    device.devicePrepPeripheralDmaVec = record;
    device.devicePrepInterleavedDma = record;
    const vecs = [{ addr: from, len: 4 }];
    assert.equal(dmaenginePrepPeripheralDmaVec(chan, vecs, DMA_MEM_TO_DEV, FLAGS), tx);
    assert.deepEqual(calls.shift(), [chan, vecs, DMA_MEM_TO_DEV, FLAGS]);
    const template: DmaInterleavedTemplate = {
      ...{
        srcStart: from,
        dstStart: from,
        dir: DMA_MEM_TO_MEM,
        srcInc: true,
        dstInc: true,
        srcSgl: true,
        dstSgl: false,
      },
      ...{ numf: 2, frameSize: 1, sgl: [{ size: 16, icg: 4, dstIcg: 0, srcIcg: 0 }] },
    };
    assert.equal(dmaenginePrepInterleavedDma(chan, template, 0), tx);
    assert.deepEqual(calls.shift(), [chan, template, 0]);
    assert.equal(dmaenginePrepInterleavedDma(chan, template, DMA_PREP_REPEAT), null, 'the device cannot repeat');
    const [chunk] = template.sgl;
    assert.deepEqual([dmaengineGetSrcIcg(template, chunk!), dmaengineGetDstIcg(template, chunk!)], [4, 0]);
    assert.equal(dmaengineGetDstIcg(template, { ...chunk!, dstIcg: 9 }), 9);
    assert.equal(dmaengineGetSrcIcg({ ...template, srcInc: false }, chunk!), 0);
  }),
);

test(
  'a fill writes its byte',
  bench(async ({ kernel, chan, dst, to }) => {
    const cookie = dmaengineSubmit(dmaenginePrepDmaMemset(chan, to, 0x1a5, 100, FLAGS)!);
    assert.equal(dmaSyncWait(chan, cookie), DMA_COMPLETE);
    assert.ok(dst.bytes.subarray(0, 100).every((byte) => byte === 0xa5) && dst.bytes[100] === 0);
    assert.ok(kernel.machine.now() > 0);
  }),
);

test(
  'polling issues by itself, and gives up after five seconds',
  bench((set) => {
    const { chan, device, kernel } = set;
    const cookie = dmaengineSubmit(copy(set));
    assert.equal(dmaAsyncIsTxComplete(chan, cookie), DMA_IN_PROGRESS);
    assert.equal(dmaSyncWait(chan, cookie), DMA_COMPLETE);
    assert.deepEqual(set.dst.bytes, set.src.bytes);
    device.stuck = true;
    const start = kernel.machine.now();
    assert.equal(dmaSyncWait(chan, dmaengineSubmit(copy(set))), DMA_ERROR);
    assert.ok(kernel.machine.now() - start >= 5e9);
    assert.match(kernel.log.lines.at(-1)!.text, /dma_sync_wait: timeout!$/);
  }),
);

test(
  'waiting for a held back descriptor waits for its submission first',
  bench((set) => {
    const { kernel } = set;
    assert.equal(dmaWaitForAsyncTx(null), DMA_COMPLETE);
    const tx = copy(set);
    tx.cookie = -16;
    const parentDone = new KernelTimer(kernel, () => {
      tx.cookie = 0;
      dmaengineSubmit(tx);
    });
    modTimer(parentDone, 1000);
    assert.equal(dmaWaitForAsyncTx(tx), DMA_COMPLETE);
    assert.deepEqual(set.dst.bytes, set.src.bytes);
  }),
);

test(
  'terminate_all is the old form of terminate_async',
  bench(async (set) => {
    const { chan, kernel } = set;
    const tx = copy(set);
    tx.callback = () => assert.fail('terminated');
    dmaengineSubmit(tx);
    dmaAsyncIssuePending(chan);
    assert.equal(dmaengineTerminateAll(chan), OK);
    assert.equal(chan.descTerminated.length, 1);
    await dmaengineSynchronize(chan);
    assert.equal(chan.descTerminated.length, 0);
    await msleep(kernel, 10);
  }),
);

test(
  'synchronize may not be called from a callback',
  bench(async (set) => {
    const { kernel, chan } = set;
    const done = new Completion(kernel, 'done');
    const tx = copy(set);
    tx.callback = () => {
      chan.device.deviceSynchronize = () => {};
      void dmaengineSynchronize(chan);
      complete(done);
    };
    dmaengineSubmit(tx);
    dmaAsyncIssuePending(chan);
    await waitForCompletion(done);
    assert.match(kernel.splats[0]!.message, /sleeping function called from invalid context at dmaengine_synchronize/);
  }),
);

test(
  'callbacks without a result get none, those with one get success by default',
  bench((set) => {
    const tx = copy(set);
    const cb = new DmaengineDescCallback();
    dmaengineDescGetCallback(tx, cb);
    assert.equal(dmaengineDescCallbackValid(cb), false);
    const seen: unknown[] = [];
    tx.callback = (param) => seen.push(param);
    tx.callbackParam = 'plain';
    dmaengineDescGetCallback(tx, cb);
    assert.equal(dmaengineDescCallbackValid(cb), true);
    dmaengineDescClearCallback(cb);
    assert.deepEqual([cb.callback, cb.callbackResult, cb.callbackParam, cb.tx], [null, null, null, null]);
    dmaengineDescGetCallbackInvoke(tx, null);
    tx.callbackResult = (param, result) => seen.push([param, { ...result }]);
    dmaengineDescGetCallbackInvoke(tx, null);
    assert.deepEqual(seen, ['plain', ['plain', { result: 0, residue: 0 }]]);
  }),
);

test('counters and the summary show who has what', async () => {
  const kernel = makeKernel();
  const device = makeProvider(kernel, { channels: 2 });
  makeProvider(kernel, { name: 'other' });
  await kernel.run(async () => {
    assert.equal(
      dmaengineSummary(kernel),
      'dma0 (labdmac): number of channels: 2\n\ndma1 (other): number of channels: 1\n',
    );
    const chan = (await dmaRequestChannel(kernel, dmaCapMask(DMA_MEMCPY)))!;
    const mem = kmalloc(kernel, 64, GFP_KERNEL)!;
    const at = dmaMapSingle(device.dev, mem, DMA_BIDIRECTIONAL);
    for (let i = 0; i < 3; i++)
      dmaSyncWait(chan, dmaengineSubmit(dmaenginePrepDmaMemcpy(chan, (at + 32) as DmaAddr, at, 20, FLAGS)!));
    assert.deepEqual(dmaChanSysfs(chan), { name: 'dma0chan0', memcpyCount: 3, bytesTransferred: 60, inUse: 1 });
    assert.deepEqual(
      sysClassDma(kernel).map(({ name, inUse }) => [name, inUse]),
      [
        ['dma0chan0', 1],
        ['dma0chan1', 0],
        ['dma1chan0', 0],
      ],
    );
    assert.match(dmaengineSummary(kernel), /^dma0 \(labdmac\): number of channels: 2\n dma0chan0 {4}\| in-use\n\ndma1/);
    assert.equal(dmaChanName(chan), 'dma0chan0');
    device.dbgSummaryShow = () => ' own\n';
    assert.match(dmaengineSummary(kernel), /channels: 2\n own\n/);
  });
});

test(
  'unmap data undo their mappings with the last holder',
  bench((set) => {
    const { device, kernel, src, dst } = set;
    const undone: [number, number, number][] = [];
    const unmap = dmaengineGetUnmapData(device.dev, 4, GFP_KERNEL)!;
    assert.equal(unmap.mapCnt, 4);
    unmap.len = 64;
    unmap.addr[0] = dmaMapSingle(device.dev, src.slice(0, 64), DMA_TO_DEVICE);
    unmap.addr[1] = dmaMapSingle(device.dev, dst.slice(0, 64), DMA_FROM_DEVICE);
    unmap.addr[2] = dmaMapSingle(device.dev, dst.slice(64, 64), DMA_BIDIRECTIONAL);
    unmap.addr[3] = 0;
    [unmap.toCnt, unmap.fromCnt, unmap.bidiCnt] = [1, 1, 2];
    const observer: MappingObserver = { unmap: (_dev, _kind, addr, size, dir) => void undone.push([addr, size, dir]) };
    kernel.mappingObserver = observer;
    const tx = copy(set);
    dmaSetUnmap(tx, unmap);
    dmaengineUnmapPut(unmap);
    assert.deepEqual(undone, []);
    const addrs = [...unmap.addr.subarray(0, 3)];
    dmaDescriptorUnmap(tx);
    assert.deepEqual(undone, [
      [addrs[0], 64, DMA_TO_DEVICE],
      [addrs[1], 64, DMA_FROM_DEVICE],
      [addrs[2], 64, DMA_BIDIRECTIONAL],
    ]);
    assert.equal(tx.unmap, null);
    dmaDescriptorUnmap(tx);
    assert.throws(() => dmaengineUnmapPut(unmap), /given back already/);
    assert.equal(dmaengineGetUnmapData(device.dev, 3, GFP_KERNEL), unmap, 'used again');
    assert.throws(() => dmaengineGetUnmapData(device.dev, 257, GFP_KERNEL), /at most 256/);
  }),
);
