import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DMA_MAPPING_ERROR, type DmaAddr, dmaBitMask, PAGE_SIZE } from '../base/addr.ts';
import { EEXIST, EFAULT, EINVAL, OK } from '../base/errno.ts';
import { Prng } from '../base/prng.ts';
import type { DmarDomain } from '../drivers/intel-iommu-domain.ts';
import type { VtdOptions } from '../hw/vtd-config.ts';
import {
  dmaCookie,
  IOMMU_READ,
  IOMMU_WRITE,
  iommuAttachDevice,
  iommuDetachDevice,
  iommuDomainAlloc,
  iommuDomainFree,
  iommuIovaToPhys,
  iommuMap,
  iommuUnmap,
} from '../iommu/index.ts';
import {
  allocPages,
  DMA_BIDIRECTIONAL,
  DMA_FROM_DEVICE,
  DMA_TO_DEVICE,
  type DmaDataDirection,
  deviceDel,
  GFP_KERNEL,
  msleep,
  type Page,
} from '../kernel/index.ts';
import {
  dmaMapPage,
  dmaMapSg,
  dmaSetMask,
  dmaUnmapPage,
  dmaUnmapSg,
  type Scatterlist,
  sgAlloc,
  sgNext,
  sgSetPage,
} from '../mapping/index.ts';
import { type VtdSystem, type VtdSystemOptions, vtdSystem } from './vtd-rig.cases.ts';

const STRICT = 'intel_iommu=on iommu.strict=1';
const LAZY = 'intel_iommu=on iommu.strict=0';
const RW = IOMMU_READ | IOMMU_WRITE;
const MIB2 = 2 ** 21;
const GIB = 2 ** 30;

/** A system whose first device is attached to a domain that the test maps by hand. */
function byHand(options: VtdSystemOptions = {}): { s: VtdSystem; domain: DmarDomain } {
  const s = vtdSystem(options);
  const domain = iommuDomainAlloc(s.dev) as DmarDomain;
  assert.equal(iommuAttachDevice(domain, s.dev), OK);
  return { s, domain };
}
const map = (domain: DmarDomain, iova: number, phys: number, size: number, prot = RW) =>
  iommuMap(domain, iova, phys, size, prot, GFP_KERNEL);

test('a mapping takes the largest pages that fit, and the device reaches all of it', () => {
  const { s, domain } = byHand({ ramBytes: 32 << 20 });
  // 4 KiB pages up to the first 2 MiB boundary, then large ones, then small ones again.
  const [iova, phys] = [GIB + MIB2 - 0x3000, 4 * MIB2 - 0x3000];
  const size = 0x3000 + 2 * MIB2 + 0x5000;
  assert.equal(map(domain, iova, phys, size), OK);
  // The root, one middle table, and a table of small pages at each end.
  assert.equal(domain.table.tableCount, 4);
  for (const offset of [0, 0x2fff, 0x3000, MIB2, 2 * MIB2 + 0x2fff, size - 1]) {
    assert.equal(iommuIovaToPhys(domain, iova + offset), phys + offset);
    s.memory[phys + offset] = offset % 251;
    const byte = new Uint8Array(1);
    assert.equal(s.master.read(iova + offset, byte, 0, 1), 0);
    assert.equal(byte[0], offset % 251);
  }
  assert.ok(s.writes(iova, size), 'in one access');
  assert.equal(s.reads(iova - 1, 1), false);
  assert.equal(s.reads(iova + size, 1), false);
  assert.equal(iommuUnmap(domain, iova, size), size);
  for (const offset of [0, 0x3000, size - 1]) assert.equal(s.reads(iova + offset, 1), false);
  assert.equal(domain.table.hasDetached, false);
});

