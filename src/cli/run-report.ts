/** The reports of `dmakit run`. */

import type { RunFinding, SourcePlace } from '../tools/finding.ts';
import { textOfFinding, textOfSplat, untoldSplats } from './finding-text.ts';
import { type CliIo, type Colors, colorsFor } from './io.ts';
import type { RunRecord } from './run-protocol.ts';
import { junitReport, sarifReport } from './run-report-forms.ts';
import { placeText, quoteSource } from './source-place.ts';
import { plural } from './table.ts';

/** What `--report` takes. */
export const REPORT_FORMS = ['text', 'json', 'junit', 'sarif'] as const;

/** Ended as it should, without warnings of the kernel and without findings (notes do not count). */
export function isWell(record: RunRecord): boolean {
  if (record.outcome === 'skipped') return true;
  const broken = record.findings.some(({ severity }) => severity !== 'note');
  return record.outcome === 'ok' && record.splats.length === 0 && !broken;
}

/** One document for machines. */
export function renderReport(form: 'json' | 'junit' | 'sarif', driver: string, records: readonly RunRecord[]): string {
  if (form === 'junit') return junitReport(driver, records);
  const document = form === 'sarif' ? sarifReport(records) : jsonReport(driver, records);
  return `${JSON.stringify(document, null, 2)}\n`;
}

function jsonReport(driver: string, records: readonly RunRecord[]): unknown {
  const place = (at: SourcePlace | null) => (at === null ? null : placeText(at));
  return {
    schema: 'dmakit/run/1',
    driver,
    runs: records.map((record) => ({
      ...record,
      at: place(record.at),
      waits: record.waits.map((wait) => ({ ...wait, at: place(wait.at) })),
      findings: record.findings.map((finding) => ({
        ...finding,
        at: place(finding.at),
        mappedAt: place(finding.mappedAt),
      })),
    })),
    total: {
      runs: records.length,
      failed: records.filter((record) => !isWell(record)).length,
      findings: records.reduce((sum, record) => sum + record.findings.length, 0),
    },
  };
}

/** Reports of bad runs in full, for each board and mode; further ones in a line. */
const IN_FULL = 2;

/** Tells a person of the runs one after the other: good ones of a board together, bad ones in full. */
export class TextReport {
  readonly #io: CliIo;
  readonly #colors: Colors;
  readonly #manySeeds: boolean;
  #variant = '';
  /** Why the variant was skipped, once it was told. */
  #skipped = '';
  #good: RunRecord[] = [];
  #told = 0;

  constructor(io: CliIo, manySeeds: boolean) {
    this.#io = io;
    this.#colors = colorsFor(io.stdout, io.env);
    this.#manySeeds = manySeeds;
  }

  add(record: RunRecord): void {
    const variant = `${record.board}${record.mode === 'default' ? '' : ` ${record.mode}`}`;
    if (variant !== this.#variant) {
      this.flush();
      this.#variant = variant;
      this.#skipped = '';
      this.#told = 0;
    }
    const plain = isWell(record) && record.findings.length === 0;
    if (plain && record.outcome === 'ok') this.#good.push(record);
    else if (record.outcome === 'skipped') this.#skip(record.message);
    else {
      this.flush();
      this.#io.stdout.write(this.#textOf(record));
    }
  }

  /** What a board does not have, it has with no seed. */
  #skip(message: string): void {
    if (message === this.#skipped) return;
    this.flush();
    this.#skipped = message;
    this.#io.stdout.write(`${this.#variant}: ${this.#colors.yellow('skipped')}: ${message}\n`);
  }

  /** Tell of the good runs that were held back. */
  flush(): void {
    const [first] = this.#good;
    if (first === undefined) return;
    const last = this.#good.at(-1)!;
    const seeds = !this.#manySeeds
      ? ''
      : first === last
        ? `, seed ${first.seed}`
        : `, seeds ${first.seed} to ${last.seed}`;
    this.#io.stdout.write(`${this.#variant}${seeds}: ${this.#colors.green('ok')}\n`);
    this.#good = [];
  }

