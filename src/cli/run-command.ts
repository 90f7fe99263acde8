/** `dmakit run DRIVER.ts`: a user's driver on boards, in modes, with seeds; see examples/README.md. */
import { writeFile } from 'node:fs/promises';
import { CliError, EXIT_FINDINGS, EXIT_INTERRUPTED, EXIT_OK, fileReason } from './errors.ts';
import type { CliIo } from './io.ts';
import { bundleDriver } from './loader.ts';
import type { RunJob, RunRecord } from './run-protocol.ts';
import { isWell, REPORT_FORMS, renderReport, TextReport, textOfTotal } from './run-report.ts';
import { supervise } from './run-supervisor.ts';
import { boardsNamed, checkBackend, matrix } from './systems.ts';
import { integer, oneOf, seedRange, seedValue } from './values.ts';

/** See program.ts for the options. */
export async function command(io: CliIo, args: string[], options: Record<string, unknown>): Promise<number> {
  const form = options.json === true ? 'json' : oneOf('--report', String(options.report), REPORT_FORMS);
  checkBackend(options);
  const jobs = jobsOf(options);
  const watchdogMs = integer('--watchdog', String(options.watchdog ?? 30), 1, 86_400) * 1000;
  const bundle = await bundleDriver(args[0]!);
  const trace = options.trace as string | undefined;
  if (trace !== undefined) await emptyFile(trace);
  const records: RunRecord[] = [];
  const text = new TextReport(io, options.seeds !== undefined);
  const finished = await supervise(io, bundle, {
    jobs,
    trace,
    timeline: options.timeline === true,
    verbose: options.verbose === true,
    watchdogMs,
    // With another report on standard output the timeline goes where it disturbs nobody.
    onTimeline: (lines) => (form === 'text' ? io.stdout : io.stderr).write(lines),
    onRecord: (record) => {
      records.push(record);
      if (form === 'text') text.add(record);
    },
  });
  text.flush();
  if (form === 'text')
    io.stdout.write(
      textOfTotal(io, records, { driver: args[0]!, planned: jobs.length, timeline: options.timeline === true }),
    );
  else io.stdout.write(renderReport(form, args[0]!, records));
  if (!finished) {
    io.stderr.write(`dmakit run: interrupted after ${records.length} of ${jobs.length} runs\n`);
    return EXIT_INTERRUPTED;
  }
  const allSkipped = records.every((record) => record.outcome === 'skipped');
  return !allSkipped && records.every(isWell) ? EXIT_OK : EXIT_FINDINGS;
}

function jobsOf(options: Record<string, unknown>): RunJob[] {
  if (options.seed !== undefined && options.seeds !== undefined) {
    throw new CliError('--seed and --seeds contradict each other', { hint: 'Give one of them.' });
  }
  const seeds =
    options.seeds !== undefined
      ? seedRange('--seeds', String(options.seeds))
      : [seedValue('--seed', String(options.seed ?? 1))];
  const variants = matrix(boardsNamed(String(options.board)), options.mode as string[] | undefined);
  return variants.flatMap(({ board, mode }) => seeds.map((seed) => ({ board: board.name, mode, seed })));
}

/** The runs append to it. */
async function emptyFile(path: string): Promise<void> {
  try {
    await writeFile(path, '');
  } catch (error) {
    throw new CliError(`--trace: cannot write '${path}': ${fileReason(error)}`, { hint: 'Choose another file.' });
  }
}
