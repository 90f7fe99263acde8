import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PAGE_SIZE, physAddr } from '../base/addr.ts';
import { Prng } from '../base/prng.ts';
import { FrameKind } from '../machine/frames.ts';
import {
  __GFP_DMA,
  __GFP_HIGHMEM,
  __GFP_NOWARN,
  __GFP_ZERO,
  GFP_ATOMIC,
  GFP_DMA,
  GFP_DMA32,
  GFP_HIGHUSER,
  GFP_KERNEL,
  GFP_NOWAIT,
  GFP_USER,
  gfpflagsAllowBlocking,
  gfpNames,
} from './gfp.ts';
import type { Kernel } from './kernel.ts';
import { logText, MIB, memoryRig, splatMessages } from './memory-rig.cases.ts';
import {
  __freePage,
  __freePages,
  allocPage,
  allocPages,
  allocPagesExact,
  freePages,
  freePagesExact,
  getFreePage,
  getFreePages,
  getZeroedPage,
  memAt,
  type Page,
  PageHighMem,
  pageAddress,
  pageToPfn,
  pageToPhys,
  pfnToPage,
  pfnValid,
  physToPage,
  splitPage,
  virtToPage,
  virtToPhys,
  ZONE_NAMES,
} from './page-alloc.ts';

function freeState(kernel: Kernel): string {
  kernel.pages.buddy.drain();
  return JSON.stringify(ZONE_NAMES.map((name) => kernel.pages.zone(name)));
}
function take(kernel: Kernel, gfp: number, order = 0): Page {
  const page = allocPages(kernel, gfp, order);
  assert.ok(page !== null);
  return page;
}

test('zones follow the addresses of RAM', () => {
  const kernel = memoryRig({
    ram: [
      { base: 0, sizeBytes: 32 * MIB },
      { base: 2 ** 32, sizeBytes: 32 * MIB },
    ],
    highmemStart: 2 ** 32 + 16 * MIB,
  });
  const bounds = ZONE_NAMES.map((name) => {
    const { startPfn, endPfn } = kernel.pages.zone(name);
    return [startPfn * PAGE_SIZE, endPfn * PAGE_SIZE];
  });
  assert.deepEqual(bounds, [
    [0, 16 * MIB],
    [16 * MIB, 32 * MIB],
    [2 ** 32, 2 ** 32 + 16 * MIB],
    [2 ** 32 + 16 * MIB, 2 ** 32 + 32 * MIB],
  ]);
  assert.throws(() => kernel.pages.zone('MOVABLE' as never), /zones are DMA, DMA32, NORMAL, HIGHMEM/);
});

test('an allocation comes from the highest zone its flags allow', () => {
  const kernel = memoryRig({
    ram: [
      { base: 0, sizeBytes: 32 * MIB },
      { base: 2 ** 32, sizeBytes: 32 * MIB },
    ],
    highmemStart: 2 ** 32 + 16 * MIB,
  });
  assert.ok(pageToPhys(take(kernel, GFP_HIGHUSER)) >= 2 ** 32 + 16 * MIB);
  const normal = pageToPhys(take(kernel, GFP_KERNEL));
  assert.ok(normal >= 2 ** 32 && normal < 2 ** 32 + 16 * MIB);
  const dma32 = pageToPhys(take(kernel, GFP_KERNEL | GFP_DMA32));
  assert.ok(dma32 >= 16 * MIB && dma32 < 32 * MIB);
  assert.ok(pageToPhys(take(kernel, GFP_KERNEL | GFP_DMA)) < 16 * MIB);
});

test('without a DMA zone, GFP_DMA asks for nothing', () => {
  const kernel = memoryRig({ zoneDmaLimit: 0, zoneDma32Limit: 0 });
  assert.equal(kernel.pages.zone('DMA').managed, 0);
  assert.ok(allocPage(kernel, GFP_KERNEL | GFP_DMA) !== null);
  assert.equal(kernel.pages.zoneDmaLimit, 0xff_ffff);
});

test('an exhausted zone falls back to the lower ones, which keep a reserve', () => {
  const kernel = memoryRig();
  const pages: Page[] = [];
  for (;;) {
    const page = allocPages(kernel, GFP_KERNEL | __GFP_NOWARN, 0);
    if (page === null) break;
    pages.push(page);
  }
  const dma = pages.filter((page) => pageToPhys(page) < 16 * MIB).length;
  assert.ok(dma > 0, 'some came from ZONE_DMA');
  const left = kernel.pages.zone('DMA').free;
  assert.ok(left >= Math.floor(kernel.pages.zone('DMA32').managed / 256), `${left} pages of ZONE_DMA are left`);
  assert.ok(allocPage(kernel, GFP_KERNEL | GFP_DMA) !== null, 'the reserve is for those who need the zone');
  assert.ok(allocPage(kernel, GFP_ATOMIC) !== null, 'atomic allocations may use half of what is kept back');
  for (const page of pages) __freePage(kernel, page);
});

