/** Reports for other tools: JUnit for test runners, SARIF for code review. */
import { relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { RunFinding, SourcePlace } from '../tools/finding.ts';
import type { RunRecord } from './run-protocol.ts';
import { ruleOf } from './run-rules.ts';
import { placeText } from './source-place.ts';

/** One test suite, one case per run. */
export function junitReport(driver: string, records: readonly RunRecord[]): string {
  const cases = records.map((record) => {
    const name = `${record.board} ${record.mode} seed ${record.seed}`;
    const open = `    <testcase classname="${xml(driver)}" name="${xml(name)}" time="${record.wallS.toFixed(3)}">`;
    return `${open}${caseBody(record)}</testcase>`;
  });
  const failures = records.filter((record) => caseBody(record).includes('<failure')).length;
  const skipped = records.filter(({ outcome }) => outcome === 'skipped').length;
  const seconds = records.reduce((sum, { wallS }) => sum + wallS, 0).toFixed(3);
  const counts = `tests="${records.length}" failures="${failures}" errors="0" skipped="${skipped}" time="${seconds}"`;
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuites name="dmakit" ${counts}>`,
    `  <testsuite name="${xml(driver)}" ${counts}>`,
    ...cases,
    '  </testsuite>',
    '</testsuites>',
    '',
  ].join('\n');
}

function caseBody(record: RunRecord): string {
  if (record.outcome === 'skipped') return `<skipped message="${xml(record.message)}"/>`;
  const broken = record.findings.filter(({ severity }) => severity !== 'note');
  const told = [
    ...broken.map((finding) => ({ type: finding.rule, message: finding.message, text: findingText(finding) })),
    ...record.splats.map((splat) => ({ type: `kernel/${splat.kind}`, message: splat.message, text: splat.at })),
  ];
  if (told.length === 0 && record.outcome !== 'ok') {
    told.push({ type: record.outcome, message: record.message, text: record.log.join('\n') });
  }
  return told
    .map(({ type, message, text }) => `<failure type="${xml(type)}" message="${xml(message)}">${xml(text)}</failure>`)
    .join('');
}

function findingText({ at, mappedAt, fix }: RunFinding): string {
  const lines = [
    at === null ? '' : `at ${placeText(at)}`,
    mappedAt === null ? '' : `mapped at ${placeText(mappedAt)}`,
    fix,
  ];
  return lines.filter((line) => line !== '').join('\n');
}

function xml(text: string): string {
  const escapes: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&apos;' };
  return (
    text
      .replace(/[&<>"']/g, (char) => escapes[char]!)
      // XML 1.0 has no way to write other control characters.
      // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is removed
      .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f]/g, '\ufffd')
      .replaceAll('\n', '&#10;')
  );
}

/** One SARIF 2.1.0 log with one run; a result for each finding and for each run that ended badly without one. */
export function sarifReport(records: readonly RunRecord[]): unknown {
  const results = records.flatMap(resultsOf);
  const rules = [...new Set(results.map(({ ruleId }) => ruleId))].sort().map(ruleForm);
  return {
    $schema: 'https://json.schemastore.org/sarif-2.1.0.json',
    version: '2.1.0',
    runs: [
      {
        tool: { driver: { name: 'dmakit', rules } },
        originalUriBaseIds: { ROOT: { uri: pathToFileURL(`${process.cwd()}/`).href } },
        results,
      },
    ],
  };
}

/** A rule as code review shows it beside its results. */
function ruleForm(id: string) {
  const rule = ruleOf(id);
  if (rule === undefined) return { id };
  return { id, shortDescription: { text: rule.statement }, help: { text: rule.page } };
}

const LEVELS = { error: 'error', portability: 'warning', note: 'note' } as const;

function resultsOf(record: RunRecord) {
  const properties = { board: record.board, mode: record.mode, seed: record.seed, outcome: record.outcome };
  const found = record.findings.map((finding) => ({
    ruleId: finding.rule,
    level: LEVELS[finding.severity],
    message: { text: finding.fix === '' ? finding.message : `${finding.message} ${finding.fix}` },
    locations: locations(finding.at),
    relatedLocations: locations(finding.mappedAt).map((location) => ({
      ...location,
      message: { text: 'mapped here' },
    })),
    properties,
  }));
  const well = record.outcome === 'ok' || record.outcome === 'skipped';
  if (well || found.length > 0) return found;
  const text = record.message === '' ? record.outcome : record.message;
  const ruleId = `run/${record.outcome}`;
  return [
    {
      ruleId,
      level: 'error' as const,
      message: { text },
      locations: locations(record.at),
      relatedLocations: [],
      properties,
    },
  ];
}

function locations(at: SourcePlace | null) {
  if (at === null) return [];
  const near = relative(process.cwd(), at.file).replaceAll('\\', '/');
  const artifactLocation = near.startsWith('..')
    ? { uri: pathToFileURL(at.file).href }
    : { uri: near, uriBaseId: 'ROOT' };
  return [{ physicalLocation: { artifactLocation, region: { startLine: at.line, startColumn: at.column } } }];
}
