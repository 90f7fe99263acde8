/** `dmakit conform FACTS.json…`: replay what a real kernel was seen to decide. */
import { readFile } from 'node:fs/promises';
import { type ConformFileResult, conformFile, GoldenError } from '../tools/conform/conform.ts';
import { CliError, EXIT_FINDINGS, EXIT_INTERRUPTED, EXIT_OK, fileReason } from './errors.ts';
import { type CliIo, type Colors, colorsFor, writeJson } from './io.ts';
import { startProgress } from './progress.ts';
import { formatTable } from './table.ts';

/** See program.ts for the options. */
export async function command(io: CliIo, args: string[], options: Record<string, unknown>): Promise<number> {
  const paths = args.flat();
  const texts = await Promise.all(paths.map(readFacts));
  const progress = await startProgress(io, 'conform', paths.length);
  const files: ConformFileResult[] = [];
  for (const [i, path] of paths.entries()) {
    if (io.signal.aborted) break;
    progress.update(i, path);
    files.push(await replay(path, texts[i]!));
  }
  progress.stop();
  const passed = files.reduce((sum, file) => sum + file.passed, 0);
  const failed = files.reduce((sum, file) => sum + file.failed, 0);
  if (options.json === true) writeJson(io, { schema: 'dmakit/conform/1', files, total: { passed, failed } });
  else io.stdout.write(textOf(files, passed, failed, colorsFor(io.stdout, io.env)));
  if (io.signal.aborted) return EXIT_INTERRUPTED;
  return failed === 0 ? EXIT_OK : EXIT_FINDINGS;
}

async function readFacts(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new CliError(`cannot read '${path}': ${fileReason(error)}`, {
      hint: 'Give golden files, such as fixtures/golden/map_sg.intel-strict.json.',
    });
  }
}

async function replay(path: string, text: string): Promise<ConformFileResult> {
  try {
    return await conformFile(path, text);
  } catch (error) {
    if (!(error instanceof GoldenError)) throw error;
    throw new CliError(`'${path}' is no golden file: ${error.message}`, {
      hint: 'Give what a kernel was seen to decide, such as fixtures/golden/map_sg.intel-strict.json.',
    });
  }
}

function textOf(files: readonly ConformFileResult[], passed: number, failed: number, colors: Colors): string {
  const rows = files.map((file) => [
    file.file,
    file.kind,
    file.variant,
    String(file.passed),
    file.failed === 0 ? '0' : colors.red(String(file.failed)),
  ]);
  const columns = [
    { title: 'file' },
    { title: 'kind' },
    { title: 'variant' },
    { title: 'passed', right: true },
    { title: 'failed', right: true },
  ];
  const lines = [formatTable(columns, rows, colors)];
  for (const file of files) lines.push(failuresOf(file, colors));
  const assumed = files.filter((file) => file.unseenEvents > 0);
  if (assumed.length > 0) {
    const list = assumed.map((file) => `${file.file} (${file.unseenEvents})`).join(', ');
    lines.push(colors.dim(`\nUnseen events that the addresses show to have happened between the cases: ${list}\n`));
  }
  lines.push(`\n${files.length} files, ${passed} cases passed, ${failed} failed\n`);
  return lines.join('');
}

function failuresOf(file: ConformFileResult, colors: Colors): string {
  if (file.failed === 0) return '';
  const lines = file.firstFailures.map(
    ({ case: name, expected, got }) =>
      `  ${colors.bold(name)}\n    expected ${shorten(expected)}\n    got      ${shorten(got)}\n`,
  );
  const rest = file.failed - file.firstFailures.length;
  const more = rest > 0 ? `  … and ${rest} more\n` : '';
  return `\n${file.file}\n${lines.join('')}${more}`;
}

function shorten(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 240 ? `${text.slice(0, 237)}…` : text;
}
