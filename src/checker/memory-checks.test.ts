import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  freePages,
  kernelImage,
  kfree,
  moduleData,
  taskStack,
  virtToPage,
  vmalloc,
  vmallocToPage,
} from '../kernel/index.ts';
import type { Mem } from '../machine/mem.ts';
import {
  DMA_FROM_DEVICE,
  DMA_TO_DEVICE,
  type DmaDataDirection,
  dmaMapPage,
  dmaMappingError,
  dmaMapSingle,
  dmaSyncSingleForCpu,
  dmaUnmapPage,
  dmaUnmapSingle,
} from '../mapping/index.ts';
import { makeRig, type Rig, type RigDevice } from './rig.cases.ts';

function map(rig: Rig, mem: Mem, dir: DmaDataDirection, device: RigDevice = rig.a) {
  const addr = dmaMapSingle(device.dev, mem, dir);
  dmaMappingError(device.dev, addr);
  return addr;
}

test('two halves of a cache line, one of them written by a device, corrupt each other', () => {
  const rig = makeRig();
  const mem = rig.kmalloc(32);
  map(rig, mem.slice(0, 16), DMA_TO_DEVICE);
  assert.deepEqual(rig.found(), []);
  map(rig, mem.slice(16, 16), DMA_FROM_DEVICE);
  const [finding] = rig.findings();
  assert.equal(finding?.rule, 'dma/cacheline-overlap');
  assert.equal(finding.values.sameBytes, false);
});

test('buffers that are only read may share lines', () => {
  const rig = makeRig();
  const mem = rig.kmalloc(64);
  for (let at = 0; at < 64; at += 8) map(rig, mem.slice(at, 8), DMA_TO_DEVICE);
  assert.deepEqual(rig.found(), []);
});

test('the last line of a large buffer counts as well as the first', () => {
  const rig = makeRig();
  const mem = rig.pages(1);
  map(rig, mem.slice(0, 4096 + 8), DMA_FROM_DEVICE);
  map(rig, mem.slice(4096 + 8, 8), DMA_TO_DEVICE);
  assert.deepEqual(rig.found(), ['dma/cacheline-overlap']);
});

test('one buffer that two devices write is an overlap on every machine', () => {
  for (const coherent of [true, false]) {
    const rig = makeRig({ coherent });
    const mem = rig.kmalloc(4096);
    map(rig, mem, DMA_FROM_DEVICE);
    map(rig, mem, DMA_FROM_DEVICE, rig.b);
    const [finding] = rig.findings();
    assert.equal(finding?.rule === 'dma/cacheline-overlap' && finding.values.sameBytes, true);
  }
});

test('one buffer mapped for reading and for writing, as SPI does, is no overlap', () => {
  const rig = makeRig();
  const mem = rig.kmalloc(64);
  const tx = map(rig, mem, DMA_TO_DEVICE);
  const rx = map(rig, mem, DMA_FROM_DEVICE);
  dmaUnmapSingle(rig.a.dev, rx, 64, DMA_FROM_DEVICE);
  dmaUnmapSingle(rig.a.dev, tx, 64, DMA_TO_DEVICE);
  assert.deepEqual(rig.found(), []);
});

test('small kmalloc objects never share a line where it matters, and on a coherent machine it does not', () => {
  for (const coherent of [true, false]) {
    const rig = makeRig({ coherent });
    for (let i = 0; i < 40; i++) map(rig, rig.kmalloc(8), DMA_FROM_DEVICE);
    assert.deepEqual(rig.found(), []);
  }
});

test('what the CPU writes beside a buffer, in the line that a device writes, is found when the line is dropped', () => {
  const cases = [
    ['unmap', 3, 8],
    ['unmap', 60, 16],
    ['sync', 3, 8],
    ['sync', 60, 16],
  ] as const;
  for (const [end, written, otherBytes] of cases) {
    const rig = makeRig();
    const mem = rig.kmalloc(64);
    const buffer = mem.slice(8, 40);
    const addr = map(rig, buffer, DMA_FROM_DEVICE);
    rig.a.write(addr, 40);
    mem.bytes[written] = 1;
    if (end === 'unmap') dmaUnmapSingle(rig.a.dev, addr, 40, DMA_FROM_DEVICE);
    else dmaSyncSingleForCpu(rig.a.dev, addr, 40, DMA_FROM_DEVICE);
    const findings = rig.findings().filter(({ rule }) => rule === 'dma/cacheline-overlap');
    assert.deepEqual(
      findings.map(({ values }) => (values as { otherAddress: number; otherBytes: number }).otherBytes),
      [otherBytes],
    );
  }
});

