import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DMA_MAPPING_ERROR, type DmaAddr, dmaAddr, dmaBitMask, PAGE_SIZE, physAddr } from '../base/addr.ts';
import { ENXIO } from '../base/errno.ts';
import { devresReleaseAll } from '../kernel/devres.ts';
import { DMA_BIDIRECTIONAL } from '../kernel/dma-direction.ts';
import {
  __GFP_COMP,
  __GFP_DMA,
  __GFP_NOWARN,
  FrameKind,
  GFP_ATOMIC,
  GFP_DMA,
  GFP_KERNEL,
  localIrqSave,
  type Mem,
} from '../kernel/index.ts';
import { allocPages, pageToPhys } from '../kernel/page-alloc.ts';
import { allocSources } from './alloc-sources.ts';
import { DMA_ATTR_NO_WARN } from './attrs.ts';
import {
  dmaAllocAttrs,
  dmaAllocCoherent,
  dmaAllocWc,
  dmaCanMmap,
  dmaFreeCoherent,
  dmaFreeWc,
  dmaGetSgtable,
  dmaMmapCoherent,
  dmaMmapWc,
} from './coherent.ts';
import { directRig } from './direct-rig.cases.ts';
import { dmamAllocCoherent, dmamFreeCoherent } from './managed.ts';
import { dmaSetMaskAndCoherent } from './mask.ts';
import {
  dmaAllocNoncoherent,
  dmaAllocPages,
  dmaCommonAllocPages,
  dmaCommonFreePages,
  dmaFreeNoncoherent,
  dmaFreePages,
} from './noncoherent.ts';
import { dmaAllocNoncontiguous, dmaFreeNoncontiguous, dmaVmapNoncontiguous } from './noncontiguous.ts';
import { type DmaMapOps, dmaDirectOps, setDmaOps } from './ops.ts';
import { SgTable } from './sg-table.ts';
import { dmaMapSingle } from './streaming.ts';
import { UserMapping } from './user-mapping.ts';

const MIB = 2 ** 20;
const ram = [{ base: 0, sizeBytes: 64 * MIB }];
const split = [
  { base: 0, sizeBytes: 32 * MIB },
  { base: 2 ** 32, sizeBytes: 32 * MIB },
];

test('the coherent mask chooses the zone', () => {
  const { kernel, dev } = directRig({ ram: split });
  const where = (bits: number): number => {
    dmaSetMaskAndCoherent(dev, dmaBitMask(bits));
    const memory = dmaAllocCoherent(dev, 4096, GFP_KERNEL)!;
    assert.equal(memory.handle, memory.mem.phys);
    return memory.handle;
  };
  assert.ok(where(24) < 16 * MIB);
  assert.ok(where(64) >= 2 ** 32);
  const low = where(32);
  assert.ok(low >= 16 * MIB && low < 2 ** 32);
  assert.equal(kernel.splats.length, 0);
});

test('memory out of reach is given back, and the next lower zone tried', () => {
  // 25 bits: more than ZONE_DMA, less than ZONE_DMA32 holds.
  const { kernel, dev } = directRig({ ram });
  dmaSetMaskAndCoherent(dev, dmaBitMask(25));
  while (kernel.pages.zone('DMA32').startPfn > 0) {
    const page = allocPages(kernel, GFP_KERNEL, 10)!;
    if (pageToPhys(page) >= 32 * MIB) break;
  }
  const before = kernel.pages.freePages;
  const memory = dmaAllocCoherent(dev, 4096, GFP_KERNEL)!;
  assert.ok(memory.handle < 16 * MIB);
  assert.equal(kernel.pages.freePages, before - 1);
});

test('the caller’s zone flags are ignored', () => {
  const { dev } = directRig({ ram });
  assert.ok(dmaAllocCoherent(dev, 4096, GFP_KERNEL | GFP_DMA)!.handle >= 16 * MIB);
});