test('a page of 1 GiB is one entry; the driver’s switch and the unit’s abilities say what is used', () => {
  const count = (options: VtdSystemOptions) => {
    const { s, domain } = byHand(options);
    assert.equal(map(domain, GIB, 0, GIB), OK);
    s.memory[0x123_4567] = 9;
    const byte = new Uint8Array(1);
    assert.equal(s.master.read(GIB + 0x123_4567, byte, 0, 1), 0);
    assert.equal(byte[0], 9);
    const { tableCount } = domain.table;
    assert.equal(iommuUnmap(domain, GIB, GIB), GIB);
    assert.equal(s.reads(GIB + 0x123_4567), false);
    return tableCount;
  };
  assert.equal(count({}), 1);
  assert.equal(count({ unit: { superpages: 1 } }), 2);
  assert.equal(count({ unit: { superpages: 0 }, ramBytes: 64 << 20 }), 2 + 512);
  assert.equal(count({ cmdline: 'intel_iommu=on,sp_off iommu.strict=1' }), 2 + 512);
});

test('unmapping part of a large page unmaps all of it, and says so', () => {
  const { s, domain } = byHand();
  assert.equal(map(domain, MIB2, MIB2, MIB2), OK);
  assert.ok(s.reads(MIB2 + 0x5000));
  assert.equal(iommuUnmap(domain, MIB2, PAGE_SIZE), MIB2);
  assert.equal(s.reads(MIB2 + 0x5000), false);
});

test('a table that is covered whole goes, after the hardware has forgotten it', () => {
  const { s, domain } = byHand();
  const free = s.kernel.pages.freePages;
  assert.equal(map(domain, GIB, 0x1000, MIB2), OK);
  assert.equal(domain.table.tableCount, 3);
  assert.ok(s.reads(GIB + 0x8000));
  assert.equal(iommuUnmap(domain, GIB, MIB2), MIB2);
  assert.equal(domain.table.tableCount, 2);
  assert.equal(s.kernel.pages.freePages, free - 1, 'the middle table stays');
  assert.equal(s.reads(GIB + 0x8000), false);
  // Were the table still in the unit's caches, the device would now reach what it has become.
  const page = allocPages(s.kernel, GFP_KERNEL, 0)!;
  s.memory32.fill(0x20_0003, s.phys(page) / 4, s.phys(page) / 4 + 1024);
  assert.equal(s.reads(GIB + 0x9000), false);
});

test('no table is given back while the device can still reach what it mapped', () => {
  const { s, domain } = byHand();
  // One small page before a table that goes whole: they are invalidated apart, being of different sizes.
  const [iova, size] = [GIB + MIB2 - PAGE_SIZE, PAGE_SIZE + MIB2];
  for (const offset of [0, PAGE_SIZE, MIB2]) {
    assert.equal(map(domain, iova, 0x1000, size), OK);
    for (const at of [iova, iova + PAGE_SIZE, iova + MIB2]) assert.ok(s.reads(at));
    let freed = 0;
    s.kernel.observer = {
      free: () => {
        freed++;
        for (const at of [iova + PAGE_SIZE, iova + MIB2]) assert.equal(s.reads(at), false);
      },
    };
    if (offset > 0) assert.equal(iommuUnmap(domain, iova, offset), offset);
    assert.equal(iommuUnmap(domain, iova + offset, size - offset), size - offset);
    s.kernel.observer = null;
    assert.ok(freed <= 1);
    assert.equal(freed === 1, offset < MIB2, 'a table that is cleared in two parts stays');
    iommuUnmap(domain, GIB, 2 * MIB2);
  }
});

