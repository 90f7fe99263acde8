/** The timeline of a run: leaves out what nobody reads, and makes one line of a run of like accesses. */
import { hexAddr } from '../base/addr.ts';
import type { DmakitEvent } from '../checker/index.ts';
import {
  busText,
  contextText,
  describeEvent,
  formatTimeline,
  type RegisterDecoder,
  timelineLine,
  timeText,
} from './timeline.ts';

type BusEvent = Extract<DmakitEvent, { ev: 'bus_read' | 'bus_write' }>;
type RegisterEvent = Extract<DmakitEvent, { ev: 'reg_read' | 'reg_write' }>;
type CacheEvent = Extract<DmakitEvent, { ev: 'cache' }>;

/** A run of accesses that goes on. */
type Run =
  | { kind: 'bus'; first: BusEvent; count: number; bytes: number }
  | { kind: 'poll'; first: RegisterEvent; count: number }
  | { kind: 'cache'; first: CacheEvent; count: number; bytes: number; together: boolean };

/** How a timeline is written. */
export interface TimelineOptions {
  readonly decode?: RegisterDecoder | null;
  /** Also memory of the kernel's allocators, barriers, and the ends of handlers. */
  readonly everything?: boolean;
}

const SELDOM_READ: ReadonlySet<string> = new Set(['kalloc', 'kfree', 'barrier', 'leave', 'mapping_error']);

/** See the file's head. Give it every event, and call `end` when the run is over. */
export class TimelineWriter {
  readonly #write: (line: string) => void;
  readonly #decode: RegisterDecoder | null;
  readonly #everything: boolean;
  /** Open runs, in the order in which they began. A copy is two: reads and writes by turns. */
  #runs: Run[] = [];

  constructor(write: (line: string) => void, options: TimelineOptions = {}) {
    this.#write = write;
    this.#decode = options.decode ?? null;
    this.#everything = options.everything ?? false;
  }

  /** The next event: a sink for `attachEventStream`. */
  readonly event = (event: DmakitEvent): void => {
    if (!this.#everything && SELDOM_READ.has(event.ev)) return;
    if (this.#joins(event)) return;
    const run = startOf(event);
    if (
      run !== null &&
      this.#runs.every((open) => open.kind === run.kind && run.kind !== 'poll') &&
      this.#runs.length < 2
    ) {
      this.#runs.push(run);
      return;
    }
    this.end();
    if (run === null) this.#write(formatTimeline(event, this.#decode));
    else this.#runs.push(run);
  };

  /** Write what is held back. */
  end(): void {
    const runs = this.#runs;
    this.#runs = [];
    for (const run of runs) this.#write(this.#lineOf(run));
  }

  #joins(event: DmakitEvent): boolean {
    for (const run of this.#runs) {
      if (run.kind === 'bus' && (event.ev === 'bus_read' || event.ev === 'bus_write')) {
        const { first } = run;
        const next = first.addr + run.bytes;
        const same = event.ev === first.ev && event.dev === first.dev && event.status === 0 && first.status === 0;
        if (!same || event.addr !== next || event.phys !== first.phys + run.bytes) continue;
        run.count++;
        run.bytes += event.size;
        return true;
      }
      if (run.kind === 'poll' && event.ev === 'reg_read' && run.first.ev === 'reg_read') {
        if (event.addr !== run.first.addr || event.value !== run.first.value || event.ctx !== run.first.ctx) continue;
        run.count++;
        return true;
      }
      if (run.kind === 'cache' && event.ev === 'cache' && event.op === run.first.op) {
        run.together &&= event.phys === run.first.phys + run.bytes;
        run.count++;
        run.bytes += event.size;
        return true;
      }
    }
    return false;
  }

  #lineOf(run: Run): string {
    const { first } = run;
    if (run.count === 1) return formatTimeline(first, this.#decode);
    const time = timeText(first.t);
    const context = contextText(first.ctx, first.task);
    if (run.kind === 'bus') {
      const { ev, addr, phys, status, dev } = run.first;
      return timelineLine(
        time,
        context,
        dev,
        `${busText(ev, run.bytes, addr, phys, status)}, in ${run.count} accesses`,
      );
    }
    if (run.kind === 'cache') {
      const where = run.together ? `at ${hexAddr(run.first.phys)}` : `from ${hexAddr(run.first.phys)} and elsewhere`;
      return timelineLine(time, context, 'cache', `${run.first.op} ${run.bytes} bytes ${where}, in ${run.count} parts`);
    }
    const { who, what } = describeEvent(run.first, this.#decode);
    return timelineLine(time, context, who, `${what}, ${run.count} times`);
  }
}

function startOf(event: DmakitEvent): Run | null {
  if (event.ev === 'bus_read' || event.ev === 'bus_write')
    return { kind: 'bus', first: event, count: 1, bytes: event.size };
  if (event.ev === 'reg_read') return { kind: 'poll', first: event, count: 1 };
  if (event.ev === 'cache') return { kind: 'cache', first: event, count: 1, bytes: event.size, together: true };
  return null;
}
