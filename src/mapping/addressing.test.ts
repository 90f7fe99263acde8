import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { DMA_MAPPING_ERROR, dmaAddr, dmaBitMask, PAGE_SIZE, physAddr } from '../base/addr.ts';
import { EIO, OK } from '../base/errno.ts';
import { DMA_BIDIRECTIONAL, DMA_TO_DEVICE } from '../kernel/dma-direction.ts';
import { Device, GFP_KERNEL, kernelImage, type Mem, moduleData } from '../kernel/index.ts';
import { getFreePage, getFreePages, memAt, type Page, physToPage, virtToPage } from '../kernel/page-alloc.ts';
import { dmaAllocCoherent, dmaFreeCoherent } from './coherent.ts';
import { directRig } from './direct-rig.cases.ts';
import { dmaToPhys, physToDma } from './dma-range.ts';
import { SIZE_MAX } from './limits.ts';
import {
  dmaAddressingLimited,
  dmaCoerceMaskAndCoherent,
  dmaGetCacheAlignment,
  dmaGetMask,
  dmaGetMaxSegSize,
  dmaGetMergeBoundary,
  dmaGetMinAlignMask,
  dmaGetRequiredMask,
  dmaGetSegBoundary,
  dmaMaxMappingSize,
  dmaOptMappingSize,
  dmaSetCoherentMask,
  dmaSetMask,
  dmaSetMaskAndCoherent,
  dmaSetMaxSegSize,
  dmaSetMinAlignMask,
  dmaSetSegBoundary,
  dmaSupported,
} from './mask.ts';
import type { MappingRig } from './ops.cases.ts';
import { dmaMapResource } from './resource.ts';
import { sgAlloc, sgAt, sgSetPage } from './scatterlist.ts';
import { dmaMapSg, dmaMapSgtable } from './sg.ts';
import { SgTable, sgAllocTable } from './sg-table.ts';
import { dmaMapPage, dmaMapSingle, dmaUnmapPage, dmaUnmapSingle } from './streaming.ts';
import { dmaNeedSync, dmaSyncSingleForCpu, dmaSyncSingleForDevice } from './sync.ts';

const MIB = 2 ** 20;
const windows = [
  { cpuStart: physAddr(0), dmaStart: dmaAddr(0xc000_0000), sizeBytes: 16 * MIB },
  { cpuStart: physAddr(32 * MIB), dmaStart: dmaAddr(0), sizeBytes: 16 * MIB },
];
function messages(rig: MappingRig): string[] {
  return rig.kernel.splats.map(({ message }) => message);
}
function page(rig: MappingRig): Mem {
  const mem = getFreePage(rig.kernel, GFP_KERNEL);
  assert.ok(mem !== null);
  return mem;
}

interface MaskCase {
  bits: number;
  set_mask: number;
  set_coherent_mask: number;
  required: string;
  map4k?: string;
  phys?: string;
}
test('masks of 1 to 64 bits are taken and refused as on the recorded machine', () => {
  const url = new URL('../../fixtures/golden/dma_mask.none.json', import.meta.url);
  const golden = JSON.parse(readFileSync(url, 'utf8')).result as { required_mask: string; cases: MaskCase[] };
  // The machine of the recording has RAM up to 0x7ffd6fff.
  const rig = directRig({ ram: [{ base: 0, sizeBytes: 0x7ffd_7000 }] });
  const { dev } = rig;
  assert.equal(`0x${dmaGetRequiredMask(dev).toString(16)}`, golden.required_mask);
  for (const facts of golden.cases) {
    const mask = dmaBitMask(facts.bits);
    dev.dmaMask = dmaBitMask(32);
    dev.coherentDmaMask = dmaBitMask(32);
    assert.equal(dmaSetMask(dev, mask), facts.set_mask, `dma_set_mask of ${facts.bits} bits`);
    assert.equal(dmaSetCoherentMask(dev, mask), facts.set_coherent_mask, `coherent, ${facts.bits} bits`);
    assert.equal(`0x${dmaGetRequiredMask(dev).toString(16)}`, facts.required);
    if (facts.phys === undefined) continue;
    const addr = dmaMapPage(dev, physToPage(physAddr(Number(facts.phys))), 0, PAGE_SIZE, DMA_BIDIRECTIONAL);
    const mapped = addr === DMA_MAPPING_ERROR ? 'FAIL 0xffffffffffffffff' : `0x${addr.toString(16)}`;
    assert.equal(mapped, facts.map4k, `mapping with ${facts.bits} bits`);
  }
});

