import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { DMA_MAPPING_ERROR, type DmaAddr, dmaBitMask, PAGE_SIZE, physAddr } from '../base/addr.ts';
import { Prng } from '../base/prng.ts';
import type { Device } from '../kernel/device.ts';
import { DMA_TO_DEVICE } from '../kernel/dma-direction.ts';
import { GFP_ATOMIC, GFP_KERNEL } from '../kernel/gfp.ts';
import { allocPages, type Page } from '../kernel/page-alloc.ts';
import { msleep } from '../kernel/wait.ts';
import {
  dmaAllocCoherent,
  dmaFreeCoherent,
  dmaGetRequiredMask,
  dmaMapPage,
  dmaMapResource,
  dmaMapSg,
  dmaSetCoherentMask,
  dmaSetMask,
  dmaSetMaxSegSize,
  dmaSetSegBoundary,
  dmaUnmapPage,
  dmaUnmapResource,
  dmaUnmapSg,
  sgAlloc,
  sgNext,
  sgSetPage,
} from '../mapping/index.ts';
import { devIommu } from './dev-iommu.ts';
import { dmaCookie } from './dma-cookie.ts';
import { type IommuDomain, iommuFlushIotlbAll } from './domain.ts';
import { iommuDefaultDomainType, iommuGetResvRegions, iommuSetupDmaOps } from './iommu.ts';
import { __freeIova, findIova } from './iova.ts';
import { type SoftwareDomain, softwareIommu } from './test-support.cases.ts';

const golden = (name: string) =>
  JSON.parse(readFileSync(new URL(`../../fixtures/golden/${name}.json`, import.meta.url), 'utf8'));
const hex = (n: number) => (n < 0 ? 'FAIL 0xffffffffffffffff' : `0x${n.toString(16)}`);
const STRICT = 'intel_iommu=on iommu.strict=1';

function buffer(dev: Device, order = 6): Page {
  return allocPages(dev.kernel, GFP_KERNEL, order)!;
}

for (const bits of [32, 64]) {
  test(`addresses come in the order of the recorded kernel with a ${bits}-bit mask`, async () => {
    const { kernel, newDevice } = softwareIommu(STRICT);
    const dev = newDevice();
    const page = buffer(dev, 7);
    dmaSetMask(dev, dmaBitMask(bits));
    const map = (size: number, offset = 0) => dmaMapPage(dev, page, offset, size, DMA_TO_DEVICE);
    const unmap = (addr: DmaAddr, size = PAGE_SIZE) => dmaUnmapPage(dev, addr, size, DMA_TO_DEVICE);
    const live = (count: number) => Array.from({ length: count }, () => map(PAGE_SIZE));
    const sizes = [4096, 8192, 12288, 16384, 20480, 65536, 69632, 131072, 135168, 262144, 4096];
    const got: number[][] = [];
    await kernel.run(async () => {
      let list = live(20);
      got.push(list);
      for (const addr of list) unmap(addr);
      list = live(20);
      got.push(list);
      for (const addr of [...list].reverse()) unmap(addr);
      list = live(20);
      got.push(list);
      for (let i = 0; i < 20; i += 2) unmap(list[i]!);
      list = list.map((addr, i) => (i % 2 === 0 ? map(PAGE_SIZE) : addr));
      got.push(list);
      for (const addr of list) unmap(addr);
      await msleep(kernel, 50);
      list = live(20);
      got.push(list);
      for (const addr of list) unmap(addr);
      const held = sizes.map((size) => map(size));
      got.push(held);
      for (const [i, addr] of held.entries()) unmap(addr, sizes[i]);
      const again = sizes.map((size) => map(size));
      got.push(again);
      for (const [i, addr] of again.entries()) unmap(addr, sizes[i]);
      got.push([map(1, 1), map(2, 4095), map(4096, 2048), map(8192, 100)]);
    });
    const steps = golden(`iova${bits}.intel-strict`).result.steps as { step: string; addrs: string[] }[];
    for (const [i, addrs] of got.entries()) {
      assert.deepEqual(addrs.map(hex), steps[i]!.addrs, steps[i]!.step);
    }
  });

  test(`a list of ${bits === 32 ? 'masks, ascending' : 'masks, descending'} succeeds and fails as recorded`, async () => {
    const file = golden(bits === 32 ? 'dma_mask.intel-strict' : 'dma_mask_descending.intel-strict').result;
    const { kernel, newDevice } = softwareIommu(STRICT);
    const dev = newDevice();
    const page = buffer(dev, 0);
    await kernel.run(() => {
      for (const expected of file.cases) {
        const mask = dmaBitMask(expected.bits);
        const set = dmaSetMask(dev, mask);
        const setCoherent = dmaSetCoherentMask(dev, mask);
        const coherent = dmaAllocCoherent(dev, PAGE_SIZE, GFP_KERNEL);
        if (coherent !== null) dmaFreeCoherent(dev, PAGE_SIZE, coherent.mem, coherent.handle);
        const addr = dmaMapPage(dev, page, 0, PAGE_SIZE, DMA_TO_DEVICE);
        if (addr !== DMA_MAPPING_ERROR) dmaUnmapPage(dev, addr, PAGE_SIZE, DMA_TO_DEVICE);
        const got = {
          bits: expected.bits,
          set_mask: set,
          set_coherent_mask: setCoherent,
          required: `0x${dmaGetRequiredMask(dev).toString(16)}`,
          coherent4k: coherent === null ? 'FAIL 0x0' : hex(coherent.handle),
          map4k: hex(addr),
          phys: expected.phys,
        };
        assert.deepEqual(got, expected);
      }
    });
  });
}

