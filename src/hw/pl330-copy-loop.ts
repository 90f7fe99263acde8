/**
 * Loops that only copy or only clear, taken many iterations at a time.
 *
 * A loop body of DMALD and DMAST in turn (with or without barriers), aligned, incrementing, with equal bursts, does
 * burst by burst what one access of the bus does at once. What is observable stays the same: the bytes, the addresses
 * and counters after it, the time, the fault and its instruction. Two things are wider than in the one-burst-a-time
 * engine: observers see one access instead of many, and of a burst that faults the bytes before the failing one
 * may have reached the destination (the abort is imprecise on hardware as well). Bursts are only joined as long as source
 * and destination of the joined piece do not overlap upwards.
 */
import { type BusMaster, BusStatus } from '../machine/index.ts';
import { PL330, PL330_OP } from '../regs/pl330.ts';
import type { InstructionCache } from './pl330-cache.ts';
import type { DataPath } from './pl330-data.ts';
import type { Thread } from './pl330-thread.ts';
import type { WriteBuffer } from './pl330-write-buffer.ts';

const { DMALD, DMAST, DMASTZ, DMARMB, DMAWMB } = PL330_OP;
const { DATA_READ_ERR, DATA_WRITE_ERR } = PL330.FTR;
const ADDRESS_SPACE = 0x1_0000_0000;

const LoopKind = { OTHER: 0, COPY: 1, CLEAR: 2 } as const;

/** See the file's head. */
export class CopyLoops {
  readonly #bus: BusMaster;
  readonly #buffer: WriteBuffer;
  readonly #cache: InstructionCache;
  readonly #path: DataPath;
  /** Bits of FTR when the last `run` met a fault, else 0; the thread then stands at the faulting instruction. */
  fault = 0;
  /** Instructions that the last `run` stood for. */
  instructions = 0;

  constructor(bus: BusMaster, buffer: WriteBuffer, cache: InstructionCache, path: DataPath) {
    this.#bus = bus;
    this.#buffer = buffer;
    this.#cache = cache;
    this.#path = path;
  }

  /**
   * Take up to `iterations` iterations of the loop from `start` to the DMALPEND where the thread stands, with up to
   * `budgetBytes` bytes read plus bytes written. Returns how many were begun: all whole, unless `fault` is set. 0 when the loop is of another
   * kind, or when its next iteration is better taken alone.
   */
  run(thread: Thread, start: number, iterations: number, budgetBytes: number): number {
    this.fault = 0;
    if (thread.loopPc !== thread.pc || thread.loopGeneration !== this.#cache.generation) this.#classify(thread, start);
    if (thread.loopKind === LoopKind.OTHER || thread.count !== 0 || !thread.dstInc) return 0;
    const burst = thread.dstSize * thread.dstBeats;
    if (thread.dar % thread.dstSize !== 0) return 0;
    if (thread.loopKind === LoopKind.COPY && !this.#copies(thread, burst)) return 0;
    const body = burst * thread.loopBursts;
    const isCopy = thread.loopKind === LoopKind.COPY;
    let room = Math.min(isCopy ? budgetBytes / 2 : budgetBytes, ADDRESS_SPACE - thread.dar);
    if (isCopy) {
      room = Math.min(room, ADDRESS_SPACE - thread.sar);
      if (thread.dar > thread.sar) room = Math.min(room, thread.dar - thread.sar);
    }
    const taken = Math.min(iterations, Math.floor(room / body));
    if (taken < 1) return 0;
    const isLast = taken === iterations && this.#buffer.mayBeOvertaken(thread);
    return this.#take(thread, start, taken, burst, isLast);
  }

  #copies(thread: Thread, burst: number): boolean {
    return (
      thread.srcInc &&
      thread.swapBytes === 1 &&
      thread.srcSize * thread.srcBeats === burst &&
      thread.sar % thread.srcSize === 0 &&
      this.#path.hasRoom(thread, burst)
    );
  }

  /** @param isLast the loop ends with these iterations, and its last store may be overtaken */
  #take(thread: Thread, start: number, taken: number, burst: number, isLast: boolean): number {
    const { loopBursts } = thread;
    const isCopy = thread.loopKind === LoopKind.COPY;
    const bytes = taken * loopBursts * burst;
    const status = isLast ? this.#moveAndHold(thread, isCopy, bytes, burst) : this.#move(thread, isCopy, bytes);
    let bursts = taken * loopBursts;
    let begun = taken;
    let isRead = false;
    if (status !== BusStatus.OK) {
      const { failedAt } = this.#bus;
      const fromSource = isCopy ? inRange(failedAt - thread.sar, bytes) : -1;
      const fromDestination = inRange(failedAt - thread.dar, bytes);
      // Where an address is in both ranges, the burst that meets it first is the one that failed.
      isRead = fromSource >= 0 && (fromDestination < 0 || fromSource <= fromDestination);
      bursts = Math.floor((isRead ? fromSource : Math.max(fromDestination, 0)) / burst);
      begun = Math.floor(bursts / loopBursts) + 1;
      this.fault = isRead ? DATA_READ_ERR.mask : DATA_WRITE_ERR.mask;
    }
    const moved = bursts * burst;
    thread.dar = (thread.dar + moved) >>> 0;
    // A store that fails had its load done.
    if (isCopy) thread.sar = (thread.sar + moved + (this.fault !== 0 && !isRead ? burst : 0)) >>> 0;
    this.#path.bytes += isCopy ? 2 * moved : moved;
    this.#path.beats += bursts * (isCopy ? thread.srcBeats + thread.dstBeats : thread.dstBeats);
    this.instructions = begun * (thread.loopInstructions + 1);
    if (this.fault !== 0) thread.pc = this.#find(start, bursts % loopBursts, isRead ? DMALD : isCopy ? DMAST : DMASTZ);
    else if (isLast) {
      const pc = this.#find(start, loopBursts - 1, isCopy ? DMAST : DMASTZ);
      this.#buffer.hold(thread, pc, (thread.dar - burst) >>> 0, burst);
    }
    return begun;
  }

