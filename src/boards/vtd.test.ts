import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { DMA_MAPPING_ERROR, type DmaAddr, dmaBitMask, PAGE_SIZE } from '../base/addr.ts';
import { EINVAL, ENODEV, OK } from '../base/errno.ts';
import { intelIommuInit, intelIommuShutdown } from '../drivers/intel-iommu.ts';
import { dmaCookie, iommuGetGroupResvRegions, iommuGroupGet, setIommuObserver } from '../iommu/index.ts';
import {
  __freePages,
  allocPages,
  DMA_BIDIRECTIONAL,
  DMA_FROM_DEVICE,
  DMA_TO_DEVICE,
  deviceDel,
  GFP_ATOMIC,
  GFP_KERNEL,
  msleep,
  type Page,
  pageToPhys,
} from '../kernel/index.ts';
import { dmaMapPage, dmaMapSg, dmaSetMask, dmaUnmapPage, sgAlloc, sgNext, sgSetPage } from '../mapping/index.ts';
import { VtdSystem as System, vtdSystem } from './vtd-rig.cases.ts';

const LAZY = 'intel_iommu=on iommu.strict=0';
const STRICT = 'intel_iommu=on iommu.strict=1';

test('the driver says what it found, in the kernel’s words', () => {
  const { kernel } = vtdSystem({ unit: { coherent: false } });
  assert.deepEqual(
    kernel.log.lines.map(({ text }) => text),
    [
      'DMAR: IOMMU enabled',
      'DMAR: Host address width 39',
      'DMAR: DRHD base: 0x000000fed90000 flags: 0x1',
      'DMAR: dmar0: reg_base_addr fed90000 ver 1:0 cap d2008c22260206 ecap f00f42',
      'DMAR: No RMRR found',
      'DMAR: No ATSR found',
      'DMAR: No SATC found',
      'DMAR: dmar0: Using Queued invalidation',
      'iommu: Default domain type: Translated',
      'iommu: DMA domain TLB invalidation policy: strict mode (set via kernel command line)',
      'DMAR: Intel(R) Virtualization Technology for Directed I/O',
      'pci 0000:00:16.0: Adding to iommu group 0',
    ],
  );
  assert.deepEqual(kernel.splats, []);
});