for (const bits of [24, 28]) {
  test(`a ${bits}-bit space holds as many pages as recorded`, async () => {
    const file = golden(`fill${bits}.intel-strict`).result;
    const { kernel, newDevice } = softwareIommu(STRICT);
    const dev = newDevice();
    const page = buffer(dev, 0);
    dmaSetMask(dev, dmaBitMask(bits));
    await kernel.run(() => {
      const addrs: number[] = [];
      for (;;) {
        const addr = dmaMapPage(dev, page, 0, PAGE_SIZE, DMA_TO_DEVICE);
        if (addr === DMA_MAPPING_ERROR) break;
        addrs.push(addr);
      }
      assert.equal(addrs.length, file.mapped_until_failure);
      assert.equal(hex(Math.min(...addrs)), file.lowest);
      assert.equal(hex(Math.max(...addrs)), file.highest);
      assert.equal(hex(addrs[0]!), file.first);
      assert.equal(hex(addrs.at(-1)!), file.last);
    });
  });
}

test('scatterlists merge as recorded, and every segment shows its memory', async () => {
  const { kernel, newDevice } = softwareIommu(STRICT);
  const dev = newDevice();
  // The recording is an excerpt: cases between those shown have been the first to take ranges of 4, 2 and 8 pages.
  const history = buffer(dev, 5);
  for (const pages of [1, 4, 16, 32, 2, 8]) {
    const addr = dmaMapPage(dev, history, 0, pages * PAGE_SIZE, DMA_TO_DEVICE);
    dmaUnmapPage(dev, addr, pages * PAGE_SIZE, DMA_TO_DEVICE);
  }
  await kernel.run(() => {
    for (const expected of golden('map_sg.intel-strict').result.cases) {
      dmaSetMaxSegSize(dev, expected.max_seg);
      dmaSetSegBoundary(dev, Number(expected.boundary));
      const entries = expected.in as [number, number][];
      const sgl = sgAlloc(entries.length);
      const pages: number[] = [];
      let sg = sgl as ReturnType<typeof sgNext>;
      for (const [offset, length] of entries) {
        // An odd number of pages between them, so that none are physically contiguous by chance.
        const page = allocPages(kernel, GFP_KERNEL, 6)!;
        pages.push(page * PAGE_SIZE + offset);
        sgSetPage(sg!, page, length, offset);
        sg = sgNext(sg!);
      }
      const ret = dmaMapSg(dev, sgl, entries.length, DMA_TO_DEVICE);
      const out: unknown[] = [];
      const first = sgl.dmaAddress;
      sg = sgl;
      for (let i = 0; i < ret; i++, sg = sgNext(sg!)) {
        out.push({ rel: sg!.dmaAddress - first, low12: sg!.dmaAddress % 4096, len: sg!.dmaLength });
      }
      assert.deepEqual(
        { ret, out, first: hex(first) },
        { ret: expected.ret, out: expected.out, first: expected.first_addr },
        expected.name,
      );
      dmaUnmapSg(dev, sgl, entries.length, DMA_TO_DEVICE);
      const domain = devIommu(dev)!.domain as SoftwareDomain;
      assert.equal(domain.table.size, 0, `${expected.name} leaves mappings`);
      for (const at of pages) kernel.pages.release(Math.floor(at / PAGE_SIZE) as Page, 6);
    }
  });
});

