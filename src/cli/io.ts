/** The world as a command sees it, so that tests can run commands in their own process. */
import pico from 'picocolors';

/** Where text goes. */
export interface Writer {
  write(text: string): unknown;
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
}

/** What a command may use of the process it runs in. */
export interface CliIo {
  /** Results. With `--json` exactly one JSON document. */
  readonly stdout: Writer;
  /** Everything else: errors, progress, logs. */
  readonly stderr: Writer;
  readonly env: Readonly<Record<string, string | undefined>>;
  /**
   * Aborted by Ctrl-C, or by another signal to end: finish what must be finished, report what was done, return
   * `EXIT_INTERRUPTED`. The reason is the exit code of the signal.
   */
  readonly signal: AbortSignal;
  /** Set while a command holds something that a sudden end must not leave behind; called without delay. */
  onExit(cleanUp: () => void): () => void;
}

/** Colour functions; they do nothing where colour is not wanted. */
export type Colors = ReturnType<typeof pico.createColors>;

/** Whether text to `stream` may be coloured: a terminal, unless NO_COLOR says no or FORCE_COLOR yes. */
export function colorsFor(stream: Writer, env: CliIo['env']): Colors {
  const wanted = env.FORCE_COLOR !== undefined && env.FORCE_COLOR !== '' && env.FORCE_COLOR !== '0';
  const refused = env.NO_COLOR !== undefined && env.NO_COLOR !== '';
  return pico.createColors(!refused && (wanted || (stream.isTTY === true && env.TERM !== 'dumb')));
}

/** Columns of a terminal; undefined where lines may have any length, as in a pipe. */
export function widthOf({ isTTY, columns }: Writer): number | undefined {
  return isTTY === true && columns !== undefined && columns > 0 ? columns : undefined;
}

/** Write one JSON document. */
export function writeJson(io: CliIo, document: unknown): void {
  io.stdout.write(`${JSON.stringify(document, null, 2)}\n`);
}