test('a refused mask changes nothing', () => {
  const { dev } = directRig({ ram: [{ base: 0, sizeBytes: 64 * MIB }] });
  assert.equal(dmaSetMaskAndCoherent(dev, dmaBitMask(23)), EIO);
  assert.equal(dev.dmaMask, dmaBitMask(32));
  assert.equal(dev.coherentDmaMask, dmaBitMask(32));
  assert.equal(dmaSetMaskAndCoherent(dev, dmaBitMask(64)), OK);
  assert.equal(dev.dmaMask, dmaBitMask(64));
  assert.equal(dev.coherentDmaMask, dmaBitMask(64));
  assert.equal(dmaGetMask(dev), dmaBitMask(64));
  assert.equal(dmaSupported(dev, dmaBitMask(24)), true);
});

test('a mask can be forced on a device whose bus gave none', () => {
  const { dev } = directRig();
  dev.dmaMask = null;
  assert.equal(dmaSetMask(dev, dmaBitMask(32)), EIO);
  assert.equal(dmaCoerceMaskAndCoherent(dev, dmaBitMask(40)), OK);
  assert.equal(dev.dmaMask, dmaBitMask(40));
});

test('a narrow mask is enough when all memory lies below it, whatever the zones', () => {
  const { dev } = directRig({ ram: [{ base: 0, sizeBytes: MIB }] });
  assert.equal(dmaSetMask(dev, dmaBitMask(20)), OK);
  assert.equal(dmaSetMask(dev, dmaBitMask(19)), EIO);
});

test('without a DMA zone a mask must cover all memory', () => {
  const { dev } = directRig({ ram: [{ base: 0, sizeBytes: 64 * MIB }], kernel: { zoneDmaLimit: 0 } });
  assert.equal(dmaSetMask(dev, dmaBitMask(25)), EIO);
  assert.equal(dmaSetMask(dev, dmaBitMask(26)), OK);
});

test('what the mask cannot reach fails, with the kernel’s message once', () => {
  const rig = directRig({ ram: [{ base: 0, sizeBytes: 64 * MIB }] });
  const { dev } = rig;
  dmaSetMask(dev, dmaBitMask(24));
  const mem = page(rig);
  assert.ok(mem.phys >= 16 * MIB);
  assert.equal(dmaMapSingle(dev, mem, DMA_TO_DEVICE), DMA_MAPPING_ERROR);
  assert.equal(dmaMapSingle(dev, mem, DMA_TO_DEVICE), DMA_MAPPING_ERROR);
  assert.deepEqual(messages(rig), [
    `tester: DMA addr 0x${mem.phys.toString(16).padStart(16, '0')}+4096 overflow (mask ffffff, bus limit 0).`,
  ]);
});

test('the last byte must be within the mask, and no more', () => {
  const { dev } = directRig({ ram: [{ base: 0, sizeBytes: 64 * MIB }] });
  dmaSetMask(dev, dmaBitMask(24));
  const last = physToPage(physAddr(16 * MIB - PAGE_SIZE));
  assert.equal(dmaMapPage(dev, last, 0, PAGE_SIZE, DMA_TO_DEVICE), 16 * MIB - PAGE_SIZE);
  assert.equal(dmaMapPage(dev, last, 1, PAGE_SIZE, DMA_TO_DEVICE), DMA_MAPPING_ERROR);
});

test('a bus narrower than the device limits it', () => {
  const rig = directRig({ ram: [{ base: 0, sizeBytes: 64 * MIB }] });
  const { dev } = rig;
  dev.busDmaLimit = 32 * MIB - 1;
  const below = physToPage(physAddr(32 * MIB - PAGE_SIZE));
  const above = physToPage(physAddr(32 * MIB));
  assert.equal(dmaMapPage(dev, below, 0, PAGE_SIZE, DMA_TO_DEVICE), 32 * MIB - PAGE_SIZE);
  assert.equal(dmaMapPage(dev, above, 0, PAGE_SIZE, DMA_TO_DEVICE), DMA_MAPPING_ERROR);
  assert.match(messages(rig)[0]!, /\(mask ffffffff, bus limit 1ffffff\)\.$/);
  assert.equal(dmaAddressingLimited(dev), true);
});

test('a page without RAM is judged by its address alone', () => {
  const rig = directRig();
  const beyond = physToPage(physAddr(2 ** 40));
  assert.equal(dmaMapPage(rig.dev, beyond, 0, PAGE_SIZE, DMA_TO_DEVICE), DMA_MAPPING_ERROR);
  assert.deepEqual(messages(rig), ['tester: DMA addr 0x0000010000000000+4096 overflow (mask ffffffff, bus limit 0).']);
  assert.equal(dmaMapPage(rig.dev, physToPage(physAddr(2 ** 31)), 5000, 8, DMA_TO_DEVICE), 2 ** 31 + 5000);
});

