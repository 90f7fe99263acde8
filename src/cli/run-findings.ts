/** A driver's failed expectations as findings: what is wrong, why, and what to do about it. */
import { hexAddr } from '../base/addr.ts';
import { type Difference, formatRanges } from '../tools/compare.ts';
import type { RunFinding } from '../tools/finding.ts';
import type { FailedExpectation } from '../tools/run-driver.ts';
import { EXPECTATION_RULE, RULE_OF_CAUSE } from './run-rules.ts';
import { userPlace } from './source-place.ts';

/**
 * The finding for one failed expectation.
 * @param others whether other findings of the run stand before it
 */
export function expectationFinding(failure: FailedExpectation, installation: string, others: boolean): RunFinding {
  const at = userPlace(failure.stack, installation) ?? null;
  const { difference, device, timeNs } = failure;
  const when = { timeNs, context: 'process main', times: 1, kernel: null, values: difference };
  const common = { severity: 'error', device, at, mappedAt: null, ...when } as const;
  if (difference === null) {
    return { ...common, rule: EXPECTATION_RULE, message: failure.message, fix: 'See what happened with --timeline.' };
  }
  return {
    ...common,
    ...RULE_OF_CAUSE[difference.cause],
    ...(others && difference.cause === 'wrong'
      ? { fix: 'Mend what the findings before this one name: it may explain the bytes.' }
      : {}),
    message: `${failure.message}: ${differenceText(difference)}`,
  };
}

/** `[0x0, 0x1000) of the buffer at 0x100000; at 0x0 the CPU reads 00, expected 5a, memory holds 5a`. */
export function differenceText({ ranges, phys, first }: Difference): string {
  const byte = (value: number) => (value < 0 ? 'nothing' : value.toString(16).padStart(2, '0'));
  const where = `${formatRanges(ranges)} of the buffer at ${hexAddr(phys)}`;
  const offset = `0x${first.offset.toString(16)}`;
  return `${where}; at ${offset} the CPU reads ${byte(first.got)}, expected ${byte(first.expected)}, memory holds ${byte(first.inMemory)}`;
}
