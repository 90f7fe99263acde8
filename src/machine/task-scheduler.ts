import {
  ForeignAwaitError,
  HungTaskError,
  LockupError,
  type Scheduler,
  type Task,
  type Wait,
  type WaitReport,
} from './scheduler.ts';

/** What the scheduler needs of its machine. */
export interface SchedulerHost {
  now(): number;
  /** Let time pass to the next event and deliver it; false when nothing will ever happen. */
  idle(): boolean;
  /** A task gets the CPU back at the very time at which it began to wait: tasks that yield must not stop time. */
  yielded(): void;
  /** Counts what happened besides time-outs: events of models, posted writes, interrupts. */
  readonly happenings: number;
  /** True while a model's or an event's code runs. */
  readonly inHardware: boolean;
}

/** As the kernel's hung_task_timeout_secs: a main task that waits longer while no other task runs either is hung. */
const HUNG_TASK_NS = 120e9;
/** A main task that waits longer than this is hung, whatever other tasks do meanwhile. */
const HUNG_ANYWAY_NS = 3600e9;
/** Promise reactions after which a task that neither waits nor ends awaits something foreign, or spins. */
const MAX_HOPS = 250_000;
/** So many waits with a time-out, with nothing but time-outs between them for so long, look for what will never come; */
const MAX_IDLE_SLEEPS = 300_000;
const MAX_IDLE_SLEEP_NS = 120e9;
/** and so many do, however short they are. */
const MAX_SHORT_IDLE_SLEEPS = 3_000_000;
/** Every so many wake-ups the host gets a turn of its event loop: signals, progress, a browser's screen. */
const WAKES_PER_TURN = 1024;

/** Something in the run queue: a task that starts, or a wait that was woken. */
interface Runnable {
  readonly task: TaskRecord;
  /** When the wait began; -1 for a task that starts. */
  readonly sinceNs: number;
  /** Start or continue the task's code; what it does follows as promise reactions. */
  resume(): void;
}

class TaskRecord implements Task, Runnable {
  readonly name: string;
  readonly sinceNs = -1;
  readonly #scheduler: TaskScheduler;
  readonly #body: () => Promise<unknown> | unknown;
  done = false;
  failed = false;
  value: unknown = undefined;
  /** Waits begun and not yet resumed. */
  readonly waits: TaskWait<unknown>[] = [];
  /** Promises of the host that it awaits through `outside`. */
  outside = 0;
  joiners: Wait<void>[] = [];
  #result: Promise<unknown> | null = null;
  #settle: ((task: TaskRecord) => void) | null = null;

  constructor(scheduler: TaskScheduler, name: string, body: () => Promise<unknown> | unknown) {
    this.#scheduler = scheduler;
    this.name = name;
    this.#body = body;
  }
  get task(): TaskRecord {
    return this;
  }
  get result(): Promise<unknown> {
    this.#result ??= this.#makeResult();
    return this.#result;
  }
  /** Whether somebody will hear of its failure. */
  get observed(): boolean {
    return this.#result !== null || this.joiners.length > 0;
  }
  #makeResult(): Promise<unknown> {
    const result = new Promise<unknown>((resolve, reject) => {
      this.#settle = (task) => (task.failed ? reject(task.value) : resolve(task.value));
    });
    // The scheduler reports failures itself: the host must not end the process over one that is read later.
    result.catch(() => {});
    if (this.done) this.#settle?.(this);
    return result;
  }
  resume(): void {
    let value: unknown;
    try {
      value = this.#body();
    } catch (error) {
      this.finish(true, error);
      return;
    }
    if (value instanceof Promise) {
      value.then(
        (result) => this.finish(false, result),
        (error) => this.finish(true, error),
      );
    } else this.finish(false, value);
  }
  finish(failed: boolean, value: unknown): void {
    this.done = true;
    this.failed = failed;
    this.value = value;
    this.#scheduler.taskEnded(this);
    this.#settle?.(this);
    for (const joiner of this.joiners) joiner.wake();
  }
}

class TaskWait<T> implements Wait<T>, Runnable {
  task: TaskRecord;
  readonly waitsFor: () => string;
  readonly hasTimeout: boolean;
  sinceNs: number;
  pending = true;
  readonly #scheduler: TaskScheduler;
  readonly #decide: (() => T | undefined) | null;
  #value!: T;
  #ended = false;
  #promise: Promise<T> | null = null;
  #resolve: ((value: T) => void) | null = null;

