import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import type { Finding, FindingOf, RuleId, ValuesOf } from '../finding.ts';
import { ruleById, rules, severityOf } from '../finding.ts';
import type { Place } from '../place.ts';
import { type ReportForm, renderFindings } from './report.ts';
import { formatRule } from './text.ts';

const at = (line: number, fn = 'start'): Place => ({ file: '/home-of/driver/demo <1>.ts', line, column: 3, fn });
const SOURCE = Array.from({ length: 40 }, (_, i) => `  line ${i + 1} of the driver;`).join('\n');

function finding<R extends RuleId>(
  rule: R,
  values: ValuesOf<R>,
  places: { at?: Place; mappedAt?: Place; times?: number; context?: string } = {},
): Finding {
  const made: FindingOf<R> = {
    rule,
    severity: severityOf(rule),
    device: 'labdma',
    deviceString: 'demo labdma',
    timeNs: 12_345_678,
    context: places.context ?? "process context, task 'main'",
    at: places.at ?? null,
    mappedAt: places.mappedAt ?? null,
    times: places.times ?? 1,
    values,
  };
  return made as unknown as Finding;
}

const findings: readonly Finding[] = [
  finding(
    'dmaengine/terminate-without-synchronize',
    { channel: 'dma0chan1', freed: 'a buffer was unmapped' },
    { at: at(30), mappedAt: at(29) },
  ),
  finding(
    'dma/unmap-size',
    { address: 0x1000, mappedBytes: 4096, unmappedBytes: 2048, type: 'single' },
    { at: at(23), mappedAt: at(7), times: 3 },
  ),
  finding(
    'dma/missing-sync-for-cpu',
    {
      mapAddress: 0x2000,
      mapBytes: 4096,
      direction: 'DMA_FROM_DEVICE',
      stale: [
        { offset: 0, bytes: 64 },
        { offset: 100, bytes: 1 },
      ],
      failure: 'expected 0x5a & found "0x00"',
    },
    { at: at(24), mappedAt: at(9) },
  ),
  finding(
    'dma/device-read-from-device-mapping',
    { address: 0x3000, bytes: 8, mapAddress: 0x3000, mapBytes: 64 },
    { mappedAt: at(11, ''), context: 'hardware' },
  ),
  finding('kernel/hung-task', {
    waits: [{ task: 'main', waitsFor: "completion 'done'", sinceNs: 5 }],
    what: 'all tasks wait',
  }),
];
const sources = { root: '/home-of/driver', read: (file: string) => (file.endsWith('demo <1>.ts') ? SOURCE : null) };
const options = { sources, title: 'demo.ts on zynq-a9', version: '0.1.0' };

const goldenDir = new URL('../../../fixtures/reports/', import.meta.url);
/** Compare with the golden file; DMAKIT_UPDATE_GOLDEN=1 writes it anew, to be read before it is committed. */
function golden(name: string, text: string): void {
  const file = new URL(name, goldenDir);
  if (process.env.DMAKIT_UPDATE_GOLDEN === '1') writeFileSync(file, text);
  assert.ok(existsSync(file), `the golden file ${name} is missing`);
  assert.equal(text, readFileSync(file, 'utf8'));
}

for (const [form, name] of [
  ['text', 'findings.txt'],
  ['json', 'findings.json'],
  ['junit', 'findings.junit.xml'],
  ['sarif', 'findings.sarif'],
] as const) {
  test(`the ${form} report is as in fixtures/reports`, () => golden(name, renderFindings(findings, form, options)));
}

test('a text report quotes the driver where its source can be read, and nothing where it cannot', () => {
  assert.match(renderFindings(findings, 'text', options), /23 \| line 23 of the driver;/);
  assert.doesNotMatch(renderFindings(findings, 'text'), /\d \| /);
});

test('without findings every form is valid, and text says so', () => {
  assert.equal(renderFindings([], 'text'), 'no findings\n');
  assert.deepEqual(JSON.parse(renderFindings([], 'json')).total, { findings: 0, errors: 0 });
  assert.deepEqual(JSON.parse(renderFindings([], 'sarif')).runs[0].results, []);
  assert.match(renderFindings([], 'junit'), /failures="0"/);
});

test('what breaks XML is escaped or left out', () => {
  const odd = finding('kernel/oops', { what: 'a <b> & "c" \u0001\n]]>' });
  const xml = renderFindings([odd], 'junit', { title: '"<&>"' });
  assert.ok(!xml.includes('\u0001') && !xml.includes(']]>') && xml.includes('&quot;c&quot;'));
  assert.match(xml, /<testsuite name="&quot;&lt;&amp;&gt;&quot;"/);
});

