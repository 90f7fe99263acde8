import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addrAdd } from '../../base/addr.ts';
import { Prng } from '../../base/prng.ts';
import { makeRig, RAM_BASE, type Rig, reg, SCRATCH } from './rig.cases.ts';

const LINE = 32;
const quiet = { cacheNoise: 'off' } as const;

/** What the device reads at an offset in RAM. */
function deviceReads(rig: Rig, offset: number, size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  rig.device.bus.read(RAM_BASE + offset, bytes, 0, size);
  return bytes;
}
function deviceWrites(rig: Rig, offset: number, size: number, byte: number): void {
  rig.device.bus.write(RAM_BASE + offset, new Uint8Array(size).fill(byte), 0, size);
}
function cpuOf(rig: Rig): Uint8Array {
  return rig.machine.ram[0]?.cpu as Uint8Array;
}

test('a store that was not cleaned does not reach the device', () => {
  const rig = makeRig(quiet);
  cpuOf(rig).fill(1, 0, 64);
  assert.equal(deviceReads(rig, 0, 1)[0], 0);
  rig.machine.cacheClean(RAM_BASE, 64);
  assert.deepEqual(deviceReads(rig, 0, 64), new Uint8Array(64).fill(1));
});

test('what the device wrote is not seen before the line is invalidated', () => {
  const rig = makeRig(quiet);
  deviceWrites(rig, 0, 64, 2);
  assert.equal(cpuOf(rig)[0], 0);
  rig.machine.cacheInvalidate(RAM_BASE, 64);
  assert.equal(cpuOf(rig)[63], 2);
});

test('a clean line is never written back', () => {
  const rig = makeRig(quiet);
  deviceWrites(rig, 0, 64, 2);
  rig.machine.cacheClean(RAM_BASE, 64);
  assert.equal(deviceReads(rig, 0, 1)[0], 2);
  rig.machine.cacheFlush(RAM_BASE, 64);
  assert.equal(cpuOf(rig)[0], 2);
});

test('cleaning a line that the CPU and the device share destroys what the device wrote', () => {
  const rig = makeRig(quiet);
  cpuOf(rig)[LINE - 1] = 9;
  deviceWrites(rig, 0, 8, 2);
  rig.machine.cacheClean(RAM_BASE, 8);
  assert.deepEqual(deviceReads(rig, 0, 8), new Uint8Array(8));
});

test('invalidating a line that the CPU and the device share destroys what the CPU wrote', () => {
  const rig = makeRig(quiet);
  cpuOf(rig)[LINE - 1] = 9;
  cpuOf(rig)[LINE] = 9;
  deviceWrites(rig, 0, 8, 2);
  rig.machine.cacheInvalidate(RAM_BASE, 8);
  assert.equal(cpuOf(rig)[0], 2);
  assert.equal(cpuOf(rig)[LINE - 1], 0);
  assert.equal(cpuOf(rig)[LINE], 9, 'the line beside it is untouched');
});

test('ranges are rounded out to lines on both sides, for every operation, against a model by byte', () => {
  for (let seed = 0; seed < 300; seed++) {
    const prng = new Prng(seed);
    const rig = makeRig({ ...quiet, cacheLineBytes: prng.chance(1, 2) ? 32 : 64 });
    const line = rig.machine.traits.cacheLineBytes;
    const bank = rig.machine.ram[0] as Rig['machine']['ram'][0];
    const size = 8192;
    for (const array of [bank.cpu, bank.memory, bank.fill as Uint8Array]) prng.fill(array.subarray(0, size));
    // Some lines clean, in runs.
    for (let i = 0; i < 20; i++) {
      const from = prng.below(size);
      const to = Math.min(size, from + prng.below(1500));
      (bank.fill as Uint8Array).set(bank.cpu.subarray(from, to), from);
    }
    const cpu = bank.cpu.slice(0, size);
    const fill = (bank.fill as Uint8Array).slice(0, size);
    const memory = bank.memory.slice(0, size);
    const op = prng.below(3);
    const start = prng.below(size);
    const length = 1 + prng.below(size - start);
    const first = Math.floor(start / line);
    const last = Math.floor((start + length - 1) / line);
    for (let l = first; l <= last; l++) {
      const [a, b] = [l * line, (l + 1) * line];
      const dirty = Buffer.compare(cpu.subarray(a, b), fill.subarray(a, b)) !== 0;
      if (op !== 1 && dirty) {
        memory.set(cpu.subarray(a, b), a);
        fill.set(cpu.subarray(a, b), a);
      }
      if (op !== 0) {
        cpu.set(memory.subarray(a, b), a);
        fill.set(memory.subarray(a, b), a);
      }
    }
    const phys = addrAdd(RAM_BASE, start);
    if (op === 0) rig.machine.cacheClean(phys, length);
    else if (op === 1) rig.machine.cacheInvalidate(phys, length);
    else rig.machine.cacheFlush(phys, length);
    assert.deepEqual(bank.cpu.slice(0, size), cpu, `cpu, seed ${seed}`);
    assert.deepEqual(bank.fill?.slice(0, size), fill, `fill, seed ${seed}`);
    assert.deepEqual(bank.memory.slice(0, size), memory, `memory, seed ${seed}`);
  }
});

