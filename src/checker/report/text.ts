/** Findings for people. */
import { type Finding, fixOf, kernelLineOf, messageOf, type RuleInfo } from '../finding.ts';
import { formatPlace, type Place, relativePath } from '../place.ts';
import type { ReportOptions, ReportSources } from './report.ts';

const SEVERITY_ORDER = { error: 0, portability: 1, note: 2 } as const;

/** Errors first, otherwise in the order in which they were made; a summary last. */
export function textReport(findings: readonly Finding[], options: ReportOptions): string {
  if (findings.length === 0) return 'no findings\n';
  const sorted = findings
    .map((finding, i) => ({ finding, i }))
    .sort((a, b) => SEVERITY_ORDER[a.finding.severity] - SEVERITY_ORDER[b.finding.severity] || a.i - b.i);
  const blocks = sorted.map(({ finding }) => textOf(finding, options.sources ?? {}));
  return `${blocks.join('\n')}\n${summaryOf(findings)}\n`;
}

/** `3 findings: 2 errors, 1 note`. */
export function summaryOf(findings: readonly Finding[]): string {
  const counts = { error: 0, portability: 0, note: 0 };
  for (const { severity } of findings) counts[severity]++;
  const plural = (n: number, what: string) => `${n} ${what}${n === 1 ? '' : 's'}`;
  const parts = [];
  if (counts.error > 0) parts.push(plural(counts.error, 'error'));
  if (counts.portability > 0) parts.push(`${counts.portability} of portability`);
  if (counts.note > 0) parts.push(plural(counts.note, 'note'));
  return `${plural(findings.length, 'finding')}${parts.length === 0 ? '' : `: ${parts.join(', ')}`}`;
}

function textOf(finding: Finding, sources: ReportSources): string {
  const times = finding.times > 1 ? ` (${finding.times} times)` : '';
  const lines = [`${finding.severity}: ${messageOf(finding)} [${finding.rule}]${times}`];
  const samePlace =
    finding.at !== null &&
    finding.mappedAt !== null &&
    finding.at.file === finding.mappedAt.file &&
    finding.at.line === finding.mappedAt.line;
  if (finding.at !== null) lines.push(...quote('at', finding.at, sources));
  if (finding.mappedAt !== null && !samePlace) lines.push(...quote(madeWord(finding), finding.mappedAt, sources));
  lines.push(`  when: ${timeText(finding.timeNs)}, ${finding.context}`);
  const fix = fixOf(finding);
  if (fix !== null) lines.push(`  fix: ${fix}`);
  const kernel = kernelLineOf(finding);
  if (kernel !== null && kernel !== messageOf(finding)) lines.push(`  kernel: ${kernel}`);
  return `${lines.join('\n')}\n`;
}

function madeWord(finding: Finding): string {
  if (finding.rule.startsWith('dmaengine/')) {
    if (finding.rule === 'dmaengine/channel-leak') return 'requested at';
    return finding.rule === 'dmaengine/terminate-without-synchronize' ? 'terminated at' : 'submitted at';
  }
  return finding.rule === 'dma/free-size' || finding.rule === 'dma/free-address' ? 'allocated at' : 'mapped at';
}

/** The place, and the line of source below it. */
function quote(word: string, place: Place, sources: ReportSources): string[] {
  const lines = [`  ${word}: ${formatPlace(place, sources.root)}`];
  const text = sources.read?.(place.file)?.split('\n')[place.line - 1]?.trim();
  if (text !== undefined && text !== '') lines.push(`    ${String(place.line).padStart(4)} | ${text}`);
  return lines;
}

/** Nanoseconds as `12.345678 ms`. */
export function timeText(ns: number): string {
  if (ns < 1e3) return `${ns} ns`;
  if (ns < 1e6) return `${(ns / 1e3).toFixed(3)} µs`;
  return ns < 1e9 ? `${(ns / 1e6).toFixed(6)} ms` : `${(ns / 1e9).toFixed(9)} s`;
}

/** @internal The path as reports of every form show it. */
export function shownPath(place: Place, sources: ReportSources | undefined): string {
  return relativePath(place.file, sources?.root ?? '');
}

const SEVERITY_TEXT = {
  error: 'error: wrong on some machine that the kernel supports, with the bytes at stake',
  portability: 'portability: works here, breaks elsewhere',
  note: 'note: worth knowing',
} as const;
/** A rule's page, as `dmakit rules ID` prints it; ends in a line break. */
export function formatRule(rule: RuleInfo, width = 80): string {
  const parts = [rule.id, wrap(rule.statement, width), wrap(SEVERITY_TEXT[rule.severity], width)];
  for (const line of rule.page.split(/\n+/)) parts.push(/^\s/.test(line) ? line : wrap(line, width));
  if (rule.wording !== null) parts.push(wrap(`The kernel says: ${rule.wording}`, width));
  // Lines of code belong together.
  return `${parts.join('\n\n').replace(/^( {4}.*)\n\n(?= {4})/gm, '$1\n')}\n`;
}
function wrap(text: string, width: number): string {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line].join('\n');
}