// The parts of the SARIF 2.1.0 standard that the report uses: which properties an object may have, and which it must.
const SARIF: Readonly<Record<string, { may: readonly string[]; must: readonly string[] }>> = {
  log: { may: ['$schema', 'version', 'runs'], must: ['version', 'runs'] },
  run: { may: ['tool', 'results', 'columnKind'], must: ['tool'] },
  driver: { may: ['name', 'version', 'rules'], must: ['name'] },
  rule: {
    may: ['id', 'name', 'shortDescription', 'fullDescription', 'help', 'defaultConfiguration'],
    must: ['id'],
  },
  result: {
    may: ['ruleId', 'ruleIndex', 'level', 'message', 'locations', 'relatedLocations', 'occurrenceCount', 'properties'],
    must: ['message'],
  },
  location: { may: ['id', 'physicalLocation', 'message'], must: [] },
  physicalLocation: { may: ['artifactLocation', 'region'], must: [] },
  artifactLocation: { may: ['uri'], must: [] },
  region: { may: ['startLine', 'startColumn'], must: [] },
  message: { may: ['text'], must: ['text'] },
};
function conforms(kind: string, object: Record<string, unknown>): void {
  const { may, must } = SARIF[kind]!;
  assert.deepEqual(
    Object.keys(object).filter((key) => !may.includes(key)),
    [],
    `${kind} has what the standard does not know`,
  );
  for (const key of must) assert.ok(key in object, `${kind} lacks ${key}`);
}
test('the SARIF report keeps to the standard, also for places that are unknown', () => {
  // biome-ignore lint/suspicious/noExplicitAny: parsed JSON, whose form is what is tested
  const log: any = JSON.parse(renderFindings(findings, 'sarif', options));
  conforms('log', log);
  assert.equal(log.version, '2.1.0');
  const [run] = log.runs;
  conforms('run', run);
  conforms('driver', run.tool.driver);
  const ids = new Set<string>();
  for (const rule of run.tool.driver.rules) {
    conforms('rule', rule);
    conforms('message', rule.shortDescription);
    ids.add(rule.id);
  }
  assert.equal(ids.size, run.tool.driver.rules.length);
  for (const result of run.results) {
    conforms('result', result);
    conforms('message', result.message);
    assert.equal(run.tool.driver.rules[result.ruleIndex].id, result.ruleId);
    assert.ok(['none', 'note', 'warning', 'error'].includes(result.level));
    assert.ok(Number.isInteger(result.occurrenceCount) && result.occurrenceCount >= 1);
    for (const location of [...(result.locations ?? []), ...(result.relatedLocations ?? [])]) {
      conforms('location', location);
      conforms('physicalLocation', location.physicalLocation);
      conforms('artifactLocation', location.physicalLocation.artifactLocation);
      conforms('region', location.physicalLocation.region);
      assert.match(location.physicalLocation.artifactLocation.uri, /^[\w%.~/:-]+$/);
      assert.ok(location.physicalLocation.region.startLine >= 1);
    }
  }
});

test('every form takes every rule', () => {
  assert.ok(rules().length >= 29);
  for (const form of ['text', 'json', 'junit', 'sarif'] satisfies ReportForm[]) {
    assert.equal(typeof renderFindings(findings, form), 'string');
  }
});

test('rules are listed with what their page needs, and found by id', () => {
  for (const { id, statement, page, severity } of rules()) {
    assert.match(id, /^(dma|dmaengine|kernel)\/[a-z-]+$/);
    assert.match(statement, /^[A-Z].*[.)]$/, id);
    assert.ok(page.length > 80, id);
    assert.ok(['error', 'portability', 'note'].includes(severity));
    assert.equal(ruleById(id)?.id, id);
  }
  const page = formatRule(ruleById('dma/missing-sync-for-device')!, 72);
  assert.match(page, /^dma\/missing-sync-for-device\n\nWhat the CPU writes/);
  assert.match(page, /\n\n {4}dmaSyncSingleForCpu.*\n {4}dmaSyncSingleForDevice.*\n\n/);
  for (const line of page.split('\n'))
    assert.ok(line.length <= 80 && (line.startsWith(' ') || line.length <= 72), line);
  assert.equal(ruleById('dma/unknown'), null);
  assert.equal(ruleById('toString'), null);
});
