import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DMA_MAPPING_ERROR, dmaBitMask, PAGE_SIZE, type PhysAddr, physAddr } from '../base/addr.ts';
import { EBUSY, EINVAL, OK } from '../base/errno.ts';
import {
  dmaCookie,
  IOMMU_READ,
  IOMMU_WRITE,
  iommuAttachDevice,
  iommuDetachDevice,
  iommuDmaPrepareMsi,
  iommuDomainAlloc,
  iommuDomainFree,
  iommuGetGroupResvRegions,
  iommuGetMsiCookie,
  iommuGroupGet,
  iommuMap,
  iommuUnmap,
  setIommuObserver,
} from '../iommu/index.ts';
import {
  __freePages,
  allocPages,
  DMA_FROM_DEVICE,
  DMA_TO_DEVICE,
  deviceDel,
  GFP_ATOMIC,
  GFP_KERNEL,
  msleep,
  pageToPhys,
} from '../kernel/index.ts';
import { BusStatus } from '../machine/index.ts';
import { dmaMapPage, dmaMapResource, dmaUnmapPage } from '../mapping/index.ts';
import { FIRST_SID, RAM_BASE, SMMU_BASE, SmmuSystem, smmuSystem } from './smmu-rig.cases.ts';

const LAZY = 'iommu.strict=0';
const RW = IOMMU_READ | IOMMU_WRITE;

test('the driver says what it found, in the kernel’s words', async () => {
  const s = await smmuSystem({ devices: 1 });
  assert.deepEqual(s.log.slice(0, 7), [
    'arm-smmu-v3 9050000.smmuv3: device is dma coherent',
    'arm-smmu-v3 9050000.smmuv3: ias 44-bit, oas 44-bit (features 0x000897c7)',
    'arm-smmu-v3 9050000.smmuv3: allocated 256 entries for cmdq',
    'arm-smmu-v3 9050000.smmuv3: allocated 128 entries for evtq',
    'arm-smmu-v3 9050000.smmuv3: msi_domain absent - falling back to wired irqs',
    'iommu: Default domain type: Translated',
    'iommu: DMA domain TLB invalidation policy: strict mode (set via kernel command line)',
  ]);
  assert.match(s.log[7]!, /a000000.client: Adding to iommu group 0$/);
  assert.deepEqual(s.kernel.splats, []);
});

test('a device reaches what is mapped for it, and the log tells of the rest in the kernel’s words', async () => {
  const s = await smmuSystem();
  const { kernel, dev } = s;
  await kernel.run(async () => {
    const { page } = s.pageWith('seen by one');
    const addr = dmaMapPage(dev, page, 0, PAGE_SIZE, DMA_TO_DEVICE);
    const before = s.log.length;
    assert.equal(s.text(addr, 11), 'seen by one');
    assert.equal(s.text(addr, 11, 1), null, 'another device does not');
    assert.equal(s.master.write32(addr, 1), BusStatus.TRANSLATION_FAULT);
    assert.equal(s.text(addr + PAGE_SIZE, 1), null);
    await msleep(kernel, 1);
    const hex = (n: number) => n.toString(16).padStart(16, '0');
    assert.deepEqual(
      s.log.slice(before).map((line) => line.replace('arm-smmu-v3 9050000.smmuv3: ', '')),
      [
        ...['event 0x10 received:', '\t0x0000010600000010', '\t0x0000020800000000', `\t0x${hex(addr)}`],
        '\t0x0000000000000000',
        ...['event 0x13 received:', '\t0x0000010500000013', '\t0x0000020000000000', `\t0x${hex(addr)}`],
        '\t0x0000000000000000',
        ...['event 0x10 received:', '\t0x0000010500000010', '\t0x0000020800000000', `\t0x${hex(addr + 4096)}`],
        '\t0x0000000000000000',
      ],
    );
    dmaUnmapPage(dev, addr, PAGE_SIZE, DMA_TO_DEVICE);
  });
});

test('stage 1 has no writing without reading: a device may read what it is to write', async () => {
  const s = await smmuSystem();
  await s.kernel.run(() => {
    const { page } = s.pageWith('old');
    const addr = dmaMapPage(s.dev, page, 0, PAGE_SIZE, DMA_FROM_DEVICE);
    assert.equal(s.text(addr, 3), 'old');
    assert.equal(s.master.write32(addr, 1), BusStatus.OK);
  });
});

