/**
 * Stores on their way to memory (TRM 4.3, DMAWMB). A DMAST is done when its data is on its way; it has arrived before the
 * thread's next load or store, at a DMAWMB, and before the thread stops. An event does not wait for it: who signals without
 * DMAWMB may be heard before the last store can be seen, for a time that the seed decides.
 *
 * Only the last store of a thread is held here; nothing but an event tells the difference to holding more.
 */
import type { Prng } from '../base/index.ts';
import { type BusMaster, BusStatus, type ModelHost, type ModelTimer } from '../machine/index.ts';
import { PL330, PL330_OP } from '../regs/pl330.ts';
import type { InstructionCache } from './pl330-cache.ts';
import { LENGTH, PASSES } from './pl330-instructions.ts';
import type { Thread } from './pl330-thread.ts';

const { DATA_WRITE_ERR } = PL330.FTR;
const ADDRESS_SPACE = 0x1_0000_0000;
/** How long a store may be on its way behind an event. */
const MIN_LATE_NS = 20;
const MAX_LATE_NS = 3000;

/** See the file's head. */
export class WriteBuffer {
  readonly #host: ModelHost;
  readonly #bus: BusMaster;
  readonly #cache: InstructionCache;
  readonly #prng: Prng;
  /** By channel: the arrival of a store that an event has overtaken. */
  readonly #arrivals: readonly ModelTimer[];

  /** @param faulted told the bits of FTR when a store that was overtaken fails */
  constructor(
    host: ModelHost,
    bus: BusMaster,
    cache: InstructionCache,
    channels: readonly Thread[],
    faulted: (thread: Thread, fault: number) => void,
  ) {
    this.#host = host;
    this.#bus = bus;
    this.#cache = cache;
    this.#prng = host.prng(`${bus.name} stores`);
    this.#arrivals = channels.map((thread) =>
      host.timer(() => {
        const fault = this.drain(thread);
        if (fault !== 0) faulted(thread, fault);
      }),
    );
  }

  /** Whether the store that the thread's instruction does may be overtaken by an event: all others arrive at once. */
  mayBeOvertaken(thread: Thread): boolean {
    const { pc } = thread;
    const opcode = this.#cache.byte(pc + LENGTH[this.#cache.byte(pc)]!);
    if (opcode < 0 || PASSES[opcode] === 0) return false;
    if ((opcode & 0xe8) !== PL330_OP.DMALPEND) return true;
    // A loop that goes on has a load or a store in it.
    return (opcode & 0x10) !== 0 && ((opcode & 4) !== 0 ? thread.lc1 : thread.lc0) === 0;
  }
  /** Hold the store of the instruction at `pc`: its bytes are in `heldData`. The one before has been drained. */
  hold(thread: Thread, pc: number, addr: number, bytes: number): void {
    thread.heldBytes = bytes;
    thread.heldAddr = addr;
    thread.heldPc = pc;
  }

  /** The store arrives. Returns 0, or the bits of FTR; the thread then stands at the store as if it had not been done. */
  drain(thread: Thread): number {
    const { heldBytes, heldAddr, heldData } = thread;
    if (heldBytes === 0) return 0;
    thread.heldBytes = 0;
    this.#arrivals[thread.index]!.stop();
    const first = Math.min(heldBytes, ADDRESS_SPACE - heldAddr);
    let status = this.#bus.write(heldAddr, heldData, 0, first);
    if (first < heldBytes && status === BusStatus.OK) status = this.#bus.write(0, heldData, first, heldBytes - first);
    if (status === BusStatus.OK) return 0;
    thread.pc = thread.heldPc;
    thread.dar = heldAddr;
    return DATA_WRITE_ERR.mask;
  }

  /** The thread signals an event: what it stored before arrives now, or later. Returns as `drain`. */
  overtaken(thread: Thread): number {
    if (thread.heldBytes === 0) return 0;
    const arrival = this.#arrivals[thread.index]!;
    if (arrival.pending) return 0;
    if (this.#prng.chance(1, 2)) return this.drain(thread);
    arrival.start(this.#prng.between(MIN_LATE_NS, MAX_LATE_NS));
    return 0;
  }

  /** How long until all that the thread has stored has arrived. */
  remainingNs(thread: Thread): number {
    const arrival = this.#arrivals[thread.index];
    return arrival?.pending === true ? arrival.dueNs - this.#host.now() : 0;
  }
}
