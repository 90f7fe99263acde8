/**
 * A bench for models alone: flat memory behind a bus offset, one queue of events, and no machine around it. What a
 * model does to memory, interrupts and time can be held against the datasheet without caches or a CPU in between.
 */
import { Prng } from '../base/index.ts';
import {
  type BusMaster,
  type BusMasterOptions,
  BusStatus,
  type IrqLine,
  type ModelHost,
  type ModelTimer,
  type RegisterBlock,
  type TimerHandle,
} from '../machine/index.ts';

interface Event extends TimerHandle {
  readonly sequence: number;
  readonly callback: () => void;
}

/** Memory at `busOffset` on the bus; registers at their own addresses (which are bus addresses here). */
export class Rig implements ModelHost {
  readonly memory: Uint8Array;
  readonly view: DataView;
  readonly lines = new Map<number, boolean>();
  /** Every access of a bus master: `read 0xc0000000+32`. */
  readonly accesses: string[] = [];
  readonly #busOffset: number;
  readonly #blocks: { base: number; sizeBytes: number; block: RegisterBlock }[] = [];
  #queue: Event[] = [];
  #now = 0;
  #sequence = 0;
  /** A bus address whose next access is refused. */
  failNextAt = -1;

  readonly #seed: number;

  constructor(sizeBytes: number, busOffset: number, seed = 1) {
    this.#seed = seed;
    this.memory = new Uint8Array(sizeBytes);
    this.view = new DataView(this.memory.buffer);
    this.#busOffset = busOffset;
  }