test('one changed entry in memory changes what the device reaches', async () => {
  for (const unit of [{}, { twoLevelStreams: false, streamIdBits: 9 }]) {
    const s = await smmuSystem({ unit });
    await s.kernel.run(() => {
      const { page } = s.pageWith('mine');
      const secret = s.pageWith('secret');
      const addr = dmaMapPage(s.dev, page, 0, PAGE_SIZE, DMA_TO_DEVICE);
      const entry = s.leafEntry(FIRST_SID, addr);
      assert.equal(s.word(entry), pageToPhys(page) + 0xfc7, 'page, index 1, read only, inner shared, flag, not global');
      s.setWord(entry, secret.phys + 0xfc7);
      assert.equal(s.text(addr, 6), 'secret');
      // What was used is remembered, whatever memory says, until it is invalidated.
      s.setWord(entry, 0);
      assert.equal(s.text(addr, 6), 'secret');
      s.domain().flushIotlbAll();
      assert.equal(s.text(addr, 6), null);
    });
  }
});

test('in strict mode nothing is reached right after unmap; in lazy mode for 10 ms at most', async () => {
  for (const cmdline of ['iommu.strict=1', LAZY]) {
    const s = await smmuSystem({ cmdline });
    const { dev, kernel } = s;
    await kernel.run(async () => {
      const { page } = s.pageWith('x');
      const addr = dmaMapPage(dev, page, 0, PAGE_SIZE, DMA_TO_DEVICE);
      assert.equal(s.text(addr, 1), 'x');
      const startNs = s.machine.now();
      dmaUnmapPage(dev, addr, PAGE_SIZE, DMA_TO_DEVICE);
      if (cmdline !== LAZY) {
        assert.equal(s.text(addr, 1), null);
        return;
      }
      assert.equal(s.text(addr, 1), 'x', 'the window');
      while (s.text(addr, 1) !== null) await msleep(kernel, 1);
      const windowMs = (s.machine.now() - startNs) / 1e6;
      assert.ok(windowMs >= 10 && windowMs < 13, `${windowMs} ms`);
      assert.equal(dmaCookie(s.domain()).flushQueue!.length, 0);
    });
  }
});

test('a lazy window ends earlier when 255 others were unmapped', async () => {
  const s = await smmuSystem({ cmdline: LAZY });
  await s.kernel.run(() => {
    const { page } = s.pageWith('x');
    const map = () => dmaMapPage(s.dev, page, 0, PAGE_SIZE, DMA_TO_DEVICE);
    const first = map();
    assert.equal(s.text(first, 1), 'x');
    dmaUnmapPage(s.dev, first, PAGE_SIZE, DMA_TO_DEVICE);
    let others = 0;
    for (; s.text(first, 1) !== null && others < 1000; others++) dmaUnmapPage(s.dev, map(), PAGE_SIZE, DMA_TO_DEVICE);
    assert.equal(others, 255);
  });
});

test('the log is spared a flood, the observer is told everything, and lost events are said', async () => {
  const s = await smmuSystem();
  const told: string[] = [];
  setIommuObserver(s.kernel, {
    fault: (dev, requester, iova, isWrite, reason) =>
      told.push(`${dev?.name} ${requester} ${iova.toString(16)} ${isWrite ? 'write' : 'read'} ${reason}`),
  });
  await s.kernel.run(async () => {
    for (let i = 1; i <= 20; i++) s.text(0x123_4560_0000 + i, 1);
    await msleep(s.kernel, 1);
    assert.equal(told.length, 20);
    assert.equal(told[0], `${s.dev.name} stream 0x105 12345600001 read F_TRANSLATION`);
    assert.equal(s.log.filter((line) => line.includes('received:')).length, 10, 'ten in five seconds');
    for (let i = 0; i < 200; i++) s.text(i * 4096, 1);
    await msleep(s.kernel, 1);
    assert.equal(told.length, 20 + 128);
    assert.equal(s.log.at(-1), 'arm-smmu-v3 9050000.smmuv3: EVTQ overflow detected -- events lost');
    assert.equal(s.model.lostEvents, 72);
    await msleep(s.kernel, 6000);
    s.text(0, 1);
    await msleep(s.kernel, 1);
    assert.ok(s.log.includes('arm_smmu_evtq_thread: 138 callbacks suppressed'), s.log.slice(-8).join('\n'));
    assert.equal(told.length, 149);
  });
});

