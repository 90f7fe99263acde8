/**
 * The PL330 as its driver handles it: configuration, the debug registers through which threads are started and killed,
 * and the channel threads with the two programs that each may have queued.
 */

import { DMA_MEM_TO_MEM } from '../dmaengine/index.ts';
import {
  cpuRelax,
  type Device,
  devErr,
  type IoMem,
  type Mem,
  readl,
  SpinLock,
  spinLock,
  spinLockIrqsave,
  spinUnlock,
  spinUnlockIrqrestore,
  writel,
} from '../kernel/index.ts';
import { PL330 } from '../regs/pl330.ts';
import { dbgDMAGO, dbgDMAKILL, Pl330Assembler } from './pl330-asm.ts';
import type { Pl330Desc } from './pl330-desc.ts';
import { assemble, MAX_BURST, PROGRAM_BYTES, type ProgramConfig, type ProgramPiece } from './pl330-program.ts';

const { CR0, CR3, CR4, CRD, DSR, CSR, DBGINST0, PERIPH_ID, INTEN, INTCLR } = PL330;
const { STOPPED, KILLING, COMPLETING, FAULTING_COMPLETING } = CSR.CHANNEL_STATUS.values;
/** Reads of a status register until the controller is given up. */
const POLLS = 10_000;

/** What the configuration registers say (TRM 3.3.21 to 3.3.26). @linux struct pl330_config */
export interface Pl330Config extends ProgramConfig {
  readonly periphId: number;
  readonly dataBufferLines: number;
  readonly channels: number;
  readonly peripherals: number;
  readonly events: number;
  /** Bit n: event n, peripheral n is non-secure. */
  readonly irqNs: number;
  readonly periNs: number;
}

/** @linux read_dmac_config */
export function readDmacConfig(io: IoMem, noFlushp: boolean, periphBurst: boolean): Pl330Config {
  const crd = readl(io, CRD.offset);
  const cr0 = readl(io, CR0.offset);
  const periphId = [0, 1, 2, 3].reduce((id, n) => id | (readl(io, PERIPH_ID.at(n)) << (8 * n)), 0) >>> 0;
  const widthBytes = 1 << CRD.DATA_WIDTH.get(crd);
  const dataBufferLines = CRD.DATA_BUFFER_DEP.get(crd) + 1;
  const channels = CR0.NUM_CHNLS.get(cr0) + 1;
  return {
    periphId,
    widthBytes,
    dataBufferLines,
    // Every channel may hold a burst in the MFIFO at the same time.
    burstBeats: Math.max(1, Math.min(MAX_BURST, Math.floor(dataBufferLines / channels))),
    channels,
    peripherals: CR0.PERIPH_REQ.test(cr0) ? CR0.NUM_PERIPH_REQ.get(cr0) + 1 : 0,
    events: CR0.NUM_EVENTS.get(cr0) + 1,
    irqNs: readl(io, CR3.offset),
    periNs: readl(io, CR4.offset),
    needsBarriers: (periphId & 0x00f0_0000) === 0,
    noFlushp,
    periphBurst,
    nonSecure: DSR.DNS.test(readl(io, DSR.offset)),
  };
}

/** A program in memory, and the piece of a descriptor that it transfers. @linux struct _pl330_req */
export class Pl330Request {
  /** Offset of its program in the microcode memory. */
  readonly offset: number;
  /** null: free. */
  desc: Pl330Desc | null = null;
  readonly piece: ProgramPiece = { dir: DMA_MEM_TO_MEM, src: 0, dst: 0, bytes: 0, peripheral: 0, width: 1, burst: 1 };
  /** It is the last piece of its segment: of a period, when cyclic. */
  endsSegment = false;

  constructor(offset: number) {
    this.offset = offset;
  }
}

/** A channel thread, once a channel has it. @linux struct pl330_thread */
export class Pl330Thread {
  readonly id: number;
  /** Its event; -1 while it is free. */
  event = -1;
  readonly requests: readonly [Pl330Request, Pl330Request];

  constructor(id: number) {
    this.id = id;
    this.requests = [new Pl330Request(2 * id * PROGRAM_BYTES), new Pl330Request((2 * id + 1) * PROGRAM_BYTES)];
  }
}

/** The controller; the threads' users call it with their channel's lock held. @linux struct pl330_dmac */
export class Pl330Dmac {
  readonly dev: Device;
  readonly io: IoMem;
  readonly config: Pl330Config;
  readonly threads: readonly Pl330Thread[];
  /** For the debug registers, and for threads and events that change hands. Taken inside a channel's lock. */
  readonly lock: SpinLock;
  readonly #microcode: Mem;
  readonly #microcodeBus: number;
  readonly #asm = new Pl330Assembler();

