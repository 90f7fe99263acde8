import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EINTR } from '../base/errno.ts';
import { HungTaskError } from '../machine/scheduler.ts';
import {
  Completion,
  complete,
  completeAll,
  completionDone,
  reinitCompletion,
  tryWaitForCompletion,
  waitForCompletion,
  waitForCompletionTimeout,
} from './completion.ts';
import { currentKthread, kthreadRun, kthreadShouldStop, kthreadStop } from './kthread.ts';
import { KernelPanic } from './panic.ts';
import { rig } from './rig.cases.ts';
import { Tasklet, taskletSchedule } from './tasklet.ts';
import { KernelTimer, modTimer } from './timer.ts';
import {
  ktimeGet,
  mdelay,
  msleep,
  ndelay,
  schedule,
  usleepRange,
  WaitQueue,
  waitEvent,
  waitEventTimeout,
  waitqueueActive,
  wakeUp,
} from './wait.ts';
import {
  cancelDelayedWorkSync,
  cancelWork,
  cancelWorkSync,
  DelayedWork,
  flushDelayedWork,
  flushWork,
  modDelayedWork,
  scheduleDelayedWork,
  scheduleWork,
  Work,
} from './workqueue.ts';

test('a completion counts: each complete lets one wait pass, completeAll all of them', async () => {
  const { kernel } = rig();
  await kernel.run(async () => {
    const done = new Completion(kernel, 'done');
    complete(done);
    complete(done);
    await waitForCompletion(done);
    assert.equal(completionDone(done), true);
    await waitForCompletion(done);
    assert.equal(completionDone(done), false);
    assert.equal(tryWaitForCompletion(done), false);
    completeAll(done);
    for (let i = 0; i < 3; i++) await waitForCompletion(done);
    assert.equal(completionDone(done), true);
    reinitCompletion(done);
    assert.equal(await waitForCompletionTimeout(done, 1000), 0);
  });
});

test('waits pass in the order in which they began, one for each complete', async () => {
  const { kernel } = rig();
  const order: string[] = [];
  await kernel.run(async () => {
    const done = new Completion(kernel);
    for (const name of ['a', 'b', 'c']) {
      kernel.machine.scheduler.spawn(name, async () => {
        await waitForCompletion(done);
        order.push(name);
      });
    }
    await schedule(kernel);
    complete(done);
    await msleep(kernel, 1);
    assert.deepEqual(order, ['a']);
    completeAll(done);
    await msleep(kernel, 1);
  });
  assert.deepEqual(order, ['a', 'b', 'c']);
});

test('a wait with timeout says how much is left, and 0 when nothing came', async () => {
  const { kernel } = rig();
  await kernel.run(async () => {
    const done = new Completion(kernel);
    const timer = new KernelTimer(kernel, () => complete(done));
    const start = ktimeGet(kernel);
    assert.equal(await waitForCompletionTimeout(done, 5e6), 0);
    assert.equal(ktimeGet(kernel) - start, 5e6);
    modTimer(timer, 2e6);
    const left = await waitForCompletionTimeout(done, 5e6);
    assert.ok(left > 2.9e6 && left <= 3e6, `${left}`);
    complete(done);
    assert.equal(await waitForCompletionTimeout(done, 7), 7);
    assert.equal(await waitForCompletionTimeout(done, 0), 0);
    complete(done);
    assert.equal(await waitForCompletionTimeout(done, 0), 1);
    // The cancelled timeouts and recycled waiters disturb nobody.
    await msleep(kernel, 100);
    assert.equal(completionDone(done), false);
  });
});

test('a wait that was timed out is not woken in place of another', async () => {
  const { kernel } = rig();
  await kernel.run(async () => {
    const done = new Completion(kernel);
    const results: number[] = [];
    const first = kernel.machine.scheduler.spawn('first', async () => {
      results[0] = await waitForCompletionTimeout(done, 1e6);
    });
    const second = kernel.machine.scheduler.spawn('second', async () => {
      results[1] = await waitForCompletionTimeout(done, 10e6);
    });
    await msleep(kernel, 2);
    complete(done);
    await kernel.machine.scheduler.join(first);
    await kernel.machine.scheduler.join(second);
    assert.equal(results[0], 0);
    assert.ok((results[1] as number) > 0);
  });
});

