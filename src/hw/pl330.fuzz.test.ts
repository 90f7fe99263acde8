import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Prng, physAddr } from '../base/index.ts';
import { Signal, SimMachine } from '../machine/index.ts';
import { Pl330Model } from './pl330.ts';
import { BASE, Dmac, KILL } from './pl330-rig.cases.ts';

const SEEDS = 10_000;
/** Every bit that FTR has. */
const FAULTS = 0xc007_30e3;
const OPCODES = [
  0x00, 0x04, 0x05, 0x07, 0x08, 0x09, 0x0b, 0x0c, 0x12, 0x13, 0x18, 0x20, 0x22, 0x25, 0x27, 0x28, 0x29, 0x2b, 0x2c,
  0x30, 0x31, 0x32, 0x34, 0x35, 0x36, 0x38, 0x39, 0x3b, 0x3c, 0x54, 0x56, 0x5c, 0x5e, 0xbc, 0xbc, 0xbc,
];

/** Random bytes; or random instructions, whose operands are mostly sensible so that they get somewhere. */
function randomProgram(prng: Prng, into: Uint8Array, address: (prng: Prng) => number): void {
  prng.fill(into);
  if (prng.chance(1, 3)) return;
  for (let at = 0; at + 6 <= into.length; ) {
    // Most begin by setting their registers.
    const opcode = at < 18 && prng.chance(3, 4) ? 0xbc : OPCODES[prng.below(OPCODES.length)]!;
    into[at++] = opcode;
    if (opcode === 0xbc) {
      const rd = prng.below(3);
      const value = rd === 1 ? prng.u32() & 0x7fff_ffff & ~0x1_0008 : prng.chance(1, 8) ? prng.u32() : address(prng);
      into.set([rd, value, value >>> 8, value >>> 16, value >>> 24], at);
      at += 5;
    } else if (opcode >= 0x54) at += 2;
    else if (opcode >= 0x20) {
      if (opcode >= 0x28 && opcode !== 0x29 && opcode !== 0x2b && (opcode < 0x30 || opcode >= 0x38))
        into[at] = prng.below(12);
      else if (opcode >= 0x25) into[at]! &= 0x18;
      at++;
    }
  }
}

const inMemory = (prng: Prng): number => prng.below(0x8000);

test(`${SEEDS} random programs run, wait or fault, and can be killed`, () => {
  const seen = new Map<string, number>();
  for (let seed = 1; seed <= SEEDS; seed++) {
    const prng = new Prng(seed);
    const request = new Signal('request');
    const dmac = new Dmac({ requests: [request, null], mfifoLines: 8 << prng.below(3) }, 0x8000);
    try {
      prng.fill(dmac.memory.subarray(0, 0x100));
      const channels = 1 + prng.below(3);
      for (let channel = 0; channel < channels; channel++) {
        randomProgram(prng, dmac.memory.subarray(0x1000 * (channel + 1), 0x1000 * (channel + 1) + 96), inMemory);
        dmac.start(channel, 0x1000 * (channel + 1), prng.chance(1, 4));
      }
      dmac.rig.run(20_000);
      request.set(true);
      dmac.rig.run(20_000);
      for (let channel = 0; channel < 8; channel++) {
        const state = dmac.state(channel);
        const fault = dmac.fault(channel);
        assert.equal(fault !== 0, state === 15 || state === 14, `state ${state} with fault ${fault.toString(16)}`);
        assert.equal((fault & ~FAULTS) >>> 0, 0, `fault bits ${fault.toString(16)}`);
        assert.ok([0, 1, 4, 7, 8, 9, 14, 15].includes(state), `state ${state}`);
        if (channel < channels)
          seen.set(`${state} ${fault.toString(16)}`, (seen.get(`${state} ${fault.toString(16)}`) ?? 0) + 1);
        dmac.debug(channel, [KILL]);
        dmac.rig.run(100);
      }
      dmac.rig.run(60_000);
      for (let channel = 0; channel < 8; channel++)
        assert.equal(dmac.state(channel), 0, `channel ${channel} is killed`);
      assert.equal(dmac.aborted, false);
      assert.equal(dmac.rig.pendingEvents, 0, 'the controller rests');
    } catch (error) {
      throw new Error(`seed ${seed}: ${error instanceof Error ? error.message : error}`, { cause: error });
    }
  }
  // The programs are worth something only when they get everywhere.
  for (const outcome of [
    '0 0',
    '1 0',
    '4 0',
    '7 0',
    '15 1',
    '15 2',
    '15 1000',
    '15 2000',
    '15 20000',
    '15 40000',
    '15 80',
    '15 20',
    '15 40',
  ]) {
    assert.ok(
      (seen.get(outcome) ?? 0) > 0,
      `no program ended as state and fault ${outcome}; there were ${[...seen.keys()].sort().join(', ')}`,
    );
  }
});

test('random programs that reach registers as well, their own controller among them, never break the machine', () => {
  const inMemoryOrRegisters = (prng: Prng): number =>
    prng.chance(1, 2) ? 0x1000 + prng.below(0x8000) : BASE + 4 * prng.below(0x400);
  for (let seed = 1; seed <= 1000; seed++) {
    const prng = new Prng(seed);
    const machine = new SimMachine({
      name: 'fuzz',
      coherent: seed % 2 === 0,
      cacheLineBytes: 32,
      seed,
      ram: [{ base: 0x1000, sizeBytes: 0xf000 }],
    });
    new Pl330Model(machine, { base: physAddr(BASE), master: { name: 'dmac' }, irqLines: [46], abortIrqLine: 45 });
    const write = (offset: number, value: number): void => machine.write32(physAddr(BASE + offset), value);
    for (let channel = 0; channel < 2; channel++) {
      const at = 0x4000 + 0x1000 * channel;
      randomProgram(prng, machine.ram[0]!.memory.subarray(at - 0x1000, at - 0x1000 + 96), inMemoryOrRegisters);
      write(0xd08, 0x00a0_0000 | (channel << 24));
      write(0xd0c, at);
      write(0xd04, 0);
      machine.delay(1000);
    }
    machine.delay(40_000);
    // What runs may start others: the second round finds none any more.
    for (let round = 0; round < 2; round++) {
      for (let channel = 0; channel < 8; channel++) {
        write(0xd08, 0x0001_0001 | (channel << 8));
        write(0xd04, 0);
        machine.delay(1000);
      }
    }
    for (let channel = 0; channel < 8; channel++) {
      assert.equal(machine.read32(physAddr(BASE + 0x100 + 8 * channel)) & 15, 0, `seed ${seed}, channel ${channel}`);
    }
  }
});