test('lazy mode gives addresses back after one invalidation of many, or 10 ms', async () => {
  const { kernel, newDevice } = softwareIommu('intel_iommu=on iommu.strict=0');
  const dev = newDevice();
  const page = buffer(dev, 0);
  const domain = devIommu(dev)!.domain as SoftwareDomain;
  assert.equal(domain.type, 'dma-fq');
  await kernel.run(async () => {
    const first = dmaMapPage(dev, page, 0, PAGE_SIZE, DMA_TO_DEVICE);
    dmaUnmapPage(dev, first, PAGE_SIZE, DMA_TO_DEVICE);
    const second = dmaMapPage(dev, page, 0, PAGE_SIZE, DMA_TO_DEVICE);
    assert.equal(second, first - PAGE_SIZE, 'an address that waits is not handed out');
    dmaUnmapPage(dev, second, PAGE_SIZE, DMA_TO_DEVICE);
    assert.equal(domain.flushes, 0);
    assert.equal(dmaCookie(domain).flushQueue!.length, 2);
    await msleep(kernel, 20);
    assert.equal(domain.flushes, 1);
    assert.equal(dmaCookie(domain).flushQueue!.length, 0);
    for (let i = 0; i < 1000; i++) {
      const addr = dmaMapPage(dev, page, 0, PAGE_SIZE, DMA_TO_DEVICE);
      dmaUnmapPage(dev, addr, PAGE_SIZE, DMA_TO_DEVICE);
    }
    // 255 entries fill the ring; each further round of 255 takes one invalidation.
    assert.equal(domain.flushes, 1 + 3);
    assert.equal(domain.syncs, 0);
  });
});

test('no two live mappings overlap, and everything returns to nothing', async () => {
  for (let seed = 1; seed <= 5; seed++) {
    const prng = new Prng(seed);
    const { kernel, newDevice } = softwareIommu(seed % 2 === 0 ? STRICT : 'iommu.strict=0');
    const dev = newDevice();
    dmaSetMask(dev, dmaBitMask(prng.between(24, 40)));
    const page = buffer(dev, 8);
    const domain = devIommu(dev)!.domain as SoftwareDomain;
    const live: { addr: DmaAddr; size: number }[] = [];
    const used = new Set<number>();
    const framesOf = ({ addr, size }: { addr: number; size: number }) => {
      const frames: number[] = [];
      for (let at = addr - (addr % 4096); at < addr + size; at += 4096) frames.push(at);
      return frames;
    };
    await kernel.run(async () => {
      for (let step = 0; step < 4000; step++) {
        if (live.length > 200 || (live.length > 0 && prng.chance(1, 2))) {
          const mapping = live.splice(prng.below(live.length), 1)[0]!;
          for (const frame of framesOf(mapping)) used.delete(frame);
          dmaUnmapPage(dev, mapping.addr, mapping.size, DMA_TO_DEVICE);
        } else {
          const offset = prng.below(8192);
          const size = prng.between(1, 2 ** prng.between(0, 19));
          const addr = dmaMapPage(dev, page, offset, size, DMA_TO_DEVICE);
          if (addr === DMA_MAPPING_ERROR) continue;
          assert.equal(domain.iovaToPhys(addr), page * PAGE_SIZE + offset, `seed ${seed}`);
          const mapping = { addr, size };
          for (const frame of framesOf(mapping)) {
            assert.equal(used.has(frame), false, `seed ${seed}: ${hex(frame)} is handed out twice`);
            used.add(frame);
          }
          live.push(mapping);
        }
        if (prng.chance(1, 500)) await msleep(kernel, 15);
      }
      for (const mapping of live) dmaUnmapPage(dev, mapping.addr, mapping.size, DMA_TO_DEVICE);
      await msleep(kernel, 15);
    });
    assert.equal(domain.table.size, 0);
    const cookie = dmaCookie(domain);
    cookie.destroy();
    cookie.iovad.tree.verify();
    assert.equal(cookie.rcaches.cachedCount, 0);
    assert.equal(cookie.iovad.rangeCount, 5, 'four windows and the MSI region stay reserved');
  }
});

