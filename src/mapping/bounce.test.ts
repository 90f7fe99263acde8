import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DMA_MAPPING_ERROR, type DmaAddr, dmaBitMask, type PhysAddr } from '../base/addr.ts';
import { DMA_BIDIRECTIONAL, DMA_TO_DEVICE } from '../kernel/dma-direction.ts';
import { Device, GFP_KERNEL } from '../kernel/index.ts';
import { allocPages, getFreePage, pageToPhys } from '../kernel/page-alloc.ts';
import { DMA_ATTR_SKIP_CPU_SYNC } from './attrs.ts';
import { type BounceBackend, defaultIoTlbMem, IoTlbMem, ioTlbMemOf } from './bounce.ts';
import { dmaAllocCoherent, dmaFreeCoherent } from './coherent.ts';
import { directRig } from './direct-rig.cases.ts';
import { SIZE_MAX } from './limits.ts';
import { dmaMaxMappingSize, dmaSetMask } from './mask.ts';
import { sgAlloc, sgSetBuf } from './scatterlist.ts';
import { dmaMapSg, dmaUnmapSg } from './sg.ts';
import { dmaMapSingle, dmaUnmapSingle, dmaUnmapSingleAttrs } from './streaming.ts';
import { dmaNeedSync, dmaSyncSingleForCpu, dmaSyncSingleForDevice } from './sync.ts';

const MIB = 2 ** 20;
const TLB = MIB as PhysAddr;

/** A machine of 64 MiB whose device reaches 16, and bounce buffers that only keep a log. */
function bouncingRig() {
  const rig = directRig({ ram: [{ base: 0, sizeBytes: 64 * MIB }] });
  const log: string[] = [];
  const backend: BounceBackend = {
    map: (_dev, phys, size) => {
      log.push(`map ${size} ${phys >= 16 * MIB}`);
      return TLB as number as DmaAddr;
    },
    mapSlots: () => TLB,
    unmap: (_dev, tlb, size, _dir, attrs) => log.push(`unmap ${tlb} ${size} ${attrs}`),
    syncForCpu: (_dev, tlb, size) => log.push(`cpu ${tlb} ${size}`),
    syncForDevice: (_dev, tlb, size) => log.push(`device ${tlb} ${size}`),
    maxMappingSize: () => 262144,
    allocPages: () => {
      log.push('alloc');
      return allocPages(rig.kernel, GFP_KERNEL, 0);
    },
    freePages: () => {
      log.push('free');
      return true;
    },
  };
  const tlb = defaultIoTlbMem(rig.kernel);
  dmaSetMask(rig.dev, dmaBitMask(24));
  const mem = getFreePage(rig.kernel, GFP_KERNEL)!;
  assert.ok(mem.phys >= 16 * MIB);
  return { ...rig, log, backend, tlb, mem };
}
function activate(rig: ReturnType<typeof bouncingRig>): void {
  Object.assign(rig.tlb, { active: true, start: TLB, end: TLB + MIB, backend: rig.backend });
}

test('what the device cannot reach bounces, once there is something to bounce through', () => {
  const rig = bouncingRig();
  const { dev, mem, log } = rig;
  assert.equal(dmaMapSingle(dev, mem, DMA_TO_DEVICE), DMA_MAPPING_ERROR);
  activate(rig);
  const addr = dmaMapSingle(dev, mem, DMA_TO_DEVICE);
  assert.equal(addr, TLB);
  assert.equal(dmaNeedSync(dev, addr), true);
  dmaSyncSingleForCpu(dev, addr, 64, DMA_TO_DEVICE);
  dmaSyncSingleForDevice(dev, addr, 64, DMA_TO_DEVICE);
  dmaUnmapSingle(dev, addr, 4096, DMA_TO_DEVICE);
  dmaUnmapSingleAttrs(dev, addr, 4096, DMA_TO_DEVICE, DMA_ATTR_SKIP_CPU_SYNC);
  const skip = DMA_ATTR_SKIP_CPU_SYNC;
  assert.deepEqual(log, [
    'map 4096 true',
    `cpu ${TLB} 64`,
    `device ${TLB} 64`,
    // Unmapping syncs, and then only frees the slots.
    `cpu ${TLB} 4096`,
    `unmap ${TLB} 4096 ${skip}`,
    `unmap ${TLB} 4096 ${skip}`,
  ]);
});

test('what the device reaches does not bounce, unless everything must', () => {
  const rig = bouncingRig();
  activate(rig);
  const { dev, mem, log } = rig;
  dmaSetMask(dev, dmaBitMask(32));
  assert.equal(dmaMapSingle(dev, mem, DMA_TO_DEVICE), mem.phys);
  assert.equal(dmaNeedSync(dev, mem.phys as number as DmaAddr), false);
  rig.tlb.forceBounce = true;
  assert.equal(dmaMapSingle(dev, mem, DMA_TO_DEVICE), TLB);
  const sg = sgAlloc(1);
  sgSetBuf(sg, mem);
  assert.equal(dmaMapSg(dev, sg, 1, DMA_TO_DEVICE), 1);
  assert.equal(sg.dmaAddress, TLB);
  dmaUnmapSg(dev, sg, 1, DMA_TO_DEVICE);
  assert.equal(log.filter((line) => line.startsWith('map')).length, 2);
  assert.equal(log.filter((line) => line.startsWith('unmap')).length, 1);
});

test('forced bouncing without memory fails', () => {
  const rig = bouncingRig();
  rig.tlb.forceBounce = true;
  assert.equal(dmaMapSingle(rig.dev, rig.mem, DMA_TO_DEVICE), DMA_MAPPING_ERROR);
});

test('bounce buffers limit the size of mappings only where they may be needed', () => {
  const rig = bouncingRig();
  const { dev } = rig;
  assert.equal(dmaMaxMappingSize(dev), SIZE_MAX);
  activate(rig);
  assert.equal(dmaMaxMappingSize(dev), 262144);
  dmaSetMask(dev, dmaBitMask(32));
  assert.equal(dmaMaxMappingSize(dev), SIZE_MAX);
  rig.tlb.forceBounce = true;
  assert.equal(dmaMaxMappingSize(dev), 262144);
});

test('a device may have bounce buffers of its own, and its coherent memory in them', () => {
  const rig = bouncingRig();
  const { kernel, log } = rig;
  const dev = new Device(kernel, 'restricted');
  dev.dmaMask = dev.coherentDmaMask = dmaBitMask(32);
  assert.equal(ioTlbMemOf(rig.dev), rig.tlb);
  const own = new IoTlbMem();
  own.forAlloc = true;
  own.backend = rig.backend;
  dev.dmaIoTlbMem = own;
  const { mem, handle } = dmaAllocCoherent(dev, 4096, GFP_KERNEL)!;
  assert.equal(handle, mem.phys);
  dmaFreeCoherent(dev, 4096, mem, handle);
  assert.deepEqual(log, ['alloc', 'free']);
  dmaMapSingle(dev, rig.mem, DMA_BIDIRECTIONAL);
  assert.deepEqual(log, ['alloc', 'free'], 'what it reaches does not bounce');
  assert.notEqual(pageToPhys(allocPages(kernel, GFP_KERNEL, 0)!), mem.phys);
});
