import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PAGE_SIZE, physAddr } from '../base/addr.ts';
import {
  __GFP_NOWARN,
  FrameKind,
  GFP_ATOMIC,
  GFP_KERNEL,
  msleep,
  preemptDisable,
  preemptEnable,
} from '../kernel/index.ts';
import { allocSources } from './alloc-sources.ts';
import { type AtomicPoolSizes, atomicPoolSizes } from './atomic-pool.ts';
import { dmaAllocCoherent, dmaFreeCoherent } from './coherent.ts';
import { defaultCma } from './contiguous.ts';
import { type DirectRigOptions, directRig } from './direct-rig.cases.ts';
import { dmaInit } from './init.ts';
import { type DmaCoherent, setDmaOps } from './ops.ts';

const MIB = 2 ** 20;
const KIB = 1024;
function rigFor(cmdline: string, options: DirectRigOptions = {}) {
  const ram = options.ram ?? [{ base: 0, sizeBytes: 64 * MIB }];
  const rig = directRig({ coherent: false, ...options, ram, kernel: { ...options.kernel, cmdline } });
  dmaInit(rig.kernel);
  return rig;
}
const sizes = (dma: number, dma32: number, kernel: number): AtomicPoolSizes => ({
  poolSizeDma: dma * KIB,
  poolSizeDma32: dma32 * KIB,
  poolSizeKernel: kernel * KIB,
});

test('there is a pool for each zone that has memory, told at boot', () => {
  const { kernel } = rigFor('');
  assert.deepEqual(atomicPoolSizes(kernel), sizes(128, 128, 0));
  assert.deepEqual(
    kernel.log.lines.map(({ text }) => text),
    [
      'DMA: preallocated 128 KiB GFP_KERNEL|GFP_DMA pool for atomic allocations',
      'DMA: preallocated 128 KiB GFP_KERNEL|GFP_DMA32 pool for atomic allocations',
    ],
  );
  const high = [
    { base: 0, sizeBytes: 8 * MIB },
    { base: 2 ** 32, sizeBytes: 64 * MIB },
  ];
  assert.deepEqual(atomicPoolSizes(rigFor('swiotlb=noforce', { ram: high }).kernel), sizes(128, 0, 128));
});
test('coherent_pool= says how large; a coherent machine has none', () => {
  assert.deepEqual(atomicPoolSizes(rigFor('coherent_pool=1M').kernel), sizes(1024, 1024, 0));
  assert.deepEqual(atomicPoolSizes(rigFor('coherent_pool=300K').kernel), sizes(512, 512, 0));
  assert.deepEqual(atomicPoolSizes(rigFor('coherent_pool=1M', { coherent: true }).kernel), sizes(0, 0, 0));
});
test('where a pool is too large it is made smaller; where there is nothing, that is told', () => {
  const small = rigFor('coherent_pool=4M', { ram: [{ base: 0, sizeBytes: 2 * MIB }] });
  assert.deepEqual(atomicPoolSizes(small.kernel), sizes(1024, 0, 0));
});

test('an allocation that may not sleep comes from the pool, zeroed and uncached, and goes back there', () => {
  const rig = rigFor('');
  const { kernel, dev } = rig;
  const free = kernel.pages.freePages;
  preemptDisable(kernel);
  const { mem, handle } = dmaAllocCoherent(dev, 100, GFP_ATOMIC)!;
  preemptEnable(kernel);
  assert.equal(mem.size, 100);
  assert.ok(mem.bytes.every((byte) => byte === 0));
  mem.bytes.fill(5);
  assert.equal(rig.deviceRead(handle, 100)?.[99], 5);
  assert.equal(kernel.pages.freePages, free, 'no page was allocated');
  const bank = kernel.machine.ram[0]!;
  assert.equal(bank.kindAt(mem.phys), FrameKind.COHERENT);
  dmaFreeCoherent(dev, 100, mem, handle);
  assert.equal(bank.kindAt(mem.phys), FrameKind.RESERVED);
  assert.equal(mem.freed, true);
  assert.equal(dmaAllocCoherent(dev, 100, GFP_ATOMIC)!.handle, handle);
  assert.deepEqual(kernel.splats, []);
});
test('an allocation that may sleep leaves the pool alone', () => {
  const { kernel, dev } = rigFor('');
  const free = kernel.pages.freePages;
  dmaAllocCoherent(dev, 8192, GFP_KERNEL);
  assert.equal(kernel.pages.freePages, free - 2);
});
test('allocations are aligned to their power of two in the pool', () => {
  const { dev } = rigFor('');
  const base = dmaAllocCoherent(dev, PAGE_SIZE, GFP_ATOMIC)!.handle;
  const three = dmaAllocCoherent(dev, 3 * PAGE_SIZE, GFP_ATOMIC)!.handle;
  const two = dmaAllocCoherent(dev, 2 * PAGE_SIZE, GFP_ATOMIC)!.handle;
  assert.deepEqual([three - base, two - base], [4 * PAGE_SIZE, 2 * PAGE_SIZE]);
});

