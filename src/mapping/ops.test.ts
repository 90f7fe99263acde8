import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DMA_MAPPING_ERROR, type DmaAddr, dmaBitMask, physAddr } from '../base/addr.ts';
import { EIO, KernelBug, OK } from '../base/errno.ts';
import { DMA_TO_DEVICE } from '../kernel/dma-direction.ts';
import { GFP_KERNEL } from '../kernel/index.ts';
import { getFreePage } from '../kernel/page-alloc.ts';
import { directRig } from './direct-rig.cases.ts';
import { SIZE_MAX } from './limits.ts';
import {
  dmaAddressingLimited,
  dmaGetMergeBoundary,
  dmaGetRequiredMask,
  dmaMaxMappingSize,
  dmaOptMappingSize,
  dmaSetMask,
} from './mask.ts';
import { type DmaMapOps, getDmaOps, setDmaOps } from './ops.ts';
import { dmaMapResource, dmaUnmapResource } from './resource.ts';
import { sgAlloc } from './scatterlist.ts';
import { dmaMapSg, dmaMapSgtable, dmaUnmapSg, dmaUnmapSgtable } from './sg.ts';
import { SgTable } from './sg-table.ts';
import { dmaMapSingle, dmaUnmapSingle } from './streaming.ts';
import {
  dmaNeedSync,
  dmaSyncSgForCpu,
  dmaSyncSgForDevice,
  dmaSyncSgtableForCpu,
  dmaSyncSgtableForDevice,
  dmaSyncSingleForCpu,
  dmaSyncSingleForDevice,
  dmaSyncSingleRangeForCpu,
  dmaSyncSingleRangeForDevice,
} from './sync.ts';

test('installed operations are asked for everything, with what the driver passed', () => {
  const { kernel, dev } = directRig();
  const mem = getFreePage(kernel, GFP_KERNEL)!;
  const calls: string[] = [];
  const sync = (name: string) => (_dev: unknown, addr: unknown, size: number) => {
    calls.push(`${name} ${typeof addr === 'number' ? addr : 'sg'} ${size}`);
  };
  const ops: DmaMapOps = {
    mapPage: (_dev, page, offset, size) => {
      calls.push(`map ${page * 4096 + offset === mem.phys} ${size}`);
      return 0x1000 as DmaAddr;
    },
    unmapPage: sync('unmap'),
    mapSg: (_dev, _sg, nents) => {
      calls.push(`mapSg ${nents}`);
      return 1;
    },
    unmapSg: sync('unmapSg'),
    mapResource: (_dev, phys) => phys as number as DmaAddr,
    unmapResource: sync('unmapResource'),
    syncSingleForCpu: sync('cpu'),
    syncSingleForDevice: sync('device'),
    syncSgForCpu: sync('sgCpu'),
    syncSgForDevice: sync('sgDevice'),
  };
  setDmaOps(dev, ops);
  assert.equal(getDmaOps(dev), ops);
  const dir = DMA_TO_DEVICE;
  const addr = dmaMapSingle(dev, mem, dir);
  const sg = sgAlloc(3);
  const table = new SgTable();
  table.sgl = sg;
  table.origNents = 3;
  assert.equal(dmaMapSg(dev, sg, 3, dir), 1);
  assert.equal(dmaMapSgtable(dev, table, dir, 0), OK);
  assert.equal(table.nents, 1);
  dmaSyncSingleForCpu(dev, addr, 10, dir);
  dmaSyncSingleForDevice(dev, addr, 10, dir);
  dmaSyncSingleRangeForCpu(dev, addr, 16, 10, dir);
  dmaSyncSingleRangeForDevice(dev, addr, 16, 10, dir);
  dmaSyncSgForCpu(dev, sg, 3, dir);
  dmaSyncSgForDevice(dev, sg, 3, dir);
  dmaSyncSgtableForCpu(dev, table, dir);
  dmaSyncSgtableForDevice(dev, table, dir);
  dmaUnmapSg(dev, sg, 3, dir);
  dmaUnmapSgtable(dev, table, dir, 0);
  dmaUnmapSingle(dev, addr, 4096, dir);
  dmaUnmapResource(dev, dmaMapResource(dev, physAddr(0x2000), 8, dir, 0), 8, dir, 0);
  assert.deepEqual(calls, [
    'map true 4096',
    'mapSg 3',
    'mapSg 3',
    'cpu 4096 10',
    'device 4096 10',
    'cpu 4112 10',
    'device 4112 10',
    'sgCpu sg 3',
    'sgDevice sg 3',
    'sgCpu sg 3',
    'sgDevice sg 3',
    'unmapSg sg 3',
    'unmapSg sg 3',
    'unmap 4096 4096',
    'unmapResource 8192 8',
  ]);
  assert.equal(dmaNeedSync(dev, addr), true);
  setDmaOps(dev, null);
  assert.equal(dmaMapSingle(dev, mem, dir), mem.phys);
});

test('absent operations give what the kernel gives', () => {
  const { kernel, dev } = directRig();
  const mem = getFreePage(kernel, GFP_KERNEL)!;
  setDmaOps(dev, {});
  assert.throws(() => dmaMapSingle(dev, mem, DMA_TO_DEVICE), KernelBug);
  assert.throws(() => dmaMapSg(dev, sgAlloc(1), 1, DMA_TO_DEVICE), KernelBug);
  assert.equal(dmaMapResource(dev, physAddr(0), 4, DMA_TO_DEVICE, 0), DMA_MAPPING_ERROR);
  dmaUnmapSingle(dev, 0 as DmaAddr, 1, DMA_TO_DEVICE);
  dmaSyncSingleForCpu(dev, 0 as DmaAddr, 1, DMA_TO_DEVICE);
  assert.equal(dmaNeedSync(dev, 0 as DmaAddr), false);
  assert.equal(dmaSetMask(dev, dmaBitMask(8)), OK);
  assert.equal(dmaGetRequiredMask(dev), dmaBitMask(32));
  assert.equal(dmaAddressingLimited(dev), true);
  assert.equal(dmaMaxMappingSize(dev), SIZE_MAX);
  assert.equal(dmaGetMergeBoundary(dev), 0);
});

test('the back end’s own limits hold', () => {
  const { dev } = directRig();
  setDmaOps(dev, {
    dmaSupported: (_dev, mask) => mask > 0xffn,
    getRequiredMask: () => dmaBitMask(20),
    maxMappingSize: () => 262144,
    optMappingSize: () => 131072,
    getMergeBoundary: () => 4095,
    needSync: () => false,
  });
  assert.equal(dmaSetMask(dev, 0xffn), EIO);
  assert.equal(dmaGetRequiredMask(dev), dmaBitMask(20));
  assert.equal(dmaAddressingLimited(dev), false);
  assert.equal(dmaMaxMappingSize(dev), 262144);
  assert.equal(dmaOptMappingSize(dev), 131072);
  assert.equal(dmaGetMergeBoundary(dev), 4095);
  assert.equal(dmaNeedSync(dev, 0 as DmaAddr), false);
});

test('an error that map_sg may not return is warned of and becomes EIO', () => {
  const { kernel, dev } = directRig();
  setDmaOps(dev, { mapSg: () => -95 });
  const table = new SgTable();
  assert.equal(dmaMapSgtable(dev, table, DMA_TO_DEVICE, 0), EIO);
  assert.equal(dmaMapSg(dev, table.sgl, 1, DMA_TO_DEVICE), 0);
  assert.equal(kernel.splats.length, 1);
});
