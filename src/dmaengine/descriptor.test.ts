import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EINVAL, EOPNOTSUPP, EPERM, OK } from '../base/errno.ts';
import { GFP_KERNEL, kmalloc, type Mem } from '../kernel/index.ts';
import {
  asyncTxAck,
  asyncTxClearAck,
  asyncTxTestAck,
  DESC_METADATA_CLIENT,
  DESC_METADATA_ENGINE,
  DmaAsyncTxDescriptor,
  dmaAsyncTxDescriptorInit,
  dmaengineDescAttachMetadata,
  dmaengineDescClearReuse,
  dmaengineDescFree,
  dmaengineDescGetMetadataPtr,
  dmaengineDescSetMetadataLen,
  dmaengineDescSetReuse,
  dmaengineDescTestReuse,
  dmaengineIsMetadataModeSupported,
  dmaRunDependencies,
} from './descriptor.ts';
import type { FakeDmaDevice } from './fake-provider.cases.ts';
import { makeKernel, makeProvider } from './rig.cases.ts';
import { DMA_CTRL_ACK } from './types.ts';

function setUp(channels = 1): {
  device: FakeDmaDevice;
  tx: DmaAsyncTxDescriptor;
  make: (channel: number) => DmaAsyncTxDescriptor;
} {
  const device = makeProvider(makeKernel(), { channels });
  const chans = [...device.channels];
  const make = (channel: number): DmaAsyncTxDescriptor => {
    const tx = new DmaAsyncTxDescriptor();
    dmaAsyncTxDescriptorInit(tx, chans[channel]!);
    return tx;
  };
  return { device, tx: make(0), make };
}

test('init makes a used descriptor new', () => {
  const { tx } = setUp();
  const { chan } = tx;
  tx.cookie = 5;
  tx.flags = DMA_CTRL_ACK;
  tx.callback = () => {};
  tx.callbackResult = () => {};
  tx.callbackParam = 'old';
  tx.next = tx.parent = new DmaAsyncTxDescriptor();
  tx.descMetadataMode = DESC_METADATA_CLIENT;
  dmaAsyncTxDescriptorInit(tx, chan);
  const { cookie, flags, callback, callbackResult, callbackParam, next, parent, descMetadataMode, unmap } = tx;
  assert.deepEqual([cookie, flags, callback, callbackResult, callbackParam], [0, 0, null, null, null]);
  assert.deepEqual([next, parent, descMetadataMode, unmap], [null, null, 0, null]);
  assert.equal(tx.chan, chan);
});

test('a descriptor is acknowledged by a flag', () => {
  const { tx } = setUp();
  assert.equal(asyncTxTestAck(tx), false);
  asyncTxAck(tx);
  assert.equal(asyncTxTestAck(tx), true);
  asyncTxClearAck(tx);
  assert.equal(asyncTxTestAck(tx), false);
});

test('reuse needs a provider that offers it', () => {
  const { device, tx } = setUp();
  device.descriptorReuse = false;
  assert.equal(dmaengineDescSetReuse(tx), EPERM);
  assert.equal(dmaengineDescTestReuse(tx), false);
  device.descriptorReuse = true;
  assert.equal(dmaengineDescSetReuse(tx), OK);
  assert.equal(dmaengineDescTestReuse(tx), true);
  dmaengineDescClearReuse(tx);
  assert.equal(dmaengineDescTestReuse(tx), false);
});

test('only reusable descriptors are freed by their client', () => {
  const { tx } = setUp();
  let freed = 0;
  tx.descFree = () => {
    freed++;
    return OK;
  };
  assert.equal(dmaengineDescFree(tx), EPERM);
  dmaengineDescSetReuse(tx);
  assert.equal(dmaengineDescFree(tx), OK);
  assert.equal(freed, 1);
});

test('metadata go one way: attached by the client, or lent by the engine', () => {
  const { device, tx } = setUp();
  const mem = kmalloc(device.kernel, 16, GFP_KERNEL)!;
  assert.equal(dmaengineDescAttachMetadata(tx, mem, 4), EOPNOTSUPP);
  let attached: [Mem, number] | null = null;
  let payload = 0;
  tx.metadataOps = {
    attach: (_tx, data, len) => {
      attached = [data, len];
      return OK;
    },
    getPtr: () => ({ mem, payloadLen: 0, maxLen: 16 }),
    setLen: (_tx, len) => {
      payload = len;
      return OK;
    },
  };
  assert.equal(dmaengineDescAttachMetadata(tx, mem, 4), OK);
  assert.deepEqual(attached, [mem, 4]);
  assert.equal(dmaengineDescGetMetadataPtr(tx), EINVAL, 'the modes do not mix');
  tx.descMetadataMode = 0;
  assert.deepEqual(dmaengineDescGetMetadataPtr(tx), { mem, payloadLen: 0, maxLen: 16 });
  assert.equal(dmaengineDescSetMetadataLen(tx, 9), OK);
  assert.equal(payload, 9);
  assert.equal(dmaengineDescAttachMetadata(tx, mem, 4), EINVAL);
  device.descMetadataModes = DESC_METADATA_ENGINE;
  assert.equal(dmaengineIsMetadataModeSupported(tx.chan, DESC_METADATA_ENGINE), true);
  assert.equal(dmaengineIsMetadataModeSupported(tx.chan, DESC_METADATA_CLIENT), false);
});

test('dependencies are submitted up to the next change of channel, then issued', () => {
  const { device, make } = setUp(2);
  const order: string[] = [];
  const named = (name: string, channel: number): DmaAsyncTxDescriptor => {
    const tx = make(channel);
    tx.txSubmit = () => order.push(name);
    return tx;
  };
  device.deviceIssuePending = ({ chanId }) => void order.push(`issue ${chanId}`);
  const [a, b, c, d] = [named('a', 0), named('b', 1), named('c', 1), named('d', 0)];
  [a.next, b.next, c.next] = [b, c, d];
  [b.parent, c.parent, d.parent] = [a, b, c];
  dmaRunDependencies(a);
  assert.deepEqual(order, ['b', 'c', 'issue 1']);
  assert.deepEqual([a.next, b.next, b.parent, c.parent], [null, null, null, null]);
  assert.equal(c.next, d, 'd follows when c is done');
  dmaRunDependencies(c);
  assert.deepEqual(order.slice(3), ['d', 'issue 0']);
  dmaRunDependencies(d);
  assert.equal(order.length, 5);
});