test('a window of the device chooses the zone by physical address', () => {
  const dmaRangeMap = [{ cpuStart: physAddr(0), dmaStart: dmaAddr(0x8000_0000), sizeBytes: 2 ** 30 }];
  const { dev } = directRig({ ram, dmaRangeMap, busOffset: 0x8000_0000 });
  dev.coherentDmaMask = dmaBitMask(32);
  const memory = dmaAllocCoherent(dev, 4096, GFP_KERNEL)!;
  assert.equal(memory.handle, memory.mem.phys + 0x8000_0000);
  dev.busDmaLimit = 0x8000_0000 + 16 * MIB - 1;
  assert.ok(dmaAllocCoherent(dev, 4096, GFP_KERNEL)!.mem.phys < 16 * MIB);
});

test('nothing within the mask gives null', () => {
  const { dev } = directRig({ ram: [{ base: 2 ** 32, sizeBytes: 4 * MIB }] });
  assert.equal(dmaAllocCoherent(dev, 4096, GFP_KERNEL | __GFP_NOWARN), null);
  assert.equal(dmaAllocPages(dev, 4096, DMA_BIDIRECTIONAL, GFP_KERNEL | __GFP_NOWARN), null);
});

test('frames are known as coherent, whole pages of them', () => {
  const { kernel, dev } = directRig({ ram });
  const { mem, handle } = dmaAllocCoherent(dev, 5000, GFP_KERNEL)!;
  const bank = kernel.machine.ram[0]!;
  assert.equal(bank.kindAt(mem.phys + PAGE_SIZE), FrameKind.COHERENT);
  dmaFreeCoherent(dev, 5000, mem, handle);
  assert.equal(bank.kindAt(mem.phys + PAGE_SIZE), FrameKind.FREE);
});

test('sizes of nothing and of too much are refused as the page allocator does', () => {
  const { kernel, dev } = directRig({ ram });
  assert.equal(dmaAllocCoherent(dev, 0, GFP_KERNEL), null);
  assert.match(kernel.splats[0]!.message, /mm\/page_alloc\.c/);
  assert.equal(dmaAllocCoherent(dev, 64 * MIB, GFP_KERNEL | __GFP_NOWARN), null);
  assert.equal(kernel.splats.length, 1);
});

test('compound pages cannot be had', () => {
  const { kernel, dev } = directRig();
  assert.equal(dmaAllocCoherent(dev, 4096, GFP_KERNEL | __GFP_COMP), null);
  assert.equal(dmaAllocPages(dev, 4096, DMA_BIDIRECTIONAL, GFP_KERNEL | __GFP_COMP), null);
  assert.equal(dmaAllocPages(dev, 4096, DMA_BIDIRECTIONAL, GFP_KERNEL | __GFP_DMA), null);
  assert.equal(dmaAllocNoncontiguous(dev, 4096, DMA_BIDIRECTIONAL, GFP_KERNEL | __GFP_COMP, 0), null);
  assert.equal(kernel.splats.length, 3);
  dev.coherentDmaMask = 0n;
  assert.equal(dmaAllocPages(dev, 4096, DMA_BIDIRECTIONAL, GFP_KERNEL), null);
});

test('failing is silent with DMA_ATTR_NO_WARN and __GFP_NOWARN', () => {
  const { kernel, dev } = directRig({ ram: [{ base: 0, sizeBytes: MIB }] });
  assert.equal(dmaAllocAttrs(dev, 2 * MIB, GFP_KERNEL, DMA_ATTR_NO_WARN), null);
  assert.equal(dmaAllocCoherent(dev, 2 * MIB, GFP_KERNEL | __GFP_NOWARN), null);
  assert.equal(dmaAllocWc(dev, 2 * MIB, GFP_KERNEL | __GFP_NOWARN), null);
  assert.equal(kernel.log.lines.length, 0);
  assert.equal(dmaAllocCoherent(dev, 2 * MIB, GFP_KERNEL), null);
  assert.match(kernel.log.lines[0]!.text, /page allocation failure: order:9/);
});

