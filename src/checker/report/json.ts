/** Findings for programs. */
import { type Finding, fixOf, kernelLineOf, messageOf, type RuleId } from '../finding.ts';
import type { Place } from '../place.ts';
import type { Severity } from '../rule.ts';
import type { ReportOptions, ReportSources } from './report.ts';
import { shownPath } from './text.ts';

/** A place in JSON. */
export interface JsonPlace {
  readonly file: string;
  readonly line: number;
  readonly column: number;
  readonly function: string;
}
/** A finding in JSON: everything that is known, in words and in values. */
export interface JsonFinding {
  readonly rule: RuleId;
  readonly severity: Severity;
  readonly message: string;
  readonly device: string;
  readonly timeNs: number;
  readonly context: string;
  readonly times: number;
  readonly at: JsonPlace | null;
  readonly mappedAt: JsonPlace | null;
  readonly fix: string | null;
  readonly kernel: string | null;
  /** As the rule defines them; addresses as numbers. */
  readonly values: unknown;
}

/** One finding as plain data, its fields in a fixed order. */
export function findingToJson(finding: Finding, sources?: ReportSources): JsonFinding {
  return {
    rule: finding.rule,
    severity: finding.severity,
    message: messageOf(finding),
    device: finding.device,
    timeNs: finding.timeNs,
    context: finding.context,
    times: finding.times,
    at: jsonPlace(finding.at, sources),
    mappedAt: jsonPlace(finding.mappedAt, sources),
    fix: fixOf(finding),
    kernel: kernelLineOf(finding),
    values: finding.values,
  };
}
function jsonPlace(place: Place | null, sources: ReportSources | undefined): JsonPlace | null {
  if (place === null) return null;
  return { file: shownPath(place, sources), line: place.line, column: place.column, function: place.fn };
}

/** `{schema, findings, total}`. */
export function jsonReport(findings: readonly Finding[], options: ReportOptions): string {
  const report = {
    schema: 'dmakit/findings/1',
    title: options.title ?? 'dmakit',
    findings: findings.map((finding) => findingToJson(finding, options.sources)),
    total: { findings: findings.length, errors: findings.filter(({ severity }) => severity === 'error').length },
  };
  return `${JSON.stringify(report, null, 2)}\n`;
}
