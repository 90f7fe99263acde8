import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EBUSY, EINVAL, OK } from '../base/errno.ts';
import { Device, deviceAdd, deviceDel, driverRegister } from './device.ts';
import { readl, readlRelaxed, writel } from './io.ts';
import {
  devmRequestIrq,
  disableIrq,
  enableIrq,
  freeIrq,
  IRQ_HANDLED,
  IRQ_NONE,
  IRQ_WAKE_THREAD,
  IRQF_ONESHOT,
  IRQF_SHARED,
  requestIrq,
  requestThreadedIrq,
  synchronizeIrq,
} from './irq.ts';
import { localIrqRestore, localIrqSave } from './locks.ts';
import { KernelPanic } from './panic.ts';
import { RIG_IRQ, rig } from './rig.cases.ts';
import { msleep, udelay } from './wait.ts';

test('an interrupt preempts between two register accesses, and nowhere else', async () => {
  const { kernel, regs } = rig();
  const order: string[] = [];
  await kernel.run(() => {
    requestIrq(
      kernel,
      RIG_IRQ,
      () => {
        order.push(kernel.context.kind);
        writel(0, regs, 8);
        readl(regs, 0);
        return IRQ_HANDLED;
      },
      0,
      'rig',
      null,
    );
    writel(1000, regs, 4);
    order.push('armed');
    readl(regs, 0); // pushes the write
    order.push('first read');
    for (let i = 0; i < 1e6; i++) order.length; // no time passes without time point
    for (let i = 0; i < 15; i++) readlRelaxed(regs, 0);
    order.push('sixteenth read');
  });
  assert.deepEqual(order, ['armed', 'first read', 'hardirq', 'sixteenth read']);
});

test('interrupts stay out while they are disabled, and come with the restore', async () => {
  const { kernel, regs } = rig();
  const order: string[] = [];
  await kernel.run(() => {
    const handler = () => {
      order.push('handler');
      writel(0, regs, 8);
      readl(regs, 0);
      return IRQ_HANDLED;
    };
    requestIrq(kernel, RIG_IRQ, handler, 0, 'rig', null);
    const flags = localIrqSave(kernel);
    writel(10, regs, 4);
    udelay(kernel, 100);
    order.push('before restore');
    localIrqRestore(kernel, flags);
    order.push('after restore');
  });
  assert.deepEqual(order, ['before restore', 'handler', 'after restore']);
});

test('sharers of a line are all asked, and told apart by their id', async () => {
  const { kernel, regs, device } = rig();
  const asked: unknown[] = [];
  await kernel.run(async () => {
    const handler = (_irq: number, id: unknown) => {
      asked.push(id);
      if (id !== 'b') return IRQ_NONE;
      device.line.set(false);
      return IRQ_HANDLED;
    };
    assert.equal(requestIrq(kernel, RIG_IRQ, handler, IRQF_SHARED, 'a', 'a'), OK);
    assert.equal(requestIrq(kernel, RIG_IRQ, handler, IRQF_SHARED, 'b', 'b'), OK);
    assert.equal(requestIrq(kernel, RIG_IRQ, handler, 0, 'c', 'c'), EBUSY);
    assert.equal(requestIrq(kernel, RIG_IRQ, handler, IRQF_SHARED, 'c', null), EINVAL);
    writel(10, regs, 4);
    await msleep(kernel, 1);
    freeIrq(kernel, RIG_IRQ, 'b');
    freeIrq(kernel, RIG_IRQ, 'a');
    writel(10, regs, 4);
    await msleep(kernel, 1);
  });
  assert.deepEqual(asked, ['a', 'b']);
  assert.match(kernel.log.toString(), /genirq: Flags mismatch irq 40\. 00000000 \(c\) vs\. 00000080 \(a\)/);
});