test('an empty pool fails the allocation with the kernel’s warning, and fills itself meanwhile', async () => {
  const rig = rigFor('');
  const { kernel, dev } = rig;
  await kernel.run(async () => {
    const taken: DmaCoherent[] = [];
    const grab = (gfp: number): boolean => {
      const memory = dmaAllocCoherent(dev, PAGE_SIZE, gfp);
      if (memory !== null) taken.push(memory);
      return memory !== null;
    };
    while (grab(GFP_ATOMIC | __GFP_NOWARN));
    // A 32-bit device takes from ZONE_DMA32, then from ZONE_DMA.
    assert.equal(taken.length, 64);
    assert.deepEqual(kernel.splats, []);
    assert.equal(grab(GFP_ATOMIC), false);
    assert.deepEqual(
      kernel.splats.map(({ message }) => message),
      ['WARNING: DMA pool exhausted for tester'],
    );
    await msleep(kernel, 10);
    assert.deepEqual(atomicPoolSizes(kernel), sizes(256, 256, 0));
    assert.equal(grab(GFP_ATOMIC), true);
    for (const { mem, handle } of taken) dmaFreeCoherent(dev, PAGE_SIZE, mem, handle);
  });
});
test('a device that reaches no pool is told apart from an empty one', () => {
  const { kernel, dev } = rigFor('', {
    ram: [{ base: physAddr(2 ** 32), sizeBytes: 16 * MIB }],
    kernel: { zoneDmaLimit: 0 },
  });
  assert.deepEqual(atomicPoolSizes(kernel), sizes(0, 0, 128));
  assert.equal(dmaAllocCoherent(dev, 64, GFP_ATOMIC), null);
  assert.deepEqual(
    kernel.splats.map(({ message }) => message),
    ['WARNING: Failed to get suitable pool for tester'],
  );
});
test('a narrow device gets what it reaches', () => {
  const { dev } = rigFor('', { kernel: { zoneDmaLimit: 32 * MIB } });
  dev.coherentDmaMask = 0xffffffn;
  const memory = dmaAllocCoherent(dev, 64, GFP_ATOMIC);
  assert.ok(memory === null || memory.handle < 16 * MIB);
});
test('the pools come from a CMA area where there is one', () => {
  const { kernel, dev } = rigFor('cma=4M');
  const cma = defaultCma(kernel)!;
  assert.ok(cma.stats.availablePages < cma.count);
  const { mem } = dmaAllocCoherent(dev, 64, GFP_ATOMIC)!;
  assert.ok(mem.phys >= cma.base);
});

test('behind an IOMMU the pool’s memory need not be in the device’s reach', () => {
  const { kernel, dev } = rigFor('', { ram: [{ base: 2 ** 32, sizeBytes: 16 * MIB }], kernel: { zoneDmaLimit: 0 } });
  const pool = allocSources(kernel).atomicPool!;
  assert.equal(pool.alloc(dev, 64, GFP_ATOMIC | __GFP_NOWARN), null);
  setDmaOps(dev, {});
  const taken = pool.alloc(dev, 64, GFP_ATOMIC)!;
  assert.ok(taken.mem.phys >= 2 ** 32);
  assert.equal(pool.free(dev, taken.mem, 64), true);
});
