/**
 * The kernel's dmatest: threads that copy between patterned buffers on every channel, and verify each byte. The module's
 * parameters are written and read as through /sys/module/dmatest/parameters; `dmatest` does a whole run at once.
 */
import { EBUSY, EINVAL, type Errno, OK, Prng } from '../base/index.ts';
import {
  DMA_COMPLETION_NO_ORDER,
  DMA_MEMCPY,
  DMA_MEMSET,
  DMA_PQ,
  DMA_XOR,
  type DmaChan,
  dmaCapMask,
  dmaengineTerminateSync,
  dmaHasCap,
  dmaReleaseChannel,
  dmaRequestChannel,
} from '../dmaengine/index.ts';
import {
  type Kernel,
  type KThread,
  kthreadRun,
  kthreadShouldStop,
  kthreadStop,
  prErr,
  prInfo,
  prWarn,
  WaitQueue,
  waitEvent,
  wakeUp,
} from '../kernel/index.ts';
import {
  type DmatestParams,
  dmatestDefaults,
  dmatestParameterNames,
  kstrtobool,
  setDmatestParam,
  showDmatestParam,
} from './dmatest-params.ts';
import type { DmatestResult } from './dmatest-result.ts';
import { DmatestThread, type DmatestType } from './dmatest-thread.ts';

/** What is not a parameter of the module. */
export interface DmatestOptions {
  /** Of the random lengths and offsets, default 1. */
  readonly seed?: number;
  /** Asked by each thread before each transfer and behind the last; true ends the thread, and what was done is reported. */
  readonly shouldStop?: (thread: string) => boolean;
}

/** A channel under test and its threads. */
interface TestedChannel {
  readonly chan: DmaChan;
  readonly threads: DmatestThread[];
  readonly tasks: KThread[];
}

/** The module, loaded. @linux dmatest.run, dmatest.wait, dmatest.test_list */
export class Dmatest {
  readonly kernel: Kernel;
  /** What `set` changes; threads get a copy when they are added. */
  readonly params: DmatestParams = dmatestDefaults();
  readonly #options: DmatestOptions;
  readonly #prng: Prng;
  readonly #threadWait: WaitQueue;
  #channels: TestedChannel[] = [];
  #lastError: Errno = OK;

  constructor(kernel: Kernel, options: DmatestOptions = {}) {
    this.kernel = kernel;
    this.#options = options;
    this.#prng = new Prng(options.seed ?? 1);
    this.#threadWait = new WaitQueue(kernel, 'dmatest thread_wait');
  }

