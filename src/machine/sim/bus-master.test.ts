import assert from 'node:assert/strict';
import { test } from 'node:test';
import { physAddr } from '../../base/addr.ts';
import { Prng } from '../../base/prng.ts';
import type { Translation, Translator } from '../model.ts';
import { BusStatus } from '../observer.ts';
import { makeRig, RAM_BASE, type Rig } from './rig.cases.ts';

const RAM_BYTES = 0x10_0000;
const memoryOf = (rig: Rig) => rig.machine.ram[0]?.memory as Uint8Array;

test('reads, writes, fills and copies of any size and alignment move exactly their bytes', () => {
  for (let seed = 0; seed < 400; seed++) {
    const prng = new Prng(seed);
    const rig = makeRig({ coherent: true });
    const memory = memoryOf(rig);
    prng.fill(memory.subarray(0, 8192));
    const expected = memory.slice(0, 8192);
    const size = prng.chance(1, 2) ? 1 + prng.below(64) : 1 + prng.below(2000);
    const [a, b] = [prng.below(8192 - size), prng.below(8192 - size)];
    const align = prng.chance(1, 2) ? 3 : 0;
    const [src, dst, length] = [a & ~align, b & ~align, Math.max(1, size & ~align)];
    const buffer = new Uint8Array(2100).subarray(prng.below(5));
    prng.fill(buffer);
    const bus = rig.device.bus;
    const kind = prng.below(4);
    if (kind === 0) {
      const before = buffer.slice();
      before.set(expected.subarray(src, src + length), 4);
      assert.equal(bus.read(RAM_BASE + src, buffer, 4, length), BusStatus.OK);
      assert.deepEqual(buffer, before, `read, seed ${seed}`);
    } else if (kind === 1) {
      expected.set(buffer.subarray(4, 4 + length), dst);
      assert.equal(bus.write(RAM_BASE + dst, buffer, 4, length), BusStatus.OK);
    } else if (kind === 2) {
      expected.fill(0x5a, dst, dst + length);
      assert.equal(bus.fill(RAM_BASE + dst, 0x5a, length), BusStatus.OK);
    } else {
      for (let i = 0; i < length; i++) expected[dst + i] = expected[src + i] as number;
      assert.equal(bus.copy(RAM_BASE + dst, RAM_BASE + src, length), BusStatus.OK);
    }
    assert.deepEqual(memory.slice(0, 8192), expected, `kind ${kind}, seed ${seed}`);
  }
});

test('an access that runs out of RAM fails at the first byte beyond, and has moved those before', () => {
  const rig = makeRig({ coherent: true });
  const end = RAM_BASE + RAM_BYTES;
  const bytes = new Uint8Array(64).fill(1);
  assert.equal(rig.device.bus.write(end - 16, bytes, 0, 64), BusStatus.DECODE_ERROR);
  assert.equal(rig.device.bus.failedAt, end);
  assert.equal(memoryOf(rig)[RAM_BYTES - 1], 1);
  assert.equal(rig.device.bus.copy(RAM_BASE, end - 16, 32), BusStatus.DECODE_ERROR);
  assert.equal(memoryOf(rig)[15], 1);
  assert.equal(memoryOf(rig)[16], 0);
  assert.equal(rig.device.bus.read32(0xdead_0000), BusStatus.DECODE_ERROR);
  assert.equal(rig.device.bus.value32, 0xffff_ffff);
  assert.equal(rig.device.bus.read32(-4), BusStatus.DECODE_ERROR);
});

test('an access goes on in the next bank', () => {
  const rig = makeRig({
    coherent: true,
    ram: [
      { base: 0x1_0000, sizeBytes: 0x1000 },
      { base: 0x1_1000, sizeBytes: 0x1000 },
    ],
  });
  const [low, high] = rig.machine.ram;
  low?.memory.fill(1);
  high?.memory.fill(2);
  const bytes = new Uint8Array(0x1800);
  assert.equal(rig.device.bus.read(0x1_0400, bytes, 0, 0x1800), BusStatus.OK);
  assert.deepEqual([bytes[0xbff], bytes[0xc00]], [1, 2]);
  assert.equal(rig.device.bus.copy(0x1_1800, 0x1_0000, 0x800), BusStatus.OK);
  assert.equal(high?.memory[0x800], 1);
});

test('address lines and bus offset limit and shift what a device reaches', () => {
  const rig = makeRig({ coherent: true, ram: [{ base: 0, sizeBytes: 0x200_0000 }] });
  const narrow = rig.machine.busMaster({ name: 'isa', addressBits: 24 });
  const bytes = new Uint8Array(32);
  assert.equal(narrow.write(0x100_0000 - 16, bytes, 0, 32), BusStatus.DECODE_ERROR);
  assert.equal(narrow.failedAt, 0x100_0000);
  const aliased = rig.machine.busMaster({ name: 'videocore', busOffset: 0xc000_0000 });
  assert.equal(aliased.write32(0xc000_0010, 0x1234), BusStatus.OK);
  assert.equal(rig.machine.ram[0]?.memory32[4], 0x1234);
  assert.equal(aliased.write32(0x10, 1), BusStatus.DECODE_ERROR);
});

