/** `dmakit dmatest`: the kernel's dmatest on boards, in modes. */

import { formatLogLine } from '../kernel/index.ts';
import {
  type DmatestBoardRun,
  type DmatestJobParams,
  type DmatestRow,
  dmatestOnBoard,
  UnknownChannelError,
} from '../tools/dmatest-campaign.ts';
import { parseParameters } from './dmatest-parameters.ts';
import { CliError, EXIT_FINDINGS, EXIT_INTERRUPTED, EXIT_OK } from './errors.ts';
import { EventRecorder } from './event-output.ts';
import { textOfFinding, textOfSplat, untoldSplats } from './finding-text.ts';
import { type CliIo, type Colors, colorsFor, widthOf, writeJson } from './io.ts';
import { startProgress } from './progress.ts';
import {
  BootError,
  bootBoard,
  checkBackend,
  chooseBoards,
  endOfRun,
  type Matrix,
  matrix,
  type Skipped,
  type Variant,
} from './systems.ts';
import { formatCount, formatTable, plural } from './table.ts';
import { listOf, seedValue } from './values.ts';

/** Transfers of each thread unless told otherwise (the module itself would never end). */
const DEFAULT_ITERATIONS = 1000;

/** What boards did, and which did nothing. */
export interface Campaign {
  readonly runs: readonly DmatestBoardRun[];
  readonly skipped: readonly Skipped[];
  /** Ctrl-C came before the end. */
  readonly interrupted: boolean;
}

/** See program.ts for the options. */
export async function command(io: CliIo, _args: string[], options: Record<string, unknown>): Promise<number> {
  checkBackend(options);
  const chosen = await chooseBoards(String(options.board), 'dmatest');
  const variants = matrix(chosen, options.mode as string[] | undefined);
  const seed = seedValue('--seed', String(options.seed));
  const { testList, ...given } = parseParameters(options);
  const params: DmatestJobParams = {
    iterations: DEFAULT_ITERATIONS,
    ...given,
    verbose: options.verbose === true,
    ...(options.channel === undefined ? {} : { channel: options.channel as string[] }),
  };
  const json = options.json === true;
  const inputs = chosen.bundle === undefined ? [] : [chosen.bundle.file];
  const recorder = new EventRecorder(io, options, inputs, json ? io.stderr : io.stdout);
  let done: Campaign;
  try {
    done = await campaign(io, variants, params, seed, { verbose: options.verbose === true, recorder });
  } finally {
    recorder.close();
  }
  const { interrupted } = done;
  const total = totalOf(done.runs);
  if (json) writeJson(io, { ...documentOf(done, seed, testList === true), total });
  else io.stdout.write(textOf(done, seed, testList === true, io));
  recorder.check();
  if (interrupted) {
    io.stderr.write(`dmakit dmatest: interrupted after ${plural(total.tests, 'test')}\n`);
    return EXIT_INTERRUPTED;
  }
  const refused = done.runs.find(({ refusals }) => refusals.length > 0);
  if (refused !== undefined) {
    throw new CliError(`${refused.board}: nothing was tested: ${refused.refusals.join('; ')}`, {
      exitCode: EXIT_FINDINGS,
      hint: 'See --transfer-size, --alignment and --test-buf-size.',
    });
  }
  const started = params.run !== false && params.wait !== false;
  if (total.tests === 0 && started) {
    const hint = done.runs.flatMap(({ probeErrors }) => probeErrors).join('\n');
    throw new CliError('nothing was tested: no channel offers it', { exitCode: EXIT_FINDINGS, hint });
  }
  return total.failures + total.findings === 0 ? EXIT_OK : EXIT_FINDINGS;
}

function documentOf({ runs, skipped, interrupted }: Campaign, seed: number, testList: boolean) {
  const list = runs.flatMap(({ board, mode, testList }) => testList.map((listed) => ({ board, mode, ...listed })));
  return {
    schema: 'dmakit/dmatest/1',
    seed,
    interrupted,
    results: runs.flatMap(({ rows }) => rows),
    skipped,
    ...(testList ? { testList: list } : {}),
    findings: runs.flatMap(findingsOf),
    probeErrors: runs.flatMap(({ board, mode, probeErrors }) =>
      probeErrors.map((message) => ({ board, mode, message })),
    ),
  };
}

/** Run dmatest on every variant, with progress. */
export async function campaign(
  io: CliIo,
  { variants, skipped: before }: Matrix,
  params: DmatestJobParams,
  seed: number,
  options: { readonly verbose?: boolean; readonly recorder?: EventRecorder } = {},
): Promise<Campaign> {
  const runs: DmatestBoardRun[] = [];
  const skipped = [...before];
  for (const variant of variants) {
    if (io.signal.aborted) break;
    try {
      runs.push(await testBoard(io, variant, params, seed, options));
    } catch (error) {
      // Whether a board can have a mode may show only when it boots.
      if (!(error instanceof BootError) || error.place !== null || variants.length === 1) throw error;
      skipped.push({ board: variant.board.name, mode: variant.mode, reason: error.reason });
      if (skipped.length === before.length + variants.length) throw error;
    }
  }
  return { runs, skipped, interrupted: io.signal.aborted };
}

