/**
 * Spin locks, and disabling interrupts, softirqs and preemption. On one CPU nobody ever spins: taking a held lock is a
 * deadlock, which ends the run and says who holds it. Restoring or enabling interrupts is a time point.
 */
import { KernelBug } from '../base/errno.ts';
import type { Task } from '../machine/scheduler.ts';
import type { Context } from './context.ts';
import type { Kernel } from './kernel.ts';
import { callerPlace, DeadlockError, die, splat } from './panic.ts';

declare const irqFlags: unique symbol;
/** What `spinLockIrqsave` and `localIrqSave` give back: whether interrupts were disabled before. */
export type IrqFlags = boolean & { readonly [irqFlags]: true };

/** How a lock was used, as lockdep records it. */
const IN_HARDIRQ = 1;
const HARDIRQ_ON = 2;
const IN_SOFTIRQ = 4;
const SOFTIRQ_ON = 8;
const REPORTED = 16;

/** @linux spinlock_t, spin_lock_init */
export class SpinLock {
  readonly kernel: Kernel;
  readonly name: string;
  /** @linux spin_is_locked */
  locked = false;
  #task: Task | null = null;
  #serving: string | null = null;
  #place = '';
  #usage = 0;
  /** Of the CPU when it was taken last; never 0, since taking it counts. */
  #state = 0;

  constructor(kernel: Kernel, name: string) {
    this.kernel = kernel;
    this.name = name;
  }

  /** Who holds it, and where it was taken (known with `Kernel.debugLocks`): `held by task 'main' at a.ts:12`. */
  holder(): string {
    if (!this.locked) return 'not held';
    const place = this.#place === '' ? '' : ` at ${this.#place}`;
    if (this.#serving !== null) return `held by ${this.#serving}${place}`;
    const task = this.#task;
    if (task === null) return `held by code outside of any task${place}`;
    const current = this.kernel.context.current;
    const state = task.done ? ', which has ended' : task === current ? '' : ', which waits';
    return `held by task '${task.name}'${state}${place}`;
  }

  /** @internal */
  acquire(): void {
    const context = this.kernel.context;
    if (this.locked === true) this.#deadlock(context);
    this.locked = true;
    const serving = context.serving;
    this.#task = context.current;
    this.#serving = serving.length === 0 ? null : (serving[serving.length - 1] as string);
    context.held.push(this);
    if (this.kernel.debugLocks === true) this.#place = callerPlace();
    this.#recordUsage(context);
  }
  /** @internal */
  release(): void {
    const held = this.kernel.context.held;
    if (this.locked === false) {
      splat(this.kernel, 'lock', `BUG: spinlock already unlocked: '${this.name}'`);
      return;
    }
    // Nearly always it was taken last.
    const at = held[held.length - 1] === this ? held.length - 1 : held.lastIndexOf(this);
    if (at < 0) splat(this.kernel, 'lock', `BUG: spinlock wrong owner: '${this.name}' is ${this.holder()}`);
    else if (at === held.length - 1) held.pop();
    else held.splice(at, 1);
    this.locked = false;
  }
  /** @internal Its holder is over. */
  forceRelease(): void {
    this.locked = false;
    const held = this.kernel.context.held;
    held.splice(held.lastIndexOf(this), 1);
  }

  #deadlock(context: Context): never {
    const wanted = context.describe();
    const place = callerPlace();
    const message =
      `BUG: spinlock lockup: '${this.name}' is ${this.holder()}, and wanted in ${wanted}` +
      `${place === '' ? '' : ` at ${place}`}; on one CPU it is never released`;
    splat(this.kernel, 'deadlock', message, context.heldLines());
    const error = new DeadlockError(message);
    die(this.kernel, error);
    throw error;
  }

