import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { PAGE_SIZE } from '../base/addr.ts';
import { EINVAL, OK } from '../base/errno.ts';
import { DMA_TO_DEVICE } from '../kernel/dma-direction.ts';
import { GFP_HIGHUSER, GFP_KERNEL, kmalloc } from '../kernel/index.ts';
import { allocPage, type Page, pageToPhys } from '../kernel/page-alloc.ts';
import { directRig } from './direct-rig.cases.ts';
import {
  forEachSg,
  type Scatterlist,
  sgAlloc,
  sgAt,
  sgChain,
  sgDmaAddress,
  sgDmaLen,
  sgInitOne,
  sgInitTable,
  sgIsChain,
  sgIsLast,
  sgLast,
  sgMarkEnd,
  sgNents,
  sgNentsForLen,
  sgNext,
  sgPage,
  sgPhys,
  sgSetBuf,
  sgSetPage,
  sgUnmarkEnd,
  sgVirt,
} from './scatterlist.ts';
import { dmaMapSg } from './sg.ts';
import {
  SG_MAX_SINGLE_ALLOC,
  SgTable,
  sgAllocTable,
  sgAllocTableFromPages,
  sgAllocTableFromPagesSegment,
  sgFreeTable,
} from './sg-table.ts';

function lengths(sgl: Scatterlist): number[] {
  const out: number[] = [];
  for (let sg: Scatterlist | null = sgl; sg !== null; sg = sgNext(sg)) out.push(sg.length);
  return out;
}
function numbered(nents: number, from = 1): Scatterlist {
  const sgl = sgAlloc(nents);
  forEachSg(sgl, nents, (sg, i) => sgSetPage(sg, (100 + i) as Page, from + i, 0));
  return sgl;
}

test('an array ends at its last entry', () => {
  const sgl = numbered(3);
  assert.deepEqual(lengths(sgl), [1, 2, 3]);
  assert.equal(sgNents(sgl), 3);
  assert.equal(sgLast(sgl).length, 3);
  assert.equal(sgIsLast(sgAt(sgl, 2)), true);
  assert.equal(sgNext(sgAt(sgl, 2)), null);
  assert.throws(() => sgAt(sgl, 3), RangeError);
  assert.throws(() => sgAlloc(0), RangeError);
});

test('the end can be moved', () => {
  const sgl = numbered(3);
  sgMarkEnd(sgAt(sgl, 1));
  assert.deepEqual(lengths(sgl), [1, 2]);
  sgUnmarkEnd(sgAt(sgl, 1));
  assert.deepEqual(lengths(sgl), [1, 2, 3]);
  sgInitTable(sgl, 2);
  assert.deepEqual(lengths(sgl), [0, 0]);
});

test('a chain link is no segment', () => {
  const first = numbered(4);
  const second = numbered(3, 10);
  sgChain(first, 4, second);
  assert.deepEqual(lengths(first), [1, 2, 3, 10, 11, 12]);
  assert.equal(sgNents(first), 6);
  assert.equal(sgIsChain(sgAt(first, 3)), true);
  assert.equal(sgIsChain(second), false);
  const seen: number[] = [];
  forEachSg(first, 5, (sg, i) => seen.push(sg.length * 100 + i));
  assert.deepEqual(seen, [100, 201, 302, 1003, 1104]);
});

test('how many entries hold a length', () => {
  const sgl = numbered(3);
  assert.deepEqual(
    [0, 1, 2, 3, 6, 7].map((length) => sgNentsForLen(sgl, length)),
    [0, 1, 2, 2, 3, -1],
  );
});

