import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HungTaskError, LockupError } from '../scheduler.ts';
import { makeRig, RIG_LINE, reg, SCRATCH } from './rig.cases.ts';

test('a task that polls while periodic hardware goes on is locked up after 22 s', async () => {
  const { machine } = makeRig();
  const tick = machine.timer(() => tick.start(1e8));
  const run = machine.scheduler.run('poller', () => {
    tick.start(1e8);
    while (machine.read32(reg(SCRATCH)) === 0) machine.delay(1000);
  });
  await assert.rejects(run, (error: Error) => {
    assert.ok(error instanceof LockupError);
    assert.match(
      error.message,
      /task 'poller' has kept the CPU for 22\.0 s.*0x40000000 \(tester\+0x0\), which gave 0x0$/,
    );
    return true;
  });
});

test("a driver's own time-out of seconds ends its polling", async () => {
  const { machine } = makeRig();
  const polls = await machine.scheduler.run('patient', () => {
    let count = 0;
    const deadline = machine.now() + 5e9;
    while (machine.now() < deadline) {
      count++;
      machine.cpuRelax();
    }
    return count;
  });
  assert.ok(polls > 100_000 && polls < 500_000);
  assert.ok(machine.now() < 5.1e9);
});

test('polling for what an event brings ends with the event', async () => {
  const { machine, device } = makeRig();
  await machine.scheduler.run('main', () => {
    machine.after(3e9, () => {
      device.scratch = 1;
    });
    while (machine.read32(reg(SCRATCH)) === 0) machine.cpuRelax();
    assert.ok(machine.now() >= 3e9 && machine.now() < 3.001e9);
  });
});

test('a handler that polls without end is locked up, even when no task runs', async () => {
  const { machine, device } = makeRig();
  machine.enableIrqLine(RIG_LINE);
  const tick = machine.timer(() => tick.start(1e9));
  machine.setIrqHandler(() => {
    tick.start(1e9);
    while (machine.read32(reg(SCRATCH)) === 0) machine.cpuRelax();
  });
  const run = machine.scheduler.run('main', async () => {
    machine.after(100, () => device.line.pulse());
    await machine.scheduler.wait(() => 'an interrupt').promise;
  });
  await assert.rejects(run, (error: Error) => {
    assert.ok(error instanceof LockupError);
    assert.match(error.message, /an interrupt handler has kept the CPU for 22/);
    return true;
  });
});

test('the main task that waits for two minutes is hung, though periodic hardware goes on', async () => {
  const { machine } = makeRig();
  const tick = machine.timer(() => tick.start(1e9));
  const run = machine.scheduler.run('main', async () => {
    tick.start(1e9);
    await machine.scheduler.wait(() => 'a completion').promise;
  });
  await assert.rejects(run, (error: Error) => {
    assert.ok(error instanceof HungTaskError);
    assert.match(error.message, /more than 120 seconds.*'main'.*a completion/s);
    return true;
  });
});

test('a wait with a time-out may be long', async () => {
  const { machine } = makeRig();
  await machine.scheduler.run('main', async () => {
    const wait = machine.scheduler.wait<void>(() => 'the next day', true);
    const tick = machine.timer(() => tick.start(1e9));
    tick.start(1e9);
    machine.after(1000e9, () => wait.wake());
    await wait.promise;
    tick.stop();
  });
  assert.equal(machine.now(), 1000e9);
});

test('work that looks at nothing is no polling, however long', async () => {
  const { machine } = makeRig({ coherent: true });
  await machine.scheduler.run('mapper', () => {
    for (let i = 0; i < 300_000; i++) {
      machine.barrier('dma_wmb');
      machine.setInterruptsEnabled(false);
      machine.setInterruptsEnabled(true);
    }
  });
  assert.equal(machine.now(), 300_000 * 5);
});

test('tasks that wake each other do not stop time, and are reported when nothing else can happen', async () => {
  const { machine } = makeRig({ coherent: true });
  const { scheduler } = machine;
  const yieldOnce = () => {
    const wait = scheduler.wait<void>(() => 'its turn');
    wait.wake();
    return wait.promise;
  };
  let happened = false;
  await scheduler.run('patient', async () => {
    machine.after(1e6, () => {
      happened = true;
    });
    while (!happened) await yieldOnce();
  });
  const run = scheduler.run('yielder', async () => {
    while (happened) await yieldOnce();
  });
  await assert.rejects(run, (error: Error) => error instanceof LockupError && /'yielder'/.test(error.message));
});

test('sleeping for what a model brings late ends with it; what nothing brings does not sleep for ever', async () => {
  const { machine, device } = makeRig();
  const { scheduler } = machine;
  const sleep = (ns: number) => {
    const wait = scheduler.wait<void>(() => 'msleep', true);
    machine.after(ns, () => wait.wake());
    return wait.promise;
  };
  await scheduler.run('patient', async () => {
    machine.after(1e9, () => {
      device.scratch = 1;
    });
    while (machine.read32(reg(SCRATCH)) === 0) await sleep(1e6);
  });
  const run = scheduler.run('poller', async () => {
    while (machine.read32(reg(SCRATCH)) === 1) await sleep(1e6);
  });
  await assert.rejects(run, (error: Error) => error instanceof LockupError && /sleeps \(msleep\)/.test(error.message));
});
