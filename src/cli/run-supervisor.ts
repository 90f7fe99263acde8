/** Starts the worker, watches that it lives, and collects what it reports. */
import { randomBytes } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { SourceMap, type SourceMapPayload } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, extname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';
import type { SourcePlace } from '../tools/finding.ts';
import { CliError } from './errors.ts';
import type { CliIo } from './io.ts';
import { type Bundle, installation } from './loader.ts';
import {
  HELD_BACK,
  type RunJob,
  type RunRecord,
  type UserFile,
  type WorkerInput,
  type WorkerMessage,
} from './run-protocol.ts';
import { SharedText } from './shared-text.ts';
import { placeText, quoteSource } from './source-place.ts';
import { askWorker, type Frame } from './stuck-place.ts';
import type { TraceFile } from './trace-file.ts';

/** How long Ctrl-C waits for the last lines of the timeline. */
const HELD_BACK_MS = 500;

/** What to run, and what to write besides the report. */
export interface Supervision {
  readonly jobs: readonly RunJob[];
  /** The user's board; absent: the jobs name boards of dmakit. */
  readonly board: Bundle | undefined;
  readonly trace: TraceFile | undefined;
  readonly timeline: boolean;
  readonly verbose: boolean;
  readonly watchdogMs: number;
  /** Told each result when it is there. */
  onRecord(record: RunRecord): void;
  /** Told lines of the timeline as they come. */
  onTimeline(text: string): void;
  /** The trace could not be written to its end. */
  onTraceFailed(message: string): void;
}

/** A user's file as it lies on disk for the worker. */
interface Module {
  readonly bundle: Bundle;
  readonly path: string;
}

/** Run all jobs. Returns false when Ctrl-C ended it early. Throws `CliError` for a file that is no driver, or no board. */
export async function supervise(io: CliIo, bundle: Bundle, what: Supervision): Promise<boolean> {
  const driver = moduleOf('run', bundle);
  const board = what.board === undefined ? undefined : moduleOf('board', what.board);
  const modules = board === undefined ? [driver] : [driver, board];
  const remove = () => {
    for (const { path } of modules) rmSync(path, { force: true });
  };
  const forget = io.onExit(remove);
  try {
    for (const { path, bundle } of modules) writeFileSync(path, bundle.code, { flag: 'wx', mode: 0o600 });
    // A run that takes its thread with it costs that run alone: the next ones get a new thread.
    for (let next = 0; next < what.jobs.length && !io.signal.aborted; ) {
      next += await new Shift(io, driver, board, what, what.jobs.slice(next)).run();
    }
    return !io.signal.aborted;
  } finally {
    forget();
    remove();
  }
}

function moduleOf(kind: string, bundle: Bundle): Module {
  const name = `dmakit-${kind}-${process.pid}-${randomBytes(4).toString('hex')}.mjs`;
  return { bundle, path: join(tmpdir(), name) };
}

/** One worker's life. */
class Shift {
  readonly #io: CliIo;
  readonly #driver: Module;
  readonly #board: Module | undefined;
  readonly #what: Supervision;
  readonly #jobs: readonly RunJob[];
  readonly #beats = new Int32Array(new SharedArrayBuffer(4));
  readonly #trace: SharedText | null;
  readonly #timeline: SharedText | null;
  readonly #worker: Worker;
  #index = -1;
  #done = 0;
  #startedMs = performance.now();
  #ending = false;

  constructor(io: CliIo, driver: Module, board: Module | undefined, what: Supervision, jobs: readonly RunJob[]) {
    this.#io = io;
    this.#driver = driver;
    this.#board = board;
    this.#what = what;
    this.#jobs = jobs;
    const { trace } = what;
    // What these are given here is what the worker leaves behind when it is ended.
    this.#trace = trace === undefined ? null : new SharedText((bytes, at) => trace.appendAt(bytes, at), trace.position);
    this.#timeline = what.timeline ? new SharedText((bytes) => what.onTimeline(bytes.toString('utf8'))) : null;
    const input: WorkerInput = {
      bundle: pathToFileURL(driver.path).href,
      board: board === undefined ? undefined : pathToFileURL(board.path).href,
      jobs,
      trace: trace === undefined ? undefined : { path: trace.path, fd: trace.fd, memory: this.#trace!.memory },
      timeline: this.#timeline?.memory,
      verbose: what.verbose,
      beats: this.#beats.buffer as SharedArrayBuffer,
    };
    this.#worker = new Worker(workerEntry(), { workerData: input, stdout: true, stderr: true });
    // What the driver prints is no part of the report.
    this.#worker.stdout.on('data', (chunk: Buffer) => io.stderr.write(chunk.toString()));
    this.#worker.stderr.on('data', (chunk: Buffer) => io.stderr.write(chunk.toString()));
  }

  /** How many jobs are settled when the worker ends. */
  async run(): Promise<number> {
    const stop = () => void this.#interrupt();
    this.#io.signal.addEventListener('abort', stop);
    try {
      await new Promise<void>((resolve, reject) => {
        const watchdog = this.#watch(reject);
        this.#worker.on('message', (message: WorkerMessage) => this.#hear(message, reject));
        this.#worker.on('error', (error) => this.#lose(`the driver ended its thread: ${error.message}`, 'panic', null));
        this.#worker.on('exit', () => {
          clearInterval(watchdog);
          if (!this.#ending) this.#lose('the driver ended its thread (process.exit)', 'panic', null);
          resolve();
        });
      });
    } finally {
      this.#io.signal.removeEventListener('abort', stop);
      await this.#stop();
      this.#collect();
    }
    return this.#done;
  }

