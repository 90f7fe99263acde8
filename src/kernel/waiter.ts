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
  /** Made at the first timeout, and used for all later ones. */
  #timer: TimerHandle | null = null;
  #counting = false;
  #deadlineNs = 0;
  #finite = false;
  /** The wait of `sleepUntil` has a timeout. */
  #waitFinite = false;

  constructor(kernel: Kernel) {
    super();
    this.#kernel = kernel;
  }
  /** Begin to count. */
  startTimeout(timeoutNs: number): void {
    this.expired = false;
    this.#finite = timeoutNs !== MAX_SCHEDULE_TIMEOUT;
    if (this.#finite === false) return;
    const machine = this.#kernel.machine;
    this.#deadlineNs = machine.now() + timeoutNs;
    this.#counting = true;
    if (this.#timer === null) this.#timer = machine.after(timeoutNs, this.#onTimeout);
    else machine.again(this.#timer, timeoutNs);
  }
  readonly #onTimeout = (): void => {
    this.#counting = false;
    this.expired = true;
    this.wake();
  };
  /** Sleep once; `await` the result. */
  sleep(waitsFor: () => string): Promise<void> {
    const wait = this.#kernel.context.wait<void>(waitsFor, this.#finite);
    this.#wait = wait;
    return wait.promise;
  }
  /**
   * Sleep until `decide`, asked at each wake-up, gives something: await the `promise` of what comes back, or `here()`. A
   * waiter that has once slept so may sleep for nothing else later, since it uses the same wait again.
   */
  sleepUntil<T>(waitsFor: () => string, decide: () => T | undefined): Wait<T> {
    const { context } = this.#kernel;
    let wait = this.#wait as Wait<T> | null;
    if (wait !== null && this.#waitFinite === this.#finite) wait = context.waitAgain(wait);
    else wait = context.wait<T>(waitsFor, this.#finite, decide);
    this.#wait = wait;
    this.#waitFinite = this.#finite;
    return wait;
  }
  wake(): void {
    this.#wait?.wake(undefined);
  }
  /** Over: what is left of the timeout, at least 1; Infinity without one. */
  finish(): number {
    if (this.#finite === false) return MAX_SCHEDULE_TIMEOUT;
    if (this.#counting === true) this.#kernel.machine.cancel(this.#timer as TimerHandle);
    this.#counting = false;
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