test('after boot pages are handed out in ascending order, and page 0 never', () => {
  const kernel = memoryRig();
  const pages = Array.from({ length: 1000 }, () => take(kernel, GFP_KERNEL | GFP_DMA));
  for (let i = 1; i < pages.length; i++) assert.ok(pages[i]! > pages[i - 1]!);
  assert.ok(pages[0]! > 0);
});

test('a freed page is the next one handed out', () => {
  const kernel = memoryRig();
  const page = take(kernel, GFP_KERNEL);
  take(kernel, GFP_KERNEL);
  __freePage(kernel, page);
  assert.equal(take(kernel, GFP_KERNEL), page);
});

test('blocks are aligned to their size, never overlap, and merge to what was there at first', () => {
  for (const seed of [1, 2, 3]) {
    const kernel = memoryRig({
      ram: [
        { base: 0, sizeBytes: 24 * MIB },
        { base: 2 ** 32, sizeBytes: 20 * MIB + 3 * PAGE_SIZE },
      ],
    });
    const before = freeState(kernel);
    const prng = new Prng(seed);
    const owner = new Map<number, number>();
    const live: { page: Page; order: number }[] = [];
    for (let step = 0; step < 4000; step++) {
      if (prng.chance(55, 100)) {
        const order = Math.min(prng.below(11), prng.below(11));
        const gfp = [GFP_KERNEL, GFP_KERNEL | GFP_DMA, GFP_HIGHUSER | 8][prng.below(3)]!;
        const page = allocPages(kernel, gfp | __GFP_NOWARN, order);
        if (page === null) continue;
        assert.equal(page % (1 << order), 0, `seed ${seed}, step ${step}: order ${order} at page ${page}`);
        for (let i = 0; i < 1 << order; i++) {
          assert.ok(!owner.has(page + i), `seed ${seed}, step ${step}: page ${page + i} handed out twice`);
          owner.set(page + i, step);
        }
        live.push({ page, order });
      } else if (live.length > 0) {
        const [{ page, order }] = live.splice(prng.below(live.length), 1) as [(typeof live)[0]];
        for (let i = 0; i < 1 << order; i++) owner.delete(page + i);
        __freePages(kernel, page, order);
      }
    }
    for (const { page, order } of live) __freePages(kernel, page, order);
    assert.equal(freeState(kernel), before, `seed ${seed}`);
    assert.deepEqual(splatMessages(kernel), []);
  }
});

test('RAM far above 2^43 works like any other', () => {
  const base = 2 ** 51;
  const kernel = memoryRig({ ram: [{ base, sizeBytes: 8 * MIB }] });
  const page = take(kernel, GFP_KERNEL, 3);
  assert.equal(pageToPhys(page) % (8 * PAGE_SIZE), 0);
  assert.ok(pageToPhys(page) >= base);
  assert.equal(physToPage(physAddr(page * PAGE_SIZE)), page);
  __freePages(kernel, page, 3);
  assert.equal(kernel.pages.freePages, kernel.pages.managedPages);
});

test('an order above MAX_PAGE_ORDER is warned of once, and gives null', () => {
  const kernel = memoryRig();
  assert.equal(allocPages(kernel, GFP_KERNEL | __GFP_NOWARN, 11), null);
  assert.equal(kernel.splats.length, 0);
  assert.equal(allocPages(kernel, GFP_KERNEL, 11), null);
  assert.equal(allocPages(kernel, GFP_KERNEL, 11), null);
  assert.equal(kernel.splats.length, 1);
  assert.match(kernel.splats[0]!.message, /mm\/page_alloc\.c: order 11 exceeds MAX_PAGE_ORDER/);
});

test('failure is told in the kernel’s words unless __GFP_NOWARN', () => {
  const kernel = memoryRig({ ram: [{ base: 0, sizeBytes: 2 * MIB }] });
  assert.equal(allocPages(kernel, GFP_KERNEL | __GFP_NOWARN, 10), null);
  assert.equal(logText(kernel), '');
  assert.equal(allocPages(kernel, GFP_KERNEL | GFP_DMA, 10), null);
  assert.match(
    logText(kernel),
    /page allocation failure: order:10, mode:0xcc1\(GFP_KERNEL\|GFP_DMA\), nodemask=\(null\)/,
  );
});

