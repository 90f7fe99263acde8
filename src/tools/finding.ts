/** A broken rule or expectation, in the words that every report uses. */

/** A place in a source; line and column count from 1. */
export interface SourcePlace {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

/** See the file's head. */
export interface RunFinding {
  readonly rule: string;
  readonly severity: 'error' | 'portability' | 'note';
  readonly message: string;
  readonly device: string;
  readonly at: SourcePlace | null;
  readonly mappedAt: SourcePlace | null;
  /** What to do about it; '' where only the author can know. */
  readonly fix: string;
  /** When, in simulated time, and in which context: `process main`. */
  readonly timeNs: number;
  readonly context: string;
  /** How often it happened at the same places. */
  readonly times: number;
  /** The real kernel's line for it; null where it says nothing. */
  readonly kernel: string | null;
  /** Everything that is known, as the rule defines it. */
  readonly values: unknown;
}
