/** The thread in which a user's driver runs, on one board after the other. */
import { parentPort, workerData } from 'node:worker_threads';
import type { System } from '../boards/index.ts';
import { formatLogLine } from '../kernel/index.ts';
import type { DriverDefinition } from '../tools/driver.ts';
import { checkDriver, DriverDefinitionError } from '../tools/driver.ts';
import { instrument } from '../tools/instruments.ts';
import { runDriver } from '../tools/run-driver.ts';
import { EventOutput } from './event-output.ts';
import { countBeats } from './heartbeat.ts';
import { installation } from './loader.ts';
import { expectationFinding } from './run-findings.ts';
import type { RunJob, RunRecord, WorkerInput, WorkerMessage } from './run-protocol.ts';
import { userPlace } from './source-place.ts';
import { boardNamed, bootBoard } from './systems.ts';

/** Lines of the kernel's log shown with a run that is not ok. */
const LOG_LINES = 20;

const input = workerData as WorkerInput;
const beats = new Int32Array(input.beats);
const tell = (message: WorkerMessage) => parentPort!.postMessage(message);

process.setSourceMapsEnabled(true);
Error.stackTraceLimit = 30;

for (const [index, job] of input.jobs.entries()) {
  tell({ type: 'started', index });
  const driver = await load(index);
  if (driver === null) break;
  tell({ type: 'done', index, record: await runOne(job, driver) });
}
tell({ type: 'end' });

/** A fresh instance of the user's module, so that no run sees what an earlier one left in its variables. */
async function load(index: number): Promise<DriverDefinition | null> {
  try {
    const module = (await import(`${input.bundle}?run=${index}`)) as { default?: unknown };
    return checkDriver(module.default);
  } catch (error) {
    const thrown = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    const message = error instanceof DriverDefinitionError ? error.message : `loading it threw ${thrown}`;
    const at = error instanceof Error ? userPlace(error.stack, installation) : undefined;
    tell({ type: 'unusable', message, at: at ?? null });
    return null;
  }
}

async function runOne(job: RunJob, driver: DriverDefinition): Promise<RunRecord> {
  const startMs = performance.now();
  let system: System;
  try {
    system = await bootBoard({ board: boardNamed(job.board), mode: job.mode }, job.seed);
  } catch (error) {
    return notBooted(job, (error as Error).message);
  }
  countBeats(system.machine, beats);
  if (input.verbose) system.kernel.log.onLine = (line) => tell({ type: 'log', text: formatLogLine(line) });
  const events = openEvents(system);
  const instruments = instrument(system, { places: true, onEvent: events?.event });
  const run = await runDriver(system, driver, instruments);
  events?.end();
  const at = run.failures[0]?.stack ?? run.stack;
  // What the checker explains is told once, by the checker.
  const unexplained = run.failures.filter(({ explained }) => !explained);
  return {
    ...job,
    outcome: run.outcome,
    message: run.message,
    at: userPlace(at, installation) ?? null,
    findings: [...unexplained.map((failure) => expectationFinding(failure, installation)), ...instruments.findings()],
    splats: system.kernel.splats.map((splat) => ({ ...splat, at: splat.place })),
    waits: run.waits,
    log: run.outcome === 'ok' ? [] : system.kernel.log.lines.slice(-LOG_LINES).map(formatLogLine),
    simulatedNs: run.simulatedNs,
    wallS: (performance.now() - startMs) / 1000,
  };
}

/** Where the events of a run go: the trace file, the timeline, or nowhere. */
function openEvents(system: System): EventOutput | undefined {
  if (input.trace === undefined && !input.timeline) return undefined;
  return new EventOutput(system, input.trace, input.timeline ? (text) => tell({ type: 'timeline', text }) : undefined);
}

/** The board does not have the mode. */
function notBooted(job: RunJob, message: string): RunRecord {
  const nothing = { at: null, findings: [], splats: [], waits: [], log: [], simulatedNs: 0, wallS: 0 };
  return { ...job, outcome: 'skipped', message, ...nothing };
}
