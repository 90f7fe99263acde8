import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DMA_FROM_DEVICE, DMA_TO_DEVICE } from '../kernel/dma-direction.ts';
import { GFP_KERNEL, kmalloc, taskStack } from '../kernel/index.ts';
import { directRig } from './direct-rig.cases.ts';
import type { MappingObserver } from './observer.ts';
import {
  allocCoherent,
  type CpuOwned,
  type DeviceOwned,
  MappingFailedError,
  mapStreaming,
  OwnershipError,
} from './owned.ts';

function countingRig(): ReturnType<typeof directRig> & { live: { mappings: number; allocations: number } } {
  const rig = directRig({ coherent: false });
  const live = { mappings: 0, allocations: 0 };
  const observer: MappingObserver = {
    map: () => live.mappings++,
    unmap: () => live.mappings--,
    alloc: () => live.allocations++,
    free: () => live.allocations--,
  };
  rig.kernel.mappingObserver = observer;
  return Object.assign(rig, { live });
}

test('a mapping ends with its scope, also by an exception', () => {
  const { kernel, dev, live } = countingRig();
  const mem = kmalloc(kernel, 256, GFP_KERNEL)!;
  assert.throws(() => {
    using mapping = mapStreaming(dev, mem, DMA_TO_DEVICE);
    assert.equal(mapping.addr, mem.phys);
    assert.equal(live.mappings, 1);
    throw new Error('on the way');
  }, /on the way/);
  assert.equal(live.mappings, 0);
});

test('the CPU borrows the buffer, and gives it back at the end of the scope', () => {
  const { kernel, dev, live, deviceWrite } = countingRig();
  const mem = kmalloc(kernel, 64, GFP_KERNEL)!;
  mem.bytes.fill(1);
  using mapping = mapStreaming(dev, mem, DMA_FROM_DEVICE);
  deviceWrite(mapping.addr, new Uint8Array(64).fill(7));
  {
    using view = mapping.forCpu();
    assert.equal(view.bytes[63], 7);
    assert.equal(view.mem, mem);
    assert.throws(() => mapping.addr, OwnershipError);
    assert.throws(() => mapping.forCpu(), OwnershipError);
  }
  assert.equal(mapping.addr, mem.phys);
  const view = mapping.forCpu();
  view.giveBack();
  view.giveBack();
  assert.throws(() => view.bytes, OwnershipError);
  mapping.unmap();
  mapping.unmap();
  assert.equal(live.mappings, 0);
  assert.throws(() => mapping.addr, /it was unmapped/);
});

test('who owns the memory is in the type', () => {
  const check = (device: DeviceOwned, cpu: CpuOwned): void => {
    // @ts-expect-error The device's memory has no bytes for the CPU.
    void device.bytes;
    // @ts-expect-error The CPU's memory has no address for the device.
    void cpu.addr;
  };
  assert.equal(check.length, 2);
});

test('what cannot be mapped throws', () => {
  const { kernel, dev } = countingRig();
  assert.throws(() => mapStreaming(dev, taskStack(kernel, 16), DMA_TO_DEVICE), MappingFailedError);
  assert.throws(() => allocCoherent(dev, 64 * 2 ** 20, GFP_KERNEL), MappingFailedError);
});

test('coherent memory is freed with its scope', () => {
  const { dev, live, deviceRead } = countingRig();
  {
    using ring = allocCoherent(dev, 128, GFP_KERNEL);
    ring.mem.bytes.fill(3);
    assert.equal(deviceRead(ring.addr, 128)?.[127], 3);
    assert.equal(live.allocations, 1);
    ring[Symbol.dispose]();
  }
  assert.equal(live.allocations, 0);
});
