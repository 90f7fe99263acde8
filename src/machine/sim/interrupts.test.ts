import assert from 'node:assert/strict';
import { test } from 'node:test';
import { physAddr } from '../../base/addr.ts';
import { LockupError } from '../scheduler.ts';
import { ACK, DST, GO, makeRig, RAM_BASE, RIG_LINE, reg, SCRATCH, SRC } from './rig.cases.ts';

test('an interrupt preempts between two register accesses', () => {
  const { machine, device } = makeRig();
  const order: string[] = [];
  machine.setIrqHandler(() => order.push('interrupt'));
  machine.enableIrqLine(RIG_LINE);
  machine.after(150, () => device.line.pulse());
  order.push('read 1');
  machine.read32(reg(SCRATCH));
  order.push('read 2');
  machine.read32(reg(SCRATCH));
  order.push('read 3');
  machine.read32(reg(SCRATCH));
  assert.deepEqual(order, ['read 1', 'read 2', 'interrupt', 'read 3']);
});

test('an interrupt comes in the middle of a long delay, which lasts no longer for it', () => {
  const { machine, device } = makeRig();
  const at: number[] = [];
  machine.setIrqHandler(() => at.push(machine.now()));
  machine.enableIrqLine(RIG_LINE);
  machine.after(1000, () => device.line.pulse());
  machine.delay(10_000);
  assert.equal(at.length, 1);
  assert.ok((at[0] as number) < 1100);
  assert.equal(machine.now(), 10_000);
});

test('a posted write reaches its device later, in order, and at the latest before a read returns', () => {
  const { machine, device } = makeRig({ timings: { postedMinNs: 50, postedMaxNs: 250 } });
  machine.write32(reg(SCRATCH), 1);
  machine.write32(reg(SRC), 2);
  machine.write32(reg(SCRATCH), 3);
  assert.deepEqual(device.writes, []);
  assert.equal(machine.read32(reg(SCRATCH)), 3);
  assert.deepEqual(device.writes, [
    [SCRATCH, 1],
    [SRC, 2],
    [SCRATCH, 3],
  ]);
  machine.write32(reg(SCRATCH), 4);
  machine.delay(300);
  assert.equal(device.scratch, 4);
});

test('a thousand posted writes arrive in order', () => {
  const { machine, device } = makeRig();
  for (let i = 0; i < 1000; i++) machine.write32(reg(SCRATCH), i);
  machine.read32(reg(SCRATCH));
  assert.deepEqual(
    device.writes.map(([, value]) => value),
    Array.from({ length: 1000 }, (_, i) => i),
  );
});

test('a level line comes again until the device lets go, an edge comes once', () => {
  const { machine, device } = makeRig();
  let count = 0;
  machine.setIrqHandler(() => {
    if (++count === 3) {
      machine.write32(reg(ACK), 1);
      machine.read32(reg(SCRATCH));
    }
  });
  machine.enableIrqLine(RIG_LINE);
  device.line.set(true);
  machine.timePoint();
  assert.equal(count, 3);
  device.line.pulse();
  device.line.pulse();
  machine.timePoint();
  assert.equal(count, 4);
});

test('an edge that comes while its handler runs is delivered after it', () => {
  const { machine, device } = makeRig();
  const order: string[] = [];
  machine.setIrqHandler(() => {
    order.push('in');
    if (order.length === 1) device.line.pulse();
    machine.read32(reg(SCRATCH));
    order.push('out');
  });
  machine.enableIrqLine(RIG_LINE);
  device.line.pulse();
  machine.timePoint();
  assert.deepEqual(order, ['in', 'out', 'in', 'out']);
});

