import { hexAddr } from '../../base/addr.ts';
import type { Prng } from '../../base/prng.ts';
import type { MachineObserver } from '../observer.ts';
import { LockupError } from '../scheduler.ts';
import { type SchedulerHost, TaskScheduler } from '../task-scheduler.ts';
import type { InterruptController } from './irq.ts';
import type { SimTimings } from './options.ts';
import { PciConfig } from './pci-config.ts';
import { PostedWrites } from './posted.ts';
import type { Prefetcher } from './prefetcher.ts';
import { type Region, RegionMap } from './region-map.ts';
import type { StoreBuffer } from './store-buffer.ts';
import type { EventQueue } from './time.ts';

/** A task that keeps the CPU for longer is locked up, as the kernel's soft lockup detector has it. */
const LOCKUP_NS = 22e9;
/** A task that looks so often while nothing happens is locked up, when nothing is under way either. */
const LOCKUP_POINTS = 2_000_000;
/** The same for tasks that do nothing but wake each other. */
const LOCKUP_YIELDS = 300_000;
/** From this many looks in vain on, polling takes longer steps, so that a driver's own time-out comes soon. */
const PATIENT_POINTS = 100_000;
const IMPATIENT_NS = 20_000;
/** Interrupts delivered at one time point before it is a storm. Above the 100,000 after which the kernel shuts a line. */
const STORM = 250_000;
/** No line has this number. */
const NOT_HANDLING = -2;
/** Time points between two moves of the caches, at most; the same for stores that drain. */
const NOISE_EVERY = 24;

/**
 * The one simulated CPU: its time points. Time passes, events run, posted writes arrive and interrupts are delivered here
 * and nowhere else, and never inside each other.
 */
export class SimCpu implements SchedulerHost {
  readonly scheduler: TaskScheduler;
  readonly registers = new RegionMap('registers');
  readonly ports = new RegionMap('ports');
  readonly pci = new PciConfig();
  observer: MachineObserver | null = null;
  /** True while a model's or an event's code runs: there the CPU's side must not be used. */
  inHardware = false;
  happenings = 0;
  handler: ((line: number) => void) | null = null;
  readonly #time: EventQueue;
  readonly #irq: InterruptController;
  readonly #timings: SimTimings;
  readonly #posted: PostedWrites;
  readonly #noise: Prng;
  readonly #prefetcher: Prefetcher | null;
  readonly #stores: StoreBuffer | null;
  #untilNoise = NOISE_EVERY;
  #interruptsEnabled = true;
  /** The line whose handler runs with interrupts still disabled, or `NOT_HANDLING`. */
  #handling = NOT_HANDLING;
  /** How many handlers run, one inside the other, and since when the outermost does. */
  #depth = 0;
  #handlerSinceNs = 0;
  /** Times the CPU has looked, in vain, since something happened: register reads, relaxes and delays. */
  #quiet = 0;
  #lastRead = -1;
  #lastValue = 0;
  #lastReadNs = -1;

  constructor(
    time: EventQueue,
    irq: InterruptController,
    timings: SimTimings,
    prng: Prng,
    prefetcher: Prefetcher | null,
    stores: StoreBuffer | null,
  ) {
    this.#time = time;
    this.#irq = irq;
    this.#timings = timings;
    this.#posted = new PostedWrites(prng.fork('posted writes'), timings.postedMinNs, timings.postedMaxNs);
    this.#noise = prng.fork('noise');
    this.#prefetcher = prefetcher;
    this.#stores = stores;
    this.scheduler = new TaskScheduler(this);
  }

  now(): number {
    return this.#time.now;
  }

  // Registers

