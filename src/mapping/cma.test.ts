import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PAGE_SIZE, type PhysAddr } from '../base/addr.ts';
import { EBUSY, EINVAL, isErr } from '../base/errno.ts';
import {
  __GFP_MOVABLE,
  __GFP_NOWARN,
  FrameKind,
  GFP_ATOMIC,
  GFP_HIGHUSER_MOVABLE,
  GFP_KERNEL,
  Kernel,
  type KernelOptions,
  memblockReserve,
  preemptDisable,
  preemptEnable,
} from '../kernel/index.ts';
import { __freePages, allocPages, type Page, pageAddress, pageToPhys } from '../kernel/page-alloc.ts';
import { SimMachine } from '../machine/index.ts';
import { type Cma, cmaAlloc, cmaAreas, cmaDeclareContiguous, cmaInitReservedMem, cmaRelease } from './cma.ts';
import { dmaAllocCoherent, dmaFreeCoherent } from './coherent.ts';
import {
  defaultCma,
  devGetCmaArea,
  devSetCmaArea,
  dmaAllocContiguous,
  dmaAllocFromContiguous,
  dmaContiguousReserve,
  dmaFreeContiguous,
  dmaReleaseFromContiguous,
  parseCma,
} from './contiguous.ts';
import { directRig } from './direct-rig.cases.ts';
import { dmaInit } from './init.ts';

const MIB = 2 ** 20;
const log = (kernel: Kernel): string[] => kernel.log.lines.map(({ text }) => text);

function boot(cmdline: string, options: KernelOptions = {}, ram = [{ base: 0, sizeBytes: 64 * MIB }]): Kernel {
  const machine = new SimMachine({ name: 'cma', coherent: true, ram, seed: 1, cacheNoise: 'off' });
  const kernel = new Kernel(machine, { ...options, cmdline });
  dmaContiguousReserve(kernel);
  return kernel;
}
function area(kernel: Kernel): Cma {
  const cma = defaultCma(kernel);
  assert.ok(cma !== null);
  return cma;
}

test('cma=SIZE@BASE-LIMIT is read as the kernel reads it', () => {
  assert.deepEqual(parseCma('64M'), { sizeBytes: 64 * MIB, base: 0, limit: 0 });
  assert.deepEqual(parseCma('16m@0x2000000'), { sizeBytes: 16 * MIB, base: 32 * MIB, limit: 48 * MIB });
  assert.deepEqual(parseCma('8192K@16M-48M'), { sizeBytes: 8 * MIB, base: 16 * MIB, limit: 48 * MIB });
  assert.deepEqual(parseCma('1G@4G-0x140000000'), { sizeBytes: 2 ** 30, base: 2 ** 32, limit: 5 * 2 ** 30 });
  assert.deepEqual(parseCma('010'), { sizeBytes: 8, base: 0, limit: 0 });
  assert.deepEqual(parseCma('lots'), { sizeBytes: 0, base: 0, limit: 0 });
  assert.deepEqual(parseCma('4M@x-8M'), { sizeBytes: 4 * MIB, base: 0, limit: 4 * MIB });
});

