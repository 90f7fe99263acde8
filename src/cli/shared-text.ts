/**
 * Text on its way out of a thread that may be ended at any moment, by Ctrl-C, by a watchdog or by a driver that calls
 * process.exit: what was not handed on yet lies in shared memory, where another thread finds it.
 */

const BYTES = 1 << 18;
/** Two counters stand before the text. */
const HEADER = 16;
/** Bytes that one UTF-16 code unit takes at most. */
const MOST_BYTES = 3;

/** See the file's head. One thread writes. */
export class SharedText {
  readonly memory: SharedArrayBuffer;
  /**
   * How many bytes were handed on, and how many were written, since the beginning: the text between them is held here.
   * Each step of writing and handing on is one store, so that an end between two steps neither loses nor repeats.
   */
  readonly #counters: Float64Array;
  readonly #text: Buffer;
  readonly #deliver: (bytes: Buffer, position: number) => void;

  /**
   * @param deliver is given the text in pieces, and where each begins; it must have taken a piece when it returns
   * @param from of another thread's SharedText, to read what it holds; or where the text begins
   */
  constructor(deliver: (bytes: Buffer, position: number) => void, from: SharedArrayBuffer | number = 0) {
    this.memory = typeof from === 'number' ? new SharedArrayBuffer(HEADER + BYTES) : from;
    this.#deliver = deliver;
    this.#counters = new Float64Array(this.memory, 0, 2);
    if (typeof from === 'number') this.#counters.fill(from);
    this.#text = Buffer.from(this.memory, HEADER);
  }

  get #held(): number {
    return this.#counters[1]! - this.#counters[0]!;
  }

  /** Add a line; the line break is added. */
  line(line: string): void {
    const text = `${line}\n`;
    if (text.length * MOST_BYTES > BYTES - this.#held) this.flush();
    for (let at = 0; at < text.length; ) {
      const piece = at === 0 && text.length * MOST_BYTES <= BYTES ? text : cut(text, at);
      this.#counters[1]! += this.#text.write(piece, this.#held);
      at += piece.length;
      if (at < text.length) this.flush();
    }
  }

  /** Hand on what is held. */
  flush(): void {
    const held = this.#held;
    if (held === 0) return;
    this.#deliver(this.#text.subarray(0, held), this.#counters[0]!);
    this.#counters[0] = this.#counters[1]!;
  }
}

/** A piece of `text` from `at` that surely fits, without splitting a surrogate pair. */
function cut(text: string, at: number): string {
  const end = at + Math.floor(BYTES / MOST_BYTES) - 1;
  const splits = end < text.length && (text.charCodeAt(end) & 0xfc00) === 0xdc00;
  return text.slice(at, splits ? end - 1 : end);
}