test('on a non-coherent machine coherent memory is an uncached alias, which cannot be mapped', () => {
  const rig = directRig({ coherent: false });
  const { kernel, dev } = rig;
  const { mem, handle } = dmaAllocCoherent(dev, 4096, GFP_KERNEL)!;
  assert.equal(mem.bytes.buffer, mem.bank.memory.buffer);
  assert.equal(mem.linear, false);
  assert.equal(dmaMapSingle(dev, mem, DMA_BIDIRECTIONAL), DMA_MAPPING_ERROR);
  dmaFreeCoherent(dev, 4096, mem, handle);
  const again = dmaAllocWc(dev, 100, GFP_KERNEL)!;
  assert.equal(again.mem.size, 100);
  dmaFreeWc(dev, 100, again.mem, again.handle);
  assert.equal(kernel.pages.freePages, kernel.pages.managedPages);
});

test('freeing something else is the page allocator’s report', () => {
  const { kernel, dev } = directRig();
  const { mem, handle } = dmaAllocCoherent(dev, 8192, GFP_KERNEL)!;
  dmaFreeCoherent(dev, 4096, mem, handle);
  dmaFreeCoherent(dev, 4096, mem, (handle + 0x10_0000_0000) as DmaAddr);
  assert.equal(kernel.splats.length, 2);
  assert.match(kernel.splats[0]!.message, /Bad page state/);
  dmaFreeCoherent(dev, 8192, mem, handle);
  assert.equal(kernel.pages.freePages, kernel.pages.managedPages);
});

test('managed memory is freed with the driver, or before', async () => {
  const { kernel, dev } = directRig();
  const kept = dmamAllocCoherent(dev, 4096, GFP_KERNEL)!;
  const early = dmamAllocCoherent(dev, 4096, GFP_KERNEL)!;
  dmamFreeCoherent(dev, 4096, early.mem, early.handle);
  assert.equal(early.mem.freed, true);
  await devresReleaseAll(dev);
  assert.equal(kept.mem.freed, true);
  assert.equal(kernel.splats.length, 0);
  const plain = dmaAllocCoherent(dev, 4096, GFP_KERNEL)!;
  dmamFreeCoherent(dev, 4096, plain.mem, plain.handle);
  assert.equal(kernel.splats.length, 1);
  assert.equal(kernel.pages.freePages, kernel.pages.managedPages);
});

test('atomic allocations on a non-coherent machine come from the atomic pool, where there is one', () => {
  const { kernel, dev } = directRig({ coherent: false });
  const asked: number[] = [];
  const memory = dmaAllocCoherent(dev, 4096, GFP_KERNEL)!;
  allocSources(kernel).atomicPool = {
    alloc: (_dev, size) => {
      asked.push(size);
      return memory;
    },
    free: (_dev, mem: Mem) => mem === memory.mem,
  };
  assert.equal(dmaAllocCoherent(dev, 100, GFP_ATOMIC), memory);
  assert.notEqual(dmaAllocCoherent(dev, 100, GFP_KERNEL), memory);
  assert.deepEqual(asked, [100]);
  const free = kernel.pages.freePages;
  dmaFreeCoherent(dev, 4096, memory.mem, memory.handle);
  assert.equal(kernel.pages.freePages, free, 'the pool took it back');
});

test('a contiguous area is asked first, and what the device cannot reach is given back to it', () => {
  const { kernel, dev } = directRig({ ram });
  const area = allocPages(kernel, GFP_KERNEL, 4)!;
  const log: string[] = [];
  allocSources(kernel).contiguous = {
    alloc: () => {
      log.push('alloc');
      return area;
    },
    free: (_dev, page) => {
      if (page === area) log.push('free');
      return page === area;
    },
  };
  const memory = dmaAllocCoherent(dev, 4096, GFP_KERNEL)!;
  assert.equal(memory.mem.phys, pageToPhys(area));
  dmaFreeCoherent(dev, 4096, memory.mem, memory.handle);
  dmaSetMaskAndCoherent(dev, dmaBitMask(24));
  assert.notEqual(dmaAllocCoherent(dev, 4096, GFP_KERNEL)!.mem.phys, pageToPhys(area));
  assert.deepEqual(log, ['alloc', 'free', 'alloc', 'free']);
});