test('an area without a place lies as high as it can', () => {
  const kernel = boot('cma=12M');
  assert.deepEqual([area(kernel).base, area(kernel).sizeBytes], [52 * MIB, 12 * MIB]);
  assert.deepEqual(log(kernel), ['cma: Reserved 12 MiB at 0x0000000003400000 on node -1']);
  assert.equal(defaultCma(boot('')), null);
  assert.equal(defaultCma(boot('cma=0')), null);
  assert.equal(area(boot('', { config: { CMA_SIZE_MBYTES: 8 } })).sizeBytes, 8 * MIB);
  assert.equal(defaultCma(boot('cma=0', { config: { CMA_SIZE_MBYTES: 8 } })), null);
});
test('sizes are rounded to pageblocks', () => {
  assert.equal(area(boot('cma=3M')).sizeBytes, 4 * MIB);
  assert.equal(area(boot('cma=1')).sizeBytes, 2 * MIB);
});
test('a base without limit is where the area lies; with a limit it lies below that, above the base', () => {
  assert.equal(area(boot('cma=4M@24M')).base, 24 * MIB);
  assert.equal(area(boot('cma=4M@24M-40M')).base, 36 * MIB);
  assert.equal(area(boot('cma=4M', { zoneDmaLimit: 32 * MIB })).base, 28 * MIB);
});
test('what cannot be is told, and the machine boots without', () => {
  const fails = (cmdline: string, lines: readonly string[]): void => {
    const kernel = boot(cmdline);
    assert.equal(defaultCma(kernel), null, cmdline);
    assert.deepEqual(log(kernel), lines);
  };
  fails('cma=128M', [
    'cma: Size (0x0000000008000000) of region at 0x0000000000000000 exceeds limit (0x0000000004000000)',
    'cma: Failed to reserve 128 MiB on node -1',
  ]);
  fails('cma=4M@0x1900000', [
    'cma: Region at 0x0000000001900000 must be aligned to 0x0000000000200000 bytes',
    'cma: Failed to reserve 4 MiB on node -1',
  ]);
  // The kernel image.
  fails('cma=4M@16M', ['cma: Failed to reserve 4 MiB on node -1']);
  fails('cma=60M', ['cma: Failed to reserve 60 MiB on node -1']);
});
test('an area does not span zones', () => {
  const kernel = boot('cma=8M@28M', { zoneDma32Limit: 32 * MIB });
  assert.equal(defaultCma(kernel), null);
  assert.equal(log(kernel)[0], 'cma: CMA area reserved could not be activated');
});
test('where there is memory above 4 GiB, the area lies at its beginning', () => {
  const ram = [
    { base: 0, sizeBytes: 32 * MIB },
    { base: 2 ** 32, sizeBytes: 32 * MIB },
  ];
  assert.equal(area(boot('cma=8M', {}, ram)).base, 2 ** 32);
});

function fillWithMovable(kernel: Kernel, cma: Cma): Map<Page, number> {
  const pages = new Map<Page, number>();
  for (let i = 0; ; i++) {
    const page = allocPages(kernel, GFP_HIGHUSER_MOVABLE | __GFP_NOWARN, 0);
    if (page === null) break;
    pageAddress(kernel, page)!.writeU32(0, i);
    pages.set(page, i);
  }
  assert.ok([...pages.keys()].filter((page) => cma.contains(page)).length > cma.count / 2);
  kernel.pages.migrateHooks.push((from, to) => {
    const id = pages.get(from);
    if (id === undefined) return false;
    pages.delete(from);
    pages.set(to, id);
    return true;
  });
  return pages;
}

