/** The checker: rules of the DMA API, held against what drivers and devices do. */
export { attachChecker, type Checked, type Checker, type CheckerOptions } from './checker.ts';
export { attachEventStream, type EventSink, type EventSource } from './event-source.ts';
export * from './events.ts';
export {
  type Finding,
  type FindingOf,
  fixOf,
  kernelLineOf,
  messageOf,
  type RuleId,
  type RuleInfo,
  ruleById,
  rules,
  type ValuesOf,
} from './finding.ts';
export {
  addObserver,
  combineObservers,
  DMAENGINE_METHODS,
  KERNEL_METHODS,
  MACHINE_METHODS,
  MAPPING_METHODS,
} from './observers.ts';
export { formatPlace, type Place, type Trace, takeTrace } from './place.ts';
export { findingToJson, type JsonFinding, type JsonPlace } from './report/json.ts';
export { type ReportForm, type ReportOptions, type ReportSources, renderFindings } from './report/report.ts';
export { formatRule, summaryOf } from './report/text.ts';
export type { ByteRange, Severity } from './rule.ts';
