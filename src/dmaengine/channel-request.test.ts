import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ENODEV, ENOMEM, EPROBE_DEFER, isErr } from '../base/errno.ts';
import { DMA_MEMCPY, DMA_PRIVATE, DMA_SLAVE, DMA_XOR, dmaCapMask, dmaHasCap } from './cap-mask.ts';
import {
  dmaGetAnySlaveChannel,
  dmaGetSlaveChannel,
  dmaReleaseChannel,
  dmaRequestChan,
  dmaRequestChanByMask,
  dmaRequestChannel,
} from './channel-request.ts';
import type { DmaChan } from './dma-chan.ts';
import type { FakeChan } from './fake-provider.cases.ts';
import { makeDevice, makeKernel, makeProvider } from './rig.cases.ts';
import { filterByChanId } from './slave-map.ts';

const MEMCPY = dmaCapMask(DMA_MEMCPY);
function got(chan: DmaChan | number | null): DmaChan {
  assert.ok(chan !== null && typeof chan !== 'number', `expected a channel, found ${chan}`);
  return chan;
}

test('by capability: deferred without any device, -ENODEV when none will do', async () => {
  const kernel = makeKernel();
  await kernel.run(async () => {
    assert.equal(await dmaRequestChanByMask(kernel, MEMCPY), EPROBE_DEFER);
    makeProvider(kernel);
    assert.equal(await dmaRequestChanByMask(kernel, dmaCapMask(DMA_XOR)), ENODEV);
    const chan = got(await dmaRequestChanByMask(kernel, MEMCPY));
    assert.equal(chan.name, 'dma0chan0');
    assert.equal(chan.clientCount, 1);
    assert.equal((chan as FakeChan).allocated, true);
    assert.equal(await dmaRequestChanByMask(kernel, MEMCPY), ENODEV, 'taken');
    await dmaReleaseChannel(chan);
    assert.equal(chan.clientCount, 0);
    assert.equal((chan as FakeChan).allocated, false);
    got(await dmaRequestChanByMask(kernel, MEMCPY));
  });
  assert.deepEqual(kernel.splats, []);
});

test('by filter: asked of every free channel, in order, with its parameter', async () => {
  const kernel = makeKernel();
  await kernel.run(async () => {
    makeProvider(kernel, { channels: 3 });
    makeProvider(kernel, { channels: 1, name: 'other' });
    const asked: string[] = [];
    const filter = (chan: DmaChan, param: unknown): boolean => {
      asked.push(chan.name);
      return chan.name === param;
    };
    assert.equal(got(await dmaRequestChannel(kernel, MEMCPY, filter, 'dma0chan1')).name, 'dma0chan1');
    assert.deepEqual(asked, ['dma0chan0', 'dma0chan1']);
    asked.length = 0;
    assert.equal(got(await dmaRequestChannel(kernel, MEMCPY, filter, 'dma1chan0')).name, 'dma1chan0');
    assert.deepEqual(asked, ['dma0chan0', 'dma0chan2', 'dma1chan0']);
    assert.equal(await dmaRequestChannel(kernel, MEMCPY, filter, 'none'), null);
  });
});

test('a device is private while anybody has a channel of it', async () => {
  const kernel = makeKernel();
  await kernel.run(async () => {
    const device = makeProvider(kernel, { channels: 2 });
    const isPrivate = (): boolean => dmaHasCap(DMA_PRIVATE, device.capMask);
    assert.equal(isPrivate(), false);
    const a = got(await dmaRequestChannel(kernel, MEMCPY));
    const b = got(await dmaRequestChannel(kernel, MEMCPY));
    assert.equal(device.privatecnt, 2);
    await dmaReleaseChannel(a);
    assert.equal(isPrivate(), true);
    await dmaReleaseChannel(b);
    assert.equal(isPrivate(), false);
  });
});

test('resources that cannot be allocated leave the channel free', async () => {
  const kernel = makeKernel();
  await kernel.run(async () => {
    const device = makeProvider(kernel);
    device.allocResult = ENOMEM;
    assert.equal(await dmaRequestChannel(kernel, MEMCPY), null);
    const chan = device.channels.first!;
    assert.deepEqual([chan.clientCount, device.privatecnt, device.refs], [0, 0, 1]);
    assert.equal(dmaHasCap(DMA_PRIVATE, device.capMask), false);
    device.allocResult = 16;
    got(await dmaRequestChannel(kernel, MEMCPY));
  });
});

test('this very channel, or any of a device', async () => {
  const kernel = makeKernel();
  await kernel.run(async () => {
    const device = makeProvider(kernel, { channels: 2 });
    const second = device.channels.last!;
    assert.equal(await dmaGetSlaveChannel(second), second);
    assert.equal(await dmaGetSlaveChannel(second), null);
    assert.equal(await dmaGetAnySlaveChannel(device), device.channels.first);
    assert.equal(await dmaGetAnySlaveChannel(device), null);
    assert.equal(device.privatecnt, 2);
  });
});

test('by name through the slave map, with the client named in the channel', async () => {
  const kernel = makeKernel();
  await kernel.run(async () => {
    const client = makeDevice(kernel, 'mmc0');
    assert.equal(await dmaRequestChan(client, 'tx'), EPROBE_DEFER, 'no controller yet');
    const device = makeProvider(kernel, { channels: 3 });
    assert.equal(await dmaRequestChan(client, 'tx'), EPROBE_DEFER, 'nobody maps it');
    device.filter = {
      fn: filterByChanId,
      map: [
        { devname: 'mmc1', slave: 'tx', param: 0 },
        { devname: 'mmc0', slave: 'rx', param: 1 },
        { devname: 'mmc0', slave: 'tx', param: 2 },
      ],
    };
    const chan = got(await dmaRequestChan(client, 'tx'));
    assert.equal(chan.chanId, 2);
    assert.equal(chan.slave, client);
    assert.equal(chan.dbgClientName, 'mmc0:tx');
    assert.equal(await dmaRequestChan(client, 'tx'), EPROBE_DEFER, 'its channel is taken');
    await dmaReleaseChannel(chan);
    assert.deepEqual([chan.slave, chan.dbgClientName], [null, null]);
  });
});

test('releasing a channel that is not held once is warned of', async () => {
  const kernel = makeKernel();
  await kernel.run(async () => {
    makeProvider(kernel);
    const chan = got(await dmaRequestChannel(kernel, MEMCPY));
    chan.clientCount = 2;
    await dmaReleaseChannel(chan);
    assert.match(kernel.splats[0]!.message, /chan reference count 2 != 1/);
  });
});

test('a channel with the capabilities of slaves is found as such', async () => {
  const kernel = makeKernel();
  await kernel.run(async () => {
    makeProvider(kernel, { capMask: MEMCPY });
    const slave = makeProvider(kernel, { capMask: dmaCapMask(DMA_SLAVE), name: 'slave' });
    assert.equal(got(await dmaRequestChanByMask(kernel, dmaCapMask(DMA_SLAVE))).device, slave);
    assert.ok(isErr(await dmaRequestChanByMask(kernel, dmaCapMask(DMA_SLAVE, DMA_MEMCPY))));
  });
});
