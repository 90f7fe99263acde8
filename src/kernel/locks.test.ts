import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KernelBug } from '../base/errno.ts';
import { inAtomic, inInterrupt, mightSleep } from './context.ts';
import { readl, writel } from './io.ts';
import { IRQ_HANDLED, requestIrq } from './irq.ts';
import {
  assertSpinLocked,
  localBhDisable,
  localBhEnable,
  localIrqDisable,
  localIrqEnable,
  preemptDisable,
  preemptEnable,
  SpinLock,
  spinLock,
  spinLockBh,
  spinLockIrq,
  spinLockIrqsave,
  spinTrylock,
  spinUnlock,
  spinUnlockBh,
  spinUnlockIrq,
  spinUnlockIrqrestore,
} from './locks.ts';
import { Mutex, mutexLock, mutexTrylock, mutexUnlock } from './mutex.ts';
import { DeadlockError } from './panic.ts';
import { RIG_IRQ, rig } from './rig.cases.ts';
import { Tasklet, taskletSchedule } from './tasklet.ts';
import { msleep, schedule } from './wait.ts';

/** A rig whose line 41 takes a lock in its handler. */
function lockingRig() {
  const r = rig();
  const lock = new SpinLock(r.kernel, 'chan');
  const handler = () => {
    spinLock(lock);
    spinUnlock(lock);
    return IRQ_HANDLED;
  };
  return { ...r, lock, request: () => requestIrq(r.kernel, RIG_IRQ + 1, handler, 0, 'edge', null) };
}

test('spin_lock without irqsave deadlocks when the interrupt hits inside, and says who holds it where', async () => {
  const { kernel, regs, lock, request, splats } = lockingRig();
  kernel.debugLocks = true;
  const run = kernel.run(() => {
    request();
    spinLock(lock);
    writel(0, regs, 0xc);
    readl(regs, 0);
    spinUnlock(lock);
  });
  await assert.rejects(run, (error: Error) => {
    assert.ok(error instanceof DeadlockError);
    const place = String.raw`at \S*locks\.test\.ts:\d+`;
    assert.match(
      error.message,
      new RegExp(
        `^BUG: spinlock lockup: 'chan' is held by task 'main' ${place}, ` +
          `and wanted in hardirq context, irq 41 'edge' ${place}; on one CPU it is never released$`,
      ),
    );
    return true;
  });
  assert.deepEqual(
    kernel.splats.map((splat) => splat.kind),
    ['deadlock'],
  );
  assert.equal(splats().length, 1);
});

test('the same with irqsave is right: the interrupt waits for the unlock', async () => {
  const { kernel, regs, lock, request, splats } = lockingRig();
  await kernel.run(() => {
    request();
    const flags = spinLockIrqsave(lock);
    writel(0, regs, 0xc);
    readl(regs, 0);
    spinUnlockIrqrestore(lock, flags);
    assert.equal(kernel.context.irqsDisabled, false);
  });
  assert.deepEqual(splats(), []);
});

test('a lock that an interrupt takes is found held with interrupts on, even when none hits', async () => {
  const { kernel, regs, lock, request } = lockingRig();
  await kernel.run(() => {
    request();
    spinLock(lock);
    spinUnlock(lock);
    writel(0, regs, 0xc);
    readl(regs, 0);
    spinLock(lock);
    spinUnlock(lock);
  });
  assert.deepEqual(
    kernel.splats.map((splat) => [splat.kind, splat.message]),
    [['lock-usage', "WARNING: inconsistent lock state: 'chan': inconsistent {HARDIRQ-ON-W} -> {IN-HARDIRQ-W} usage"]],
  );
});

test('a lock shared with a tasklet needs spin_lock_bh', async () => {
  for (const right of [true, false]) {
    const { kernel, regs, splats } = rig();
    const lock = new SpinLock(kernel, 'chan');
    const run = kernel.run(() => {
      const tasklet = new Tasklet(kernel, () => {
        spinLock(lock);
        spinUnlock(lock);
      });
      if (right) spinLockBh(lock);
      else spinLock(lock);
      taskletSchedule(tasklet);
      readl(regs, 0);
      if (right) spinUnlockBh(lock);
      else spinUnlock(lock);
      assert.equal(tasklet.scheduled, false);
    });
    if (right) await run;
    else await assert.rejects(run, DeadlockError);
    assert.equal(splats().length, right ? 0 : 1);
  }
});

