/** The file of `--trace`. */
import { closeSync, fstatSync, ftruncateSync, openSync, statSync, writeSync } from 'node:fs';
import { CliError, fileReason } from './errors.ts';

/** See the file's head. Its descriptor is the process's: threads write to it by number. */
export class TraceFile {
  readonly path: string;
  readonly fd: number;

  /** Make the file, or empty it. Refuses to overwrite one of `inputs`. */
  constructor(path: string, inputs: readonly string[]) {
    this.path = path;
    const same = inputs.find((input) => sameFile(path, input));
    if (same !== undefined) {
      throw new CliError(`--trace: '${path}' is the file '${same}' itself`, { hint: 'Choose another file.' });
    }
    try {
      this.fd = openSync(path, 'a', 0o666);
      if (fstatSync(this.fd).isFile()) ftruncateSync(this.fd);
    } catch (error) {
      throw cannotWrite(path, error);
    }
  }

  /** Append. Throws CliError. */
  append(bytes: Uint8Array): void {
    appendTo(this.fd, this.path, bytes);
  }
  /** Append what begins at `position` of the stream, unless it is there already: its writer ended in the middle of that. */
  appendAt(bytes: Uint8Array, position: number): void {
    const stats = fstatSync(this.fd);
    const there = stats.isFile() ? Math.min(bytes.length, Math.max(0, stats.size - position)) : 0;
    this.append(bytes.subarray(there));
  }
  /** How long the stream is so far. */
  get position(): number {
    const stats = fstatSync(this.fd);
    return stats.isFile() ? stats.size : 0;
  }
  close(): void {
    closeSync(this.fd);
  }
}

/** Append to an open trace file from any thread. Throws CliError. */
export function appendTo(fd: number, path: string, bytes: Uint8Array): void {
  try {
    for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
  } catch (error) {
    throw cannotWrite(path, error);
  }
}

function cannotWrite(path: string, error: unknown): CliError {
  return new CliError(`--trace: cannot write '${path}': ${fileReason(error)}`, { hint: 'Choose another file.' });
}

function sameFile(a: string, b: string): boolean {
  try {
    const [one, other] = [statSync(a), statSync(b)];
    return one.dev === other.dev && one.ino === other.ino && one.isFile();
  } catch {
    return false; // one of them does not exist: they are not the same
  }
}