test('streams that nobody has configured are blocked, or pass if that was asked for', async () => {
  for (const [cmdline, passes] of [
    ['', false],
    ['arm_smmu_v3.disable_bypass=0', true],
  ] as const) {
    const s = await smmuSystem({ cmdline });
    const { phys } = s.pageWith('open');
    const stranger = (sid: number) => s.machine.busMaster({ name: 'x', requesterId: sid, translator: s.model });
    assert.equal(stranger(0x1f0).read32(phys) === BusStatus.OK, passes, 'of a table that is there');
    assert.equal(stranger(0x9000).read32(phys), BusStatus.TRANSLATION_FAULT, 'of none');
    await s.kernel.run(() => msleep(s.kernel, 1));
    assert.equal(s.log.at(-5), 'arm-smmu-v3 9050000.smmuv3: event 0x02 received:');
    assert.equal(s.log.at(-4), 'arm-smmu-v3 9050000.smmuv3: \t0x0000900000000002');
  }
});

test('a unit that was left on is reset, and blocks meanwhile', async () => {
  const s = new SmmuSystem({
    before: (machine, unit) => {
      machine.write32(physAddr(SMMU_BASE + 0x20), 1);
      machine.delay(1000);
      assert.equal(machine.read32(physAddr(SMMU_BASE + 0x24)), 1);
      assert.equal(unit.config.streamIdBits, 16);
    },
  });
  await s.probe();
  assert.ok(s.log.includes('arm-smmu-v3 9050000.smmuv3: SMMU currently enabled! Resetting...'));
  assert.equal((s.machine.read32(physAddr(SMMU_BASE + 0x44)) >>> 20) & 1, 1);
  assert.equal(s.machine.read32(physAddr(SMMU_BASE + 0x24)), 0xd);
});

test('what the tree says of coherence holds, with a warning', async () => {
  const s = await smmuSystem({ unit: { coherent: false } });
  assert.ok(s.log.some((line) => line.endsWith('IDR0.COHACC overridden by FW configuration (true)')));
});

test('a command that the unit does not know is reported, and the queue goes on', async () => {
  const s = await smmuSystem();
  await s.kernel.run(async () => {
    const { cmdq } = s.domain().smmu;
    const before = s.log.length;
    cmdq.issue(0x55, 0x1234, 0, 0);
    await msleep(s.kernel, 1);
    assert.deepEqual(
      s.log
        .slice(before)
        .map((line) => line.replace('arm-smmu-v3 9050000.smmuv3: ', '').replace(/cons 0x01\w+/, 'cons')),
      [
        'unexpected global error reported (0x00000001), this could be serious',
        'CMDQ error (cons): Illegal command',
        'skipping command in error state:',
        '\t0x0000123400000055',
        '\t0x0000000000000000',
      ],
    );
    assert.equal(cmdq.issueWithSync(0x30, 0, 0, 0), OK);
  });
});

test('a unit that does no commands any more is reported after a second', async () => {
  for (const msi of [true, false]) {
    const s = await smmuSystem({ unit: { msi } });
    await s.kernel.run(() => {
      s.machine.write32(physAddr(SMMU_BASE + 0x20), 5);
      s.machine.delay(1000);
      const startNs = s.machine.now();
      s.domain().flushIotlbAll();
      assert.ok(s.machine.now() - startNs >= 1e9);
      assert.match(s.log.at(-1)!, /CMD_SYNC timeout at 0x0000\w{4} \[hwprod 0x0000\w{4}, hwcons 0x0000\w{4}\]$/);
    });
  }
});

