import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readl, writel } from './io.ts';
import { IRQ_HANDLED, requestIrq } from './irq.ts';
import { localBhDisable, localBhEnable, localIrqDisable, localIrqEnable } from './locks.ts';
import { KernelPanic } from './panic.ts';
import { RIG_IRQ, rig } from './rig.cases.ts';
import { Tasklet, taskletDisable, taskletEnable, taskletHiSchedule, taskletKill, taskletSchedule } from './tasklet.ts';
import { delTimer, delTimerSync, KernelTimer, modTimer } from './timer.ts';
import { cpuRelax, msleep, udelay, usleepRange } from './wait.ts';

test('a tasklet scheduled in an interrupt runs in softirq context, with interrupts on, when the interrupt is over', async () => {
  const { kernel, regs } = rig();
  const order: string[] = [];
  await kernel.run(() => {
    const tasklet = new Tasklet(kernel, () => {
      const { context } = kernel;
      order.push(`${context.kind} ${context.irqsDisabled} ${context.inSoftirq} ${context.inTask}`);
    });
    const handler = () => {
      taskletSchedule(tasklet);
      taskletSchedule(tasklet);
      order.push(`${kernel.context.kind} ${kernel.context.irqsDisabled} ${kernel.context.inHardirq}`);
      return IRQ_HANDLED;
    };
    requestIrq(kernel, RIG_IRQ + 1, handler, 0, 'edge', null);
    writel(0, regs, 0xc);
    readl(regs, 0);
    order.push(kernel.context.kind);
  });
  assert.deepEqual(order, ['hardirq true true', 'softirq false true false', 'process']);
});

test('another interrupt preempts a tasklet at its time points, and its tasklet waits for the first', async () => {
  const { kernel, regs } = rig();
  const order: string[] = [];
  await kernel.run(() => {
    const second = new Tasklet(kernel, () => order.push('second'));
    const first = new Tasklet(kernel, () => {
      order.push('first begins');
      writel(0, regs, 0xc);
      readl(regs, 0);
      order.push('first ends');
    });
    const handler = () => {
      order.push(`irq in ${kernel.context.kind}`);
      taskletSchedule(second);
      return IRQ_HANDLED;
    };
    requestIrq(kernel, RIG_IRQ + 1, handler, 0, 'edge', null);
    taskletSchedule(first);
    readl(regs, 0);
  });
  assert.deepEqual(order, ['first begins', 'irq in hardirq', 'first ends', 'second']);
});

test('scheduled in process context, it runs at the next time point, or when softirqs are enabled', async () => {
  const { kernel } = rig();
  let runs = 0;
  await kernel.run(async () => {
    const tasklet = new Tasklet(kernel, () => runs++);
    taskletSchedule(tasklet);
    assert.equal(runs, 0);
    cpuRelax(kernel);
    assert.equal(runs, 1);

    localBhDisable(kernel);
    localBhDisable(kernel);
    taskletSchedule(tasklet);
    udelay(kernel, 10);
    localBhEnable(kernel);
    assert.equal(runs, 1);
    localBhEnable(kernel);
    assert.equal(runs, 2);

    localIrqDisable(kernel);
    taskletSchedule(tasklet);
    udelay(kernel, 10);
    assert.equal(runs, 2);
    localIrqEnable(kernel);
    assert.equal(runs, 3);

    taskletSchedule(tasklet);
    await msleep(kernel, 1);
    assert.equal(runs, 4);
  });
});

test('high-priority tasklets run before timers, timers before other tasklets', async () => {
  const { kernel } = rig();
  const order: string[] = [];
  await kernel.run(() => {
    const timer = new KernelTimer(kernel, () => order.push('timer'), 't');
    const low = new Tasklet(kernel, () => order.push('low'));
    const high = new Tasklet(kernel, () => order.push('high'));
    localBhDisable(kernel);
    modTimer(timer, 100);
    taskletSchedule(low);
    taskletHiSchedule(high);
    udelay(kernel, 1);
    localBhEnable(kernel);
  });
  assert.deepEqual(order, ['high', 'timer', 'low']);
});

test('ten thousand tasklets run once each, in the order scheduled', async () => {
  const { kernel } = rig();
  const order: number[] = [];
  await kernel.run(() => {
    for (let i = 0; i < 10_000; i++) taskletSchedule(new Tasklet(kernel, () => order.push(i)));
    cpuRelax(kernel);
  });
  assert.equal(order.length, 10_000);
  assert.ok(order.every((value, i) => value === i));
});