test('NULL overflows, as on the recorded machine', () => {
  const rig = directRig();
  assert.equal(dmaMapSingle(rig.dev, null as unknown as Mem, DMA_TO_DEVICE), DMA_MAPPING_ERROR);
  assert.match(messages(rig)[0]!, /^tester: DMA addr 0x[0-9a-f]+\+0 overflow \(mask ffffffff, bus limit 0\)\.$/);
});

test('kernel text, constants and module data are mapped without a word', () => {
  const rig = directRig();
  const { text, rodata } = kernelImage(rig.kernel);
  for (const mem of [text.slice(0, 64), rodata.slice(0, 16), moduleData(rig.kernel, 64)]) {
    assert.equal(dmaMapSingle(rig.dev, mem, DMA_TO_DEVICE), mem.phys);
  }
  assert.deepEqual(messages(rig), []);
});

test('several windows translate both ways, and what lies in none cannot be mapped', () => {
  const rig = directRig({ ram: [{ base: 0, sizeBytes: 64 * MIB }], dmaRangeMap: windows });
  const { dev } = rig;
  assert.equal(physToDma(dev, physAddr(0x1234)), 0xc000_1234);
  assert.equal(physToDma(dev, physAddr(33 * MIB)), MIB);
  assert.equal(physToDma(dev, physAddr(20 * MIB)), DMA_MAPPING_ERROR);
  assert.equal(dmaToPhys(dev, dmaAddr(0xc000_1234)), 0x1234);
  assert.equal(dmaToPhys(dev, dmaAddr(MIB)), 33 * MIB);
  assert.equal(dmaToPhys(dev, dmaAddr(0x8000_0000)), -1);
  assert.equal(dmaMapSingle(dev, memAt(rig.kernel, 33 * MIB, 64), DMA_TO_DEVICE), MIB);
  assert.equal(dmaMapSingle(dev, memAt(rig.kernel, 20 * MIB, 64), DMA_TO_DEVICE), DMA_MAPPING_ERROR);
  assert.match(messages(rig)[0]!, /DMA addr 0xffffffffffffffff\+64 overflow/);
  assert.equal(dmaAddressingLimited(dev), true, 'the windows do not show all RAM');
  dmaUnmapSingle(dev, dmaAddr(0x8000_0000), 64, DMA_TO_DEVICE);
  dmaSyncSingleForCpu(dev, dmaAddr(0x8000_0000), 64, DMA_BIDIRECTIONAL);
});

test('the required mask is the narrowest that reaches all memory through the windows', () => {
  assert.equal(dmaGetRequiredMask(directRig({ ram: [{ base: 0, sizeBytes: 64 * MIB }] }).dev), dmaBitMask(26));
  const above = [
    { base: 0, sizeBytes: MIB },
    { base: 2 ** 32, sizeBytes: MIB },
  ];
  const { dev } = directRig({ ram: above });
  assert.equal(dmaGetRequiredMask(dev), dmaBitMask(33));
  assert.equal(dmaAddressingLimited(dev), true);
  dmaSetMask(dev, dmaBitMask(33));
  assert.equal(dmaAddressingLimited(dev), false);
  const shifted = directRig({ dmaRangeMap: [{ ...windows[0]!, sizeBytes: 16 * MIB }] });
  assert.equal(dmaGetRequiredMask(shifted.dev), dmaBitMask(32));
  assert.equal(dmaAddressingLimited(shifted.dev), false);
  const hidden = directRig({ dmaRangeMap: [windows[1]!] });
  assert.equal(dmaGetRequiredMask(hidden.dev), dmaBitMask(64));
});

test('registers have no window, and an overflow is told as an error line', () => {
  const rig = directRig({ dmaRangeMap: windows });
  assert.equal(dmaMapResource(rig.dev, physAddr(0x4000_0000), 16, DMA_TO_DEVICE, 0), 0x4000_0000);
  assert.equal(dmaMapResource(rig.dev, physAddr(2 ** 33), 16, DMA_TO_DEVICE, 0), DMA_MAPPING_ERROR);
  assert.deepEqual(messages(rig), []);
  const text = rig.kernel.log.lines.map((line) => line.text);
  assert.deepEqual(text, ['tester: DMA addr 0x0000000200000000+16 overflow (mask ffffffff, bus limit 0).']);
});

test('a list with one entry out of reach fails as a whole', () => {
  const rig = directRig({ ram: [{ base: 0, sizeBytes: 64 * MIB }] });
  dmaSetMask(rig.dev, dmaBitMask(24));
  const table = new SgTable();
  sgAllocTable(table, 3, GFP_KERNEL);
  [MIB, 2 * MIB, 32 * MIB].forEach((phys, i) => {
    sgSetPage(sgAt(table.sgl, i), (phys / PAGE_SIZE) as Page, PAGE_SIZE, 0);
  });
  assert.equal(dmaMapSg(rig.dev, table.sgl, 3, DMA_TO_DEVICE), 0);
  assert.equal(dmaMapSgtable(rig.dev, table, DMA_TO_DEVICE, 0), EIO);
  assert.equal(table.nents, 3);
  assert.equal(dmaMapSg(rig.dev, table.sgl, 2, DMA_TO_DEVICE), 2);
  assert.throws(() => dmaMapSg(rig.dev, sgAlloc(1), 2, DMA_TO_DEVICE), /the scatterlist ends after 1 of 2 entries/);
});