test('a line that nobody cares for is disabled after 100,000 interrupts, and said so', async () => {
  const { kernel, regs, splats } = rig();
  let calls = 0;
  await kernel.run(async () => {
    const handler = () => {
      calls++;
      return IRQ_NONE;
    };
    requestIrq(kernel, RIG_IRQ, handler, 0, 'lazy', null);
    writel(10, regs, 4);
    await msleep(kernel, 1);
  });
  assert.equal(calls, 100_000);
  assert.deepEqual(splats(), ['irq 40: nobody cared (try booting with the "irqpoll" option)']);
  assert.match(kernel.log.toString(), /handlers:\n.*\[lazy\]\n.*Disabling IRQ #40/);
});

test('one handled interrupt in a thousand keeps a line alive', async () => {
  const { kernel, regs, device, splats } = rig();
  let calls = 0;
  await kernel.run(async () => {
    const handler = () => {
      if (++calls === 220_000) device.line.set(false);
      return calls % 900 === 0 ? IRQ_HANDLED : IRQ_NONE;
    };
    requestIrq(kernel, RIG_IRQ, handler, 0, 'mostly', null);
    writel(10, regs, 4);
    await msleep(kernel, 1);
  });
  assert.deepEqual([calls, splats()], [220_000, []]);
});

test('disabling nests, and what came meanwhile is delivered when the line is enabled', async () => {
  const { kernel, regs, splats } = rig();
  let calls = 0;
  await kernel.run(() => {
    const handler = () => {
      calls++;
      return IRQ_HANDLED;
    };
    requestIrq(kernel, RIG_IRQ + 1, handler, 0, 'edge', null);
    disableIrq(kernel, RIG_IRQ + 1);
    disableIrq(kernel, RIG_IRQ + 1);
    writel(0, regs, 0xc);
    readl(regs, 0);
    enableIrq(kernel, RIG_IRQ + 1);
    readl(regs, 0);
    assert.equal(calls, 0);
    enableIrq(kernel, RIG_IRQ + 1);
    readl(regs, 0);
    assert.equal(calls, 1);
    enableIrq(kernel, RIG_IRQ + 1);
  });
  assert.deepEqual(splats(), ['WARNING: Unbalanced enable for IRQ 41']);
});

test('a one-shot thread sleeps with its line masked, and synchronizeIrq waits for it', async () => {
  const { kernel, regs, device } = rig();
  const order: string[] = [];
  await kernel.run(async () => {
    const thread = async () => {
      order.push(`thread in ${kernel.context.kind}`);
      await msleep(kernel, 5);
      device.line.set(false);
      order.push('thread done');
      return IRQ_HANDLED;
    };
    assert.equal(requestThreadedIrq(kernel, RIG_IRQ, null, thread, 0, 'bad', null), EINVAL);
    assert.equal(requestThreadedIrq(kernel, RIG_IRQ, null, thread, IRQF_ONESHOT, 'good', null), OK);
    writel(10, regs, 4);
    await msleep(kernel, 1);
    await synchronizeIrq(kernel, RIG_IRQ);
    order.push('synchronized');
    writel(10, regs, 4);
    await msleep(kernel, 20);
  });
  assert.deepEqual(order.slice(0, 3), ['thread in process', 'thread done', 'synchronized']);
  assert.equal(order.length, 5, 'the line works again afterwards');
});

test('a handler without thread function that wakes one is reported', async () => {
  const { kernel, regs, splats } = rig();
  await kernel.run(() => {
    requestIrq(kernel, RIG_IRQ + 1, () => IRQ_WAKE_THREAD, 0, 'edge', null);
    writel(0, regs, 0xc);
    readl(regs, 0);
  });
  assert.deepEqual(splats(), ['IRQ 41 device edge returned IRQ_WAKE_THREAD but no thread function available.']);
});

test('a handler that throws ends the run with a panic, and the interrupted code does not see the exception', async () => {
  const { kernel, regs, splats } = rig();
  const original = new TypeError('desc is null');
  let caught: unknown = null;
  const run = kernel.run(() => {
    const handler = () => {
      throw original;
    };
    requestIrq(kernel, RIG_IRQ + 1, handler, 0, 'edge', null);
    try {
      writel(0, regs, 0xc);
      readl(regs, 0);
    } catch (error) {
      caught = error;
    }
    return msleep(kernel, 1);
  });
  await assert.rejects(run, (error: Error) => error instanceof KernelPanic && error.cause === original);
  assert.notEqual(caught, original);
  assert.equal(splats()[0], 'Internal error: Oops: TypeError: desc is null');
  assert.match(kernel.log.toString(), /Kernel panic - not syncing: Fatal exception in interrupt: irq 41 'edge'/);
  await assert.rejects(
    kernel.run(() => 1),
    KernelPanic,
  );
});

test('a handler that is async, or returns nonsense, is told so', async () => {
  const { kernel, regs } = rig();
  const run = kernel.run(async () => {
    const handler = (async () => IRQ_HANDLED) as unknown as () => 1;
    requestIrq(kernel, RIG_IRQ + 1, handler, 0, 'edge', null);
    writel(0, regs, 0xc);
    await msleep(kernel, 1);
  });
  await assert.rejects(run, /the handler is async: it may not sleep/);
  const other = rig();
  await other.kernel.run(async () => {
    requestIrq(other.kernel, RIG_IRQ + 1, (() => undefined) as unknown as () => 1, 0, 'edge', null);
    writel(0, other.regs, 0xc);
    await msleep(other.kernel, 1);
  });
  assert.match(other.splats()[0] as string, /irq event 41: bogus return value undefined of 'edge'/);
});

test('a managed request is undone when the driver is unbound', async () => {
  const { kernel, regs } = rig();
  let calls = 0;
  await kernel.run(async () => {
    const dev = new Device(kernel, 'dev');
    await driverRegister(kernel, {
      name: 'dev',
      probe: (dev) =>
        devmRequestIrq(
          dev,
          RIG_IRQ + 1,
          () => {
            calls++;
            return IRQ_HANDLED;
          },
          0,
          null,
          null,
        ),
    });
    await deviceAdd(dev);
    writel(0, regs, 0xc);
    readl(regs, 0);
    assert.equal(calls, 1);
    await deviceDel(dev);
    writel(0, regs, 0xc);
    readl(regs, 0);
    assert.equal(calls, 1);
  });
});

test('a line that the machine does not have is refused with EINVAL', async () => {
  const { kernel } = rig();
  await kernel.run(() => {
    for (const irq of [-1, 1.5, 2048, 99_999]) {
      assert.equal(
        requestIrq(kernel, irq, () => IRQ_HANDLED, 0, 'nowhere', null),
        EINVAL,
      );
    }
  });
});

test('an oops is reported where it was thrown, not where the interrupt came', async () => {
  const { kernel, regs } = rig();
  let thrownAt = '';
  const handler = () => {
    const error = new TypeError('desc is null');
    thrownAt = /irq\.test\.ts:\d+/.exec(error.stack ?? '')?.[0] ?? 'no place';
    throw error;
  };
  const run = kernel.run(() => {
    requestIrq(kernel, RIG_IRQ, handler, 0, 'rig', null);
    writel(100, regs, 4);
    for (let i = 0; i < 10; i++) readl(regs, 0);
  });
  await assert.rejects(run, /Fatal exception in interrupt/);
  assert.ok(kernel.splats[0]?.place.endsWith(thrownAt), `${kernel.splats[0]?.place} instead of ${thrownAt}`);
});
