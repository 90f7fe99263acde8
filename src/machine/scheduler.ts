/**
 * Tasks and waiting, the same on every machine. Functions that may sleep are async; the scheduler wakes one task at a
 * time, lets its promise reactions run to the end, and moves time only when nobody can run. Thus runs are deterministic,
 * the current task is known after every await, and an await on something that is no kernel primitive is found.
 */

/** A task that can go on forever without anybody waking it. */
export interface WaitReport {
  readonly task: string;
  /** What it waits for, in words. */
  readonly waitsFor: string;
  readonly sinceNs: number;
  /** The wait, for who was told of it when it began. */
  readonly wait: object;
}

/** The run cannot go on: every task waits, and nothing that could wake one will happen. */
export class HungTaskError extends Error {
  override name = 'HungTaskError';
  readonly waits: readonly WaitReport[];
  /** What else may explain it, as layers above know: descriptors that nobody issued, say. */
  hints: readonly string[] = [];
  constructor(message: string, waits: readonly WaitReport[]) {
    super(message);
    this.waits = waits;
  }
}
/** A task awaits a promise that no kernel primitive will settle. */
export class ForeignAwaitError extends Error {
  override name = 'ForeignAwaitError';
}
/** A task kept the CPU without end: it polls for something that never comes. */
export class LockupError extends Error {
  override name = 'LockupError';
}

/** A task. */
export interface Task {
  readonly name: string;
  readonly done: boolean;
  /** Settles with the task; rejects with what its body threw. Awaiting it inside a task is a kernel wait: use `join`. */
  readonly result: Promise<unknown>;
}

/** One wait of one task: `await wait.promise`; whoever wakes it calls `wake` (further calls do nothing). */
export interface Wait<T> {
  readonly promise: Promise<T>;
  readonly pending: boolean;
  wake(value: T): void;
  /**
   * Wait without giving up the CPU's stack, for a task of which nothing else goes on meanwhile (no `Promise.all`): while
   * no other task can run, time passes in this very call, and the value comes back itself. Else, and now and then for the
   * host's sake, what comes back is `promise`, to be awaited. What happens and when is the same in both cases.
   */
  here(): T | Promise<T>;
  /** Begin it once more, as a wait of the current task: nobody may hold on to it who could wake it for the last time. */
  again(): void;
}

/** See the file's head. */
export interface Scheduler {
  /** The task whose code runs now (in an interrupt handler: the one interrupted), or null in hardware time and when idle. */
  readonly current: Task | null;
  /** Called whenever `current` changes. Set by the kernel (per-task state such as held locks). */
  onSwitch: ((task: Task | null) => void) | null;
  /** Add a task. It first runs when the current one waits. When it throws and nobody joins it, the run ends with that error. */
  spawn(name: string, body: () => Promise<unknown> | unknown): Task;
  /**
   * Begin a wait of the current task. `waitsFor` is asked only when somebody wants to know. `hasTimeout` says that a
   * timer will end the wait at the latest: such a wait is never reported as hung for its length. `decide` is asked when
   * the woken task gets the CPU: the wait ends with what it returns instead of the value of `wake`, and goes on (to be
   * woken again) when that is undefined. So a wait with a condition costs one promise, however often it is woken.
   */
  wait<T>(waitsFor: () => string, hasTimeout?: boolean, decide?: (() => T | undefined) | null): Wait<T>;
  /** Wait for a task to end. Rejects with what it threw. */
  join(task: Task): Promise<void>;
  /**
   * Wait for the host (a file, a socket): the whole machine stands still meanwhile, its other tasks too, so that the
   * host's speed changes nothing in the run. The promise must not depend on another task of this machine.
   */
  outside<T>(promise: Promise<T>): Promise<T>;
  /** Run `main` as a task, and time, until it ends. Rejects with what it threw, HungTaskError, ForeignAwaitError, LockupError. Not reentrant. */
  run<T>(name: string, main: () => Promise<T> | T): Promise<T>;
  /** End the run as soon as possible with this error (a panic in interrupt context). */
  abort(error: Error): void;
}