  /** A lock that an interrupt takes must never be held with that interrupt enabled, whether or not it hits. */
  #recordUsage(context: Context): void {
    // In the same context as last time, it is used in the same way.
    const state = context.irqsDisabled === true ? ~context.preemptCount : context.preemptCount;
    if (state === this.#state) return;
    this.#state = state;
    let usage = this.#usage;
    if (context.inHardirq) usage |= IN_HARDIRQ;
    else {
      if (context.inSoftirq) usage |= IN_SOFTIRQ;
      if (!context.irqsDisabled) usage |= context.softirqBlocked ? HARDIRQ_ON : HARDIRQ_ON | SOFTIRQ_ON;
    }
    if (usage === this.#usage) return;
    this.#usage = usage;
    if ((usage & REPORTED) !== 0) return;
    const hard = (usage & (IN_HARDIRQ | HARDIRQ_ON)) === (IN_HARDIRQ | HARDIRQ_ON);
    const soft = (usage & (IN_SOFTIRQ | SOFTIRQ_ON)) === (IN_SOFTIRQ | SOFTIRQ_ON);
    if (!hard && !soft) return;
    this.#usage |= REPORTED;
    const what = hard ? 'HARDIRQ' : 'SOFTIRQ';
    const inside = hard ? context.inHardirq : context.inSoftirq;
    const [first, then] = inside ? [`${what}-ON-W`, `IN-${what}-W`] : [`IN-${what}-W`, `${what}-ON-W`];
    splat(
      this.kernel,
      'lock-usage',
      `WARNING: inconsistent lock state: '${this.name}': inconsistent {${first}} -> {${then}} usage`,
      [`${context.describe()} takes it`],
    );
  }
}

/** Take a lock; preemption is off while it is held. Only for locks no interrupt takes. @linux spin_lock */
export function spinLock(lock: SpinLock): void {
  lock.kernel.context.disablePreempt();
  lock.acquire();
}
/** @linux spin_unlock */
export function spinUnlock(lock: SpinLock): void {
  lock.release();
  lock.kernel.context.enablePreempt();
}
/** Take a lock if it is free. Returns whether it was. @linux spin_trylock */
export function spinTrylock(lock: SpinLock): boolean {
  if (lock.locked) return false;
  spinLock(lock);
  return true;
}
/** Disable interrupts, then take the lock. @linux spin_lock_irq */
export function spinLockIrq(lock: SpinLock): void {
  lock.kernel.context.disableIrqs();
  spinLock(lock);
}
/** Release, and enable interrupts whatever they were before: a time point. @linux spin_unlock_irq */
export function spinUnlockIrq(lock: SpinLock): void {
  lock.release();
  const context = lock.kernel.context;
  context.enableIrqs();
  context.enablePreempt();
}
/** Disable interrupts, take the lock, and return what to restore. @linux spin_lock_irqsave */
export function spinLockIrqsave(lock: SpinLock): IrqFlags {
  const context = lock.kernel.context;
  const flags = context.irqsDisabled;
  if (flags === false) context.disableIrqs();
  context.disablePreempt();
  lock.acquire();
  return flags as IrqFlags;
}
/** Release, and restore the interrupt flag: a time point when that enables interrupts. @linux spin_unlock_irqrestore */
export function spinUnlockIrqrestore(lock: SpinLock, flags: IrqFlags): void {
  lock.release();
  const context = lock.kernel.context;
  if (flags === false) context.enableIrqs();
  else context.disableIrqs();
  context.enablePreempt();
}
/** Disable softirqs, then take the lock. @linux spin_lock_bh */
export function spinLockBh(lock: SpinLock): void {
  lock.kernel.context.disableBh();
  spinLock(lock);
}
/** Release, and let softirqs run that became pending. @linux spin_unlock_bh */
export function spinUnlockBh(lock: SpinLock): void {
  spinUnlock(lock);
  localBhEnable(lock.kernel);
}
/** A `KernelBug` unless the lock is held. @linux assert_spin_locked */
export function assertSpinLocked(lock: SpinLock): void {
  if (lock.locked === false)
    throw new KernelBug(`lock '${lock.name}' must be held in ${lock.kernel.context.describe()}`);
}

/** Disable interrupts, and return what to restore. @linux local_irq_save */
export function localIrqSave(kernel: Kernel): IrqFlags {
  const flags = kernel.context.irqsDisabled;
  kernel.context.setIrqsDisabled(true);
  return flags as IrqFlags;
}
/** A time point when it enables interrupts. @linux local_irq_restore */
export function localIrqRestore(kernel: Kernel, flags: IrqFlags): void {
  kernel.context.setIrqsDisabled(flags);
}
/** @linux local_irq_disable */
export function localIrqDisable(kernel: Kernel): void {
  kernel.context.setIrqsDisabled(true);
}
/** A time point. @linux local_irq_enable */
export function localIrqEnable(kernel: Kernel): void {
  kernel.context.setIrqsDisabled(false);
}
/** Keep softirqs (tasklets, timers) from running; nests. @linux local_bh_disable */
export function localBhDisable(kernel: Kernel): void {
  kernel.context.disableBh();
}
/** Let softirqs run again, those that are pending at once. Not with interrupts disabled. @linux local_bh_enable */
export function localBhEnable(kernel: Kernel): void {
  const context = kernel.context;
  if (context.inHardirq || context.irqsDisabled) {
    splat(kernel, 'context-imbalance', 'WARNING: local_bh_enable in hardirq context or with interrupts disabled');
  }
  context.enableBh();
  if (!context.irqsDisabled) kernel.softirqs.runPending();
}
/** Forbid switching to another task; nests. @linux preempt_disable */
export function preemptDisable(kernel: Kernel): void {
  kernel.context.disablePreempt();
}
/** @linux preempt_enable */
export function preemptEnable(kernel: Kernel): void {
  kernel.context.enablePreempt();
}
