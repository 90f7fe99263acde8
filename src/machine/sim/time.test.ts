import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Prng } from '../../base/prng.ts';
import { makeRig, reg, SCRATCH } from './rig.cases.ts';
import { EventQueue, Timer } from './time.ts';

test('events run in order of time, and first in first out at equal times, whatever is cancelled in between', () => {
  for (let seed = 0; seed < 50; seed++) {
    const prng = new Prng(seed);
    const queue = new EventQueue();
    const expected: { due: number; sequence: number; id: number }[] = [];
    const ran: number[] = [];
    const timers: Timer[] = [];
    for (let id = 0; id < 200; id++) {
      const timer = new Timer(queue, () => ran.push(id));
      const delay = prng.below(20);
      timer.start(delay);
      timers.push(timer);
      expected.push({ due: delay, sequence: id, id });
      if (prng.chance(1, 4)) {
        const victim = prng.below(timers.length);
        (timers[victim] as Timer).stop();
        const at = expected.findIndex((event) => event.id === victim);
        if (at >= 0) expected.splice(at, 1);
      }
    }
    expected.sort((a, b) => a.due - b.due || a.sequence - b.sequence);
    let last = 0;
    while (queue.length > 0) {
      assert.equal(queue.nextDue, expected[ran.length]?.due, `seed ${seed}`);
      queue.take().callback();
      assert.ok(queue.now >= last);
      last = queue.now;
    }
    assert.deepEqual(
      ran,
      expected.map((event) => event.id),
      `seed ${seed}`,
    );
  }
});

test('a timer that is started again is moved, and runs once', () => {
  const { machine } = makeRig();
  let runs = 0;
  const timer = machine.timer(() => runs++);
  timer.start(100);
  timer.start(500);
  machine.delay(200);
  assert.equal(runs, 0);
  assert.equal(timer.pending, true);
  machine.delay(400);
  assert.equal(runs, 1);
  assert.equal(timer.pending, false);
  timer.stop();
  timer.start(10);
  machine.delay(10);
  assert.equal(runs, 2);
});

test('an event sees the time at which it was due, also in the middle of a long delay', () => {
  const { machine } = makeRig();
  const seen: number[] = [];
  machine.after(300, () => {
    seen.push(machine.now());
    machine.after(100, () => seen.push(machine.now()));
  });
  machine.delay(1000);
  assert.deepEqual(seen, [300, 400]);
  assert.equal(machine.now(), 1000);
});

test('a delay that is no number from 0 on is refused', () => {
  const { machine } = makeRig();
  assert.throws(() => machine.after(-1, () => {}), RangeError);
  assert.throws(() => machine.after(Number.NaN, () => {}), RangeError);
});

test('register accesses cost time, reads more than writes', () => {
  const { machine } = makeRig({ timings: { readNs: 200, writeNs: 15 } });
  machine.write32(reg(SCRATCH), 1);
  assert.equal(machine.now(), 15);
  machine.read32(reg(SCRATCH));
  assert.equal(machine.now(), 215);
});

test('slow hardware: delays of models are stretched, those of the kernel are not', () => {
  const { machine } = makeRig();
  const seen: string[] = [];
  machine.mapRegisters(reg(0x1000), 4, 'slow', {
    readRegister: () => 0,
    writeRegister: () => machine.after(1000, () => seen.push(`model ${machine.now() >= 4000}`)),
  });
  machine.faults.slowDown(4);
  machine.write32(reg(0x1000), 1);
  machine.after(1500, () => seen.push('kernel'));
  machine.delay(2000);
  assert.deepEqual(seen, ['kernel']);
  machine.delay(4000);
  assert.deepEqual(seen, ['kernel', 'model true']);
});

test("the CPU's side cannot be used in hardware time", async () => {
  const { machine } = makeRig();
  const run = machine.scheduler.run('main', () => {
    machine.after(10, () => machine.read32(reg(SCRATCH)));
    machine.delay(20);
  });
  await assert.rejects(run, /hardware time/);
});
