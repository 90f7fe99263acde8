/** Kernel timers: functions that run in softirq context at a time. */
import { List, ListNode } from '../base/list.ts';
import type { TimerHandle } from '../machine/contract.ts';
import type { Kernel } from './kernel.ts';
import { splat } from './panic.ts';
import { TIMER_SOFTIRQ } from './softirq.ts';

const key = {};
/** Timers that are due, in order. */
class DueTimers {
  readonly list = new List<KernelTimer>('due timers');
  constructor(kernel: Kernel) {
    kernel.softirqs.open(TIMER_SOFTIRQ, () => {
      for (let timer = this.list.shift(); timer !== null && kernel.dead === null; timer = this.list.shift())
        timer.run();
    });
  }
}
function makeDueTimers(kernel: Kernel): DueTimers {
  return new DueTimers(kernel);
}

/** @linux struct timer_list, timer_setup */
export class KernelTimer extends ListNode {
  readonly kernel: Kernel;
  readonly fn: () => void;
  readonly name: string;
  /** When it is due, in nanoseconds since start; of use while it is pending. */
  expiresNs = 0;
  readonly #label: string;
  readonly #due: List<KernelTimer>;
  #handle: TimerHandle | null = null;

  /** `fn` may not sleep. */
  constructor(kernel: Kernel, fn: () => void, name = 'unnamed') {
    super();
    this.kernel = kernel;
    this.fn = fn;
    this.name = name;
    this.#label = `timer '${name}'`;
    this.#due = kernel.subsystem(key, makeDueTimers).list;
  }
  /** @linux timer_pending */
  get pending(): boolean {
    return this.#handle !== null || this.list !== null;
  }
  /** @internal */
  start(delayNs: number): void {
    this.expiresNs = this.kernel.machine.now() + delayNs;
    this.#handle = this.kernel.machine.after(delayNs, this.#expired);
  }
  /** @internal Returns whether it was pending. */
  stop(): boolean {
    if (this.#handle !== null) {
      this.kernel.machine.cancel(this.#handle);
      this.#handle = null;
      return true;
    }
    if (this.list === null) return false;
    this.#due.remove(this);
    return true;
  }
  /** In hardware time: the clock's interrupt. */
  readonly #expired = (): void => {
    this.#handle = null;
    this.#due.pushBack(this);
    this.kernel.softirqs.raiseFromHardware(TIMER_SOFTIRQ);
  };
  /** @internal */
  run(): void {
    this.kernel.softirqs.call(this.#label, this.fn);
  }
}

/** Start, or move, a timer to `delayNs` from now. Returns whether it was pending. Any context. @linux mod_timer, add_timer */
export function modTimer(timer: KernelTimer, delayNs: number): boolean {
  const wasPending = timer.stop();
  timer.start(delayNs);
  return wasPending;
}
/** Stop a timer. Returns whether it was pending. Any context. @linux timer_delete, del_timer */
export function delTimer(timer: KernelTimer): boolean {
  return timer.stop();
}
/**
 * Stop a timer whose function then runs nowhere. Returns whether it was pending. Not from interrupts.
 * @linux timer_delete_sync, del_timer_sync
 */
export function delTimerSync(timer: KernelTimer): boolean {
  if (timer.kernel.context.inHardirq) {
    splat(timer.kernel, 'warn', `WARNING: del_timer_sync of '${timer.name}' in ${timer.kernel.context.describe()}`);
  }
  return timer.stop();
}
