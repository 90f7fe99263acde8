/**
 * A small bench harness. Each case is run in rounds, interleaved with the others and with a reference, so that a busy
 * or throttled machine slows all alike; the fastest round of each counts. What a case costs is told as the ratio to the
 * reference of the same run, which can be compared across machines; nanoseconds cannot.
 */
import { parseArgs } from 'node:util';

/** Does the measured operation `n` times. The loop belongs to the case, so that no call is added to each operation. */
export type Case = (n: number) => void;

export interface Options {
  /** Rounds that count; the fastest one does. Default 30. */
  rounds?: number;
  /** Length of one round of one case, in milliseconds. Default 5. */
  roundMs?: number;
  /** Instead of one 4 KiB `copyWithin` inside of a large Uint8Array. */
  reference?: { name: string; run: Case };
}

export interface Row {
  name: string;
  nsPerOp: number;
  /** nsPerOp over that of the reference. */
  ratio: number;
  /** Bytes of garbage an operation leaves on the heap; undefined without --expose-gc. */
  garbageBytesPerOp: number | undefined;
}

export interface Result {
  schema: 'dmakit/bench/1';
  suite: string;
  node: string;
  reference: string;
  rows: Row[];
}

/** The default reference: one operation copies 4 KiB between two places that stay in the CPU's caches. */
export function copyReference(): { name: string; run: Case } {
  const bytes = new Uint8Array(64 << 10).fill(1);
  const run = (n: number) => {
    // Not a multiple of 4 KiB apart: that would cost some CPUs extra.
    for (let i = 0; i < n; i++) bytes.copyWithin(20_544, 0, 4096);
  };
  return { name: '4 KiB copyWithin', run };
}

function elapsedNs(run: Case, n: number): number {
  const start = process.hrtime.bigint();
  run(n);
  return Number(process.hrtime.bigint() - start);
}

/** Of so many measurements of the warm-up, the fastest counts: on a busy machine one is often interrupted. */
const TRIES = 3;

/** Warms a case up, and finds how many operations fill a round. */
function calibrate(run: Case, roundNs: number): number {
  let n = 1;
  for (;;) {
    let ns = elapsedNs(run, n);
    for (let i = 1; i < TRIES && ns >= roundNs / 16; i++) ns = Math.min(ns, elapsedNs(run, n));
    if (ns >= roundNs) return Math.max(1, Math.round((n * roundNs) / ns));
    n = ns < roundNs / 16 ? n * 8 : n * 2;
  }
}

const GARBAGE_OPS = 2000; // few enough for the young generation not to be collected meanwhile

function garbageOf(run: Case): number | undefined {
  const { gc } = globalThis;
  if (gc === undefined) return undefined;
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 7; i++) {
    gc();
    const before = process.memoryUsage().heapUsed;
    run(0); // what a call costs by itself is in both differences
    const idle = process.memoryUsage().heapUsed - before;
    run(GARBAGE_OPS);
    const used = process.memoryUsage().heapUsed - before - 2 * idle;
    if (used > -4096) least = Math.min(least, Math.max(0, used)); // far below zero: it was collected meanwhile
  }
  return Number.isFinite(least) ? Math.round(least / GARBAGE_OPS) : undefined;
}

/** Measures the cases; nothing is printed. */
export function measure(suite: string, cases: Record<string, Case>, options: Options = {}): Result {
  const reference = options.reference ?? copyReference();
  const roundNs = (options.roundMs ?? 5) * 1e6;
  const all = [reference, ...Object.entries(cases).map(([name, run]) => ({ name, run }))];
  const runs = all.map(({ name, run }) => ({ name, run, n: calibrate(run, roundNs), best: Number.POSITIVE_INFINITY }));
  for (let round = 0; round < (options.rounds ?? 30); round++) {
    for (const entry of runs) {
      entry.best = Math.min(entry.best, elapsedNs(entry.run, entry.n) / entry.n);
      // It became faster since the warm-up, or that was interrupted each time: rounds too short measure the clock.
      if (entry.best * entry.n < roundNs / 2) entry.n = Math.round(roundNs / entry.best);
    }
  }
  const unit = runs[0]!.best;
  const rows = runs.map(({ name, run, best }) => {
    return { name, nsPerOp: best, ratio: best / unit, garbageBytesPerOp: garbageOf(run) };
  });
  return { schema: 'dmakit/bench/1', suite, node: process.version, reference: reference.name, rows };
}

function digits(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 1 ? value.toFixed(2) : value.toFixed(4);
}

/** The result as a table for people. */
export function table({ suite, node, reference, rows }: Result): string {
  const head = ['', 'ns/op', 'ratio', 'garbage B/op'];
  const cells = rows.map((row) => [
    row.name,
    digits(row.nsPerOp),
    digits(row.ratio),
    `${row.garbageBytesPerOp ?? '?'}`,
  ]);
  const widths = head.map((_, i) => Math.max(...[head, ...cells].map((line) => line[i]!.length)));
  const line = (texts: string[]) =>
    texts.map((text, i) => (i === 0 ? text.padEnd(widths[i]!) : text.padStart(widths[i]!))).join('  ');
  return [`${suite} (Node ${node}; ratio to ${reference})`, line(head), ...cells.map(line), ''].join('\n');
}

/** Measures and prints: a table, or with `--json` one JSON document a line. What a bench file calls. */
export function bench(suite: string, cases: Record<string, Case>, options: Options = {}): Result {
  const { values } = parseArgs({ options: { json: { type: 'boolean' }, rounds: { type: 'string' } }, strict: false });
  const rounds = typeof values.rounds === 'string' ? Number(values.rounds) : options.rounds;
  const result = measure(suite, cases, rounds === undefined ? options : { ...options, rounds });
  console.log(values.json ? JSON.stringify(result) : table(result));
  return result;
}