  now(): number {
    return this.#now;
  }
  after(delayNs: number, callback: () => void): TimerHandle {
    const event = { dueNs: this.#now + delayNs, sequence: this.#sequence++, callback };
    this.#queue.push(event);
    return event;
  }
  cancel(timer: TimerHandle): void {
    this.#queue = this.#queue.filter((event) => event !== timer);
  }
  timer(callback: () => void): ModelTimer {
    return new RigTimer(this, callback);
  }
  get pendingEvents(): number {
    return this.#queue.length;
  }
  /** Let time pass. */
  run(forNs: number): void {
    const end = this.#now + forNs;
    for (;;) {
      let next: Event | null = null;
      for (const event of this.#queue) {
        if (event.dueNs > end) continue;
        if (next === null || event.dueNs < next.dueNs || (event.dueNs === next.dueNs && event.sequence < next.sequence))
          next = event;
      }
      if (next === null) break;
      this.cancel(next);
      this.#now = next.dueNs;
      next.callback();
    }
    this.#now = end;
  }
  prng(name: string): Prng {
    return new Prng(this.#seed).fork(name);
  }
  mapRegisters(base: number, sizeBytes: number, _name: string, block: RegisterBlock): void {
    this.#blocks.push({ base, sizeBytes, block });
  }
  unmapRegisters(): void {}
  mapPorts(): void {}
  addPciFunction(): void {}
  irqLine(line: number): IrqLine {
    this.lines.set(line, false);
    return { line, set: (high) => void this.lines.set(line, high), pulse: () => {} };
  }
  busMaster(options: BusMasterOptions): BusMaster {
    return new RigMaster(this, options.name);
  }

  registerAt(addr: number): { block: RegisterBlock; offset: number } | null {
    const found = this.#blocks.find(({ base, sizeBytes }) => addr >= base && addr < base + sizeBytes);
    return found === undefined ? null : { block: found.block, offset: addr - found.base };
  }
  read(addr: number): number {
    const { block, offset } = this.registerAt(addr)!;
    return block.readRegister(offset, 4);
  }
  write(addr: number, value: number): void {
    const { block, offset } = this.registerAt(addr)!;
    block.writeRegister(offset, 4, value);
  }
  /** Offset in memory, or -1. */
  offsetOf(addr: number): number {
    const offset = addr - this.#busOffset;
    return offset >= 0 && offset < this.memory.length ? offset : -1;
  }
}

class RigTimer implements ModelTimer {
  readonly #rig: Rig;
  readonly #callback: () => void;
  #event: TimerHandle | null = null;
  dueNs = 0;
  constructor(rig: Rig, callback: () => void) {
    this.#rig = rig;
    this.#callback = callback;
  }
  get pending(): boolean {
    return this.#event !== null;
  }
  start(delayNs: number): void {
    this.stop();
    this.#event = this.#rig.after(delayNs, () => {
      this.#event = null;
      this.#callback();
    });
    this.dueNs = this.#event.dueNs;
  }
  stop(): void {
    if (this.#event !== null) this.#rig.cancel(this.#event);
    this.#event = null;
  }
}

class RigMaster implements BusMaster {
  readonly name: string;
  readonly #rig: Rig;
  failedAt = 0;
  value32 = 0;
  constructor(rig: Rig, name: string) {
    this.#rig = rig;
    this.name = name;
  }
  /** One byte's place in memory; registers and holes are -1. */
  #at(addr: number): number {
    if (this.#rig.failNextAt === addr) {
      this.#rig.failNextAt = -1;
      return -1;
    }
    return this.#rig.offsetOf(addr);
  }
  read(addr: number, into: Uint8Array, intoOffset: number, sizeBytes: number): BusStatus {
    this.#rig.accesses.push(`read 0x${addr.toString(16)}+${sizeBytes}`);
    for (let i = 0; i < sizeBytes; i++) {
      const at = this.#at(addr + i);
      if (at < 0) return this.#fail(addr + i);
      into[intoOffset + i] = this.#rig.memory[at]!;
    }
    return BusStatus.OK;
  }
  write(addr: number, from: Uint8Array, fromOffset: number, sizeBytes: number): BusStatus {
    this.#rig.accesses.push(`write 0x${addr.toString(16)}+${sizeBytes}`);
    const found = this.#rig.registerAt(addr);
    if (found !== null) {
      let value = 0;
      for (let i = 0; i < sizeBytes; i++) value |= from[fromOffset + i]! << (8 * i);
      found.block.writeRegister(found.offset, sizeBytes, value >>> 0);
      return BusStatus.OK;
    }
    for (let i = 0; i < sizeBytes; i++) {
      const at = this.#at(addr + i);
      if (at < 0) return this.#fail(addr + i);
      this.#rig.memory[at] = from[fromOffset + i]!;
    }
    return BusStatus.OK;
  }
  copy(dst: number, src: number, sizeBytes: number): BusStatus {
    this.#rig.accesses.push(`copy 0x${dst.toString(16)} 0x${src.toString(16)}+${sizeBytes}`);
    for (let i = 0; i < sizeBytes; i++) {
      const from = this.#at(src + i);
      if (from < 0) return this.#fail(src + i);
      const to = this.#at(dst + i);
      if (to < 0) return this.#fail(dst + i);
      this.#rig.memory[to] = this.#rig.memory[from]!;
    }
    return BusStatus.OK;
  }
  fill(dst: number, byte: number, sizeBytes: number): BusStatus {
    this.#rig.accesses.push(`fill 0x${dst.toString(16)}+${sizeBytes}`);
    for (let i = 0; i < sizeBytes; i++) {
      const to = this.#at(dst + i);
      if (to < 0) return this.#fail(dst + i);
      this.#rig.memory[to] = byte;
    }
    return BusStatus.OK;
  }
  read32(addr: number): BusStatus {
    const found = this.#rig.registerAt(addr);
    if (found !== null) {
      this.value32 = found.block.readRegister(found.offset, 4);
      return BusStatus.OK;
    }
    const at = this.#at(addr);
    if (at < 0) return this.#fail(addr);
    this.value32 = this.#rig.view.getUint32(at, true);
    return BusStatus.OK;
  }
  write32(addr: number, value: number): BusStatus {
    const found = this.#rig.registerAt(addr);
    if (found !== null) {
      found.block.writeRegister(found.offset, 4, value);
      return BusStatus.OK;
    }
    const at = this.#at(addr);
    if (at < 0) return this.#fail(addr);
    this.#rig.view.setUint32(at, value, true);
    return BusStatus.OK;
  }
  #fail(addr: number): BusStatus {
    this.failedAt = addr;
    this.value32 = 0xffff_ffff;
    return BusStatus.DECODE_ERROR;
  }
}