/** A transfer both ways by the book: clean, the device reads and writes, invalidate. Returns whether all was right. */
function byTheBook(seed: number, options: { share: boolean; cleanFirst: boolean; invalidateAfter: boolean }): boolean {
  const rig = makeRig({ seed });
  const { machine } = rig;
  const cpu = cpuOf(rig);
  let right = true;
  const [src, dst, size] = [0x1000, 0x2000, 256];
  const neighbour = options.share ? dst + size - 1 : dst + size;
  const dstSize = options.share ? size - 8 : size;
  for (let round = 1; round <= 4; round++) {
    cpu.fill(round, src, src + size);
    machine.cacheClean(addrAdd(RAM_BASE, src), size);
    if (options.cleanFirst) machine.cacheClean(addrAdd(RAM_BASE, dst), dstSize);
    cpu[neighbour] = round;
    for (let i = 0; i < 30; i++) machine.cpuRelax();
    rig.device.bus.copy(RAM_BASE + dst, RAM_BASE + src, dstSize);
    for (let i = 0; i < 30; i++) machine.cpuRelax();
    if (options.invalidateAfter) machine.cacheInvalidate(addrAdd(RAM_BASE, dst), dstSize);
    for (let i = 0; i < dstSize; i++) right &&= cpu[dst + i] === round;
    right &&= cpu[neighbour] === round;
    // The CPU uses the buffer for something else before it maps it again.
    cpu.fill(0xaa, dst, dst + dstSize);
  }
  return right;
}

test('correct use never suffers from eviction and prefetch, over 1,000 seeds', () => {
  for (let seed = 0; seed < 1000; seed++) {
    assert.ok(byTheBook(seed, { share: false, cleanFirst: true, invalidateAfter: true }), `seed ${seed}`);
  }
});

test('a missing invalidate, a missing clean and a shared line each corrupt, for most seeds', () => {
  const wrong = { invalidate: 0, clean: 0, share: 0 };
  for (let seed = 0; seed < 100; seed++) {
    if (!byTheBook(seed, { share: false, cleanFirst: true, invalidateAfter: false })) wrong.invalidate++;
    if (!byTheBook(seed, { share: false, cleanFirst: false, invalidateAfter: true })) wrong.clean++;
    if (!byTheBook(seed, { share: true, cleanFirst: true, invalidateAfter: true })) wrong.share++;
  }
  assert.ok(wrong.invalidate > 90 && wrong.clean > 20 && wrong.share > 90, JSON.stringify(wrong));
});

test('lines move by themselves only on non-coherent machines, and never in uncached memory', () => {
  for (const [options, expected] of [
    [{ coherent: true }, 0],
    [{ cacheNoise: 'off' }, 0],
    [{ uncached: true }, 0],
    [{}, 1],
  ] as const) {
    const rig = makeRig('uncached' in options ? {} : options);
    if ('uncached' in options) rig.machine.setUncached(RAM_BASE, 0x10_0000, true);
    let moved = 0;
    rig.machine.observer = {
      cacheOp(_time, op) {
        if (op === 'evict' || op === 'prefetch') moved++;
      },
    };
    deviceWrites(rig, 0x1000, 256, 1);
    for (let i = 0; i < 1000; i++) rig.machine.read32(reg(SCRATCH));
    assert.equal(Math.sign(moved), expected, JSON.stringify(options));
  }
});

test('memory that becomes uncached is cleaned first, and only whole pages can', () => {
  const rig = makeRig(quiet);
  cpuOf(rig).fill(5, 0, 4096);
  rig.machine.setUncached(RAM_BASE, 4096, true);
  assert.equal(deviceReads(rig, 4095, 1)[0], 5);
  assert.throws(() => rig.machine.setUncached(addrAdd(RAM_BASE, 64), 4096, true), /whole pages/);
  assert.throws(() => rig.machine.setUncached(addrAdd(RAM_BASE, 0xf_f000), 8192, true), /one bank/);
});

test('a snooping device on a non-coherent machine sees dirty lines, and its writes show at once', () => {
  const rig = makeRig(quiet);
  const snooper = rig.machine.busMaster({ name: 'snooper', coherent: true });
  const cpu = cpuOf(rig);
  cpu.fill(3, 0, 40);
  const bytes = new Uint8Array(64);
  snooper.read(RAM_BASE, bytes, 0, 64);
  assert.deepEqual([...bytes.subarray(0, 41)], [...new Array(40).fill(3), 0]);
  cpu[8] = 4;
  snooper.write(RAM_BASE, new Uint8Array(4).fill(7), 0, 4);
  assert.deepEqual([cpu[0], cpu[3], cpu[4], cpu[8]], [7, 7, 3, 4], "the CPU's own store beside it survives");
  snooper.fill(RAM_BASE + 64, 6, 600);
  assert.equal(cpu[64 + 599], 6);
  snooper.copy(RAM_BASE + 4096, RAM_BASE, 600);
  assert.deepEqual(cpu.slice(4096, 4096 + 600), cpu.slice(0, 600));
});
