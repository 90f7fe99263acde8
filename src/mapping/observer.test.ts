import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type DmaAddr, physAddr } from '../base/addr.ts';
import { DMA_BIDIRECTIONAL, DMA_FROM_DEVICE, DMA_TO_DEVICE } from '../kernel/dma-direction.ts';
import { GFP_KERNEL, type Mem, taskStack } from '../kernel/index.ts';
import { getFreePage, virtToPage } from '../kernel/page-alloc.ts';
import { DMA_ATTR_SKIP_CPU_SYNC } from './attrs.ts';
import { dmaAllocCoherent, dmaFreeCoherent } from './coherent.ts';
import { directRig } from './direct-rig.cases.ts';
import { dmaMappingError } from './error.ts';
import { dmaAllocPages, dmaFreePages } from './noncoherent.ts';
import { dmaAllocNoncontiguous, dmaFreeNoncontiguous } from './noncontiguous.ts';
import type { MappingObserver } from './observer.ts';
import { dmaMapResource, dmaUnmapResource } from './resource.ts';
import { sgAlloc, sgSetBuf } from './scatterlist.ts';
import { dmaMapSg, dmaUnmapSg } from './sg.ts';
import { dmaMapPageAttrs, dmaMapSingle, dmaUnmapPageAttrs, dmaUnmapSingle } from './streaming.ts';
import { dmaSyncSgForCpu, dmaSyncSgForDevice, dmaSyncSingleForCpu, dmaSyncSingleForDevice } from './sync.ts';

test('the observer is told every call, failed ones too, with plain numbers', () => {
  const { kernel, dev } = directRig();
  const told: string[] = [];
  const observer: MappingObserver = {
    map: (_dev, kind, phys, size, addr, dir, attrs) => told.push(`map ${kind} ${phys} ${size} ${addr} ${dir} ${attrs}`),
    unmap: (_dev, kind, addr, size, dir, attrs) => told.push(`unmap ${kind} ${addr} ${size} ${dir} ${attrs}`),
    mapSg: (_dev, _sg, nents, mapped, dir) => told.push(`mapSg ${nents} ${mapped} ${dir}`),
    unmapSg: (_dev, _sg, nents, dir) => told.push(`unmapSg ${nents} ${dir}`),
    sync: (_dev, addr, size, dir, forCpu) => told.push(`sync ${addr} ${size} ${dir} ${forCpu}`),
    syncSg: (_dev, _sg, nents, dir, forCpu) => told.push(`syncSg ${nents} ${dir} ${forCpu}`),
    alloc: (_dev, kind, phys, size, handle) => told.push(`alloc ${kind} ${phys} ${size} ${handle}`),
    free: (_dev, kind, phys, size, handle) => told.push(`free ${kind} ${phys} ${size} ${handle}`),
    mappingError: (_dev, addr) => told.push(`mappingError ${addr}`),
  };
  const mem = getFreePage(kernel, GFP_KERNEL)!;
  const p = mem.phys;
  kernel.mappingObserver = observer;
  const addr = dmaMapSingle(dev, mem, DMA_TO_DEVICE);
  dmaMappingError(dev, addr);
  dmaSyncSingleForCpu(dev, addr, 64, DMA_TO_DEVICE);
  dmaSyncSingleForDevice(dev, addr, 64, DMA_TO_DEVICE);
  dmaUnmapSingle(dev, addr, 4096, DMA_TO_DEVICE);
  dmaUnmapPageAttrs(
    dev,
    dmaMapPageAttrs(dev, virtToPage(mem), 8, 16, DMA_FROM_DEVICE, DMA_ATTR_SKIP_CPU_SYNC),
    16,
    DMA_FROM_DEVICE,
    DMA_ATTR_SKIP_CPU_SYNC,
  );
  dmaUnmapResource(dev, dmaMapResource(dev, physAddr(0x1000), 4, DMA_TO_DEVICE, 0), 4, DMA_TO_DEVICE, 0);
  dmaMapSingle(dev, null as unknown as Mem, DMA_TO_DEVICE);
  assert.deepEqual(told.splice(0), [
    `map single ${p} 4096 ${p} 1 0`,
    `mappingError ${p}`,
    `sync ${p} 64 1 true`,
    `sync ${p} 64 1 false`,
    `unmap single ${p} 4096 1 0`,
    `map page ${p + 8} 16 ${p + 8} 2 32`,
    `unmap page ${p + 8} 16 2 32`,
    'map resource 4096 4 4096 1 0',
    'unmap resource 4096 4 1 0',
    'map single -1 0 -1 1 0',
  ]);
  const stack = taskStack(kernel, 64);
  dmaMapSingle(dev, stack, DMA_TO_DEVICE);
  assert.deepEqual(told.splice(0), [`map single ${stack.phys} 64 -1 1 0`]);
  const sg = sgAlloc(1);
  sgSetBuf(sg, mem);
  dmaMapSg(dev, sg, 1, DMA_BIDIRECTIONAL);
  dmaSyncSgForCpu(dev, sg, 1, DMA_BIDIRECTIONAL);
  dmaSyncSgForDevice(dev, sg, 1, DMA_BIDIRECTIONAL);
  dmaUnmapSg(dev, sg, 1, DMA_BIDIRECTIONAL);
  assert.deepEqual(told.splice(0), ['mapSg 1 1 0', 'syncSg 1 0 true', 'syncSg 1 0 false', 'unmapSg 1 0']);
  const coherent = dmaAllocCoherent(dev, 100, GFP_KERNEL)!;
  dmaFreeCoherent(dev, 100, coherent.mem, coherent.handle);
  const pages = dmaAllocPages(dev, 100, DMA_TO_DEVICE, GFP_KERNEL)!;
  dmaFreePages(dev, 100, pages.page, pages.handle, DMA_TO_DEVICE);
  const table = dmaAllocNoncontiguous(dev, 100, DMA_TO_DEVICE, GFP_KERNEL, 0)!;
  dmaFreeNoncontiguous(dev, 100, table, DMA_TO_DEVICE);
  assert.deepEqual(
    told.splice(0).map((line) => line.replaceAll(/\b\d{5,}\b/g, '…')),
    ['coherent', 'pages', 'noncontiguous'].flatMap((kind) => [`alloc ${kind} … 100 …`, `free ${kind} … 100 …`]),
  );
  dev.coherentDmaMask = 1n;
  dmaAllocCoherent(dev, 100, GFP_KERNEL);
  assert.deepEqual(told, ['alloc coherent -1 100 -1']);
});

test('an observer may implement nothing', () => {
  const { kernel, dev } = directRig();
  kernel.mappingObserver = {} satisfies MappingObserver;
  const mem = getFreePage(kernel, GFP_KERNEL)!;
  const addr = dmaMapSingle(dev, mem, DMA_TO_DEVICE);
  dmaSyncSingleForCpu(dev, addr, 1, DMA_TO_DEVICE);
  dmaUnmapSingle(dev, addr, 4096, DMA_TO_DEVICE);
  assert.equal(dmaMappingError(dev, 5 as DmaAddr), 0);
});
