import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DMA_MEMCPY, DMA_MEMSET, DMA_PRIVATE, DMA_SLAVE, DMA_XOR, dmaCapMask } from './cap-mask.ts';
import { dmaReleaseChannel, dmaRequestChannel } from './channel-request.ts';
import { dmaengineGet, dmaenginePut, dmaFindChannel, dmaIssuePendingAll } from './channel-table.ts';
import { dmaAsyncDeviceUnregister } from './dmaengine.ts';
import { makeKernel, makeProvider } from './rig.cases.ts';

const MEMCPY = dmaCapMask(DMA_MEMCPY);

test('the table is filled while the pool has clients', async () => {
  const kernel = makeKernel();
  await kernel.run(async () => {
    makeProvider(kernel, { capMask: MEMCPY });
    assert.equal(dmaFindChannel(kernel, DMA_MEMCPY), null);
    await dmaengineGet(kernel);
    assert.equal(dmaFindChannel(kernel, DMA_MEMCPY)!.name, 'dma0chan0');
    assert.equal(dmaFindChannel(kernel, DMA_XOR), null);
    await dmaenginePut(kernel);
    assert.equal(dmaFindChannel(kernel, DMA_MEMCPY), null);
  });
});

test('operations are spread over the channels', async () => {
  const kernel = makeKernel();
  await kernel.run(async () => {
    makeProvider(kernel, { channels: 2, capMask: dmaCapMask(DMA_MEMCPY, DMA_MEMSET) });
    await dmaengineGet(kernel);
    assert.equal(dmaFindChannel(kernel, DMA_MEMCPY)!.name, 'dma0chan0');
    assert.equal(dmaFindChannel(kernel, DMA_MEMSET)!.name, 'dma0chan1');
    const late = makeProvider(kernel, { capMask: dmaCapMask(DMA_XOR, DMA_MEMSET) & ~dmaCapMask(DMA_XOR) });
    assert.equal(late.channels.first!.clientCount, 1, 'held for the clients that are there');
    dmaAsyncDeviceUnregister(late);
    assert.equal(dmaFindChannel(kernel, DMA_MEMSET)!.name, 'dma0chan1');
  });
});

test('private devices are not in the pool', async () => {
  const kernel = makeKernel();
  await kernel.run(async () => {
    makeProvider(kernel, { capMask: dmaCapMask(DMA_MEMCPY, DMA_SLAVE, DMA_PRIVATE) });
    await dmaengineGet(kernel);
    assert.equal(dmaFindChannel(kernel, DMA_MEMCPY), null);
  });
});

test('a public device with several channels cannot be taken privately while the pool has clients', async () => {
  const kernel = makeKernel();
  await kernel.run(async () => {
    makeProvider(kernel, { channels: 2, capMask: MEMCPY });
    await dmaengineGet(kernel);
    assert.equal(await dmaRequestChannel(kernel, MEMCPY), null);
    await dmaenginePut(kernel);
    const chan = await dmaRequestChannel(kernel, MEMCPY);
    assert.ok(chan !== null);
    await dmaReleaseChannel(chan);
  });
});

test('every client of the pool is counted, and one put too many is a bug', async () => {
  const kernel = makeKernel();
  await kernel.run(async () => {
    const chan = makeProvider(kernel, { capMask: MEMCPY }).channels.first!;
    for (let i = 1; i <= 3; i++) {
      await dmaengineGet(kernel);
      assert.equal(chan.clientCount, i);
    }
    for (let i = 2; i >= 0; i--) {
      await dmaenginePut(kernel);
      assert.equal(chan.clientCount, i);
    }
    await assert.rejects(dmaenginePut(kernel), /dmaengine_put without dmaengine_get/);
  });
});

test('issue_pending_all reaches every public channel in use', async () => {
  const kernel = makeKernel();
  await kernel.run(async () => {
    const issued: string[] = [];
    for (const [name, capMask] of [
      ['a', MEMCPY],
      ['b', dmaCapMask(DMA_MEMCPY, DMA_PRIVATE)],
    ] as const) {
      makeProvider(kernel, { name, capMask, channels: 2 }).deviceIssuePending = (chan) => void issued.push(chan.name);
    }
    dmaIssuePendingAll(kernel);
    assert.deepEqual(issued, []);
    await dmaengineGet(kernel);
    dmaIssuePendingAll(kernel);
    assert.deepEqual(issued, ['dma0chan0', 'dma0chan1']);
  });
});
