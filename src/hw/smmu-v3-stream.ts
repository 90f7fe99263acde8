/**
 * What an SMMU knows of a stream: its stream-table entry and context descriptor, decoded, in a cache of its own. Like
 * translations they are used until they are invalidated, those of invalid entries included.
 */

/** What becomes of a stream's accesses. */
export const StreamKind = {
  /** Its entry makes no sense: `badEvent` is reported. */
  BAD: 0,
  /** Refused in silence. */
  ABORT: 1,
  BYPASS: 2,
  STAGE1: 3,
  STAGE2: 4,
  NESTED: 5,
} as const;
/** One of `StreamKind`'s numbers. */
export type StreamKind = (typeof StreamKind)[keyof typeof StreamKind];

/** One regime of translation tables. */
export class TableRegime {
  /** Physical (or intermediate) address of the first table. */
  table = 0;
  /** Of the addresses that it translates, and of those that it gives. */
  inputBits = 0;
  outputBits = 0;
  /** Level of the first table, 0 to 2. */
  startLevel = 0;
  /** Refused accesses are reported. */
  record = false;
  /** A clear access flag is no fault. */
  ignoreAccessFlag = false;
  /** Permissions in tables count for what is below. */
  hierarchical = false;
}

/** See the file's head. */
export class StreamConfig {
  sid = -1;
  /** -1: accesses without substream. */
  ssid = -1;
  kind: StreamKind = StreamKind.BAD;
  badEvent = 0;
  /** The context descriptor was fetched: what depends on it is valid. */
  contextLoaded = false;
  /** Physical (or intermediate) address of the table of context descriptors, their number as a power of two, its format. */
  contextTable = 0;
  contextBits = 0;
  contextFormat = 0;
  /** Accesses count as privileged. */
  privileged = false;
  /** What an access must be allowed. */
  readMask = 0;
  writeMask = 0;
  /** What its translations are tagged with. */
  group = 0;
  tag = 0;
  globalTag = 0;
  readonly stage1 = new TableRegime();
  readonly stage2 = new TableRegime();
}

/** Entries of a set. */
const WAYS = 4;

/** Configurations by stream and substream. */
export class StreamCache {
  readonly #entries: StreamConfig[] = [];
  readonly #oldest: Uint8Array;
  readonly #sets: number;

  constructor(entries: number) {
    this.#sets = entries / WAYS;
    for (let i = 0; i < entries; i++) this.#entries.push(new StreamConfig());
    this.#oldest = new Uint8Array(this.#sets);
  }

  /** The entry of a stream, or null. */
  find(sid: number, ssid: number): StreamConfig | null {
    const start = this.#setOf(sid) * WAYS;
    for (let at = start; at < start + WAYS; at++) {
      const entry = this.#entries[at]!;
      if (entry.sid === sid && entry.ssid === ssid) return entry;
    }
    return null;
  }
  /** A stream's set: devices of one bus differ in the bits above the function, functions of one device below. */
  #setOf(sid: number): number {
    return (sid ^ (sid >>> 3)) & (this.#sets - 1);
  }
  /** An entry for a stream that has none, to be filled in; it is found once `sid` and `ssid` are set. */
  claim(sid: number): StreamConfig {
    const set = this.#setOf(sid);
    for (let way = 0; way < WAYS; way++) {
      const entry = this.#entries[set * WAYS + way]!;
      if (entry.sid < 0) return entry;
    }
    const way = this.#oldest[set]!;
    this.#oldest[set] = (way + 1) % WAYS;
    const entry = this.#entries[set * WAYS + way]!;
    entry.sid = -1;
    return entry;
  }

  /** Forget the streams [first, last], with their context descriptors. */
  dropStreams(first: number, last: number): void {
    for (const entry of this.#entries) if (entry.sid >= first && entry.sid <= last) entry.sid = -1;
  }
  /** Forget the context descriptor of a substream (-1: all of them) of a stream; the stream-table entry stays. */
  dropContexts(sid: number, ssid: number): void {
    for (const entry of this.#entries) {
      if (entry.sid === sid && (ssid < 0 || Math.max(entry.ssid, 0) === ssid)) entry.contextLoaded = false;
    }
  }
}
