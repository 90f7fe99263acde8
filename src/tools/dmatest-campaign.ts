/** dmatest on a board: the module loaded, its parameters written, run, and unloaded. */
import type { System } from '../boards/index.ts';
import type { EventSink } from '../checker/index.ts';
import { dmaDevices } from '../dmaengine/index.ts';
import { Dmatest, type DmatestRun } from '../drivers/dmatest.ts';
import type { DmatestResult, DmatestThreadResult } from '../drivers/dmatest-result.ts';
import type { Kernel, LogLine, Splat } from '../kernel/index.ts';
import { withBreather } from './breather.ts';
import { channelNames, probeErrors } from './channels.ts';
import type { RunFinding } from './finding.ts';
import { instrument } from './instruments.ts';

/** One channel's result; its threads are added up. */
export interface DmatestRow {
  readonly board: string;
  readonly mode: string;
  readonly channel: string;
  /** `copy` or `set`. */
  readonly test: string;
  readonly threads: number;
  readonly iterations: number;
  readonly failures: number;
  /** Transfers in a second of simulated time, filling and comparing excluded. */
  readonly iops: number;
  readonly kBps: number;
  /** Wall time from the channel's first transfer to the end of its last; all channels of a board work at once. */
  readonly wallS: number;
}

/** Threads of a channel, as the module's `test_list` has them. */
export interface DmatestListed {
  readonly channel: string;
  readonly threads: number;
}

/** What a board did. */
export interface DmatestBoardRun {
  readonly board: string;
  readonly mode: string;
  readonly rows: readonly DmatestRow[];
  /** The module's test list: behind `run`, or behind the channels when it was not run. */
  readonly testList: readonly DmatestListed[];
  readonly findings: readonly RunFinding[];
  readonly splats: readonly Splat[];
  /** The module's lines about failures, the first of each thread. */
  readonly errors: readonly string[];
  /** Why threads moved nothing: what the module said of its parameters, each once. */
  readonly refusals: readonly string[];
  /** Lines of the log about controllers whose probe failed. */
  readonly probeErrors: readonly string[];
  readonly simulatedS: number;
  readonly wallS: number;
}

/** The module's parameters, those that only act included: `run` and `wait` are on unless they are given as false. */
export type DmatestJobParams = DmatestRun & { readonly run?: boolean; readonly wait?: boolean };

/** How a board is tested. */
export interface DmatestJob {
  /** Freshly booted. */
  readonly system: System;
  /** As it is shown. */
  readonly mode: string;
  readonly params: DmatestJobParams;
  readonly seed: number;
  /** Asked before each transfer. */
  shouldStop(): boolean;
  /** Told how many threads were started. */
  onThreads?(threads: number): void;
  onLog?(line: LogLine): void;
  /** Told every event. */
  readonly onEvent?: EventSink | undefined;
}

/** A channel or a DMA controller was asked for that the board does not have. */
export class UnknownChannelError extends Error {
  override name = 'UnknownChannelError';
  readonly known: readonly string[];
  constructor(message: string, known: readonly string[]) {
    super(message);
    this.known = known;
  }
}

/** Lines of one thread that are kept. */
const ERROR_LINES = 3;

/** Run dmatest on a board. Throws UnknownChannelError, and what ends a run that has no end. */
export async function dmatestOnBoard(job: DmatestJob): Promise<DmatestBoardRun> {
  const { system, mode, params } = job;
  const startMs = performance.now();
  const instruments = instrument(system, { places: false, onEvent: job.onEvent });
  if (job.onLog !== undefined) system.kernel.log.onLine = job.onLog;
  const clock = new ThreadClock();
  const { result, testList } = await system.run((kernel) => {
    checkNames(params, kernel, system.board);
    return withBreather(kernel, () => runModule(kernel, job, clock));
  });
  instruments.ended();
  const place = { board: system.board, mode };
  return {
    ...place,
    rows: addUp(result.threads, clock).map((row) => ({ ...place, ...row })),
    testList,
    findings: instruments.findings(),
    splats: system.kernel.splats,
    errors: result.threads.flatMap(errorLines),
    refusals: [...new Set(result.threads.flatMap(refusalsOf))],
    probeErrors: probeErrors(system.kernel),
    simulatedS: system.machine.now() / 1e9,
    wallS: (performance.now() - startMs) / 1000,
  };
}

