/** Rules that `dmakit run` itself adds to the checker's: what a driver's own expectations showed to be wrong. */
import { type RuleInfo, ruleById, rules } from '../checker/index.ts';
import type { Difference } from '../tools/compare.ts';

/** A rule of the checker, or of `dmakit run`. */
export type AnyRule = Omit<RuleInfo, 'id'> & { readonly id: string };

/** What `expectBytes` says of bytes that differ, by their cause. */
export const RULE_OF_CAUSE: Readonly<Record<Difference['cause'], { readonly rule: string; readonly fix: string }>> = {
  stale: {
    rule: 'run/stale-bytes',
    fix:
      'The device wrote to memory; the CPU still reads what its cache held before. Before this line, call ' +
      'dmaSyncSingleForCpu(dev, addr, size, DMA_FROM_DEVICE), or dmaUnmapSingle when the buffer is done with.',
  },
  unwritten: {
    rule: 'run/unwritten-bytes',
    fix:
      'The device read memory while the stores of the CPU were still in its cache. Map the buffer after the last store, ' +
      'or call dmaSyncSingleForDevice(dev, addr, size, DMA_TO_DEVICE) before the transfer starts.',
  },
  wrong: {
    rule: 'run/wrong-bytes',
    fix: 'Memory holds the wrong bytes too: compare addresses, lengths and order with --timeline.',
  },
};

/** What `expect` says. */
export const EXPECTATION_RULE = 'run/expectation';
const COMMON = { severity: 'error', wording: null } as const;
const runRules: readonly AnyRule[] = [
  {
    ...COMMON,
    id: RULE_OF_CAUSE.stale.rule,
    statement: 'What the CPU reads after a transfer is what the device wrote.',
    page:
      "expectBytes found bytes that memory holds right and the CPU reads wrong: its cache still has the line's content from " +
      'before the transfer, or it fetched the line while the device was writing. On a machine whose devices snoop the ' +
      'caches the same driver works.\n\n' +
      'Hand the buffer to the CPU before reading it: dmaSyncSingleForCpu, or dmaUnmapSingle when it is done with.',
  },
  {
    ...COMMON,
    id: RULE_OF_CAUSE.unwritten.rule,
    statement: 'What the device reads is what the CPU stored.',
    page:
      "expectBytes found that the device has copied what memory held while the CPU's stores were still in its cache.\n\n" +
      'Store first, then map; or, with the buffer mapped already, call dmaSyncSingleForDevice behind the last store and ' +
      'before the transfer starts.',
  },
  {
    ...COMMON,
    id: RULE_OF_CAUSE.wrong.rule,
    statement: 'What arrives is what the driver expects.',
    page:
      'expectBytes found bytes that are wrong in memory too: neither a cache nor a missing sync explains them. Look at the ' +
      'addresses, lengths and the order of the transfers with --timeline, and at the findings before this one.',
  },
  {
    ...COMMON,
    id: EXPECTATION_RULE,
    statement: 'What a driver says with expect() holds.',
    page: "The condition is the driver's own. --timeline shows what happened before it.",
  },
];

/** Every rule that a finding can name. */
export function allRules(): AnyRule[] {
  return [...rules(), ...runRules];
}
/** The rule of a finding, or undefined for one that has no page. */
export function ruleOf(id: string): AnyRule | undefined {
  return ruleById(id) ?? runRules.find((rule) => rule.id === id);
}
