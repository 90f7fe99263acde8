/**
 * Work: functions that run in process context, in tasks of the kernel's own. One work never runs twice at the same
 * time; several works do, while one of them sleeps.
 */
import { List, ListNode } from '../base/list.ts';
import type { Wait } from '../machine/scheduler.ts';
import { mightSleep } from './context.ts';
import type { Kernel } from './kernel.ts';
import { oops } from './panic.ts';
import { delTimer, KernelTimer, modTimer } from './timer.ts';

/** @linux struct work_struct, INIT_WORK */
export class Work extends ListNode {
  readonly kernel: Kernel;
  readonly fn: () => Promise<void> | void;
  readonly name: string;
  /** It will run (once more). @linux work_pending */
  pending = false;
  /** Its function runs, or sleeps. */
  running = false;
  /** @internal How many wait in `cancelWorkSync`: meanwhile it cannot be queued. */
  cancelling = 0;
  /** @internal Who waits until it is neither. */
  readonly flushers: Wait<void>[] = [];

  constructor(kernel: Kernel, fn: () => Promise<void> | void, name = 'unnamed') {
    super();
    this.kernel = kernel;
    this.fn = fn;
    this.name = name;
  }
}
/** Work that is queued after a delay. @linux struct delayed_work, INIT_DELAYED_WORK */
export class DelayedWork extends Work {
  /** @internal */
  readonly timer: KernelTimer;
  constructor(kernel: Kernel, fn: () => Promise<void> | void, name = 'unnamed') {
    super(kernel, fn, name);
    this.timer = new KernelTimer(kernel, () => kernel.workers.queue(this), `${name} work`);
  }
}

/** @internal The workers: as many as sleep inside a work, and one more while there is something to do. */
export class WorkerPool {
  readonly #kernel: Kernel;
  readonly #queue = new List<Work>('workqueue');
  /** A worker was started, or goes on, that will look at the queue. */
  #looking = false;
  #started = 0;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
  }
  queue(work: Work): void {
    work.pending = true;
    // The worker that runs it sees to it.
    if (work.running) return;
    this.#queue.pushBack(work);
    this.#ensureWorker();
  }
  unqueue(work: Work): void {
    work.pending = false;
    if (work.list !== null) this.#queue.remove(work);
  }
  #ensureWorker(): void {
    if (this.#looking || this.#queue.isEmpty) return;
    this.#looking = true;
    this.#kernel.machine.scheduler.spawn(`kworker/0:${this.#started++}`, this.#worker);
  }
  readonly #worker = async (): Promise<void> => {
    for (let work = this.#queue.shift(); work !== null; work = this.#queue.shift()) {
      const result = this.#begin(work);
      if (result !== null) {
        // It sleeps: the rest of the queue need not wait for it.
        this.#looking = false;
        this.#ensureWorker();
        await result;
        this.#end(work);
        if (this.#looking) return; // another worker goes on
        this.#looking = true;
      } else this.#end(work);
    }
    this.#looking = false;
  };
  /** Run the function up to its first sleep: null when it has ended. */
  #begin(work: Work): Promise<void> | null {
    work.pending = false;
    work.running = true;
    try {
      const result = work.fn();
      return result instanceof Promise ? result.catch((error) => this.#failed(work, error)) : null;
    } catch (error) {
      this.#failed(work, error);
      return null;
    }
  }
  #failed(work: Work, error: unknown): void {
    oops(this.#kernel, `work '${work.name}'`, error);
  }
  #end(work: Work): void {
    work.running = false;
    if (work.pending) {
      this.#queue.pushBack(work);
      this.#ensureWorker();
    }
    for (let flusher = work.flushers.shift(); flusher !== undefined; flusher = work.flushers.shift()) flusher.wake();
  }
}

/** Have the work run soon. Returns false when it is pending already, or being cancelled. Any context. @linux schedule_work, queue_work */
export function scheduleWork(work: Work): boolean {
  if (work.pending || work.cancelling > 0) return false;
  work.kernel.workers.queue(work);
  return true;
}
/** Wait until the work has run that is pending or runs now. Returns whether there was any. Sleeps. @linux flush_work */
export async function flushWork(work: Work): Promise<boolean> {
  mightSleep(work.kernel, 'flush_work');
  if (!work.pending && !work.running) return false;
  do await ended(work);
  while (work.pending && !work.running);
  return true;
}
/** Take a pending work off. Returns whether it was pending. Any context. @linux cancel_work */
export function cancelWork(work: Work): boolean {
  const wasPending = work.pending;
  work.kernel.workers.unqueue(work);
  return wasPending;
}
/** Take it off, and wait until it does not run. Returns whether it was pending. Sleeps. @linux cancel_work_sync */
export async function cancelWorkSync(work: Work): Promise<boolean> {
  mightSleep(work.kernel, 'cancel_work_sync');
  const wasPending = cancelWork(work);
  work.cancelling++;
  while (work.running) await ended(work);
  work.cancelling--;
  return wasPending;
}
async function ended(work: Work): Promise<void> {
  const wait = work.kernel.context.wait<void>(() => `work '${work.name}' to end`);
  work.flushers.push(wait);
  await wait.promise;
}

/** Have the work run `delayNs` from now. Returns false when it is pending already. Any context. @linux schedule_delayed_work, queue_delayed_work */
export function scheduleDelayedWork(work: DelayedWork, delayNs: number): boolean {
  if (work.pending || work.cancelling > 0) return false;
  modDelayedWork(work, delayNs);
  return true;
}
/** The same, also when it is pending. Returns whether it was. @linux mod_delayed_work */
export function modDelayedWork(work: DelayedWork, delayNs: number): boolean {
  const wasPending = cancelDelayedWork(work);
  if (work.cancelling > 0) return wasPending;
  if (delayNs > 0) {
    work.pending = true;
    modTimer(work.timer, delayNs);
  } else work.kernel.workers.queue(work);
  return wasPending;
}
/** @linux cancel_delayed_work */
export function cancelDelayedWork(work: DelayedWork): boolean {
  delTimer(work.timer);
  return cancelWork(work);
}
/** @linux cancel_delayed_work_sync */
export async function cancelDelayedWorkSync(work: DelayedWork): Promise<boolean> {
  const wasPending = delTimer(work.timer);
  return (await cancelWorkSync(work)) || wasPending;
}
/** Have it run now if its time has not come, and wait for it. Sleeps. @linux flush_delayed_work */
export async function flushDelayedWork(work: DelayedWork): Promise<boolean> {
  if (delTimer(work.timer)) work.kernel.workers.queue(work);
  return flushWork(work);
}