test('movable pages use the area, and move away with their content when it is wanted', () => {
  const kernel = boot('cma=16M');
  const cma = area(kernel);
  const pages = fillWithMovable(kernel, cma);
  const outside = [...pages.keys()].filter((page) => !cma.contains(page));
  for (const page of outside.slice(0, 2000)) {
    pages.delete(page);
    __freePages(kernel, page, 0);
  }
  const page = cmaAlloc(cma, 1024, 8, GFP_KERNEL);
  assert.ok(page !== null && cma.contains(page));
  assert.equal(page % 256, 0);
  for (const [at, id] of pages) {
    assert.equal(pageAddress(kernel, at)!.readU32(0), id, 'the content moved along');
    assert.ok(at < page || at >= page + 1024);
  }
  assert.equal(cma.stats.allocPagesSuccess, 1024);
  assert.equal(cma.stats.availablePages, cma.count - 1024);
  assert.equal(cmaRelease(cma, page, 1024), true);
  assert.deepEqual(cma.stats, {
    totalPages: 4096,
    availablePages: 4096,
    allocPagesSuccess: 1024,
    allocPagesFail: 0,
    releasePagesSuccess: 1024,
  });
  for (const left of pages.keys()) __freePages(kernel, left, 0);
  assert.equal(kernel.pages.freePages, kernel.pages.managedPages);
});
test('when there is no room to move to, the allocation fails with the kernel’s message', () => {
  const kernel = boot('cma=16M');
  const cma = area(kernel);
  fillWithMovable(kernel, cma);
  kernel.log.lines.length = 0;
  assert.equal(cmaAlloc(cma, 2048, 8, GFP_KERNEL), null);
  assert.deepEqual(log(kernel), [
    'cma: __cma_alloc: reserved: alloc failed, req-size: 2048 pages, ret: -12',
    'cma: number of available pages: 4096@0=> 4096 free of 4096 total pages',
  ]);
  assert.equal(cmaAlloc(cma, 2048, 8, GFP_KERNEL | __GFP_NOWARN), null);
  assert.equal(kernel.log.lines.length, 2);
  assert.equal(cma.stats.allocPagesFail, 4096);
});
test('a pinned page fragments the area: the allocation goes around it', () => {
  const kernel = boot('cma=8M');
  const cma = area(kernel);
  const pages = fillWithMovable(kernel, cma);
  const pinned = [...pages.keys()].find((page) => page === cma.basePfn + 100)!;
  const { frames } = kernel.pages;
  frames.pins[frames.indexOf(pinned)] = 1;
  for (const page of [...pages.keys()]) {
    if (page === pinned) continue;
    pages.delete(page);
    __freePages(kernel, page, 0);
  }
  assert.equal(cmaAlloc(cma, 200, 0, GFP_KERNEL), cma.basePfn + 101);
  kernel.log.lines.length = 0;
  assert.equal(cmaAlloc(cma, 1800, 0, GFP_KERNEL), null);
  assert.deepEqual(log(kernel), [
    `cma: __cma_alloc: reserved: alloc failed, req-size: 1800 pages, ret: ${-12}`,
    'cma: number of available pages: 101@0+1747@301=> 1848 free of 2048 total pages',
  ]);
  frames.pins[frames.indexOf(pinned)] = 0;
});
test('an area that is fragmented by its own allocations finds room where it fits, aligned', () => {
  const kernel = boot('cma=2M');
  const cma = area(kernel);
  const taken = Array.from({ length: 32 }, () => cmaAlloc(cma, 16, 4, GFP_KERNEL)!);
  assert.equal(new Set(taken).size, 32);
  assert.equal(cmaAlloc(cma, 1, 0, GFP_KERNEL | __GFP_NOWARN), null);
  for (let i = 0; i < 32; i += 2) cmaRelease(cma, taken[i]!, 16);
  assert.equal(cmaAlloc(cma, 17, 0, GFP_KERNEL | __GFP_NOWARN), null, 'half is free, in parts of 16');
  assert.equal(cmaAlloc(cma, 3, 2, GFP_KERNEL), taken[0]);
  assert.equal(cmaAlloc(cma, 3, 2, GFP_KERNEL), taken[0]! + 4);
  assert.equal(cmaAlloc(cma, 16, 4, GFP_KERNEL), taken[2]);
  assert.equal(cmaAlloc(cma, 0, 0, GFP_KERNEL), null);
  assert.equal(cmaAlloc(cma, 513, 0, GFP_KERNEL), null);
  assert.equal(cmaRelease(cma, (cma.basePfn - 1) as Page, 1), false);
});
test('an allocation in atomic context is reported', () => {
  const kernel = boot('cma=2M');
  preemptDisable(kernel);
  cmaAlloc(area(kernel), 1, 0, GFP_KERNEL);
  preemptEnable(kernel);
  assert.equal(kernel.splats[0]?.kind, 'sleep-in-atomic');
});
test('only reserved, aligned memory becomes an area', () => {
  const kernel = boot('');
  assert.equal(cmaInitReservedMem(kernel, (8 * MIB) as PhysAddr, 2 * MIB, 'x'), EINVAL);
  assert.equal(memblockReserve(kernel, 40 * MIB, 4 * MIB), true);
  assert.equal(cmaInitReservedMem(kernel, (40 * MIB + PAGE_SIZE) as PhysAddr, 2 * MIB, 'x'), EINVAL);
  assert.equal(cmaInitReservedMem(kernel, (40 * MIB) as PhysAddr, 0, 'x'), EINVAL);
  const cma = cmaInitReservedMem(kernel, (40 * MIB) as PhysAddr, 4 * MIB, 'x');
  assert.ok(!isErr(cma));
  assert.ok(cmaAreas(kernel).length === 1 && cmaAreas(kernel)[0] === cma);
  const request = { sizeBytes: 2 * MIB, base: 40 * MIB, limit: 0, fixed: true, name: 'y' };
  assert.ok(cmaDeclareContiguous(kernel, request) === EBUSY);
});

