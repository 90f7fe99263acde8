import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PAGE_SIZE } from '../base/addr.ts';
import { EBUSY, EINVAL, OK } from '../base/errno.ts';
import { FrameKind } from '../machine/frames.ts';
import {
  allocContigPages,
  allocContigRange,
  CMA_MIN_ALIGNMENT_BYTES,
  freeContigRange,
  initCmaReserved,
  memblockAlloc,
  memblockReserve,
} from './contig.ts';
import { __GFP_MOVABLE, __GFP_NOWARN, GFP_HIGHUSER_MOVABLE, GFP_KERNEL } from './gfp.ts';
import { MIB, memoryRig } from './memory-rig.cases.ts';
import { __freePages, allocPages, type Page, pageAddress, pageToPhys } from './page-alloc.ts';

test('memory is set aside from the top, aligned, below the limit, and never handed out', () => {
  const kernel = memoryRig();
  const managed = kernel.pages.managedPages;
  const phys = memblockAlloc(kernel, { sizeBytes: 12 * MIB + 1, alignBytes: MIB, limitPhys: 40 * MIB });
  assert.equal(phys, 27 * MIB);
  assert.equal(kernel.pages.managedPages, managed - (12 * MIB) / PAGE_SIZE - 1);
  assert.equal(kernel.machine.ram[0]!.kindAt(27 * MIB), FrameKind.RESERVED);
  for (;;) {
    const page = allocPages(kernel, GFP_KERNEL | __GFP_NOWARN, 0);
    if (page === null) break;
    const at = pageToPhys(page);
    assert.ok(at < 27 * MIB || at >= 39 * MIB + PAGE_SIZE);
  }
  assert.equal(memblockAlloc(kernel, { sizeBytes: 128 * MIB }), null);
});

test('a range can be reserved only while all of it is free', () => {
  const kernel = memoryRig();
  assert.equal(memblockReserve(kernel, 40 * MIB, 2 * MIB), true);
  assert.equal(memblockReserve(kernel, 41 * MIB, 2 * MIB), false);
  assert.equal(memblockReserve(kernel, 63 * MIB, 2 * MIB), false);
  assert.equal(memblockReserve(kernel, kernel.pages.kernelImage, PAGE_SIZE), false);
});

test('a CMA area serves movable pages only, and gives them up by moving them', () => {
  const kernel = memoryRig();
  const base = 32 * MIB;
  const size = 8 * MIB;
  assert.equal(memblockReserve(kernel, base, size), true);
  assert.equal(initCmaReserved(kernel, base + PAGE_SIZE, size), EINVAL);
  assert.equal(initCmaReserved(kernel, base, CMA_MIN_ALIGNMENT_BYTES / 2), EINVAL);
  assert.equal(initCmaReserved(kernel, base, size), OK);
  assert.equal(initCmaReserved(kernel, base, size), EINVAL, 'it is not reserved any more');

  const unmovable: Page[] = [];
  for (;;) {
    const page = allocPages(kernel, GFP_KERNEL | __GFP_NOWARN, 0);
    if (page === null) break;
    assert.ok(pageToPhys(page) < base || pageToPhys(page) >= base + size, 'kernel memory must not lie in a CMA area');
    unmovable.push(page);
  }
  for (const page of unmovable) __freePages(kernel, page, 0);

  // Movable pages fill half of the area, each with its own content.
  let inArea: Page[] = [];
  const elsewhere: Page[] = [];
  while (inArea.length < size / PAGE_SIZE / 2) {
    const page = allocPages(kernel, GFP_HIGHUSER_MOVABLE, 0)!;
    const inside = pageToPhys(page) >= base && pageToPhys(page) < base + size;
    if (inside) pageAddress(kernel, page)!.writeU32(0, inArea.length);
    (inside ? inArea : elsewhere).push(page);
  }
  for (const page of elsewhere) __freePages(kernel, page, 0);
  const moved: [Page, Page][] = [];
  kernel.pages.migrateHooks.push((from, to) => {
    moved.push([from, to]);
    return true;
  });
  assert.equal(allocContigRange(kernel, base / PAGE_SIZE, size / PAGE_SIZE), OK);
  assert.equal(moved.length, inArea.length);
  const where = new Map(moved);
  inArea = inArea.map((page) => where.get(page)!);
  inArea.forEach((page, i) => {
    assert.equal(pageAddress(kernel, page)!.readU32(0), i, 'the content moved along');
    assert.ok(pageToPhys(page) < base || pageToPhys(page) >= base + size);
  });
  freeContigRange(kernel, base / PAGE_SIZE, size / PAGE_SIZE);
  for (const page of inArea) __freePages(kernel, page, 0);
  assert.equal(kernel.pages.freePages, kernel.pages.managedPages);
  assert.deepEqual(kernel.splats, []);
});

test('a range with unmovable or pinned pages is busy, and stays as it was', () => {
  const kernel = memoryRig();
  const fixed = allocPages(kernel, GFP_KERNEL, 0)!;
  const free = kernel.pages.freePages;
  const start = fixed - (fixed % 512);
  assert.equal(allocContigRange(kernel, start, 512), EBUSY);
  assert.equal(kernel.pages.freePages, free);
  const movable = allocPages(kernel, GFP_KERNEL | __GFP_MOVABLE, 2)!;
  const { frames } = kernel.pages;
  frames.pins[frames.indexOf(movable) + 1] = 1;
  assert.equal(allocContigRange(kernel, movable, 1), EBUSY);
  frames.pins[frames.indexOf(movable) + 1] = 0;
  kernel.pages.migrateHooks.push(() => false);
  assert.equal(allocContigRange(kernel, movable, 1), EBUSY, 'its owner refuses');
  kernel.pages.migrateHooks.length = 0;
  assert.equal(allocContigRange(kernel, movable, 1), OK);
  assert.equal(allocContigRange(kernel, 2 ** 30, 1), EINVAL);
});

test('more than the largest block can be had contiguously, aligned, and page by page', () => {
  const kernel = memoryRig();
  const before = kernel.pages.freePages;
  const page = allocContigPages(kernel, 3000);
  assert.ok(page !== null);
  assert.equal(page % 4096, 0);
  assert.equal(kernel.pages.freePages, before - 3000);
  assert.equal(pageAddress(kernel, page)!.size, PAGE_SIZE);
  freeContigRange(kernel, page, 3000);
  assert.equal(kernel.pages.freePages, before);
  assert.equal(allocContigPages(kernel, 2 ** 20), null);
});