test('frames carry the kind of their use', () => {
  const kernel = memoryRig();
  const page = take(kernel, GFP_KERNEL, 1);
  const bank = kernel.machine.ram[0]!;
  assert.equal(bank.kindAt(pageToPhys(page) + PAGE_SIZE), FrameKind.PAGES);
  __freePages(kernel, page, 1);
  assert.equal(bank.kindAt(pageToPhys(page) + PAGE_SIZE), FrameKind.FREE);
  assert.equal(bank.kindAt(kernel.pages.kernelImage), FrameKind.KERNEL_TEXT);
});

test('reserved memory is never handed out', () => {
  const reserved = [{ phys: 3 * MIB, sizeBytes: MIB + 1, kind: FrameKind.RESERVED }];
  const kernel = memoryRig({ ram: [{ base: 0, sizeBytes: 8 * MIB }], reserved });
  for (;;) {
    const page = allocPages(kernel, GFP_KERNEL | 0x20000 | __GFP_NOWARN, 0);
    if (page === null) break;
    const phys = pageToPhys(page);
    assert.ok(phys < 3 * MIB || phys >= 4 * MIB + PAGE_SIZE, `page at 0x${phys.toString(16)}`);
  }
  assert.equal(kernel.machine.ram[0]!.kindAt(4 * MIB), FrameKind.RESERVED);
});

test('a double free is reported and changes nothing', () => {
  const kernel = memoryRig();
  const page = take(kernel, GFP_KERNEL, 2);
  __freePages(kernel, page, 2);
  const before = freeState(kernel);
  __freePages(kernel, page, 2);
  assert.equal(freeState(kernel), before);
  assert.equal(kernel.splats.length, 1);
  assert.equal(kernel.splats[0]!.kind, 'memory');
  assert.match(kernel.splats[0]!.message, /^BUG: Bad page state in process .* {2}pfn:/);
  assert.match(logText(kernel), /double free/);
});

test('a single page freed twice, a wrong order and a foreign page are reported', () => {
  const kernel = memoryRig();
  const one = take(kernel, GFP_KERNEL);
  __freePage(kernel, one);
  __freePage(kernel, one);
  const four = take(kernel, GFP_KERNEL, 2);
  __freePages(kernel, four, 1);
  __freePages(kernel, pfnToPage(2 ** 30), 0);
  __freePages(kernel, physToPage(kernel.pages.kernelImage), 0);
  assert.equal(kernel.splats.length, 4);
  assert.match(logText(kernel), /allocated with order 2 and is freed with order 1/);
  assert.match(logText(kernel), /no such page/);
  assert.match(logText(kernel), /it is reserved/);
});

test('the pointer to a page is always the same object, and knows when the page is freed', () => {
  const kernel = memoryRig();
  const mem = getFreePages(kernel, GFP_KERNEL, 1);
  assert.ok(mem !== null);
  assert.equal(mem.size, 2 * PAGE_SIZE);
  const page = virtToPage(mem);
  assert.equal(pageAddress(kernel, page), mem);
  assert.equal(virtToPhys(mem), pageToPhys(page));
  assert.equal(mem.freed, false);
  const tail = pageAddress(kernel, pfnToPage(pageToPfn(page) + 1));
  assert.equal(tail?.size, PAGE_SIZE);
  freePages(kernel, mem, 1);
  assert.equal(mem.freed, true);
  assert.equal(tail?.freed, true);
  const again = getFreePages(kernel, GFP_KERNEL, 1);
  assert.equal(again, mem);
  assert.equal(mem.freed, false);
});

test('HIGHMEM pages have no pointer, and getFreePages never returns one', () => {
  const kernel = memoryRig({ highmemStart: 32 * MIB, zoneDmaLimit: 0, zoneDma32Limit: 0 });
  const high = take(kernel, GFP_HIGHUSER);
  assert.equal(PageHighMem(kernel, high), true);
  assert.equal(pageAddress(kernel, high), null);
  const mem = getFreePage(kernel, GFP_KERNEL | __GFP_HIGHMEM);
  assert.ok(mem !== null && mem.phys < 32 * MIB);
});

