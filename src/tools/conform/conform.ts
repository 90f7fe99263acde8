/**
 * Replays what a real kernel was seen to decide, through the same calls that drivers make, on a machine set up like the
 * recorded one. What is expected is only ever compared with, case by case.
 */
import { GoldenError, type GoldenFile, parseGolden } from './golden.ts';
import type { HiddenEvent } from './history.ts';
import { replayFill, replayIova } from './iova-replay.ts';
import { replayMasks } from './mask-replay.ts';
import { type CaseOutcome, SEGMENT_SLOTS, sameJson } from './outcome.ts';
import { replayPools } from './pool-replay.ts';
import { type Rig, withRig } from './rig.ts';
import { replaySg } from './sg-replay.ts';
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
/** A bounce that may not cross a boundary, or needs an alignment, begins less than this many slots further on. */
const NEARBY_SLOTS = 32;
/** Replays that the search for a history may cost; a file that is what it seems needs one. */
const MAX_REPLAYS = 2000;

/**
 * Replay one golden file. `path` is shown; `name` is its last part. Throws `GoldenError` for what is no golden file.
 * `onProgress` is told of each replay.
 */
export async function conformFile(path: string, text: string, onProgress?: () => void): Promise<ConformFileResult> {
  const file = parseGolden(path.split(/[\\/]/).at(-1) ?? path, text);
  const { outcomes, history } = await explain(file, onProgress ?? (() => {}));
  const failures = outcomes.filter(differs);
  return {
    file: path,
    kind: file.kind,
    variant: file.variant,
    passed: outcomes.length - failures.length,
    failed: failures.length,
    firstFailures: failures.slice(0, FAILURES_SHOWN).map((o) => ({ case: o.name, expected: o.expected, got: o.got })),
    unseenEvents: history.length,
  };
}

function differs({ expected, got }: CaseOutcome): boolean {
  return !sameJson(expected, got);
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
}
const failuresOf = ({ outcomes }: Attempt): number => outcomes.filter(differs).length;

/**
 * Replay, and where addresses come out differently, look for an unseen event before that which makes the case come out
 * right and leaves those before it right.
 */
async function explain(file: GoldenFile, onProgress: () => void): Promise<Attempt> {
  let replays = 0;
  /** Replay up to case `last`. */
  const attempt = async (history: readonly HiddenEvent[], last: number): Promise<Attempt> => {
    replays++;
    onProgress();
    return { outcomes: await withRig(file.machine, (rig) => replay(file, rig, history, last)), history };
  };
  let best = await attempt([], Number.POSITIVE_INFINITY);
  for (let index = 0; index < best.outcomes.length && replays < MAX_REPLAYS; index++) {
    const found = best.outcomes[index]!;
    if (!differs(found)) continue;
    const before = { outcomes: best.outcomes.slice(0, index + 1), history: best.history };
    for (const event of candidates(file, found, index)) {
      if (replays >= MAX_REPLAYS) break;
      const next = await attempt([...best.history, event], index);
      if (failuresOf(next) >= failuresOf(before)) continue;
      const whole = await attempt(next.history, Number.POSITIVE_INFINITY);
      // Which case was left out shows only in those that follow; where a search began shows at once.
      if (event.what === 'map' && failuresOf(whole) >= failuresOf(best)) continue;
      best = whole;
      break;
    }
  }
  return best;
}

/** Unseen events that may explain why case `index` got other addresses; none where anything else differs. */
function* candidates(file: GoldenFile, { expected, got }: CaseOutcome, index: number): Generator<HiddenEvent> {
  if (file.kind !== 'map_sg' && file.kind !== 'swiotlb' && file.kind !== 'iova') return;
  const slots = slotDistance(expected, got);
  if (slots !== null) {
    // The search here began a few slots before the first one that fitted.
    for (let count = slots; count < slots + NEARBY_SLOTS; count++) {
      if (count > 0) yield { before: index, what: 'bounce', count };
      else if (index <= 1) yield { before: index, what: 'bounce', count: count + SEGMENT_SLOTS };
    }
    return;
  }
  if (file.kind !== 'map_sg' || !sameButAddress(expected, got)) return;
  // Deferred invalidation: whether its timer ran between two cases is not in the file.
  if (/lazy/.test(file.variant)) yield { before: index, what: 'wait' };
  // An excerpt: a case that is not shown was the first to take a range of some size.
  for (let before = index; before >= 0; before--) {
    for (const pages of [1, 2, 4, 8, 16, 32]) yield { before, what: 'map', pages };
  }
}

/** By how many slots a bounce lies further on than it came out here; null when this is not the difference. */
function slotDistance(expected: unknown, got: unknown): number | null {
  const slot = (value: unknown): number | null => {
    const found = /"slot(\d+)\+/.exec(JSON.stringify(value) ?? '');
    return found === null ? null : Number(found[1]);
  };
  const [from, to] = [slot(got), slot(expected)];
  return from === null || to === null ? null : to - from;
}
/** Whether nothing but the first address differs. */
function sameButAddress(expected: unknown, got: unknown): boolean {
  const strip = (value: unknown) => ({ ...(value as object), first_addr: null });
  return sameJson(strip(expected), strip(got));
}

export { GoldenError };
