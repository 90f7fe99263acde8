/** Turns the kernel's own reports into findings. */

import type { LogLine, Splat } from '../kernel/index.ts';
import { ForeignAwaitError, HungTaskError, LockupError } from '../machine/scheduler.ts';
import type { EngineChecks } from './engine-checks.ts';
import { placeFromText } from './place.ts';
import type { CheckState } from './state.ts';

/** Reports that come with a finding of their own, which says more. */
const TOLD_ELSEWHERE = /rejecting DMA map of vmalloc memory|called while \d+ clients hold a reference/;
const UNREACHABLE = /DMA addr .* overflow \(mask /;
const NO_DIRECTION = /^kernel BUG: at kernel\/dma\/mapping\.c: (.*)$/;

/** See the file's head. */
export class KernelChecks {
  readonly #state: CheckState;
  readonly #engine: EngineChecks;

  constructor(state: CheckState, engine: EngineChecks) {
    this.#state = state;
    this.#engine = engine;
  }

  splat(splat: Splat): void {
    const state = this.#state;
    const { kind, message } = splat;
    const at = state.here();
    if (kind === 'sleep-in-atomic' || kind === 'scheduling-while-atomic') {
      state.report('kernel/sleep-in-atomic', null, at, null, { what: message }, message);
    } else if (kind === 'deadlock') {
      state.report('kernel/deadlock', null, at, null, { what: message }, message);
    } else if (kind === 'oops') {
      const what = message.replace(/^Internal error: Oops: /, '');
      const thrownAt = placeFromText(splat.place);
      if (this.#engine.threw(what, thrownAt)) return;
      state.report('kernel/oops', null, thrownAt, null, { what: message }, message);
    } else if (UNREACHABLE.test(message)) {
      state.report('dma/unreachable-memory', null, at, null, { what: message }, message);
    } else if (!TOLD_ELSEWHERE.test(message)) {
      state.report('kernel/warning', null, at, null, { what: message, kind }, message);
    }
  }
  log(line: LogLine): void {
    const found = NO_DIRECTION.exec(line.text);
    if (found === null) return;
    const state = this.#state;
    state.report('dma/direction-none', null, state.here(), null, { what: found[1]! }, line.text);
  }
  /** What the run ended with. Panics and deadlocks were reported when they happened. */
  ended(error: unknown): void {
    const hung = error instanceof HungTaskError;
    if (!hung && !(error instanceof LockupError) && !(error instanceof ForeignAwaitError)) return;
    const waits = hung ? error.waits.map(({ task, waitsFor, sinceNs }) => ({ task, waitsFor, sinceNs })) : [];
    const [what = ''] = error.message.split('\n');
    this.#state.report('kernel/hung-task', null, null, null, { waits, what }, what);
  }
}
