import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EIO, isErr, OK } from '../base/errno.ts';
import { deviceAdd, deviceDel, driverRegister } from '../kernel/index.ts';
import {
  DMA_ASYNC_TX,
  DMA_CYCLIC,
  DMA_INTERLEAVE,
  DMA_INTERRUPT,
  DMA_MEMCPY,
  DMA_MEMSET,
  DMA_PQ,
  DMA_PQ_VAL,
  DMA_PRIVATE,
  DMA_SLAVE,
  DMA_XOR,
  DMA_XOR_VAL,
  dmaCapMask,
  dmaCapSet,
  dmaHasCap,
} from './cap-mask.ts';
import { dmaDevices } from './core.ts';
import { DmaDevice } from './dma-device.ts';
import { FakeChan, FakeDmaDevice } from './fake-provider.cases.ts';
import {
  dmaAsyncDeviceChannelRegister,
  dmaAsyncDeviceChannelUnregister,
  dmaAsyncDeviceRegister,
  dmaAsyncDeviceUnregister,
  dmaengineGet,
  dmaenginemAsyncDeviceRegister,
  dmaenginePut,
  dmaReleaseChannel,
  dmaRequestChanByMask,
  dmaRequestChannel,
} from './index.ts';
import { makeDevice, makeKernel, makeProvider } from './rig.cases.ts';
import { vchanInit } from './virt-dma.ts';

test('channels are named dmaXchanY, and numbers are given out lowest first', () => {
  const kernel = makeKernel();
  const names = (): string[] => dmaDevices(kernel).flatMap(({ channels }) => [...channels].map(({ name }) => name));
  const first = makeProvider(kernel, { channels: 2 });
  makeProvider(kernel, { name: 'second' });
  assert.deepEqual(names(), ['dma0chan0', 'dma0chan1', 'dma1chan0']);
  assert.equal(first.chancnt, 2);
  dmaAsyncDeviceUnregister(first);
  assert.deepEqual(names(), ['dma1chan0']);
  makeProvider(kernel, { name: 'third' });
  assert.deepEqual(names(), ['dma1chan0', 'dma0chan0']);
});

test('a claimed capability without its operation is -EIO, with the kernel’s words', () => {
  for (const [type, name] of [
    [DMA_XOR, 'DMA_XOR'],
    [DMA_XOR_VAL, 'DMA_XOR_VAL'],
    [DMA_PQ, 'DMA_PQ'],
    [DMA_PQ_VAL, 'DMA_PQ_VAL'],
    [DMA_INTERRUPT, 'DMA_INTERRUPT'],
    [DMA_INTERLEAVE, 'DMA_INTERLEAVE'],
  ] as const) {
    const kernel = makeKernel();
    const device = new FakeDmaDevice(makeDevice(kernel, 'labdmac'), { capMask: dmaCapMask(type) });
    assert.equal(dmaAsyncDeviceRegister(device), EIO, name);
    assert.ok(
      kernel.log.lines.at(-1)!.text.endsWith(`labdmac: Device claims capability ${name}, but op is not defined`),
    );
    assert.equal(dmaDevices(kernel).length, 0);
  }
  const kernel = makeKernel();
  for (const [type, operation] of [
    [DMA_MEMCPY, 'devicePrepDmaMemcpy'],
    [DMA_MEMSET, 'devicePrepDmaMemset'],
    [DMA_CYCLIC, 'devicePrepDmaCyclic'],
  ] as const) {
    const device = new FakeDmaDevice(makeDevice(kernel, 'labdmac'), { capMask: dmaCapMask(type) });
    Object.defineProperty(device, operation, { value: undefined });
    assert.equal(dmaAsyncDeviceRegister(device), EIO, operation);
  }
});

test('tx_status and issue_pending are required', () => {
  const kernel = makeKernel();
  const device = new DmaDevice(makeDevice(kernel, 'bare'));
  assert.equal(dmaAsyncDeviceRegister(device), EIO);
  assert.match(kernel.log.lines.at(-1)!.text, /Device tx_status is not defined$/);
  device.deviceTxStatus = () => 0;
  assert.equal(dmaAsyncDeviceRegister(device), EIO);
  assert.match(kernel.log.lines.at(-1)!.text, /Device issue_pending is not defined$/);
  device.deviceIssuePending = () => {};
  assert.equal(dmaAsyncDeviceRegister(device), OK);
});

