/**
 * Softirqs: work that interrupts leave for later. They run with interrupts enabled when the outermost interrupt is
 * over, when softirqs are enabled again, and when raised in process context at the next time point. Work that keeps
 * raising itself is left to a task, ksoftirqd, so that other tasks run in between.
 */
import type { Kernel } from './kernel.ts';
import { oops } from './panic.ts';

/** The vectors, in the order in which they are served. @linux HI_SOFTIRQ, TIMER_SOFTIRQ, TASKLET_SOFTIRQ */
export const HI_SOFTIRQ = 0;
export const TIMER_SOFTIRQ = 1;
export const TASKLET_SOFTIRQ = 2;
const VECTORS = 3;

/** How often, and how long, pending softirqs are served again at once. */
const MAX_RESTART = 10;
const MAX_TIME_NS = 2e6;

/** @internal */
export class SoftirqCore {
  /** One bit a vector. */
  pending = 0;
  /** How often the rest was left to ksoftirqd. */
  deferrals = 0;
  readonly #kernel: Kernel;
  readonly #actions: (() => void)[] = [];
  #ksoftirqdAwake = false;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
  }

  /** @linux open_softirq */
  open(vector: number, action: () => void): void {
    this.#actions[vector] = action;
  }
  /** From any context. @linux raise_softirq */
  raise(vector: number): void {
    this.pending |= 1 << vector;
    // Otherwise who serves or blocks softirqs now runs them at its end.
    if (!this.#kernel.context.softirqBlocked) this.#kernel.machine.raiseLocalIrq();
  }
  /** In hardware time: whatever is interrupted, have the softirq run as soon as may be. */
  raiseFromHardware(vector: number): void {
    this.pending |= 1 << vector;
    this.#kernel.machine.raiseLocalIrq();
  }
  /** @linux do_softirq */
  runPending(): void {
    if (this.pending !== 0 && !this.#kernel.context.softirqBlocked) this.serve();
  }

  /** Serve what is pending; the caller has checked that it may. @linux __do_softirq */
  serve(): void {
    const kernel = this.#kernel;
    const context = kernel.context;
    const irqsWereDisabled = context.irqsDisabled === true;
    const startNs = kernel.machine.now();
    context.enterSoftirq();
    let restarts = MAX_RESTART;
    do {
      const vectors = this.pending;
      this.pending = 0;
      context.enableIrqs();
      for (let vector = 0; vector < VECTORS && kernel.dead === null; vector++) {
        if ((vectors & (1 << vector)) !== 0) this.#actions[vector]?.();
      }
      context.disableIrqs();
      if (kernel.dead !== null) break;
    } while (this.pending !== 0 && --restarts > 0 && kernel.machine.now() - startNs < MAX_TIME_NS);
    context.leaveSoftirq();
    // Before interrupts come in again, which may find it pending.
    if (this.pending !== 0 && kernel.dead === null) this.#wakeKsoftirqd();
    if (!irqsWereDisabled) context.enableIrqs();
  }

  /** Run one tasklet or timer function with everything around it. */
  call(label: string, fn: () => void): void {
    const kernel = this.#kernel;
    const context = kernel.context;
    const count = context.preemptCount;
    const held = context.held.length;
    const observer = kernel.observer;
    context.serving.push(label);
    observer?.enter?.(kernel.machine.now(), 'softirq', label);
    try {
      const result: unknown = fn();
      if (result instanceof Promise) throw new TypeError(`${label} is async: softirqs may not sleep`);
    } catch (error) {
      oops(kernel, label, error);
    }
    observer?.leave?.(kernel.machine.now(), 'softirq', label);
    if (context.preemptCount !== count || context.held.length !== held) context.checkBalance(label, count, held);
    context.serving.pop();
  }

  #wakeKsoftirqd(): void {
    this.deferrals++;
    if (this.#ksoftirqdAwake) return;
    this.#ksoftirqdAwake = true;
    this.#kernel.machine.scheduler.spawn('ksoftirqd/0', this.#ksoftirqd);
  }
  readonly #ksoftirqd = async (): Promise<void> => {
    const { context, machine } = this.#kernel;
    while (this.pending !== 0) {
      this.runPending();
      // A tasklet that reschedules itself without end must not stop the clock.
      machine.cpuRelax();
      const turn = context.wait<void>(() => 'the CPU');
      turn.wake();
      await turn.promise;
    }
    this.#ksoftirqdAwake = false;
  };
}
