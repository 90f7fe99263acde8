import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EINVAL, ENODEV, EPROBE_DEFER, type Errno, isErr, OK } from '../base/errno.ts';
import {
  Device,
  type DeviceDriver,
  deviceAdd,
  driverRegister,
  dt,
  type Kernel,
  type OfNode,
  ofFindNodeByPath,
  ofTree,
} from '../kernel/index.ts';
import { DMA_MEMCPY, DMA_SLAVE, dmaCapMask } from './cap-mask.ts';
import { dmaReleaseChannel, dmaRequestChan } from './channel-request.ts';
import type { DmaChan } from './dma-chan.ts';
import { dmaAsyncDeviceRegister } from './dmaengine.ts';
import { FakeDmaDevice } from './fake-provider.cases.ts';
import {
  ofDmaControllerFree,
  ofDmaControllerRegister,
  ofDmaReadCounts,
  ofDmaRequestSlaveChannel,
  ofDmaRouterRegister,
  ofDmaSimpleXlate,
  ofDmaXlateByChanId,
} from './of-dma.ts';
import { makeKernel } from './rig.cases.ts';
import { filterByChanId } from './slave-map.ts';
import { dmaengineSummary } from './sysfs.ts';

const tree = (): OfNode =>
  ofTree(
    dt('/', {}, [
      dt('dmac: dma-controller@1000', { '#dma-cells': 1 }),
      dt('xbar: dma-router@2000', { '#dma-cells': 2 }),
      dt('mmc@3000', { dmas: ['&dmac', 2, '&dmac', 0], 'dma-names': ['tx', 'rx'] }),
      dt('uart@4000', { dmas: ['&xbar', 1, 7], 'dma-names': ['tx'] }),
      dt('spi@5000', { dmas: ['&dmac', 1] }),
      dt('timer@6000', {}),
      dt('two@7000', { dmas: ['&dmac', 1, '&dmac', 2], 'dma-names': ['any', 'any'] }),
    ]),
  );

interface Set {
  readonly kernel: Kernel;
  readonly device: FakeDmaDevice;
  client(path: string): Device;
}
function setUp(): Set {
  const kernel = makeKernel();
  const root = tree();
  const at = (path: string): OfNode => {
    const node = ofFindNodeByPath(root, path);
    assert.ok(node !== null, path);
    return node;
  };
  const dev = new Device(kernel, 'dmac', { ofNode: at('/dma-controller@1000') });
  const device = new FakeDmaDevice(dev, { channels: 3 });
  assert.equal(dmaAsyncDeviceRegister(device), OK);
  return { kernel, device, client: (path) => new Device(kernel, path.slice(1), { ofNode: at(path) }) };
}
function got(chan: DmaChan | Errno): DmaChan {
  assert.ok(!isErr(chan), `expected a channel, found ${chan}`);
  return chan;
}

test('a client’s dmas and dma-names lead to its channel', async () => {
  const { kernel, device, client } = setUp();
  await kernel.run(async () => {
    const mmc = client('/mmc@3000');
    assert.equal(await dmaRequestChan(mmc, 'tx'), EPROBE_DEFER, 'the controller is not registered with the tree');
    assert.equal(ofDmaControllerRegister(device.dev, ofDmaXlateByChanId, device), OK);
    const tx = got(await dmaRequestChan(mmc, 'tx'));
    const rx = got(await dmaRequestChan(mmc, 'rx'));
    assert.deepEqual([tx.chanId, rx.chanId], [2, 0]);
    assert.equal(tx.dbgClientName, 'mmc@3000:tx');
    assert.equal(await dmaRequestChan(mmc, 'audio'), ENODEV);
    assert.equal(await dmaRequestChan(mmc, 'tx'), ENODEV, 'taken');
    await dmaReleaseChannel(tx);
    got(await dmaRequestChan(mmc, 'tx'));
    ofDmaControllerFree(device.dev);
    assert.equal(await dmaRequestChan(mmc, 'rx'), EPROBE_DEFER);
  });
});

test('nodes without dmas, or without dma-names, name no channel', async () => {
  const { kernel, device, client } = setUp();
  await kernel.run(async () => {
    ofDmaControllerRegister(device.dev, ofDmaXlateByChanId, device);
    assert.equal(await dmaRequestChan(client('/timer@6000'), 'tx'), ENODEV);
    assert.equal(await dmaRequestChan(client('/spi@5000'), 'tx'), ENODEV);
    assert.match(kernel.log.lines.at(-1)!.text, /dma-names property of node '\S*spi@5000' missing or empty$/);
  });
});