test('an entry knows its page, address and pointer', () => {
  const { kernel } = directRig({ kernel: { zoneDmaLimit: 0, zoneDma32Limit: 0, highmemStart: 2 ** 19 } });
  const mem = kmalloc(kernel, 96, GFP_KERNEL)!;
  const sg = sgAlloc(1);
  sgInitOne(sg, mem);
  assert.equal(sgPhys(sg), mem.phys);
  assert.equal(sgPage(sg), Math.floor(mem.phys / PAGE_SIZE));
  assert.equal(sg.length, 96);
  mem.bytes[5] = 77;
  assert.equal(sgVirt(kernel, sg)!.bytes[5], 77);
  sgSetBuf(sg, mem.slice(10, 20));
  assert.equal(sgVirt(kernel, sg)!.size, 20);
  sgSetPage(sg, allocPage(kernel, GFP_HIGHUSER)!, PAGE_SIZE, 0);
  assert.equal(sgVirt(kernel, sg), null);
});

test('tables chain arrays of a page each', () => {
  for (const nents of [1, SG_MAX_SINGLE_ALLOC, SG_MAX_SINGLE_ALLOC + 1, 1000]) {
    const table = new SgTable();
    assert.equal(sgAllocTable(table, nents, GFP_KERNEL), OK);
    assert.equal(sgNents(table.sgl), nents);
    assert.equal(table.nents, nents);
    assert.equal(table.origNents, nents);
    const linked = nents > SG_MAX_SINGLE_ALLOC;
    assert.equal(linked && sgIsChain(sgAt(table.sgl, SG_MAX_SINGLE_ALLOC - 1)), linked);
    sgFreeTable(table);
    assert.equal(table.origNents, 0);
  }
  assert.equal(sgAllocTable(new SgTable(), 0, GFP_KERNEL), EINVAL);
});

test('a table over pages merges what is physically contiguous', () => {
  const pages = [10, 11, 12, 20, 21, 30].map((pfn) => pfn as Page);
  const table = new SgTable();
  assert.equal(sgAllocTableFromPages(table, pages, 100, 5 * PAGE_SIZE + 50, GFP_KERNEL), OK);
  assert.deepEqual(lengths(table.sgl), [3 * PAGE_SIZE - 100, 2 * PAGE_SIZE, 150]);
  assert.deepEqual([sgPage(table.sgl), table.sgl.offset], [10, 100]);
  assert.equal(sgAllocTableFromPagesSegment(table, pages, 0, 6 * PAGE_SIZE, 2 * PAGE_SIZE + 5, GFP_KERNEL), OK);
  assert.deepEqual(
    lengths(table.sgl),
    [2, 1, 2, 1].map((n) => n * PAGE_SIZE),
  );
  assert.equal(sgAllocTableFromPagesSegment(table, pages, 0, PAGE_SIZE, PAGE_SIZE - 1, GFP_KERNEL), EINVAL);
  assert.equal(sgAllocTableFromPages(table, [], 0, 0, GFP_KERNEL), EINVAL);
});

interface SgCase {
  name: string;
  in: [number, number][];
  ret: number;
  out: { low12: number; len: number }[];
}
test('scatterlists map as on the recorded machine without IOMMU', () => {
  const url = new URL('../../fixtures/golden/map_sg.none.json', import.meta.url);
  const golden = JSON.parse(readFileSync(url, 'utf8')).result as { cases: SgCase[] };
  const { kernel, dev } = directRig({ ram: [{ base: 0, sizeBytes: 16 * 2 ** 20 }] });
  assert.ok(golden.cases.length > 100);
  for (const facts of golden.cases) {
    const sgl = sgAlloc(facts.in.length);
    const pages = facts.in.map(() => allocPage(kernel, GFP_KERNEL)!);
    facts.in.forEach(([offset, length], i) => {
      sgSetPage(sgAt(sgl, i), pages[i]!, length, offset);
    });
    const count = dmaMapSg(dev, sgl, facts.in.length, DMA_TO_DEVICE);
    assert.equal(count, facts.ret, facts.name);
    const out: { low12: number; len: number }[] = [];
    forEachSg(sgl, count, (sg) => out.push({ low12: sgDmaAddress(sg) % PAGE_SIZE, len: sgDmaLen(sg) }));
    assert.deepEqual(
      out,
      facts.out.map(({ low12, len }) => ({ low12, len })),
      facts.name,
    );
    assert.equal(sgDmaAddress(sgl), pageToPhys(pages[0]!) + facts.in[0]![0]);
  }
});
