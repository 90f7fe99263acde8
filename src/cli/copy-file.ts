/** A file through a board's DMA engine: read, moved, written, read again and compared. */
import { createHash } from 'node:crypto';
import type { Board, System } from '../boards/index.ts';
import { formatLogLine } from '../kernel/index.ts';
import { probeErrors } from '../tools/channels.ts';
import type { RunFinding } from '../tools/finding.ts';
import { instrument } from '../tools/instruments.ts';
import { CopyError, MAX_CHUNK_BYTES, NoChannelError, type StreamCopyResult, streamCopy } from '../tools/stream-copy.ts';
import { createDestination, type Destination, openSource, type Source } from './copy-files.ts';
import { CliError, EXIT_FINDINGS, EXIT_USAGE, fileReason } from './errors.ts';
import type { EventRecorder } from './event-output.ts';
import type { CliIo } from './io.ts';
import { startProgress } from './progress.ts';
import type { RunSplat } from './run-protocol.ts';
import { bootBoard, channelsHint, endOfRun } from './systems.ts';
import { formatBytes } from './table.ts';

/** Bytes in one transfer unless told otherwise. */
export const DEFAULT_CHUNK_BYTES = 256 << 10;
export { MAX_CHUNK_BYTES };

/** What to copy, and by what. */
export interface CopyJob {
  readonly source: string;
  readonly destination: string;
  readonly board: Board;
  readonly mode: string;
  readonly channel?: string | undefined;
  readonly chunkBytes: number;
  readonly force: boolean;
  readonly seed: number;
  readonly verbose: boolean;
  /** Told the events of the copy. */
  readonly recorder?: EventRecorder | undefined;
}

/** What was done; also `dmakit copy --json`. */
export interface CopyReport {
  readonly schema: 'dmakit/copy/1';
  readonly source: string;
  readonly destination: string;
  readonly board: string;
  readonly mode: string;
  readonly channel: string;
  readonly seed: number;
  readonly bytes: number;
  readonly transfers: number;
  /** Of the bytes that were read. */
  readonly sha256: string;
  /** The file that was written has the same SHA-256. */
  readonly verified: boolean;
  /** Ctrl-C came first: the destination was not made. */
  readonly interrupted: boolean;
  readonly simulatedS: number;
  readonly wallS: number;
  /** What the checker found about the transfers, and the kernel's own warnings. */
  readonly findings: readonly RunFinding[];
  readonly splats: readonly RunSplat[];
}

/** Copy a file. Throws `CliError`; whatever happens, the destination is whole or as it was. */
export async function copyFile(io: CliIo, job: CopyJob): Promise<CopyReport> {
  const source = await openSource(job.source);
  try {
    const destination = await createDestination(job.destination, source, job.force);
    const forget = io.onExit(() => destination.discardNow());
    try {
      return await copyThrough(io, job, source, destination);
    } finally {
      await destination.discard();
      forget();
    }
  } finally {
    await source.handle.close();
  }
}

async function copyThrough(io: CliIo, job: CopyJob, source: Source, destination: Destination): Promise<CopyReport> {
  const startMs = performance.now();
  const hash = createHash('sha256');
  const progress = await startProgress(io, `${job.board.name} ${formatBytes(source.sizeBytes)}`, source.sizeBytes);
  let moved: Moved;
  try {
    moved = await move(io, job, {
      stopped: () => io.signal.aborted,
      read: async (into) => {
        const bytes = await readFully(source, into);
        hash.update(into.subarray(0, bytes));
        return bytes;
      },
      write: async (bytes, position) => {
        await destination.write(bytes, position);
        const done = position + bytes.length;
        progress.update(done, `${formatBytes((done / (performance.now() - startMs)) * 1000)}/s`);
      },
    });
  } finally {
    progress.stop();
  }
  const sha256 = hash.digest('hex');
  const verified = !moved.stopped && (await destination.digest()) === sha256;
  const report: CopyReport = {
    schema: 'dmakit/copy/1',
    source: job.source,
    destination: job.destination,
    board: job.board.name,
    mode: job.mode,
    channel: moved.channel,
    seed: job.seed,
    bytes: moved.bytes,
    transfers: moved.transfers,
    sha256,
    verified,
    interrupted: moved.stopped,
    simulatedS: moved.simulatedNs / 1e9,
    wallS: (performance.now() - startMs) / 1000,
    findings: moved.findings,
    splats: moved.splats,
  };
  if (verified) await destination.commit();
  return report;
}

interface Moved extends StreamCopyResult {
  readonly findings: readonly RunFinding[];
  readonly splats: readonly RunSplat[];
}

/** Boot the board and run the copy on it, checked. */
async function move(io: CliIo, job: CopyJob, ends: Parameters<typeof streamCopy>[1]): Promise<Moved> {
  const { seed, chunkBytes, channel, recorder } = job;
  const system = await bootBoard(job, seed);
  if (job.verbose) system.kernel.log.onLine = (line) => io.stderr.write(`${formatLogLine(line)}\n`);
  const instruments = instrument(system, { places: false, onEvent: recorder?.start(system) });
  try {
    const result = await system.run((kernel) =>
      streamCopy(kernel, ends, { chunkBytes, ...(channel === undefined ? {} : { channel }) }),
    );
    instruments.ended();
    const splats = system.kernel.splats.map((splat) => ({ ...splat, at: splat.place }));
    return { ...result, findings: instruments.findings(), splats };
  } catch (error) {
    throw copyError(error, job, system);
  } finally {
    recorder?.stop();
  }
}

function copyError(error: unknown, job: CopyJob, system: System): unknown {
  const { board } = job;
  if (error instanceof NoChannelError) {
    // A name that does not exist is the user's mistake; a board without any channel is not.
    const channels = channelsHint(system);
    const exitCode = channels === '' ? EXIT_FINDINGS : EXIT_USAGE;
    const hint = [channels, ...probeErrors(system.kernel)].filter((line) => line !== '').join('\n');
    return new CliError(`${board.name}: ${error.message}`, { hint, exitCode });
  }
  if (error instanceof CopyError) {
    const hint = `'${job.destination}' was not made. See the kernel's log with --verbose.`;
    return new CliError(`${board.name}: ${error.message}`, { exitCode: EXIT_FINDINGS, hint });
  }
  return endOfRun(error, job);
}

async function readFully(source: Source, into: Uint8Array): Promise<number> {
  let filled = 0;
  try {
    while (filled < into.length) {
      const { bytesRead } = await source.handle.read(into, filled, into.length - filled, null);
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
  } catch (error) {
    throw new CliError(`cannot read '${source.path}': ${fileReason(error)}`);
  }
  return filled;
}
