/** Completions: one side waits until the other says that something is done. */
import { List } from '../base/list.ts';
import { mightSleep } from './context.ts';
import type { Kernel } from './kernel.ts';
import { giveWaiter, MAX_SCHEDULE_TIMEOUT, takeWaiter, type Waiter } from './waiter.ts';

/** `done` after `completeAll`: for all that will ever wait. */
const FOR_ALL = Number.POSITIVE_INFINITY;

/** @linux struct completion, init_completion */
export class Completion {
  readonly kernel: Kernel;
  readonly name: string;
  /** How many waits may pass. */
  done = 0;
  /** Says in a hung-task report what is waited for, better than the completion's name. */
  waitsFor: (() => string) | null = null;
  /** @internal */
  readonly waiters: List<Waiter>;

  constructor(kernel: Kernel, name = 'unnamed') {
    this.kernel = kernel;
    this.name = name;
    this.waiters = new List<Waiter>(name);
  }
  /** @internal */
  readonly describe = (): string => this.waitsFor?.() ?? `completion '${this.name}'`;
}

/** Let one wait pass: one that waits now, or the next. Any context. @linux complete */
export function complete(completion: Completion): void {
  completion.done++;
  completion.waiters.shift()?.wake();
}
/** Let all waits pass, also later ones, until `reinitCompletion`. Any context. @linux complete_all */
export function completeAll(completion: Completion): void {
  completion.done = FOR_ALL;
  for (let waiter = completion.waiters.shift(); waiter !== null; waiter = completion.waiters.shift()) waiter.wake();
}
/** Not done, as when it was new. Nobody may be waiting. @linux reinit_completion */
export function reinitCompletion(completion: Completion): void {
  completion.done = 0;
}
/** Whether a wait would pass at once. @linux completion_done */
export function completionDone(completion: Completion): boolean {
  return completion.done > 0;
}
/** Pass if that is possible without waiting. Returns whether it was. Any context. @linux try_wait_for_completion */
export function tryWaitForCompletion(completion: Completion): boolean {
  if (completion.done === 0) return false;
  completion.done--;
  return true;
}
/** Wait without limit. Sleeps. @linux wait_for_completion */
export async function waitForCompletion(completion: Completion): Promise<void> {
  mightSleep(completion.kernel, 'wait_for_completion');
  if (!tryWaitForCompletion(completion)) await waitDone(completion, MAX_SCHEDULE_TIMEOUT);
}
/** Wait for at most `timeoutNs`. Returns the nanoseconds left, at least 1, or 0 when it timed out. Sleeps. @linux wait_for_completion_timeout */
export function waitForCompletionTimeout(completion: Completion, timeoutNs: number): Promise<number> {
  mightSleep(completion.kernel, 'wait_for_completion_timeout');
  if (tryWaitForCompletion(completion)) return Promise.resolve(Math.max(timeoutNs, 1));
  if (timeoutNs <= 0) return Promise.resolve(0);
  // Not async itself: a promise handed on costs nothing, one awaited on the way costs three turns.
  return waitDone(completion, timeoutNs);
}
async function waitDone(completion: Completion, timeoutNs: number): Promise<number> {
  const { kernel, waiters } = completion;
  const waiter = takeWaiter(kernel);
  waiter.startTimeout(timeoutNs);
  do {
    const sleep = waiter.sleep(completion.describe);
    waiters.pushBack(waiter);
    await sleep;
    if (waiter.list !== null) waiters.remove(waiter);
    // Another task may have taken what this one was woken for.
  } while (completion.done === 0 && !waiter.expired);
  const leftNs = waiter.finish();
  giveWaiter(kernel, waiter);
  return tryWaitForCompletion(completion) ? leftNs : 0;
}