test('taking a lock twice, and one whose holder sleeps, are deadlocks', async () => {
  const twice = rig();
  const lock = new SpinLock(twice.kernel, 'a');
  await assert.rejects(
    twice.kernel.run(() => {
      spinLock(lock);
      assert.equal(spinTrylock(lock), false);
      spinLock(lock);
    }),
    /'a' is held by task 'main', and wanted in process context, task 'main'/,
  );
  const { kernel, splats } = rig();
  const other = new SpinLock(kernel, 'b');
  await assert.rejects(
    kernel.run(async () => {
      kernel.machine.scheduler.spawn('sleeper', async () => {
        spinLock(other);
        await msleep(kernel, 5);
      });
      await msleep(kernel, 1);
      spinLock(other);
    }),
    /'b' is held by task 'sleeper', which waits, and wanted in process context, task 'main'/,
  );
  assert.deepEqual(splats().slice(0, 2), [
    'BUG: sleeping function called from invalid context at msleep',
    'BUG: scheduling while atomic: sleeper/0x00000001',
  ]);
});

test('sleeping functions report atomic context, every time, and go on', async () => {
  const { kernel, splats } = rig();
  await kernel.run(async () => {
    const lock = new SpinLock(kernel, 'chan');
    mightSleep(kernel, 'fine');
    spinLock(lock);
    assert.equal(inAtomic(kernel), true);
    assert.equal(inInterrupt(kernel), false);
    for (let i = 0; i < 2; i++) mightSleep(kernel, 'kmalloc');
    spinUnlock(lock);
    assert.equal(inAtomic(kernel), false);
    localIrqDisable(kernel);
    mightSleep(kernel, 'kmalloc');
    localIrqEnable(kernel);
    preemptDisable(kernel);
    mightSleep(kernel, 'kmalloc');
    preemptEnable(kernel);
    localBhDisable(kernel);
    assert.equal(inInterrupt(kernel), true);
    mightSleep(kernel, 'kmalloc');
    localBhEnable(kernel);
    mightSleep(kernel, 'fine');
  });
  assert.deepEqual(splats(), Array(5).fill('BUG: sleeping function called from invalid context at kmalloc'));
  const log = kernel.log.toString();
  assert.match(log, /in_atomic\(\): 1, irqs_disabled\(\): 0, process context, task 'main'/);
  assert.match(log, /preempt_count: 1, expected: 0/);
  assert.match(log, /1 lock held by main:\n.* #0: \(chan\)/);
  assert.match(log, /in_atomic\(\): 0, irqs_disabled\(\): 1/);
});

test('each task has its own preemption count and locks', async () => {
  const { kernel } = rig();
  await kernel.run(async () => {
    const lock = new SpinLock(kernel, 'mine');
    kernel.machine.scheduler.spawn('other', async () => {
      for (let i = 0; i < 3; i++) {
        assert.equal(inAtomic(kernel), false);
        await schedule(kernel);
      }
    });
    spinLock(lock);
    await schedule(kernel);
    assert.equal(inAtomic(kernel), true);
    await schedule(kernel);
    spinUnlock(lock);
    assert.equal(inAtomic(kernel), false);
  });
  assert.ok(kernel.splats.some((splat) => splat.kind === 'scheduling-while-atomic'));
});

test('a handler that returns with a lock held, or preemption off, is reported and put right', async () => {
  const { kernel, regs } = rig();
  const lock = new SpinLock(kernel, 'leaked');
  await kernel.run(() => {
    const handler = () => {
      spinLock(lock);
      return IRQ_HANDLED;
    };
    requestIrq(kernel, RIG_IRQ + 1, handler, 0, 'edge', null);
    writel(0, regs, 0xc);
    readl(regs, 0);
    assert.equal(lock.locked, false);
    assert.equal(inAtomic(kernel), false);
  });
  assert.deepEqual(
    kernel.splats.map((splat) => splat.message),
    [
      "BUG: irq 41 'edge' returned with lock 'leaked' held",
      "huh, entered irq 41 'edge' with preempt_count 0x00010000, exited with 0x00010001?",
    ],
  );
});

test('unbalanced unlocking and enabling is reported, asserting an unlocked lock a bug', async () => {
  const { kernel, splats } = rig();
  await kernel.run(() => {
    const lock = new SpinLock(kernel, 'l');
    assert.throws(() => assertSpinLocked(lock), KernelBug);
    spinLockIrq(lock);
    assertSpinLocked(lock);
    spinUnlockIrq(lock);
    spinUnlock(lock);
    localBhEnable(kernel);
  });
  assert.deepEqual(splats(), [
    "BUG: spinlock already unlocked: 'l'",
    'WARNING: preempt_enable without preempt_disable',
    'WARNING: local_bh_enable without local_bh_disable',
  ]);
});

test('joining a task with a lock held is found, although no kernel function waits', async () => {
  const { kernel, splats } = rig();
  await kernel.run(async () => {
    const lock = new SpinLock(kernel, 'l');
    const task = kernel.machine.scheduler.spawn('other', () => {});
    spinLock(lock);
    await kernel.machine.scheduler.join(task);
    spinUnlock(lock);
  });
  assert.deepEqual(splats(), ['BUG: scheduling while atomic: main/0x00000001']);
});

test('a task that ends with a lock held is noted', async () => {
  const { kernel, splats } = rig();
  await kernel.run(async () => {
    kernel.machine.scheduler.spawn('leaver', () => spinLock(new SpinLock(kernel, 'left')));
    await msleep(kernel, 1);
  });
  assert.deepEqual(splats(), ['note: leaver exited with preempt_count 1']);
});

test('a mutex serves who waits in order, and keeps its owner', async () => {
  const { kernel, splats } = rig();
  const order: string[] = [];
  await kernel.run(async () => {
    const mutex = new Mutex(kernel, 'm');
    const body = (name: string) => async () => {
      await mutexLock(mutex);
      order.push(`${name} in`);
      await msleep(kernel, 1);
      order.push(`${name} out`);
      mutexUnlock(mutex);
    };
    const tasks = ['a', 'b', 'c'].map((name) => kernel.machine.scheduler.spawn(name, body(name)));
    await schedule(kernel);
    assert.equal(mutex.owner?.name, 'a');
    assert.equal(mutexTrylock(mutex), false);
    for (const task of tasks) await kernel.machine.scheduler.join(task);
    assert.equal(mutexTrylock(mutex), true);
    mutexUnlock(mutex);
  });
  assert.deepEqual(order, ['a in', 'a out', 'b in', 'b out', 'c in', 'c out']);
  assert.deepEqual(splats(), []);
});

test('locking a mutex twice hangs, and the report names the holder', async () => {
  const { kernel } = rig();
  const run = kernel.run(async () => {
    const mutex = new Mutex(kernel, 'm');
    await mutexLock(mutex);
    await mutexLock(mutex);
  });
  await assert.rejects(run, /task 'main' waits.*for mutex 'm', held by task 'main'/);
});

test('unlocking a mutex of another, or a free one, is reported', async () => {
  const { kernel, splats } = rig();
  await kernel.run(async () => {
    const mutex = new Mutex(kernel, 'm');
    await mutexLock(mutex);
    await kernel.machine.scheduler.join(kernel.machine.scheduler.spawn('thief', () => mutexUnlock(mutex)));
    mutexUnlock(mutex);
  });
  assert.match(splats()[0] as string, /DEBUG_LOCKS_WARN_ON.*held by task 'main', unlocked in .* task 'thief'/);
  assert.match(splats()[1] as string, /bad unlock balance detected: mutex 'm' is not locked/);
});
