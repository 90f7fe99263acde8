/** Collects findings. The same rule broken at the same places again only counts. */
import { type Finding, type FindingOf, type RuleId, severityOf, type ValuesOf } from './finding.ts';
import type { Place } from './place.ts';

/** What a finding has besides its rule and values. */
export interface Circumstances {
  readonly device: string;
  readonly deviceString: string;
  readonly timeNs: number;
  readonly context: string;
  readonly at: Place | null;
  readonly mappedAt: Place | null;
}

type Counted = { times: number };

/** See the file's head. */
export class FindingLog {
  readonly #findings: Finding[] = [];
  readonly #byKey = new Map<string, Finding>();

  /** All so far, in the order in which they were first made. */
  get all(): readonly Finding[] {
    return this.#findings;
  }

  /**
   * Add a finding. Where no place is known, `distinct` (an address) tells it from others of its rule.
   * Returns the finding that was made or counted.
   */
  add<R extends RuleId>(
    rule: R,
    circumstances: Circumstances,
    values: ValuesOf<R>,
    distinct: number | string,
  ): FindingOf<R> {
    const { at, mappedAt, device } = circumstances;
    const where = at === null && mappedAt === null ? String(distinct) : `${placeKey(at)}|${placeKey(mappedAt)}`;
    const key = `${rule}|${device}|${where}`;
    const known = this.#byKey.get(key);
    if (known !== undefined) {
      (known as Counted).times++;
      return known as unknown as FindingOf<R>;
    }
    const { deviceString, timeNs, context } = circumstances;
    const finding: FindingOf<R> = {
      rule,
      severity: severityOf(rule),
      device,
      deviceString,
      timeNs,
      context,
      at,
      mappedAt,
      times: 1,
      values,
    };
    this.#byKey.set(key, finding as unknown as Finding);
    this.#findings.push(finding as unknown as Finding);
    return finding;
  }
}

function placeKey(place: Place | null): string {
  return place === null ? '' : `${place.file}:${place.line}:${place.column}`;
}
