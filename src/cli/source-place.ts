/** Places in the user's source: found in a stack, quoted with a caret. */
import { readFileSync } from 'node:fs';
import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { SourcePlace } from '../tools/finding.ts';

const FRAME = /(?:\(|at (?:async )?)((?:file:\/\/)?[^\s()]+?):(\d+):(\d+)\)?$/;

/** The innermost frame of `stack` that is the user's: not of dmakit in `installation`, not of Node. */
export function userPlace(stack: string | undefined, installation: string): SourcePlace | undefined {
  for (const line of (stack ?? '').split('\n')) {
    const match = FRAME.exec(line.trim());
    if (match === null) continue;
    const [, where = '', row, column] = match;
    if (where.startsWith('node:')) continue;
    const file = where.startsWith('file://') ? fileURLToPath(where.replace(/\?.*$/, '')) : where;
    if (file.startsWith(installation) || file.includes('/node_modules/')) continue;
    return { file, line: Number(row), column: Number(column) };
  }
  return undefined;
}

/** `examples/ring.ts:12:3`, relative to where the user stands. */
export function placeText(place: SourcePlace): string {
  const near = relative(process.cwd(), place.file);
  return `${near.startsWith('..') ? place.file : near}:${place.line}:${place.column}`;
}

/** The line at `place` with the one before and after it, and a caret; empty when the file cannot be read. */
export function quoteSource(place: SourcePlace, indent = ''): string {
  let lines: string[];
  try {
    lines = readFileSync(place.file, 'utf8').split('\n');
  } catch {
    return '';
  }
  const first = Math.max(1, place.line - 1);
  const last = Math.min(lines.length, place.line + 1);
  const width = String(last).length;
  const out: string[] = [];
  for (let n = first; n <= last; n++) {
    const text = lines[n - 1] ?? '';
    if (n !== place.line && text.trim() === '') continue;
    out.push(`${indent}${n === place.line ? '>' : ' '} ${String(n).padStart(width)} | ${text}`);
    if (n === place.line) out.push(`${indent}  ${' '.repeat(width)} | ${' '.repeat(Math.max(0, place.column - 1))}^`);
  }
  return `${out.join('\n')}\n`;
}
