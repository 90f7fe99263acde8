/** `dmakit run DRIVER.ts`: a user's driver on boards, in modes, with seeds; see examples/README.md. */
import { CliError, EXIT_FINDINGS, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE } from './errors.ts';
import type { CliIo } from './io.ts';
import { bundleDriver } from './loader.ts';
import type { RunJob, RunRecord } from './run-protocol.ts';
import { isWell, REPORT_FORMS, renderReport, TextReport, textOfTotal } from './run-report.ts';
import { supervise } from './run-supervisor.ts';
import { type Chosen, checkBackend, chooseBoards, matrix, type Skipped } from './systems.ts';
import { TraceFile } from './trace-file.ts';
import { integer, oneOf, seedRange, seedValue } from './values.ts';

/** See program.ts for the options. */
export async function command(io: CliIo, args: string[], options: Record<string, unknown>): Promise<number> {
  const file = args[0]!;
  const form = options.json === true ? 'json' : oneOf('--report', String(options.report), REPORT_FORMS);
  checkBackend(options);
  const chosen = await chooseBoards(String(options.board));
  const seeds = seedsOf(options);
  const { jobs, skipped } = jobsOf(chosen, seeds, options.mode as string[] | undefined);
  const watchdogMs = integer('--watchdog', String(options.watchdog ?? 30), 1, 86_400) * 1000;
  const bundle = await bundleDriver(file);
  const inputs = [file, ...(chosen.bundle === undefined ? [] : [chosen.bundle.file])];
  const trace = options.trace === undefined ? undefined : new TraceFile(String(options.trace), inputs);
  const records: RunRecord[] = [];
  const text = new TextReport(io, options.seeds !== undefined);
  const timeline = options.timeline === true;
  const add = (record: RunRecord) => {
    records.push(record);
    if (form === 'text') text.add(record);
  };
  let traceFailure = '';
  const finished = await supervise(io, bundle, {
    jobs,
    board: chosen.bundle,
    trace,
    timeline,
    verbose: options.verbose === true,
    watchdogMs,
    // With another report on standard output the timeline goes where it disturbs nobody.
    onTimeline: (lines) => (form === 'text' ? io.stdout : io.stderr).write(lines),
    onRecord: add,
    onTraceFailed: (message) => {
      traceFailure = message;
    },
  }).finally(() => trace?.close());
  for (const one of skipped) add(recordOf(one, seeds[0]!));
  text.flush();
  const planned = jobs.length + skipped.length;
  const board = chosen.bundle === undefined ? undefined : String(options.board);
  if (form === 'text') io.stdout.write(textOfTotal(io, records, { driver: file, planned, timeline, board }));
  else io.stdout.write(renderReport(form, file, records));
  if (traceFailure !== '') {
    io.stderr.write(`dmakit run: ${traceFailure}\n`);
    return EXIT_USAGE;
  }
  if (!finished) {
    io.stderr.write(`dmakit run: interrupted after ${records.length - skipped.length} of ${jobs.length} runs\n`);
    return EXIT_INTERRUPTED;
  }
  const allSkipped = records.every((record) => record.outcome === 'skipped');
  return !allSkipped && records.every(isWell) ? EXIT_OK : EXIT_FINDINGS;
}

function seedsOf(options: Record<string, unknown>): number[] {
  if (options.seed !== undefined && options.seeds !== undefined) {
    throw new CliError('--seed and --seeds contradict each other', { hint: 'Give one of them.' });
  }
  return options.seeds !== undefined
    ? seedRange('--seeds', String(options.seeds))
    : [seedValue('--seed', String(options.seed ?? 1))];
}

function jobsOf(
  chosen: Chosen,
  seeds: readonly number[],
  modes: readonly string[] | undefined,
): { jobs: RunJob[]; skipped: readonly Skipped[] } {
  const { variants, skipped } = matrix(chosen, modes);
  const jobs = variants.flatMap(({ board, mode }) => seeds.map((seed) => ({ board: board.name, mode, seed })));
  return { jobs, skipped };
}

/** A board without the mode, in the report. */
function recordOf({ board, mode, reason }: Skipped, seed: number): RunRecord {
  const nothing = { at: null, findings: [], splats: [], waits: [], log: [], simulatedNs: 0, wallS: 0 };
  return { board, mode, seed, outcome: 'skipped', message: reason, ...nothing };
}
