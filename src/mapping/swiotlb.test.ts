import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DMA_MAPPING_ERROR, type DmaAddr, dmaBitMask, PAGE_SIZE, physAddr } from '../base/addr.ts';
import { EINVAL, OK } from '../base/errno.ts';
import { Prng } from '../base/prng.ts';
import { DMA_BIDIRECTIONAL, DMA_FROM_DEVICE, DMA_TO_DEVICE } from '../kernel/dma-direction.ts';
import { GFP_KERNEL, getFreePages, Kernel, kmalloc, type Mem } from '../kernel/index.ts';
import { memAt } from '../kernel/page-alloc.ts';
import { SimMachine } from '../machine/index.ts';
import { DMA_ATTR_NO_WARN } from './attrs.ts';
import { defaultIoTlbMem, ioTlbMemOf } from './bounce.ts';
import { dmaAllocCoherent, dmaFreeCoherent } from './coherent.ts';
import { dmaInit } from './init.ts';
import { SIZE_MAX } from './limits.ts';
import { dmaMaxMappingSize, dmaSetMaskAndCoherent, dmaSetMinAlignMask, dmaSetSegBoundary } from './mask.ts';
import { mappingOpsCases } from './ops.cases.ts';
import { sgAlloc, sgAt, sgSetBuf } from './scatterlist.ts';
import { dmaMapSg } from './sg.ts';
import { dmaMapSingle, dmaMapSingleAttrs, dmaUnmapSingle } from './streaming.ts';
import { parseSwiotlb, swiotlbSetHiwater, swiotlbStats } from './swiotlb-init.ts';
import { poolOf, swiotlbRig } from './swiotlb-rig.cases.ts';
import { dmaNeedSync, dmaSyncSingleForCpu, dmaSyncSingleForDevice } from './sync.ts';

const MIB = 2 ** 20;
const log = (kernel: Kernel): string[] => kernel.log.lines.map(({ text }) => text);

for (const coherent of [true, false]) {
  mappingOpsCases({
    name: `swiotlb=force, ${coherent ? 'coherent' : 'non-coherent'}`,
    seesMemory: false,
    cached: false,
    isolates: false,
    make: (options) => swiotlbRig('swiotlb=512,force', { ...options, coherent }),
  });
}

test('the argument is slots, areas, and whether to bounce everything or nothing', () => {
  const plain = { nslabs: 32768, nareas: 0, force: false, disable: false };
  assert.deepEqual(parseSwiotlb(''), plain);
  assert.deepEqual(parseSwiotlb('force'), { ...plain, force: true });
  assert.deepEqual(parseSwiotlb('noforce'), { ...plain, disable: true });
  assert.deepEqual(parseSwiotlb('1000'), { ...plain, nslabs: 1024 });
  assert.deepEqual(parseSwiotlb('0x10000,4,force'), { nslabs: 65536, nareas: 4, force: true, disable: false });
  assert.deepEqual(parseSwiotlb('4096,3'), { ...plain, nslabs: 4096, nareas: 4 });
  assert.deepEqual(parseSwiotlb(',2'), { ...plain, nareas: 2 });
  assert.deepEqual(parseSwiotlb('forced'), plain);
});

