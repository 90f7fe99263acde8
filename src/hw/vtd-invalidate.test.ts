import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Prng } from '../base/prng.ts';
import { DomainCache } from './vtd-cache.ts';
import { DOMAIN_ID, enabledRig, PS, R, SOURCE, VtdRig, W } from './vtd-rig.cases.ts';

const IOVA = 0x4000_0000;
const OLD = 0x100_0000;
const NEW = 0x200_0000;

type Granularity = 'global' | 'domain' | 'page';
/** Both ways of saying it: by register, and by queue. */
const WAYS: Record<string, { iotlb: Invalidate; contexts: InvalidateContexts }> = {
  register: { iotlb: byRegister, contexts: contextsByRegister },
  queue: { iotlb: byQueue, contexts: contextsByQueue },
};
type Invalidate = (
  rig: VtdRig,
  g: Granularity,
  domain?: number,
  addr?: number,
  mask?: number,
  leafOnly?: boolean,
) => void;
type InvalidateContexts = (
  rig: VtdRig,
  g: 'global' | 'domain' | 'device',
  domain?: number,
  source?: number,
  fm?: number,
) => void;
const CODE = { global: 1, domain: 2, page: 3, device: 3 };

function byRegister(rig: VtdRig, g: Granularity, domain = DOMAIN_ID, addr = IOVA, mask = 0, leafOnly = false): void {
  rig.write(0xf0, (addr % 2 ** 32) + mask + (leafOnly ? 0x40 : 0));
  rig.write(0xf4, Math.floor(addr / 2 ** 32));
  rig.write(0xf8, 0);
  rig.write(0xfc, 0x8000_0000 + CODE[g] * 2 ** 28 + domain);
  const after = rig.read(0xfc);
  assert.ok(after < 0x8000_0000, 'the command is done');
  assert.equal((after >>> 25) & 3, CODE[g], 'at the granularity that was asked for');
}
function byQueue(rig: VtdRig, g: Granularity, domain = DOMAIN_ID, addr = IOVA, mask = 0, leafOnly = false): void {
  if ((rig.read(0x1c) & 0x0400_0000) === 0) rig.enableQueue();
  const low = (addr % 2 ** 32) + mask + (leafOnly ? 0x40 : 0);
  rig.submit([2 + CODE[g] * 16 + domain * 65536, 0, low, Math.floor(addr / 2 ** 32)]);
  assert.equal(rig.read(0x34) & 0x70, 0, 'the queue takes it');
}
function contextsByRegister(
  rig: VtdRig,
  g: 'global' | 'domain' | 'device',
  domain = DOMAIN_ID,
  source = SOURCE,
  fm = 0,
): void {
  rig.write(0x28, domain + source * 65536);
  rig.write(0x2c, 0x8000_0000 + CODE[g] * 2 ** 29 + fm);
  const after = rig.read(0x2c);
  assert.ok(after < 0x8000_0000, 'the command is done');
  assert.equal((after >>> 27) & 3, CODE[g]);
}
function contextsByQueue(
  rig: VtdRig,
  g: 'global' | 'domain' | 'device',
  domain = DOMAIN_ID,
  source = SOURCE,
  fm = 0,
): void {
  if ((rig.read(0x1c) & 0x0400_0000) === 0) rig.enableQueue();
  rig.submit([1 + CODE[g] * 16 + domain * 65536, source + fm * 65536, 0, 0]);
  assert.equal(rig.read(0x34) & 0x70, 0, 'the queue takes it');
}

