/** What `dmakit run` and the worker that runs the driver tell each other. */

import type { SourcePlace as Place, RunFinding } from '../tools/finding.ts';
import type { Outcome } from '../tools/run-driver.ts';

/** The worker's global function that writes the lines which the timeline holds back; called when its thread is ended. */
export const HELD_BACK = 'dmakitHeldBack';

/** One run: a board, a mode, a seed. */
export interface RunJob {
  readonly board: string;
  readonly mode: string;
  readonly seed: number;
}

/** An open trace file and the memory of its SharedText. */
export interface TraceInput {
  readonly path: string;
  readonly fd: number;
  readonly memory: SharedArrayBuffer;
}

/** Given to the worker when it starts. */
export interface WorkerInput {
  /** The bundled driver, as a file URL. */
  readonly bundle: string;
  readonly jobs: readonly RunJob[];
  /** The bundled board, as a file URL; absent: the jobs name boards of dmakit. */
  readonly board: string | undefined;
  /** Where the runs' events go; absent: nowhere. */
  readonly trace: TraceInput | undefined;
  /** Memory of the SharedText for the lines of the timeline; absent: nobody wants them. */
  readonly timeline: SharedArrayBuffer | undefined;
  readonly verbose: boolean;
  /** Beat 0 counts the kernel calls of the driver; see heartbeat.ts. */
  readonly beats: SharedArrayBuffer;
}

/** A warning or bug of the kernel. */
export interface RunSplat {
  readonly kind: string;
  readonly message: string;
  readonly timeNs: number;
  readonly at: string;
}

/** A task that waits for what will never happen. */
export interface RunWait {
  readonly task: string;
  readonly waitsFor: string;
  readonly sinceNs: number;
  /** Where in the user's source it waits, when it does so there. */
  readonly at: Place | null;
}

/** What became of one run. */
export interface RunRecord extends RunJob {
  readonly outcome: Outcome;
  /** Why the outcome is not ok, in a line; '' when it is. */
  readonly message: string;
  /** Where in the user's source, when that is known. */
  readonly at: Place | null;
  readonly findings: readonly RunFinding[];
  readonly splats: readonly RunSplat[];
  readonly waits: readonly RunWait[];
  /** The last lines of the kernel's log, where the run is not ok. */
  readonly log: readonly string[];
  readonly simulatedNs: number;
  readonly wallS: number;
}

/** From the worker. */
export type WorkerMessage =
  | { readonly type: 'started'; readonly index: number }
  | { readonly type: 'log'; readonly text: string }
  /** All jobs are done. */
  | { readonly type: 'end' }
  /** Lines of the timeline. */
  | { readonly type: 'timeline'; readonly text: string }
  | { readonly type: 'done'; readonly index: number; readonly record: RunRecord }
  /** The trace is not whole. */
  | { readonly type: 'trace-failed'; readonly message: string }
  /** The file is no driver, or no board: it throws when loaded, or its default export is not one. */
  | { readonly type: 'unusable'; readonly file: UserFile; readonly message: string; readonly at: Place | null };

/** Which of the user's files. */
export type UserFile = 'driver' | 'board';
