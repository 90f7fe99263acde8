/** A driver's failed expectations as findings: what is wrong, why, and what to do about it. */
import { hexAddr } from '../base/addr.ts';
import { type Difference, formatRanges } from '../tools/compare.ts';
import type { RunFinding } from '../tools/finding.ts';
import type { FailedExpectation } from '../tools/run-driver.ts';
import { userPlace } from './source-place.ts';

const RULES: Record<Difference['cause'], { rule: string; fix: string }> = {
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

/** The finding for one failed expectation. */
export function expectationFinding(failure: FailedExpectation, installation: string): RunFinding {
  const at = userPlace(failure.stack, installation) ?? null;
  const { difference, device, timeNs } = failure;
  const when = { timeNs, context: 'process main', times: 1, kernel: null, values: difference };
  const common = { severity: 'error', device, at, mappedAt: null, ...when } as const;
  if (difference === null) {
    return { ...common, rule: 'run/expectation', message: failure.message, fix: 'See what happened with --timeline.' };
  }
  return { ...common, ...RULES[difference.cause], message: `${failure.message}: ${differenceText(difference)}` };
}

/** `[0x0, 0x1000) of the buffer at 0x100000; at 0x0 the CPU reads 00, expected 5a, memory holds 5a`. */
export function differenceText({ ranges, phys, first }: Difference): string {
  const byte = (value: number) => (value < 0 ? 'nothing' : value.toString(16).padStart(2, '0'));
  const where = `${formatRanges(ranges)} of the buffer at ${hexAddr(phys)}`;
  const offset = `0x${first.offset.toString(16)}`;
  return `${where}; at ${offset} the CPU reads ${byte(first.got)}, expected ${byte(first.expected)}, memory holds ${byte(first.inMemory)}`;
}
