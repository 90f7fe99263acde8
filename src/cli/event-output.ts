/** Where the events of a run go: one JSON object a line into a file, and lines for people. */
import type { System } from '../boards/index.ts';
import { type DmakitEvent, type EventSink, eventLine, registerDecoder, TimelineWriter } from '../trace/index.ts';
import type { CliIo, Writer } from './io.ts';
import { SharedText } from './shared-text.ts';
import { TraceFile } from './trace-file.ts';

/** The events of one booted board. */
export class EventOutput {
  /** Why the trace is not whole; null: it is. A run is not ended for it. */
  failure: Error | null = null;
  readonly #trace: SharedText | null;
  readonly #text: SharedText | null;
  readonly #timeline: TimelineWriter | null;

  /** @param trace gets the objects, @param text the lines for people */
  constructor(system: System, trace: SharedText | null, text: SharedText | null) {
    this.#trace = trace;
    this.#text = text;
    this.#timeline =
      text === null ? null : new TimelineWriter((line) => text.line(line), { decode: registerDecoder(system) });
  }

  /** The sink of the stream of events. */
  readonly event = (event: DmakitEvent): void => {
    if (this.#trace !== null && this.failure === null) this.#record(event);
    this.#timeline?.event(event);
  };
  #record(event: DmakitEvent): void {
    try {
      this.#trace!.line(eventLine(event));
    } catch (error) {
      this.failure = error as Error;
    }
  }

  /** The run is over: write what is held back. */
  end(): void {
    this.#timeline?.end();
    this.#text?.flush();
    if (this.failure !== null) return;
    try {
      this.#trace?.flush();
    } catch (error) {
      this.failure = error as Error;
    }
  }
}

/** What `--trace` and `--timeline` ask for, as long as a command runs. */
export class EventRecorder {
  readonly #trace: { readonly file: TraceFile; readonly text: SharedText } | null;
  readonly #timeline: SharedText | null;
  readonly #forget: () => void;
  #current: EventOutput | null = null;
  #failure: Error | null = null;

  /**
   * @param inputs files that the trace must not overwrite
   * @param timeline where the lines for people go
   */
  constructor(io: CliIo, options: Record<string, unknown>, inputs: readonly string[], timeline: Writer) {
    this.#trace = typeof options.trace === 'string' ? openTrace(options.trace, inputs) : null;
    this.#timeline =
      options.timeline === true ? new SharedText((bytes) => timeline.write(bytes.toString('utf8'))) : null;
    // A second Ctrl-C ends the process at once.
    this.#forget = io.onExit(() => this.#current?.end());
  }

  /** The sink for a board that was booted just now, or undefined when nobody wants its events. */
  start(system: System): EventSink | undefined {
    if (this.#trace === null && this.#timeline === null) return undefined;
    this.#current = new EventOutput(system, this.#trace?.text ?? null, this.#timeline);
    return this.#current.event;
  }
  /** The board's run is over, however it went. */
  stop(): void {
    this.#current?.end();
    this.#failure ??= this.#current?.failure ?? null;
    this.#current = null;
  }
  /** All is over. */
  close(): void {
    this.#forget();
    this.stop();
    this.#trace?.file.close();
  }
  /** Throws when the trace is not whole: to be asked when the report is out. */
  check(): void {
    if (this.#failure !== null) throw this.#failure;
  }
}

function openTrace(path: string, inputs: readonly string[]) {
  const file = new TraceFile(path, inputs);
  return { file, text: new SharedText((bytes) => file.append(bytes)) };
}
