import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FreedMemory } from './freed-memory.ts';
import { Ledger } from './ledger.ts';

const SIZES = [1, 8, 64, 255, 256, 257, 2048, 4096, 4097, 65536, 65537, 1 << 20, 1 << 24, 2 ** 33] as const;
const BASES = [0, 0x1000, 0x1_0000, 0xffff_f000, 0x1_0000_0000, 0xff_ffff_f000] as const;

interface Model {
  entry: number;
  device: number;
  start: number;
  size: number;
  rights: number;
}
const operation = fc.record({
  kind: fc.constantFrom('add', 'add', 'add', 'remove', 'ask'),
  device: fc.integer({ min: 0, max: 2 }),
  base: fc.constantFrom(...BASES),
  offset: fc.integer({ min: 0, max: 5000 }),
  size: fc.constantFrom(...SIZES),
  direction: fc.constantFrom(0, 1, 2),
});

test('the ledger finds what a list would find, whatever was added and taken out', () => {
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 120 }), (operations) => {
      const ledger = new Ledger();
      const live: Model[] = [];
      const rightsOf = [3, 1, 2];
      for (const { kind, device, base, offset, size, direction } of operations) {
        const start = base + offset;
        if (kind === 'add') {
          const entry = ledger.add(device, 0, start, start, size, direction, 0, 0, 0);
          live.push({ entry, device, start, size, rights: rightsOf[direction]! });
        } else if (kind === 'remove' && live.length > 0) {
          const [gone] = live.splice(offset % live.length, 1);
          ledger.remove(gone!.entry);
        }
        assert.equal(ledger.count, live.length);
        const covering = live.filter((m) => m.device === device && m.start <= start && start < m.start + m.size);
        const allowed = covering.filter(({ rights }) => (rights & 2) !== 0);
        const found = ledger.byAddress.covering(device, start, ledger.rights, 2);
        assert.equal(found >= 0, allowed.length > 0);
        if (found >= 0) {
          assert.equal(
            ledger.address[found]! + ledger.size[found]!,
            Math.max(...allowed.map((m) => m.start + m.size)),
            'the one that reaches furthest',
          );
        }
        const small = Math.min(size, 70000);
        const overlapping = live.filter((m) => m.start < start + small && start < m.start + m.size);
        const seen: number[] = [];
        ledger.inMemory(start, small, (entry) => {
          seen.push(entry);
          return false;
        });
        assert.deepEqual(
          seen.sort((a, b) => a - b),
          overlapping.map(({ entry }) => entry).sort((a, b) => a - b),
        );
        assert.equal(ledger.firstInMemory(start, small, 3) >= 0, overlapping.length > 0);
        const exact = live.filter((m) => m.device === device && m.start === start);
        const best = ledger.find(device, start, size, 0, direction);
        assert.equal(best >= 0, exact.length > 0);
        if (exact.some((m) => m.size === size)) assert.equal(ledger.size[best], size);
      }
    }),
    { numRuns: 150 },
  );
});

test('a million pairs leave the ledger as large as it was, and growing keeps every entry', () => {
  const ledger = new Ledger();
  for (let i = 0; i < 1_000_000; i++) {
    ledger.remove(ledger.add(1, 0, 0x1000 + (i % 64) * 4096, 0x1000, 4096, 1, 0, 0, i));
  }
  const { capacity } = ledger;
  assert.equal(capacity, 1024);
  const entries = Array.from({ length: 5000 }, (_, i) => ledger.add(1, 0, i * 8192, i * 8192, 4096, 1, 0, 0, i));
  assert.ok(ledger.capacity >= 5000);
  for (const [i, entry] of entries.entries()) {
    assert.equal(ledger.find(1, i * 8192, 4096, 0, 1), entry);
    assert.equal(ledger.firstInMemory(i * 8192, 1, 1), entry);
  }
  for (const entry of entries) ledger.remove(entry);
  assert.equal(ledger.count, 0);
  assert.equal(ledger.byPhys.count, 0);
});

test('freed memory is remembered until it is handed out again, or forgotten', () => {
  const freed = new FreedMemory();
  freed.add(0x1000, 256);
  assert.ok(freed.has(0x10f0, 1) && !freed.has(0x1100, 16));
  freed.handedOut(0x1000, 64);
  assert.ok(!freed.has(0x10f0, 1), 'an object is handed out whole');
  for (let i = 0; i < 10_000; i++) freed.add(0x10_0000 + i * 64, 64);
  assert.ok(!freed.has(0x10_0000, 64) && freed.has(0x10_0000 + 9_999 * 64, 64));
});
