import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EEXIST, EINVAL, ERANGE } from '../base/errno.ts';
import { Prng } from '../base/prng.ts';
import { GFP_KERNEL, Kernel } from '../kernel/index.ts';
import { SimMachine } from '../machine/index.ts';
import { ArmLpaeTable } from './arm-lpae.ts';
import { IOMMU_CACHE, IOMMU_MMIO, IOMMU_NOEXEC, IOMMU_PRIV, IOMMU_READ, IOMMU_WRITE, IotlbGather } from './domain.ts';

const RAM = 0x4000_0000;
const RW = IOMMU_READ | IOMMU_WRITE;
const MIB2 = 2 ** 21;
const GIB = 2 ** 30;

interface Rig {
  readonly machine: SimMachine;
  readonly kernel: Kernel;
  readonly table: ArmLpaeTable;
  readonly told: string[];
  readonly gather: IotlbGather;
  /** The leaf for an address as the hardware finds it in memory, and the level of it; null: none. */
  walk(iova: number): { entry: bigint; level: number } | null;
}
function rigOf(config: { stage?: 1 | 2; ias?: number; oas?: number; coherentWalk?: boolean } = {}): Rig {
  const { stage = 1, ias = 48, oas = 44, coherentWalk = true } = config;
  const ram = [{ base: RAM, sizeBytes: 32 << 20 }];
  const machine = new SimMachine({ name: 'lpae', coherent: coherentWalk, seed: 1, cacheNoise: 'off', ram });
  const kernel = new Kernel(machine, { zoneDmaLimit: 2 ** 32 });
  const told: string[] = [];
  const hex = (n: number) => n.toString(16);
  const tlb = {
    flushAll: () => told.push('all'),
    flushWalk: (iova: number, size: number, granule: number) =>
      told.push(`walk ${hex(iova)}+${hex(size)} by ${hex(granule)}`),
    addPage: (_gather: IotlbGather, iova: number, granule: number) => told.push(`page ${hex(iova)}+${hex(granule)}`),
  };
  const table = ArmLpaeTable.make(kernel, { stage, ias, oas, coherentWalk, tlb }, GFP_KERNEL)!;
  const bank = machine.ram[0]!;
  const view = new DataView(bank.memory.buffer);
  const walk = (iova: number): { entry: bigint; level: number } | null => {
    let at = BigInt(table.rootPhys);
    for (let level = table.startLevel; level <= 3; level++) {
      const shift = BigInt(39 - 9 * level);
      const index = (BigInt(iova) >> shift) % (level === table.startLevel ? 1n << 48n : 512n);
      const entry = view.getBigUint64(Number(at + 8n * index) - RAM, true);
      if ((entry & 1n) === 0n) return null;
      if (level === 3 || (entry & 2n) === 0n) return { entry, level };
      at = entry & 0xffff_ffff_f000n;
    }
    return null;
  };
  const gather = new IotlbGather();
  gather.init(false);
  return { machine, kernel, table, told, gather, walk };
}
const hex = (found: { entry: bigint; level: number } | null) => found && `${found.level}: ${found.entry.toString(16)}`;

test('entries of stage 1 have the attributes that the mapping asks for', () => {
  const { table, walk } = rigOf();
  const attributes: [number, string][] = [
    [RW, '3: 40001e43'],
    [RW | IOMMU_CACHE, '3: 40001f47'],
    [IOMMU_READ | IOMMU_CACHE, '3: 40001fc7'],
    [IOMMU_WRITE | IOMMU_CACHE, '3: 40001f47'],
    [RW | IOMMU_CACHE | IOMMU_PRIV, '3: 40001f07'],
    [RW | IOMMU_MMIO, '3: 40001e4b'],
    [RW | IOMMU_NOEXEC, '3: 60000040001e43'],
  ];
  for (const [i, [prot, expected]] of attributes.entries()) {
    const iova = 0x12_3450_0000 + i * 4096;
    assert.equal(table.mapPages(iova, 0x4000_1000, 4096, 1, prot, GFP_KERNEL), 4096);
    assert.equal(hex(walk(iova)), expected);
    assert.equal(table.iovaToPhys(iova + 0x123), 0x4000_1123);
  }
  assert.equal(table.mapPages(GIB, 0xfed_4000_0000, GIB, 1, RW | IOMMU_CACHE, GFP_KERNEL), GIB);
  assert.equal(hex(walk(GIB)), '1: fed40000f45', 'a block of 1 GiB');
});

