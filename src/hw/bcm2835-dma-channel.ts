/** One channel of the BCM2835's DMA controller: fetches control blocks and moves their bytes, paced in time. */
import { type BusMaster, BusStatus, type ModelHost, type ModelTimer, type Signal } from '../machine/index.ts';
import { CONTROL_BLOCK, DMA, FIRST_LITE_CHANNEL } from '../regs/bcm2835-dma.ts';

const { ACTIVE, END, INT, DREQ, PAUSED, DREQ_STOPS_DMA, WAITING_FOR_OUTSTANDING_WRITES, ERROR } = DMA.CS;
const { WAIT_FOR_OUTSTANDING_WRITES, ABORT, RESET } = DMA.CS;
const { INTEN, TDMODE, WAIT_RESP, DEST_INC, DEST_WIDTH, DEST_DREQ, DEST_IGNORE } = DMA.TI;
const { SRC_INC, SRC_WIDTH, SRC_DREQ, SRC_IGNORE, BURST_LENGTH, PERMAP, WAITS } = DMA.TI;
const { FIFO_ERROR, READ_ERROR, OUTSTANDING_WRITES, DMA_ID, DMA_STATE, VERSION, LITE } = DMA.DEBUG;
const { XLENGTH, YLENGTH } = DMA.TXFR_LEN;
const { SCB_ADDR } = DMA.CONBLK_AD;

/** How fast a channel is. */
export interface ChannelTiming {
  /** From the start, or the block before, until a control block is fetched. */
  readonly fetchNs: number;
  /** From the last write until its response is back. */
  readonly writeResponseNs: number;
  /** Bytes a microsecond of a full channel; a lite one moves half. */
  readonly bytesPerUs: number;
  /** From a request until the burst is on the bus. */
  readonly requestNs: number;
  /** Bytes moved at most per event while nobody looks. */
  readonly sliceBytes: number;
}

/** What a channel does now; shown as DEBUG.DMA_STATE (the datasheet does not list the states). */
const State = { IDLE: 0, FETCH: 1, MOVE: 2, HELD: 3, RESPONSE: 4 } as const;
type State = (typeof State)[keyof typeof State];

/** A refused access loses its burst: up to 16 beats of 16 bytes, aligned. */
const BURST_BYTES = 256;
/** Dummy cycles of TI.WAITS last one period of the 250 MHz clock each. */
const CYCLE_NS = 4;
const ERROR_FLAGS = DMA.DEBUG.clearMask;
const CONTROL_BLOCK_BYTES = CONTROL_BLOCK.sizeBytes;
const [CB_TI, CB_SOURCE, CB_DEST, CB_LENGTH, CB_STRIDE, CB_NEXT] = [
  CONTROL_BLOCK.TI,
  CONTROL_BLOCK.SOURCE_AD,
  CONTROL_BLOCK.DEST_AD,
  CONTROL_BLOCK.TXFR_LEN,
  CONTROL_BLOCK.STRIDE,
  CONTROL_BLOCK.NEXTCONBK,
].map(({ offset }) => offset / 4) as [number, number, number, number, number, number];
/** Lengths in 1D mode: the X and Y fields together. */
const LENGTH_MASK = XLENGTH.mask | YLENGTH.mask;

export class Channel {
  readonly index: number;
  readonly lite: boolean;
  readonly #host: ModelHost;
  readonly #master: BusMaster;
  readonly #timing: ChannelTiming;
  readonly #requests: readonly (Signal | null)[];
  readonly #drive: (high: boolean) => void;
  readonly #timer: ModelTimer;
  readonly #scratch = new Uint8Array(BURST_BYTES);
  /** Words are little-endian on every host that there is. */
  readonly #words = new Uint32Array(this.#scratch.buffer);

  // Registers. `cs` holds what is stored; status bits are made when it is read.
  #cs = 0;
  #conblkAd = 0;
  #ti = 0;
  #source = 0;
  #dest = 0;
  #stride = 0;
  #nextconbk = 0;
  #errors = 0;
  #enabled = true;

  // The block in work: bytes left in this row, rows after this one, and the length of a row.
  #rowLeft = 0;
  #rowsAfter = 0;
  #rowBytes = 0;
  #state: State = State.IDLE;
  // The slice under way: when it began, its bytes and those of them that are moved already.
  #sliceStartNs = 0;
  #sliceEndNs = 0;
  #sliceBytes = 0;
  #sliceMoved = 0;
  #nsPerByte = 0;
  #responsesAtNs = 0;