  constructor(dev: Device, io: IoMem, config: Pl330Config, microcode: Mem, microcodeBus: number) {
    this.dev = dev;
    this.io = io;
    this.config = config;
    this.lock = new SpinLock(dev.kernel, `${dev.name}.lock`);
    this.threads = Array.from({ length: config.channels }, (_, id) => new Pl330Thread(id));
    this.#microcode = microcode;
    this.#microcodeBus = microcodeBus;
  }
  /** Bytes of microcode memory that a controller needs. */
  static microcodeBytes(config: Pl330Config): number {
    return 2 * config.channels * PROGRAM_BYTES;
  }

  /** A free thread with an event of its own, whose interrupt is enabled; null when all are taken. @linux pl330_request_channel */
  requestThread(): Pl330Thread | null {
    const { nonSecure, irqNs, events } = this.config;
    const flags = spinLockIrqsave(this.lock);
    // A non-secure manager's threads can only signal non-secure events.
    let event = 0;
    while (event < events && (this.#eventTaken(event) || (nonSecure && ((irqNs >>> event) & 1) === 0))) event++;
    const thread = event < events ? (this.threads.find((free) => free.event < 0) ?? null) : null;
    if (thread !== null) {
      thread.event = event;
      writel(readl(this.io, INTEN.offset) | (1 << event), this.io, INTEN.offset);
    }
    spinUnlockIrqrestore(this.lock, flags);
    return thread;
  }
  #eventTaken(event: number): boolean {
    for (const thread of this.threads) if (thread.event === event) return true;
    return false;
  }
  /** @linux pl330_release_channel */
  releaseThread(thread: Pl330Thread): void {
    const flags = spinLockIrqsave(this.lock);
    writel(readl(this.io, INTEN.offset) & ~(1 << thread.event), this.io, INTEN.offset);
    thread.event = -1;
    spinUnlockIrqrestore(this.lock, flags);
  }

  /** Write the program of a request. @linux _setup_req */
  assemble(thread: Pl330Thread, request: Pl330Request): void {
    this.#asm.begin(this.#microcode.bytes, request.offset, PROGRAM_BYTES);
    assemble(this.#asm, this.config, request.piece, thread.event);
  }

  /** Let the thread run a request's program. False when it is not stopped in time. @linux _trigger */
  start(thread: Pl330Thread, request: Pl330Request): boolean {
    if (!this.#waitForStop(thread)) return false;
    spinLock(this.lock);
    // writel orders the program before it.
    this.#executeDebug(dbgDMAGO(thread.id, this.config.nonSecure), this.#microcodeBus + request.offset);
    spinUnlock(this.lock);
    return true;
  }

  /** Kill what the thread does, and forget its event. False when it does not stop in time. @linux _stop */
  stop(thread: Pl330Thread): boolean {
    let polls = POLLS;
    let state = this.state(thread);
    // An abort first waits for the bus; DMAKILL is for what comes then.
    for (; state === FAULTING_COMPLETING && polls > 0; polls--) {
      cpuRelax(this.dev.kernel);
      state = this.state(thread);
    }
    if (state !== STOPPED && state !== KILLING && state !== COMPLETING) {
      spinLock(this.lock);
      this.#executeDebug(dbgDMAKILL() | DBGINST0.DEBUG_THREAD.mask | DBGINST0.CHANNEL_NUMBER.prep(thread.id), 0);
      spinUnlock(this.lock);
    }
    const stopped = this.#waitForStop(thread);
    writel(1 << thread.event, this.io, INTCLR.offset);
    return stopped;
  }
  /** Kill the manager. */
  stopManager(): void {
    spinLock(this.lock);
    this.#executeDebug(dbgDMAKILL(), 0);
    spinUnlock(this.lock);
    this.#waitForDebug();
  }

  /** The thread's state, as CSR has it. */
  state(thread: Pl330Thread): number {
    return CSR.CHANNEL_STATUS.get(readl(this.io, CSR.offset + 8 * thread.id));
  }
  /** Also for a DMAKILL that is still to be executed: the debug interface is idle only after it. */
  #waitForStop(thread: Pl330Thread): boolean {
    if (this.state(thread) === STOPPED) return true;
    this.#waitForDebug();
    for (let polls = POLLS; polls > 0; polls--) {
      if (this.state(thread) === STOPPED) return true;
      cpuRelax(this.dev.kernel);
    }
    devErr(this.dev, `channel thread ${thread.id} does not stop: state ${this.state(thread)}`);
    return false;
  }

  /** The debug instruction interface takes one instruction at a time (TRM 2.4). Linux: _execute_DBGINSN. */
  #executeDebug(dbginst0: number, dbginst1: number): void {
    if (!this.#waitForDebug()) return;
    writel(dbginst0, this.io, DBGINST0.offset);
    writel(dbginst1, this.io, PL330.DBGINST1.offset);
    writel(0, this.io, PL330.DBGCMD.offset);
  }
  #waitForDebug(): boolean {
    for (let polls = POLLS; polls > 0; polls--) {
      if (readl(this.io, PL330.DBGSTATUS.offset) === 0) return true;
      cpuRelax(this.dev.kernel);
    }
    devErr(this.dev, 'DMAC halted!');
    return false;
  }
}