// The recorded kernel's device view: what a real device may read and write, and what the log says of the rest.
test('a device sees and does not see what the recorded one did, with the same lines in the log', async () => {
  const file = readFileSync(new URL('../../fixtures/golden/device_view.intel-strict.txt', import.meta.url), 'utf8');
  const recorded = new Map<string, string[]>();
  let name = '';
  for (const line of file.split('\n')) {
    name = /^lab: case (\w+)/.exec(line)?.[1] ?? name;
    if (!recorded.has(name)) recorded.set(name, []);
    if (line.startsWith('DMAR: ')) recorded.get(name)!.push(line);
  }
  const s = vtdSystem();
  const { dev, kernel, memory } = s;
  const [page] = [s.page(1)];
  const at = s.phys(page);
  let mapped: DmaAddr = DMA_MAPPING_ERROR;
  const map = (offset: number, size: number, dir: typeof DMA_TO_DEVICE | typeof DMA_FROM_DEVICE) => {
    mapped = dmaMapPage(dev, page, offset, size, dir);
  };
  const unmap = (size: number, dir: typeof DMA_TO_DEVICE | typeof DMA_FROM_DEVICE) =>
    dmaUnmapPage(dev, mapped, size, dir);
  const reads = (addr: number) => s.reads(addr, 64);
  const writes = (addr: number) => s.writes(addr, 64);
  const cases: Record<string, () => void> = {
    dev_read_ok: () => {
      map(0, 4096, DMA_TO_DEVICE);
      assert.ok(reads(mapped));
      unmap(4096, DMA_TO_DEVICE);
    },
    dev_write_ok: () => {
      map(0, 4096, DMA_FROM_DEVICE);
      assert.ok(writes(mapped));
      assert.equal(memory[at], 120);
      unmap(4096, DMA_FROM_DEVICE);
      assert.equal(memory[at], 120);
    },
    dev_write_to_TO_DEVICE: () => {
      map(0, 4096, DMA_TO_DEVICE);
      assert.equal(writes(mapped), false);
      unmap(4096, DMA_TO_DEVICE);
    },
    dev_read_of_FROM_DEVICE: () => {
      map(0, 4096, DMA_FROM_DEVICE);
      assert.ok(reads(mapped), 'what may be written may be read');
      unmap(4096, DMA_FROM_DEVICE);
    },
    dev_read_after_unmap: () => {
      map(0, 4096, DMA_TO_DEVICE);
      unmap(4096, DMA_TO_DEVICE);
      assert.equal(reads(mapped), false);
    },
    dev_write_after_unmap: () => {
      map(0, 4096, DMA_FROM_DEVICE);
      unmap(4096, DMA_FROM_DEVICE);
      assert.equal(writes(mapped), false);
    },
    dev_write_beyond_length_same_page: () => {
      map(0, 64, DMA_FROM_DEVICE);
      assert.ok(writes(mapped + 2048));
      assert.equal(memory[at + 2048], 120);
      unmap(64, DMA_FROM_DEVICE);
    },
    dev_write_next_page: () => {
      map(0, 4096, DMA_FROM_DEVICE);
      assert.equal(writes(mapped + 4096), false);
      assert.equal(memory[at + 4096], 113);
      unmap(4096, DMA_FROM_DEVICE);
    },
    dev_write_physical_address: () => {
      assert.equal(writes(at), false);
      assert.equal(memory[at], 113);
    },
    dev_read_address_zero: () => assert.equal(reads(0), false),
  };
  assert.deepEqual([...recorded.keys()].sort(), Object.keys(cases).sort());
  await kernel.run(async () => {
    for (const [title, body] of Object.entries(cases)) {
      memory.fill(113, at, at + 8192);
      const before = s.log().length;
      body();
      s.machine.timePoint();
      // What the page allocator gave there is not what it gives here.
      const expected = recorded.get(title)!.map((line) => line.replace('0x6cb0000', `0x${at.toString(16)}`));
      assert.deepEqual(s.log().slice(before), expected, title);
      await msleep(kernel, 1000);
    }
  });
});

test('one changed entry in memory changes what the device reaches', () => {
  const s = vtdSystem();
  const [page, other] = [s.page(), s.page()];
  const addr = dmaMapPage(s.dev, page, 0, PAGE_SIZE, DMA_BIDIRECTIONAL);
  s.memory.fill(0x11, s.phys(page), s.phys(page) + PAGE_SIZE);
  s.memory.fill(0x22, s.phys(other), s.phys(other) + PAGE_SIZE);
  // By hand: the root's entry for the bus, the context entry, three levels of tables.
  const word = (phys: number) => s.memory32[phys / 4]! >>> 0;
  const root = s.machine.read32((0xfed9_0000 + 0x20) as never) & ~0xfff;
  const context = (word(root) & ~0xfff) + 0xb0 * 16;
  assert.equal(word(context) & 0xf, 1, 'present, translated');
  assert.equal(word(context + 8) & 7, 1, 'three levels');
  let table = word(context) & ~0xfff;
  for (const shift of [30, 21]) {
    const entry = word(table + 8 * (Math.floor(addr / 2 ** shift) % 512));
    assert.equal(entry & 3, 3);
    table = entry & ~0xfff;
  }
  const leaf = table + 8 * (Math.floor(addr / 4096) % 512);
  assert.equal(word(leaf), s.phys(page) + 3);
  s.memory32[leaf / 4] = s.phys(other) + 3;
  assert.equal(s.master.read32(addr), 0);
  assert.equal(s.master.value32, 0x2222_2222);
  assert.equal(s.domain.iovaToPhys(addr), s.phys(other), 'and the driver reads the same tables');
});

