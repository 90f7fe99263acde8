/**
 * `npm start`: what dmakit does, in a minute. dmatest on every board, a real file through each board's engine, and a
 * driver that is right on one machine and wrong on another.
 */
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Board, boardsWithChannels } from '../boards/index.ts';
import type { DmatestBoardRun } from '../tools/dmatest-campaign.ts';
import { copyFile, DEFAULT_CHUNK_BYTES } from './copy-file.ts';
import { campaign, summary, tableOf, totalOf, troublesOf } from './dmatest-command.ts';
import { describeError, EXIT_FINDINGS, EXIT_OK, exitCodeOfSignal } from './errors.ts';
import { type CliIo, colorsFor, widthOf } from './io.ts';
import { bundleDriver } from './loader.ts';
import { processIo } from './process-io.ts';
import type { RunRecord } from './run-protocol.ts';
import { supervise } from './run-supervisor.ts';
import { placeText, quoteSource } from './source-place.ts';
import { chooseBoards, matrix, type Skipped } from './systems.ts';
import { formatBytes, formatTable } from './table.ts';
import { listOf } from './values.ts';

/** Transfers of each channel: a board has eight or more channels, and shall make a thousand transfers at least. */
const ITERATIONS = 250;
const SEED = 1;
/** The file that is copied is at least so large. */
const FILE_BYTES = 10_000_000;

/** Do it all. Returns the exit code. */
export async function start(io: CliIo): Promise<number> {
  const colors = colorsFor(io.stdout, io.env);
  const say = (text: string) => io.stdout.write(text);
  const chosen = await chooseBoards('all', 'dmatest');
  say(`${colors.bold('dmatest')}: the kernel's own test on simulated boards; random copies, each byte verified\n\n`);
  for (const { name, title } of chosen.boards) say(`  ${name.padEnd(nameWidth(chosen.boards))}  ${title}\n`);
  say('\n');
  const { runs, interrupted } = await campaign(io, matrix(chosen), { iterations: ITERATIONS }, SEED);
  const rows = runs.flatMap((run) => run.rows);
  say(tableOf(rows, colors, { brief: true, width: widthOf(io.stdout) }));
  say(colors.dim('iops and KB/s count simulated time, wall s the time of this computer\n'));
  if (chosen.skipped.length > 0) say(`\n${leftOut(chosen.skipped)}\n`);
  for (const run of runs) say(troublesOf(run, colors));
  if (interrupted) return stopped(io, runs);

  const file = largeFile();
  say(`\n${colors.bold('copy')}: a real file, ${basename(file)}, through each board's DMA engine and back to disk\n\n`);
  const copied = await copies(io, file);
  if (io.signal.aborted) return stopped(io, runs);

  say(
    `\n${colors.bold('run')}: why this tool exists. examples/missing-sync.ts copies 4 KiB by DMA and reads the result:\n`,
  );
  const shown = await demonstration(io);
  if (io.signal.aborted) return stopped(io, runs);
  say(`\n${colors.bold(summary(runs))}\n`);
  const { failures, findings } = totalOf(runs);
  return failures + findings === 0 && copied && shown ? EXIT_OK : EXIT_FINDINGS;
}

const nameWidth = (list: readonly Board[]): number => Math.max(...list.map(({ name }) => name.length));

/** One sentence for boards that have nothing to test here. */
function leftOut(skipped: readonly Skipped[]): string {
  const names = skipped.map(({ board }) => board);
  const have = names.length === 1 ? 'has' : 'have';
  const next = `npx dmakit run examples/edu.ts --board ${names[0]}`;
  return `${listOf(names, 'and')} ${have} no DMA engine for others to use: their devices do DMA themselves (try: ${next})`;
}

function stopped(io: CliIo, runs: readonly DmatestBoardRun[]): number {
  io.stderr.write(`npm start: interrupted; until then ${summary(runs)}\n`);
  return exitCodeOfSignal(io.signal);
}

/** A real file that is there already: the bundler's program among the locked dependencies, or Node itself. */
function largeFile(): string {
  const name = `@esbuild/${process.platform}-${process.arch}/${process.platform === 'win32' ? 'esbuild.exe' : 'bin/esbuild'}`;
  try {
    const program = createRequire(createRequire(import.meta.url).resolve('esbuild')).resolve(name);
    if (statSync(program).size >= FILE_BYTES) return program;
  } catch {} // another platform's package has another layout
  return process.execPath;
}