  /** The thread is gone: hand on what it had written. */
  #collect(): void {
    this.#timeline?.flush();
    try {
      this.#trace?.flush();
    } catch (error) {
      this.#what.onTraceFailed((error as Error).message);
    }
  }

  /** Ctrl-C: what was done so far is to be seen. */
  async #interrupt(): Promise<void> {
    this.#ending = true;
    if (this.#timeline !== null) await askWorker({ call: HELD_BACK, withinMs: HELD_BACK_MS });
    await this.#stop();
  }

  async #stop(): Promise<void> {
    this.#ending = true;
    await this.#worker.terminate();
  }

  #hear(message: WorkerMessage, refuse: (error: Error) => void): void {
    if (message.type === 'log') this.#io.stderr.write(`${message.text}\n`);
    else if (message.type === 'timeline') this.#what.onTimeline(message.text);
    else if (message.type === 'end') void this.#stop();
    else if (message.type === 'trace-failed') this.#what.onTraceFailed(message.message);
    else if (message.type === 'unusable') refuse(this.#unusable(message.file, message.message, message.at));
    else if (message.type === 'started') {
      this.#index = message.index;
      this.#startedMs = performance.now();
    } else {
      this.#done = message.index + 1;
      this.#what.onRecord(message.record);
    }
  }

  #unusable(kind: UserFile, message: string, at: SourcePlace | null): CliError {
    const { file } = (kind === 'board' ? this.#board! : this.#driver).bundle;
    const where = at === null ? placeText({ file, line: 1, column: 1 }).replace(/:1:1$/, '') : placeText(at);
    const hint = at === null ? `examples/README.md shows the shape of a ${kind} file.` : quoteSource(at).trimEnd();
    return new CliError(`${where}: ${message}`, { hint });
  }

  /** The thread is gone in the middle of a run. */
  #lose(message: string, outcome: 'panic' | 'lockup', at: SourcePlace | null): void {
    if (this.#ending) return;
    this.#ending = true;
    const job = this.#jobs[Math.max(0, this.#index)]!;
    this.#done = Math.max(0, this.#index) + 1;
    const wallS = (performance.now() - this.#startedMs) / 1000;
    const empty = { findings: [], splats: [], waits: [], log: [], simulatedNs: 0 };
    this.#what.onRecord({ ...job, outcome, message, at, ...empty, wallS });
    void this.#worker.terminate();
  }

  /** Give up when no beat comes: the driver computes without end. */
  #watch(refuse: (error: Error) => void): NodeJS.Timeout {
    const { watchdogMs } = this.#what;
    let seen = -1;
    let sinceMs = performance.now();
    const look = async () => {
      const beats = Atomics.load(this.#beats, 0) + this.#done;
      // Until the first job begins, the thread loads dmakit.
      if (beats !== seen || this.#index < 0) {
        seen = beats;
        sinceMs = performance.now();
        return;
      }
      if (performance.now() - sinceMs < watchdogMs || this.#ending) return;
      clearInterval(timer);
      const at = this.#userPlaceOf(await askWorker({ call: HELD_BACK, stack: true }));
      if (Atomics.load(this.#beats, 0) + this.#done !== seen) return; // it came back while we looked
      this.#lose(
        `the driver has kept the CPU for ${watchdogMs / 1000} s without any kernel call that lets time pass`,
        'lockup',
        at,
      );
    };
    const timer = setInterval(() => look().catch(refuse), Math.min(250, watchdogMs / 4));
    return timer;
  }

  #userPlaceOf(frames: readonly Frame[]): SourcePlace | null {
    const modules = this.#board === undefined ? [this.#driver] : [this.#driver, this.#board];
    for (const frame of frames) {
      const module = modules.find(({ path }) => frame.url.includes(basename(path)));
      if (module !== undefined) return originOf(module.bundle, frame);
    }
    return null;
  }
}

/** The place in the user's file that a frame of its bundle stands for. */
function originOf({ code }: Bundle, frame: Frame): SourcePlace | null {
  const map = /\/\/# sourceMappingURL=data:application\/json;base64,(\S+)\s*$/.exec(code)?.[1];
  if (map === undefined) return null;
  const payload = JSON.parse(Buffer.from(map, 'base64').toString('utf8')) as SourceMapPayload;
  const entry = new SourceMap(payload).findEntry(frame.line - 1, frame.column - 1);
  if (!('originalSource' in entry)) return null;
  const source = new URL(entry.originalSource, payload.sourceRoot || pathToFileURL(`${installation}/`));
  return { file: fileURLToPath(source), line: entry.originalLine + 1, column: entry.originalColumn + 1 };
}

/** The worker's module, beside this one. */
function workerEntry(): URL {
  const extension = extname(import.meta.url);
  const entry = new URL(`./run-worker${extension}`, import.meta.url);
  if (extension === '.js') return entry;
  // From the sources, a worker needs tsx of its own: what runs the main thread's TypeScript is not handed on.
  const tsx = JSON.stringify(import.meta.resolve('tsx/esm/api'));
  const code = `import { register } from ${tsx}; register(); await import(${JSON.stringify(entry.href)});`;
  return new URL(`data:text/javascript,${encodeURIComponent(code)}`);
}