test('in strict mode nothing is reached right after unmap; in lazy mode for 10 ms at most', async () => {
  for (const cmdline of [STRICT, LAZY]) {
    const s = vtdSystem({ cmdline });
    const { dev, kernel } = s;
    const page = s.page();
    await kernel.run(async () => {
      const addr = dmaMapPage(dev, page, 0, PAGE_SIZE, DMA_FROM_DEVICE);
      assert.ok(s.writes(addr));
      const startNs = s.machine.now();
      dmaUnmapPage(dev, addr, PAGE_SIZE, DMA_FROM_DEVICE);
      if (cmdline === STRICT) {
        assert.equal(s.writes(addr), false);
        return;
      }
      assert.ok(s.writes(addr), 'the window');
      while (s.writes(addr)) await msleep(kernel, 1);
      const windowMs = (s.machine.now() - startNs) / 1e6;
      assert.ok(windowMs >= 10 && windowMs < 13, `${windowMs} ms`);
      assert.equal(dmaCookie(s.domain).flushQueue!.length, 0);
    });
  }
});

test('a lazy window ends earlier when 255 others were unmapped', () => {
  const s = vtdSystem({ cmdline: LAZY });
  const page = s.page();
  const first = dmaMapPage(s.dev, page, 0, PAGE_SIZE, DMA_TO_DEVICE);
  assert.ok(s.reads(first));
  dmaUnmapPage(s.dev, first, PAGE_SIZE, DMA_TO_DEVICE);
  let others = 0;
  for (; s.reads(first) && others < 1000; others++) {
    dmaUnmapPage(s.dev, dmaMapPage(s.dev, page, 0, PAGE_SIZE, DMA_TO_DEVICE), PAGE_SIZE, DMA_TO_DEVICE);
  }
  assert.equal(others, 255);
});

test('what the log leaves out the observer is still told', async () => {
  const s = vtdSystem({ unit: { faultRecords: 8 } });
  const told: string[] = [];
  setIommuObserver(s.kernel, {
    fault: (dev, requester, iova, isWrite, reason) =>
      told.push(`${dev?.name} ${requester} ${iova.toString(16)} ${isWrite ? 'write' : 'read'} ${reason}`),
  });
  await s.kernel.run(async () => {
    for (let i = 1; i <= 20; i++) {
      s.reads(i * 0x1000);
      s.machine.timePoint();
    }
    assert.equal(told.length, 20);
    assert.equal(told[0], '0000:00:16.0 00:16.0 1000 read PTE Read access is not set');
    assert.equal(s.log().length, 10, 'ten lines in five seconds');
    await msleep(s.kernel, 6000);
    s.reads(0x5000);
    s.machine.timePoint();
    const lines = s.kernel.log.lines.map(({ text }) => text);
    assert.ok(lines.includes('dmar_fault: 30 callbacks suppressed'), lines.slice(-5).join('\n'));
    assert.equal(s.log().at(-2), 'DMAR: DRHD: handling fault status reg 402');
  });
});

test('faults that overflow the records are counted as one overflow, and the next ones are told again', () => {
  const s = vtdSystem({ unit: { faultRecords: 4 } });
  let told = 0;
  setIommuObserver(s.kernel, { fault: () => void told++ });
  for (let i = 1; i <= 100; i++) s.reads(i * 0x1000);
  s.machine.timePoint();
  assert.equal(told, 4);
  assert.equal(s.log()[0], 'DMAR: DRHD: handling fault status reg 3');
  s.machine.delay(1000); // until the handler's last write has arrived
  s.reads(0x1000);
  s.machine.timePoint();
  assert.equal(told, 5);
});

test('a fault of a source that no device has is told with its number', () => {
  const s = vtdSystem();
  const stranger = s.machine.busMaster({ name: 'stranger', translator: s.model, requesterId: 0x0308 });
  assert.equal(s.reads(0x1000, 4, stranger), false);
  s.machine.timePoint();
  assert.equal(
    s.log().at(-1),
    'DMAR: [DMA Read NO_PASID] Request device [03:01.0] fault addr 0x1000 [fault reason 0x01] Present bit in root entry is clear',
  );
});