test('entries of stage 2 have other attributes', () => {
  const { table, walk } = rigOf({ stage: 2, ias: 40, oas: 40 });
  assert.equal(table.startLevel, 1, 'two tables next to each other instead of a level above');
  const attributes: [number, string][] = [
    [RW, '3: 400016d7'],
    [RW | IOMMU_CACHE, '3: 400017ff'],
    [IOMMU_READ | IOMMU_CACHE, '3: 4000177f'],
    [IOMMU_WRITE | IOMMU_CACHE, '3: 400017bf'],
    [RW | IOMMU_MMIO, '3: 400016c7'],
  ];
  for (const [i, [prot, expected]] of attributes.entries()) {
    const iova = 2 ** 39 + i * 4096;
    assert.equal(table.mapPages(iova, 0x4000_1000, 4096, 1, prot, GFP_KERNEL), 4096);
    assert.equal(hex(walk(iova)), expected);
  }
});

test('the first level depends on the width of addresses', () => {
  const levels = [25, 30, 31, 39, 40, 44, 48].map((ias) => [ias, rigOf({ ias }).table.startLevel]);
  assert.deepEqual(levels, [
    [25, 2],
    [30, 2],
    [31, 1],
    [39, 1],
    [40, 0],
    [44, 0],
    [48, 0],
  ]);
  const stage2 = [39, 40, 43, 44].map((ias) => [ias, rigOf({ stage: 2, ias }).table.startLevel]);
  assert.deepEqual(stage2, [
    [39, 1],
    [40, 1],
    [43, 1],
    [44, 0],
  ]);
});

test('what cannot be mapped is refused, and changes nothing', () => {
  const { table, kernel, walk } = rigOf({ ias: 39, oas: 32 });
  assert.equal(table.mapPages(2 ** 39 - 4096, RAM, 4096, 2, RW, GFP_KERNEL), ERANGE);
  assert.equal(table.mapPages(0, 2 ** 32 - 4096, 4096, 2, RW, GFP_KERNEL), ERANGE);
  assert.equal(table.mapPages(0, RAM, 4096, 1, IOMMU_CACHE, GFP_KERNEL), EINVAL);
  assert.equal(table.mapPages(0x3000, RAM, 4096, 1, RW, GFP_KERNEL), 4096);
  assert.equal(table.mapPages(0x1000, RAM, 4096, 4, RW, GFP_KERNEL), 8192, 'as far as it goes');
  assert.equal(table.mapPages(0x3000, RAM, 4096, 1, RW, GFP_KERNEL), EEXIST);
  assert.equal(table.mapPages(MIB2, RAM, MIB2, 1, RW, GFP_KERNEL), MIB2);
  assert.equal(table.mapPages(MIB2 + 4096, RAM, 4096, 1, RW, GFP_KERNEL), EEXIST, 'under a block');
  assert.equal(hex(walk(MIB2)), '2: 40000e41');
  // Whoever hits what is mapped is warned: the partial one once as well.
  assert.equal(kernel.splats.length, 3);
  assert.equal(table.iovaToPhys(2 ** 39), -1);
  assert.equal(table.iovaToPhys(0x5000), -1);
});

test('unmapping gathers pages, and tells at once of tables that go', () => {
  const { table, told, gather, kernel } = rigOf();
  const iova = 8 * GIB;
  table.mapPages(iova, RAM, 4096, 3, RW, GFP_KERNEL);
  const tables = table.tableCount;
  assert.equal(table.unmapPages(iova, 4096, 3, gather), 3 * 4096);
  assert.deepEqual(told.splice(0), ['page 200000000+1000', 'page 200001000+1000', 'page 200002000+1000']);
  gather.queued = true;
  table.mapPages(iova, RAM, 4096, 3, RW, GFP_KERNEL);
  assert.equal(table.unmapPages(iova, 4096, 3, gather), 3 * 4096);
  assert.deepEqual(told.splice(0), [], 'a flush queue sees to it later');
  gather.queued = false;
  table.mapPages(iova, RAM, 4096, 3, RW, GFP_KERNEL);
  assert.equal(table.unmapPages(iova, MIB2, 1, gather), MIB2);
  assert.deepEqual(told.splice(0), ['walk 200000000+200000 by 1000']);
  assert.equal(table.tableCount, tables - 1);
  assert.equal(table.unmapPages(iova, 4096, 1, gather), 0);
  assert.equal(kernel.splats.length, 1);
  // As far as one table reaches.
  table.mapPages(iova + MIB2 - 4096, RAM, 4096, 1, RW, GFP_KERNEL);
  table.mapPages(iova + MIB2, RAM, 4096, 1, RW, GFP_KERNEL);
  assert.equal(table.unmapPages(iova + MIB2 - 4096, 4096, 2, gather), 4096);
});