/** What dmaInit makes of a machine. */
function boot(cmdline: string, ram: { base: number; sizeBytes: number }[], dmaPhysLimit?: number): Kernel {
  const machine = new SimMachine({ name: 'boot', coherent: true, ram, seed: 1, cacheNoise: 'off' });
  const kernel = new Kernel(machine, {
    cmdline,
    ...(dmaPhysLimit === undefined ? {} : { dmaPhysLimit, zoneDmaLimit: dmaPhysLimit }),
  });
  dmaInit(kernel);
  return kernel;
}
test('a machine without memory above 4 GiB has no bounce buffers, unless they are forced', () => {
  const low = [{ base: 0, sizeBytes: 128 * MIB }];
  assert.equal(defaultIoTlbMem(boot('', low)).active, false);
  assert.equal(defaultIoTlbMem(boot('swiotlb=1024', low)).active, false);
  const forced = boot('swiotlb=force', low);
  const mem = defaultIoTlbMem(forced);
  assert.deepEqual([mem.active, mem.forceBounce, mem.start, mem.end], [true, true, 64 * MIB, 128 * MIB]);
  assert.equal(forced.pages.managedPages, boot('', low).pages.managedPages - (64 * MIB) / PAGE_SIZE);
  assert.deepEqual(log(forced), ['software IO TLB: mapped [mem 0x0000000004000000-0x0000000008000000] (64MB)']);
});
test('memory above 4 GiB brings bounce buffers below it', () => {
  const ram = [
    { base: 0, sizeBytes: 128 * MIB },
    { base: 2 ** 32, sizeBytes: 128 * MIB },
  ];
  const mem = defaultIoTlbMem(boot('', ram));
  assert.deepEqual([mem.active, mem.forceBounce, mem.end], [true, false, 128 * MIB]);
  assert.equal(defaultIoTlbMem(boot('swiotlb=noforce', ram)).active, false);
});
test('memory that not all devices reach brings bounce buffers below it, smaller ones where there is little', () => {
  const kernel = boot('', [{ base: 0, sizeBytes: 64 * MIB }], 16 * MIB);
  const mem = defaultIoTlbMem(kernel);
  assert.deepEqual([mem.active, mem.end - mem.start], [true, 8 * MIB]);
  assert.ok(mem.end <= 16 * MIB);
  const lines = log(kernel);
  assert.equal(lines[0], 'software IO TLB: swiotlb_memblock_alloc: Failed to allocate 67108864 bytes tlb structure');
  assert.ok(lines.includes('software IO TLB: SWIOTLB bounce buffer size adjusted 32768 -> 4096 slabs'));
  const tiny = boot('swiotlb=force', [{ base: 0, sizeBytes: MIB }]);
  assert.equal(defaultIoTlbMem(tiny).active, false);
  assert.equal(log(tiny).at(-1), 'software IO TLB: No low mem');
});

function pages(kernel: Kernel, order: number): Mem {
  const mem = getFreePages(kernel, GFP_KERNEL, order);
  assert.ok(mem !== null);
  return mem;
}
test('what the mask does not reach bounces, what it reaches does not', () => {
  const ram = [
    { base: 0, sizeBytes: 80 * MIB },
    { base: 2 ** 32, sizeBytes: 16 * MIB },
  ];
  const rig = swiotlbRig('', { ram, kernel: {} });
  const { kernel, dev } = rig;
  const high = memAt(kernel, 2 ** 32 + 8 * MIB, 4096);
  high.bytes.fill(0x61);
  const addr = dmaMapSingle(dev, high, DMA_BIDIRECTIONAL);
  assert.ok(ioTlbMemOf(dev).contains(addr));
  assert.equal(rig.deviceRead(addr, 4096)?.[4095], 0x61);
  rig.deviceWrite(addr, new Uint8Array(4096).fill(0x62));
  assert.equal(high.bytes[0], 0x61);
  dmaUnmapSingle(dev, addr, 4096, DMA_BIDIRECTIONAL);
  assert.equal(high.bytes[4095], 0x62);
  const low = memAt(kernel, MIB, 64);
  assert.equal(dmaMapSingle(dev, low, DMA_TO_DEVICE), MIB);
  assert.equal(dmaNeedSync(dev, MIB as DmaAddr), false);
  assert.equal(dmaMaxMappingSize(dev), 262144);
  dmaSetMaskAndCoherent(dev, dmaBitMask(64));
  assert.equal(dmaMapSingle(dev, high, DMA_TO_DEVICE), high.phys);
  assert.equal(dmaMaxMappingSize(dev), SIZE_MAX);
});
test('a buffer over two banks bounces as one', () => {
  const ram = [
    { base: 0, sizeBytes: 4 * MIB },
    { base: 4 * MIB, sizeBytes: 4 * MIB },
  ];
  const rig = swiotlbRig('swiotlb=512,force', { ram });
  const [first, second] = rig.kernel.machine.ram;
  first!.cpu.fill(0x61, 4 * MIB - 1000);
  second!.cpu.fill(0x62, 0, 1000);
  // No allocator gives such memory.
  const tlb = poolOf(rig).mapSlots(rig.dev, physAddr(4 * MIB - 1000), 2000, 0, DMA_BIDIRECTIONAL, 0);
  const seen = rig.deviceRead(tlb as number as DmaAddr, 2000)!;
  assert.deepEqual([seen[0], seen[999], seen[1000], seen[1999]], [0x61, 0x61, 0x62, 0x62]);
  rig.deviceWrite(tlb as number as DmaAddr, new Uint8Array(2000).fill(0x63));
  poolOf(rig).unmap(rig.dev, tlb, 2000, DMA_FROM_DEVICE, 0);
  assert.deepEqual([first!.cpu[4 * MIB - 1], second!.cpu[999], second!.cpu[1000]], [0x63, 0x63, 0]);
});