test('a map without memory for tables fails, and what was made goes again', () => {
  const s = vtdSystem({ ramBytes: 4 << 20 });
  const { dev, kernel } = s;
  const page = s.page();
  const warm = dmaMapPage(dev, page, 0, PAGE_SIZE, DMA_TO_DEVICE);
  const table = s.domain.table;
  const tables = table.tableCount;
  const hoard: Page[] = [];
  for (let p = allocPages(kernel, GFP_ATOMIC, 0); p !== null; p = allocPages(kernel, GFP_ATOMIC, 0)) hoard.push(p);
  const free = kernel.pages.freePages;
  // Within the table that there is, mapping goes on; the first that needs another one fails.
  const live: DmaAddr[] = [];
  for (;;) {
    const addr = dmaMapPage(dev, page, 0, PAGE_SIZE, DMA_TO_DEVICE);
    if (addr === DMA_MAPPING_ERROR) break;
    live.push(addr);
  }
  assert.ok(live.length >= 255 && live.length < 512, `${live.length}`);
  const ranges = dmaCookie(s.domain).iovad.rangeCount;
  assert.equal(dmaMapPage(dev, page, 0, PAGE_SIZE, DMA_TO_DEVICE), DMA_MAPPING_ERROR);
  const sgl = sgAlloc(3);
  let sg: ReturnType<typeof sgNext> = sgl;
  for (let i = 0; i < 3; i++, sg = sgNext(sg!)) sgSetPage(sg!, hoard[2 * i]!, PAGE_SIZE, 0);
  assert.ok(dmaMapSg(dev, sgl, 3, DMA_TO_DEVICE) <= 0);
  assert.equal(dmaCookie(s.domain).iovad.rangeCount - ranges <= 1, true, 'addresses were given back');
  assert.equal(table.tableCount, tables);
  assert.equal(kernel.pages.freePages, free);
  for (const addr of [...live, warm]) {
    assert.equal(s.reads(addr), true);
    dmaUnmapPage(dev, addr, PAGE_SIZE, DMA_TO_DEVICE);
    assert.equal(s.reads(addr), false);
  }
  for (const p of hoard) __freePages(kernel, p, 0);
  assert.deepEqual(kernel.splats, []);
});

test('a device without memory for its domain is left out, and reaches nothing', () => {
  const s = vtdSystem({ ramBytes: 4 << 20 });
  const hoard: Page[] = [];
  for (let p = allocPages(s.kernel, GFP_ATOMIC, 0); p !== null; p = allocPages(s.kernel, GFP_ATOMIC, 0)) hoard.push(p);
  const late = s.add(0x1a);
  assert.equal(late.dmaIommu, null);
  assert.equal(iommuGroupGet(late), null);
  assert.equal(s.reads(0x10_0000, 4, s.masters[1]), false);
  for (const p of hoard) __freePages(s.kernel, p, 0);
});

test('a device that goes takes its domain, its tables and its reach with it', async () => {
  const s = vtdSystem({ devices: 0 });
  await s.kernel.run(async () => {
    const free = s.kernel.pages.freePages;
    const page = allocPages(s.kernel, GFP_KERNEL, 0)!;
    for (let round = 0; round < 3; round++) {
      const dev = s.add(0x16);
      const addr = dmaMapPage(dev, page, 0, PAGE_SIZE, DMA_TO_DEVICE);
      assert.ok(s.reads(addr));
      await deviceDel(dev);
      assert.equal(s.reads(addr), false);
      s.machine.delay(1000);
      assert.match(s.log().at(-1)!, /reason 0x02\] Present bit in context entry is clear$/);
      s.devices.length = 0;
      s.masters.length = 0;
    }
    __freePages(s.kernel, page, 0);
    // The context table of the bus stays.
    assert.equal(s.kernel.pages.freePages, free - 1);
  });
  assert.deepEqual(s.kernel.splats, []);
});

test('functions of one device share a group and a domain; devices do not', () => {
  const s = vtdSystem({ devices: 0 });
  const [a, b, c] = [s.add(0x1f, 0, true), s.add(0x1f, 2, true), s.add(0x1e)];
  assert.equal(iommuGroupGet(a!), iommuGroupGet(b!));
  assert.notEqual(iommuGroupGet(a!), iommuGroupGet(c!));
  const addr = dmaMapPage(a!, s.page(), 0, PAGE_SIZE, DMA_TO_DEVICE);
  assert.deepEqual(
    s.masters.map((master) => s.reads(addr, 4, master)),
    [true, true, false],
  );
});