  #move(thread: Thread, isCopy: boolean, bytes: number): BusStatus {
    return isCopy ? this.#bus.copy(thread.dar, thread.sar, bytes) : this.#bus.fill(thread.dar, 0, bytes);
  }
  /** The same, with the data of the last store in the thread's buffer instead of in memory. */
  #moveAndHold(thread: Thread, isCopy: boolean, bytes: number, burst: number): BusStatus {
    const before = bytes - burst;
    const status = before === 0 ? BusStatus.OK : this.#move(thread, isCopy, before);
    if (status !== BusStatus.OK) return status;
    if (isCopy) return this.#bus.read(thread.sar + before, thread.heldData, 0, burst);
    thread.heldData.fill(0, 0, burst);
    return BusStatus.OK;
  }

  /** Address of the n-th instruction `opcode` from `start` on. */
  #find(start: number, n: number, opcode: number): number {
    let pc = start;
    for (let left = n; ; pc++) {
      if (this.#cache.byte(pc) !== opcode) continue;
      if (left-- === 0) return pc >>> 0;
    }
  }

  #classify(thread: Thread, start: number): void {
    const { pc } = thread;
    let kind: number = LoopKind.OTHER;
    let bursts = 0;
    let loaded = false;
    for (let at = start; at < pc; at++) {
      const opcode = this.#cache.byte(at);
      if (opcode === DMALD && !loaded && kind !== LoopKind.CLEAR) {
        kind = LoopKind.COPY;
        loaded = true;
      } else if (opcode === DMAST && loaded) {
        bursts++;
        loaded = false;
      } else if (opcode === DMASTZ && kind !== LoopKind.COPY) {
        kind = LoopKind.CLEAR;
        bursts++;
      } else if (opcode !== DMARMB && opcode !== DMAWMB) {
        kind = LoopKind.OTHER;
        break;
      }
    }
    thread.loopPc = pc;
    thread.loopKind = loaded ? LoopKind.OTHER : kind;
    thread.loopBursts = bursts;
    thread.loopInstructions = pc - start;
    thread.loopGeneration = this.#cache.generation;
  }
}

/** The offset when it lies in a range of `bytes` bytes, else -1. */
function inRange(offset: number, bytes: number): number {
  return offset >= 0 && offset < bytes ? offset : -1;
}