for (const [way, { iotlb, contexts }] of Object.entries(WAYS)) {
  test(`by ${way}: a page is stale until it is invalidated by page, domain or all`, () => {
    for (const g of ['page', 'domain', 'global'] as const) {
      const { rig, top } = enabledRig();
      const leaf = rig.map(top, IOVA, OLD);
      rig.poke(OLD, 1);
      rig.poke(NEW, 2);
      assert.equal(rig.seen(IOVA), 1);
      rig.poke(leaf, NEW | R | W);
      assert.equal(rig.seen(IOVA), 1, 'the old translation is used');
      iotlb(rig, g);
      assert.equal(rig.seen(IOVA), 2, g);
    }
  });

  test(`by ${way}: an unmapped page can be reached until it is invalidated`, () => {
    const { rig, top } = enabledRig();
    const leaf = rig.map(top, IOVA, OLD);
    assert.equal(rig.writes(IOVA), 'ok');
    rig.poke(leaf, 0);
    assert.equal(rig.writes(IOVA), 'ok');
    iotlb(rig, 'page');
    assert.equal(rig.writes(IOVA), 'fault');
    assert.equal(rig.fault(), '5 b0 write 40000000');
  });

  test(`by ${way}: other domains and other pages stay`, () => {
    const { rig, top } = enabledRig();
    const otherTop = rig.table();
    rig.context(otherTop, { source: SOURCE + 8, domain: DOMAIN_ID + 1 });
    const leaves = [rig.map(top, IOVA, OLD), rig.map(top, IOVA + 4096, OLD), rig.map(otherTop, IOVA, OLD)];
    const stale = () => [rig.reads(IOVA), rig.reads(IOVA + 4096), rig.reads(IOVA, 4, rig.other)];
    assert.deepEqual(stale(), ['ok', 'ok', 'ok']);
    for (const leaf of leaves) rig.poke(leaf, 0);
    assert.deepEqual(stale(), ['ok', 'ok', 'ok']);
    iotlb(rig, 'page', DOMAIN_ID + 2);
    iotlb(rig, 'page', DOMAIN_ID, IOVA + 8192);
    assert.deepEqual(stale(), ['ok', 'ok', 'ok']);
    iotlb(rig, 'page', DOMAIN_ID, IOVA);
    assert.deepEqual(stale(), ['fault', 'ok', 'ok']);
    iotlb(rig, 'domain', DOMAIN_ID);
    assert.deepEqual(stale(), ['fault', 'fault', 'ok']);
    iotlb(rig, 'global', 0);
    assert.deepEqual(stale(), ['fault', 'fault', 'fault']);
  });

  test(`by ${way}: a mask covers a power of two of pages, whatever its low bits`, () => {
    const { rig, top } = enabledRig();
    const leaves = Array.from({ length: 16 }, (_, i) => rig.map(top, IOVA + i * 4096, OLD));
    const stale = () => leaves.map((_, i) => (rig.reads(IOVA + i * 4096) === 'ok' ? '1' : '0')).join('');
    assert.equal(stale(), '1111111111111111');
    for (const leaf of leaves) rig.poke(leaf, 0);
    iotlb(rig, 'page', DOMAIN_ID, IOVA + 6 * 4096, 2);
    assert.equal(stale(), '1111000011111111');
    iotlb(rig, 'page', DOMAIN_ID, IOVA, 9);
    assert.equal(stale(), '0000000000000000');
  });

  test(`by ${way}: a page inside a large page takes the large one with it`, () => {
    const { rig, top } = enabledRig();
    rig.poke(top + 8, 0 | R | W | PS);
    assert.equal(rig.reads(IOVA + OLD), 'ok');
    rig.poke(top + 8, 0);
    assert.equal(rig.reads(IOVA + NEW), 'ok', 'one translation serves all of it');
    iotlb(rig, 'page', DOMAIN_ID, IOVA + 0x123_4000);
    assert.equal(rig.reads(IOVA + OLD), 'fault');
  });

  test(`by ${way}: the hint that only leaves changed keeps the tables above`, () => {
    const { rig, top } = enabledRig();
    rig.map(top, IOVA, OLD);
    assert.equal(rig.reads(IOVA), 'ok');
    // Another table of the last level in place of the old one, with the page elsewhere.
    const middle = rig.memory32[(top + 8) / 4]! & ~0xfff;
    const fresh = rig.table();
    rig.poke(fresh, NEW | R | W);
    rig.poke(NEW, 2);
    rig.poke(middle, fresh | R | W);
    iotlb(rig, 'page', DOMAIN_ID, IOVA, 0, true);
    assert.equal(rig.seen(IOVA), 0, 'walked again, through the old table');
    iotlb(rig, 'page', DOMAIN_ID, IOVA, 0, false);
    assert.equal(rig.seen(IOVA), 2);
  });

  test(`by ${way}: a context entry is stale until it is invalidated by device, domain or all`, () => {
    for (const g of ['device', 'domain', 'global'] as const) {
      const { rig, top } = enabledRig();
      rig.map(top, IOVA, OLD);
      const otherTop = rig.table();
      rig.map(otherTop, IOVA, NEW);
      rig.poke(NEW, 2);
      assert.equal(rig.seen(IOVA), 0);
      rig.context(otherTop, { domain: DOMAIN_ID + 1 });
      iotlb(rig, 'global');
      assert.equal(rig.seen(IOVA), 0, 'still the old table');
      contexts(rig, g === 'device' ? 'device' : g, DOMAIN_ID + 7, SOURCE + 1);
      if (g !== 'global') assert.equal(rig.seen(IOVA), 0, 'neither its domain nor its source was named');
      contexts(rig, g);
      assert.equal(rig.seen(IOVA), 2, g);
    }
  });

  test(`by ${way}: a function mask takes the functions of a device together`, () => {
    for (const [fm, gone] of [
      [0, '1000'],
      [1, '1010'],
      [2, '1111'],
      [3, '1111'],
    ] as const) {
      const rig = new VtdRig();
      const top = rig.table();
      rig.map(top, IOVA, OLD);
      const masters = [0, 2, 4, 6].map((fn) => {
        rig.context(top, { source: SOURCE + fn });
        return rig.machine.busMaster({ name: `fn${fn}`, translator: rig.unit, requesterId: SOURCE + fn });
      });
      rig.enable();
      const reach = () => masters.map((m) => rig.reads(IOVA, 4, m));
      assert.deepEqual(reach(), ['ok', 'ok', 'ok', 'ok']);
      for (const fn of [0, 2, 4, 6]) rig.context(top, { source: SOURCE + fn, present: 0 });
      assert.deepEqual(reach(), ['ok', 'ok', 'ok', 'ok']);
      contexts(rig, 'device', DOMAIN_ID, SOURCE, fm);
      const expected = [...gone].map((c) => (c === '1' ? 'fault' : 'ok'));
      assert.deepEqual(reach(), expected, `mask ${fm}`);
    }
  });
}