test('reserved regions: interrupts for all, firmware’s memory and the ISA bridge’s for those that use it', () => {
  const rmrr = { base: 0x20_0000, end: 0x20_1fff, devices: [0xb0, 0xb8] };
  const s = vtdSystem({ devices: 0, table: { reservedMemory: [rmrr] } });
  const plain = s.add(0x16);
  const usb = s.add(0x17, 0, false, 0x0c03);
  const isa = s.add(0x18, 0, false, 0x0601);
  const regions = (dev: typeof plain) =>
    iommuGetGroupResvRegions(iommuGroupGet(dev)!).map(
      ({ start, sizeBytes, type }) => `${start.toString(16)}-${(start + sizeBytes - 1).toString(16)} ${type}`,
    );
  const msi = 'fee00000-feefffff msi';
  assert.deepEqual(regions(plain), ['200000-201fff direct', msi]);
  assert.deepEqual(regions(usb), ['200000-201fff direct-relaxable', msi]);
  assert.deepEqual(regions(isa), ['0-ffffff direct-relaxable', msi]);
  assert.ok(s.log(/RMRR/).includes('DMAR: RMRR base: 0x00000000200000 end: 0x00000000201fff'));
  assert.ok(s.writes(0x20_1000), 'firmware’s memory stays reachable as it is');
  assert.equal(s.writes(0x20_2000), false);
  assert.equal(s.reads(0x20_0000, 4, s.masters[2]!), true);
  assert.equal(s.reads(0x100_0000, 4, s.masters[2]!), false);
});

test('passed through, a device reaches everything, and the DMA API is direct', () => {
  const s = vtdSystem({ cmdline: 'intel_iommu=on iommu=pt' });
  const page = s.page();
  assert.equal(dmaMapPage(s.dev, page, 0, 64, DMA_TO_DEVICE), pageToPhys(page));
  assert.ok(s.writes(0x200_0000));
  assert.ok(s.log(/Passthrough/).length === 1);
});

test('a unit without pass-through maps all memory one to one instead', () => {
  const s = vtdSystem({ cmdline: 'intel_iommu=on iommu.passthrough=1', unit: { passThrough: false }, devices: 2 });
  const page = s.page();
  assert.equal(dmaMapPage(s.dev, page, 0, 64, DMA_TO_DEVICE), pageToPhys(page));
  assert.ok(s.writes(0x3ff_f000, 4096));
  assert.ok(s.reads(0x200_0000, 4, s.masters[1]));
  assert.equal(s.writes(0x400_0000), false, 'but nothing besides');
});

test('switched off, the driver leaves the hardware alone, but opens protected memory', () => {
  for (const cmdline of ['intel_iommu=off', 'iommu=off']) {
    const s = vtdSystem({
      cmdline,
      unit: { protectedMemory: true },
      before: (machine) => {
        machine.write32((0xfed9_0000 + 0x6c) as never, 0x3ff_ffff);
        machine.write32((0xfed9_0000 + 0x64) as never, 0x8000_0000);
        machine.read32(0xfed9_0000 as never);
      },
    });
    assert.ok(s.reads(0x20_0000));
    assert.equal(s.dev.dmaIommu, null);
    assert.equal(s.machine.read32((0xfed9_0000 + 0x1c) as never), 0);
  }
});

test('translation that firmware left on is switched off first, and faults it left are cleared', () => {
  const s = vtdSystem({
    before: (machine, model) => {
      machine.write32((0xfed9_0000 + 0x20) as never, 0x10_0000);
      machine.write32((0xfed9_0000 + 0x18) as never, 0x4000_0000);
      machine.write32((0xfed9_0000 + 0x18) as never, 0x8000_0000);
      machine.read32(0xfed9_0000 as never);
      machine.busMaster({ name: 'early', translator: model, requesterId: 0x10 }).read32(0x5000);
    },
  });
  assert.ok(s.log(/kdump/).includes('DMAR: Translation was enabled for dmar0 but we are not in kdump mode'));
  assert.equal(s.log().length, 2);
  const addr = dmaMapPage(s.dev, s.page(), 0, PAGE_SIZE, DMA_TO_DEVICE);
  assert.ok(s.reads(addr));
});

