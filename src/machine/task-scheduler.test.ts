import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ForeignAwaitError, LockupError, type Wait } from './scheduler.ts';
import { type SchedulerHost, TaskScheduler } from './task-scheduler.ts';

/** A host whose only events are wakes at given times. */
class Host implements SchedulerHost {
  time = 0;
  inHardware = false;
  events: { due: number; run: () => void }[] = [];
  readonly scheduler = new TaskScheduler(this);
  now(): number {
    return this.time;
  }
  idle(): boolean {
    this.events.sort((a, b) => a.due - b.due);
    const event = this.events.shift();
    if (event === undefined) return false;
    this.time = event.due;
    event.run();
    return true;
  }
  happenings = 0;
  yielded(): void {}
  sleep(ns: number): Promise<void> {
    const wait = this.scheduler.wait<void>(() => 'sleep', true);
    this.events.push({ due: this.time + ns, run: () => wait.wake() });
    return wait.promise;
  }
}

test('a wake-up through many layers of async functions finds the right current task', async () => {
  const host = new Host();
  const seen: (string | undefined)[] = [];
  const deep = async (depth: number): Promise<void> => {
    if (depth === 0) await host.sleep(10);
    else await deep(depth - 1);
    seen.push(host.scheduler.current?.name);
  };
  await host.scheduler.run('main', async () => {
    const tasks = ['a', 'b', 'c'].map((name) => host.scheduler.spawn(name, () => deep(name === 'b' ? 40 : 3)));
    for (const task of tasks) await host.scheduler.join(task);
  });
  assert.deepEqual(
    [...new Set(seen)].map((name) => [name, seen.filter((other) => other === name).length]),
    [
      ['a', 4],
      ['b', 41],
      ['c', 4],
    ],
  );
});

test('several waits of one task at once (Promise.all) end one after the other', async () => {
  const host = new Host();
  const order: string[] = [];
  await host.scheduler.run('main', async () => {
    const named = async (name: string, ns: number) => {
      await host.sleep(ns);
      await null;
      await null;
      order.push(`${name} in ${host.scheduler.current?.name}`);
      await host.sleep(ns);
    };
    host.scheduler.spawn('other', () => named('z', 25));
    await Promise.all([named('x', 20), named('y', 10)]);
  });
  assert.deepEqual(order, ['y in main', 'x in main', 'z in other']);
});

test('waking twice does nothing, and a wait that is woken before it is awaited is not lost', async () => {
  const host = new Host();
  const value = await host.scheduler.run('main', async () => {
    const wait = host.scheduler.wait<number>(() => 'number');
    assert.equal(wait.pending, true);
    wait.wake(1);
    wait.wake(2);
    assert.equal(wait.pending, false);
    return wait.promise;
  });
  assert.equal(value, 1);
});

test('only a task can wait', async () => {
  const host = new Host();
  assert.throws(() => host.scheduler.wait(() => 'nothing'), /only a task can wait \(for nothing\)/);
  await host.scheduler.run('main', () => {
    host.inHardware = true;
    assert.equal(host.scheduler.current, null);
    assert.throws(() => host.scheduler.wait(() => 'nothing'), /no task runs/);
    host.inHardware = false;
  });
});

test('onSwitch tells who runs, and nobody in between', async () => {
  const host = new Host();
  const switches: (string | null)[] = [];
  host.scheduler.onSwitch = (task) => switches.push(task?.name ?? null);
  await host.scheduler.run('main', async () => {
    host.scheduler.spawn('other', () => host.sleep(5));
    await host.sleep(10);
  });
  assert.deepEqual(switches, ['main', 'other', null, 'other', null, 'main', null]);
});

test('a task that fails while nobody joins it ends the run; joining hands the error on', async () => {
  const host = new Host();
  const fail = async () => {
    await host.sleep(1);
    throw new Error('lost');
  };
  await assert.rejects(
    host.scheduler.run('main', async () => {
      host.scheduler.spawn('child', fail);
      await host.sleep(100);
    }),
    { message: 'lost' },
  );
  await host.scheduler.run('main', async () => {
    const child = host.scheduler.spawn('child', fail);
    await assert.rejects(host.scheduler.join(child), { message: 'lost' });
    assert.equal(child.done, true);
    await assert.rejects(child.result, { message: 'lost' });
  });
});

