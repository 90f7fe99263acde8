import { type BusMaster, BusStatus } from '../machine/index.ts';

/**
 * The instruction cache, which all threads share: `lines` lines of `lineBytes` bytes, direct-mapped. It is filled by
 * whole lines, and does not watch memory: a program that changes while it runs is seen when its line is fetched again.
 * DMAGO, and DMAWFE with `invalid`, drop every line; so a program that is written before DMAGO always runs as written.
 */
export class InstructionCache {
  readonly #bus: BusMaster;
  readonly #lineBytes: number;
  readonly #lines: number;
  readonly #tags: Float64Array;
  readonly #bytes: Uint8Array;
  /** Grows whenever a line changes, so that what was derived from the cache can be dated. */
  generation = 0;
  /** Lines filled so far; the engine charges time for them. */
  fills = 0;

  constructor(bus: BusMaster, lineBytes: number, lines: number) {
    this.#bus = bus;
    this.#lineBytes = lineBytes;
    this.#lines = lines;
    this.#tags = new Float64Array(lines).fill(-1);
    this.#bytes = new Uint8Array(lineBytes * lines);
  }
  invalidate(): void {
    this.#tags.fill(-1);
    this.generation++;
  }
  /** The instruction byte at `addr` (which wraps at 4 GiB); -1 when the bus refuses to fetch it. */
  byte(addr: number): number {
    const at = addr >>> 0;
    const offset = at % this.#lineBytes;
    const tag = at - offset;
    const line = (tag / this.#lineBytes) % this.#lines;
    if (this.#tags[line] !== tag && !this.#fill(line, tag)) return -1;
    return this.#bytes[line * this.#lineBytes + offset]!;
  }
  #fill(line: number, tag: number): boolean {
    this.generation++;
    this.fills++;
    const status = this.#bus.read(tag, this.#bytes, line * this.#lineBytes, this.#lineBytes);
    this.#tags[line] = status === BusStatus.OK ? tag : -1;
    return status === BusStatus.OK;
  }
}
