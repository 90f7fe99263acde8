/** The kernel's log: lines with a level and the time, kept in a ring as dmesg keeps them. */
import type { Kernel } from './kernel.ts';

/** Levels, most urgent first. @linux KERN_EMERG, KERN_ERR, KERN_WARNING, KERN_NOTICE, KERN_INFO, KERN_DEBUG */
export const LogLevel = {
  EMERG: 0,
  ALERT: 1,
  CRIT: 2,
  ERR: 3,
  WARNING: 4,
  NOTICE: 5,
  INFO: 6,
  DEBUG: 7,
} as const;
/** One of `LogLevel`'s numbers. */
export type LogLevel = (typeof LogLevel)[keyof typeof LogLevel];

/** A line of the log. */
export interface LogLine {
  readonly timeNs: number;
  readonly level: LogLevel;
  readonly text: string;
}

/** How many lines are kept at least; older ones are dropped. */
const KEPT_LINES = 8192;

/** The log buffer. */
export class KernelLog {
  /** The newest lines, oldest first: `KEPT_LINES` to twice as many. */
  readonly lines: LogLine[] = [];
  /** How many older lines were dropped. */
  dropped = 0;
  /** Told every line when it is written. */
  onLine: ((line: LogLine) => void) | null = null;

  /** Append a line. */
  append(timeNs: number, level: LogLevel, text: string): LogLine {
    const line: LogLine = { timeNs, level, text };
    if (this.lines.length >= 2 * KEPT_LINES) {
      this.lines.splice(0, KEPT_LINES);
      this.dropped += KEPT_LINES;
    }
    this.lines.push(line);
    this.onLine?.(line);
    return line;
  }
  /** All kept lines as dmesg prints them. */
  toString(): string {
    return this.lines.map(formatLogLine).join('\n');
  }
}

/** A line as dmesg prints it: `[    1.000250] irq 5: nobody cared`. */
export function formatLogLine(line: LogLine): string {
  return `[${logTime(line.timeNs)}] ${line.text}`;
}
/** Nanoseconds as dmesg prints a time: seconds with six places, twelve characters wide. */
export function logTime(timeNs: number): string {
  const us = Math.floor(timeNs / 1000);
  return `${Math.floor(us / 1e6)}.${String(us % 1e6).padStart(6, '0')}`.padStart(12);
}

/** Write a line; text with line breaks becomes several lines. Any context. @linux printk */
export function printk(kernel: Kernel, level: LogLevel, text: string): void {
  const now = kernel.machine.now();
  for (const part of text.split('\n')) {
    const line = kernel.log.append(now, level, part);
    kernel.observer?.log?.(line);
  }
}
/** @linux pr_err */
export function prErr(kernel: Kernel, text: string): void {
  printk(kernel, LogLevel.ERR, text);
}
/** @linux pr_warn */
export function prWarn(kernel: Kernel, text: string): void {
  printk(kernel, LogLevel.WARNING, text);
}
/** @linux pr_info */
export function prInfo(kernel: Kernel, text: string): void {
  printk(kernel, LogLevel.INFO, text);
}
/** @linux pr_debug */
export function prDebug(kernel: Kernel, text: string): void {
  printk(kernel, LogLevel.DEBUG, text);
}
