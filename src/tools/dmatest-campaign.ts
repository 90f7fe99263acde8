/** dmatest on one board after the other, in one mode after the other. */
import type { System } from '../boards/index.ts';
import { type DmatestRun, dmatest } from '../drivers/dmatest.ts';
import type { DmatestThreadResult } from '../drivers/dmatest-result.ts';
import type { LogLine, Splat } from '../kernel/index.ts';
import { withBreather } from './breather.ts';
import { channelNames } from './channels.ts';
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
  /** Wall time of the board's run, in which all its channels work at once. */
  readonly wallS: number;
}

/** What a board did. */
export interface DmatestBoardRun {
  readonly board: string;
  readonly mode: string;
  readonly rows: readonly DmatestRow[];
  readonly findings: readonly RunFinding[];
  readonly splats: readonly Splat[];
  /** The module's lines about failures, the first of each thread. */
  readonly errors: readonly string[];
  readonly simulatedS: number;
  readonly wallS: number;
}

/** How a board is tested. */
export interface DmatestJob {
  /** Freshly booted. */
  readonly system: System;
  /** As it is shown. */
  readonly mode: string;
  readonly params: DmatestRun;
  readonly seed: number;
  /** Asked before each transfer. */
  shouldStop(): boolean;
  onLog?(line: LogLine): void;
}

/** A channel was asked for that the board does not have. */
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
  const { system, mode, params, seed } = job;
  const startMs = performance.now();
  const instruments = instrument(system, { places: false });
  if (job.onLog !== undefined) system.kernel.log.onLine = job.onLog;
  const result = await system.run(async (kernel) => {
    checkChannels(params.channel, channelNames(kernel), system.board);
    return withBreather(kernel, () => dmatest(kernel, params, { seed, shouldStop: job.shouldStop }));
  });
  instruments.ended();
  const wallS = (performance.now() - startMs) / 1000;
  const place = { board: system.board, mode, wallS };
  return {
    ...place,
    rows: addUp(result.threads).map((row) => ({ ...row, ...place })),
    findings: instruments.findings(),
    splats: system.kernel.splats,
    errors: result.threads.flatMap(errorLines),
    simulatedS: system.machine.now() / 1e9,
  };
}

function checkChannels(wanted: DmatestRun['channel'], known: readonly string[], board: string): void {
  const names = typeof wanted === 'string' ? [wanted] : (wanted ?? []);
  const unknown = names.find((name) => !known.includes(name));
  if (unknown !== undefined) throw new UnknownChannelError(`${board} has no channel '${unknown}'`, known);
}

function errorLines(thread: DmatestThreadResult): string[] {
  if (thread.failures === 0) return [];
  return thread.lines.filter((line) => !/'test passed'|: summary /.test(line)).slice(0, ERROR_LINES);
}

type Sum = Omit<DmatestRow, 'board' | 'mode' | 'wallS'>;

function addUp(threads: readonly DmatestThreadResult[]): Sum[] {
  const sums = new Map<string, Sum>();
  for (const { channel, test, iterations, failures, iops, kBps } of threads) {
    const key = `${channel} ${test}`;
    const sum = sums.get(key) ?? { channel, test, threads: 0, iterations: 0, failures: 0, iops: 0, kBps: 0 };
    sums.set(key, {
      channel,
      test,
      threads: sum.threads + 1,
      iterations: sum.iterations + iterations,
      failures: sum.failures + failures,
      iops: sum.iops + iops,
      kBps: sum.kBps + kBps,
    });
  }
  return [...sums.values()];
}
