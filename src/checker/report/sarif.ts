/** Findings as SARIF 2.1.0, as code scanning services read it. */
import { type Finding, fixOf, messageOf, rules } from '../finding.ts';
import type { Place } from '../place.ts';
import type { Severity } from '../rule.ts';
import type { ReportOptions } from './report.ts';
import { shownPath } from './text.ts';

const LEVEL: Record<Severity, 'error' | 'warning' | 'note'> = { error: 'error', portability: 'warning', note: 'note' };

/** One run with all rules and one result for each finding. */
export function sarifReport(findings: readonly Finding[], options: ReportOptions): string {
  const known = rules();
  const driver = {
    name: 'dmakit',
    ...(options.version === undefined ? {} : { version: options.version }),
    rules: known.map(({ id, severity, statement, page }) => ({
      id,
      name: id.replace(/(?:^|[/-])([a-z])/g, (_, letter: string) => letter.toUpperCase()),
      shortDescription: { text: statement },
      fullDescription: { text: page },
      help: { text: page },
      defaultConfiguration: { level: LEVEL[severity] },
    })),
  };
  const results = findings.map((finding) =>
    resultOf(
      finding,
      known.findIndex(({ id }) => id === finding.rule),
      options,
    ),
  );
  const log = {
    $schema: 'https://json.schemastore.org/sarif-2.1.0.json',
    version: '2.1.0',
    runs: [{ tool: { driver }, columnKind: 'utf16CodeUnits', results }],
  };
  return `${JSON.stringify(log, null, 2)}\n`;
}

function resultOf(finding: Finding, ruleIndex: number, options: ReportOptions) {
  // A result has its place where something is to be mended; what a device broke is mended where it was mapped.
  const place = finding.at ?? finding.mappedAt;
  const related = finding.at === null ? null : finding.mappedAt;
  const fix = fixOf(finding);
  return {
    ruleId: finding.rule,
    ruleIndex,
    level: LEVEL[finding.severity],
    message: { text: fix === null ? messageOf(finding) : `${messageOf(finding)}. Fix: ${fix}.` },
    ...(place === null ? {} : { locations: [locationOf(place, options)] }),
    ...(related === null
      ? {}
      : { relatedLocations: [{ id: 1, ...locationOf(related, options), message: { text: 'made here' } }] }),
    occurrenceCount: finding.times,
    properties: { device: finding.device, timeNs: finding.timeNs, context: finding.context, values: finding.values },
  };
}
function locationOf(place: Place, options: ReportOptions) {
  const path = shownPath(place, options.sources);
  const uri = path.startsWith('/') ? `file://${encodeURI(path)}` : encodeURI(path);
  return {
    physicalLocation: {
      artifactLocation: { uri },
      region: { startLine: Math.max(1, place.line), startColumn: Math.max(1, place.column) },
    },
  };
}