test('slots, used slots and the high-water mark are counted', () => {
  const rig = swiotlbRig('swiotlb=1024,force');
  const { kernel, dev } = rig;
  const mem = pages(kernel, 2);
  assert.deepEqual(swiotlbStats(kernel), { ioTlbNslabs: 1024, ioTlbUsed: 0, ioTlbUsedHiwater: 0 });
  const a = dmaMapSingle(dev, mem.slice(0, 2049), DMA_TO_DEVICE);
  const b = dmaMapSingle(dev, mem.slice(0, 1), DMA_TO_DEVICE);
  assert.deepEqual(swiotlbStats(kernel), { ioTlbNslabs: 1024, ioTlbUsed: 3, ioTlbUsedHiwater: 3 });
  dmaUnmapSingle(dev, a, 2049, DMA_TO_DEVICE);
  assert.deepEqual(swiotlbStats(kernel), { ioTlbNslabs: 1024, ioTlbUsed: 1, ioTlbUsedHiwater: 3 });
  assert.equal(swiotlbSetHiwater(kernel, 1), EINVAL);
  assert.equal(swiotlbSetHiwater(kernel, 0), OK);
  dmaUnmapSingle(dev, b, 1, DMA_TO_DEVICE);
  assert.deepEqual(swiotlbStats(kernel), { ioTlbNslabs: 1024, ioTlbUsed: 0, ioTlbUsedHiwater: 0 });
  assert.deepEqual(swiotlbStats(boot('', [{ base: 0, sizeBytes: 16 * MIB }])), {
    ioTlbNslabs: 0,
    ioTlbUsed: 0,
    ioTlbUsedHiwater: 0,
  });
});

test('when the pool is full the mapping fails, with the kernel’s message, ten times in five seconds', () => {
  const rig = swiotlbRig('swiotlb=512,force');
  const { kernel, dev } = rig;
  const mem = pages(kernel, 6);
  const live = Array.from({ length: 4 }, () => dmaMapSingle(dev, mem, DMA_TO_DEVICE));
  assert.ok(live.every((addr) => addr !== DMA_MAPPING_ERROR));
  kernel.log.lines.length = 0;
  for (let i = 0; i < 15; i++) assert.equal(dmaMapSingle(dev, mem.slice(0, 100), DMA_TO_DEVICE), DMA_MAPPING_ERROR);
  assert.deepEqual(
    log(kernel),
    new Array(10).fill('tester: swiotlb buffer is full (sz: 100 bytes), total 512 (slots), used 512 (slots)'),
  );
  kernel.machine.delay(6e9);
  kernel.log.lines.length = 0;
  dmaMapSingle(dev, mem, DMA_TO_DEVICE);
  assert.deepEqual(log(kernel), [
    'swiotlb_tbl_map_single: 5 callbacks suppressed',
    'tester: swiotlb buffer is full (sz: 262144 bytes), total 512 (slots), used 512 (slots)',
  ]);
  dmaMapSingleAttrs(dev, mem, DMA_TO_DEVICE, DMA_ATTR_NO_WARN);
  assert.equal(kernel.log.lines.length, 2);
  dmaUnmapSingle(dev, live[2]!, 262144, DMA_TO_DEVICE);
  assert.equal(dmaMapSingle(dev, mem, DMA_TO_DEVICE), live[2]);
  assert.deepEqual(kernel.splats, []);
});
test('a list that does not fit leaves nothing behind', () => {
  const rig = swiotlbRig('swiotlb=512,force');
  const { kernel, dev } = rig;
  const mem = pages(kernel, 6);
  const sgl = sgAlloc(6);
  for (let i = 0; i < 6; i++) sgSetBuf(sgAt(sgl, i), mem);
  assert.equal(dmaMapSg(dev, sgl, 6, DMA_TO_DEVICE), 0);
  assert.equal(swiotlbStats(kernel).ioTlbUsed, 0);
});
test('more than a segment cannot be had', () => {
  const rig = swiotlbRig('swiotlb=512,force', { ram: [{ base: 0, sizeBytes: 16 * MIB }] });
  const mem = pages(rig.kernel, 7);
  assert.equal(dmaMapSingle(rig.dev, mem.slice(0, 262145), DMA_TO_DEVICE), DMA_MAPPING_ERROR);
  assert.notEqual(dmaMapSingle(rig.dev, mem.slice(0, 262144), DMA_TO_DEVICE), DMA_MAPPING_ERROR);
});

