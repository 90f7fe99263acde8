/** Wait queues, sleeping, and time. */
import { List } from '../base/list.ts';
import { mightSleep } from './context.ts';
import type { Kernel } from './kernel.ts';
import { giveWaiter, MAX_SCHEDULE_TIMEOUT, takeWaiter, type Waiter } from './waiter.ts';

/** @linux wait_queue_head_t, init_waitqueue_head */
export class WaitQueue {
  readonly kernel: Kernel;
  readonly name: string;
  /** @internal */
  readonly waiters: List<Waiter>;

  constructor(kernel: Kernel, name = 'unnamed') {
    this.kernel = kernel;
    this.name = name;
    this.waiters = new List<Waiter>(name);
  }
  /** @internal */
  readonly describe = (): string => `wait queue '${this.name}'`;
}

/** Have all that wait look at their condition again. Any context. @linux wake_up, wake_up_all, wake_up_interruptible */
export function wakeUp(queue: WaitQueue): void {
  for (let left = queue.waiters.length; left > 0; left--) queue.waiters.shift()?.wake();
}
/** The same: waits here are never exclusive. */
export function wakeUpAll(queue: WaitQueue): void {
  wakeUp(queue);
}
/** Whether somebody waits. @linux waitqueue_active */
export function waitqueueActive(queue: WaitQueue): boolean {
  return !queue.waiters.isEmpty;
}
/**
 * Wait until `condition()` holds, which is asked at first and after each wake-up. `what` says what for, in hung-task
 * reports. Sleeps. @linux wait_event, wait_event_interruptible
 */
export async function waitEvent(queue: WaitQueue, condition: () => boolean, what?: string): Promise<void> {
  mightSleep(queue.kernel, 'wait_event');
  if (!condition()) await waitUntil(queue, condition, MAX_SCHEDULE_TIMEOUT, what);
}
/**
 * The same for at most `timeoutNs`. Returns the nanoseconds left, at least 1 when the condition holds, or 0.
 * @linux wait_event_timeout, wait_event_interruptible_timeout
 */
export async function waitEventTimeout(
  queue: WaitQueue,
  condition: () => boolean,
  timeoutNs: number,
  what?: string,
): Promise<number> {
  mightSleep(queue.kernel, 'wait_event_timeout');
  if (condition()) return Math.max(timeoutNs, 1);
  if (timeoutNs <= 0) return 0;
  return waitUntil(queue, condition, timeoutNs, what);
}
async function waitUntil(
  queue: WaitQueue,
  condition: () => boolean,
  timeoutNs: number,
  what?: string,
): Promise<number> {
  const { kernel, waiters } = queue;
  const waiter = takeWaiter(kernel);
  const describe = what === undefined ? queue.describe : () => what;
  const task = kernel.context.current;
  const thread = task === null ? undefined : kernel.kthreads.get(task);
  waiter.startTimeout(timeoutNs);
  if (thread !== undefined) thread.sleeper = waiter;
  let holds: boolean;
  let leftNs: number;
  try {
    do {
      const sleep = waiter.sleep(describe);
      waiters.pushBack(waiter);
      await sleep;
      if (waiter.list !== null) waiters.remove(waiter);
      holds = condition();
    } while (!holds && !waiter.expired);
  } finally {
    leftNs = waiter.finish();
    if (thread !== undefined) thread.sleeper = null;
    giveWaiter(kernel, waiter);
  }
  return holds ? leftNs : 0;
}

async function sleepNs(kernel: Kernel, ns: number, what: () => string): Promise<void> {
  const waiter = takeWaiter(kernel);
  waiter.startTimeout(ns);
  await waiter.sleep(what);
  waiter.finish();
  giveWaiter(kernel, waiter);
}
/** Sleep for `ms` milliseconds. @linux msleep, ssleep */
export async function msleep(kernel: Kernel, ms: number): Promise<void> {
  mightSleep(kernel, 'msleep');
  await sleepNs(kernel, ms * 1e6, () => `msleep(${ms})`);
}
/** Sleep for at least `minUs` microseconds, and not longer than `maxUs`. @linux usleep_range, fsleep */
export async function usleepRange(kernel: Kernel, minUs: number, maxUs: number): Promise<void> {
  mightSleep(kernel, 'usleep_range');
  await sleepNs(kernel, minUs * 1000, () => `usleep_range(${minUs}, ${maxUs})`);
}
/** Let the other tasks run that can. @linux schedule, cond_resched, yield */
export async function schedule(kernel: Kernel): Promise<void> {
  mightSleep(kernel, 'schedule');
  const turn = kernel.context.wait<void>(waitsForCpu);
  turn.wake();
  await turn.promise;
}
const waitsForCpu = (): string => 'the CPU';

/** Busy-wait for `us` microseconds: a time point. Any context. @linux udelay */
export function udelay(kernel: Kernel, us: number): void {
  kernel.machine.delay(us * 1000);
}
/** Busy-wait for `ns` nanoseconds: a time point. @linux ndelay */
export function ndelay(kernel: Kernel, ns: number): void {
  kernel.machine.delay(ns);
}
/** Busy-wait for `ms` milliseconds: a time point. @linux mdelay */
export function mdelay(kernel: Kernel, ms: number): void {
  kernel.machine.delay(ms * 1e6);
}
/** For polling loops: a little time passes. A time point. @linux cpu_relax */
export function cpuRelax(kernel: Kernel): void {
  kernel.machine.cpuRelax();
}
/** Nanoseconds since start. @linux ktime_get, ktime_get_ns */
export function ktimeGet(kernel: Kernel): number {
  return kernel.machine.now();
}