/** Copy the file by every board. Returns whether all copies are right. */
async function copies(io: CliIo, source: string): Promise<boolean> {
  const colors = colorsFor(io.stdout, io.env);
  const dir = mkdtempSync(join(tmpdir(), 'dmakit-start-'));
  const forget = io.onExit(() => rmSync(dir, { recursive: true, force: true }));
  const rows: string[][] = [];
  let right = true;
  try {
    for (const board of boardsWithChannels) {
      if (io.signal.aborted) return false;
      const report = await copyFile(io, copyJob(board, source, join(dir, board.name)));
      right &&= report.verified && report.findings.length === 0 && report.splats.length === 0;
      const rate = (seconds: number) => `${formatBytes(report.bytes / seconds)}/s`;
      rows.push([
        ...[board.name, report.channel, formatBytes(report.bytes), rate(report.simulatedS), rate(report.wallS)],
        `sha256 ${report.sha256.slice(0, 12)}… ${report.verified ? colors.green('verified') : colors.red('DIFFERS')}`,
      ]);
    }
  } finally {
    forget();
    rmSync(dir, { recursive: true, force: true });
  }
  const columns = [
    ...['board', 'channel'].map((title) => ({ title })),
    ...['size', 'simulated', 'wall'].map((title) => ({ title, numeric: true })),
    { title: '' },
  ];
  io.stdout.write(formatTable(columns, rows, colors, widthOf(io.stdout)));
  return right;
}

function copyJob(board: Board, source: string, destination: string) {
  const common = { mode: 'default', chunkBytes: DEFAULT_CHUNK_BYTES, force: false, seed: SEED, verbose: false };
  return { ...common, board, source, destination };
}

/** The same driver on a coherent machine and on the board as it is. Returns whether it went as it must. */
async function demonstration(io: CliIo): Promise<boolean> {
  const colors = colorsFor(io.stdout, io.env);
  const examples = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'examples');
  const bundle = await bundleDriver(join(examples, 'missing-sync.ts'));
  const jobs = ['coherent', 'default'].map((mode) => ({ board: 'zynq-a9', mode, seed: SEED }));
  const records: RunRecord[] = [];
  await supervise(io, bundle, {
    jobs,
    board: undefined,
    trace: undefined,
    timeline: false,
    verbose: false,
    watchdogMs: 30_000,
    onRecord: (record) => records.push(record),
    onTimeline: () => {},
    onTraceFailed: () => {},
  });
  const [coherent, asItIs] = records;
  if (coherent === undefined || asItIs === undefined) return false;
  const finding = asItIs.findings.find(({ rule }) => rule === 'dma/missing-sync-for-cpu');
  const wellThere = coherent.outcome === 'ok' && coherent.findings.length === 0;
  const verdict = wellThere ? colors.green('right') : colors.red(`${coherent.outcome} ${coherent.message}`);
  io.stdout.write(`\n  on a machine whose devices snoop the caches   ${verdict}\n`);
  io.stdout.write(
    `  on ${'zynq-a9, where they do not'.padEnd(43)}${finding === undefined ? asItIs.outcome : colors.red('wrong')}\n`,
  );
  if (finding?.at == null) return false;
  io.stdout.write(
    `\n${wrap(finding.message, '  ')}\n\n  ${placeText(finding.at)}\n${quoteSource(finding.at, '    ')}` +
      `  ${colors.cyan('mend:')} ${finding.fix}\n` +
      `  ${colors.dim(`why:  npx dmakit rules ${finding.rule}`)}\n` +
      `\n  try next: ${colors.bold('npx dmakit run examples/with-sync.ts --board zynq-a9 --seeds 1..100')}\n`,
  );
  return wellThere;
}

/** Text in lines of at most 100 characters. */
function wrap(text: string, indent: string): string {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const line = lines.at(-1);
    if (line !== undefined && `${line} ${word}`.length <= 100) lines[lines.length - 1] = `${line} ${word}`;
    else lines.push(`${indent}${word}`);
  }
  return lines.join('\n');
}

const io = processIo();
try {
  process.exitCode = await start(io);
} catch (error) {
  io.stderr.write(describeError(error, 'npm start', io.env.DMAKIT_DEBUG === '1'));
  process.exitCode = EXIT_FINDINGS;
}