async function testBoard(
  io: CliIo,
  variant: Variant,
  params: DmatestJobParams,
  seed: number,
  { verbose, recorder }: { readonly verbose?: boolean; readonly recorder?: EventRecorder },
): Promise<DmatestBoardRun> {
  const { board, mode } = variant;
  const system = await bootBoard(variant, seed);
  const progress = await startProgress(io, `${board.name} ${mode}`, params.iterations ?? 0);
  let asked = 0;
  try {
    return await dmatestOnBoard({
      system,
      mode,
      params,
      seed,
      shouldStop: () => {
        if (++asked % 64 === 0) progress.update(asked, plural(asked, 'transfer'));
        return io.signal.aborted;
      },
      onThreads: (threads) => progress.setTotal(threads * (params.iterations ?? 0)),
      onEvent: recorder?.start(system),
      ...(verbose === true ? { onLog: (line) => io.stderr.write(`${formatLogLine(line)}\n`) } : {}),
    });
  } catch (error) {
    if (!(error instanceof UnknownChannelError)) throw endOfRun(error, variant);
    const kind = error.message.includes('controller') ? 'DMA controllers' : 'channels';
    throw new CliError(error.message, { hint: `Its ${kind} are ${listOf(error.known, 'and')}.` });
  } finally {
    recorder?.stop();
    progress.stop();
  }
}

/** The sums at the end of every report. */
export function totalOf(runs: readonly DmatestBoardRun[]) {
  const rows = runs.flatMap((run) => run.rows);
  return {
    boards: new Set(rows.map(({ board }) => board)).size,
    channels: new Set(rows.map(({ board, channel }) => `${board} ${channel}`)).size,
    tests: rows.reduce((sum, row) => sum + row.iterations, 0),
    failures: rows.reduce((sum, row) => sum + row.failures, 0),
    findings: runs.reduce((sum, run) => sum + findingsOf(run).length, 0),
  };
}

function findingsOf({ board, mode, findings, splats }: DmatestBoardRun) {
  return [
    ...findings.map((finding) => ({ board, mode, ...finding })),
    ...untoldSplats(splats, findings).map(({ kind, message, timeNs, place }) => ({
      board,
      mode,
      rule: `kernel/${kind}`,
      message,
      timeNs,
      at: place,
    })),
  ];
}

function textOf({ runs, skipped }: Campaign, seed: number, testList: boolean, io: CliIo): string {
  const colors = colorsFor(io.stdout, io.env);
  const rows = runs.flatMap((run) => run.rows);
  const lines: string[] = [];
  if (testList) lines.push(...runs.flatMap((run) => listTextOf(run, runs.length > 1)), rows.length > 0 ? '\n' : '');
  if (rows.length > 0) lines.push(tableOf(rows, colors, { width: widthOf(io.stdout) }));
  for (const run of runs) lines.push(troublesOf(run, colors));
  if (skipped.length > 0) lines.push('\n', textOfSkipped(skipped, colors));
  lines.push('\n', `${summary(runs)} ${colors.dim(`(seed ${seed})`)}\n`);
  return lines.join('').replace(/^\n+/, '');
}

/** The module's `test_list`, as it prints it. */
function listTextOf({ board, mode, testList }: DmatestBoardRun, several: boolean): string[] {
  const where = several ? `${board} ${mode}: ` : '';
  return testList.map(({ channel, threads }) => `${where}dmatest: ${threads} threads using ${channel}\n`);
}

/** Which boards were left out, a line each. */
export function textOfSkipped(skipped: readonly Skipped[], colors: Colors): string {
  const lines = skipped.map(({ board, mode, reason }) => {
    const where = mode === '' ? board : `${board} ${mode}`;
    return `${colors.yellow('skipped')} ${where}: ${reason}\n`;
  });
  return lines.join('');
}

/** What went wrong on a board; '' when nothing did. */
export function troublesOf(run: DmatestBoardRun, colors: Colors): string {
  const lines = [
    ...[...run.probeErrors, ...run.errors].map((line) => `  ${line}\n`),
    ...untoldSplats(run.splats, run.findings).map((splat) => textOfSplat({ ...splat, at: splat.place }, colors)),
    ...run.findings.map((finding) => textOfFinding(finding, colors)),
  ];
  return lines.length === 0 ? '' : `\n${colors.red(`${run.board} ${run.mode}:`)}\n${lines.join('')}`;
}

/** `2 boards, 10 channels, 4000 tests, 0 failures`. */
export function summary(runs: readonly DmatestBoardRun[]): string {
  const { boards, channels, tests, failures, findings } = totalOf(runs);
  const parts = [plural(boards, 'board'), plural(channels, 'channel'), `${tests} tests`, plural(failures, 'failure')];
  if (findings > 0) parts.push(plural(findings, 'finding'));
  return parts.join(', ');
}

/** The table of results; `brief` leaves out mode and test, for runs that have one of each. */
export function tableOf(
  rows: readonly DmatestRow[],
  colors: Colors,
  { brief = false, width }: { readonly brief?: boolean; readonly width?: number | undefined } = {},
): string {
  const texts = brief ? ['board', 'channel'] : ['board', 'mode', 'channel', 'test'];
  const columns = [
    ...texts.map((title) => ({ title })),
    ...['tests', 'failures', 'iops', 'KB/s', 'wall s'].map((title) => ({ title, numeric: true })),
  ];
  const cells = (row: DmatestRow) => [
    ...(brief ? [row.board, row.channel] : [row.board, row.mode, row.channel, row.test]),
    formatCount(row.iterations),
    row.failures === 0 ? '0' : colors.red(formatCount(row.failures)),
    ...[row.iops.toFixed(2), formatCount(row.kBps), row.wallS.toFixed(2)],
  ];
  return formatTable(columns, rows.map(cells), colors, width);
}