  /** The value as the block gave it; -1 where nothing answers. */
  read(addr: number, width: number): number {
    this.#enter();
    this.#flushPosted();
    this.#advance(this.#time.now + this.#timings.readNs, false);
    const region = this.registers.find(addr);
    const value = region === null ? -1 : this.#readBlock(region, addr - region.base, width);
    this.#lastRead = addr;
    this.#lastValue = value;
    this.#lastReadNs = this.#time.now;
    if (this.observer !== null) this.#tellRegister(false, addr, width, value);
    if (++this.#quiet >= PATIENT_POINTS) this.#stuck();
    this.#endPoint();
    return value;
  }
  write(addr: number, width: number, value: number): void {
    this.#enter();
    if (this.observer !== null) this.#tellRegister(true, addr, width, value);
    this.#posted.push(this.#time.now, addr, width, value);
    this.pass(this.#timings.writeNs);
  }
  #tellRegister(isWrite: boolean, addr: number, width: number, value: number): void {
    this.observer?.registerAccess?.(this.#time.now, isWrite, addr, width, unsigned(value, width));
  }

  portRead(port: number, width: 1 | 2 | 4): number {
    this.#beginPort();
    const region = this.ports.find(port);
    const value = region === null ? -1 : this.#readBlock(region, port - region.base, width);
    if (++this.#quiet >= PATIENT_POINTS) this.#stuck();
    this.#endPoint();
    return unsigned(value, width);
  }
  portWrite(port: number, width: 1 | 2 | 4, value: number): void {
    this.#beginPort();
    const region = this.ports.find(port);
    if (region !== null) this.#writeBlock(region, port - region.base, width, unsigned(value, width));
    this.#endPoint();
  }
  configRead(bdf: number, offset: number, width: 1 | 2 | 4): number {
    this.#beginPort();
    this.#beginHardware();
    let value: number;
    try {
      value = unsigned(this.pci.read(bdf, offset, width), width);
    } catch (error) {
      throw this.#failed(error);
    } finally {
      this.#endHardware();
    }
    this.#endPoint();
    return value;
  }
  configWrite(bdf: number, offset: number, width: 1 | 2 | 4, value: number): void {
    this.#beginPort();
    this.#beginHardware();
    try {
      this.pci.write(bdf, offset, width, unsigned(value, width));
    } catch (error) {
      throw this.#failed(error);
    } finally {
      this.#endHardware();
    }
    this.#endPoint();
  }
  /** Ports and configuration space are not posted, and wait for what is. */
  #beginPort(): void {
    this.#enter();
    this.#flushPosted();
    this.#advance(this.#time.now + this.#timings.portNs, false);
  }

  #readBlock(region: Region, offset: number, width: number): number {
    this.#beginHardware();
    try {
      return region.block.readRegister(offset, width);
    } catch (error) {
      throw this.#failed(error);
    } finally {
      this.#endHardware();
    }
  }
  #writeBlock(region: Region, offset: number, width: number, value: number): void {
    this.#beginHardware();
    try {
      region.block.writeRegister(offset, width, value);
    } catch (error) {
      throw this.#failed(error);
    } finally {
      this.#endHardware();
    }
  }

  // Time points

  setInterruptsEnabled(enabled: boolean): boolean {
    const was = this.#interruptsEnabled;
    this.#interruptsEnabled = enabled;
    if (enabled === true && was === false) {
      // Soft interrupts at the end of a handler run with interrupts enabled: its own line may come again by then.
      if (this.#handling !== NOT_HANDLING) {
        this.#irq.end(this.#handling);
        this.#handling = NOT_HANDLING;
      }
      this.pass(0);
    }
    return was;
  }

  /** Let `ns` pass, and deliver what comes meanwhile. */
  pass(ns: number): void {
    const time = this.#time;
    const end = time.now + ns;
    const { scheduler } = this;
    // Nearly always nothing happens meanwhile, and nothing is to be said.
    const quiet = end < time.nextDue && end < this.#posted.nextDue && this.#irq.deliverable === 0;
    const usual = this.#untilNoise > 1 && this.inHardware === false && scheduler.aborted === null;
    if (quiet && usual && end - scheduler.currentSinceNs <= LOCKUP_NS) {
      this.#untilNoise--;
      time.now = end;
    } else this.#passSlowly(ns);
  }
  #passSlowly(ns: number): void {
    this.#enter();
    const time = this.#time;
    const end = time.now + ns;
    for (;;) {
      this.#advance(end, true);
      if (!this.#canDeliver()) break;
      this.#deliver();
      if (time.now >= end) break;
    }
    this.#endPoint();
  }

