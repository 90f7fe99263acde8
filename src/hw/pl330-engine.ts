/**
 * The PL330's threads in time (TRM 2.2, 2.6, 2.8): they take turns, an event of the machine each. In its turn a thread
 * executes instructions until it has moved a slice of data, has to wait, or is about to do what others can see (an event,
 * an interrupt, a peripheral's data, its end) while earlier data is still on the bus; then the time that all this
 * takes passes. So a transfer lasts, may be killed in its middle, and channels share the bus in turn.
 */
import type { BusMaster, ModelHost, ModelTimer } from '../machine/index.ts';
import { PL330, PL330_OP } from '../regs/pl330.ts';
import { InstructionCache } from './pl330-cache.ts';
import type { PeripheralRequest, Pl330Timing } from './pl330-config.ts';
import { CopyLoops } from './pl330-copy-loop.ts';
import { DataPath } from './pl330-data.ts';
import { type Control, Executor } from './pl330-execute.ts';
import { DEBUG, LENGTH, MANAGER, PASSES, VISIBLE } from './pl330-instructions.ts';
import { Thread, ThreadState } from './pl330-thread.ts';
import { WriteBuffer } from './pl330-write-buffer.ts';

const { INSTR_FETCH_ERR, UNDEF_INSTR, DBG_INSTR, LOCKUP_ERR } = PL330.FTR;

/** What the engine needs to know of the configuration, and of the registers and interrupts around it. */
export interface EngineConfig {
  readonly channels: number;
  readonly events: number;
  readonly widthBytes: number;
  readonly mfifoLines: number;
  readonly cacheLineBytes: number;
  readonly cacheLines: number;
  readonly eventsNonSecure: number;
  readonly peripheralsNonSecure: number;
  readonly requests: readonly (PeripheralRequest | null)[];
  /** WD.wd_irq_only is clear: a lock-up aborts its channels. */
  lockupAborts(): boolean;
  /** INTEN has the event's bit: it is an interrupt, and not for threads. */
  isInterrupt(event: number): boolean;
  raiseInterrupt(event: number): void;
  /** Threads began or ceased to be faulting or locked up. */
  abortChanged(): void;
}

/** With more than this of earlier data on the bus, what others can see waits for the next turn. */
const MAX_SKEW_NS = 60;

/** See the file's head. */
export class Engine implements Control {
  readonly channels: readonly Thread[];
  readonly manager: Thread;
  readonly events: number;
  readonly widthBytes: number;
  readonly eventsNonSecure: number;
  readonly peripheralsNonSecure: number;
  readonly requests: readonly (PeripheralRequest | null)[];
  /** Bit n: event n was signalled to threads, and none has taken it yet. */
  pendingEvents = 0;
  /** The watchdog found a lock-up which it only reports. */
  lockedUp = false;

  readonly #threads: readonly Thread[];
  readonly #host: ModelHost;
  readonly #config: EngineConfig;
  readonly #timing: Pl330Timing;
  readonly #cache: InstructionCache;
  readonly #path: DataPath;
  readonly #buffer: WriteBuffer;
  readonly #executor: Executor;
  /** The ends of a thread's KILLING, COMPLETING and FAULTING_COMPLETING; channels, then the manager. */
  readonly #transitions: readonly ModelTimer[];
  readonly #debugBytes = new Uint8Array(6);
  readonly #debugView = new DataView(this.#debugBytes.buffer);
  readonly #turnTimer: ModelTimer;
  readonly #watchdog: ModelTimer;
  /** Whose turn was last, and until when its work lasts. */
  #last = 0;
  #busyUntilNs = 0;

  constructor(host: ModelHost, bus: BusMaster, config: EngineConfig, timing: Pl330Timing) {
    this.#host = host;
    this.#config = config;
    this.#timing = timing;
    this.events = config.events;
    this.widthBytes = config.widthBytes;
    this.eventsNonSecure = config.eventsNonSecure;
    this.peripheralsNonSecure = config.peripheralsNonSecure;
    this.requests = config.requests;
    const mfifoBytes = config.widthBytes * config.mfifoLines;
    this.channels = Array.from({ length: config.channels }, (_, index) => new Thread(index, mfifoBytes));
    this.manager = new Thread(-1, 0);
    this.#threads = [...this.channels, this.manager];
    this.#cache = new InstructionCache(bus, config.cacheLineBytes, config.cacheLines);
    this.#buffer = new WriteBuffer(host, bus, this.#cache, this.channels, (thread, fault) =>
      this.#fault(thread, fault),
    );
    this.#path = new DataPath(bus, this.#buffer, config.widthBytes, config.mfifoLines, this.channels);
    const loops = new CopyLoops(bus, this.#buffer, this.#cache, this.#path);
    this.#executor = new Executor(this, this.#cache, this.#path, this.#buffer, loops, timing);
    this.#turnTimer = host.timer(() => this.#turn());
    this.#watchdog = host.timer(() => this.#watch());
    this.#transitions = this.#threads.map((thread) => host.timer(() => this.#settled(thread)));
    config.requests.forEach((request, peripheral) => {
      const changed = (high: boolean): void => {
        if (high) this.#requestRaised(peripheral);
      };
      request?.burst?.onChange(changed);
      request?.single?.onChange(changed);
    });
  }