  get #threads(): DmatestThread[] {
    return this.#channels.flatMap(({ threads }) => threads);
  }
  /** Whether any thread runs. */
  get running(): boolean {
    return this.#threads.some((thread) => !thread.done && !thread.pending);
  }
  /** Whether any thread was added and not started. */
  get pending(): boolean {
    return this.#threads.some((thread) => thread.pending);
  }

  /** Write a parameter as through sysfs. `channel` adds a channel's threads, `run` starts or stops. Sleeps. */
  async set(name: string, value: string): Promise<Errno> {
    if (name === 'run') return await this.#setRun(value);
    if (name === 'wait') return kstrtobool(value) === null ? EINVAL : OK;
    const error = setDmatestParam(this.params, name, value);
    if (error !== OK || name !== 'channel') return error;
    return await this.#addChannel();
  }

  /** Read a parameter as through sysfs; null for a name that it has not. Reading `wait` waits for the threads. Sleeps. */
  async get(name: string): Promise<string | null> {
    if (!dmatestParameterNames.includes(name)) return null;
    if (name === 'wait') {
      await this.wait();
      return 'Y';
    }
    if (name === 'run') {
      if (this.running) return 'Y';
      if (!this.pending) await this.stop();
      return 'N';
    }
    if (name === 'test_list') {
      for (const { chan, threads } of this.#channels) this.#info(`${threads.length} threads using ${chan.name}`);
      return '';
    }
    if (name === 'channel' && !this.running && !this.pending) {
      await this.stop();
      this.params.channel = '';
    }
    return showDmatestParam(this.params, name);
  }

  /** Wait until every started thread has ended; at once when they run without end. Sleeps. */
  async wait(): Promise<void> {
    if (this.params.iterations === 0 && this.#options.shouldStop === undefined) return;
    await waitEvent(this.#threadWait, () => !this.running, 'dmatest threads');
  }

  /** What the threads report so far. */
  result(): DmatestResult {
    return resultOf(this.#threads, this.#lastError);
  }

  /** Stop all threads and give the channels back. Returns what the threads report at last. Sleeps. */
  async stop(): Promise<DmatestResult> {
    const channels = this.#channels;
    this.#channels = [];
    for (const { chan, tasks } of channels) {
      for (const task of tasks) await kthreadStop(task);
      await dmaengineTerminateSync(chan);
      await dmaReleaseChannel(chan);
    }
    return resultOf(
      channels.flatMap(({ threads }) => threads),
      this.#lastError,
    );
  }

  async #setRun(value: string): Promise<Errno> {
    const run = kstrtobool(value);
    if (run === null) return EINVAL;
    if (!run) {
      await this.stop();
      return OK;
    }
    if (!this.pending) {
      if (this.#lastError !== OK) {
        prErr(this.kernel, "dmatest: Channel misconfigured, can't continue");
        return this.#lastError;
      }
      this.#info('No channels configured, continue with any');
      if (!this.running) await this.stop();
      await this.#addThreads();
    }
    this.#startPending();
    return OK;
  }

  /** After a write to `channel`: add it, and say whether that worked. On failure the parameter is put back. */
  async #addChannel(): Promise<Errno> {
    const { params } = this;
    const wanted = params.channel;
    if (!this.running && !this.pending) await this.stop();
    if (this.pending && this.#channels.some(({ chan }) => chan.name === wanted)) return this.#refuse(EBUSY);
    await this.#addThreads();
    const last = this.#channels[this.#channels.length - 1];
    if (last === undefined) return this.#refuse(EBUSY);
    if (wanted !== '' && last.chan.name !== wanted) return this.#refuse(EINVAL);
    this.#lastError = OK;
    return OK;
  }
  #refuse(error: Errno): Errno {
    this.params.channel = this.#channels[this.#channels.length - 1]?.chan.name ?? '';
    this.#lastError = error;
    return error;
  }

  async #addThreads(): Promise<void> {
    // Threads keep to the parameters of this moment.
    const params = { ...this.params };
    for (const type of [DMA_MEMCPY, DMA_MEMSET, DMA_XOR, DMA_PQ] as const) {
      for (;;) {
        const chan = await dmaRequestChannel(this.kernel, dmaCapMask(type), matches, params);
        if (chan === null) break;
        this.#addTested(chan, params);
        if (params.maxChannels !== 0 && this.#channels.length >= params.maxChannels) break;
      }
    }
  }

  #addTested(chan: DmaChan, params: DmatestParams): void {
    const { capMask } = chan.device;
    const tested: TestedChannel = { chan, threads: [], tasks: [] };
    if (params.polled && dmaHasCap(DMA_COMPLETION_NO_ORDER, capMask)) {
      params.polled = false;
      prWarn(this.kernel, 'dmatest: DMA_COMPLETION_NO_ORDER, polled disabled');
    }
    const types: DmatestType[] = [];
    if (dmaHasCap(DMA_MEMCPY, capMask) && params.dmatest === 0) types.push(DMA_MEMCPY);
    if (dmaHasCap(DMA_MEMSET, capMask) && params.dmatest === 1) types.push(DMA_MEMSET);
    if (dmaHasCap(DMA_XOR, capMask)) types.push(DMA_XOR);
    if (dmaHasCap(DMA_PQ, capMask)) types.push(DMA_PQ);
    for (const type of types) {
      for (let i = 0; i < params.threadsPerChan; i++) {
        tested.threads.push(new DmatestThread(chan, type, i, params, this.#prng));
      }
    }
    this.#info(`Added ${tested.threads.length} threads using ${chan.name}`);
    this.#channels.push(tested);
  }

  #startPending(): void {
    for (const tested of this.#channels) {
      for (const thread of tested.threads) {
        if (!thread.pending) continue;
        thread.pending = false;
        const task: KThread = kthreadRun(this.kernel, thread.name, () =>
          this.#runThread(thread, () => kthreadShouldStop(task)),
        );
        tested.tasks.push(task);
      }
      this.#info(`Started ${tested.threads.length} threads using ${tested.chan.name}`);
    }
  }
  async #runThread(thread: DmatestThread, stopped: () => boolean): Promise<void> {
    const { shouldStop } = this.#options;
    await thread.run(shouldStop === undefined ? stopped : () => stopped() || shouldStop(thread.name));
    wakeUp(this.#threadWait);
  }

  #info(text: string): void {
    prInfo(this.kernel, `dmatest: ${text}`);
  }
}

function resultOf(all: readonly DmatestThread[], error: Errno): DmatestResult {
  const threads = all.map((thread) => thread.result());
  const tests = threads.reduce((sum, { iterations }) => sum + iterations, 0);
  const failures = threads.reduce((sum, thread) => sum + thread.failures, 0);
  return { error, threads, tests, failures };
}

function matches(chan: DmaChan, param: unknown): boolean {
  const { channel, device } = param as DmatestParams;
  return (channel === '' || chan.name === channel) && (device === '' || chan.device.dev.name === device);
}

/** Parameters of a run: the module's, and one or more channels (none: all). */
export type DmatestRun = Partial<Omit<DmatestParams, 'channel'>> & { readonly channel?: string | readonly string[] };

/**
 * Run dmatest to its end, as when the parameters are written through sysfs: `channel` (once for each), then `run`.
 * `iterations` is needed, unless `options.shouldStop` ends the run. Sleeps.
 */
export async function dmatest(
  kernel: Kernel,
  params: DmatestRun = {},
  options: DmatestOptions = {},
): Promise<DmatestResult> {
  if (!params.iterations && options.shouldStop === undefined) {
    throw new Error('dmatest: expected iterations above 0, or a shouldStop option: without both it never ends');
  }
  const { channel = [], ...plain } = params;
  const module = new Dmatest(kernel, options);
  Object.assign(module.params, plain);
  for (const name of typeof channel === 'string' ? [channel] : channel)
    if (name !== '') await module.set('channel', name);
  await module.set('run', '1');
  await module.wait();
  return await module.stop();
}
