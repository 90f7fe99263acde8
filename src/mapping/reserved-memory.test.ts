import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PAGE_SIZE } from '../base/addr.ts';
import { EBUSY, EINVAL, ENODEV, OK } from '../base/errno.ts';
import { DMA_TO_DEVICE } from '../kernel/dma-direction.ts';
import {
  Device,
  type DtSpec,
  deviceAdd,
  dt,
  FrameKind,
  GFP_KERNEL,
  getFreePages,
  Kernel,
  ofFindNodeByPath,
  ofTree,
  setDefaultDmaMasks,
} from '../kernel/index.ts';
import { SimMachine } from '../machine/index.ts';
import { IoTlbMem, ioTlbMemOf } from './bounce.ts';
import { dmaAllocCoherent, dmaFreeCoherent } from './coherent.ts';
import { defaultCma, devGetCmaArea } from './contiguous.ts';
import { dmaInit } from './init.ts';
import {
  ofReservedMemDeviceInit,
  ofReservedMemDeviceInitByIdx,
  ofReservedMemDeviceRelease,
  reservedMem,
} from './reserved-memory.ts';
import { dmaMapSingle, dmaUnmapSingle } from './streaming.ts';
import { swiotlbStats } from './swiotlb-init.ts';

const MIB = 2 ** 20;

/** A kernel whose tree reserves `regions`, and a device that refers to them. */
function boot(regions: readonly DtSpec[], references: readonly string[], cmdline = '') {
  const cells = { '#address-cells': 1, '#size-cells': 1 };
  const tree = ofTree(
    dt('/', cells, [
      dt('reserved-memory', { ...cells, ranges: true }, [...regions]),
      dt('camera@0', references.length === 0 ? {} : { 'memory-region': references }),
    ]),
  );
  const ram = [{ base: 0, sizeBytes: 64 * MIB }];
  const kernel = new Kernel(new SimMachine({ name: 'r', coherent: true, ram, seed: 1, cacheNoise: 'off' }), {
    cmdline,
  });
  dmaInit(kernel, tree);
  const dev = new Device(kernel, 'camera', { ofNode: ofFindNodeByPath(tree, '/camera@0') });
  setDefaultDmaMasks(dev);
  dev.dmaParms = { maxSegmentSize: 0, segmentBoundaryMask: 0, minAlignMask: 0 };
  return { kernel, dev, log: kernel.log.lines.map(({ text }) => text) };
}

test('a region at a fixed place is set aside', () => {
  const { kernel, dev } = boot([dt('firmware@1000000', { reg: [32 * MIB, MIB], 'no-map': true })], []);
  assert.deepEqual(
    reservedMem(kernel).map(({ base, sizeBytes, kind }) => ({ base, sizeBytes, kind })),
    [{ base: 32 * MIB, sizeBytes: MIB, kind: 'plain' }],
  );
  assert.equal(kernel.machine.ram[0]!.kindAt(32 * MIB), FrameKind.RESERVED);
  assert.equal(ofReservedMemDeviceInit(dev), ENODEV);
});
test('a region of a size only lies in its ranges, aligned, and around the fixed ones', () => {
  const { kernel } = boot(
    [
      dt('any', { size: [MIB], alignment: [4 * MIB], 'alloc-ranges': [32 * MIB, 16 * MIB] }),
      dt('fixed@2c00000', { reg: [44 * MIB, 4 * MIB] }),
      dt('top', { size: [2 * MIB] }),
    ],
    [],
  );
  assert.deepEqual(
    reservedMem(kernel).map(({ node, base }) => [node.name, base]),
    [
      ['fixed', 44 * MIB],
      ['any', 40 * MIB],
      ['top', 62 * MIB],
    ],
  );
});
test('what cannot be reserved is told', () => {
  const { kernel, log } = boot(
    [
      dt('a@0', { reg: [16 * MIB, MIB] }),
      dt('b', { size: [128 * MIB] }),
      dt('c@40', { reg: [128 * MIB, MIB], status: 'disabled' }),
    ],
    [],
  );
  assert.deepEqual(log, [
    "OF: fdt: Reserved memory: failed to reserve memory for node 'a@0': base 0x1000000, size 1 MiB",
    "OF: reserved mem: failed to allocate memory for node 'b'",
  ]);
  assert.deepEqual(reservedMem(kernel), []);
});