test('in lazy mode a table stays in memory until the domain was flushed', async () => {
  const s = vtdSystem({ cmdline: LAZY });
  const { kernel, dev } = s;
  await kernel.run(async () => {
    const page = allocPages(kernel, GFP_KERNEL, 10)!;
    dmaUnmapPage(dev, dmaMapPage(dev, page, 0, MIB2, DMA_TO_DEVICE), MIB2, DMA_TO_DEVICE);
    await msleep(kernel, 20);
    const addr = dmaMapPage(dev, page, PAGE_SIZE, MIB2, DMA_TO_DEVICE);
    assert.ok(s.reads(addr));
    const free = kernel.pages.freePages;
    dmaUnmapPage(dev, addr, MIB2, DMA_TO_DEVICE);
    assert.equal(s.domain.table.hasDetached, true);
    assert.equal(kernel.pages.freePages, free);
    const other = dmaMapPage(dev, page, 0, PAGE_SIZE, DMA_TO_DEVICE);
    assert.equal(s.domain.table.hasDetached, true, 'mapping something else flushes nothing');
    dmaUnmapPage(dev, other, PAGE_SIZE, DMA_TO_DEVICE);
    const held = kernel.pages.freePages;
    await msleep(kernel, 20);
    assert.equal(s.domain.table.hasDetached, false);
    assert.equal(kernel.pages.freePages, held + 1);
  });
});

test('what was in a page before it became a table is nothing to a walker that does not snoop', () => {
  const s = vtdSystem({ coherent: false, unit: { coherent: false }, ramBytes: 8 << 20, devices: 0 });
  const { kernel, machine } = s;
  const { cpu32 } = machine.ram[0]!;
  const pages = Array.from({ length: 1000 }, () => s.page());
  for (const page of pages) {
    // Old data that looks like entries, in memory and not in the cache alone.
    const at = s.phys(page);
    for (let i = 0; i < 1024; i += 2) cpu32[at / 4 + i] = 0x20_0003;
    machine.cacheFlush(at, PAGE_SIZE);
  }
  for (const page of pages) kernel.pages.release(page, 0);
  const dev = s.add(0x16);
  const addr = dmaMapPage(dev, s.page(), 0, PAGE_SIZE, DMA_TO_DEVICE);
  assert.ok(s.reads(addr));
  // In other cache lines of the last, the middle and the first table than the entries that were written.
  for (const other of [addr - 64 * PAGE_SIZE, addr - 64 * MIB2, addr + 64 * GIB]) assert.equal(s.reads(other), false);
});

test('a large page takes the place of an empty table, but not of one with pages', () => {
  const { s, domain } = byHand();
  assert.equal(map(domain, GIB, 0x1000, PAGE_SIZE), OK);
  assert.ok(s.reads(GIB));
  assert.equal(map(domain, GIB, MIB2, MIB2), EEXIST);
  assert.ok(s.reads(GIB), 'the small page is still there');
  assert.equal(iommuUnmap(domain, GIB, PAGE_SIZE), PAGE_SIZE);
  assert.equal(map(domain, GIB, MIB2, MIB2), OK);
  assert.equal(domain.table.tableCount, 2);
  s.memory[MIB2 + 0x1_2345] = 3;
  const byte = new Uint8Array(1);
  assert.equal(s.master.read(GIB + 0x1_2345, byte, 0, 1), 0);
  assert.equal(byte[0], 3);
});

test('what is mapped already is not mapped again, and the kernel’s line says which page', () => {
  const { s, domain } = byHand();
  assert.equal(map(domain, 0x10_0000, 0x20_0000, 0x4000), OK);
  assert.equal(map(domain, 0xf_e000, 0x30_0000, 0x4000), EEXIST);
  assert.equal(s.log(/already set/)[0], 'DMAR: ERROR: DMA PTE for vPFN 0x100 already set (to 200000 not 302000)');
  assert.equal(iommuIovaToPhys(domain, 0xf_e000), -1, 'nothing of the failed call is left');
  assert.equal(iommuIovaToPhys(domain, 0x10_0000), 0x20_0000);
  assert.equal(map(domain, 0, GIB, GIB), EEXIST, 'nor where a large page would cover it');
  assert.equal(map(domain, GIB, 0, GIB), OK);
  assert.equal(map(domain, GIB + 0x5000, 0x5000, PAGE_SIZE), EEXIST, 'nor inside a large page');
});

