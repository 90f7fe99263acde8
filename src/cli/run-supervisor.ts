/** Starts the worker, watches that it lives, and collects what it reports. */
import { randomBytes } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { SourceMap, type SourceMapPayload } from 'node:module';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';
import type { SourcePlace } from '../tools/finding.ts';
import { CliError } from './errors.ts';
import type { CliIo } from './io.ts';
import { type Bundle, installation } from './loader.ts';
import type { RunJob, RunRecord, WorkerInput, WorkerMessage } from './run-protocol.ts';
import { placeText, quoteSource } from './source-place.ts';
import { type Frame, stackOfWorker } from './stuck-place.ts';

/** What to run, and what to write besides the report. */
export interface Supervision {
  readonly jobs: readonly RunJob[];
  readonly trace: string | undefined;
  readonly timeline: boolean;
  readonly verbose: boolean;
  readonly watchdogMs: number;
  /** Told each result when it is there. */
  onRecord(record: RunRecord): void;
  /** Told lines of the timeline as they come. */
  onTimeline(text: string): void;
}

/** Run all jobs. Returns false when Ctrl-C ended it early. Throws `CliError` for a file that is no driver. */
export async function supervise(io: CliIo, bundle: Bundle, what: Supervision): Promise<boolean> {
  const module = join(tmpdir(), `dmakit-run-${process.pid}-${randomBytes(4).toString('hex')}.mjs`);
  const forget = io.onExit(() => rmSync(module, { force: true }));
  writeFileSync(module, bundle.code, { flag: 'wx', mode: 0o600 });
  try {
    // A run that takes its thread with it costs that run alone: the next ones get a new thread.
    for (let next = 0; next < what.jobs.length && !io.signal.aborted; ) {
      next += await new Shift(io, bundle, pathToFileURL(module).href, what, what.jobs.slice(next)).run();
    }
    return !io.signal.aborted;
  } finally {
    forget();
    rmSync(module, { force: true });
  }
}

/** One worker's life. */
class Shift {
  readonly #io: CliIo;
  readonly #bundle: Bundle;
  readonly #what: Supervision;
  readonly #jobs: readonly RunJob[];
  readonly #beats = new Int32Array(new SharedArrayBuffer(4));
  readonly #worker: Worker;
  #index = -1;
  #done = 0;
  #startedMs = performance.now();
  #ending = false;

  constructor(io: CliIo, bundle: Bundle, module: string, what: Supervision, jobs: readonly RunJob[]) {
    this.#io = io;
    this.#bundle = bundle;
    this.#what = what;
    this.#jobs = jobs;
    const input: WorkerInput = {
      bundle: module,
      jobs,
      trace: what.trace,
      timeline: what.timeline,
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
    const stop = () => this.#stop();
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
      this.#stop();
    }
    return this.#done;
  }

  #stop(): void {
    this.#ending = true;
    void this.#worker.terminate();
  }

  #hear(message: WorkerMessage, refuse: (error: Error) => void): void {
    if (message.type === 'log') this.#io.stderr.write(`${message.text}\n`);
    else if (message.type === 'timeline') this.#what.onTimeline(message.text);
    else if (message.type === 'end') this.#stop();
    else if (message.type === 'unusable') refuse(this.#unusable(message.message, message.at));
    else if (message.type === 'started') {
      this.#index = message.index;
      this.#startedMs = performance.now();
    } else {
      this.#done = message.index + 1;
      this.#what.onRecord(message.record);
    }
  }

  #unusable(message: string, at: SourcePlace | null): CliError {
    const file = placeText({ file: this.#bundle.file, line: 1, column: 1 }).replace(/:1:1$/, '');
    const where = at === null ? file : placeText(at);
    const hint = at === null ? 'examples/README.md shows the shape of a driver file.' : quoteSource(at).trimEnd();
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
      const at = this.#userPlaceOf(await stackOfWorker());
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
    const frame = frames.find(({ url }) => url.includes('dmakit-run-'));
    if (frame === undefined) return null;
    const map = /\/\/# sourceMappingURL=data:application\/json;base64,(\S+)\s*$/.exec(this.#bundle.code)?.[1];
    if (map === undefined) return null;
    const payload = JSON.parse(Buffer.from(map, 'base64').toString('utf8')) as SourceMapPayload;
    const entry = new SourceMap(payload).findEntry(frame.line - 1, frame.column - 1);
    if (!('originalSource' in entry)) return null;
    const source = new URL(entry.originalSource, payload.sourceRoot || pathToFileURL(`${installation}/`));
    return { file: fileURLToPath(source), line: entry.originalLine + 1, column: entry.originalColumn + 1 };
  }
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
