/** What can be wrong with a command line, its files or its machine, and how it is told: one line, then what to do. */

/** All is well. */
export const EXIT_OK = 0;
/** Findings, or cases that failed. */
export const EXIT_FINDINGS = 1;
/** Wrong usage, or input that cannot be read. */
export const EXIT_USAGE = 2;
/** A needed program or device is missing. */
export const EXIT_MISSING = 3;
/** Stopped by Ctrl-C, as shells count it: 128 + SIGINT. */
export const EXIT_INTERRUPTED = 130;

/** An error to be shown without a stack: `message` says what, where, expected and found; `hint` what to do next. */
export class CliError extends Error {
  override name = 'CliError';
  readonly exitCode: number;
  readonly hint: string;
  constructor(message: string, options: { hint?: string; exitCode?: number } = {}) {
    super(message);
    this.exitCode = options.exitCode ?? EXIT_USAGE;
    this.hint = options.hint ?? '';
  }
}

/** Something that has to be there is not: a program, a device, a part of dmakit that is still to come. Exit code 3. */
export function missing(message: string, hint = ''): CliError {
  return new CliError(message, { hint, exitCode: EXIT_MISSING });
}

const reasons: Record<string, string> = {
  ENOENT: 'no such file',
  EACCES: 'permission denied',
  EPERM: 'operation not permitted',
  EISDIR: 'is a directory (expected a file)',
  ENOTDIR: 'a part of its path is not a directory',
  ENAMETOOLONG: 'the name is too long',
  ELOOP: 'too many symbolic links',
  ENOSPC: 'no space left on the device',
  EDQUOT: 'the disk quota is used up',
  EFBIG: 'the file would be larger than the file system allows',
  EROFS: 'the file system is read-only',
  EIO: 'the disk reports an input/output error',
  EMFILE: 'too many open files',
  EBUSY: 'it is in use',
};

/** Why a call to the host's file system failed, in words; for other errors their message. */
export function fileReason(error: unknown): string {
  const code = (error as NodeJS.ErrnoException).code;
  if (code !== undefined && reasons[code] !== undefined) return reasons[code];
  return error instanceof Error ? error.message : String(error);
}

/** The exit code for an error that ends a command. */
export function exitCodeOf(error: unknown): number {
  return error instanceof CliError ? error.exitCode : EXIT_FINDINGS;
}

/** The exit code for a command that was stopped: that of the signal, which is the reason of the abort. */
export function exitCodeOfSignal({ reason }: AbortSignal): number {
  return typeof reason === 'number' ? reason : EXIT_INTERRUPTED;
}

/** The text for an error that ends a command; the stack is for `DMAKIT_DEBUG=1` alone. */
export function describeError(error: unknown, command: string, debug: boolean): string {
  const message = error instanceof Error ? error.message : String(error);
  const known = error instanceof CliError;
  const lines = [`${command}: ${known ? message : `internal error: ${message}`}`];
  if (known && error.hint !== '') lines.push(error.hint);
  if (debug && error instanceof Error && error.stack !== undefined) lines.push(error.stack);
  else if (!known) lines.push('This is a fault of dmakit itself; DMAKIT_DEBUG=1 shows where.');
  return `${lines.join('\n')}\n`;
}
