/** @internal One sleeping task with its timeout; recycled, so that waiting makes little garbage. */
import { ListNode } from '../base/list.ts';
import type { TimerHandle } from '../machine/contract.ts';
import type { Wait } from '../machine/scheduler.ts';
import type { Kernel } from './kernel.ts';

/** The timeout that never comes. @linux MAX_SCHEDULE_TIMEOUT */
export const MAX_SCHEDULE_TIMEOUT = Number.POSITIVE_INFINITY;

/** @internal */
export class Waiter extends ListNode {
  /** The timeout has passed. */
  expired = false;
  readonly #kernel: Kernel;
  #wait: Wait<unknown> | null = null;
  #timer: TimerHandle | null = null;
  #deadlineNs = 0;
  #finite = false;

  constructor(kernel: Kernel) {
    super();
    this.#kernel = kernel;
  }
  /** Begin to count. */
  startTimeout(timeoutNs: number): void {
    this.expired = false;
    this.#finite = timeoutNs !== MAX_SCHEDULE_TIMEOUT;
    if (!this.#finite) return;
    const machine = this.#kernel.machine;
    this.#deadlineNs = machine.now() + timeoutNs;
    this.#timer = machine.after(timeoutNs, this.#onTimeout);
  }
  readonly #onTimeout = (): void => {
    this.#timer = null;
    this.expired = true;
    this.wake();
  };
  /** Sleep once; `await` the result. */
  sleep(waitsFor: () => string): Promise<void> {
    const wait = this.#kernel.context.wait<void>(waitsFor, this.#finite);
    this.#wait = wait;
    return wait.promise;
  }
  /** Sleep until `decide`, asked at each wake-up, gives something. */
  sleepUntil<T>(waitsFor: () => string, decide: () => T | undefined): Promise<T> {
    const wait = this.#kernel.context.wait<T>(waitsFor, this.#finite, decide);
    this.#wait = wait;
    return wait.promise;
  }
  wake(): void {
    this.#wait?.wake(undefined);
  }
  /** Over: what is left of the timeout, at least 1; Infinity without one. */
  finish(): number {
    this.#wait = null;
    if (!this.#finite) return MAX_SCHEDULE_TIMEOUT;
    if (this.#timer !== null) this.#kernel.machine.cancel(this.#timer);
    this.#timer = null;
    return Math.max(this.#deadlineNs - this.#kernel.machine.now(), 1);
  }
}

const key = {};
const makePool = (): Waiter[] => [];

/** @internal */
export function takeWaiter(kernel: Kernel): Waiter {
  return kernel.subsystem(key, makePool).pop() ?? new Waiter(kernel);
}
/** @internal */
export function giveWaiter(kernel: Kernel, waiter: Waiter): void {
  kernel.subsystem(key, makePool).push(waiter);
}