test('the command queue is larger than what is put into it at a time, and wraps', async () => {
  // 128 commands; without range invalidation each page is one.
  const s = await smmuSystem({ unit: { commandQueueBits: 7, rangeInvalidation: false } });
  await s.kernel.run(() => {
    const page = s.page(7);
    for (let i = 0; i < 5; i++) {
      const addr = dmaMapPage(s.dev, page, 0, 128 * PAGE_SIZE, DMA_TO_DEVICE);
      for (let at = 0; at < 128; at++) assert.notEqual(s.text(addr + at * PAGE_SIZE, 1), null);
      dmaUnmapPage(s.dev, addr, 128 * PAGE_SIZE, DMA_TO_DEVICE);
      for (let at = 0; at < 128; at++) assert.equal(s.text(addr + at * PAGE_SIZE, 1), null);
    }
    assert.equal(s.model.executedCommands[0x12], 5 * 128);
  });
});

test('a command queue that cannot take a batch is not supported', async () => {
  const s = await smmuSystem({ unit: { commandQueueBits: 6 } });
  assert.ok(s.log.includes('arm-smmu-v3 9050000.smmuv3: command queue size <= 64 entries not supported'));
  assert.equal(s.smmu.driver, null);
});

test('ranges of any length are invalidated whole, and by few commands', async () => {
  const s = await smmuSystem({ ramBytes: 64 << 20 });
  await s.kernel.run(() => {
    const page = s.page(10);
    let commands = 0;
    for (const pages of [1, 2, 3, 31, 32, 33, 100, 511, 513, 1000]) {
      const addr = dmaMapPage(s.dev, page, 0, pages * PAGE_SIZE, DMA_TO_DEVICE);
      for (const at of [0, pages >> 1, pages - 1]) assert.notEqual(s.text(addr + at * PAGE_SIZE, 1), null);
      const before = s.model.executedCommands[0x12]!;
      dmaUnmapPage(s.dev, addr, pages * PAGE_SIZE, DMA_TO_DEVICE);
      commands = s.model.executedCommands[0x12]! - before;
      for (const at of [0, pages >> 1, pages - 1])
        assert.equal(s.text(addr + at * PAGE_SIZE, 1), null, `${pages} pages`);
    }
    assert.ok(commands <= 4, `${commands} commands for 1000 pages`);
  });
});

test('large blocks are used, split when a part goes, and replace tables that are empty', async () => {
  for (const unit of [{}, { stage1: false }]) {
    const s = await smmuSystem({ unit, ramBytes: 64 << 20 });
    await s.kernel.run(() => {
      const domain = iommuDomainAlloc(s.dev)!;
      assert.equal(iommuAttachDevice(domain, s.dev), OK);
      const table = (domain as ReturnType<typeof s.domain>).table;
      const empty = table.tableCount;
      const page = s.page(10);
      const phys = Math.ceil(pageToPhys(page) / 2 ** 21) * 2 ** 21;
      const iova = 0x8000_0000;
      assert.equal(iommuMap(domain, iova, phys, 2 ** 21, RW, GFP_KERNEL), OK);
      const withBlock = table.tableCount;
      assert.equal(s.master.write32(iova + 0x12_3000, 0x1234), BusStatus.OK);
      assert.equal(s.word(phys + 0x12_3000), 0x1234);
      assert.equal(iommuUnmap(domain, iova + 0x1000, 0x1000), 0x1000);
      assert.equal(table.tableCount, withBlock + 1);
      assert.equal(s.master.write32(iova + 0x1000, 1), BusStatus.TRANSLATION_FAULT);
      assert.equal(s.master.write32(iova + 0x2000, 2), BusStatus.OK);
      assert.equal(domain.iovaToPhys(iova + 0x2004), phys + 0x2004);
      assert.equal(domain.iovaToPhys(iova + 0x1004), -1);
      // Unmapped page by page, the table stays; a block takes its place.
      for (let at = 0; at < 2 ** 21; at += PAGE_SIZE) if (at !== 0x1000) iommuUnmap(domain, iova + at, PAGE_SIZE);
      assert.equal(iommuMap(domain, iova, phys, 2 ** 21, RW, GFP_KERNEL), OK);
      assert.equal(table.tableCount, withBlock);
      assert.equal(s.master.write32(iova + 0x1000, 3), BusStatus.OK);
      assert.equal(iommuUnmap(domain, iova, 2 ** 21), 2 ** 21);
      assert.equal(s.master.write32(iova + 0x1000, 3), BusStatus.TRANSLATION_FAULT);
      assert.ok(empty <= withBlock);
      assert.equal(iommuDetachDevice(domain, s.dev), OK);
      iommuDomainFree(domain);
    });
    assert.deepEqual(s.kernel.splats, []);
  }
});

