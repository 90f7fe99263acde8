/**
 * The two files of a copy. The destination is written under a temporary name beside its final one and gets that only
 * when it is whole, on disk and verified: whoever looks sees the old file, or none, or the complete new one.
 */
import { createHash, randomBytes } from 'node:crypto';
import { type Stats, unlinkSync } from 'node:fs';
import { type FileHandle, link, lstat, open, realpath, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { CliError, fileReason } from './errors.ts';

/** The file to be read. */
export interface Source {
  readonly path: string;
  readonly handle: FileHandle;
  /** Size when opened; the file is read to its end, wherever that then is. */
  readonly sizeBytes: number;
  readonly stats: Stats;
}

/** Open `path` for reading. Refuses what is no regular file, before opening it (a FIFO would block). */
export async function openSource(path: string): Promise<Source> {
  try {
    const before = await stat(path);
    if (!before.isFile()) throw new CliError(`cannot read '${path}': is ${kindOf(before)} (expected a file)`);
    const handle = await open(path, 'r');
    const stats = await handle.stat();
    return { path, handle, sizeBytes: stats.size, stats };
  } catch (error) {
    if (error instanceof CliError) throw error;
    const hint =
      (error as NodeJS.ErrnoException).code === 'EACCES' ? 'Ask for permission to read it, or copy another file.' : '';
    throw new CliError(`cannot read '${path}': ${fileReason(error)}`, { hint });
  }
}

/** The file to be written, so far under its temporary name. */
export class Destination {
  readonly path: string;
  readonly #asked: string;
  readonly #temporary: string;
  readonly #replace: boolean;
  readonly #handle: FileHandle;
  #ended = false;

  /** @internal See `createDestination`. */
  constructor(asked: string, path: string, temporary: string, replace: boolean, handle: FileHandle) {
    this.#asked = asked;
    this.path = path;
    this.#temporary = temporary;
    this.#replace = replace;
    this.#handle = handle;
  }

  /** Write all of `bytes` at `position`. */
  async write(bytes: Uint8Array, position: number): Promise<void> {
    try {
      for (let at = 0; at < bytes.length; ) {
        const { bytesWritten } = await this.#handle.write(bytes, at, bytes.length - at, position + at);
        at += bytesWritten;
      }
    } catch (error) {
      throw new CliError(`cannot write '${this.#asked}': ${fileReason(error)}`, {
        hint: 'Nothing was left behind; free some space or choose another place.',
      });
    }
  }

  /** SHA-256 of what was written, read back from the file. */
  async digest(): Promise<string> {
    const hash = createHash('sha256');
    const buffer = Buffer.allocUnsafe(1 << 20);
    for (let position = 0; ; ) {
      const { bytesRead } = await this.#handle.read(buffer, 0, buffer.length, position);
      if (bytesRead === 0) return hash.digest('hex');
      hash.update(buffer.subarray(0, bytesRead));
      position += bytesRead;
    }
  }

  /** Put the whole file on disk and give it its name. */
  async commit(): Promise<void> {
    try {
      await this.#handle.sync();
      await this.#handle.close();
      if (this.#replace) await rename(this.#temporary, this.path);
      else await this.#linkNew();
      this.#ended = true;
      await syncDirectory(dirname(this.path));
    } catch (error) {
      await this.discard();
      if (error instanceof CliError) throw error;
      throw new CliError(`cannot write '${this.#asked}': ${fileReason(error)}`);
    }
  }

  /** Give it its name only if nobody else has taken that meanwhile. */
  async #linkNew(): Promise<void> {
    try {
      await link(this.#temporary, this.path);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code === 'EEXIST') throw alreadyExists(this.#asked);
      // A file system without hard links: rename, which would replace what appeared within the last moments.
      return rename(this.#temporary, this.path);
    }
    await rm(this.#temporary, { force: true });
  }

  /** Remove what was written. Does nothing after `commit`. */
  async discard(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    await this.#handle.close().catch(() => {}); // already closed when commit failed
    await rm(this.#temporary, { force: true });
  }

  /** `discard` for a process that is about to end. */
  discardNow(): void {
    if (this.#ended) return;
    this.#ended = true;
    void this.#handle.close().catch(() => {});
    try {
      unlinkSync(this.#temporary);
    } catch {} // it is gone, and that is what was wanted
  }
}

/** Begin to write `path`. Refuses directories and special files, the source itself, and without `force` what exists. */
export async function createDestination(path: string, source: Source, force: boolean): Promise<Destination> {
  const target = await checkDestination(path, source, force);
  const temporary = join(dirname(target), `.dmakit-${process.pid}-${randomBytes(4).toString('hex')}.tmp`);
  try {
    const handle = await open(temporary, 'wx+', source.stats.mode & 0o777);
    return new Destination(path, target, temporary, force, handle);
  } catch (error) {
    const reason = await whyNotMade(path, error);
    throw new CliError(`cannot write '${path}': ${reason}`, { hint: 'Choose a place where you may write.' });
  }
}

/** A missing directory is the usual reason for ENOENT, but file systems such as /proc give it for any new name. */
async function whyNotMade(path: string, error: unknown): Promise<string> {
  if ((error as NodeJS.ErrnoException).code !== 'ENOENT') return fileReason(error);
  const directory = dirname(path);
  return (await stat(directory).catch(() => null)) === null
    ? `the directory '${directory}' does not exist`
    : `no file can be made in '${directory}'`;
}

async function checkDestination(path: string, source: Source, force: boolean): Promise<string> {
  if (path === '') throw new CliError("cannot write '': the name is empty", { hint: 'Give a file name.' });
  const found = await lookAt(path);
  if (found === 'absent') {
    if (/[/\\]$/.test(path)) {
      throw new CliError(`cannot write '${path}': the directory does not exist`, { hint: 'Give a file name.' });
    }
    return resolve(path);
  }
  if (found === 'dangling') {
    if (!force) throw alreadyExists(path);
    return resolve(path);
  }
  if (found.isDirectory()) {
    const hint = `Give a file name, such as '${join(path, basename(source.path))}'.`;
    throw new CliError(`cannot write '${path}': is a directory (expected a file)`, { hint });
  }
  if (!found.isFile()) throw new CliError(`cannot write '${path}': is ${kindOf(found)} (expected a file)`);
  if (found.dev === source.stats.dev && found.ino === source.stats.ino) {
    throw new CliError(`'${source.path}' and '${path}' are the same file`, { hint: 'Give another destination.' });
  }
  if (!force) throw alreadyExists(path);
  return realpath(path); // a symbolic link stays, and what it points to is replaced
}

async function lookAt(path: string): Promise<Stats | 'absent' | 'dangling'> {
  try {
    return await stat(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOENT') throw new CliError(`cannot write '${path}': ${fileReason(error)}`);
  }
  return lstat(path).then(
    () => 'dangling' as const,
    () => 'absent' as const,
  );
}

function alreadyExists(path: string): CliError {
  return new CliError(`'${path}' exists already`, { hint: 'Give --force to replace it, or another name.' });
}

/** A rename is on disk only when its directory is. Some file systems cannot do this, and need not. */
async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, 'r').catch(() => undefined);
  if (handle === undefined) return;
  await handle.sync().catch(() => {});
  await handle.close();
}

function kindOf(stats: Stats): string {
  if (stats.isDirectory()) return 'a directory';
  if (stats.isFIFO()) return 'a FIFO';
  if (stats.isSocket()) return 'a socket';
  if (stats.isCharacterDevice()) return 'a character device';
  if (stats.isBlockDevice()) return 'a block device';
  return 'no regular file';
}