test('an area that is full is left for the next', () => {
  const rig = swiotlbRig('swiotlb=512,4,force');
  const { dev } = rig;
  const { slots, start } = poolOf(rig);
  assert.deepEqual([slots.nareas, slots.areaSlots], [4, 128]);
  const mem = pages(rig.kernel, 6);
  const where: number[] = [];
  for (let i = 0; i < 4; i++) where.push((dmaMapSingle(dev, mem, DMA_TO_DEVICE) - start) / 262144);
  assert.deepEqual(where, [0, 1, 2, 3]);
  assert.deepEqual([...slots.used], [128, 128, 128, 128]);
  dmaUnmapSingle(dev, (start + 262144) as number as DmaAddr, 262144, DMA_TO_DEVICE);
  assert.deepEqual([...slots.used], [128, 0, 128, 128]);
  assert.equal(dmaMapSingle(dev, mem.slice(0, 64), DMA_TO_DEVICE), start + 262144);
});

test('no bounce crosses the device’s segment boundary', () => {
  const rig = swiotlbRig('swiotlb=1024,force');
  const { dev } = rig;
  dmaSetSegBoundary(dev, 0x3fff);
  const mem = pages(rig.kernel, 2);
  for (let i = 0; i < 100; i++) {
    const size = 1 + ((i * 2311) % 16384);
    const addr = dmaMapSingle(dev, mem.slice(0, size), DMA_TO_DEVICE);
    assert.notEqual(addr, DMA_MAPPING_ERROR);
    assert.equal(Math.floor(addr / 0x4000), Math.floor((addr + size - 1) / 0x4000));
    dmaUnmapSingle(dev, addr, size, DMA_TO_DEVICE);
  }
});

test('a sync of any part finds its original, whatever the offset of the bounce', () => {
  const seed = 77;
  const prng = new Prng(seed);
  const rig = swiotlbRig('swiotlb=1024,force');
  const { dev } = rig;
  const whole = pages(rig.kernel, 4);
  for (let round = 0; round < 300; round++) {
    dmaSetMinAlignMask(dev, [0, 0xff, 0x7ff, 0xfff, 0x3fff][prng.below(5)]!);
    const offset = prng.below(20000);
    const size = 1 + prng.below(20000);
    const mem = whole.slice(offset, size);
    mem.bytes.fill(1);
    const addr = dmaMapSingle(dev, mem, DMA_BIDIRECTIONAL);
    assert.notEqual(addr, DMA_MAPPING_ERROR, `seed ${seed}, round ${round}`);
    const from = prng.below(size);
    const part = 1 + prng.below(size - from);
    rig.deviceWrite(addr, new Uint8Array(size).fill(2));
    dmaSyncSingleForCpu(dev, (addr + from) as DmaAddr, part, DMA_BIDIRECTIONAL);
    const expected = new Uint8Array(size).fill(1).fill(2, from, from + part);
    assert.deepEqual(mem.bytes, expected, `seed ${seed}, round ${round}`);
    mem.bytes.fill(3);
    dmaSyncSingleForDevice(dev, (addr + from) as DmaAddr, part, DMA_BIDIRECTIONAL);
    assert.deepEqual(rig.deviceRead(addr, size), new Uint8Array(size).fill(2).fill(3, from, from + part));
    dmaUnmapSingle(dev, addr, size, DMA_BIDIRECTIONAL);
  }
  assert.equal(swiotlbStats(rig.kernel).ioTlbUsed, 0);
});
test('a sync behind the end of the mapping is cut, and warned of', () => {
  const rig = swiotlbRig('swiotlb=512,force');
  const mem = pages(rig.kernel, 0);
  const addr = dmaMapSingle(rig.dev, mem.slice(0, 64), DMA_FROM_DEVICE);
  rig.deviceWrite(addr, new Uint8Array(4096).fill(9));
  dmaSyncSingleForCpu(rig.dev, addr, 100, DMA_FROM_DEVICE);
  assert.deepEqual([mem.bytes[63], mem.bytes[64]], [9, 0]);
  assert.deepEqual(
    rig.kernel.splats.map(({ message }) => message),
    ['tester: Buffer overflow detected. Allocation size: 64. Mapping size: 100.'],
  );
});