test('what is beyond the width, or gives no right, is refused', () => {
  const { s, domain } = byHand();
  assert.equal(map(domain, 2 ** 39 - PAGE_SIZE, 0x1000, 2 * PAGE_SIZE), EFAULT);
  assert.match(s.log(/iommu width/)[0]!, /iommu width \(39\) is not sufficient for the mapped address \(8000001000\)$/);
  assert.equal(map(domain, 0x1000, 0x1000, PAGE_SIZE, 0), EINVAL);
  assert.equal(map(domain, 0x1001, 0x1000, PAGE_SIZE), EINVAL);
  assert.equal(iommuIovaToPhys(domain, 2 ** 40), -1);
});

test('detached, the device is back in its default domain; the other one leaves nothing', () => {
  const s = vtdSystem();
  const addr = dmaMapPage(s.dev, s.page(), 0, PAGE_SIZE, DMA_TO_DEVICE);
  assert.ok(s.reads(addr));
  const free = s.kernel.pages.freePages;
  const domain = iommuDomainAlloc(s.dev) as DmarDomain;
  assert.equal(iommuAttachDevice(domain, s.dev), OK);
  assert.equal(map(domain, 0x5000, 0x1000, PAGE_SIZE), OK);
  assert.ok(s.reads(0x5000));
  assert.equal(s.reads(addr), false);
  assert.equal(iommuDetachDevice(domain, s.dev), OK);
  assert.ok(s.reads(addr));
  assert.equal(s.reads(0x5000), false);
  iommuDomainFree(domain);
  assert.equal(s.kernel.pages.freePages, free);
});

test('domain ids are given back, and running out of them is said', () => {
  const s = vtdSystem({ unit: { domainIdBits: 4 }, devices: 2 });
  // Ids 0 and 1 are never given out; two domains are those of the devices.
  for (let i = 0; i < 20; i++) s.add(0x4 + i);
  const served = s.devices.filter((dev) => dev.dmaIommu !== null);
  assert.equal(served.length, 14);
  assert.equal(s.log(/free domain ids/)[0], 'DMAR: dmar0: No free domain ids');
  assert.equal(new Set(served.map((dev) => (dev.dmaIommu as { domain: DmarDomain }).domain.idOn(s.unit))).size, 14);
});

/** Kinds of hardware and of boot that all must behave alike. */
const CONFIGURATIONS: Record<string, { unit?: VtdOptions; cmdline?: string; coherent?: boolean }> = {
  'QEMU’s unit': {},
  'a unit with a tiny IOTLB': { unit: { iotlbEntries: 4, contextEntries: 4 } },
  '48 bits above 4 GiB': { unit: { awBits: 48 }, cmdline: `${STRICT} iommu.forcedac=1` },
  'by registers': { unit: { queuedInvalidation: false } },
  'by domain only': { unit: { pageSelective: false } },
  'small invalidations only': { unit: { maxAddressMask: 0 } },
  'caching mode': { unit: { cachingMode: true } },
  'with a write buffer': { unit: { writeBufferFlush: true } },
  'snoop control': { unit: { snoopControl: true } },
  'a walker that does not snoop': { unit: { coherent: false }, coherent: false },
  lazy: { cmdline: LAZY },
};
for (const [name, configuration] of Object.entries(CONFIGURATIONS)) {
  test(`random mappings show the device exactly what they promise: ${name}`, async () => {
    for (let seed = 1; seed <= 3; seed++) await randomProgram(configuration, seed);
  });
}

interface Live {
  readonly addr: DmaAddr;
  readonly size: number;
  readonly phys: number;
  readonly dir: DmaDataDirection;
}