/** `modprobe dmatest`, the parameters as through sysfs, and `rmmod dmatest`. */
async function runModule(
  kernel: Kernel,
  job: DmatestJob,
  clock: ThreadClock,
): Promise<{ result: DmatestResult; testList: DmatestListed[] }> {
  const { channel = [], run = true, wait = true, ...plain } = job.params;
  const module = new Dmatest(kernel, {
    seed: job.seed,
    shouldStop: (thread) => {
      clock.tick(thread);
      return job.shouldStop();
    },
  });
  Object.assign(module.params, plain);
  for (const name of typeof channel === 'string' ? [channel] : channel) await module.set('channel', name);
  if (run) await module.set('run', '1');
  const { threads } = module.result();
  job.onThreads?.(threads.length);
  // Without waiting, the module is unloaded at once, which ends its threads.
  if (run && wait) await module.wait();
  return { result: await module.stop(), testList: testListOf(threads) };
}

function testListOf(threads: readonly DmatestThreadResult[]): DmatestListed[] {
  const channels = [...new Set(threads.map(({ channel }) => channel))];
  return channels.map((channel) => ({
    channel,
    threads: threads.filter((thread) => thread.channel === channel).length,
  }));
}

/** When each thread began its first transfer, and ended its last. */
class ThreadClock {
  readonly #times = new Map<string, { readonly startMs: number; endMs: number }>();

  /** The thread is between two transfers. */
  tick(thread: string): void {
    const nowMs = performance.now();
    const times = this.#times.get(thread);
    if (times === undefined) this.#times.set(thread, { startMs: nowMs, endMs: nowMs });
    else times.endMs = nowMs;
  }
  /** From the first one's beginning to the last one's end. */
  seconds(threads: readonly string[]): number {
    const known = threads.flatMap((thread) => this.#times.get(thread) ?? []);
    if (known.length === 0) return 0;
    const ends = Math.max(...known.map(({ endMs }) => endMs));
    return (ends - Math.min(...known.map(({ startMs }) => startMs))) / 1000;
  }
}

function checkNames({ channel, device }: DmatestJobParams, kernel: Kernel, board: string): void {
  const known = channelNames(kernel);
  const names = typeof channel === 'string' ? [channel] : (channel ?? []);
  const unknown = names.find((name) => !known.includes(name));
  if (unknown !== undefined) throw new UnknownChannelError(`${board} has no channel '${unknown}'`, known);
  const controllers = [...new Set(dmaDevices(kernel).map(({ dev }) => dev.name))];
  if (device !== undefined && device !== '' && !controllers.includes(device)) {
    throw new UnknownChannelError(`${board} has no DMA controller '${device}'`, controllers);
  }
}

function errorLines(thread: DmatestThreadResult): string[] {
  if (thread.failures === 0) return [];
  return thread.lines.filter((line) => !/'test passed'|: summary /.test(line)).slice(0, ERROR_LINES);
}

/** The thread's lines that are about no test and not its summary: the module did not even try. */
function refusalsOf({ name, lines }: DmatestThreadResult): string[] {
  return lines.filter((line) => !line.includes(`${name}: `)).map((line) => line.replace(/^dmatest: /, ''));
}

type Sum = Omit<DmatestRow, 'board' | 'mode'>;

function addUp(threads: readonly DmatestThreadResult[], clock: ThreadClock): Sum[] {
  const groups = new Map<string, DmatestThreadResult[]>();
  for (const thread of threads) {
    const key = `${thread.channel} ${thread.test}`;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [thread]);
    else group.push(thread);
  }
  const sum = (group: readonly DmatestThreadResult[], field: 'iterations' | 'failures' | 'iops' | 'kBps') =>
    group.reduce((total, thread) => total + thread[field], 0);
  return [...groups.values()].map((group) => ({
    channel: group[0]!.channel,
    test: group[0]!.test,
    threads: group.length,
    iterations: sum(group, 'iterations'),
    failures: sum(group, 'failures'),
    iops: sum(group, 'iops'),
    kBps: sum(group, 'kBps'),
    wallS: clock.seconds(group.map(({ name }) => name)),
  }));
}
