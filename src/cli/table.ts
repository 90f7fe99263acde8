/** Tables without lines, the same on a terminal and in a pipe (where other programs split them by spaces). */
import { stripVTControlCharacters } from 'node:util';
import Table from 'cli-table3';
import type { Colors } from './io.ts';

/** A column: its title, and whether it holds numbers (right-aligned). */
export interface Column {
  readonly title: string;
  readonly numeric?: boolean;
}

const noLines = Object.fromEntries(
  ['top', 'top-mid', 'top-left', 'top-right', 'bottom', 'bottom-mid', 'bottom-left', 'bottom-right', 'left', 'left-mid']
    .concat(['mid', 'mid-mid', 'right', 'right-mid'])
    .map((name) => [name, '']),
);

/**
 * The table as text, with a line end.
 * @param width of the terminal; a table that is wider is told row by row, each cell with its title
 */
export function formatTable(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  colors: Colors,
  width = Number.POSITIVE_INFINITY,
): string {
  const text = wideTable(columns, rows, colors);
  if (text.split('\n').every((line) => stripVTControlCharacters(line).length <= width)) return text;
  return rows.map((row) => `${wrapCells(columns, row, colors, width)}\n`).join('');
}

/** The cells of a row with their titles, as many on a line as fit; further lines are indented. */
function wrapCells(columns: readonly Column[], row: readonly string[], colors: Colors, width: number): string {
  const lines: string[] = [];
  for (const [i, { title }] of columns.entries()) {
    const cell = `${colors.dim(title.trim())} ${(row[i] ?? '').trim()}`;
    const longer = `${lines.at(-1)}  ${cell}`;
    if (lines.length > 0 && stripVTControlCharacters(longer).length <= width) lines[lines.length - 1] = longer;
    else lines.push(lines.length === 0 ? cell : `  ${cell}`);
  }
  return lines.join('\n');
}

function wideTable(columns: readonly Column[], rows: readonly (readonly string[])[], colors: Colors): string {
  const table = new Table({
    chars: { ...noLines, middle: '  ' },
    style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [], compact: true },
    colAligns: columns.map((column) => (column.numeric ? 'right' : 'left')),
    head: columns.map((column) => colors.dim(column.title)),
  });
  for (const row of rows) table.push([...row]);
  const lines = table.toString().split('\n');
  return `${lines.map((line) => line.trimEnd()).join('\n')}\n`;
}

/** A count with thousands separated by a thin comma: 1,234,567. */
export function formatCount(n: number): string {
  return Math.round(n).toLocaleString('en-US');
}

/** Bytes for people: 512 B, 1.4 KB, 12.5 MB (powers of 1000, as file managers and disks count). */
export function formatBytes(n: number): string {
  if (n < 1000) return `${n} B`;
  const units = ['KB', 'MB', 'GB', 'TB'];
  let value = n / 1000;
  let unit = 0;
  while (value >= 999.95 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${value.toFixed(1)} ${units[unit]}`;
}

/** A number of things with its noun: `plural(1, 'board')` is `1 board`. */
export function plural(n: number, noun: string, nouns = `${noun}s`): string {
  return `${formatCount(n)} ${n === 1 ? noun : nouns}`;
}