  constructor(
    scheduler: TaskScheduler,
    task: TaskRecord,
    waitsFor: () => string,
    hasTimeout: boolean,
    nowNs: number,
    decide: (() => T | undefined) | null,
  ) {
    this.#scheduler = scheduler;
    this.task = task;
    this.waitsFor = waitsFor;
    this.hasTimeout = hasTimeout;
    this.sinceNs = nowNs;
    this.#decide = decide;
  }
  /** Made when it is asked for: a wait that passes in place needs none. */
  get promise(): Promise<T> {
    this.#promise ??= this.#ended
      ? Promise.resolve(this.#value)
      : new Promise<T>((resolve) => {
          this.#resolve = resolve;
        });
    return this.#promise;
  }
  again(): void {
    this.#scheduler.waitAgain(this as unknown as TaskWait<unknown>);
  }
  /** @internal */
  restart(task: TaskRecord, nowNs: number): void {
    this.task = task;
    this.sinceNs = nowNs;
    this.pending = true;
    this.#ended = false;
    this.#promise = null;
    this.#resolve = null;
  }
  here(): T | Promise<T> {
    return this.#scheduler.passHere(this) ? this.#value : this.promise;
  }
  wake(value: T): void {
    if (this.pending === false) return;
    this.pending = false;
    this.#value = value;
    this.#scheduler.makeRunnable(this);
  }
  resume(): void {
    if (this.#decide !== null) {
      const value = this.#decide();
      if (value === undefined) {
        this.pending = true;
        return;
      }
      this.#value = value;
    }
    const waits: unknown[] = this.task.waits;
    if (waits.length === 1) waits.pop();
    else waits.splice(waits.indexOf(this), 1);
    this.#ended = true;
    this.#resolve?.(this.#value);
  }
}

/** The scheduler of every machine; see scheduler.ts. */
export class TaskScheduler implements Scheduler {
  onSwitch: ((task: Task | null) => void) | null = null;
  /** Why the run is over before its end, or null. Time points throw it. */
  aborted: Error | null = null;
  /** When the current task got the CPU. */
  currentSinceNs = 0;
  readonly #host: SchedulerHost;
  readonly #tasks = new Set<TaskRecord>();
  #current: TaskRecord | null = null;
  #main: TaskRecord | null = null;
  #running = false;
  // The run queue, a ring: `#queued` entries from `#queueHead` on.
  #queue: (Runnable | null)[] = new Array(16).fill(null);
  #queueHead = 0;
  #queued = 0;
  #outsideSettled: (() => void) | null = null;
  // Waits with a time-out since something happened, and what the host's count was and the time when they began.
  #idleSleeps = 0;
  #happenings = -1;
  #idleSinceNs = 0;
  /** Wake-ups since the host had a turn. */
  #wakes = 0;
  /** What ended the run while a task waited in place: it is not the task's to catch. */
  #failure: { readonly error: unknown } | null = null;

  constructor(host: SchedulerHost) {
    this.#host = host;
  }

  get current(): Task | null {
    return this.#host.inHardware === true ? null : this.#current;
  }

  spawn(name: string, body: () => Promise<unknown> | unknown): Task {
    return this.#add(name, body);
  }
  #add(name: string, body: () => Promise<unknown> | unknown): TaskRecord {
    const task = new TaskRecord(this, name, body);
    this.#tasks.add(task);
    this.makeRunnable(task);
    return task;
  }

