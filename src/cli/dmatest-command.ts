/** `dmakit dmatest`: the kernel's dmatest on boards, in modes. */

import { formatLogLine } from '../kernel/index.ts';
import {
  type DmatestBoardRun,
  type DmatestRow,
  dmatestOnBoard,
  UnknownChannelError,
} from '../tools/dmatest-campaign.ts';
import { parseParameters } from './dmatest-parameters.ts';
import { CliError, EXIT_FINDINGS, EXIT_INTERRUPTED, EXIT_OK } from './errors.ts';
import { textOfFinding, textOfSplat, untoldSplats } from './finding-text.ts';
import { type CliIo, type Colors, colorsFor, writeJson } from './io.ts';
import { startProgress } from './progress.ts';
import { bootBoard, checkBackend, engineBoardsNamed, matrix, type Variant } from './systems.ts';
import { formatCount, formatTable, plural } from './table.ts';
import { listOf, seedValue } from './values.ts';

/** Transfers of each thread unless told otherwise (the module itself would never end). */
const DEFAULT_ITERATIONS = 1000;

/** Ctrl-C, or the end of patience, between two boards. */
export interface Campaign {
  readonly runs: readonly DmatestBoardRun[];
  readonly interrupted: boolean;
}

/** See program.ts for the options. */
export async function command(io: CliIo, _args: string[], options: Record<string, unknown>): Promise<number> {
  checkBackend(options);
  const variants = matrix(engineBoardsNamed(String(options.board), 'dmatest'), options.mode as string[] | undefined);
  const seed = seedValue('--seed', String(options.seed));
  const params = {
    iterations: DEFAULT_ITERATIONS,
    ...parseParameters(options),
    verbose: options.verbose === true,
    ...(options.channel === undefined ? {} : { channel: options.channel as string[] }),
  };
  const { runs, interrupted } = await campaign(io, variants, params, seed, options.verbose === true);
  const total = totalOf(runs);
  if (options.json === true) {
    const results = runs.flatMap(({ rows }) => rows);
    writeJson(io, {
      schema: 'dmakit/dmatest/1',
      seed,
      interrupted,
      results,
      findings: runs.flatMap(findingsOf),
      total,
    });
  } else {
    io.stdout.write(textOf(runs, seed, io));
  }
  if (interrupted) {
    io.stderr.write(`dmakit dmatest: interrupted after ${plural(total.tests, 'test')}\n`);
    return EXIT_INTERRUPTED;
  }
  if (total.tests === 0) throw new CliError('nothing was tested: no channel offers it', { exitCode: EXIT_FINDINGS });
  return total.failures + total.findings === 0 ? EXIT_OK : EXIT_FINDINGS;
}

/** Run dmatest on every variant, with progress. */
export async function campaign(
  io: CliIo,
  variants: readonly Variant[],
  params: Parameters<typeof dmatestOnBoard>[0]['params'],
  seed: number,
  verbose: boolean,
): Promise<Campaign> {
  const runs: DmatestBoardRun[] = [];
  for (const variant of variants) {
    const { board, mode } = variant;
    if (io.signal.aborted) break;
    // How many threads there will be is known by the board alone: the bar shows what one channel would do.
    const progress = await startProgress(io, `${board.name} ${mode}`, 8 * (params.iterations ?? 0));
    let asked = 0;
    try {
      const run = await dmatestOnBoard({
        system: await bootBoard(variant, seed),
        mode,
        params,
        seed,
        shouldStop: () => {
          if (++asked % 64 === 0) progress.update(asked, plural(asked, 'transfer'));
          return io.signal.aborted;
        },
        ...(verbose ? { onLog: (line) => io.stderr.write(`${formatLogLine(line)}\n`) } : {}),
      });
      runs.push(run);
    } catch (error) {
      if (!(error instanceof UnknownChannelError)) throw error;
      throw new CliError(error.message, { hint: `Its channels are ${listOf(error.known, 'and')}.` });
    } finally {
      progress.stop();
    }
  }
  return { runs, interrupted: io.signal.aborted };
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

function textOf(runs: readonly DmatestBoardRun[], seed: number, io: CliIo): string {
  const colors = colorsFor(io.stdout, io.env);
  const lines = [
    tableOf(
      runs.flatMap(({ rows }) => rows),
      colors,
    ),
  ];
  for (const run of runs) lines.push(troublesOf(run, colors));
  lines.push('\n', `${summary(runs)} ${colors.dim(`(seed ${seed})`)}\n`);
  return lines.join('');
}

/** What went wrong on a board; '' when nothing did. */
export function troublesOf(run: DmatestBoardRun, colors: Colors): string {
  const lines = [
    ...run.errors.map((line) => `  ${line}\n`),
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
export function tableOf(rows: readonly DmatestRow[], colors: Colors, brief = false): string {
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
  return formatTable(columns, rows.map(cells), colors);
}
