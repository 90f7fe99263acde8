/**
 * Replays what a real kernel was seen to decide, through the same calls that drivers make, on a machine set up like the
 * recorded one. What is expected is only ever compared with, case by case.
 */
import { type Fields, GoldenError, type GoldenFile, parseGolden } from './golden.ts';
import type { HiddenEvent } from './history.ts';
import { replayFill, replayIova } from './iova-replay.ts';
import { replayMasks } from './mask-replay.ts';
import { agrees, type CaseOutcome, sameJson } from './outcome.ts';
import { replayPools } from './pool-replay.ts';
import { type Rig, RigPool } from './rig.ts';
import { readEntries, replaySg } from './sg-replay.ts';
import { replaySwiotlb } from './swiotlb-replay.ts';

/** A case that came out differently. */
export interface ConformFailure {
  readonly case: string;
  readonly expected: unknown;
  readonly got: unknown;
}
/** What came of one file. */
export interface ConformFileResult {
  readonly file: string;
  readonly kind: string;
  readonly variant: string;
  readonly passed: number;
  readonly failed: number;
  readonly firstFailures: readonly ConformFailure[];
  /** Events that are not in the file and had to be assumed between its cases (see history.ts). */
  readonly unseenEvents: number;
}

const FAILURES_SHOWN = 5;
/** Replays that the search for a history may cost; a file that is what it seems needs one. */
const MAX_REPLAYS = 500;
/** Ranges of 2^0 to 2^5 pages are cached. */
const CACHED_ORDERS = 6;

/**
 * Replay one golden file. `path` is shown; `name` is its last part. Throws `GoldenError` for what is no golden file.
 */
export async function conformFile(path: string, text: string): Promise<ConformFileResult> {
  const file = parseGolden(path.split(/[\\/]/).at(-1) ?? path, text);
  const { outcomes, unseenEvents } = await explain(file);
  const failures = outcomes.filter((outcome) => !agrees(outcome));
  return {
    file: path,
    kind: file.kind,
    variant: file.variant,
    passed: outcomes.length - failures.length,
    failed: failures.length,
    firstFailures: failures.slice(0, FAILURES_SHOWN).map((o) => ({ case: o.name, expected: o.expected, got: o.got })),
    unseenEvents,
  };
}

function replay(file: GoldenFile, rig: Rig, history: readonly HiddenEvent[], last: number): Promise<CaseOutcome[]> {
  switch (file.kind) {
    case 'iova':
      return replayIova(rig, file.result, history, last);
    case 'fill':
      return replayFill(rig, file.result);
    case 'dma_mask':
      return replayMasks(rig, file.result);
    case 'dma_pool':
      return replayPools(rig, file.result);
    case 'map_sg':
      return replaySg(rig, file.result, history, last);
    case 'swiotlb':
      return replaySwiotlb(rig, file.result, history, last);
  }
}

interface Attempt {
  readonly outcomes: CaseOutcome[];
  readonly history: readonly HiddenEvent[];
  readonly unseenEvents: number;
}
const countFailures = (outcomes: readonly CaseOutcome[]): number => outcomes.filter((one) => !agrees(one)).length;

/** Replay, and where I/O virtual addresses come out differently, look for the unseen events that explain them. */
async function explain(file: GoldenFile): Promise<Attempt> {
  const pool = new RigPool(file.machine);
  let replays = 0;
  /** Replay up to case `last`. */
  const attempt = (history: readonly HiddenEvent[], last: number): Promise<Attempt> => {
    replays++;
    return pool.run(async (rig) => {
      const outcomes = await replay(file, rig, history, last);
      rig.release();
      return { outcomes, history, unseenEvents: rig.unseenEvents };
    });
  };
  /** The best that can be made of `base`, whose cases before `from` are settled. */
  const improve = async (base: Attempt, from: number): Promise<Attempt> => {
    const index = base.outcomes.findIndex((outcome, i) => i >= from && !agrees(outcome));
    if (index < 0) return base;
    let best: Attempt | null = null;
    const failuresSoFar = countFailures(base.outcomes.slice(0, index + 1));
    for (const event of candidates(file, base.outcomes[index]!, index)) {
      if (replays >= MAX_REPLAYS) break;
      const history = [...base.history, event];
      const next = await attempt(history, index);
      if (countFailures(next.outcomes) >= failuresSoFar) continue;
      const result = await improve(await attempt(history, Number.POSITIVE_INFINITY), index + 1);
      if (best === null || countFailures(result.outcomes) < countFailures(best.outcomes)) best = result;
      if (countFailures(best.outcomes) === 0) break;
    }
    return best ?? improve(base, index + 1);
  };
  return improve(await attempt([], Number.POSITIVE_INFINITY), 0);
}

/** Unseen events that may explain why case `index` got another address; none where anything else differs. */
function* candidates(file: GoldenFile, { expected, got }: CaseOutcome, index: number): Generator<HiddenEvent> {
  if (file.kind !== 'map_sg' || !sameButAddress(expected, got)) return;
  // Deferred invalidation: whether its timer ran between two cases is not in the file.
  if (/lazy/.test(file.variant)) yield { before: index, what: 'wait' };
  // An excerpt: a case that is not shown was the first to take a range of some size. The allocator caches six sizes, so
  // that only the order of the first ones matters.
  // Outcome 0 is no list, so that list i is outcome i + 1.
  const orders = file.result
    .objects('cases')
    .slice(0, index - 1)
    .map(orderOf);
  const afterFirsts = orders.flatMap((order, i) => (orders.indexOf(order) === i ? [i + 2] : []));
  for (const before of [...new Set([index, ...afterFirsts.reverse(), 1])]) {
    for (let order = 0; order < CACHED_ORDERS; order++) {
      if (!orders.includes(order)) yield { before, what: 'map', pages: 2 ** order };
    }
  }
}

/** The power of two of the pages that a list takes. */
function orderOf(entry: Fields): number {
  let pages = 0;
  for (const { offset, length } of readEntries(entry)) pages += Math.ceil(((offset % 4096) + length) / 4096);
  return Math.ceil(Math.log2(Math.max(pages, 1)));
}

/** Whether nothing but the first address differs. */
function sameButAddress(expected: unknown, got: unknown): boolean {
  const strip = (value: unknown) => ({ ...(value as object), first_addr: null });
  return sameJson(strip(expected), strip(got));
}

export { GoldenError };
