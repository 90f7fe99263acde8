/**
 * In which context code runs, and what it may do there. One count, as the kernel's preempt_count: how deep preemption
 * and softirqs are disabled, and which interrupts are being served. Each task has its own, exchanged when another runs.
 */
import type { Task, Wait } from '../machine/scheduler.ts';
import type { Kernel } from './kernel.ts';
import type { SpinLock } from './locks.ts';
import type { ContextKind } from './observer.ts';
import { panic, splat } from './panic.ts';

/** Parts of the count. */
const PREEMPT_OFFSET = 1;
const SOFTIRQ_OFFSET = 0x100;
const SOFTIRQ_DISABLE_OFFSET = 2 * SOFTIRQ_OFFSET;
const SOFTIRQ_MASK = 0xff00;
const HARDIRQ_OFFSET = 0x1_0000;
const HARDIRQ_MASK = 0xf_0000;

/** What a task took with it into a wait although it must not: only ever non-trivial after a reported bug. */
interface Parked {
  readonly preemptCount: number;
  readonly held: SpinLock[];
}

const NEVER: Promise<never> = new Promise(() => {});

/** The state of the one CPU. */
export class Context {
  /** @linux preempt_count */
  preemptCount = 0;
  /** Whether the CPU's interrupts are off. @linux irqs_disabled */
  irqsDisabled = false;
  /** @internal Spin locks held here, in the order taken; interrupts stack theirs on top. */
  readonly held: SpinLock[] = [];
  /** The interrupt, softirq or timer whose code runs, innermost last. */
  readonly serving: string[] = [];
  /** Told each wait of a task when it begins, on the task's stack; null costs nothing. */
  onWait: ((wait: object) => void) | null = null;
  readonly #kernel: Kernel;
  #task: Task | null = null;
  readonly #parked = new Map<Task, Parked>();
  /** The current wait was reported as one in atomic context. */
  #reported = false;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
    kernel.machine.scheduler.onSwitch = (task) => this.#switchTo(task);
  }

  /** Process context: a task's own code, or none runs at all. @linux in_task */
  get inTask(): boolean {
    return (this.preemptCount & (HARDIRQ_MASK | SOFTIRQ_OFFSET)) === 0;
  }
  /** A softirq (tasklet, timer) is served, and no hardirq on top of it. @linux in_serving_softirq */
  get inSoftirq(): boolean {
    return (this.preemptCount & SOFTIRQ_OFFSET) !== 0 && !this.inHardirq;
  }
  /** @linux in_hardirq, in_irq */
  get inHardirq(): boolean {
    return (this.preemptCount & HARDIRQ_MASK) !== 0;
  }
  get kind(): ContextKind {
    return this.inTask ? 'process' : this.inHardirq ? 'hardirq' : 'softirq';
  }
  /** The running task, or null when all wait; in an interrupt: the interrupted one. @linux current */
  get current(): Task | null {
    return this.#task;
  }
  /** For messages: who runs now, e.g. `hardirq context, irq 41 'pl330'`. */
  describe(): string {
    const inner = this.serving[this.serving.length - 1];
    if (!this.inTask && inner !== undefined) return `${this.kind} context, ${inner}`;
    const task = this.current;
    return task === null ? 'process context, no task' : `process context, task '${task.name}'`;
  }

  /** @internal */
  enterHardirq(): void {
    this.preemptCount += HARDIRQ_OFFSET;
  }
  /** @internal */
  leaveHardirq(): void {
    this.preemptCount -= HARDIRQ_OFFSET;
  }
  /** @internal */
  enterSoftirq(): void {
    this.preemptCount += SOFTIRQ_OFFSET;
  }
  /** @internal */
  leaveSoftirq(): void {
    this.preemptCount -= SOFTIRQ_OFFSET;
  }
  /** @internal Softirqs may neither start nor is one served. */
  get softirqBlocked(): boolean {
    return (this.preemptCount & (HARDIRQ_MASK | SOFTIRQ_MASK)) !== 0;
  }
  /** @internal */
  disableBh(): void {
    this.preemptCount += SOFTIRQ_DISABLE_OFFSET;
  }
  /** @internal */
  enableBh(): void {
    if ((this.preemptCount & SOFTIRQ_MASK) < SOFTIRQ_DISABLE_OFFSET) {
      splat(this.#kernel, 'context-imbalance', 'WARNING: local_bh_enable without local_bh_disable');
      return;
    }
    this.preemptCount -= SOFTIRQ_DISABLE_OFFSET;
  }
  /** @internal */
  disablePreempt(): void {
    this.preemptCount += PREEMPT_OFFSET;
  }
  /** @internal */
  enablePreempt(): void {
    if ((this.preemptCount & (SOFTIRQ_OFFSET - 1)) === 0) {
      splat(this.#kernel, 'context-imbalance', 'WARNING: preempt_enable without preempt_disable');
      return;
    }
    this.preemptCount -= PREEMPT_OFFSET;
  }

  /** @internal Set the CPU's interrupt flag; enabling is a time point. */
  setIrqsDisabled(disabled: boolean): void {
    if (disabled) this.disableIrqs();
    else this.enableIrqs();
  }
  /** @internal */
  disableIrqs(): void {
    if (this.irqsDisabled === true) return;
    this.irqsDisabled = true;
    this.#kernel.machine.setInterruptsEnabled(false);
  }
  /** @internal A time point. */
  enableIrqs(): void {
    if (this.irqsDisabled === false) return;
    this.irqsDisabled = false;
    this.#kernel.machine.setInterruptsEnabled(true);
  }

  /**
   * @internal A handler or softirq that began with `count` and `heldCount` is over: put right, and report, what it left
   * behind.
   */
  checkBalance(what: string, count: number, heldCount: number): void {
    if (this.#kernel.dead !== null) return; // it was left in the middle
    while (this.held.length > heldCount) {
      const lock = this.held[this.held.length - 1] as SpinLock;
      splat(this.#kernel, 'context-imbalance', `BUG: ${what} returned with lock '${lock.name}' held`);
      lock.forceRelease();
    }
    if (this.preemptCount !== count) {
      const expected = hex8(count);
      const message = `huh, entered ${what} with preempt_count ${expected}, exited with ${hex8(this.preemptCount)}?`;
      splat(this.#kernel, 'context-imbalance', message);
      this.preemptCount = count;
    }
  }

  /** @internal Begin a wait of the current task, after the checks of `schedule`. @linux schedule */
  wait<T>(waitsFor: () => string, hasTimeout = false, decide: (() => T | undefined) | null = null): Wait<T> {
    if (!this.#maySchedule()) return neverWoken();
    const wait = this.#kernel.machine.scheduler.wait<T>(waitsFor, hasTimeout, decide);
    this.onWait?.(wait);
    return wait;
  }
  /** @internal The same with a wait that has ended: it begins once more. */
  waitAgain<T>(wait: Wait<T>): Wait<T> {
    if (!this.#maySchedule()) return neverWoken();
    wait.again();
    this.onWait?.(wait);
    return wait;
  }
  #maySchedule(): boolean {
    if (this.preemptCount !== 0) {
      if (this.#kernel.dead === null) this.#reportScheduling(this.#task);
      if (!this.inTask) {
        panic(this.#kernel, `Attempted to sleep in interrupt: ${this.describe()}`);
        return false;
      }
    }
    // Whoever runs next has interrupts enabled, as after a real switch; the sleeper loses its protection.
    this.enableIrqs();
    return true;
  }

  #reportScheduling(task: Task | null): void {
    this.#reported = true;
    const name = task?.name ?? 'swapper/0';
    const message = `BUG: scheduling while atomic: ${name}/${hex8(this.preemptCount)}`;
    splat(this.#kernel, 'scheduling-while-atomic', message, this.heldLines());
  }

  /** The locks held now, as lockdep prints them; no line when none is. */
  heldLines(): string[] {
    const n = this.held.length;
    if (n === 0) return [];
    const name = this.current?.name ?? 'swapper/0';
    const lines = [`${n} lock${n === 1 ? '' : 's'} held by ${name}:`];
    for (let i = 0; i < n; i++) lines.push(` #${i}: (${this.held[i]?.name}){....}, ${this.held[i]?.holder()}`);
    return lines;
  }

  #switchTo(task: Task | null): void {
    const previous = this.#task;
    if (previous === task) return;
    this.#task = task;
    if (this.preemptCount !== 0 || this.held.length > 0 || this.irqsDisabled === true) this.#park(previous);
    if (task !== null && this.#parked.size > 0) this.#unpark(task);
    this.#kernel.observer?.taskSwitch?.(this.#kernel.machine.now(), task === null ? null : task.name);
  }
  #park(task: Task | null): void {
    if (task !== null && this.preemptCount !== 0 && this.#kernel.dead === null) {
      if (task.done) {
        const message = `note: ${task.name} exited with preempt_count ${this.preemptCount}`;
        splat(this.#kernel, 'context-imbalance', message, this.heldLines());
      } else {
        // It waits by other means than the kernel's: for another task, or for the host.
        if (!this.#reported) this.#reportScheduling(task);
        this.#parked.set(task, { preemptCount: this.preemptCount, held: this.held.slice() });
      }
    }
    this.#reported = false;
    this.preemptCount = 0;
    this.held.length = 0;
    this.setIrqsDisabled(false);
  }
  #unpark(task: Task): void {
    const parked = this.#parked.get(task);
    if (parked === undefined) return;
    this.#parked.delete(task);
    this.preemptCount = parked.preemptCount;
    for (const lock of parked.held) this.held.push(lock);
  }
}

function neverWoken<T>(): Wait<T> {
  return { promise: NEVER, pending: true, wake: () => {}, here: () => NEVER, again: () => {} };
}
function hex8(n: number): string {
  return `0x${n.toString(16).padStart(8, '0')}`;
}

/** Whether an interrupt or softirq is served or softirqs are disabled. @linux in_interrupt */
export function inInterrupt(kernel: Kernel): boolean {
  return kernel.context.softirqBlocked;
}
/** Whether code may not sleep because of its context or a spin lock; disabled interrupts do not count. @linux in_atomic */
export function inAtomic(kernel: Kernel): boolean {
  return kernel.context.preemptCount !== 0;
}
/**
 * To be called by everything that may sleep, whether or not it will: reports a call in atomic context, every time, with
 * the kernel's words. Execution goes on. `what` names the function. @linux might_sleep
 */
export function mightSleep(kernel: Kernel, what: string): void {
  const context = kernel.context;
  if (context.preemptCount === 0 && context.irqsDisabled === false) return;
  const atomic = context.preemptCount === 0 ? 0 : 1;
  splat(kernel, 'sleep-in-atomic', `BUG: sleeping function called from invalid context at ${what}`, [
    `in_atomic(): ${atomic}, irqs_disabled(): ${context.irqsDisabled ? 1 : 0}, ${context.describe()}`,
    `preempt_count: ${context.preemptCount.toString(16)}, expected: 0`,
    ...context.heldLines(),
  ]);
}
