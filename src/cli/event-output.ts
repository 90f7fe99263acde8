/** Where the events of a run go: one JSON object a line into a file, and lines for people. */
import { appendFileSync } from 'node:fs';
import type { System } from '../boards/index.ts';
import { type DmakitEvent, eventLine, registerDecoder, TimelineWriter } from '../trace/index.ts';

/** Text is handed on in pieces of about this size. */
const PIECE_CHARS = 1 << 16;

/** Collects text and hands it on in pieces. */
class Pieces {
  readonly #write: (text: string) => void;
  #lines: string[] = [];
  #chars = 0;
  constructor(write: (text: string) => void) {
    this.#write = write;
  }
  line(text: string): void {
    this.#lines.push(text);
    this.#chars += text.length + 1;
    if (this.#chars >= PIECE_CHARS) this.flush();
  }
  flush(): void {
    if (this.#lines.length > 0) this.#write(`${this.#lines.join('\n')}\n`);
    this.#lines = [];
    this.#chars = 0;
  }
}

/** See the file's head. */
export class EventOutput {
  readonly #trace: Pieces | null;
  readonly #text: Pieces | null;
  readonly #timeline: TimelineWriter | null;

  /** @param trace the file to append to; @param onTimeline gets the lines for people */
  constructor(system: System, trace: string | undefined, onTimeline: ((text: string) => void) | undefined) {
    this.#trace = trace === undefined ? null : new Pieces((text) => appendFileSync(trace, text));
    const text = onTimeline === undefined ? null : new Pieces(onTimeline);
    this.#text = text;
    this.#timeline =
      text === null ? null : new TimelineWriter((line) => text.line(line), { decode: registerDecoder(system) });
  }

  /** The sink of the stream of events. */
  readonly event = (event: DmakitEvent): void => {
    this.#trace?.line(eventLine(event));
    this.#timeline?.event(event);
  };

  /** The run is over: write what is held back. */
  end(): void {
    this.#timeline?.end();
    this.#trace?.flush();
    this.#text?.flush();
  }
}
