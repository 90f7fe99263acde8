import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PAGE_SIZE } from '../base/addr.ts';
import { EFAULT, EINVAL } from '../base/errno.ts';
import { DMA_FROM_DEVICE } from '../kernel/dma-direction.ts';
import {
  __GFP_NOWARN,
  FOLL_LONGTERM,
  FOLL_WRITE,
  GFP_KERNEL,
  pinUserPages,
  type UserMemory,
  unpinUserPage,
  unpinUserPages,
  userAlloc,
  userFree,
} from '../kernel/index.ts';
import { type Page, pageToPhys } from '../kernel/page-alloc.ts';
import { type Cma, cmaAlloc, cmaRelease } from './cma.ts';
import { defaultCma } from './contiguous.ts';
import { directRig } from './direct-rig.cases.ts';
import { dmaInit } from './init.ts';
import { dmaMapSgtable, dmaUnmapSgtable } from './sg.ts';
import { SgTable, sgAllocTableFromPages, sgFreeTable } from './sg-table.ts';

const MIB = 2 ** 20;

/** A machine whose CMA area holds the pages of a program. */
function rigWithProgram() {
  const rig = directRig({ ram: [{ base: 0, sizeBytes: 32 * MIB }], kernel: { cmdline: 'cma=4M' } });
  dmaInit(rig.kernel);
  const cma = defaultCma(rig.kernel)!;
  const programs: UserMemory[] = [];
  for (;;) {
    const program = userAlloc(rig.kernel, 4 * PAGE_SIZE)!;
    programs.push(program);
    if (program.pages.every((page) => cma.contains(page))) {
      return { ...rig, cma, program, close: () => programs.forEach(userFree) };
    }
  }
}
const inArea = (cma: Cma, program: UserMemory): boolean => program.pages.some((page) => cma.contains(page));

test('a program’s pages move, and it does not notice', () => {
  const { kernel, cma, program, close } = rigWithProgram();
  program.write(
    4000,
    new Uint8Array(5000).map((_, i) => i),
  );
  const page = cmaAlloc(cma, cma.count, 0, GFP_KERNEL)!;
  assert.equal(inArea(cma, program), false);
  assert.deepEqual(
    program.read(4000, 5000),
    new Uint8Array(5000).map((_, i) => i),
  );
  assert.throws(() => program.read(4 * PAGE_SIZE - 1, 2), RangeError);
  cmaRelease(cma, page, cma.count);
  close();
  assert.equal(kernel.pages.freePages, kernel.pages.managedPages);
});
test('pinned pages stay where the device writes; unpinned ones move, and what it writes is lost', () => {
  for (const pin of [true, false]) {
    const { kernel, dev, cma, program, deviceWrite } = rigWithProgram();
    const pages: Page[] = [];
    assert.equal(pinUserPages(program, 0, 4, FOLL_WRITE, pages), 4);
    if (!pin) unpinUserPages(kernel, pages);
    const table = new SgTable();
    sgAllocTableFromPages(table, pages, 0, 4 * PAGE_SIZE, GFP_KERNEL);
    assert.equal(dmaMapSgtable(dev, table, DMA_FROM_DEVICE, 0), 0);
    const page = cmaAlloc(cma, cma.count, 0, GFP_KERNEL | __GFP_NOWARN);
    assert.equal(page === null, pin);
    assert.equal(inArea(cma, program), pin);
    for (const at of pages) deviceWrite(pageToPhys(at) as never, new Uint8Array(PAGE_SIZE).fill(0x44));
    dmaUnmapSgtable(dev, table, DMA_FROM_DEVICE, 0);
    sgFreeTable(table);
    assert.equal(program.read(5000, 1)[0], pin ? 0x44 : 0);
    if (pin) {
      unpinUserPages(kernel, pages);
      assert.notEqual(cmaAlloc(cma, cma.count, 0, GFP_KERNEL), null);
    }
  }
});
test('a pin for long moves the pages out of the area first', () => {
  const { kernel, cma, program } = rigWithProgram();
  program.write(0, new Uint8Array([1, 2, 3]));
  const pages: Page[] = [];
  assert.equal(pinUserPages(program, 0, 4, FOLL_WRITE | FOLL_LONGTERM, pages), 4);
  assert.equal(inArea(cma, program), false);
  assert.deepEqual(pages, program.pages);
  assert.deepEqual([...program.read(0, 3)], [1, 2, 3]);
  assert.notEqual(cmaAlloc(cma, cma.count, 0, GFP_KERNEL), null);
  unpinUserPages(kernel, pages);
});
test('pinned pages outlive their program', () => {
  const { kernel, program, close } = rigWithProgram();
  const pages: Page[] = [];
  pinUserPages(program, 1, 2, FOLL_WRITE, pages);
  pinUserPages(program, 1, 1, 0, []);
  close();
  assert.equal(kernel.pages.freePages, kernel.pages.managedPages - 2);
  unpinUserPages(kernel, pages);
  assert.equal(kernel.pages.freePages, kernel.pages.managedPages - 1);
  unpinUserPage(kernel, pages[0]!);
  assert.equal(kernel.pages.freePages, kernel.pages.managedPages);
  assert.throws(() => program.write(0, new Uint8Array(1)), RangeError);
  assert.deepEqual(kernel.splats, []);
});
test('what cannot be pinned, and what was not, is answered', () => {
  const { kernel, program } = rigWithProgram();
  assert.equal(pinUserPages(program, 3, 2, 0, []), EFAULT);
  assert.equal(pinUserPages(program, 0, 0, 0, []), EFAULT);
  assert.equal(pinUserPages(program, 0, 1, 1 << 20, []), EINVAL);
  const pages: Page[] = [];
  pinUserPages(program, 0, 1, 0, pages);
  unpinUserPages(kernel, pages);
  unpinUserPages(kernel, pages);
  assert.match(kernel.splats[0]!.message, /unpin_user_page: page \d+ is not pinned/);
});
