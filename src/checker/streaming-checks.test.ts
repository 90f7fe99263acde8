import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DMA_MAPPING_ERROR, physAddr } from '../base/addr.ts';
import { virtToPage } from '../kernel/index.ts';
import {
  DMA_BIDIRECTIONAL,
  DMA_FROM_DEVICE,
  DMA_TO_DEVICE,
  dmaMapPage,
  dmaMappingError,
  dmaMapResource,
  dmaMapSg,
  dmaMapSingle,
  dmaUnmapPage,
  dmaUnmapResource,
  dmaUnmapSg,
  dmaUnmapSingle,
  sgAlloc,
  sgNext,
  sgSetBuf,
} from '../mapping/index.ts';
import { fixOf, messageOf } from './finding.ts';
import { makeRig, NOWHERE, type Rig } from './rig.cases.ts';

function map(rig: Rig, size = 4096, dir: 0 | 1 | 2 = DMA_TO_DEVICE) {
  const mem = rig.kmalloc(size);
  const addr = dmaMapSingle(rig.a.dev, mem, dir);
  assert.equal(dmaMappingError(rig.a.dev, addr), 0);
  return { mem, addr };
}

test('a mapping that is checked and unmapped as it was mapped breaks no rule', () => {
  const rig = makeRig();
  for (const size of [1, 64, 4096, 65536]) {
    for (const dir of [DMA_TO_DEVICE, DMA_FROM_DEVICE, DMA_BIDIRECTIONAL] as const) {
      const { addr } = map(rig, size, dir);
      dmaUnmapSingle(rig.a.dev, addr, size, dir);
    }
  }
  rig.checker.runEnded();
  assert.deepEqual(rig.found(), []);
});

test('unmapping another size names both sizes and both places', () => {
  const rig = makeRig();
  const { addr } = map(rig);
  dmaUnmapSingle(rig.a.dev, addr, 2048, DMA_TO_DEVICE);
  const [finding] = rig.findings();
  assert.equal(finding?.rule, 'dma/unmap-size');
  assert.deepEqual(finding.values, { address: addr, mappedBytes: 4096, unmappedBytes: 2048, type: 'single' });
  assert.match(finding.at?.file ?? '', /streaming-checks\.test\.ts$/);
  assert.match(finding.mappedAt?.file ?? '', /streaming-checks\.test\.ts$/);
  assert.equal(finding.mappedAt?.fn, 'map');
  assert.ok(finding.at !== null && finding.mappedAt !== null && finding.at.line > finding.mappedAt.line);
  assert.match(messageOf(finding), /4096 bytes mapped at 0x[0-9a-f]+, only 2048 of them unmapped/);
  assert.equal(fixOf(finding), `unmap 4096 bytes in line ${finding.at.line}`);
});

test('unmapping in another direction is found, and the mapping is over', () => {
  const rig = makeRig();
  const { addr } = map(rig, 4096, DMA_BIDIRECTIONAL);
  dmaUnmapSingle(rig.a.dev, addr, 4096, DMA_TO_DEVICE);
  rig.checker.runEnded();
  assert.deepEqual(rig.found(), ['dma/unmap-direction']);
});

test('a single mapping may be unmapped as a page and a page as single, but neither as a resource or a list', () => {
  const rig = makeRig();
  const one = map(rig);
  dmaUnmapPage(rig.a.dev, one.addr, 4096, DMA_TO_DEVICE);
  const page = dmaMapPage(rig.a.dev, virtToPage(one.mem), 0, 4096, DMA_TO_DEVICE);
  dmaMappingError(rig.a.dev, page);
  dmaUnmapSingle(rig.a.dev, page, 4096, DMA_TO_DEVICE);
  assert.deepEqual(rig.found(), []);
  const two = map(rig);
  dmaUnmapResource(rig.a.dev, two.addr, 4096, DMA_TO_DEVICE, 0);
  const three = map(rig);
  const sg = sgAlloc(1);
  sgSetBuf(sg, three.mem);
  sg.dmaAddress = three.addr;
  sg.dmaLength = 4096;
  dmaUnmapSg(rig.a.dev, sg, 1, DMA_TO_DEVICE);
  assert.deepEqual(rig.found(), ['dma/unmap-function', 'dma/unmap-function']);
});

test('an address that was never mapped, was unmapped, belongs to another device or lies inside a mapping: each is told', () => {
  const rig = makeRig();
  const why = () => (rig.findings().at(-1)?.values as { why?: string } | undefined)?.why;
  dmaUnmapSingle(rig.a.dev, NOWHERE, 4096, DMA_TO_DEVICE);
  assert.equal(why(), 'never');
  const { addr } = map(rig);
  dmaUnmapSingle(rig.b.dev, addr, 4096, DMA_TO_DEVICE);
  assert.equal(why(), 'other-device');
  dmaUnmapSingle(rig.a.dev, (addr + 64) as typeof addr, 4032, DMA_TO_DEVICE);
  assert.equal(why(), 'inside');
  dmaUnmapSingle(rig.a.dev, addr, 4096, DMA_TO_DEVICE);
  dmaUnmapSingle(rig.a.dev, addr, 4096, DMA_TO_DEVICE);
  assert.equal(why(), 'unmapped');
  const twice = rig.findings().at(-1)!;
  assert.equal(twice.mappedAt?.fn, 'map');
  assert.deepEqual(new Set(rig.found()), new Set(['dma/unmap-unknown']));
});