test('sizes are unlimited without bounce buffers, and segments as the driver said', () => {
  const rig = directRig();
  const { dev } = rig;
  assert.equal(dmaMaxMappingSize(dev), SIZE_MAX);
  assert.equal(dmaOptMappingSize(dev), SIZE_MAX);
  assert.equal(dmaGetMergeBoundary(dev), 0);
  assert.equal(dmaGetMaxSegSize(dev), 65536);
  assert.equal(dmaGetSegBoundary(dev), SIZE_MAX);
  assert.equal(dmaGetMinAlignMask(dev), 0);
  dmaSetMaxSegSize(dev, 4096);
  dmaSetSegBoundary(dev, 0xffff);
  dmaSetMinAlignMask(dev, 0xfff);
  assert.deepEqual([dmaGetMaxSegSize(dev), dmaGetSegBoundary(dev), dmaGetMinAlignMask(dev)], [4096, 0xffff, 0xfff]);
  dev.dmaParms = null;
  dmaSetMaxSegSize(dev, 1);
  dmaSetSegBoundary(dev, 1);
  dmaSetMinAlignMask(dev, 1);
  assert.equal(rig.kernel.splats.length, 3);
  assert.deepEqual([dmaGetMaxSegSize(dev), dmaGetSegBoundary(dev), dmaGetMinAlignMask(dev)], [65536, SIZE_MAX, 0]);
});

test('sync is needed, and buffers are kept a line apart, where the device does not snoop', () => {
  const coherent = directRig();
  const mem = page(coherent);
  assert.equal(dmaNeedSync(coherent.dev, dmaMapSingle(coherent.dev, mem, DMA_TO_DEVICE)), false);
  assert.equal(dmaGetCacheAlignment(coherent.dev), 1);
  const other = directRig({ coherent: false, cacheLineBytes: 128 });
  assert.equal(dmaNeedSync(other.dev, dmaMapSingle(other.dev, page(other), DMA_TO_DEVICE)), true);
  assert.equal(dmaGetCacheAlignment(other.dev), 128);
});

test('a device that snoops on a non-coherent machine needs no cache maintenance', () => {
  const rig = directRig({ coherent: false });
  const snooping = new Device(rig.kernel, 'snooping');
  snooping.dmaMask = dmaBitMask(32);
  snooping.dmaCoherent = true;
  const mem = getFreePages(rig.kernel, GFP_KERNEL, 0)!;
  let cleaned = 0;
  rig.kernel.machine.observer = { cacheOp: () => cleaned++ };
  const addr = dmaMapSingle(snooping, mem, DMA_BIDIRECTIONAL);
  dmaUnmapSingle(snooping, addr, mem.size, DMA_BIDIRECTIONAL);
  assert.equal(cleaned, 0);
  assert.equal(dmaNeedSync(snooping, addr), false);
  dmaMapSingle(rig.dev, mem, DMA_BIDIRECTIONAL);
  assert.ok(cleaned > 0);
  assert.equal(virtToPage(mem) * PAGE_SIZE, mem.phys);
});

test('bogus addresses harm nothing but their own', () => {
  const { kernel, dev } = directRig({ coherent: false });
  const beyond = physToPage(physAddr(2 ** 31));
  const addr = dmaMapPage(dev, beyond, 0, PAGE_SIZE, DMA_BIDIRECTIONAL);
  dmaUnmapPage(dev, addr, PAGE_SIZE, DMA_BIDIRECTIONAL);
  dmaUnmapPage(dev, DMA_MAPPING_ERROR, PAGE_SIZE, DMA_BIDIRECTIONAL);
  dmaSyncSingleForCpu(dev, DMA_MAPPING_ERROR, PAGE_SIZE, DMA_BIDIRECTIONAL);
  dmaSyncSingleForDevice(dev, DMA_MAPPING_ERROR, PAGE_SIZE, DMA_BIDIRECTIONAL);
  const { mem, handle } = dmaAllocCoherent(dev, PAGE_SIZE, GFP_KERNEL)!;
  dmaFreeCoherent(dev, PAGE_SIZE, mem, (handle + 2 ** 31) as typeof handle);
  dmaFreeCoherent(dev, PAGE_SIZE, mem, handle);
  assert.equal(kernel.pages.freePages, kernel.pages.managedPages);
  assert.equal(kernel.splats.length, 1);
});