test('abort ends the run, and the machine can run again; tasks that were left go on', async () => {
  const host = new Host();
  let ended = false;
  await assert.rejects(
    host.scheduler.run('main', async () => {
      host.scheduler.spawn('survivor', async () => {
        await host.sleep(50);
        ended = true;
      });
      await host.sleep(1);
      host.scheduler.abort(new Error('panic'));
      host.scheduler.abort(new Error('second panic'));
      await host.sleep(1);
    }),
    { message: 'panic' },
  );
  assert.equal(ended, false);
  await host.scheduler.run('again', () => host.sleep(1000));
  assert.equal(ended, true);
});

test('run is not reentrant', async () => {
  const host = new Host();
  await host.scheduler.run('main', async () => {
    await assert.rejects(
      host.scheduler.run('inner', () => 1),
      /runs already/,
    );
  });
});

test('a foreign await is found also when another task could go on', async () => {
  const host = new Host();
  await assert.rejects(
    host.scheduler.run('main', async () => {
      host.scheduler.spawn('fine', () => host.sleep(5));
      await new Promise((resolve) => setTimeout(resolve, 1));
    }),
    (error: Error) => error instanceof ForeignAwaitError && /task 'main'/.test(error.message),
  );
});

test('promises that settle by themselves are no foreign await', async () => {
  const host = new Host();
  await host.scheduler.run('main', async () => {
    for (let i = 0; i < 100; i++) await Promise.resolve(i);
    await (async () => {
      for (let i = 0; i < 100; i++) await null;
    })();
    await host.sleep(1);
  });
});

test('several promises of the host at once, and one that fails', async () => {
  const host = new Host();
  const later = (ms: number, value: string) =>
    new Promise<string>((resolve) => {
      setTimeout(() => resolve(value), ms);
    });
  const { scheduler } = host;
  await scheduler.run('main', async () => {
    const values = await Promise.all([scheduler.outside(later(6, 'slow')), scheduler.outside(later(1, 'fast'))]);
    assert.deepEqual(values, ['slow', 'fast']);
    await assert.rejects(scheduler.outside(Promise.reject(new Error('disk full'))), { message: 'disk full' });
    assert.equal(scheduler.current?.name, 'main');
    await host.sleep(1);
  });
});

test('a thousand tasks that hand a token round keep their order', async () => {
  const host = new Host();
  const { scheduler } = host;
  const order: number[] = [];
  const waits: Wait<void>[] = [];
  await scheduler.run('main', async () => {
    const tasks = Array.from({ length: 1000 }, (_, i) =>
      scheduler.spawn(`t${i}`, async () => {
        const wait = scheduler.wait<void>(() => 'the token');
        waits[i] = wait;
        await wait.promise;
        order.push(i);
        waits[i + 1]?.wake();
      }),
    );
    await host.sleep(1).catch(() => {});
    waits[0]?.wake();
    for (const task of tasks) await scheduler.join(task);
  });
  assert.deepEqual(
    order,
    Array.from({ length: 1000 }, (_, i) => i),
  );
});

test('a task that sleeps and looks again without end is reported, where it sleeps', async () => {
  const host = new Host();
  const run = host.scheduler.run('poller', async () => {
    for (;;) await host.sleep(1e6);
  });
  await assert.rejects(run, (error: Error) => {
    assert.ok(error instanceof LockupError);
    assert.match(error.message, /'poller' sleeps \(sleep\) and looks again without end; for 300\.0 s/);
    assert.match(error.stack ?? '', /task-scheduler\.test\.ts/);
    return true;
  });
});

test('sleeping often is no fault while hardware goes on', async () => {
  const host = new Host();
  await host.scheduler.run('patient', async () => {
    for (let n = 0; n < 350_000; n++) {
      if (n % 200_000 === 0) host.happenings++;
      await host.sleep(1e6);
    }
  });
});