test('a failed mapping is not unmapped', () => {
  const rig = makeRig();
  dmaUnmapSingle(rig.a.dev, DMA_MAPPING_ERROR, 4096, DMA_TO_DEVICE);
  assert.deepEqual(rig.found(), ['dma/unmap-invalid-address']);
});

test('a missing dmaMappingError is found when the mapping is unmapped, and also when it never is', () => {
  const rig = makeRig();
  const mem = rig.kmalloc(4096);
  const addr = dmaMapSingle(rig.a.dev, mem, DMA_TO_DEVICE);
  dmaUnmapSingle(rig.a.dev, addr, 4096, DMA_TO_DEVICE);
  assert.deepEqual(rig.found(), ['dma/mapping-error-unchecked']);
  dmaMapSingle(rig.a.dev, rig.kmalloc(64), DMA_TO_DEVICE);
  rig.checker.runEnded();
  assert.deepEqual(rig.found(), ['dma/mapping-error-unchecked', 'dma/mapping-error-unchecked', 'dma/leak']);
});

test('one buffer mapped many times is a multiset: each mapping is checked and unmapped once', () => {
  const rig = makeRig();
  const mem = rig.kmalloc(4096);
  const addrs = Array.from({ length: 50 }, () => {
    const addr = dmaMapSingle(rig.a.dev, mem, DMA_TO_DEVICE);
    dmaMappingError(rig.a.dev, addr);
    return addr;
  });
  for (const addr of addrs) dmaUnmapSingle(rig.a.dev, addr, 4096, DMA_TO_DEVICE);
  rig.checker.runEnded();
  assert.deepEqual(rig.found(), []);
  dmaUnmapSingle(rig.a.dev, addrs[0]!, 4096, DMA_TO_DEVICE);
  assert.deepEqual(rig.found(), ['dma/unmap-unknown']);
});

test('of several mappings of one address the one that fits is unmapped', () => {
  const rig = makeRig();
  const mem = rig.kmalloc(4096);
  const dev = rig.a.dev;
  const sizes = [4096, 64, 2048] as const;
  for (const size of sizes) assert.equal(dmaMappingError(dev, dmaMapSingle(dev, mem.slice(0, size), DMA_TO_DEVICE)), 0);
  for (const size of [64, 4096, 2048]) dmaUnmapSingle(dev, mem.phys as never, size, DMA_TO_DEVICE);
  assert.deepEqual(rig.found(), []);
});

function list(rig: Rig, sizes: readonly number[]) {
  const sg = sgAlloc(sizes.length);
  let at: typeof sg | null = sg;
  for (const size of sizes) {
    sgSetBuf(at!, rig.kmalloc(size));
    at = sgNext(at!);
  }
  return sg;
}

test('a scatterlist is unmapped with the number of entries given to dmaMapSg', () => {
  const rig = makeRig();
  const sg = list(rig, [4096, 64, 2048, 512]);
  assert.equal(dmaMapSg(rig.a.dev, sg, 4, DMA_TO_DEVICE), 4);
  dmaUnmapSg(rig.a.dev, sg, 4, DMA_TO_DEVICE);
  assert.deepEqual(rig.found(), []);
  dmaMapSg(rig.a.dev, sg, 4, DMA_TO_DEVICE);
  dmaUnmapSg(rig.a.dev, sg, 3, DMA_TO_DEVICE);
  rig.checker.runEnded();
  const [finding, ...rest] = rig.findings();
  assert.deepEqual(rest, []);
  assert.deepEqual(finding?.values, { mappedNents: 4, givenNents: 3, returned: 4 });
});

test('resources have a life of their own', () => {
  const rig = makeRig();
  const addr = dmaMapResource(rig.a.dev, physAddr(0xf000_0000), 4096, DMA_FROM_DEVICE, 0);
  assert.equal(dmaMappingError(rig.a.dev, addr), 0);
  dmaUnmapResource(rig.a.dev, addr, 4096, DMA_FROM_DEVICE, 0);
  rig.checker.runEnded();
  assert.deepEqual(rig.found(), []);
});

test('the same mistake at the same place is one finding that counts', () => {
  const rig = makeRig();
  for (let i = 0; i < 100; i++) {
    const { addr } = map(rig);
    dmaUnmapSingle(rig.a.dev, addr, 2048, DMA_TO_DEVICE);
  }
  const findings = rig.findings();
  assert.equal(findings.length, 1);
  assert.equal(findings[0]!.times, 100);
});

test('without places the ledger still tells mistakes apart by address', () => {
  const rig = makeRig({ places: false });
  const one = map(rig);
  const two = map(rig);
  dmaUnmapSingle(rig.a.dev, one.addr, 1, DMA_TO_DEVICE);
  dmaUnmapSingle(rig.a.dev, two.addr, 2, DMA_TO_DEVICE);
  assert.equal(rig.findings().length, 2);
  assert.equal(rig.findings()[0]!.at, null);
});