test('a translator is asked for every granule, and a refusal stops the access where it is', () => {
  const rig = makeRig({ coherent: true });
  const asked: number[] = [];
  const translator: Translator = {
    translate(requesterId: number, addr: number, _size: number, isWrite: boolean, result: Translation) {
      assert.equal(requesterId, 0x10);
      asked.push(addr);
      const page = Math.floor(addr / 4096);
      if (page === 3 && isWrite) return BusStatus.TRANSLATION_FAULT;
      // Pages in reverse order.
      result.phys = RAM_BASE + (15 - page) * 4096 + (addr % 4096);
      result.sizeBytes = 4096 - (addr % 4096);
      return BusStatus.OK;
    },
  };
  const bus = rig.machine.busMaster({ name: 'pci', translator, requesterId: 0x10 });
  const bytes = new Uint8Array(8192).map((_, i) => i >> 8);
  assert.equal(bus.write(0x800, bytes, 0, 8192), BusStatus.OK);
  assert.deepEqual(asked, [0x800, 0x1000, 0x2000]);
  assert.equal(memoryOf(rig)[15 * 4096 + 0x800], 0);
  assert.equal(memoryOf(rig)[14 * 4096], 8);
  const back = new Uint8Array(8192);
  assert.equal(bus.read(0x800, back, 0, 8192), BusStatus.OK);
  assert.deepEqual(back, bytes);
  assert.equal(bus.write(0x2f00, bytes, 0, 0x200), BusStatus.TRANSLATION_FAULT);
  assert.equal(bus.failedAt, 0x3000);
  assert.equal(bus.copy(0x2f00, 0x800, 0x200), BusStatus.TRANSLATION_FAULT);
});

test("a peripheral's registers are read and written in words where alignment allows", () => {
  const rig = makeRig({ coherent: true });
  const log: string[] = [];
  rig.machine.mapRegisters(physAddr(0x5000_0000), 0x10, 'fifo', {
    readRegister(offset, width) {
      log.push(`r${width}@${offset}`);
      return 0x44332211;
    },
    writeRegister(offset, width, value) {
      log.push(`w${width}@${offset}=${value.toString(16)}`);
    },
  });
  const bus = rig.device.bus;
  const bytes = new Uint8Array(7);
  assert.equal(bus.read(0x5000_0001, bytes, 0, 7), BusStatus.OK);
  assert.deepEqual(log.splice(0), ['r1@1', 'r2@2', 'r4@4']);
  assert.deepEqual([...bytes], [0x11, 0x11, 0x22, 0x11, 0x22, 0x33, 0x44]);
  assert.equal(bus.write(0x5000_0000, Uint8Array.of(1, 2, 3, 4, 0xff, 0xff), 0, 6), BusStatus.OK);
  assert.deepEqual(log.splice(0), ['w4@0=4030201', 'w2@4=ffff']);
  assert.equal(bus.copy(0x5000_0000, 0x5000_0004, 4), BusStatus.OK);
  assert.deepEqual(log.splice(0), ['r4@4', 'w4@0=44332211']);
  assert.equal(bus.copy(RAM_BASE, 0x5000_0000, 4), BusStatus.OK);
  assert.equal(memoryOf(rig)[3], 0x44);
  assert.equal(bus.copy(0x5000_0000, RAM_BASE, 4), BusStatus.OK);
  assert.deepEqual(log.splice(0), ['r4@0', 'w4@0=44332211']);
});

test('an injected fault hits its access once, after the bytes before it', () => {
  const rig = makeRig({ coherent: true });
  rig.machine.faults.failBusAccess('tester', RAM_BASE + 0x100);
  const other = rig.machine.busMaster({ name: 'other' });
  const bytes = new Uint8Array(0x200).fill(1);
  assert.equal(other.write(RAM_BASE, bytes, 0, 0x10), BusStatus.OK);
  assert.equal(rig.device.bus.write(RAM_BASE, bytes, 0, 0x200), BusStatus.SLAVE_ERROR);
  assert.equal(rig.device.bus.failedAt, RAM_BASE + 0x100);
  assert.deepEqual([memoryOf(rig)[0xff], memoryOf(rig)[0x100]], [1, 0]);
  assert.equal(rig.device.bus.write(RAM_BASE, bytes, 0, 0x200), BusStatus.OK);
});

test('observers hear of every access, by piece, with what became of it', () => {
  const rig = makeRig({ coherent: true });
  const heard: unknown[] = [];
  rig.machine.observer = {
    deviceAccess(_time, master, isWrite, addr, phys, sizeBytes, status) {
      heard.push([master, isWrite, addr - RAM_BASE, phys < 0 ? -1 : phys - RAM_BASE, sizeBytes, status]);
    },
  };
  rig.device.bus.copy(RAM_BASE + 512, RAM_BASE, 256);
  rig.device.bus.fill(RAM_BASE, 1, 8);
  rig.device.bus.write32(RAM_BASE + RAM_BYTES, 1);
  assert.deepEqual(heard, [
    ['tester', false, 0, 0, 256, 0],
    ['tester', true, 512, 512, 256, 0],
    ['tester', true, 0, 0, 8, 0],
    ['tester', true, RAM_BYTES, -1, 4, BusStatus.DECODE_ERROR],
  ]);
});
