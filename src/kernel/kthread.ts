/** Threads of the kernel. */
import { EINTR, OK } from '../base/errno.ts';
import type { Task, Wait } from '../machine/scheduler.ts';
import { mightSleep } from './context.ts';
import type { Kernel } from './kernel.ts';
import { oops } from './panic.ts';
import type { Waiter } from './waiter.ts';

/** @linux struct task_struct */
export class KThread {
  readonly kernel: Kernel;
  readonly name: string;
  /** What its function returned; EINTR when it was stopped before it ran. */
  exitCode: number = OK;
  ended = false;
  /** @internal */
  stopWanted = false;
  /** @internal The wait in which it sleeps, when it may be woken without its condition. */
  sleeper: Waiter | null = null;
  /** @internal */
  readonly stoppers: Wait<void>[] = [];
  /** @internal */
  task: Task | null = null;

  /** @internal Use `kthreadRun`. */
  constructor(kernel: Kernel, name: string) {
    this.kernel = kernel;
    this.name = name;
  }
}

/**
 * Start a thread; it first runs when the current task waits. It ends when `fn` does, which should look at
 * `kthreadShouldStop`. A thread that throws ends the run, as an oops. @linux kthread_run, kthread_create
 */
export function kthreadRun(kernel: Kernel, name: string, fn: () => unknown): KThread {
  const thread = new KThread(kernel, name);
  thread.task = kernel.machine.scheduler.spawn(name, () => runThread(thread, fn));
  kernel.kthreads.set(thread.task, thread);
  return thread;
}
async function runThread(thread: KThread, fn: () => unknown): Promise<void> {
  try {
    if (thread.stopWanted) thread.exitCode = EINTR;
    else {
      const code = await fn();
      thread.exitCode = typeof code === 'number' ? code : OK;
    }
  } catch (error) {
    oops(thread.kernel, `thread '${thread.name}'`, error);
  }
  thread.ended = true;
  if (thread.task !== null) thread.kernel.kthreads.delete(thread.task);
  for (const wait of thread.stoppers) wait.wake();
}

/** Ask a thread to stop, wake it, and wait for its end. Returns its exit code. Sleeps. @linux kthread_stop */
export async function kthreadStop(thread: KThread): Promise<number> {
  const { kernel } = thread;
  mightSleep(kernel, 'kthread_stop');
  thread.stopWanted = true;
  wakeUpProcess(thread);
  if (!thread.ended) {
    const wait = kernel.context.wait<void>(() => `thread '${thread.name}' to stop`);
    thread.stoppers.push(wait);
    await wait.promise;
  }
  return thread.exitCode;
}
/** Whether a thread was asked to stop. @linux kthread_should_stop */
export function kthreadShouldStop(thread: KThread): boolean {
  return thread.stopWanted;
}
/** The thread that runs now, or null in other tasks. */
export function currentKthread(kernel: Kernel): KThread | null {
  const task = kernel.context.current;
  return (task === null ? undefined : kernel.kthreads.get(task)) ?? null;
}
/** Have a thread that waits for an event look at its condition again. Any context. @linux wake_up_process */
export function wakeUpProcess(thread: KThread): void {
  thread.sleeper?.wake();
}