test('completed by a tasklet a hundred thousand times', async () => {
  const { kernel } = rig();
  let count = 0;
  await kernel.run(async () => {
    const done = new Completion(kernel, 'hot');
    const tasklet = new Tasklet(kernel, () => complete(done), 'hot');
    for (; count < 100_000; count++) {
      taskletSchedule(tasklet);
      await waitForCompletion(done);
    }
  });
  assert.equal(count, 100_000);
});

test('a completion that never comes is reported in its own words', async () => {
  const { kernel } = rig();
  const run = kernel.run(async () => {
    const done = new Completion(kernel, 'dma');
    done.waitsFor = () => '3 descriptors submitted on dma0chan1, issue_pending never called';
    await waitForCompletion(done);
  });
  await assert.rejects(run, (error: Error) => {
    assert.ok(error instanceof HungTaskError);
    assert.equal(error.waits[0]?.waitsFor, '3 descriptors submitted on dma0chan1, issue_pending never called');
    return true;
  });
});

test('waitEvent looks at its condition again at each wake-up', async () => {
  const { kernel } = rig();
  await kernel.run(async () => {
    const queue = new WaitQueue(kernel, 'q');
    let value = 0;
    let asked = 0;
    const waiter = kernel.machine.scheduler.spawn('waiter', () =>
      waitEvent(queue, () => {
        asked++;
        return value === 2;
      }),
    );
    await schedule(kernel);
    assert.equal(waitqueueActive(queue), true);
    for (value = 1; value <= 2; value++) {
      wakeUp(queue);
      await schedule(kernel);
    }
    await kernel.machine.scheduler.join(waiter);
    assert.equal(asked, 3);
    assert.equal(waitqueueActive(queue), false);
    assert.equal(await waitEventTimeout(queue, () => false, 1e6), 0);
    assert.equal(await waitEventTimeout(queue, () => true, 5), 5);
    setTimeoutIn(1e6, () => {
      value = 7;
      wakeUp(queue);
    });
    const left = await waitEventTimeout(queue, () => value === 7, 3e6, 'seven');
    assert.ok(left > 1.9e6 && left <= 2e6);
    function setTimeoutIn(ns: number, fn: () => void) {
      modTimer(new KernelTimer(kernel, fn), ns);
    }
  });
});

test('sleeping and busy-waiting take the time they say', async () => {
  const { kernel } = rig();
  await kernel.run(async () => {
    const took = async (fn: () => Promise<void> | void) => {
      const start = ktimeGet(kernel);
      await fn();
      return ktimeGet(kernel) - start;
    };
    assert.equal(await took(() => msleep(kernel, 20)), 20e6);
    const slept = await took(() => usleepRange(kernel, 10, 20));
    assert.ok(slept >= 10_000 && slept <= 20_000);
    assert.equal(await took(() => mdelay(kernel, 2)), 2e6);
    assert.equal(await took(() => ndelay(kernel, 50)), 50);
    // Yielding takes a moment, so that a loop over it does not stop time.
    assert.ok((await took(() => schedule(kernel))) < 1000);
  });
});

test('sleeping in an interrupt is a panic, and the interrupted task is not put to sleep', async () => {
  const { kernel } = rig();
  const run = kernel.run(async () => {
    const tasklet = new Tasklet(
      kernel,
      () => {
        void msleep(kernel, 1);
      },
      'sleepy',
    );
    taskletSchedule(tasklet);
    await msleep(kernel, 5);
  });
  await assert.rejects(run, /Attempted to sleep in interrupt: softirq context, tasklet 'sleepy'/);
  assert.deepEqual(
    kernel.splats.slice(0, 2).map((splat) => splat.kind),
    ['sleep-in-atomic', 'scheduling-while-atomic'],
  );
});

test('work runs in process context, once however often it was scheduled', async () => {
  const { kernel } = rig();
  await kernel.run(async () => {
    let runs = 0;
    const work: Work = new Work(kernel, async () => {
      assert.equal(kernel.context.kind, 'process');
      await msleep(kernel, 1);
      runs++;
    });
    assert.equal(scheduleWork(work), true);
    assert.equal(scheduleWork(work), false);
    assert.equal(await flushWork(work), true);
    assert.equal(runs, 1);
    assert.equal(await flushWork(work), false);
    scheduleWork(work);
    assert.equal(cancelWork(work), true);
    await msleep(kernel, 5);
    assert.equal(runs, 1);
  });
});