  constructor(
    index: number,
    host: ModelHost,
    master: BusMaster,
    timing: ChannelTiming,
    requests: readonly (Signal | null)[],
    drive: (high: boolean) => void,
  ) {
    this.index = index;
    this.lite = index >= FIRST_LITE_CHANNEL;
    this.#host = host;
    this.#master = master;
    this.#timing = timing;
    this.#requests = requests;
    this.#drive = drive;
    this.#timer = host.timer(() => this.#timerFired());
    for (const [permap, signal] of requests.entries()) {
      signal?.onChange((high) => {
        if (high && this.#running() && this.#state === State.HELD && PERMAP.get(this.#ti) === permap)
          this.#nextSlice(0);
      });
    }
  }

  /** The channel's bit in INT_STATUS. */
  get interrupt(): boolean {
    return INT.test(this.#cs);
  }
  /** The channel's bit in ENABLE. */
  set enabled(enabled: boolean) {
    if (enabled === this.#enabled) return;
    if (!enabled) this.#halt();
    this.#enabled = enabled;
    this.#go();
  }

  // ---- registers ----

  readRegister(offset: number): number {
    switch (offset) {
      case DMA.CS.offset:
        return this.#readCs();
      case DMA.CONBLK_AD.offset:
        return this.#conblkAd;
      case DMA.TI.offset:
        return this.#ti;
      case DMA.SOURCE_AD.offset:
        this.#catchUp();
        return this.#source;
      case DMA.DEST_AD.offset:
        this.#catchUp();
        return this.#dest;
      case DMA.TXFR_LEN.offset:
        this.#catchUp();
        return this.#twoD() ? (YLENGTH.prep(this.#rowsAfter) | this.#rowLeft) >>> 0 : this.#rowLeft;
      case DMA.STRIDE.offset:
        return this.#stride;
      case DMA.NEXTCONBK.offset:
        return this.#nextconbk;
      case DMA.DEBUG.offset:
        return this.#readDebug();
      default:
        return 0;
    }
  }

  writeRegister(offset: number, value: number): void {
    switch (offset) {
      case DMA.CS.offset:
        this.#writeCs(value);
        break;
      case DMA.CONBLK_AD.offset:
        // A block in work keeps its address; the datasheet allows no write then.
        if (this.#state === State.IDLE) this.#conblkAd = (value & SCB_ADDR.mask) >>> 0;
        this.#go();
        break;
      case DMA.NEXTCONBK.offset:
        this.#nextconbk = (value & SCB_ADDR.mask) >>> 0;
        break;
      case DMA.DEBUG.offset:
        this.#errors &= ~(value & ERROR_FLAGS);
        break;
    }
  }

  #readCs(): number {
    this.#catchUp();
    let cs = this.#cs;
    if (this.#errors !== 0) cs |= ERROR.mask;
    if (this.#requesting()) cs |= DREQ.mask;
    if (this.#state === State.HELD) cs |= PAUSED.mask | DREQ_STOPS_DMA.mask;
    if (this.#state !== State.IDLE && !this.#running()) cs |= PAUSED.mask;
    if (this.#writesOutstanding()) cs |= WAITING_FOR_OUTSTANDING_WRITES.mask;
    return cs >>> 0;
  }

  #readDebug(): number {
    return (
      this.#errors |
      OUTSTANDING_WRITES.prep(this.#writesOutstanding() ? 1 : 0) |
      DMA_ID.prep(this.index) |
      DMA_STATE.prep(this.#state) |
      VERSION.prep(2) |
      LITE.prep(this.lite ? 1 : 0)
    );
  }

  #writeCs(value: number): void {
    if (RESET.test(value)) {
      this.#reset();
      return;
    }
    const pending = this.#cs & INT.mask;
    if (this.#running() && !ACTIVE.test(value)) this.#halt();
    this.#cs = DMA.CS.store(this.#cs, value) & ~ABORT.mask;
    if (ABORT.test(value) && this.#state !== State.IDLE) this.#abort();
    if ((this.#cs & INT.mask) !== pending) this.#drive(this.interrupt);
    this.#go();
  }

  /** All registers to zero, whatever goes on. */
  #reset(): void {
    this.#cancel();
    this.#state = State.IDLE;
    this.#cs = this.#conblkAd = this.#ti = this.#source = this.#dest = 0;
    this.#stride = this.#nextconbk = this.#errors = 0;
    this.#rowLeft = this.#rowsAfter = this.#responsesAtNs = 0;
    this.#drive(false);
  }

  /** Give up the block in work and go on with the next one. */
  #abort(): void {
    this.#halt();
    this.#loadNext();
  }

  /** For fault injection: set flags of DEBUG as the hardware would. */
  raiseErrors(flags: number): void {
    this.#errors |= flags & ERROR_FLAGS;
  }

  // ---- running ----

  #running(): boolean {
    return this.#enabled === true && ACTIVE.test(this.#cs);
  }
  #twoD(): boolean {
    return TDMODE.test(this.#ti) && this.lite === false;
  }
  #paced(): boolean {
    return PERMAP.test(this.#ti) && (this.#ti & (SRC_DREQ.mask | DEST_DREQ.mask)) !== 0;
  }
  /** The selected request line; peripheral 0 always requests. */
  #requesting(): boolean {
    const permap = PERMAP.get(this.#ti);
    return permap === 0 || this.#requests[permap]?.high === true;
  }
  #writesOutstanding(): boolean {
    return this.#state !== State.IDLE && this.#host.now() < this.#responsesAtNs;
  }

  /** Start or resume, when there is something to do. */
  #go(): void {
    if (!this.#running() || this.#timer.pending) return;
    if (this.#state === State.IDLE && this.#conblkAd !== 0) this.#state = State.FETCH;
    if (this.#state === State.FETCH) this.#fetch();
    else if (this.#state === State.RESPONSE) this.#timer.start(Math.max(this.#responsesAtNs - this.#host.now(), 0));
    else if (this.#state !== State.IDLE) this.#nextSlice(0);
  }
  /** Stop where it is. What was moved by now is moved; the rest waits. */
  #halt(): void {
    this.#catchUp();
    this.#cancel();
    if (this.#state === State.MOVE && this.#left() === 0) this.#state = State.RESPONSE;
  }
  #cancel(): void {
    this.#timer.stop();
    this.#sliceBytes = this.#sliceMoved = 0;
  }

  #timerFired(): void {
    if (this.#state === State.RESPONSE) this.#finishBlock();
    else this.#finishSlice();
  }

  #fetch(): void {
    if (this.#master.read(this.#conblkAd, this.#scratch, 0, CONTROL_BLOCK_BYTES) !== BusStatus.OK) {
      // Without a block there is no INTEN: nothing tells the CPU but these flags.
      this.#errors |= READ_ERROR.mask;
      this.#cs &= ~ACTIVE.mask;
      this.#state = State.IDLE;
      return;
    }
    const words = this.#words;
    this.#ti = (words[CB_TI]! & DMA.TI.readMask) >>> 0;
    this.#source = words[CB_SOURCE]!;
    this.#dest = words[CB_DEST]!;
    this.#stride = words[CB_STRIDE]!;
    this.#nextconbk = (words[CB_NEXT]! & SCB_ADDR.mask) >>> 0;
    this.#setLengths(words[CB_LENGTH]!);
    const cyclesNs = WAITS.get(this.#ti) * CYCLE_NS;
    this.#nsPerByte = ((this.lite === true ? 2 : 1) * 1000) / this.#timing.bytesPerUs + cyclesNs / this.#beatBytes();
    // A block takes time even when it moves nothing: one that points at itself must not stop the clock.
    if (this.#left() > 0) this.#nextSlice(this.#timing.fetchNs);
    else {
      this.#state = State.RESPONSE;
      this.#timer.start(this.#timing.fetchNs);
    }
  }

  #setLengths(length: number): void {
    if (this.lite === true) {
      this.#rowBytes = XLENGTH.get(length);
      this.#rowsAfter = 0;
      this.#stride = 0;
    } else if (this.#twoD()) {
      // Known erratum of the datasheet: one row more than YLENGTH says.
      this.#rowBytes = XLENGTH.get(length);
      this.#rowsAfter = this.#rowBytes === 0 ? 0 : YLENGTH.get(length);
    } else {
      this.#rowBytes = length & LENGTH_MASK;
      this.#rowsAfter = 0;
    }
    this.#rowLeft = this.#rowBytes;
  }

  /** Bytes of one access of the narrower side. */
  #beatBytes(): number {
    return SRC_WIDTH.test(this.#ti) && DEST_WIDTH.test(this.#ti) ? 16 : 4;
  }

  #left(): number {
    return this.#rowLeft + this.#rowsAfter * this.#rowBytes;
  }
  /** Whether the block ends only when its last write is answered. */
  #waitsForResponse(): boolean {
    return WAIT_RESP.test(this.#ti) || WAIT_FOR_OUTSTANDING_WRITES.test(this.#cs);
  }

  /** Begin a slice, `leadNs` from now. There must be bytes left. */
  #nextSlice(leadNs: number): void {
    this.#sliceMoved = 0;
    if (this.#paced()) {
      this.#sliceBytes = Math.min(this.#left(), this.#requestBytes());
      if (!this.#requesting()) {
        this.#state = State.HELD;
        return;
      }
      this.#state = State.MOVE;
      this.#timer.start(leadNs + this.#timing.requestNs);
      return;
    }
    this.#state = State.MOVE;
    const left = this.#left();
    const bytes = Math.min(left, this.#timing.sliceBytes);
    this.#sliceBytes = bytes;
    // The last slice's event is that of the block's end as well.
    const tailNs = bytes === left && this.#waitsForResponse() ? this.#timing.writeResponseNs : 0;
    const wholeNs = leadNs + Math.ceil(bytes * this.#nsPerByte) + tailNs;
    const now = this.#host.now();
    this.#timer.start(wholeNs);
    // Slow hardware takes longer than was asked for.
    const scale = (this.#timer.dueNs - now) / wholeNs;
    this.#sliceStartNs = now + leadNs * scale;
    this.#sliceEndNs = this.#timer.dueNs - tailNs * scale;
  }
  /** What one request is answered with. */
  #requestBytes(): number {
    const wide = SRC_DREQ.test(this.#ti) ? SRC_WIDTH : DEST_WIDTH;
    return Math.max(BURST_LENGTH.get(this.#ti), 1) * (wide.test(this.#ti) ? 16 : 4);
  }

  #finishSlice(): void {
    this.#move(this.#sliceBytes - this.#sliceMoved);
    this.#sliceBytes = this.#sliceMoved = 0;
    if (this.#left() > 0) this.#nextSlice(0);
    else if (this.#paced() && this.#waitsForResponse()) {
      this.#state = State.RESPONSE;
      this.#timer.start(this.#timing.writeResponseNs);
    } else this.#finishBlock();
  }
  /** Move what is due by now, so that registers show where the channel is. */
  #catchUp(): void {
    if (this.#state !== State.MOVE || !this.#timer.pending || this.#paced()) return;
    const passed = (this.#host.now() - this.#sliceStartNs) / (this.#sliceEndNs - this.#sliceStartNs);
    const due = Math.floor(this.#sliceBytes * Math.min(passed, 1));
    const beats = due - (due < this.#sliceBytes ? due % 16 : 0) - this.#sliceMoved;
    if (beats <= 0) return;
    this.#move(beats);
    this.#sliceMoved += beats;
  }

  #finishBlock(): void {
    const interrupts = INTEN.test(this.#ti);
    this.#cs |= interrupts ? END.mask | INT.mask : END.mask;
    this.#loadNext();
    if (interrupts) this.#drive(true);
  }
  #loadNext(): void {
    this.#conblkAd = this.#nextconbk;
    if (this.#conblkAd === 0) {
      this.#state = State.IDLE;
      this.#cs &= ~ACTIVE.mask;
      return;
    }
    this.#state = State.FETCH;
    this.#go();
  }

  // ---- moving bytes ----

  /** Move `sizeBytes` of the block, row by row. */
  #move(sizeBytes: number): void {
    let left = sizeBytes;
    while (left > 0) {
      const piece = Math.min(left, this.#rowLeft);
      this.#moveInRow(piece);
      left -= piece;
      this.#rowLeft -= piece;
      if (SRC_INC.test(this.#ti)) this.#source = (this.#source + piece) >>> 0;
      if (DEST_INC.test(this.#ti)) this.#dest = (this.#dest + piece) >>> 0;
      if (this.#rowLeft === 0 && this.#rowsAfter > 0) {
        this.#rowLeft = this.#rowBytes;
        this.#rowsAfter--;
        // Both strides are signed halfwords.
        this.#source = (this.#source + ((this.#stride << 16) >> 16)) >>> 0;
        this.#dest = (this.#dest + (this.#stride >> 16)) >>> 0;
      }
    }
    this.#responsesAtNs = this.#host.now() + this.#timing.writeResponseNs;
  }

  #moveInRow(sizeBytes: number): void {
    const ignoresSource = SRC_IGNORE.test(this.#ti) && !this.lite;
    const ignoresDest = DEST_IGNORE.test(this.#ti) && !this.lite;
    if (DEST_INC.test(this.#ti) && !ignoresDest && (ignoresSource || SRC_INC.test(this.#ti))) {
      this.#moveFast(sizeBytes, ignoresSource);
      return;
    }
    for (let done = 0; done < sizeBytes; done += BURST_BYTES) {
      const burst = Math.min(BURST_BYTES, sizeBytes - done);
      const got = ignoresSource ? this.#zero(burst) : this.#readBurst(done, burst);
      if (got && !ignoresDest) this.#writeBurst(done, burst);
    }
  }

  /** Ascending memory to memory, or zeroes to memory, without a buffer between. */
  #moveFast(sizeBytes: number, zeroes: boolean): void {
    const master = this.#master;
    let done = 0;
    while (done < sizeBytes) {
      const source = this.#source + done;
      const dest = this.#dest + done;
      const size = sizeBytes - done;
      const status = zeroes ? master.fill(dest, 0, size) : master.copy(dest, source, size);
      if (status === BusStatus.OK) return;
      const at = master.failedAt;
      const readFailed = !zeroes && at >= source && at < source + size;
      this.#errors |= readFailed ? READ_ERROR.mask : FIFO_ERROR.mask;
      const reached = at - (readFailed ? source : dest);
      done += Math.max(reached, 0) + (BURST_BYTES - (at % BURST_BYTES));
    }
  }

  #zero(sizeBytes: number): boolean {
    this.#scratch.fill(0, 0, sizeBytes);
    return true;
  }

  /** False when nothing usable was read. */
  #readBurst(done: number, sizeBytes: number): boolean {
    const master = this.#master;
    let status: BusStatus = BusStatus.OK;
    if (SRC_INC.test(this.#ti)) {
      status = master.read(this.#source + done, this.#scratch, 0, sizeBytes);
    } else {
      const beat = SRC_WIDTH.test(this.#ti) ? 16 : 4;
      for (let at = 0; at < sizeBytes && status === BusStatus.OK; at += beat) status = this.#readBeat(at, beat);
    }
    if (status !== BusStatus.OK) this.#errors |= READ_ERROR.mask;
    return status === BusStatus.OK;
  }
  /** A read is always of a whole beat, also where fewer bytes are wanted at the end: the scratch is a multiple of it. */
  #readBeat(at: number, beat: number): BusStatus {
    if (beat !== 4 || this.#source % 4 !== 0) return this.#master.read(this.#source, this.#scratch, at, beat);
    const status = this.#master.read32(this.#source);
    if (status === BusStatus.OK) this.#words[at >>> 2] = this.#master.value32;
    return status;
  }

  /** The datasheet has no flag for a refused write: its data stays in the FIFO, so that is what fails here. */
  #writeBurst(done: number, sizeBytes: number): void {
    const master = this.#master;
    let status: BusStatus = BusStatus.OK;
    if (DEST_INC.test(this.#ti)) {
      status = master.write(this.#dest + done, this.#scratch, 0, sizeBytes);
    } else {
      const beat = DEST_WIDTH.test(this.#ti) ? 16 : 4;
      for (let at = 0; at < sizeBytes && status === BusStatus.OK; at += beat) {
        status = this.#writeBeat(at, Math.min(beat, sizeBytes - at));
      }
    }
    if (status !== BusStatus.OK) this.#errors |= FIFO_ERROR.mask;
  }
  #writeBeat(at: number, sizeBytes: number): BusStatus {
    if (sizeBytes !== 4 || this.#dest % 4 !== 0) return this.#master.write(this.#dest, this.#scratch, at, sizeBytes);
    return this.#master.write32(this.#dest, this.#words[at >>> 2]!);
  }
}