test('a block of 1 GiB is split twice to let one page go', () => {
  const { table, gather, walk, told } = rigOf();
  table.mapPages(GIB, 2 * GIB, GIB, 1, RW | IOMMU_CACHE, GFP_KERNEL);
  const tables = table.tableCount;
  assert.equal(table.unmapPages(GIB + MIB2 + 4096, 4096, 1, gather), 4096);
  assert.equal(table.tableCount, tables + 2);
  assert.equal(hex(walk(GIB)), '2: 80000f45');
  assert.equal(hex(walk(GIB + MIB2)), '3: 80200f47');
  assert.equal(walk(GIB + MIB2 + 4096), null);
  assert.equal(hex(walk(2 * GIB - 4096)), '2: bfe00f45');
  assert.deepEqual(told, ['page 40201000+1000']);
});

test('a walker that does not snoop sees every change, and everything is given back', () => {
  for (let seed = 1; seed <= 4; seed++) {
    const stage = seed % 2 === 0 ? 2 : 1;
    const rig = rigOf({ stage, ias: 40, oas: 40, coherentWalk: seed > 2 });
    const { kernel, table, gather, walk } = rig;
    const prng = new Prng(seed);
    const model = new Map<number, number>();
    const sizes = [4096, 4096, 4096, MIB2];
    const before = kernel.pages.freePages;
    for (let step = 0; step < 3000; step++) {
      const pgsize = sizes[prng.below(sizes.length)]!;
      const iova = 2 ** 39 + pgsize * prng.below((16 * MIB2) / pgsize);
      const count = pgsize === 4096 ? prng.between(1, 40) : 1;
      const frames = (pgsize / 4096) * count;
      const first = iova / 4096;
      const used = Array.from({ length: frames }, (_, i) => model.has(first + i));
      if (used.every((is) => !is)) {
        const phys = 2 ** 32 + pgsize * prng.below(1000);
        let done = 0;
        while (done < frames * 4096) {
          const mapped = table.mapPages(iova + done, phys + done, pgsize, count - done / pgsize, RW, GFP_KERNEL);
          assert.ok(mapped > 0, `seed ${seed}, step ${step}: ${mapped}`);
          done += mapped;
        }
        for (let i = 0; i < frames; i++) model.set(first + i, phys + 4096 * i);
      } else if (used.every((is) => is)) {
        for (let done = 0; done < frames * 4096; ) {
          const gone = table.unmapPages(iova + done, 4096, frames - done / 4096, gather);
          assert.ok(gone > 0, `seed ${seed}, step ${step}`);
          done += gone;
        }
        for (let i = 0; i < frames; i++) model.delete(first + i);
      }
      const probe = 2 ** 39 + 4096 * prng.below((16 * MIB2) / 4096);
      const found = walk(probe);
      const span = found === null ? 4096 : 2 ** (39 - 9 * found.level);
      const output = found === null ? undefined : Number(found.entry & 0xffff_ffff_f000n) + (probe % span);
      assert.equal(output, model.get(probe / 4096), `seed ${seed}, step ${step}`);
      assert.equal(table.iovaToPhys(probe), output ?? -1, `seed ${seed}, step ${step}`);
    }
    assert.ok(model.size > 100, 'something is mapped at the end');
    assert.deepEqual(kernel.splats, []);
    table.free();
    assert.equal(rig.told.at(-1), 'all');
    assert.equal(kernel.pages.freePages, before + (stage === 2 ? 2 : 1), 'the first tables as well');
  }
});