const camera = dt('pool: camera@2000000', {
  compatible: 'shared-dma-pool',
  reusable: true,
  reg: [32 * MIB, 4 * MIB],
});
test('a reusable shared pool is a CMA area of the devices that refer to it', () => {
  const { kernel, dev, log } = boot([camera], ['&pool']);
  assert.deepEqual(log, ['Reserved memory: created CMA memory pool at 0x2000000, size 4 MiB']);
  assert.equal(devGetCmaArea(dev), null);
  assert.equal(ofReservedMemDeviceInit(dev), OK);
  const { mem, handle } = dmaAllocCoherent(dev, PAGE_SIZE, GFP_KERNEL)!;
  assert.ok(mem.phys >= 32 * MIB && mem.phys < 36 * MIB);
  dmaFreeCoherent(dev, PAGE_SIZE, mem, handle);
  ofReservedMemDeviceRelease(dev);
  assert.equal(devGetCmaArea(dev), null);
  assert.equal(kernel.pages.freePages, kernel.pages.managedPages);
});
test('the default area may come from the tree, unless cma= says otherwise', () => {
  const spec = (): DtSpec =>
    dt('pool: linux,cma', {
      compatible: 'shared-dma-pool',
      reusable: true,
      size: [4 * MIB],
      'linux,cma-default': true,
    });
  const { kernel } = boot([spec()], []);
  assert.equal(defaultCma(kernel)?.name, 'linux,cma');
  const other = boot([spec()], [], 'cma=8M');
  assert.equal(defaultCma(other.kernel)?.sizeBytes, 8 * MIB);
  assert.equal(other.log[0], 'Reserved memory: bypass linux,cma node, using cmdline CMA params instead');
});
test('an area that is not aligned to a pageblock is refused', () => {
  const bad = dt('pool: x@2100000', { compatible: 'shared-dma-pool', reusable: true, reg: [33 * MIB, 4 * MIB] });
  const { dev, log } = boot([bad], ['&pool']);
  assert.deepEqual(log, ['Reserved memory: incorrect alignment of CMA region']);
  assert.equal(ofReservedMemDeviceInit(dev), EINVAL);
});

test('a shared pool that is not reusable is the device’s own memory', () => {
  const own = dt('pool: dsp@2000000', { compatible: 'shared-dma-pool', 'no-map': true, reg: [32 * MIB, MIB] });
  const { kernel, dev, log } = boot([own], ['&pool']);
  assert.deepEqual(log, ['Reserved memory: created DMA memory pool at 0x2000000, size 1 MiB']);
  dev.coherentDmaMask = 0xffffffn;
  assert.equal(ofReservedMemDeviceInit(dev), OK);
  assert.equal(kernel.log.lines.at(-1)!.text, "camera: reserved memory is beyond device's set DMA address range");
  assert.equal(dmaAllocCoherent(dev, 64, GFP_KERNEL)!.handle, 32 * MIB);
  assert.equal(ofReservedMemDeviceInit(dev), EBUSY);
});
test('regions are chosen by index', () => {
  const other = dt('other: dsp@2800000', { compatible: 'shared-dma-pool', reg: [40 * MIB, MIB] });
  const { dev } = boot([camera, other], ['&pool', '&other']);
  const node = dev.ofNode!;
  assert.equal(ofReservedMemDeviceInitByIdx(dev, node, 0), OK);
  assert.equal(ofReservedMemDeviceInitByIdx(dev, node, 1), OK);
  assert.equal(ofReservedMemDeviceInitByIdx(dev, node, 2), ENODEV);
  assert.notEqual(dev.dmaMem, null);
  assert.notEqual(dev.cmaArea, null);
});

test('all transfers and allocations of a device with a restricted pool go through it', async () => {
  const pool = dt('pool: wifi@2000000', { compatible: 'restricted-dma-pool', reg: [32 * MIB, 4 * MIB] });
  const { kernel, dev, log } = boot([pool], ['&pool']);
  assert.deepEqual(log, ['Reserved memory: created restricted DMA pool at 0x2000000, size 4 MiB']);
  await kernel.run(() => deviceAdd(dev));
  const tlb = ioTlbMemOf(dev);
  assert.deepEqual([tlb.forceBounce, tlb.forAlloc, tlb.start, tlb.end], [true, true, 32 * MIB, 36 * MIB]);
  const mem = getFreePages(kernel, GFP_KERNEL, 0)!;
  const addr = dmaMapSingle(dev, mem, DMA_TO_DEVICE);
  assert.ok(tlb.contains(addr));
  assert.equal(swiotlbStats(kernel, tlb).ioTlbUsed, 2);
  dmaUnmapSingle(dev, addr, PAGE_SIZE, DMA_TO_DEVICE);
  const free = kernel.pages.freePages;
  const memory = dmaAllocCoherent(dev, 3 * PAGE_SIZE, GFP_KERNEL)!;
  assert.ok(tlb.contains(memory.handle));
  assert.equal(memory.handle % (4 * PAGE_SIZE), 0);
  assert.equal(kernel.pages.freePages, free);
  dmaFreeCoherent(dev, 3 * PAGE_SIZE, memory.mem, memory.handle);
  assert.equal(swiotlbStats(kernel, tlb).ioTlbUsed, 0);
  const big = dmaAllocCoherent(dev, 256 * 1024, GFP_KERNEL)!;
  assert.ok(tlb.contains(big.handle));
  assert.equal(dmaAllocCoherent(dev, 512 * 1024, GFP_KERNEL), null, 'more than a segment');
  const other = new Device(kernel, 'other');
  assert.ok(ioTlbMemOf(other) instanceof IoTlbMem && ioTlbMemOf(other) !== tlb);
});