test('a unit that does not answer is firmware’s mistake, and the others go on', () => {
  const system = new System({});
  const units = [{ registerBase: 0xfed9_1000 }, { registerBase: 0xfed9_0000, includeAll: true }];
  assert.equal(intelIommuInit(system.kernel, { hostAddressWidth: 39, units }), OK);
  const lines = system.kernel.log.lines.map(({ text }) => text);
  assert.ok(lines.includes('[Firmware Bug]: Your BIOS is broken; DMAR reported at address fed91000 returns all ones!'));
  const alone = new System({});
  const none = { hostAddressWidth: 39, units: [{ registerBase: 0xfed9_1000 }] };
  assert.equal(intelIommuInit(alone.kernel, none), ENODEV);
});

test('each device is behind the unit that names it', () => {
  const system = new System({});
  const units = [
    { registerBase: 0xfed9_0000, devices: [0xb8] },
    { registerBase: 0xfed9_1000, includeAll: true },
  ];
  assert.equal(intelIommuInit(system.kernel, { hostAddressWidth: 39, units }), OK);
  system.add(0x16);
  system.add(0x17);
  assert.equal(system.devices[0]!.dmaIommu, null, 'the unit of all others does not answer');
  assert.notEqual(system.devices[1]!.dmaIommu, null);
});

test('caching mode makes every domain strict, and a mapping is seen although its absence was remembered', () => {
  const s = vtdSystem({ cmdline: LAZY, unit: { cachingMode: true } });
  assert.ok(s.log(/batching/).includes('DMAR: IOMMU batching disallowed due to virtualization'));
  assert.equal(s.domain.type, 'dma');
  const page = s.page();
  for (let i = 0; i < 20; i++) {
    const addr = dmaMapPage(s.dev, page, 0, PAGE_SIZE, DMA_TO_DEVICE);
    assert.ok(s.reads(addr));
    dmaUnmapPage(s.dev, addr, PAGE_SIZE, DMA_TO_DEVICE);
    assert.equal(s.reads(addr), false);
    assert.equal(s.reads(addr - PAGE_SIZE), false);
  }
});

test('a refused descriptor is reported, and the queue goes on', () => {
  const s = vtdSystem();
  const qi = s.unit.qi!;
  assert.equal(qi.submit(0xf, 0x1234, 5, 6), EINVAL);
  const lines = s.log(/^DMAR: (?:VT-d|QI)/);
  assert.equal(lines[0], 'DMAR: VT-d detected Invalidation Queue Error: Reason 3');
  assert.match(lines[1]!, /^DMAR: QI HEAD: UNKNOWN qw0 = 0x12340000000f, qw1 = 0x600000005$/);
  assert.match(lines[2]!, /^DMAR: QI PRIOR: Invalidation Wait /);
  assert.equal(lines[3], 'DMAR: VT-d detected invalid descriptor: qw0 = 12340000000f, qw1 = 600000005');
  const page = s.page();
  for (let i = 0; i < 600; i++) {
    const addr = dmaMapPage(s.dev, page, 0, PAGE_SIZE, DMA_TO_DEVICE);
    assert.ok(s.reads(addr));
    dmaUnmapPage(s.dev, addr, PAGE_SIZE, DMA_TO_DEVICE);
    assert.equal(s.reads(addr), false);
  }
});

test('after shutdown devices reach memory as it is', () => {
  const s = vtdSystem();
  assert.equal(s.writes(0x200_0000), false);
  intelIommuShutdown(s.kernel);
  assert.ok(s.writes(0x200_0000));
});

test('an address space of its own reaches above 4 GiB with iommu.forcedac', () => {
  const s = vtdSystem({ cmdline: `${STRICT} iommu.forcedac=1`, unit: { awBits: 48 } });
  dmaSetMask(s.dev, dmaBitMask(64));
  const page = s.page();
  const addr = dmaMapPage(s.dev, page, 0, PAGE_SIZE, DMA_FROM_DEVICE);
  assert.equal(addr, 2 ** 48 - PAGE_SIZE);
  assert.ok(s.writes(addr));
  assert.equal(s.domain.table.levels, 4);
});
