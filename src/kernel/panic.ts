/** Warnings, bugs and the end of the run: what the kernel prints when code that runs on it did wrong. */
import { KernelBug } from '../base/errno.ts';
import type { Kernel } from './kernel.ts';
import type { Splat, SplatKind } from './observer.ts';
import { LogLevel, printk } from './printk.ts';

/** The kernel cannot go on. `cause` is what was thrown. */
export class KernelPanic extends Error {
  override name = 'KernelPanic';
}
/** A spin lock was taken which nobody can release any more. */
export class DeadlockError extends Error {
  override name = 'DeadlockError';
}

/** The folders of code that drivers stand on: a report is about who called it. */
const BELOW_DRIVERS = /^(?:base|machine|kernel|mapping|iommu|dmaengine|dmabuf)\//;
const FRAME = /\(?((?:file:\/\/|\/|[A-Za-z]:\\)[^()]*):(\d+):\d+\)?$/;

function framesOf(error: Error): string[] {
  return error.stack?.split('\n').slice(1) ?? [];
}
function pathOf(frame: string): string | null {
  return FRAME.exec(frame)?.[1]?.replace(/^file:\/\//, '') ?? null;
}
/** The folder of the sources, with a slash at its end, as stack traces show it; '' where they do not. */
const ROOT = /^(.*\/)kernel\/[^/]*$/.exec(pathOf(framesOf(new Error())[0] ?? '') ?? '')?.[1] ?? '';

/** Where in a driver's source, or a test's, the running code is: `path:line`, or '' where the engine does not say. */
export function callerPlace(): string {
  return placeOfError(new Error());
}
/** Where in a driver's source, or a test's, an error was made; '' where its stack does not say. */
function placeOfError(error: unknown): string {
  if (!(error instanceof Error)) return '';
  for (const frame of framesOf(error)) {
    const path = pathOf(frame);
    if (path === null) continue;
    const below = ROOT !== '' && path.startsWith(ROOT) && BELOW_DRIVERS.test(path.slice(ROOT.length));
    if (!below || /\.test\.ts$/.test(path)) return `${path}:${FRAME.exec(frame)?.[2]}`;
  }
  return '';
}

/**
 * Record a report and print it. `message` is its first line as the kernel words it; `more` the lines behind it; `place`
 * is where it happened, by default where the running code is.
 */
export function splat(
  kernel: Kernel,
  kind: SplatKind,
  message: string,
  more: readonly string[] = [],
  place = callerPlace(),
): void {
  const report: Splat = { kind, message, timeNs: kernel.machine.now(), place };
  kernel.splats.push(report);
  printk(kernel, LogLevel.WARNING, message);
  for (const line of more) printk(kernel, LogLevel.WARNING, line);
  if (report.place !== '') printk(kernel, LogLevel.WARNING, `at ${report.place}`);
  kernel.observer?.splat?.(report);
}

/** Report when `condition` holds, every time. Returns the condition. Any context. @linux WARN_ON, WARN */
export function warnOn(kernel: Kernel, condition: boolean, message: string): boolean {
  if (condition) splat(kernel, 'warn', `WARNING: ${message}`);
  return condition;
}
/** As `warnOn`, but each message is reported once. @linux WARN_ONCE, WARN_ON_ONCE */
export function warnOnce(kernel: Kernel, condition: boolean, message: string): boolean {
  if (condition && !kernel.warnedOnce.has(message)) {
    kernel.warnedOnce.add(message);
    splat(kernel, 'warn', `WARNING: ${message}`);
  }
  return condition;
}

/** Throw `KernelBug` when `condition` holds, after printing it. @linux BUG_ON */
export function bugOn(kernel: Kernel, condition: boolean, message: string): void {
  if (!condition) return;
  printk(kernel, LogLevel.EMERG, `kernel BUG: ${message}`);
  throw new KernelBug(message);
}

/** End the run: print `message`, and let the scheduler stop with a `KernelPanic`. @linux panic */
export function panic(kernel: Kernel, message: string, cause?: unknown): void {
  if (kernel.dead !== null) return;
  printk(kernel, LogLevel.EMERG, `Kernel panic - not syncing: ${message}`);
  die(kernel, new KernelPanic(message, { cause }));
}

/** @internal No code may run any more; `error` is what the run ends with. */
export function die(kernel: Kernel, error: Error): void {
  if (kernel.dead !== null) return;
  kernel.dead = error;
  kernel.machine.scheduler.abort(error);
}

/**
 * Code which nobody awaits has thrown: an interrupt handler, a tasklet, a timer, a work. Printed as an oops; the run ends
 * with a panic whose cause is the original, and nothing is thrown into the interrupted code. `where` says whose code.
 */
export function oops(kernel: Kernel, where: string, error: unknown): void {
  if (kernel.dead !== null) return;
  if (error instanceof DeadlockError) {
    die(kernel, error);
    return;
  }
  const message = `Internal error: Oops: ${describeError(error)}`;
  splat(kernel, 'oops', message, [`in ${where}, ${kernel.context.describe()}`, ...stackOf(error)], placeOfError(error));
  const fatal = kernel.context.inTask ? 'Fatal exception' : 'Fatal exception in interrupt';
  panic(kernel, `${fatal}: ${where}: ${describeError(error)}`, error);
}

/** `TypeError: x is undefined`, or the thrown value itself. */
export function describeError(error: unknown): string {
  return error instanceof Error ? `${error.name}: ${error.message}` : `thrown value ${String(error)}`;
}
function stackOf(error: unknown): string[] {
  if (!(error instanceof Error) || error.stack === undefined) return [];
  const lines = error.stack.split('\n').filter((line) => /^\s+at /.test(line));
  return lines.slice(0, 4);
}