test('one work never runs twice at a time; others run while it sleeps', async () => {
  const { kernel } = rig();
  const order: string[] = [];
  await kernel.run(async () => {
    let inside = 0;
    const slow: Work = new Work(kernel, async () => {
      assert.equal(++inside, 1);
      order.push('slow begins');
      await msleep(kernel, 2);
      order.push('slow ends');
      inside--;
    });
    const quick = new Work(kernel, () => {
      order.push('quick');
    });
    scheduleWork(slow);
    scheduleWork(quick);
    await msleep(kernel, 1);
    assert.equal(scheduleWork(slow), true);
    await msleep(kernel, 10);
  });
  assert.deepEqual(order, ['slow begins', 'quick', 'slow ends', 'slow begins', 'slow ends']);
});

test('cancelWorkSync ends a work that queues itself again', async () => {
  const { kernel } = rig();
  await kernel.run(async () => {
    let runs = 0;
    const work: Work = new Work(kernel, async () => {
      runs++;
      await msleep(kernel, 1);
      scheduleWork(work);
    });
    scheduleWork(work);
    await msleep(kernel, 4.5);
    assert.ok(runs >= 4);
    assert.equal(await cancelWorkSync(work), false, 'it was not pending, but ran');
    const before = runs;
    await msleep(kernel, 10);
    assert.equal(runs, before);
  });
});

test('a thousand works in one go, half of them sleeping', async () => {
  const { kernel } = rig();
  await kernel.run(async () => {
    let runs = 0;
    const works = Array.from(
      { length: 1000 },
      (_, i) =>
        new Work(kernel, () => {
          runs++;
          return i % 2 === 0 ? undefined : msleep(kernel, 1);
        }),
    );
    for (const work of works) scheduleWork(work);
    for (const work of works) await flushWork(work);
    assert.equal(runs, 1000);
  });
});

test('delayed work waits for its time, can be moved, flushed and cancelled', async () => {
  const { kernel } = rig();
  await kernel.run(async () => {
    let ranAt = -1;
    const work = new DelayedWork(kernel, () => {
      ranAt = ktimeGet(kernel);
    });
    const start = ktimeGet(kernel);
    assert.equal(scheduleDelayedWork(work, 5e6), true);
    assert.equal(scheduleDelayedWork(work, 1e6), false);
    assert.equal(modDelayedWork(work, 2e6), true);
    await msleep(kernel, 10);
    assert.ok(ranAt - start >= 2e6 && ranAt - start < 2.1e6);
    scheduleDelayedWork(work, 5e6);
    ranAt = -1;
    await flushDelayedWork(work);
    assert.ok(ranAt >= 0);
    scheduleDelayedWork(work, 5e6);
    ranAt = -1;
    assert.equal(await cancelDelayedWorkSync(work), true);
    await msleep(kernel, 10);
    assert.equal(ranAt, -1);
    scheduleDelayedWork(work, 0);
    await flushWork(work);
    assert.ok(ranAt >= 0);
  });
});

test('a work that throws ends the run', async () => {
  const { kernel } = rig();
  const run = kernel.run(async () => {
    const work = new Work(
      kernel,
      async () => {
        throw new Error('no such channel');
      },
      'probe',
    );
    scheduleWork(work);
    await flushWork(work);
  });
  await assert.rejects(run, (error: Error) => error instanceof KernelPanic && /work 'probe'/.test(error.message));
});

test('a thread is woken from its wait to be stopped, and says how it ended', async () => {
  const { kernel } = rig();
  await kernel.run(async () => {
    const queue = new WaitQueue(kernel, 'never');
    const thread = kthreadRun(kernel, 'dmatest', async () => {
      const self = currentKthread(kernel);
      assert.ok(self !== null);
      await waitEvent(queue, () => kthreadShouldStop(self));
      return 42;
    });
    await msleep(kernel, 1);
    assert.equal(await kthreadStop(thread), 42);
    assert.equal(await kthreadStop(thread), 42, 'also when it has ended');
    const early = kthreadRun(kernel, 'early', () => assert.fail('it must not run'));
    assert.equal(await kthreadStop(early), EINTR);
  });
});