function rig(cmdline: string) {
  const made = directRig({ ram: [{ base: 0, sizeBytes: 64 * MIB }], kernel: { cmdline } });
  dmaInit(made.kernel);
  return made;
}
test('coherent memory of more than a page comes from the default area, where the device reaches it', () => {
  const { kernel, dev } = rig('cma=8M');
  const cma = area(kernel);
  const big = dmaAllocCoherent(dev, 5 * MIB, GFP_KERNEL)!;
  assert.equal(big.mem.size, 5 * MIB, 'more than the largest block of the page allocator');
  assert.ok(cma.contains((big.mem.phys / PAGE_SIZE) as Page));
  assert.equal(kernel.machine.ram[0]!.kindAt(big.mem.phys + 4 * MIB), FrameKind.COHERENT);
  const small = dmaAllocCoherent(dev, 4096, GFP_KERNEL)!;
  assert.equal(cma.contains((small.mem.phys / PAGE_SIZE) as Page), false);
  const atomic = dmaAllocCoherent(dev, 8192, GFP_ATOMIC)!;
  assert.equal(cma.contains((atomic.mem.phys / PAGE_SIZE) as Page), false, 'moving pages sleeps');
  dmaFreeCoherent(dev, 8192, atomic.mem, atomic.handle);
  dmaFreeCoherent(dev, 4096, small.mem, small.handle);
  dmaFreeCoherent(dev, 5 * MIB, big.mem, big.handle);
  assert.equal(cma.stats.availablePages, cma.count);
  dev.coherentDmaMask = 0xffffffn;
  const low = dmaAllocCoherent(dev, 8192, GFP_KERNEL)!;
  assert.ok(low.handle < 16 * MIB);
  assert.equal(kernel.pages.freePages, kernel.pages.managedPages - 2);
});
test('a device’s own area serves it alone, single pages too', () => {
  const { kernel, dev } = rig('cma=2M');
  const own = cmaDeclareContiguous(kernel, { sizeBytes: 2 * MIB, base: 0, limit: 0, fixed: false, name: 'camera' });
  assert.ok(!isErr(own));
  devSetCmaArea(dev, own);
  assert.ok(devGetCmaArea(dev) === own);
  const page = dmaAllocContiguous(dev, 4096, GFP_KERNEL)!;
  assert.ok(own.contains(page));
  dmaFreeContiguous(dev, page, 4096);
  assert.equal(own.stats.availablePages, 512);
  const four = dmaAllocFromContiguous(dev, 4, 20, false)!;
  assert.equal(four % 4, 0);
  assert.equal(dmaReleaseFromContiguous(dev, four, 4), true);
  assert.equal(dmaAllocFromContiguous(dev, 4096, 0, true), null);
  devSetCmaArea(dev, null);
  assert.equal(dmaReleaseFromContiguous(dev, four, 4), false);
  assert.equal(dmaAllocContiguous(dev, 4096, GFP_KERNEL), null, 'one page is not for the default area');
  const pages = dmaAllocContiguous(dev, 8192, GFP_KERNEL)!;
  assert.ok(area(kernel).contains(pages));
  dmaFreeContiguous(dev, pages, 8192);
  const plain = allocPages(kernel, GFP_KERNEL | __GFP_MOVABLE, 1)!;
  dmaFreeContiguous(dev, plain, 8192);
  assert.equal(pageToPhys(plain) % 8192, 0);
  assert.equal(kernel.pages.freePages, kernel.pages.managedPages);
});