test('a unit without page-selective invalidation does a domain, and says so', () => {
  const { rig, top } = enabledRig({ pageSelective: false });
  const leaf = rig.map(top, IOVA, OLD);
  rig.reads(IOVA);
  rig.poke(leaf, 0);
  rig.write(0xf0, 0x7000_0000);
  rig.write(0xfc, 0x8000_0000 + 3 * 2 ** 28 + DOMAIN_ID);
  assert.equal((rig.read(0xfc) >>> 25) & 3, 2);
  assert.equal(rig.reads(IOVA), 'fault');
});

test('a mask beyond the largest is not done by register, and the register says so', () => {
  const { rig } = enabledRig({ maxAddressMask: 9 });
  rig.write(0xf0, IOVA + 10);
  rig.write(0xfc, 0x8000_0000 + 3 * 2 ** 28 + DOMAIN_ID);
  assert.equal(rig.read(0xfc), 0x3000_0000 + DOMAIN_ID);
});

test('what is not present is not remembered, unless the unit is in caching mode', () => {
  const { rig, top } = enabledRig();
  assert.equal(rig.reads(IOVA), 'fault');
  rig.map(top, IOVA, OLD);
  assert.equal(rig.reads(IOVA), 'ok');

  const caching = enabledRig({ cachingMode: true });
  assert.equal(caching.rig.reads(IOVA), 'fault');
  caching.rig.map(caching.top, IOVA, OLD);
  assert.equal(caching.rig.reads(IOVA), 'fault', 'it remembers that there was nothing');
  byRegister(caching.rig, 'page');
  assert.equal(caching.rig.reads(IOVA), 'ok');
});

test('in caching mode a missing context entry is remembered under domain 0', () => {
  const rig = new VtdRig({ cachingMode: true });
  const top = rig.table();
  rig.map(top, IOVA, OLD);
  rig.enable();
  assert.equal(rig.reads(IOVA), 'fault');
  rig.context(top);
  assert.equal(rig.reads(IOVA), 'fault');
  contextsByRegister(rig, 'device', DOMAIN_ID);
  assert.equal(rig.reads(IOVA), 'fault');
  assert.deepEqual(rig.faults().slice(1), ['2 b0 read 40000000', '2 b0 read 40000000']);
  contextsByRegister(rig, 'device', 0);
  assert.equal(rig.reads(IOVA), 'ok');
});

test('a set keeps four pages; the oldest is walked again', () => {
  const { rig, top } = enabledRig({ iotlbEntries: 16 });
  // Five pages of one set, in one table.
  const pages = [0, 4, 8, 12, 16].map((n) => IOVA + n * 4096);
  const leaves = pages.map((page) => rig.map(top, page, OLD));
  for (const page of pages) rig.reads(page);
  for (const leaf of leaves) rig.poke(leaf, 0);
  assert.deepEqual(
    [1, 2, 3, 4].map((i) => rig.reads(pages[i]!)),
    ['ok', 'ok', 'ok', 'ok'],
  );
  assert.equal(rig.reads(pages[0]!), 'fault', 'the first made room for the fifth');
});

test('the cache forgets exactly what a plain list of entries would', () => {
  for (let seed = 1; seed <= 20; seed++) {
    const prng = new Prng(seed);
    const cache = new DomainCache(64, 4096);
    const model = new Map<string, { domain: number; page: number; value: number }>();
    for (let step = 0; step < 2000; step++) {
      const domain = prng.below(3);
      const page = prng.below(40);
      const kind = prng.below(20);
      if (kind < 12) {
        const value = prng.below(1000) * 4096;
        cache.insert(domain, page, value, 3);
        model.set(`${domain}/${page}`, { domain, page, value });
      } else if (kind < 18) {
        const count = 1 + prng.below(30);
        cache.dropRange(domain, page * 4096, count * 4096);
        for (const [key, entry] of model) {
          if (entry.domain === domain && entry.page >= page && entry.page < page + count) model.delete(key);
        }
      } else if (kind === 18) {
        cache.dropDomain(domain);
        for (const [key, entry] of model) if (entry.domain === domain) model.delete(key);
      } else if (prng.chance(1, 4)) {
        cache.dropAll();
        model.clear();
      }
      // It may have evicted, but what it holds is what was put in last, and nothing that was dropped.
      for (let d = 0; d < 3; d++) {
        for (let p = 0; p < 40; p++) {
          const at = cache.find(d, p);
          const known = model.get(`${d}/${p}`);
          if (at >= 0) assert.equal(cache.values[at], known?.value, `seed ${seed} step ${step}: ${d}/${p}`);
          else model.delete(`${d}/${p}`);
        }
      }
      assert.equal(cache.count, model.size, `seed ${seed} step ${step}`);
    }
  }
});