async function randomProgram(configuration: VtdSystemOptions, seed: number): Promise<void> {
  const lazy = configuration.cmdline === LAZY;
  const s = vtdSystem({ cmdline: STRICT, ...configuration, seed, devices: 0, cacheNoise: 'on' });
  const { kernel } = s;
  const prng = new Prng(seed);
  const told = `seed ${seed}`;
  await kernel.run(async () => {
    const free = kernel.pages.freePages;
    const page = allocPages(kernel, GFP_KERNEL, 9)!;
    const base = s.phys(page);
    const dev = s.add(0x16);
    dmaSetMask(dev, dmaBitMask(64));
    const live: Live[] = [];
    const lists: { sgl: Scatterlist; count: number; phys: number[]; dir: DmaDataDirection }[] = [];
    for (let step = 0; step < 1200; step++) {
      const choice = prng.below(10);
      if (choice < 3) mapOne();
      else if (choice < 5) unmapOne();
      else if (choice === 5) mapList();
      else if (choice === 6) unmapList();
      else check();
      if (prng.chance(1, 200)) await msleep(kernel, 15);
    }
    while (live.length > 0) unmapOne();
    while (lists.length > 0) unmapList();
    await msleep(kernel, 15);
    dmaCookie(s.domain).rcaches.flush();
    assert.equal(dmaCookie(s.domain).iovad.rangeCount, 5, `${told}: windows and the MSI region`);
    await deviceDel(dev);
    kernel.pages.release(page, 9);
    assert.equal(kernel.pages.freePages, free - 1, `${told}: the bus's context table stays, nothing else`);

    function direction(): DmaDataDirection {
      return [DMA_TO_DEVICE, DMA_FROM_DEVICE, DMA_BIDIRECTIONAL][prng.below(3)]! as DmaDataDirection;
    }
    function mapOne(): void {
      const offset = prng.below(100 * PAGE_SIZE);
      const size = 1 + prng.below(2 ** prng.between(0, 20) - 1 || 1);
      const dir = direction();
      const addr = dmaMapPage(dev, page, offset, size, dir);
      assert.notEqual(addr, DMA_MAPPING_ERROR, told);
      live.push({ addr, size, phys: base + offset, dir });
    }
    function unmapOne(): void {
      if (live.length === 0) return;
      const { addr, size, dir } = live.splice(prng.below(live.length), 1)[0]!;
      dmaUnmapPage(dev, addr, size, dir);
      if (!lazy) assert.equal(s.reads(addr, 1), false, `${told}: gone at once`);
    }
    function mapList(): void {
      const count = prng.between(1, 12);
      const sgl = sgAlloc(count);
      const phys: number[] = [];
      let sg: ReturnType<typeof sgNext> = sgl;
      for (let i = 0; i < count; i++, sg = sgNext(sg!)) {
        const at = prng.below(500);
        sgSetPage(sg!, (page + at) as Page, PAGE_SIZE, 0);
        phys.push(base + at * PAGE_SIZE);
      }
      const dir = direction();
      const mapped = dmaMapSg(dev, sgl, count, dir);
      assert.ok(mapped > 0, told);
      lists.push({ sgl, count, phys, dir });
      // One range of addresses, whatever the segments: each page shows its memory.
      for (let i = 0; i < count; i++) sees(sgl.dmaAddress + i * PAGE_SIZE, phys[i]!, `${told}: page ${i} of a list`);
    }
    function unmapList(): void {
      const list = lists.pop();
      if (list === undefined) return;
      const first = list.sgl.dmaAddress;
      dmaUnmapSg(dev, list.sgl, list.count, list.dir);
      for (let i = 0; i < list.count && !lazy; i++) assert.equal(s.reads(first + i * PAGE_SIZE, 1), false, told);
    }
    function check(): void {
      if (live.length === 0) return;
      const { addr, size, phys, dir } = live[prng.below(live.length)]!;
      const offset = prng.below(size);
      sees(addr + offset, phys + offset, told);
      const isWritable = dir !== DMA_TO_DEVICE;
      assert.equal(s.writes(addr + offset, 1), isWritable, told);
    }
    /** The device reads the memory that it should, which has a value of its own just now. */
    function sees(addr: number, phys: number, message: string): void {
      const value = prng.below(256);
      s.memory[phys] = value;
      const byte = new Uint8Array(1);
      assert.equal(s.master.read(addr, byte, 0, 1), 0, message);
      assert.equal(byte[0], value, message);
    }
  });
  assert.deepEqual(kernel.splats, [], told);
}
