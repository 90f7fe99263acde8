import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addrAdd } from '../../base/addr.ts';
import { makeRig, RAM_BASE, reg, SCRATCH } from './rig.cases.ts';

/** A descriptor of two words, payload and owner, in a ring that the device polls. Returns how often it saw new owner, old payload. */
function ring(seed: number, barrier: boolean, weaklyOrdered: boolean, options = {}): number {
  const { machine, device } = makeRig({ seed, weaklyOrdered, ...options });
  machine.setUncached(RAM_BASE, 4096, true);
  const memory = machine.ram[0]?.memory32 as Int32Array;
  let torn = 0;
  for (let round = 1; round <= 8; round++) {
    memory[0] = round;
    if (barrier) machine.barrier('dma_wmb');
    memory[1] = round;
    machine.write32(reg(SCRATCH), round);
    machine.read32(reg(SCRATCH));
    device.bus.read32(RAM_BASE + 4);
    const owner = device.bus.value32;
    device.bus.read32(RAM_BASE);
    if (owner === round && device.bus.value32 !== round) torn++;
    machine.barrier('wmb');
  }
  return torn;
}

test('without a barrier a device may see the new owner and the old payload, for some seeds', () => {
  let wrong = 0;
  for (let seed = 0; seed < 100; seed++) if (ring(seed, false, true) > 0) wrong++;
  assert.ok(wrong > 30 && wrong < 100, `${wrong} of 100 seeds`);
});
test('also on a coherent machine that is weakly ordered', () => {
  let wrong = 0;
  for (let seed = 0; seed < 50; seed++) if (ring(seed, false, true, { coherent: true }) > 0) wrong++;
  assert.ok(wrong > 10, `${wrong} of 50 seeds`);
});
test('with a barrier between them it never does', () => {
  for (let seed = 0; seed < 200; seed++) assert.equal(ring(seed, true, true), 0, `seed ${seed}`);
});
test('on a strongly ordered machine it never does', () => {
  for (let seed = 0; seed < 100; seed++) assert.equal(ring(seed, false, false), 0, `seed ${seed}`);
});

test('after a barrier every store is seen, in every form of access and in pages that nobody followed', () => {
  for (let seed = 0; seed < 50; seed++) {
    const { machine, device } = makeRig({ seed, weaklyOrdered: true });
    const size = 64 * 4096;
    machine.setUncached(RAM_BASE, size, true);
    const memory = machine.ram[0]?.memory as Uint8Array;
    const bytes = new Uint8Array(1000);
    for (let round = 0; round < 40; round++) {
      const at = (round * 7919 * 13) % (size - 1000);
      memory.fill(round + 1, at, at + 1000);
      machine.barrier('mb');
      device.bus.read(RAM_BASE + at, bytes, 0, 1000);
      assert.deepEqual(bytes, new Uint8Array(1000).fill(round + 1), `seed ${seed}`);
      device.bus.copy(RAM_BASE + size, RAM_BASE + at, 1000);
      assert.equal(memory[size + 999], round + 1);
    }
  }
});

test('an old word once seen as new stays new, and read barriers order no stores', () => {
  for (let seed = 0; seed < 50; seed++) {
    const { machine, device } = makeRig({ seed, weaklyOrdered: true });
    machine.setUncached(RAM_BASE, 4096, true);
    const memory = machine.ram[0]?.memory32 as Int32Array;
    memory[0] = 1;
    machine.barrier('rmb');
    let last = 0;
    for (let i = 0; i < 20; i++) {
      device.bus.read32(RAM_BASE);
      assert.ok(device.bus.value32 >= last, `seed ${seed}`);
      last = device.bus.value32;
    }
  }
});

test('pending stores drain by themselves in the end', () => {
  for (let seed = 0; seed < 20; seed++) {
    const { machine, device } = makeRig({ seed, weaklyOrdered: true });
    machine.setUncached(RAM_BASE, 4096, true);
    (machine.ram[0]?.memory32 as Int32Array)[0] = 1;
    for (let i = 0; i < 5000; i++) machine.cpuRelax();
    device.bus.read32(RAM_BASE);
    assert.equal(device.bus.value32, 1, `seed ${seed}`);
  }
});

test('what the device wrote is what devices see, and cached memory is never delayed', () => {
  for (let seed = 0; seed < 30; seed++) {
    const { machine, device } = makeRig({ seed, weaklyOrdered: true, cacheNoise: 'off' });
    machine.setUncached(RAM_BASE, 4096, true);
    const bytes = Uint8Array.of(1, 2, 3, 4, 5);
    device.bus.write(RAM_BASE + 3, bytes, 0, 5);
    const back = new Uint8Array(5);
    device.bus.read(RAM_BASE + 3, back, 0, 5);
    assert.deepEqual(back, bytes);
    const cached = addrAdd(RAM_BASE, 8192);
    machine.ram[0]?.cpu.fill(7, 8192, 8256);
    machine.cacheClean(cached, 64);
    device.bus.read32(cached);
    assert.equal(device.bus.value32, 0x07070707);
  }
});

test('two hundred uncached pages in turn: following some of them never shows what is older than a barrier', () => {
  for (let seed = 0; seed < 10; seed++) {
    const { machine, device } = makeRig({ seed, weaklyOrdered: true });
    machine.setUncached(RAM_BASE, 200 * 4096, true);
    const memory = machine.ram[0]?.memory32 as Int32Array;
    for (let round = 1; round <= 3; round++) {
      for (let page = 0; page < 200; page++) {
        memory[page * 1024] = round;
        if (page % 7 === 6) machine.barrier('dma_wmb');
        device.bus.read32(RAM_BASE + page * 4096);
        assert.ok(device.bus.value32 === round || device.bus.value32 === round - 1, `seed ${seed}`);
      }
      machine.barrier('wmb');
    }
    machine.setUncached(RAM_BASE, 200 * 4096, false);
    device.bus.read32(RAM_BASE);
    assert.equal(device.bus.value32, 3);
  }
});
