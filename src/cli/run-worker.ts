/** The thread in which a user's driver runs, on one board after the other. */
import { parentPort, workerData } from 'node:worker_threads';
import type { Board, System } from '../boards/index.ts';
import { formatLogLine } from '../kernel/index.ts';
import type { DriverDefinition } from '../tools/driver.ts';
import { checkDriver, DriverDefinitionError } from '../tools/driver.ts';
import type { RunFinding, SourcePlace } from '../tools/finding.ts';
import { instrument } from '../tools/instruments.ts';
import { type DriverRun, runDriver } from '../tools/run-driver.ts';
import { type BoardFileError, importBoard } from './board-file.ts';
import { EventOutput } from './event-output.ts';
import { countBeats } from './heartbeat.ts';
import { installation } from './loader.ts';
import { expectationFinding } from './run-findings.ts';
import { HELD_BACK, type RunJob, type RunRecord, type WorkerInput, type WorkerMessage } from './run-protocol.ts';
import { SharedText } from './shared-text.ts';
import { userPlace } from './source-place.ts';
import { BootError, boardNamed, bootBoard } from './systems.ts';
import { appendTo } from './trace-file.ts';

/** Lines of the kernel's log shown with a run that is not ok. */
const LOG_LINES = 20;

const input = workerData as WorkerInput;
const beats = new Int32Array(input.beats);
const tell = (message: WorkerMessage) => parentPort!.postMessage(message);

process.setSourceMapsEnabled(true);
Error.stackTraceLimit = 30;

// What is written goes to memory that outlives this thread, whatever ends it: see shared-text.ts.
const { trace } = input;
const traceText =
  trace === undefined ? null : new SharedText((bytes) => appendTo(trace.fd, trace.path, bytes), trace.memory);
const timelineText =
  input.timeline === undefined
    ? null
    : new SharedText((bytes) => tell({ type: 'timeline', text: bytes.toString('utf8') }), input.timeline);
let events: EventOutput | undefined;
Object.assign(globalThis, { [HELD_BACK]: () => events?.end() });

/** Rejected promises that nobody handles, and why they were rejected. */
const rejected = new Map<Promise<unknown>, unknown>();
process.on('unhandledRejection', (reason, promise) => rejected.set(promise, reason));
process.on('rejectionHandled', (promise) => rejected.delete(promise));

for (const [index, job] of input.jobs.entries()) {
  tell({ type: 'started', index });
  const driver = await loadDriver(index);
  const board = await loadBoard(job.board, index);
  if (driver === null || board === null) break;
  tell({ type: 'done', index, record: await runOne(job, board, driver) });
  if (events?.failure != null) tell({ type: 'trace-failed', message: events.failure.message });
}
tell({ type: 'end' });

/** A fresh instance of the user's module, so that no run sees what an earlier one left in its variables. */
async function loadDriver(index: number): Promise<DriverDefinition | null> {
  try {
    const module = (await import(`${input.bundle}?run=${index}`)) as { default?: unknown };
    refuseBoard(module.default);
    return checkDriver(module.default);
  } catch (error) {
    const thrown = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    const message = error instanceof DriverDefinitionError ? error.message : `loading it threw ${thrown}`;
    const at = error instanceof Error ? userPlace(error.stack, installation) : undefined;
    tell({ type: 'unusable', file: 'driver', message, at: at ?? null });
    return null;
  }
}
function refuseBoard(exported: unknown): void {
  if (typeof exported !== 'object' || exported === null || !('deviceTree' in exported)) return;
  throw new DriverDefinitionError('it is a board, not a driver: give it as --board');
}

/** The same for a user's board; null when it is none, which was told. */
async function loadBoard(name: string, index: number): Promise<Board | null> {
  if (input.board === undefined) return boardNamed(name);
  try {
    return await importBoard(`${input.board}?run=${index}`);
  } catch (error) {
    const { message, at } = error as BoardFileError;
    tell({ type: 'unusable', file: 'board', message, at });
    return null;
  }
}

async function runOne(job: RunJob, board: Board, driver: DriverDefinition): Promise<RunRecord> {
  const startMs = performance.now();
  let system: System;
  try {
    system = await bootBoard({ board, mode: job.mode }, job.seed);
  } catch (error) {
    return notBooted(job, error as Error);
  }
  countBeats(system.machine, beats);
  if (input.verbose) system.kernel.log.onLine = (line) => tell({ type: 'log', text: formatLogLine(line) });
  events = undefined;
  if (traceText !== null || timelineText !== null) events = new EventOutput(system, traceText, timelineText);
  const instruments = instrument(system, { places: true, onEvent: events?.event });
  rejected.clear();
  const run = withRejections(await runDriver(system, driver, instruments), await unhandled());
  events?.end();
  const waits = run.waits.map(({ task, waitsFor, sinceNs, wait }) => {
    return { task, waitsFor, sinceNs, at: userPlace(instruments.stackOfWait(wait), installation) ?? null };
  });
  const waitsAt = waits.find(({ at }) => at !== null)?.at ?? null;
  const stack = run.failures[0]?.stack ?? run.stack;
  // What the checker explains is told once, by the checker.
  const unexplained = run.failures.filter(({ explained }) => !explained);
  const told = instruments.findings().map((finding) => hungAt(finding, waitsAt));
  return {
    ...job,
    outcome: run.outcome,
    message: run.message,
    at: userPlace(stack, installation) ?? waitsAt,
    // What the checker found comes first: it may explain what the driver saw.
    findings: [...told, ...unexplained.map((failure) => expectationFinding(failure, installation, told.length > 0))],
    splats: system.kernel.splats.map((splat) => ({ ...splat, at: splat.place })),
    waits,
    log: run.outcome === 'ok' ? [] : system.kernel.log.lines.slice(-LOG_LINES).map(formatLogLine),
    simulatedNs: run.simulatedNs,
    wallS: (performance.now() - startMs) / 1000,
  };
}

/** The reasons of rejections that nobody handles, once the host has told all of them. */
async function unhandled(): Promise<unknown[]> {
  await new Promise<void>((resolve) => setImmediate(resolve));
  return [...rejected.values()];
}
/** A driver that loses an error is not well, though it came to its end. */
function withRejections(run: DriverRun, reasons: readonly unknown[]): DriverRun {
  if (run.outcome !== 'ok' || reasons.length === 0) return run;
  const [reason] = reasons;
  const thrown = reason instanceof Error ? `${reason.name}: ${reason.message}` : String(reason);
  const stack = reason instanceof Error ? (reason.stack ?? '') : '';
  return { ...run, outcome: 'failed', message: `nobody handles a rejected promise: ${thrown}`, stack };
}

/** The checker does not know where tasks wait: who hangs does so at the user's wait. */
function hungAt(finding: RunFinding, at: SourcePlace | null): RunFinding {
  return finding.rule === 'kernel/hung-task' && finding.at === null ? { ...finding, at } : finding;
}

/** The board does not have the mode, or is faulty at its place. */
function notBooted(job: RunJob, error: Error): RunRecord {
  const at = error instanceof BootError ? error.place : null;
  const message = error instanceof BootError ? error.reason : error.message;
  const nothing = { findings: [], splats: [], waits: [], log: [], simulatedNs: 0, wallS: 0 };
  return { ...job, outcome: at === null ? 'skipped' : 'failed', message, at, ...nothing };
}
