/** What `dmakit run` and the worker that runs the driver tell each other. */

import type { SourcePlace as Place, RunFinding } from '../tools/finding.ts';
import type { Outcome } from '../tools/run-driver.ts';

/** One run: a board, a mode, a seed. */
export interface RunJob {
  readonly board: string;
  readonly mode: string;
  readonly seed: number;
}

/** Given to the worker when it starts. */
export interface WorkerInput {
  /** The bundled driver, as a file URL. */
  readonly bundle: string;
  readonly jobs: readonly RunJob[];
  /** Append the runs' events to this file. */
  readonly trace: string | undefined;
  readonly timeline: boolean;
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

/** What became of one run. */
export interface RunRecord extends RunJob {
  readonly outcome: Outcome;
  /** Why the outcome is not ok, in a line; '' when it is. */
  readonly message: string;
  /** Where in the user's source, when that is known. */
  readonly at: Place | null;
  readonly findings: readonly RunFinding[];
  readonly splats: readonly RunSplat[];
  readonly waits: readonly { readonly task: string; readonly waitsFor: string; readonly sinceNs: number }[];
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
  /** The file is no driver: it throws when loaded, or its default export is not one. */
  | { readonly type: 'unusable'; readonly message: string; readonly at: Place | null };