  /** A task that yielded goes on. */
  yielded(): void {
    this.relax(this.#timings.yieldNs);
    if (this.#quiet < LOCKUP_YIELDS || this.#time.length > 0) return;
    const name = this.scheduler.current?.name;
    throw this.#failed(
      new LockupError(`lockup: tasks wake each other without end (now '${name}'), and nothing is under way`),
    );
  }
  /** The same, where a loop that polls may be. */
  relax(ns: number): void {
    if (++this.#quiet >= PATIENT_POINTS) this.#stuck();
    this.pass(ns);
  }

  /** Nobody can run: let time pass to the next thing that happens; false when nothing will. */
  idle(): boolean {
    const time = this.#time;
    const next = Math.min(time.nextDue, this.#posted.nextDue);
    const enabled = this.#interruptsEnabled;
    // A CPU with nothing to do idles with interrupts enabled; a task that waits with them disabled finds them so again.
    this.#interruptsEnabled = true;
    try {
      if (this.#canDeliver()) this.#deliver();
      else if (next === Number.POSITIVE_INFINITY) return false;
      else {
        if (next > time.now && this.#stores !== null) this.#stores.passed(next - time.now);
        this.#passSlowly(next > time.now ? next - time.now : 0);
      }
      return true;
    } finally {
      this.#interruptsEnabled = enabled;
    }
  }

  /** What every time point begins with. */
  #enter(): void {
    if (this.scheduler.aborted !== null) throw this.scheduler.aborted;
    if (this.inHardware === true) {
      throw this.#failed(
        new Error("the CPU's side of the machine was used in hardware time (by a model, or in a callback of after())"),
      );
    }
  }
  /** What every time point ends with: interrupts, caches that move by themselves, and a look for lockups. */
  #endPoint(): void {
    if (this.#canDeliver()) this.#deliver();
    if (--this.#untilNoise <= 0) this.#moveByItself();
    if (this.#time.now - this.scheduler.currentSinceNs > LOCKUP_NS) this.#checkLockup();
    if (this.scheduler.aborted !== null) throw this.scheduler.aborted;
  }

  /**
   * Move the clock to `end`, and run what is due until then; only as far as the first interrupt that can be delivered
   * where `untilInterrupt`.
   */
  #advance(end: number, untilInterrupt: boolean): void {
    const time = this.#time;
    const posted = this.#posted;
    while (posted.nextDue <= end || time.nextDue <= end) {
      if (posted.nextDue <= time.nextDue) this.#arrive();
      else this.#runEvent();
      if (untilInterrupt && this.#canDeliver()) return;
    }
    if (time.now < end) time.now = end;
  }
  #runEvent(): void {
    const timer = this.#time.take();
    this.#quiet = 0;
    if (timer.ofModel) this.happenings++;
    this.#beginHardware();
    try {
      timer.callback();
    } catch (error) {
      throw this.#failed(error);
    } finally {
      this.#endHardware();
    }
  }
  /** The first posted write reaches its device. */
  #arrive(): void {
    const posted = this.#posted;
    if (posted.nextDue > this.#time.now) this.#time.now = posted.nextDue;
    posted.take();
    this.#quiet = 0;
    this.happenings++;
    const region = this.registers.find(posted.addr);
    if (region !== null) this.#writeBlock(region, posted.addr - region.base, posted.width, posted.value);
  }
  /** A read pushes every posted write before it. */
  #flushPosted(): void {
    const posted = this.#posted;
    while (posted.length > 0) {
      posted.nextDue = this.#time.now;
      this.#arrive();
    }
  }
  #moveByItself(): void {
    this.#untilNoise = 1 + this.#noise.below(NOISE_EVERY);
    this.#prefetcher?.tick();
    const stores = this.#stores;
    if (stores !== null && stores.active === true) stores.drainOne();
  }

  #beginHardware(): void {
    this.inHardware = true;
    this.#time.scaled = true;
  }
  #endHardware(): void {
    this.inHardware = false;
    this.#time.scaled = false;
  }
  /** An error in hardware or in an interrupt handler ends the run; whatever code was interrupted gets it as well. */
  #failed(error: unknown): Error {
    const failure = error instanceof Error ? error : new Error(String(error));
    this.scheduler.abort(failure);
    return failure;
  }

  // Interrupts

  #canDeliver(): boolean {
    return this.#irq.deliverable > 0 && this.#interruptsEnabled === true && this.handler !== null;
  }

  /** Deliver interrupts until none is left, or interrupts are disabled. */
  #deliver(): void {
    for (let count = 0; this.#canDeliver(); count++) {
      const line = this.#irq.take();
      if (count >= STORM) {
        throw this.#failed(
          new LockupError(`interrupt storm: line ${line} was delivered ${STORM} times, and its level stays high`),
        );
      }
      this.#quiet = 0;
      this.happenings++;
      this.observer?.interrupt?.(this.#time.now, line);
      const outer = this.#handling;
      this.#interruptsEnabled = false;
      this.#handling = line;
      if (this.#depth++ === 0) this.#handlerSinceNs = this.#time.now;
      try {
        this.#advance(this.#time.now + this.#timings.interruptNs, false);
        this.handler?.(line);
      } catch (error) {
        throw this.#failed(error);
      } finally {
        if (this.#handling === line) this.#irq.end(line);
        this.#handling = outer;
        this.#depth--;
        this.#interruptsEnabled = true;
      }
    }
  }

  // Lockups

  /** Nothing has happened for long: take longer steps, and give up when nothing can happen any more. */
  #stuck(): void {
    const time = this.#time;
    // Code outside of tasks and handlers, such as a test's, may take its time.
    if (this.scheduler.current === null && this.#depth === 0) return;
    if (this.#quiet >= LOCKUP_POINTS && time.length === 0) throw this.#lockup();
    time.now = Math.min(time.now + IMPATIENT_NS, Math.max(time.now, time.nextDue));
  }
  #checkLockup(): void {
    if (this.scheduler.current !== null) throw this.#lockup();
    if (this.#depth > 0 && this.#time.now - this.#handlerSinceNs > LOCKUP_NS) throw this.#lockup();
  }
  #lockup(): Error {
    const task = this.scheduler.current;
    const inTask = task !== null && this.#depth === 0;
    const who = inTask ? `task '${task.name}'` : this.#depth > 0 ? 'an interrupt handler' : 'the CPU';
    const sinceNs = this.#depth > 0 ? this.#handlerSinceNs : this.scheduler.currentSinceNs;
    const seconds = ((this.#time.now - sinceNs) / 1e9).toFixed(1);
    let where = 'without reading any register';
    if (this.#lastReadNs >= sinceNs) {
      const region = this.registers.find(this.#lastRead);
      const name =
        region === null ? 'where nothing answers' : `${region.name}+${hexAddr(this.#lastRead - region.base)}`;
      const value = hexAddr(this.#lastValue >>> 0);
      where = `and last read the register at ${hexAddr(this.#lastRead)} (${name}), which gave ${value}`;
    }
    const hope = this.#time.length === 0 ? '; nothing is under way that could change it' : '';
    return this.#failed(
      new LockupError(`lockup: ${who} has kept the CPU for ${seconds} s of simulated time ${where}${hope}`),
    );
  }
}

function unsigned(value: number, width: number): number {
  if (width === 4) return value >>> 0;
  return width === 2 ? value & 0xffff : value & 0xff;
}