  wait<T>(waitsFor: () => string, hasTimeout = false, decide: (() => T | undefined) | null = null): Wait<T> {
    const task = this.#waiting(waitsFor);
    if (hasTimeout === true) this.#countSleep(task, waitsFor);
    const wait = new TaskWait<T>(this, task, waitsFor, hasTimeout, this.#host.now(), decide);
    task.waits.push(wait as unknown as TaskWait<unknown>);
    return wait;
  }
  /** @internal See `Wait.again`. */
  waitAgain(wait: TaskWait<unknown>): void {
    const task = this.#waiting(wait.waitsFor);
    if (wait.hasTimeout === true) this.#countSleep(task, wait.waitsFor);
    wait.restart(task, this.#host.now());
    task.waits.push(wait);
  }
  #waiting(waitsFor: () => string): TaskRecord {
    const task = this.#current;
    if (task === null || this.#host.inHardware === true) {
      throw new Error(`only a task can wait (for ${waitsFor()}); now no task runs`);
    }
    return task;
  }

  /** A driver that sleeps and looks again without end would run for ever: nothing in it is hung, and nothing spins. */
  #countSleep(task: TaskRecord, waitsFor: () => string): void {
    const { happenings } = this.#host;
    if (happenings !== this.#happenings) {
      this.#happenings = happenings;
      this.#idleSleeps = 0;
      this.#idleSinceNs = this.#host.now();
    } else if (++this.#idleSleeps >= MAX_IDLE_SLEEPS) {
      const idleNs = this.#host.now() - this.#idleSinceNs;
      if (idleNs < MAX_IDLE_SLEEP_NS && this.#idleSleeps < MAX_SHORT_IDLE_SLEEPS) return;
      const seconds = (idleNs / 1e9).toFixed(1);
      const error = new LockupError(
        `lockup: task '${task.name}' sleeps (${waitsFor()}) and looks again without end; for ${seconds} s of simulated ` +
          'time nothing has happened that could change what it looks at',
      );
      this.abort(error);
      throw error;
    }
  }

  async join(task: Task): Promise<void> {
    const record = task as TaskRecord;
    if (!record.done) {
      const wait = this.wait<void>(() => `task '${record.name}' to end`);
      record.joiners.push(wait);
      await wait.promise;
    }
    if (record.failed) throw record.value;
  }

  outside<T>(promise: Promise<T>): Promise<T> {
    const task = this.#current;
    if (task === null) return promise;
    task.outside++;
    const settled = () => {
      task.outside--;
      const notify = this.#outsideSettled;
      this.#outsideSettled = null;
      notify?.();
    };
    return promise.finally(settled);
  }

  abort(error: Error): void {
    this.aborted ??= error;
  }

  async run<T>(name: string, main: () => Promise<T> | T): Promise<T> {
    if (this.#running) throw new Error(`run('${name}'): this machine runs already; start further tasks with spawn`);
    this.#running = true;
    this.aborted = null;
    this.#failure = null;
    const task = this.#add(name, main);
    this.#main = task;
    try {
      await this.#loop(task);
    } finally {
      this.#switchTo(null);
      this.#running = false;
      this.#main = null;
    }
    if (task.failed) throw task.value;
    return task.value as T;
  }

  /** @internal A task's code came to its end. */
  taskEnded(task: TaskRecord): void {
    this.#tasks.delete(task);
    if (!task.failed || task === this.#main || task.observed) return;
    this.abort(
      task.value instanceof Error ? task.value : new Error(`task '${task.name}' failed: ${String(task.value)}`),
    );
  }

  /** @internal */
  makeRunnable(entry: Runnable): void {
    const size = this.#queue.length;
    if (this.#queued === size) {
      const straight = this.#queue.slice(this.#queueHead).concat(this.#queue.slice(0, this.#queueHead));
      this.#queue = straight.concat(new Array(size).fill(null));
      this.#queueHead = 0;
    }
    this.#queue[(this.#queueHead + this.#queued++) & (this.#queue.length - 1)] = entry;
  }

  /**
   * @internal Let time pass until the wait ends, on the waiting task's own stack. False when the task has to give it up
   * as usual: somebody else runs first, the host is due a turn, or the run is over.
   */
  passHere(wait: Runnable & { readonly pending: boolean }): boolean {
    const { task } = wait;
    const main = this.#main;
    if (main === null || task !== this.#current || task.waits.length !== 1 || task.outside > 0) return false;
    try {
      do {
        if (this.#wakes >= WAKES_PER_TURN) return false;
        if (this.#queued === 0) this.#idle(main);
        if (this.#queue[this.#queueHead] !== wait || this.aborted !== null) return false;
        this.#next();
        this.#resume(wait);
      } while (wait.pending === true);
    } catch (error) {
      this.#failure = { error };
      return false;
    }
    return true;
  }
  /** The entry's task gets the CPU. */
  #resume(entry: Runnable): void {
    this.#wakes++;
    this.#switchTo(entry.task);
    if (entry.sinceNs === this.#host.now()) this.#host.yielded();
    entry.resume();
  }

  #next(): Runnable | null {
    if (this.#queued === 0) return null;
    const at = this.#queueHead;
    const entry = this.#queue[at] as Runnable;
    this.#queue[at] = null;
    this.#queueHead = (at + 1) & (this.#queue.length - 1);
    this.#queued--;
    return entry;
  }

  #switchTo(task: TaskRecord | null): void {
    this.currentSinceNs = this.#host.now();
    if (task === this.#current) return;
    this.#current = task;
    this.onSwitch?.(task);
  }

  async #loop(main: TaskRecord): Promise<void> {
    for (;;) {
      if (this.aborted !== null) throw this.aborted;
      if (this.#failure !== null) throw this.#failure.error;
      if (main.done) return;
      const entry = this.#next();
      if (entry === null) {
        this.#idle(main);
        continue;
      }
      const task = entry.task;
      this.#resume(entry);
      if (task.waits.length > 0 && !task.done) {
        // Its other waits (Promise.all) hide whether it has come to rest: let the host run every reaction there is.
        await this.#turn(task);
        continue;
      }
      for (let hops = 0; !task.done && task.waits.length === 0; hops++) {
        if (task.outside > 0) await this.#turn(task);
        else if (hops >= MAX_HOPS) throw foreignAwait(task);
        else await undefined;
      }
      if (task.outside > 0 || this.#wakes >= WAKES_PER_TURN) await this.#turn(task);
    }
  }

  /** Run every promise reaction there is, after waiting for the host where the task asked to. */
  async #turn(task: TaskRecord): Promise<void> {
    this.#wakes = 0;
    do {
      while (task.outside > 0) {
        await new Promise<void>((resolve) => {
          this.#outsideSettled = resolve;
        });
      }
      await nextTurn();
    } while (task.outside > 0);
  }

  /** Nobody can run: let time pass until somebody can. */
  #idle(main: TaskRecord): void {
    this.#switchTo(null);
    const idleSinceNs = this.#host.now();
    while (this.#queued === 0) {
      if (!this.#host.idle()) throw this.#hung('nothing that could wake anybody will happen any more');
      if (this.aborted !== null) throw this.aborted;
      const wait = main.waits[0];
      if (wait === undefined || wait.hasTimeout === true) continue;
      const nowNs = this.#host.now();
      if (nowNs - idleSinceNs > HUNG_TASK_NS) throw this.#hung('blocked for more than 120 seconds');
      if (nowNs - wait.sinceNs > HUNG_ANYWAY_NS) throw this.#hung('blocked for more than an hour');
    }
  }

  #hung(why: string): HungTaskError {
    const waits: WaitReport[] = [];
    for (const task of this.#tasks) {
      for (const wait of task.waits) {
        waits.push({ task: task.name, waitsFor: wait.waitsFor(), sinceNs: wait.sinceNs, wait });
      }
    }
    const lines = waits.map((wait) => `  task '${wait.task}' waits since ${wait.sinceNs} ns for ${wait.waitsFor}`);
    return new HungTaskError(`hung task: ${why}\n${lines.join('\n')}`, waits);
  }
}

function foreignAwait(task: TaskRecord): ForeignAwaitError {
  return new ForeignAwaitError(
    `task '${task.name}' awaits a promise that nothing in the machine will settle (a timer, a file or a socket of the ` +
      'host, or a promise of its own), or spins on awaits. Wait with a kernel primitive (completion, wait queue, ' +
      "msleep), or hand a promise of the host to the scheduler: 'await scheduler.outside(promise)'.",
  );
}

/** The host's event loop, as far as Node and browsers share it. */
interface HostLoop {
  setImmediate?: (callback: () => void) => unknown;
  MessageChannel?: new () => {
    port1: { onmessage: (() => void) | null };
    port2: { postMessage(message: unknown): void };
  };
}
const hostLoop = globalThis as unknown as HostLoop;
let channel: InstanceType<NonNullable<HostLoop['MessageChannel']>> | null = null;
const turns: (() => void)[] = [];

/** Resolves after every promise reaction that can run has run. */
function nextTurn(): Promise<void> {
  return new Promise<void>((resolve) => {
    if (hostLoop.setImmediate !== undefined) {
      hostLoop.setImmediate(resolve);
      return;
    }
    if (channel === null) {
      if (hostLoop.MessageChannel === undefined)
        throw new Error('this host has neither setImmediate nor MessageChannel');
      channel = new hostLoop.MessageChannel();
      channel.port1.onmessage = () => turns.shift()?.();
    }
    turns.push(resolve);
    channel.port2.postMessage(null);
  });
}
