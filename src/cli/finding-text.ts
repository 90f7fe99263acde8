/** Findings and the kernel's own reports, for people. */
import { relative } from 'node:path';
import type { RunFinding } from '../tools/finding.ts';
import type { Colors } from './io.ts';
import type { RunSplat } from './run-protocol.ts';
import { ruleOf } from './run-rules.ts';
import { placeText, quoteSource } from './source-place.ts';

/** The kernel's reports that no finding tells already. */
export function untoldSplats<S extends { readonly message: string }>(
  splats: readonly S[],
  findings: readonly RunFinding[],
): S[] {
  return splats.filter(({ message }) => !findings.some((finding) => finding.message.includes(message)));
}

/** A warning or bug of the kernel. */
export function textOfSplat(splat: Pick<RunSplat, 'message' | 'at'>, colors: Colors): string {
  const at = splat.at === '' ? '' : `\n    at ${near(splat.at)}`;
  return `\n  ${colors.yellow('kernel')} ${splat.message}${at}\n`;
}

/** A finding: what, where (with the line itself), and what to do. */
export function textOfFinding(finding: RunFinding, colors: Colors): string {
  const paint = { error: colors.red, portability: colors.yellow, note: colors.blue }[finding.severity];
  const lines = [`\n  ${paint(finding.severity)} ${colors.bold(finding.rule)}: ${finding.message}\n`];
  if (finding.at !== null) lines.push(`  ${placeText(finding.at)}\n`, quoteSource(finding.at, '    '));
  if (finding.mappedAt !== null)
    lines.push(`  ${finding.rule.startsWith('dma/') ? 'mapped' : 'made'} at ${placeText(finding.mappedAt)}\n`);
  if (finding.fix !== '') lines.push(`  ${colors.cyan('mend:')} ${finding.fix}\n`);
  if (ruleOf(finding.rule) !== undefined) lines.push(`  ${colors.dim(`why:  dmakit rules ${finding.rule}`)}\n`);
  return lines.join('');
}

/** `file:line` relative to where the user stands. */
function near(place: string): string {
  const path = relative(process.cwd(), place);
  return path.startsWith('..') ? place : path;
}
