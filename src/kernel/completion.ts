/** Completions: one side waits until the other says that something is done. */
import { List } from '../base/list.ts';
import type { Wait } from '../machine/scheduler.ts';
import { mightSleep } from './context.ts';
import type { Kernel } from './kernel.ts';
import { MAX_SCHEDULE_TIMEOUT, Waiter } from './waiter.ts';

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
  /** @internal A waiter in no use. */
  spare: CompletionWaiter | null = null;
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
export function waitForCompletion(completion: Completion): Promise<void> {
  mightSleep(completion.kernel, 'wait_for_completion');
  if (tryWaitForCompletion(completion)) return Promise.resolve();
  // What it gives is nobody's business: without a limit there is nothing left of it.
  return waitDone(completion, MAX_SCHEDULE_TIMEOUT).promise as Promise<unknown> as Promise<void>;
}
/** Wait for at most `timeoutNs`. Returns the nanoseconds left, at least 1, or 0 when it timed out. Sleeps. @linux wait_for_completion_timeout */
export function waitForCompletionTimeout(completion: Completion, timeoutNs: number): Promise<number> {
  mightSleep(completion.kernel, 'wait_for_completion_timeout');
  if (tryWaitForCompletion(completion)) return Promise.resolve(Math.max(timeoutNs, 1));
  if (timeoutNs <= 0) return Promise.resolve(0);
  return waitDone(completion, timeoutNs).promise;
}
/**
 * `waitForCompletionTimeout` for a task of which nothing else goes on meanwhile (no `Promise.all`): where no other task
 * can run, time passes in the call, and what comes back is the number itself. Sleeps.
 */
export function waitForCompletionHere(completion: Completion, timeoutNs: number): number | Promise<number> {
  mightSleep(completion.kernel, 'wait_for_completion_timeout');
  if (tryWaitForCompletion(completion)) return Math.max(timeoutNs, 1);
  return timeoutNs <= 0 ? 0 : waitDone(completion, timeoutNs).here();
}
/** Not async: the one promise is that of the wait itself. */
function waitDone(completion: Completion, timeoutNs: number): Wait<number> {
  const waiter = completion.spare ?? new CompletionWaiter(completion);
  completion.spare = null;
  waiter.startTimeout(timeoutNs);
  const slept = waiter.sleepUntil(completion.describe, waiter.decide);
  completion.waiters.pushBack(waiter);
  return slept;
}

/** One task that waits for a completion; kept with it for the next one. */
class CompletionWaiter extends Waiter {
  readonly #completion: Completion;
  constructor(completion: Completion) {
    super(completion.kernel);
    this.#completion = completion;
  }
  /** Asked when it was woken: what is left of the timeout, 0 when that has passed, or undefined to sleep on. */
  readonly decide = (): number | undefined => {
    const completion = this.#completion;
    if (this.list !== null) completion.waiters.remove(this);
    if (completion.done === 0 && this.expired === false) {
      // Another task has taken what this one was woken for.
      completion.waiters.pushBack(this);
      return undefined;
    }
    const leftNs = this.finish();
    completion.spare = this;
    return tryWaitForCompletion(completion) ? leftNs : 0;
  };
}