test('a device with memory of its own uses nothing else', () => {
  const { kernel, dev } = directRig();
  const memory = dmaAllocCoherent(dev, 4096, GFP_KERNEL)!;
  let left = 1;
  dev.dmaMem = {
    alloc: () => (left-- > 0 ? memory : null),
    release: (_dev: unknown, order: number, mem: Mem) => order === 0 && mem === memory.mem,
  };
  assert.equal(dmaAllocCoherent(dev, 4096, GFP_KERNEL), memory);
  assert.equal(dmaAllocCoherent(dev, 4096, GFP_KERNEL), null);
  const flags = localIrqSave(kernel);
  assert.notEqual(flags, undefined);
  dmaFreeCoherent(dev, 4096, memory.mem, memory.handle);
  assert.equal(kernel.splats.length, 0, 'freeing to a device’s own memory may be done with interrupts off');
});

test('back ends without an operation refuse', () => {
  const { dev } = directRig();
  const { mem, handle } = dmaAllocCoherent(dev, 4096, GFP_KERNEL)!;
  assert.equal(dmaCanMmap(dev), true);
  setDmaOps(dev, {});
  assert.equal(dmaCanMmap(dev), false);
  assert.equal(dmaAllocCoherent(dev, 4096, GFP_KERNEL), null);
  assert.equal(dmaAllocPages(dev, 4096, DMA_BIDIRECTIONAL, GFP_KERNEL), null);
  assert.equal(dmaMmapCoherent(dev, new UserMapping(4096), mem, handle, 4096), ENXIO);
  assert.equal(dmaMmapWc(dev, new UserMapping(4096), mem, handle, 4096), ENXIO);
  assert.equal(dmaGetSgtable(dev, new SgTable(), mem, handle, 4096), ENXIO);
});

test('a back end that only maps gets its pages from anywhere', () => {
  const { kernel, dev } = directRig();
  const ops: DmaMapOps = {
    mapPage: dmaDirectOps.mapPage!,
    unmapPage: dmaDirectOps.unmapPage!,
    allocPages: (device, size, dir, gfp) => dmaCommonAllocPages(ops, device, size, dir, gfp),
    freePages: (device, size, page, handle, dir) => dmaCommonFreePages(ops, device, size, page, handle, dir),
  };
  setDmaOps(dev, ops);
  const pages = dmaAllocPages(dev, 8192, DMA_BIDIRECTIONAL, GFP_KERNEL)!;
  assert.equal(pages.handle, pageToPhys(pages.page));
  ops.freePages!(dev, 8192, pages.page, pages.handle, DMA_BIDIRECTIONAL);
  ops.mapPage = () => DMA_MAPPING_ERROR;
  assert.equal(dmaAllocPages(dev, 8192, DMA_BIDIRECTIONAL, GFP_KERNEL), null);
  assert.equal(kernel.pages.freePages, kernel.pages.managedPages);
});

test('pages and noncontiguous memory go back whole', () => {
  const { kernel, dev } = directRig();
  const pages = dmaAllocPages(dev, 5000, DMA_BIDIRECTIONAL, GFP_KERNEL)!;
  dmaFreePages(dev, 5000, pages.page, pages.handle, DMA_BIDIRECTIONAL);
  const { mem, handle } = dmaAllocNoncoherent(dev, 5000, DMA_BIDIRECTIONAL, GFP_KERNEL)!;
  dmaFreeNoncoherent(dev, 5000, mem, handle, DMA_BIDIRECTIONAL);
  const table = dmaAllocNoncontiguous(dev, 5000, DMA_BIDIRECTIONAL, GFP_KERNEL, 0)!;
  dmaFreeNoncontiguous(dev, 5000, table, DMA_BIDIRECTIONAL);
  assert.equal(table.origNents, 0);
  assert.equal(kernel.pages.freePages, kernel.pages.managedPages);
  assert.equal(kernel.splats.length, 0);
});

test('one block of noncontiguous memory has a pointer', () => {
  const { dev } = directRig();
  const table = dmaAllocNoncontiguous(dev, 8192, DMA_BIDIRECTIONAL, GFP_KERNEL, 0)!;
  assert.equal(dmaVmapNoncontiguous(dev, 8192, table)!.phys, table.sgl.dmaAddress);
  table.origNents = 2;
  assert.equal(dmaVmapNoncontiguous(dev, 8192, table), null);
});
