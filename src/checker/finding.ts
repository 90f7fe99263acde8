/** The registry of rules, and findings: data first, a union discriminated by rule. Words are made last, in report/. */
import type { Broken, Rule, Severity } from './rule.ts';
import { coherentRules } from './rules/coherent.ts';
import { deviceAccessRules } from './rules/device-access.ts';
import { dmaengineRules } from './rules/dmaengine.ts';
import { kernelRules } from './rules/kernel.ts';
import { memoryRules } from './rules/memory.ts';
import { streamingRules } from './rules/streaming.ts';
import { syncRules } from './rules/sync.ts';

const registry = {
  ...streamingRules,
  ...syncRules,
  ...coherentRules,
  ...deviceAccessRules,
  ...memoryRules,
  ...kernelRules,
  ...dmaengineRules,
};

/** A rule's stable name, such as `dma/unmap-size`. */
export type RuleId = keyof typeof registry;
/** The values that findings of a rule carry. */
export type ValuesOf<R extends RuleId> = (typeof registry)[R] extends Rule<infer V> ? V : never;
/** A finding of one rule. */
export interface FindingOf<R extends RuleId> extends Broken<ValuesOf<R>> {
  readonly rule: R;
  readonly severity: Severity;
}
/** A broken rule, with all values; `finding.rule` says which, and so what `finding.values` holds. */
export type Finding = { [R in RuleId]: FindingOf<R> }[RuleId];

/** A rule, for people and programs that list them. */
export interface RuleInfo {
  readonly id: RuleId;
  readonly severity: Severity;
  /** The rule in one line. */
  readonly statement: string;
  /** What dma-debug or the kernel says when it is broken; null where they say nothing. */
  readonly wording: string | null;
  /** Why it holds and what breaks: paragraphs of plain text, one line each; indented lines are code. */
  readonly page: string;
}

const ids = Object.keys(registry) as RuleId[];
function info(id: RuleId): RuleInfo {
  const { severity, statement, wording, page } = registry[id];
  return { id, severity, statement, wording, page: unwrap(page) };
}
/** Pages are broken into lines where they are written; who shows them breaks them anew. */
function unwrap(page: string): string {
  return page.replace(/([^\n])\n(?=[^\s])/g, '$1 ');
}

/** All rules, in the order of the registry. */
export function rules(): RuleInfo[] {
  return ids.map(info);
}
/** One rule, or null when there is none of that id. */
export function ruleById(id: string): RuleInfo | null {
  return ids.includes(id as RuleId) ? info(id as RuleId) : null;
}

/** What a finding says, in one line. */
export function messageOf(finding: Finding): string {
  return ruleOf(finding).message(finding);
}
/** The kernel's line for it, or null. */
export function kernelLineOf(finding: Finding): string | null {
  return ruleOf(finding).kernel(finding);
}
/** What to do, in one line, or null. */
export function fixOf(finding: Finding): string | null {
  return ruleOf(finding).fix(finding);
}
// The union cannot tell the compiler that a finding fits its own rule.
function ruleOf(finding: Finding): Rule<unknown> {
  return registry[finding.rule] as unknown as Rule<unknown>;
}
/** @internal For the collector. */
export function severityOf(id: RuleId): Severity {
  return registry[id].severity;
}