test('a coherent allocation in atomic context works on a coherent machine', async () => {
  const { kernel, newDevice } = softwareIommu(STRICT);
  const dev = newDevice();
  await kernel.run(() => {
    const memory = dmaAllocCoherent(dev, 100, GFP_ATOMIC)!;
    assert.equal(memory.mem.size, 100);
    assert.equal(devIommu(dev)!.domain!.iovaToPhys(memory.handle), memory.mem.phys);
    dmaFreeCoherent(dev, 100, memory.mem, memory.handle);
  });
});

test('another device’s registers get addresses, and give them back', async () => {
  const { kernel, newDevice } = softwareIommu(STRICT);
  const dev = newDevice();
  const domain = devIommu(dev)!.domain as SoftwareDomain;
  const { iovad, rcaches } = dmaCookie(domain);
  const before = iovad.rangeCount;
  await kernel.run(() => {
    const addr = dmaMapResource(dev, physAddr(0xfe30_0010), 5000, DMA_TO_DEVICE, 0);
    assert.equal(domain.iovaToPhys(addr), 0xfe30_0010);
    assert.equal(domain.table.size, 2);
    dmaUnmapResource(dev, addr, 5000, DMA_TO_DEVICE, 0);
    assert.equal(domain.table.size, 0);
    rcaches.flush();
    assert.equal(iovad.rangeCount, before);
  });
});

test('what was handed out can be looked up, flushed and given back by hand', async () => {
  const { kernel, newDevice } = softwareIommu('iommu.strict=0 iommu.passthrough=0');
  const dev = newDevice();
  assert.equal(iommuDefaultDomainType(kernel), 'dma-fq');
  assert.deepEqual(
    iommuGetResvRegions(dev).map(({ start, type }) => [start, type]),
    [[0xfee0_0000, 'msi']],
  );
  const domain = devIommu(dev)!.domain as SoftwareDomain;
  const { iovad, flushQueue } = dmaCookie(domain);
  await kernel.run(() => {
    const page = buffer(dev, 0);
    const addr = dmaMapPage(dev, page, 0, PAGE_SIZE, DMA_TO_DEVICE);
    assert.equal(findIova(iovad, addr / PAGE_SIZE), true);
    dmaUnmapPage(dev, addr, PAGE_SIZE, DMA_TO_DEVICE);
    flushQueue!.freeFlushed();
    assert.equal(flushQueue!.length, 1, 'nothing was invalidated yet');
    flushQueue!.flushIotlb();
    assert.equal(domain.flushes, 1);
    flushQueue!.freeFlushed();
    assert.equal(flushQueue!.length, 0);
    iommuFlushIotlbAll(domain);
    assert.equal(domain.flushes, 2);
  });
  __freeIova(iovad, iovad.tree.find(0xfee00));
  assert.equal(findIova(iovad, 0xfee00), false);
  const identity = { type: 'identity' } as unknown as IommuDomain;
  assert.equal(iommuSetupDmaOps(dev, identity), false);
  assert.equal(dev.dmaOps, null);
  assert.equal(iommuSetupDmaOps(dev, domain), true);
  assert.notEqual(dev.dmaOps, null);
});
