import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PAGE_SIZE } from '../base/addr.ts';
import { FrameKind } from '../machine/frames.ts';
import { GFP_HIGHUSER, GFP_KERNEL } from './gfp.ts';
import { kmap, kmapLocalPage, kunmap, kunmapLocal } from './highmem.ts';
import { MIB, memoryRig, splatMessages } from './memory-rig.cases.ts';
import { allocPage, getFreePage, PageHighMem, pageToPhys, virtToPage } from './page-alloc.ts';
import {
  freeModuleData,
  freeTaskStack,
  isVmallocAddr,
  kernelImage,
  moduleData,
  taskStack,
  vfree,
  vmalloc,
  vmallocToPage,
  vzalloc,
} from './vmalloc.ts';

test('a vmalloc area has scattered frames, and reads and writes across them', () => {
  const kernel = memoryRig();
  const area = vmalloc(kernel, 3 * PAGE_SIZE + 10)!;
  assert.equal(area.pages.length, 4);
  for (let i = 1; i < 4; i++) assert.notEqual(area.pages[i], area.pages[i - 1]! + 1);
  const bytes = new Uint8Array(PAGE_SIZE + 100).map((_, i) => i % 251);
  area.write(PAGE_SIZE - 50, bytes);
  assert.deepEqual(area.read(PAGE_SIZE - 50, bytes.length), bytes);
  const part = area.at(PAGE_SIZE + 8, 16);
  assert.equal(part.phys, pageToPhys(vmallocToPage(area, PAGE_SIZE)) + 8);
  assert.equal(part.bytes[0], bytes[58]);
  assert.equal(isVmallocAddr(part), true);
  assert.equal(part.bank.kindAt(part.phys), FrameKind.VMALLOC);
  assert.throws(() => area.at(PAGE_SIZE - 4, 8), /crosses a page/);
  assert.throws(() => area.read(area.size, 1), /outside an area/);
  assert.throws(() => vmallocToPage(area, 4 * PAGE_SIZE), /outside an area/);
});

test('an area is freed once', () => {
  const kernel = memoryRig();
  const before = kernel.pages.freePages;
  const area = vzalloc(kernel, 2 * PAGE_SIZE)!;
  assert.ok(area.read(0, 100).every((byte) => byte === 0));
  const mem = area.at(0, 8);
  vfree(area);
  assert.equal(kernel.pages.freePages, before);
  assert.equal(mem.freed, true);
  vfree(area);
  assert.deepEqual(splatMessages(kernel), ['WARNING: Trying to vfree() nonexistent vm area']);
  vfree(null);
  assert.equal(vmalloc(kernel, 0), null);
  assert.equal(vmalloc(kernel, 1024 * MIB), null);
  assert.equal(kernel.pages.freePages, before, 'a failed one leaves nothing behind');
});

test('stacks and module data lie outside the linear map', () => {
  const kernel = memoryRig();
  const before = kernel.pages.freePages;
  const stack = taskStack(kernel, 256);
  assert.equal(stack.linear, false);
  assert.equal(stack.bank.kindAt(stack.phys), FrameKind.STACK);
  assert.equal(isVmallocAddr(stack), true);
  assert.equal(vmallocToPage(stack), virtToPage(stack));
  assert.equal(vmallocToPage(stack, 100), virtToPage(stack));
  const data = moduleData(kernel, 64);
  assert.equal(data.bank.kindAt(data.phys), FrameKind.MODULE_DATA);
  assert.equal(isVmallocAddr(data), false);
  freeTaskStack(kernel, stack);
  freeModuleData(kernel, data);
  assert.equal(stack.freed && data.freed, true);
  assert.equal(kernel.pages.freePages, before);
});

test('the kernel’s image is in the linear map, by kinds', () => {
  const kernel = memoryRig();
  const { text, rodata, data } = kernelImage(kernel);
  const kinds = [text, rodata, data].map((mem) => mem.bank.kindAt(mem.phys));
  assert.deepEqual(kinds, [FrameKind.KERNEL_TEXT, FrameKind.KERNEL_RODATA, FrameKind.KERNEL_DATA]);
  assert.equal(isVmallocAddr(text), false);
  assert.equal(rodata.phys, text.phys + text.size);
});

test('a HIGHMEM page is reached through kmap, for as long as it is mapped', async () => {
  const kernel = memoryRig({ highmemStart: 32 * MIB, zoneDmaLimit: 0, zoneDma32Limit: 0 });
  await kernel.run(async () => {
    const page = allocPage(kernel, GFP_HIGHUSER)!;
    assert.equal(PageHighMem(kernel, page), true);
    const mem = await kmap(kernel, page);
    const again = kmapLocalPage(kernel, page);
    mem.bytes[0] = 5;
    assert.equal(again.bytes[0], 5);
    assert.equal(mem.linear, false);
    kunmapLocal(kernel, again);
    assert.equal(mem.freed, false);
    kunmap(kernel, page);
    assert.equal(mem.freed, true);
    kunmap(kernel, page);
    assert.match(splatMessages(kernel)[0]!, /kunmap of page 0x[0-9a-f]+, which is not mapped/);
    const low = getFreePage(kernel, GFP_KERNEL)!;
    assert.equal(kmapLocalPage(kernel, virtToPage(low)).linear, true);
    kunmap(kernel, virtToPage(low));
    assert.throws(() => kmapLocalPage(kernel, (2 ** 30) as typeof page), /no RAM/);
  });
});