test('what is mapped twice, or not at all, is warned of', async () => {
  const s = await smmuSystem();
  await s.kernel.run(() => {
    const domain = iommuDomainAlloc(s.dev)!;
    const phys = pageToPhys(s.page());
    assert.equal(iommuMap(domain, 0x10_0000, phys, PAGE_SIZE, RW, GFP_KERNEL), OK);
    assert.ok(iommuMap(domain, 0x10_0000, phys, PAGE_SIZE, RW, GFP_KERNEL) < 0);
    assert.equal(iommuUnmap(domain, 0x20_0000, PAGE_SIZE), 0);
    assert.equal(iommuMap(domain, 0x30_0000, phys, PAGE_SIZE, 0, GFP_KERNEL), EINVAL);
    assert.ok(iommuMap(domain, 2 ** 48, phys, PAGE_SIZE, RW, GFP_KERNEL) < 0);
    assert.equal(s.kernel.splats.length, 2);
    iommuDomainFree(domain);
  });
});

test('while a device moves from passthrough to a domain, each access sees the one or the other', async () => {
  const s = await smmuSystem({ cmdline: 'iommu.passthrough=1' });
  await s.kernel.run(() => {
    const { phys } = s.pageWith('same');
    const domain = iommuDomainAlloc(s.dev)!;
    assert.equal(iommuMap(domain, phys, phys, PAGE_SIZE, RW, GFP_KERNEL), OK);
    const seen: (string | null)[] = [];
    for (let ns = 0; ns < 5000; ns += 7) s.machine.after(ns, () => seen.push(s.text(phys, 4)));
    assert.equal(iommuAttachDevice(domain, s.dev), OK);
    const during = seen.length;
    assert.equal(iommuDetachDevice(domain, s.dev), OK);
    assert.ok(during > 20 && seen.length > during + 20, `${during} accesses, then ${seen.length - during}`);
    assert.deepEqual([...new Set(seen)], ['same']);
    assert.equal(s.text(phys + PAGE_SIZE, 1) !== null, true, 'passes again');
    iommuDomainFree(domain);
  });
});

test('between two domains of stage 1 the descriptor is invalid for a moment, and never half', async () => {
  const s = await smmuSystem();
  await s.kernel.run(() => {
    const one = s.pageWith('one');
    const two = s.pageWith('two');
    const [a, b] = [iommuDomainAlloc(s.dev)!, iommuDomainAlloc(s.dev)!];
    iommuMap(a, 0x10_0000, one.phys, PAGE_SIZE, RW, GFP_KERNEL);
    iommuMap(b, 0x10_0000, two.phys, PAGE_SIZE, RW, GFP_KERNEL);
    assert.equal(iommuAttachDevice(a, s.dev), OK);
    assert.equal(iommuAttachDevice(b, s.dev), EBUSY);
    assert.equal(s.text(0x10_0000, 3), 'one');
    assert.equal(iommuDetachDevice(a, s.dev), OK);
    const seen = new Set<string | null>();
    for (let ns = 0; ns < 5000; ns += 7) s.machine.after(ns, () => seen.add(s.text(0x10_0000, 3)));
    assert.equal(iommuAttachDevice(b, s.dev), OK);
    s.machine.delay(5000);
    assert.deepEqual([...seen], [null, 'two']);
    iommuDetachDevice(b, s.dev);
    for (const domain of [a, b]) iommuDomainFree(domain);
  });
});

test('a map without memory for tables fails, and leaves nothing', async () => {
  const s = await smmuSystem({ ramBytes: 4 << 20 });
  await s.kernel.run(() => {
    const page = s.page();
    const held: number[] = [];
    for (;;) {
      const taken = allocPages(s.kernel, GFP_ATOMIC, 0);
      if (taken === null) break;
      held.push(taken);
    }
    assert.equal(dmaMapPage(s.dev, page, 0, PAGE_SIZE, DMA_TO_DEVICE), DMA_MAPPING_ERROR);
    for (const taken of held) __freePages(s.kernel, taken as typeof page, 0);
    const addr = dmaMapPage(s.dev, page, 0, PAGE_SIZE, DMA_TO_DEVICE);
    assert.notEqual(addr, DMA_MAPPING_ERROR);
    assert.equal(s.domain().iovaToPhys(addr), pageToPhys(page));
  });
});