  /** The manager starts at an address after reset. */
  boot(pc: number): void {
    this.manager.pc = pc;
    this.manager.state = ThreadState.EXECUTING;
    this.wake(this.#timing.goNs);
  }

  // Turns

  wake(delayNs: number): void {
    if (this.#turnTimer.pending) return;
    this.#turnTimer.start(Math.max(delayNs, this.#busyUntilNs - this.#host.now()));
  }
  #turn(): void {
    const count = this.#threads.length;
    for (let step = 1; step <= count; step++) {
      const index = (this.#last + step) % count;
      const thread = this.#threads[index]!;
      if (!thread.runnable) continue;
      this.#last = index;
      const { sliceBytes, sharedSliceBytes } = this.#timing;
      this.#executor.sliceBytes = this.#othersRun(thread) ? sharedSliceBytes : sliceBytes;
      this.#busyUntilNs = this.#host.now() + Math.max(1, this.#run(thread));
      // Others may be runnable as well; when none is, the next turn finds nobody, and the engine rests.
      this.wake(0);
      return;
    }
  }
  #othersRun(thread: Thread): boolean {
    for (const other of this.#threads) if (other !== thread && other.runnable) return true;
    return false;
  }
  /** One turn of one thread. Returns how long its work takes. */
  #run(thread: Thread): number {
    const { sliceInstructions, beatNs, fetchNs, instructionNs } = this.#timing;
    const fillsBefore = this.#cache.fills;
    const path = this.#path;
    path.bytes = 0;
    path.beats = 0;
    const executor = this.#executor;
    const { sliceBytes } = executor;
    executor.joined = 0;
    let instructions = 0;
    for (; thread.runnable && path.bytes < sliceBytes && instructions < sliceInstructions; instructions++) {
      const opcode = this.#cache.byte(thread.pc);
      if (opcode >= 0 && VISIBLE[opcode] === 1 && path.beats * beatNs > MAX_SKEW_NS) break;
      this.#step(thread, opcode);
    }
    const fills = this.#cache.fills - fillsBefore;
    return path.beats * beatNs + (instructions + executor.joined) * instructionNs + fills * fetchNs;
  }
  #step(thread: Thread, opcode: number): void {
    const fault = this.#tryStep(thread, opcode);
    if (fault !== 0) this.#fault(thread, fault);
  }
  /** Execute one instruction and go on to the next, or return the fault that it is. */
  #tryStep(thread: Thread, opcode: number): number {
    if (thread.heldBytes !== 0 && (opcode < 0 || PASSES[opcode] === 0)) {
      const late = this.#buffer.drain(thread);
      if (late !== 0) return late;
    }
    if (opcode < 0) return INSTR_FETCH_ERR.mask;
    const length = LENGTH[opcode]!;
    if (length === 0 || (thread.isManager && MANAGER[opcode] === 0)) return UNDEF_INSTR.mask;
    // All of an instruction is fetched before any of it is done.
    if (length > 1 && this.#cache.byte(thread.pc + length - 1) < 0) return INSTR_FETCH_ERR.mask;
    const executor = this.#executor;
    const fault = executor.execute(thread, opcode);
    if (fault === 0 && !executor.stay) {
      thread.pc = (executor.jump >= 0 ? executor.jump : thread.pc + length) >>> 0;
    }
    return fault;
  }

  /** DBGCMD: execute the instruction in DBGINST0 and DBGINST1, also on a thread that is stopped (TRM 2.4). */
  executeDebug(dbginst0: number, dbginst1: number): void {
    const { DBGINST0 } = PL330;
    const isChannel = DBGINST0.DEBUG_THREAD.test(dbginst0);
    const thread = isChannel ? this.channels[DBGINST0.CHANNEL_NUMBER.get(dbginst0)] : this.manager;
    if (thread === undefined) return;
    const opcode = DBGINST0.INSTRUCTION_BYTE_0.get(dbginst0);
    // A faulting thread listens to nothing else.
    if (thread.faulting && opcode !== PL330_OP.DMAKILL) return;
    this.#debugView.setUint16(0, dbginst0 >>> 16, true);
    this.#debugView.setUint32(2, dbginst1, true);
    const fault = DEBUG[opcode] === 0 ? UNDEF_INSTR.mask : this.#executor.executeDebug(thread, this.#debugBytes);
    if (fault !== 0) this.#fault(thread, fault | DBG_INSTR.mask);
  }

