/** Locks that sleep. They have an owner: who locks must unlock. */
import { List, ListNode } from '../base/list.ts';
import type { Task, Wait } from '../machine/scheduler.ts';
import { mightSleep } from './context.ts';
import type { Kernel } from './kernel.ts';
import { splat } from './panic.ts';

class MutexWaiter extends ListNode {
  readonly task: Task | null;
  readonly wait: Wait<void>;
  constructor(task: Task | null, wait: Wait<void>) {
    super();
    this.task = task;
    this.wait = wait;
  }
}

/** @linux struct mutex, mutex_init */
export class Mutex {
  readonly kernel: Kernel;
  readonly name: string;
  /** @linux mutex_is_locked */
  locked = false;
  owner: Task | null = null;
  /** @internal First come, first served; unlocking hands it over. */
  readonly waiters: List<MutexWaiter>;

  constructor(kernel: Kernel, name: string) {
    this.kernel = kernel;
    this.name = name;
    this.waiters = new List<MutexWaiter>(name);
  }
  /** @internal For hung-task reports. */
  readonly describe = (): string => `mutex '${this.name}', held by ${ownerName(this.owner)}`;
}

function ownerName(owner: Task | null): string {
  if (owner === null) return 'code outside of any task';
  return owner.done ? `task '${owner.name}', which has ended` : `task '${owner.name}'`;
}

/**
 * Lock; waits while another task holds it. Locking twice by one task never ends, and the hung-task report says so.
 * Sleeps. @linux mutex_lock
 */
export async function mutexLock(mutex: Mutex): Promise<void> {
  const kernel = mutex.kernel;
  mightSleep(kernel, 'mutex_lock');
  if (mutexTake(mutex)) return;
  const waiter = new MutexWaiter(kernel.context.current, kernel.context.wait<void>(mutex.describe));
  mutex.waiters.pushBack(waiter);
  await waiter.wait.promise;
}
/** Lock if it is free. Returns whether it was. Not from interrupts. @linux mutex_trylock */
export function mutexTrylock(mutex: Mutex): boolean {
  if (!mutex.kernel.context.inTask) {
    splat(mutex.kernel, 'lock', `WARNING: mutex_trylock of '${mutex.name}' in ${mutex.kernel.context.describe()}`);
  }
  return mutexTake(mutex);
}
function mutexTake(mutex: Mutex): boolean {
  if (mutex.locked) return false;
  mutex.locked = true;
  mutex.owner = mutex.kernel.context.current;
  return true;
}
/** Unlock; the first task that waits has it then. Unlocking what another task holds, or nobody, is reported. @linux mutex_unlock */
export function mutexUnlock(mutex: Mutex): void {
  const { kernel } = mutex;
  const current = kernel.context.current;
  if (!mutex.locked) {
    splat(kernel, 'lock', `WARNING: bad unlock balance detected: mutex '${mutex.name}' is not locked`);
    return;
  }
  if (mutex.owner !== current || !kernel.context.inTask) {
    const message = `DEBUG_LOCKS_WARN_ON(__owner_task(owner) != get_current()): mutex '${mutex.name}', held by`;
    splat(kernel, 'lock', `${message} ${ownerName(mutex.owner)}, unlocked in ${kernel.context.describe()}`);
  }
  const next = mutex.waiters.shift();
  mutex.locked = next !== null;
  mutex.owner = next === null ? null : next.task;
  next?.wait.wake();
}
