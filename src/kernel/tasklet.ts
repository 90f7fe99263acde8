/** Tasklets: functions that run once in softirq context after they were scheduled, however often that was. */
import { List, ListNode } from '../base/list.ts';
import type { Wait } from '../machine/scheduler.ts';
import { mightSleep } from './context.ts';
import type { Kernel } from './kernel.ts';
import { splat } from './panic.ts';
import { HI_SOFTIRQ, type SoftirqCore, TASKLET_SOFTIRQ } from './softirq.ts';

/** Scheduled tasklets of one priority. */
class TaskletQueue {
  readonly list: List<Tasklet>;
  readonly #softirqs: SoftirqCore;
  readonly #vector: number;
  constructor(kernel: Kernel, vector: number, name: string) {
    this.list = new List<Tasklet>(name);
    this.#softirqs = kernel.softirqs;
    this.#vector = vector;
    kernel.softirqs.open(vector, () => this.#run(kernel));
  }
  push(tasklet: Tasklet): void {
    this.list.pushBack(tasklet);
    this.#softirqs.raise(this.#vector);
  }
  /** What is scheduled while this runs, is for the next round. */
  #run(kernel: Kernel): void {
    for (let left = this.list.length; left > 0 && kernel.dead === null; left--) {
      const tasklet = this.list.shift();
      if (tasklet === null) return;
      tasklet.run();
    }
  }
}
interface TaskletQueues {
  readonly high: TaskletQueue;
  readonly normal: TaskletQueue;
}
const key = {};
function makeQueues(kernel: Kernel): TaskletQueues {
  return {
    high: new TaskletQueue(kernel, HI_SOFTIRQ, 'high tasklets'),
    normal: new TaskletQueue(kernel, TASKLET_SOFTIRQ, 'tasklets'),
  };
}

/** @linux struct tasklet_struct, tasklet_setup */
export class Tasklet extends ListNode {
  readonly kernel: Kernel;
  readonly fn: () => void;
  readonly name: string;
  /** It will run. */
  scheduled = false;
  /** Its function runs. */
  running = false;
  /** @internal */
  disableCount = 0;
  /** @internal Who waits in `taskletKill`. */
  killer: Wait<void> | null = null;
  readonly #label: string;
  readonly #queues: TaskletQueues;
  #queue: TaskletQueue;

  /** `fn` may not sleep. */
  constructor(kernel: Kernel, fn: () => void, name = 'unnamed') {
    super();
    this.kernel = kernel;
    this.fn = fn;
    this.name = name;
    this.#label = `tasklet '${name}'`;
    this.#queues = kernel.subsystem(key, makeQueues);
    this.#queue = this.#queues.normal;
  }
  /** @internal */
  schedule(high: boolean): void {
    if (this.scheduled === true) return;
    this.scheduled = true;
    this.#queue = high ? this.#queues.high : this.#queues.normal;
    if (this.disableCount === 0) this.#queue.push(this);
  }
  /** @internal Enabled for the first time since it was scheduled. */
  resume(): void {
    if (this.scheduled && this.list === null) this.#queue.push(this);
  }
  /** @internal */
  run(): void {
    if (this.disableCount > 0) return; // queued again when it is enabled
    this.scheduled = false;
    this.running = true;
    this.kernel.softirqs.call(this.#label, this.fn);
    this.running = false;
    this.killer?.wake();
  }
  /** @internal For hung-task reports. */
  readonly describe = (): string =>
    `tasklet '${this.name}' to have run${this.disableCount > 0 ? ', which is disabled' : ''}`;
}

/** Have it run soon; once, when it is scheduled several times before. Any context. @linux tasklet_schedule */
export function taskletSchedule(tasklet: Tasklet): void {
  tasklet.schedule(false);
}
/** The same, before all others. @linux tasklet_hi_schedule */
export function taskletHiSchedule(tasklet: Tasklet): void {
  tasklet.schedule(true);
}
/** Keep it from running; nests. When scheduled meanwhile, it runs after `taskletEnable`. @linux tasklet_disable */
export function taskletDisable(tasklet: Tasklet): void {
  tasklet.disableCount++;
}
/** @linux tasklet_enable */
export function taskletEnable(tasklet: Tasklet): void {
  if (tasklet.disableCount === 0) {
    splat(tasklet.kernel, 'warn', `WARNING: tasklet_enable of '${tasklet.name}', which is not disabled`);
    return;
  }
  if (--tasklet.disableCount === 0) tasklet.resume();
}
/** Wait until it is neither scheduled nor running. Nobody may schedule it again meanwhile. Sleeps. @linux tasklet_kill */
export async function taskletKill(tasklet: Tasklet): Promise<void> {
  const { kernel } = tasklet;
  mightSleep(kernel, 'tasklet_kill');
  if (!kernel.context.inTask) {
    splat(kernel, 'warn', 'Attempt to kill tasklet from interrupt');
    return;
  }
  while (tasklet.scheduled) {
    tasklet.killer = kernel.context.wait<void>(tasklet.describe);
    await tasklet.killer.promise;
    tasklet.killer = null;
  }
}