  #textOf(record: RunRecord): string {
    const colors = this.#colors;
    const { outcome, seed, message, findings, splats } = record;
    const where = `${this.#variant}${this.#manySeeds || seed !== 1 ? `, seed ${seed}` : ''}`;
    const verdict =
      outcome !== 'ok' ? outcome : splats.length > 0 ? 'ok, but the kernel complains' : 'ok, with findings';
    const head = `${where}: ${isWell(record) ? colors.green(verdict) : colors.red(colors.bold(verdict))}`;
    if (++this.#told > IN_FULL) return `${head}${message === '' ? '' : `: ${message.split('\n')[0]}`}\n`;
    return [
      `${head}\n`,
      outcome === 'ok' ? '' : textOfEnd(record, colors),
      ...untoldSplats(splats, findings).map((splat) => textOfSplat(splat, colors)),
      ...findings.filter((finding) => !tellsEnd(finding, record)).map((finding) => textOfFinding(finding, colors)),
      '\n',
    ].join('');
  }
}

/** Whether a finding says no more than how the run ended. */
function tellsEnd(finding: RunFinding, { outcome, message }: RunRecord): boolean {
  return (
    finding.rule === 'kernel/hung-task' || (finding.at === null && outcome !== 'ok' && finding.message === message)
  );
}

function textOfEnd(record: RunRecord, colors: Colors): string {
  const { at, message, outcome, findings } = record;
  const others = findings.filter((finding) => !tellsEnd(finding, record));
  // A finding in the same words, with its place, tells it below.
  if (others.some((finding) => finding.at !== null && finding.message.startsWith(message))) return '';
  const told = at === null || others.some((finding) => finding.at?.file === at.file && finding.at.line === at.line);
  const place = told ? '' : `  ${placeText(at)}\n${quoteSource(at, '    ')}`;
  const advice = ADVICE[outcome];
  const mend = advice === undefined ? '' : `  ${colors.cyan('mend:')} ${advice}\n`;
  return `\n  ${message.replaceAll('\n', '\n  ')}\n${place}${mend}`;
}

const ADVICE: Partial<Record<RunRecord['outcome'], string>> = {
  hung: 'let somebody wake the task: start what it waits for, or wait with a timeout.',
  lockup: 'poll with a limit (readlPollTimeout), or wait for an interrupt.',
  deadlock: 'take the lock with spinLockIrqsave where an interrupt handler takes it too.',
  'foreign-await': 'wait with the kernel (completion, wait queue, msleep), or hand the promise to scheduler.outside().',
};

/** What was asked for, as far as the last lines need it. */
export interface RunCommand {
  readonly driver: string;
  readonly planned: number;
  readonly timeline: boolean;
  /** The user's board file, where it is one. */
  readonly board?: string | undefined;
}

/** The last lines: the sum, and what to try next. */
export function textOfTotal(io: CliIo, records: readonly RunRecord[], command: RunCommand): string {
  const { driver, planned, timeline } = command;
  const colors = colorsFor(io.stdout, io.env);
  const bad = records.filter((record) => !isWell(record));
  const skipped = records.filter(({ outcome }) => outcome === 'skipped').length;
  const findings = records.reduce((sum, record) => sum + record.findings.length, 0);
  const boards = new Set(records.map(({ board }) => board)).size;
  const parts = [
    plural(boards, 'board'),
    plural(records.length, 'run'),
    `${bad.length} failed`,
    plural(findings, 'finding'),
  ];
  if (skipped > 0) parts.splice(3, 0, `${skipped} skipped`);
  if (records.length < planned) parts.push(`${planned - records.length} not run`);
  const sum = `${bad.length > 0 || records.length === 1 ? '' : '\n'}${parts.join(', ')}\n`;
  const [first] = bad;
  if (first === undefined) return sum;
  // Whoever has seen the events may want to see a machine that forgives.
  const mode = timeline ? 'coherent' : first.mode;
  const words = ['dmakit run', driver, '--board', command.board ?? first.board];
  if (mode !== 'default') words.push('--mode', /[^\w=,]/.test(mode) ? `'${mode}'` : mode);
  if (first.seed !== 1) words.push('--seed', String(first.seed));
  if (!timeline) words.push('--timeline');
  return `${sum}${colors.dim(`try: ${words.join(' ')}`)}\n`;
}
