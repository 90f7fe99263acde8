import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HungTaskError } from './scheduler.ts';
import { makeRig } from './sim/rig.cases.ts';

/** What three tasks note when one of them waits again and again, in place or with promises. */
async function story(inPlace: boolean): Promise<string[]> {
  const { machine } = makeRig();
  const { scheduler } = machine;
  const log: string[] = [];
  let turns = 0;
  const host = setInterval(() => turns++, 0);
  const waiter = async (): Promise<void> => {
    let wait = scheduler.wait<number>(() => 'a number');
    for (let i = 0; i < 3000; i++) {
      if (i > 0) {
        if (inPlace) wait.again();
        else wait = scheduler.wait<number>(() => 'a number');
      }
      const { wake } = wait;
      machine.after(100, () => wake.call(wait, i));
      const got = inPlace ? wait.here() : wait.promise;
      log.push(`${typeof got === 'number' ? got : await got} at ${machine.now()}`);
    }
  };
  const other = async (): Promise<void> => {
    for (let i = 0; i < 20; i++) {
      const wait = scheduler.wait<void>(() => 'a tick');
      machine.after(1030, () => wait.wake());
      await wait.promise;
      log.push(`tick at ${machine.now()}`);
    }
  };
  scheduler.onSwitch = (task) => log.push(task?.name ?? 'idle');
  await scheduler.run('main', async () => {
    const tasks = [scheduler.spawn('waiter', waiter), scheduler.spawn('other', other)];
    for (const task of tasks) await scheduler.join(task);
  });
  clearInterval(host);
  assert.ok(turns > 0, 'the host has its turns meanwhile');
  return log;
}

test('waiting in place is the same, event by event, as waiting with promises', async () => {
  assert.deepEqual(await story(true), await story(false));
});

test('where nobody else runs, the value comes back itself; else a promise', async () => {
  const { machine } = makeRig();
  const { scheduler } = machine;
  await scheduler.run('main', async () => {
    const alone = scheduler.wait<string>(() => 'it');
    machine.after(10, () => alone.wake('itself'));
    assert.equal(alone.here(), 'itself');
    assert.equal(await alone.promise, 'itself');
    scheduler.spawn('other', () => undefined);
    const shared = scheduler.wait<string>(() => 'it');
    machine.after(10, () => shared.wake('later'));
    const promise = shared.here();
    assert.ok(promise instanceof Promise);
    assert.equal(await promise, 'later');
    const [first, second] = [scheduler.wait<number>(() => '1'), scheduler.wait<number>(() => '2')];
    machine.after(20, () => first.wake(1));
    machine.after(10, () => second.wake(2));
    assert.deepEqual(await Promise.all([first.promise, second.here()]), [1, 2]);
  });
});

test('a condition that does not hold yet goes on waiting in place', async () => {
  const { machine } = makeRig();
  const { scheduler } = machine;
  let asked = 0;
  await scheduler.run('main', () => {
    const wait = scheduler.wait<number>(
      () => 'three looks',
      false,
      () => (++asked === 3 ? asked : undefined),
    );
    for (const ns of [10, 20, 30]) machine.after(ns, () => wait.wake(0));
    assert.equal(wait.here(), 3);
    assert.equal(machine.now(), 30);
  });
});

test('what ends the run while a task waits in place is not the task’s to catch', async () => {
  for (const [what, plan, expected] of [
    ['nothing', () => {}, HungTaskError],
    [
      'an error',
      () => {
        throw new RangeError('in hardware');
      },
      RangeError,
    ],
  ] as const) {
    const { machine } = makeRig();
    let caught = false;
    const run = machine.scheduler.run('main', async () => {
      const wait = machine.scheduler.wait<void>(() => what);
      machine.after(10, plan);
      try {
        await wait.here();
      } catch {
        caught = true;
      }
    });
    await assert.rejects(run, expected);
    assert.equal(caught, false);
  }
});