  // Events

  signal(event: number): void {
    if (this.#config.isInterrupt(event)) this.#config.raiseInterrupt(event);
    else this.#signalThreads(event);
  }
  /** All threads that wait for it take it together; else it stays until one does. */
  #signalThreads(event: number): void {
    let taken = false;
    for (const thread of this.#threads) {
      if (thread.state !== ThreadState.WAITING_FOR_EVENT || thread.wakeup !== event) continue;
      thread.state = ThreadState.EXECUTING;
      taken = true;
    }
    if (taken) this.wake(this.#timing.wakeNs);
    else this.pendingEvents = (this.pendingEvents | (1 << event)) >>> 0;
  }
  takeEvent(event: number): boolean {
    const bit = 1 << event;
    if ((this.pendingEvents & bit) === 0 || this.#config.isInterrupt(event)) return false;
    this.pendingEvents = (this.pendingEvents & ~bit) >>> 0;
    return true;
  }
  /** INTEN changed: pending events that are no interrupts any more reach the threads that wait for them. */
  interruptsChanged(): void {
    for (let event = 0; event < this.events; event++) if (this.takeEvent(event)) this.signal(event);
  }
  /** The DMAWFPs that wait for the peripheral are executed again. */
  #requestRaised(peripheral: number): void {
    for (const thread of this.channels) {
      if (thread.state !== ThreadState.WAITING_FOR_PERIPHERAL || thread.wakeup !== peripheral) continue;
      thread.state = ThreadState.EXECUTING;
      this.wake(this.#timing.wakeNs);
    }
  }

  // The MFIFO's room, and lock-ups (TRM 2.8.4)

  block(thread: Thread): void {
    thread.blocked = true;
    if (!this.#watchdog.pending) this.#watchdog.start(this.#timing.watchdogNs);
  }
  unblock(): void {
    for (const thread of this.channels) thread.blocked = false;
    if (!this.lockedUp) return;
    this.lockedUp = false;
    this.#config.abortChanged();
  }
  #watch(): void {
    if (!this.channels.some((thread) => thread.blocked)) return;
    // Somebody still runs, and may make room: look again.
    if (this.#threads.some((thread) => thread.runnable)) {
      this.#watchdog.start(this.#timing.watchdogNs);
      return;
    }
    // Somebody waits, and has data that it may store one day: then all goes on.
    if (this.channels.some((thread) => !thread.blocked && thread.count > 0)) return;
    if (this.#config.lockupAborts()) {
      for (const thread of this.channels) if (thread.blocked) this.#fault(thread, LOCKUP_ERR.mask);
    } else {
      this.lockedUp = true;
      this.#config.abortChanged();
    }
  }

  // Ends

  complete(thread: Thread): void {
    // A store that no event has overtaken has nobody who could miss it.
    const late = this.#buffer.remainingNs(thread) > 0 ? 0 : this.#buffer.drain(thread);
    if (late !== 0) this.#fault(thread, late);
    else this.#stop(thread, ThreadState.COMPLETING);
  }
  kill(thread: Thread): void {
    if (thread.state === ThreadState.STOPPED) return;
    this.#buffer.drain(thread);
    this.#stop(thread, ThreadState.KILLING);
    this.#config.abortChanged();
  }
  #fault(thread: Thread, faultBits: number): void {
    thread.faultType = (thread.faultType | faultBits) >>> 0;
    if (!thread.faulting) this.#stop(thread, ThreadState.FAULTING_COMPLETING);
  }
  #stop(thread: Thread, state: number): void {
    // It stops when all that it stored has arrived.
    const delayNs = Math.max(this.#timing.completeNs, this.#buffer.remainingNs(thread));
    thread.dropData();
    this.unblock();
    thread.state = state;
    this.#transitions[thread.isManager ? this.channels.length : thread.index]!.start(delayNs);
    // Those that waited for its room may run.
    this.wake(this.#timing.wakeNs);
  }
  #settled(thread: Thread): void {
    if (thread.state === ThreadState.FAULTING_COMPLETING) {
      thread.state = ThreadState.FAULTING;
      this.#config.abortChanged();
    } else {
      thread.state = ThreadState.STOPPED;
      thread.faultType = 0;
    }
  }
}
