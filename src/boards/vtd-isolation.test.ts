import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type DmaAddr, dmaBitMask, PAGE_SIZE } from '../base/addr.ts';
import { DMA_BIDIRECTIONAL, DMA_FROM_DEVICE, DMA_TO_DEVICE, FrameKind } from '../kernel/index.ts';
import { dmaMapPage, dmaSetMask, dmaUnmapPage } from '../mapping/index.ts';
import { vtdSystem } from './vtd-rig.cases.ts';

const STRICT = 'intel_iommu=on iommu.strict=1';

/** Frames whose content nobody but the driver may change. */
function isDriverFrame(kind: number): boolean {
  return kind === FrameKind.PAGES || kind === FrameKind.SLAB;
}

test('a hostile device that tries 1,000,000 addresses changes and sees nothing outside live mappings', () => {
  const attempts = 1_000_000;
  const hits = { on: 0, off: 0 };
  for (const mode of ['on', 'off'] as const) {
    const s = vtdSystem({ cmdline: mode === 'on' ? STRICT : 'intel_iommu=off', ramBytes: 64 << 20 });
    const { dev, kernel, memory } = s;
    // Addresses that lie in memory, so that the same attempts hit when nothing stands before it.
    dmaSetMask(dev, dmaBitMask(mode === 'on' ? 26 : 32));
    const victims = Array.from({ length: 512 }, () => s.page());
    const owned = new Set(victims.map((page) => s.phys(page)));
    const before = memory.slice();
    let seed = 0x1234_5678;
    const next = (below: number) => {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      return Math.floor((seed / 2 ** 32) * below);
    };
    // By page of the device's space: what may be done there.
    const live = new Map<number, { phys: number; canWrite: boolean }>();
    const recent: number[] = [];
    const written = new Set<number>();
    let wrong = 0;
    for (let i = 0; i < attempts; i++) {
      if (i % 100 === 0) churn();
      const near = next(2) === 0 && recent.length > 0;
      const addr = (near ? recent[next(recent.length)]! + next(131072) - 65536 : next(2 ** 26)) & ~3;
      if (addr < 0) continue;
      const entry = live.get(Math.floor(addr / PAGE_SIZE));
      const isWrite = next(2) === 0;
      const ok = isWrite ? s.master.write32(addr, 0xdead_beef) === 0 : s.master.read32(addr) === 0;
      const may = entry !== undefined && (!isWrite || entry.canWrite);
      if (mode === 'on' && ok !== may) wrong++;
      if (ok && !may) hits[mode]++;
      if (ok && isWrite && entry !== undefined) written.add(entry.phys);
    }
    function churn(): void {
      const page = victims[next(victims.length)]!;
      const dir = [DMA_TO_DEVICE, DMA_FROM_DEVICE, DMA_BIDIRECTIONAL][next(3)]! as typeof DMA_TO_DEVICE;
      if (live.size < 32) {
        const addr = dmaMapPage(dev, page, 0, PAGE_SIZE, dir);
        live.set(addr / PAGE_SIZE, {
          phys: s.phys(page),
          canWrite: dir !== (DMA_TO_DEVICE as number),
        });
        recent.push(addr);
      } else {
        const [first] = live.keys();
        live.delete(first!);
        dmaUnmapPage(dev, (first! * PAGE_SIZE) as DmaAddr, PAGE_SIZE, DMA_BIDIRECTIONAL);
        recent.push(first! * PAGE_SIZE);
      }
      if (recent.length > 64) recent.shift();
    }
    if (mode === 'off') continue;
    assert.equal(wrong, 0, 'each attempt was answered as the live mappings say');
    const { kinds } = s.machine.ram[0]!;
    for (let frame = 0; frame < kinds.length; frame++) {
      const at = frame * PAGE_SIZE;
      if (written.has(at) || (isDriverFrame(kinds[frame]!) && !owned.has(at as never))) continue;
      const same = Buffer.compare(memory.subarray(at, at + PAGE_SIZE), before.subarray(at, at + PAGE_SIZE)) === 0;
      assert.ok(same, `frame at 0x${at.toString(16)} was changed`);
    }
    assert.deepEqual(kernel.splats, []);
  }
  assert.equal(hits.on, 0);
  assert.ok(hits.off > 400_000, `${hits.off} of the same attempts hit with the IOMMU off`);
});