test('a tasklet that reschedules itself for ever is left to ksoftirqd, and tasks and time go on', async () => {
  const { kernel } = rig();
  let runs = 0;
  await kernel.run(async () => {
    const tasklet: Tasklet = new Tasklet(kernel, () => {
      if (++runs < 100_000) taskletSchedule(tasklet);
    });
    taskletSchedule(tasklet);
    cpuRelax(kernel);
    assert.equal(runs, 10, 'the kernel restarts ten times at once');
    assert.equal(kernel.softirqs.deferrals, 1);
    await usleepRange(kernel, 10, 10);
    assert.ok(runs > 100 && runs < 100_000);
    runs = 100_000;
    await msleep(kernel, 1);
  });
});

test('a disabled tasklet keeps until it is enabled; killing waits until it has run', async () => {
  const { kernel, splats } = rig();
  let runs = 0;
  await kernel.run(async () => {
    const tasklet = new Tasklet(kernel, () => runs++, 'mine');
    taskletDisable(tasklet);
    taskletDisable(tasklet);
    taskletSchedule(tasklet);
    await msleep(kernel, 1);
    taskletEnable(tasklet);
    await msleep(kernel, 1);
    assert.equal(runs, 0);
    taskletEnable(tasklet);
    await taskletKill(tasklet);
    assert.equal(runs, 1);
    await taskletKill(tasklet);
    taskletEnable(tasklet);
  });
  assert.deepEqual(splats(), ["WARNING: tasklet_enable of 'mine', which is not disabled"]);
});

test('killing a disabled tasklet hangs, and the report says why', async () => {
  const { kernel } = rig();
  const run = kernel.run(async () => {
    const tasklet = new Tasklet(kernel, () => {}, 'mine');
    taskletDisable(tasklet);
    taskletSchedule(tasklet);
    await taskletKill(tasklet);
  });
  await assert.rejects(run, /task 'main' waits.*for tasklet 'mine' to have run, which is disabled/);
});

test('a tasklet that throws ends the run, and the other tasklets do not run', async () => {
  const { kernel } = rig();
  let others = 0;
  const run = kernel.run(async () => {
    taskletSchedule(
      new Tasklet(
        kernel,
        () => {
          throw new RangeError('ring overrun');
        },
        'ring',
      ),
    );
    taskletSchedule(new Tasklet(kernel, () => others++));
    await msleep(kernel, 1);
  });
  await assert.rejects(run, (error: Error) => {
    assert.ok(error instanceof KernelPanic);
    assert.match(error.message, /Fatal exception in interrupt: tasklet 'ring': RangeError: ring overrun/);
    return true;
  });
  assert.equal(others, 0);
  assert.match(kernel.log.toString(), /in tasklet 'ring', softirq context, tasklet 'ring'/);
});

test('timers fire in softirq context, in order of their time, and can be moved and stopped', async () => {
  const { kernel } = rig();
  const fired: string[] = [];
  await kernel.run(async () => {
    const make = (name: string) =>
      new KernelTimer(kernel, () => fired.push(`${name} ${kernel.machine.now()} ${kernel.context.kind}`), name);
    const [a, b, c] = [make('a'), make('b'), make('c')];
    const start = kernel.machine.now();
    assert.equal(modTimer(a, 3e6), false);
    modTimer(b, 1e6);
    modTimer(c, 2e6);
    assert.equal(modTimer(b, 4e6), true, 'it was pending');
    assert.equal(delTimer(c), true);
    assert.equal(delTimer(c), false);
    await msleep(kernel, 10);
    assert.equal(a.pending, false);
    assert.equal(delTimerSync(a), false);
    assert.deepEqual(
      fired.map((text) => text.split(' ')[0]),
      ['a', 'b'],
    );
    for (const [i, due] of [3e6, 4e6].entries()) {
      const [, at, context] = (fired[i] as string).split(' ');
      assert.ok(Number(at) >= start + due && Number(at) < start + due + 1000);
      assert.equal(context, 'softirq');
    }
  });
});

test('a timer that is due but was not served yet can still be stopped', async () => {
  const { kernel } = rig();
  let fired = 0;
  await kernel.run(async () => {
    const timer = new KernelTimer(kernel, () => fired++);
    localBhDisable(kernel);
    modTimer(timer, 100);
    udelay(kernel, 10);
    assert.equal(delTimer(timer), true);
    localBhEnable(kernel);
    await msleep(kernel, 1);
  });
  assert.equal(fired, 0);
});