test('after any program of map and unmap all is free again, and every segment whole', () => {
  const seed = 5;
  const prng = new Prng(seed);
  const rig = swiotlbRig('swiotlb=1024,2,force');
  const { dev } = rig;
  const mem = pages(rig.kernel, 6);
  const { slots } = poolOf(rig);
  const live: { addr: DmaAddr; size: number; mask: number }[] = [];
  for (let step = 0; step < 20000; step++) {
    const mask = [0, 0xfff, 0x3fff][prng.below(3)]!;
    if (live.length < 60 && prng.chance(1, 2)) {
      const offset = prng.below(8192);
      const size = 1 + prng.below(prng.chance(1, 8) ? 200_000 : 5000);
      dmaSetMinAlignMask(dev, mask);
      const addr = dmaMapSingleAttrs(dev, mem.slice(offset, size), DMA_TO_DEVICE, DMA_ATTR_NO_WARN);
      if (addr !== DMA_MAPPING_ERROR) live.push({ addr, size, mask });
    } else if (live.length > 0) {
      const [gone] = live.splice(prng.below(live.length), 1);
      dmaSetMinAlignMask(dev, gone!.mask);
      dmaUnmapSingle(dev, gone!.addr, gone!.size, DMA_TO_DEVICE);
    }
  }
  for (const { addr, size, mask } of live) {
    dmaSetMinAlignMask(dev, mask);
    dmaUnmapSingle(dev, addr, size, DMA_TO_DEVICE);
  }
  assert.equal(slots.usedSlots, 0, `seed ${seed}`);
  for (let i = 0; i < slots.nslabs; i++) assert.equal(slots.list[i], 128 - (i % 128), `seed ${seed}, slot ${i}`);
});

test('small kmalloc buffers bounce where they may share a cache line, but not to the device', () => {
  const rig = swiotlbRig('', { coherent: false, cacheLineBytes: 64, kernel: { dmaMinAlign: 8 } });
  const { kernel, dev } = rig;
  assert.equal(defaultIoTlbMem(kernel).end - defaultIoTlbMem(kernel).start, 256 * 1024, 'a segment for so little RAM');
  const tlb = ioTlbMemOf(dev);
  const mapped = (size: number, dir: typeof DMA_TO_DEVICE | typeof DMA_FROM_DEVICE): boolean => {
    const mem = kmalloc(kernel, size, GFP_KERNEL)!;
    const addr = dmaMapSingle(dev, mem, dir);
    dmaUnmapSingle(dev, addr, size, dir);
    return tlb.contains(addr);
  };
  assert.equal(mapped(32, DMA_FROM_DEVICE), true);
  assert.equal(mapped(96, DMA_FROM_DEVICE), true);
  assert.equal(mapped(64, DMA_FROM_DEVICE), false);
  assert.equal(mapped(200, DMA_FROM_DEVICE), false);
  assert.equal(mapped(32, DMA_TO_DEVICE), false);
});
test('coherent memory never bounces', () => {
  const rig = swiotlbRig('swiotlb=force', { ram: [{ base: 0, sizeBytes: 80 * MIB }] });
  const { mem, handle } = dmaAllocCoherent(rig.dev, 8192, GFP_KERNEL)!;
  assert.equal(handle, mem.phys);
  assert.equal(ioTlbMemOf(rig.dev).contains(handle), false);
  assert.equal(swiotlbStats(rig.kernel).ioTlbUsedHiwater, 0);
  dmaFreeCoherent(rig.dev, 8192, mem, handle);
});
