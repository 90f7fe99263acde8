/** Findings as JUnit XML, as CI systems read it: one test case for each rule, failed where it was broken. */
import { type Finding, fixOf, messageOf, rules } from '../finding.ts';
import { formatPlace } from '../place.ts';
import type { ReportOptions } from './report.ts';
import { timeText } from './text.ts';

/** Errors fail their test case; portability and notes go to its output. */
export function junitReport(findings: readonly Finding[], options: ReportOptions): string {
  const title = options.title ?? 'dmakit';
  const cases: string[] = [];
  let failures = 0;
  for (const { id, statement, severity } of rules()) {
    const broken = findings.filter(({ rule }) => rule === id);
    const name = `    <testcase name=${attribute(`${id}: ${statement}`)} classname=${attribute(title)} time="0"`;
    if (broken.length === 0) {
      cases.push(`${name}/>`);
      continue;
    }
    const body = broken.map((finding) => describe(finding, options)).join('\n');
    if (severity === 'error') {
      failures++;
      const message = attribute(messageOf(broken[0]!));
      cases.push(
        `${name}>`,
        `      <failure type=${attribute(id)} message=${message}>${text(body)}</failure>`,
        '    </testcase>',
      );
    } else cases.push(`${name}>`, `      <system-out>${text(body)}</system-out>`, '    </testcase>');
  }
  const counts = `tests="${rules().length}" failures="${failures}" errors="0"`;
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuites name="dmakit" ${counts} time="0">`,
    `  <testsuite name=${attribute(title)} ${counts} skipped="0" time="0">`,
    ...cases,
    '  </testsuite>',
    '</testsuites>',
    '',
  ].join('\n');
}

function describe(finding: Finding, options: ReportOptions): string {
  const root = options.sources?.root;
  const lines = [messageOf(finding)];
  if (finding.at !== null) lines.push(`at: ${formatPlace(finding.at, root)}`);
  if (finding.mappedAt !== null) lines.push(`mapped at: ${formatPlace(finding.mappedAt, root)}`);
  lines.push(`when: ${timeText(finding.timeNs)}, ${finding.context}, ${finding.times} times`);
  const fix = fixOf(finding);
  if (fix !== null) lines.push(`fix: ${fix}`);
  return lines.join('\n');
}

// What XML 1.0 cannot hold at all is left out.
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const FORBIDDEN = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g;
function text(value: string): string {
  return value.replace(FORBIDDEN, '').replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
function attribute(value: string): string {
  return `"${text(value).replaceAll('"', '&quot;').replaceAll('\n', '&#10;').replaceAll('\t', '&#9;')}"`;
}
