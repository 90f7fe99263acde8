/** What watches a run: the checker and the event stream. The one place where commands meet them. */
import type { System } from '../boards/index.ts';
import {
  attachChecker,
  attachEventStream,
  type EventSink,
  type Finding,
  fixOf,
  kernelLineOf,
  messageOf,
  type Trace,
  takeTrace,
} from '../checker/index.ts';
import type { Mem } from '../machine/mem.ts';
import type { RunFinding, SourcePlace } from './finding.ts';

/** What to attach. */
export interface InstrumentOptions {
  /** Take the place in the source of every call and wait: reports name it, and calls cost microseconds. */
  readonly places: boolean;
  /** Told every event. */
  readonly onEvent?: EventSink | undefined;
}

/** Watchers at work. */
export interface Instruments {
  /** The driver saw wrong data or gave up, at the place where `thrown` was made. Returns whether findings explain it. */
  driverFailed(message: string, mem: Mem | null, thrown: Error): boolean;
  /** The run is over, with `error` when it did not come to its end. */
  ended(error?: unknown): void;
  findings(): RunFinding[];
  /** The stack on which a wait began, for reports of who hangs; '' where no places were taken. */
  stackOfWait(wait: object): string;
}

/** Attach to a booted system, before anything runs on it. */
export function instrument(system: System, options: InstrumentOptions): Instruments {
  if (options.onEvent !== undefined) attachEventStream(system, options.onEvent);
  const checker = attachChecker(system, { places: options.places });
  const waits = new WeakMap<object, Trace>();
  const onWait = (wait: object) => {
    waits.set(wait, takeTrace(onWait));
  };
  if (options.places) system.kernel.context.onWait = onWait;
  return {
    driverFailed(message, mem, thrown) {
      const before = checker.findings().length;
      checker.driverFailed(message, mem, thrown);
      return checker.findings().length > before;
    },
    ended: (error) => checker.runEnded(error),
    findings: () => checker.findings().map(asRunFinding),
    stackOfWait: (wait) => waits.get(wait)?.stack ?? '',
  };
}

function asRunFinding(finding: Finding): RunFinding {
  const { rule, severity, device, at, mappedAt, timeNs, context, times, values } = finding;
  return {
    rule,
    severity,
    message: `${messageOf(finding)}${times > 1 ? ` (${times} times)` : ''}`,
    device,
    at: placeOf(at),
    mappedAt: placeOf(mappedAt),
    fix: fixOf(finding) ?? '',
    timeNs,
    context,
    times,
    kernel: kernelLineOf(finding),
    values,
  };
}

function placeOf(place: SourcePlace | null): SourcePlace | null {
  return place === null ? null : { file: place.file, line: place.line, column: place.column };
}