test('a device with every operation of async_tx says so', () => {
  const kernel = makeKernel();
  const device = new FakeDmaDevice(makeDevice(kernel, 'all'), {
    capMask: dmaCapMask(DMA_MEMCPY, DMA_XOR, DMA_XOR_VAL, DMA_PQ, DMA_PQ_VAL, DMA_INTERRUPT),
  });
  const none = (): null => null;
  Object.assign(device, {
    devicePrepDmaXor: none,
    devicePrepDmaXorVal: none,
    devicePrepDmaPq: none,
    devicePrepDmaPqVal: none,
    devicePrepDmaInterrupt: none,
  });
  assert.equal(dmaAsyncDeviceRegister(device), OK);
  assert.equal(dmaHasCap(DMA_ASYNC_TX, device.capMask), true);
  assert.equal(dmaHasCap(DMA_ASYNC_TX, makeProvider(kernel).capMask), false);
});

test('a device registered while the pool has clients is held at once', async () => {
  const kernel = makeKernel();
  await kernel.run(async () => {
    await dmaengineGet(kernel);
    await dmaengineGet(kernel);
    const device = makeProvider(kernel, { capMask: dmaCapMask(DMA_MEMCPY) });
    const chan = device.channels.first as FakeChan;
    assert.equal(chan.clientCount, 2);
    assert.equal(chan.allocated, true);
    const slave = makeProvider(kernel, { capMask: dmaCapMask(DMA_MEMCPY, DMA_PRIVATE) });
    assert.equal(slave.channels.first!.clientCount, 0);
    await dmaenginePut(kernel);
    await dmaenginePut(kernel);
    assert.equal(chan.clientCount, 0);
    assert.equal(chan.allocated, false);
  });
});

test('a device that says it is private stays so', async () => {
  const kernel = makeKernel();
  await kernel.run(async () => {
    const device = makeProvider(kernel, { capMask: dmaCapMask(DMA_SLAVE, DMA_PRIVATE) });
    const chan = await dmaRequestChanByMask(kernel, dmaCapMask(DMA_SLAVE));
    assert.ok(!isErr(chan));
    await dmaReleaseChannel(chan);
    assert.equal(dmaHasCap(DMA_PRIVATE, device.capMask), true);
  });
});

test('unregistering while a client holds a channel is warned of, and the device lives until it is released', async () => {
  const kernel = makeKernel();
  await kernel.run(async () => {
    const device = makeProvider(kernel);
    const chan = (await dmaRequestChannel(kernel, dmaCapMask(DMA_MEMCPY)))!;
    dmaAsyncDeviceUnregister(device);
    assert.match(
      kernel.splats[0]!.message,
      /__dma_async_device_channel_unregister called while 1 clients hold a reference/,
    );
    assert.equal(dmaDevices(kernel).length, 1);
    assert.equal(await dmaRequestChannel(kernel, dmaCapMask(DMA_MEMCPY)), null, 'nobody new gets it');
    await dmaReleaseChannel(chan);
    assert.equal(dmaDevices(kernel).length, 0);
  });
});

test('device_release makes unregistering in use legal, and is called at the end', async () => {
  const kernel = makeKernel();
  await kernel.run(async () => {
    const device = makeProvider(kernel);
    let released = 0;
    device.deviceRelease = () => released++;
    const chan = (await dmaRequestChannel(kernel, dmaCapMask(DMA_MEMCPY)))!;
    dmaAsyncDeviceUnregister(device);
    assert.deepEqual(kernel.splats, []);
    assert.equal(released, 0);
    await dmaReleaseChannel(chan);
    assert.equal(released, 1);
  });
});

test('the managed form unregisters when the driver is unbound', async () => {
  const kernel = makeKernel();
  await kernel.run(async () => {
    const dev = makeDevice(kernel, 'managed');
    const driver = {
      name: 'managed-driver',
      match: () => true,
      probe: () => dmaenginemAsyncDeviceRegister(new FakeDmaDevice(dev)),
    };
    await driverRegister(kernel, driver);
    assert.equal(await deviceAdd(dev), OK);
    assert.equal(dmaDevices(kernel).length, 1);
    await deviceDel(dev);
    assert.equal(dmaDevices(kernel).length, 0);
  });
});

test('channels come and go on a registered device', () => {
  const kernel = makeKernel();
  const device = makeProvider(kernel, { channels: 2 });
  const chan = new FakeChan(device, 2);
  vchanInit(chan, device);
  assert.equal(dmaAsyncDeviceChannelRegister(device, chan), OK);
  assert.equal(chan.name, 'dma0chan2');
  assert.equal(device.chancnt, 3);
  dmaAsyncDeviceChannelUnregister(device, chan);
  assert.equal(device.chancnt, 2);
  dmaAsyncDeviceChannelUnregister(device, chan);
  assert.equal(device.chancnt, 2, 'once is enough');
  device.capMask = dmaCapSet(DMA_PRIVATE, device.capMask);
});
