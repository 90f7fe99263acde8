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
}