test('__GFP_ZERO clears, and nothing else does', () => {
  const kernel = memoryRig();
  const mem = getFreePage(kernel, GFP_KERNEL)!;
  mem.bytes.fill(0xaa);
  freePages(kernel, mem, 0);
  assert.equal(getFreePage(kernel, GFP_KERNEL)!.bytes[7], 0xaa);
  freePages(kernel, mem, 0);
  assert.equal(getZeroedPage(kernel, GFP_KERNEL)!.bytes[7], 0);
  freePages(kernel, mem, 0);
  mem.bytes.fill(0xbb);
  const page = allocPage(kernel, GFP_KERNEL | __GFP_ZERO);
  assert.equal(
    pageAddress(kernel, page!)!.bytes.every((byte) => byte === 0),
    true,
  );
});

test('GFP_KERNEL in atomic context is reported, GFP_ATOMIC is not', () => {
  const kernel = memoryRig();
  kernel.context.disablePreempt();
  assert.ok(allocPage(kernel, GFP_ATOMIC) !== null);
  assert.ok(allocPage(kernel, GFP_NOWAIT) !== null);
  assert.equal(kernel.splats.length, 0);
  assert.ok(allocPage(kernel, GFP_KERNEL) !== null);
  assert.equal(kernel.splats[0]?.kind, 'sleep-in-atomic');
  kernel.context.enablePreempt();
});

test('a split block is freed page by page', () => {
  const kernel = memoryRig();
  const before = kernel.pages.freePages;
  const page = take(kernel, GFP_KERNEL, 2);
  splitPage(kernel, page, 2);
  assert.equal(pageAddress(kernel, page)!.size, PAGE_SIZE);
  for (let i = 0; i < 4; i++) __freePage(kernel, pfnToPage(page + i));
  assert.equal(kernel.pages.freePages, before);
  assert.throws(() => splitPage(kernel, page, 2), /no allocated block of order 2/);
});

test('allocPagesExact keeps only the pages it needs', () => {
  const kernel = memoryRig();
  const before = kernel.pages.freePages;
  const mem = allocPagesExact(kernel, 5 * PAGE_SIZE - 1, GFP_KERNEL)!;
  assert.equal(mem.size, 5 * PAGE_SIZE);
  assert.equal(kernel.pages.freePages, before - 5);
  freePagesExact(kernel, mem, 5 * PAGE_SIZE - 1);
  assert.equal(mem.freed, true);
  assert.equal(kernel.pages.freePages, before);
});

test('memAt points anywhere in RAM', () => {
  const kernel = memoryRig();
  const mem = memAt(kernel, 0x12345, 100);
  assert.equal(mem.phys, 0x12345);
  mem.bytes[0] = 9;
  assert.equal(kernel.machine.ram[0]!.cpu[0x12345], 9);
  assert.throws(() => memAt(kernel, 64 * MIB, 1), /no RAM/);
  assert.equal(pfnValid(kernel, 1), true);
  assert.equal(pfnValid(kernel, 2 ** 30), false);
});

test('the observer hears of pages', () => {
  const kernel = memoryRig();
  const heard: string[] = [];
  kernel.observer = {
    alloc: (_time, allocator, _phys, size) => heard.push(`alloc ${allocator} ${size}`),
    free: (_time, allocator, _phys, size) => heard.push(`free ${allocator} ${size}`),
  };
  __freePages(kernel, take(kernel, GFP_KERNEL, 1), 1);
  assert.deepEqual(heard, ['alloc pages 8192', 'free pages 8192']);
});

test('flags have the kernel’s values and print as %pGg does', () => {
  assert.equal(GFP_KERNEL, 0xcc0);
  assert.equal(GFP_ATOMIC, 0x820);
  assert.equal(GFP_NOWAIT, 0x2800);
  assert.equal(GFP_USER, 0x100cc0);
  assert.equal(gfpNames(GFP_KERNEL | __GFP_DMA), 'GFP_KERNEL|GFP_DMA');
  assert.equal(gfpNames(GFP_ATOMIC | __GFP_ZERO), 'GFP_ATOMIC|__GFP_ZERO');
  assert.equal(gfpNames(GFP_NOWAIT), 'GFP_NOWAIT');
  assert.equal(gfpNames(0x4000_0000 | 0x100), '__GFP_ZERO|0x40000000');
  assert.equal(gfpNames(0), 'none');
  assert.equal(gfpflagsAllowBlocking(GFP_KERNEL), true);
  assert.equal(gfpflagsAllowBlocking(GFP_ATOMIC), false);
});