test('channels and request lines are read under their present and their old names', () => {
  const counts = (properties: Record<string, number>) => ofDmaReadCounts(ofTree(dt('/', properties)));
  assert.deepEqual(counts({ 'dma-channels': 8, 'dma-requests': 32 }), { channels: 8, requests: 32 });
  assert.deepEqual(counts({ '#dma-channels': 4 }), { channels: 4, requests: 0 });
});

test('a device without a node can be no controller', () => {
  const { kernel } = setUp();
  const dev = new Device(kernel, 'plain');
  assert.equal(ofDmaControllerRegister(dev, ofDmaXlateByChanId, null), ENODEV);
  assert.equal(
    ofDmaRouterRegister(dev, () => ({}), { dev, routeFree: () => {} }),
    ENODEV,
  );
});

test('the simple xlate asks a filter', async () => {
  const { kernel, device, client } = setUp();
  await kernel.run(async () => {
    ofDmaControllerRegister(device.dev, ofDmaSimpleXlate, {
      kernel,
      dmaCap: dmaCapMask(DMA_SLAVE),
      filterFn: filterByChanId,
    });
    assert.equal(got(await dmaRequestChan(client('/mmc@3000'), 'tx')).chanId, 2);
    ofDmaControllerFree(device.dev);
    ofDmaControllerRegister(device.dev, ofDmaSimpleXlate, { kernel, dmaCap: dmaCapMask(DMA_MEMCPY), filterFn: null });
    assert.equal(await dmaRequestChan(client('/mmc@3000'), 'rx'), ENODEV);
  });
});

test('several channels of one name are used in turn, and all are tried', async () => {
  const { kernel, device, client } = setUp();
  await kernel.run(async () => {
    ofDmaControllerRegister(device.dev, ofDmaXlateByChanId, device);
    const dev = client('/two@7000');
    const ids = [got(await dmaRequestChan(dev, 'any')).chanId, got(await dmaRequestChan(dev, 'any')).chanId];
    assert.deepEqual(ids.sort(), [1, 2]);
    assert.equal(await ofDmaRequestSlaveChannel(kernel, dev.ofNode!, 'any'), ENODEV);
  });
});

test('a router asks the controller behind it, and the route is freed with the channel', async () => {
  const { kernel, device, client } = setUp();
  await kernel.run(async () => {
    const freed: unknown[] = [];
    const route = { line: 7 };
    const xbar = client('/dma-router@2000');
    const router = { dev: xbar, routeFree: (_dev: Device, data: unknown) => void freed.push(data) };
    const registered = ofDmaRouterRegister(
      xbar,
      (spec) => {
        if (spec.args[1] !== 7) return EINVAL;
        spec.np = device.dev.ofNode!;
        spec.args = [spec.args[0]!];
        return route;
      },
      router,
    );
    assert.equal(registered, OK);
    const uart = client('/uart@4000');
    assert.equal(await dmaRequestChan(uart, 'tx'), EPROBE_DEFER, 'the controller is missing');
    assert.deepEqual(freed.splice(0), [route]);
    ofDmaControllerRegister(device.dev, ofDmaXlateByChanId, device);
    const chan = got(await dmaRequestChan(uart, 'tx'));
    assert.deepEqual([chan.chanId, chan.router, chan.routeData], [1, router, route]);
    assert.match(dmaengineSummary(kernel), / dma0chan1 {4}\| uart@4000:tx \(via router: dma-router@2000\)\n/);
    await dmaReleaseChannel(chan);
    assert.deepEqual(freed.splice(0), [route]);
    assert.deepEqual([chan.router, chan.routeData], [null, null]);
    device.deviceRouterConfig = () => EINVAL;
    assert.equal(await dmaRequestChan(uart, 'tx'), EINVAL);
    assert.deepEqual(freed, [route]);
    assert.equal(chan.clientCount, 0);
  });
});

test('a client whose controller comes later is probed again', async () => {
  const { kernel, device, client } = setUp();
  await kernel.run(async () => {
    const probes: (string | number)[] = [];
    const clientDriver: DeviceDriver = {
      name: 'mmc',
      match: (dev) => dev.name === 'mmc@3000',
      probe: async (dev) => {
        const chan = await dmaRequestChan(dev, 'tx');
        probes.push(isErr(chan) ? chan : chan.name);
        return isErr(chan) ? chan : OK;
      },
    };
    const controllerDriver: DeviceDriver = {
      name: 'dmac',
      match: (dev) => dev === device.dev,
      probe: () => ofDmaControllerRegister(device.dev, ofDmaXlateByChanId, device),
    };
    await driverRegister(kernel, clientDriver);
    await deviceAdd(client('/mmc@3000'));
    assert.deepEqual(probes, [EPROBE_DEFER]);
    await driverRegister(kernel, controllerDriver);
    await deviceAdd(device.dev);
    assert.deepEqual(probes, [EPROBE_DEFER, 'dma0chan2']);
  });
});