test('a neighbour in the line that nobody writes meanwhile does no harm', () => {
  const rig = makeRig();
  const mem = rig.kmalloc(64);
  mem.bytes.fill(9);
  const addr = map(rig, mem.slice(8, 40), DMA_FROM_DEVICE);
  rig.a.write(addr, 40);
  dmaUnmapSingle(rig.a.dev, addr, 40, DMA_FROM_DEVICE);
  assert.deepEqual(rig.found(), []);
});

test('a buffer that bounces shares no line with what the CPU writes beside it', () => {
  const rig = makeRig({ cmdline: 'swiotlb=1024,force' });
  const mem = rig.kmalloc(64);
  const addr = map(rig, mem.slice(8, 40), DMA_FROM_DEVICE);
  assert.notEqual(addr, mem.phys + 8);
  mem.bytes.fill(9);
  rig.a.write(addr, 40);
  dmaUnmapSingle(rig.a.dev, addr, 40, DMA_FROM_DEVICE);
  assert.deepEqual(rig.found(), []);
  assert.deepEqual([mem.bytes[7], mem.bytes[8], mem.bytes[48]], [9, 0xd7, 9]);
});

test('a stack is refused by its address, and found when its page is mapped', () => {
  const rig = makeRig();
  const stack = taskStack(rig.kernel, 4096);
  assert.ok(dmaMapSingle(rig.a.dev, stack.slice(0, 64), DMA_TO_DEVICE) < 0);
  assert.deepEqual(rig.found(), ['dma/stack-or-vmalloc']);
  const addr = dmaMapPage(rig.a.dev, virtToPage(stack), 0, 64, DMA_TO_DEVICE);
  dmaMappingError(rig.a.dev, addr);
  const second = rig.findings()[1];
  assert.equal(second?.rule === 'dma/stack-or-vmalloc' && second.values.refused, false);
});

test('pages of a vmalloc area may be mapped one by one, its address may not', () => {
  const rig = makeRig();
  const area = vmalloc(rig.kernel, 8192)!;
  const addr = dmaMapPage(rig.a.dev, vmallocToPage(area, 4096), 0, 4096, DMA_TO_DEVICE);
  dmaMappingError(rig.a.dev, addr);
  dmaUnmapPage(rig.a.dev, addr, 4096, DMA_TO_DEVICE);
  assert.deepEqual(rig.found(), []);
  assert.ok(dmaMapSingle(rig.a.dev, area.at(0, 64), DMA_TO_DEVICE) < 0);
  assert.deepEqual(rig.found(), ['dma/stack-or-vmalloc']);
});

test('module data and the kernel image are found though the kernel maps them', () => {
  const rig = makeRig();
  map(rig, moduleData(rig.kernel, 4096).slice(0, 64), DMA_TO_DEVICE);
  map(rig, kernelImage(rig.kernel).rodata.slice(0, 64), DMA_TO_DEVICE);
  map(rig, kernelImage(rig.kernel).data.slice(0, 64), DMA_TO_DEVICE);
  assert.deepEqual(rig.found(), ['dma/stack-or-vmalloc', 'dma/kernel-image']);
});

test('freeing what is mapped is found, whether it came from the slab or from the page allocator', () => {
  const rig = makeRig();
  const object = rig.kmalloc(256);
  map(rig, object, DMA_FROM_DEVICE);
  kfree(rig.kernel, object);
  const pages = rig.pages(1);
  map(rig, pages.slice(4096, 64), DMA_FROM_DEVICE);
  freePages(rig.kernel, pages, 1);
  assert.deepEqual(
    rig.findings().map(({ rule, values }) => [rule, (values as { order: string }).order]),
    [
      ['dma/freed-memory', 'freed while mapped'],
      ['dma/freed-memory', 'freed while mapped'],
    ],
  );
});

test('mapping what was freed is found; memory that was handed out again is not', () => {
  const rig = makeRig();
  const object = rig.kmalloc(256);
  kfree(rig.kernel, object);
  const reused = rig.kmalloc(256);
  assert.equal(reused.phys, object.phys);
  const addr = map(rig, reused, DMA_TO_DEVICE);
  dmaUnmapSingle(rig.a.dev, addr, 256, DMA_TO_DEVICE);
  assert.deepEqual(rig.found(), []);
  kfree(rig.kernel, reused);
  map(rig, object.slice(64, 64), DMA_TO_DEVICE);
  assert.deepEqual(rig.found(), ['dma/freed-memory']);
  const page = rig.pages(0);
  freePages(rig.kernel, page, 0);
  map(rig, page, DMA_TO_DEVICE);
  assert.equal(rig.findings()[0]!.times, 2);
});
