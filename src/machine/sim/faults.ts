import type { FaultInjection } from '../model.ts';
import type { InterruptController } from './irq.ts';
import type { EventQueue } from './time.ts';

/** What is made to go wrong. */
export class Faults implements FaultInjection {
  /** Bus faults that wait for their access. */
  armed = 0;
  readonly #bus: { master: string; addr: number }[] = [];
  readonly #irq: InterruptController;
  readonly #time: EventQueue;

  constructor(irq: InterruptController, time: EventQueue) {
    this.#irq = irq;
    this.#time = time;
  }
  failBusAccess(master: string, addr: number): void {
    this.#bus.push({ master, addr });
    this.armed = this.#bus.length;
  }
  loseInterrupts(line: number, count: number): void {
    this.#irq.lose(line, count);
  }
  slowDown(factor: number): void {
    if (!(factor > 0)) throw new RangeError(`hardware is slowed down by a positive factor, found ${factor}`);
    this.#time.factor = factor;
  }

  /** How many bytes of an access come before its first fault; -1 when it has none. A fault at its first byte is spent. */
  bytesBefore(master: string, addr: number, sizeBytes: number): number {
    let first = -1;
    for (const fault of this.#bus) {
      if (fault.master !== master || fault.addr < addr || fault.addr >= addr + sizeBytes) continue;
      if (first < 0 || fault.addr - addr < first) first = fault.addr - addr;
    }
    if (first === 0) {
      const at = this.#bus.findIndex((fault) => fault.master === master && fault.addr === addr);
      this.#bus.splice(at, 1);
      this.armed = this.#bus.length;
    }
    return first;
  }
}