test('a device that goes takes its domain and its reach with it; the unit’s memory goes last', async () => {
  const s = new SmmuSystem({ devices: 2 });
  const before = s.kernel.pages.freePages;
  await s.probe();
  await s.kernel.run(async () => {
    const page = s.page();
    const addr = dmaMapPage(s.dev, page, 0, PAGE_SIZE, DMA_TO_DEVICE);
    assert.notEqual(s.text(addr, 1), null);
    await deviceDel(s.dev);
    assert.equal(s.text(addr, 1), null);
    await deviceDel(s.devices[1]!);
    await deviceDel(s.smmu);
    assert.equal(s.text(RAM_BASE, 1), null, 'off, it blocks');
    __freePages(s.kernel, page, 0);
  });
  assert.ok(before - s.kernel.pages.freePages < 8, `${before - s.kernel.pages.freePages} pages are gone`);
  assert.deepEqual(s.kernel.splats, []);
});

test('interrupt doorbells are mapped for the device: by the DMA API at an address of its own, else in the window', async () => {
  const s = await smmuSystem();
  const doorbell = physAddr(0x0802_0040);
  await s.kernel.run(() => {
    assert.deepEqual(iommuGetGroupResvRegions(iommuGroupGet(s.dev)!), [
      { start: 0x800_0000, sizeBytes: 0x10_0000, type: 'sw-msi', prot: 26 },
    ]);
    assert.equal(s.kernel.msiAddress, iommuDmaPrepareMsi);
    const lines: number[] = [];
    const vector = s.machine.allocateMsi();
    const address = iommuDmaPrepareMsi(s.dev, vector.address);
    assert.equal(address % PAGE_SIZE, 0x40);
    assert.equal(s.domain().iovaToPhys(address), doorbell);
    assert.equal(iommuDmaPrepareMsi(s.dev, doorbell), address, 'once');
    s.machine.setIrqHandler((line) => lines.push(line));
    s.machine.enableIrqLine(vector.line);
    assert.equal(s.master.write32(address, vector.data), BusStatus.OK);
    assert.equal(s.master.write32(doorbell, vector.data), BusStatus.TRANSLATION_FAULT);
    s.machine.timePoint();
    assert.ok(lines.includes(vector.line));

    const own = iommuDomainAlloc(s.dev)!;
    assert.equal(iommuGetMsiCookie(s.domain(), 0x800_0000), EINVAL);
    assert.equal(iommuGetMsiCookie(own, 0x800_0000), OK);
    assert.equal(iommuGetMsiCookie(own, 0x800_0000), EBUSY);
    assert.equal(iommuAttachDevice(own, s.dev), OK);
    assert.equal(iommuDmaPrepareMsi(s.dev, doorbell), 0x800_0040);
    assert.equal(s.master.write32(0x800_0040, vector.data), BusStatus.OK);
    iommuDetachDevice(own, s.dev);
    iommuDomainFree(own);
  });
});

test('registers are mapped as what they are', async () => {
  const s = await smmuSystem();
  await s.kernel.run(() => {
    const addr = dmaMapResource(s.dev, 0x0a00_0000 as PhysAddr, PAGE_SIZE, DMA_TO_DEVICE, 0);
    // Index 2, outer shareable.
    assert.equal(s.word(s.leafEntry(FIRST_SID, addr)), 0x0a00_0000 + 0xecb);
  });
});

test('addresses above 4 GiB when asked for, up to the width of the tables', async () => {
  const s = await smmuSystem({ cmdline: 'iommu.strict=1 iommu.forcedac=1' });
  await s.kernel.run(() => {
    const { page } = s.pageWith('far');
    s.dev.dmaMask = dmaBitMask(64);
    const addr = dmaMapPage(s.dev, page, 0, PAGE_SIZE, DMA_TO_DEVICE);
    assert.equal(addr, 2 ** 48 - PAGE_SIZE);
    assert.equal(s.text(addr, 3), 'far');
    dmaUnmapPage(s.dev, addr, PAGE_SIZE, DMA_TO_DEVICE);
    assert.equal(s.text(addr, 3), null);
  });
});