test('a handler that enables interrupts, as soft interrupts do, can be interrupted', () => {
  const { machine, device } = makeRig();
  const order: string[] = [];
  machine.setIrqHandler((line) => {
    order.push(`${line} in`);
    if (order.length === 1) {
      device.line.pulse();
      machine.irqLine(3).pulse();
      machine.timePoint();
      machine.setInterruptsEnabled(true);
      machine.setInterruptsEnabled(false);
    }
    order.push(`${line} out`);
  });
  machine.enableIrqLine(RIG_LINE);
  machine.enableIrqLine(3);
  device.line.pulse();
  machine.timePoint();
  assert.deepEqual(order, ['7 in', '3 in', '3 out', '7 in', '7 out', '7 out']);
  assert.equal(machine.setInterruptsEnabled(true), true);
});

test('lost interrupts are lost, the next one comes', () => {
  const { machine, device } = makeRig();
  let count = 0;
  machine.setIrqHandler(() => {
    count++;
    device.line.set(false);
  });
  machine.enableIrqLine(RIG_LINE);
  machine.faults.loseInterrupts(RIG_LINE, 2);
  for (let i = 0; i < 3; i++) {
    device.line.set(true);
    machine.timePoint();
    device.line.set(false);
  }
  assert.equal(count, 1);
});

test('a message-signalled interrupt is a 4-byte write to its address', () => {
  const { machine, device } = makeRig({ msiBase: 0xfee0_0000 });
  const first = machine.allocateMsi();
  const second = machine.allocateMsi();
  assert.notEqual(first.line, second.line);
  const lines: number[] = [];
  machine.setIrqHandler((line) => lines.push(line));
  machine.enableIrqLine(first.line);
  machine.enableIrqLine(second.line);
  device.bus.write32(second.address, second.data);
  device.bus.write32(first.address, first.data);
  machine.timePoint();
  assert.deepEqual(lines, [first.line, second.line]);
  machine.freeMsi(first);
  device.bus.write32(first.address, first.data);
  machine.timePoint();
  assert.equal(lines.length, 2);
  assert.throws(() => machine.freeMsi(first), /no allocated/);
  assert.throws(() => makeRig().machine.allocateMsi(), /no message-signalled/);
});

test('a line that nobody lowers is reported as a storm', async () => {
  const { machine, device } = makeRig();
  let count = 0;
  machine.setIrqHandler(() => count++);
  machine.enableIrqLine(RIG_LINE);
  const run = machine.scheduler.run('main', () => {
    device.line.set(true);
    machine.timePoint();
  });
  await assert.rejects(run, (error: Error) => error instanceof LockupError && /storm: line 7/.test(error.message));
  assert.ok(count > 100_000);
});

test('an engine raises its line after its work, and a task that waits hears of it', async () => {
  const { machine } = makeRig({ cacheNoise: 'off' });
  machine.enableIrqLine(RIG_LINE);
  await machine.scheduler.run('main', async () => {
    const wait = machine.scheduler.wait<number>(() => 'the engine');
    machine.setIrqHandler(() => {
      machine.write32(reg(ACK), 1);
      machine.read32(reg(SCRATCH));
      wait.wake(machine.now());
    });
    machine.write32(reg(SRC), RAM_BASE);
    machine.write32(reg(DST), RAM_BASE + 4096);
    machine.write32(reg(GO), 2000);
    const at = await wait.promise;
    assert.ok(at >= 2500 && at < 4000, `woken at ${at}`);
  });
});

test('registers: no two blocks at one address, none in RAM, and none after unmapping', () => {
  const { machine } = makeRig();
  const block = { readRegister: () => 5, writeRegister: () => {} };
  assert.throws(() => machine.mapRegisters(reg(0x80), 0x100, 'twin', block), /already those of tester/);
  assert.throws(() => machine.mapRegisters(RAM_BASE, 0x100, 'lost', block), /lie in RAM/);
  const base = physAddr(0x5000_0000);
  machine.mapRegisters(base, 0x10, 'guest', block);
  assert.equal(machine.read32(base), 5);
  machine.unmapRegisters(base);
  assert.equal(machine.read32(base), 0xffffffff);
  machine.mapPorts(0x3f8, 8, 'uart', { readRegister: (offset) => offset, writeRegister: () => {} });
  assert.equal(machine.portRead(0x3fd, 1), 5);
  assert.equal(machine.portRead(0x2f8, 1), 0xff);
});
