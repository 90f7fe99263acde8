/** Findings as reports. Text is for people; the rest for programs. */
import type { Finding } from '../finding.ts';
import { jsonReport } from './json.ts';
import { junitReport } from './junit.ts';
import { sarifReport } from './sarif.ts';
import { textReport } from './text.ts';

/** Forms of a report. */
export type ReportForm = 'text' | 'json' | 'junit' | 'sarif';

/** Where to find the sources that findings point into. */
export interface ReportSources {
  /** Paths below this folder are shown relative to it. */
  readonly root?: string;
  /** The text of a file, or null when it cannot be read. Without it no lines are quoted. */
  readonly read?: (file: string) => string | null;
}
/** Options of `renderFindings`. */
export interface ReportOptions {
  readonly sources?: ReportSources;
  /** What ran, for titles: a driver's file, a board, a mode, a seed. Default `dmakit`. */
  readonly title?: string;
  /** The version of dmakit, for SARIF. */
  readonly version?: string;
}

/** Findings in one of the forms, ending in a line break. No findings make a valid report too. */
export function renderFindings(findings: readonly Finding[], form: ReportForm, options: ReportOptions = {}): string {
  switch (form) {
    case 'text':
      return textReport(findings, options);
    case 'json':
      return jsonReport(findings, options);
    case 'junit':
      return junitReport(findings, options);
    case 'sarif':
      return sarifReport(findings, options);
  }
}
