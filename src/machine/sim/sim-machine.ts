import { hexAddr, PAGE_SHIFT, PAGE_SIZE, type PhysAddr, physAddr } from '../../base/addr.ts';
import { Prng } from '../../base/prng.ts';
import type { BarrierKind, Machine, MachineTraits, MsiVector, TimerHandle } from '../contract.ts';
import type {
  BusMaster,
  BusMasterOptions,
  FaultInjection,
  IrqLine,
  ModelHost,
  PciFunction,
  RegisterBlock,
} from '../model.ts';
import type { CacheOp, MachineObserver } from '../observer.ts';
import { LockupError } from '../scheduler.ts';
import { TaskScheduler } from '../task-scheduler.ts';
import { SimBusMaster } from './bus-master.ts';
import { Cache } from './cache.ts';
import { Faults } from './faults.ts';
import { InterruptController } from './irq.ts';
import { MemoryBus } from './memory-bus.ts';
import { PciConfig } from './pci-config.ts';
import { PostedWrites } from './posted.ts';
import { Prefetcher } from './prefetcher.ts';
import { type Region, RegionMap } from './region-map.ts';
import { PageState, SimBank } from './sim-bank.ts';
import { StoreBuffer } from './store-buffer.ts';
import { EventQueue, Timer } from './time.ts';

/** How long things take, in nanoseconds. */
export interface SimTimings {
  /** A register read, there and back. */
  readonly readNs: number;
  /** The CPU's part of a register write. */
  readonly writeNs: number;
  /** A posted write arrives after at least and at most this long. */
  readonly postedMinNs: number;
  readonly postedMaxNs: number;
  /** A port access, and one of PCI configuration space. */
  readonly portNs: number;
  readonly relaxNs: number;
  readonly barrierNs: number;
  /** Entering an interrupt handler. */
  readonly interruptNs: number;
}
const defaultTimings: SimTimings = {
  readNs: 100,
  writeNs: 10,
  postedMinNs: 20,
  postedMaxNs: 250,
  portNs: 500,
  relaxNs: 20,
  barrierNs: 5,
  interruptNs: 50,
};

export interface SimMachineOptions {
  readonly name: string;
  /** Devices snoop the CPU's caches. */
  readonly coherent: boolean;
  /** A power of two from 32 to 256; default 64. */
  readonly cacheLineBytes?: number;
  readonly weaklyOrdered?: boolean;
  /** Decides everything that real hardware leaves open. */
  readonly seed: number;
  readonly ram: readonly { readonly base: number; readonly sizeBytes: number }[];
  /** Where devices write interrupt messages; without it the machine has none. */
  readonly msiBase?: number;
  readonly timings?: Partial<SimTimings>;
  /** Whether caches evict and prefetch by themselves; default 'on'. */
  readonly cacheNoise?: 'on' | 'off';
}

/** A task that keeps the CPU for longer is locked up, as the kernel's soft lockup detector has it. */
const LOCKUP_NS = 22e9;
/** Time points at which nothing happened before a task is locked up when nothing is under way either. */
const LOCKUP_POINTS = 2_000_000;
/** From this many quiet time points on, polling takes longer steps, so that a driver's own time-out comes soon. */
const PATIENT_POINTS = 100_000;
const IMPATIENT_NS = 20_000;
/** Interrupts delivered at one time point before it is a storm. Above the 100,000 after which the kernel shuts a line. */
const STORM = 250_000;
/** No line has this number. */
const NOT_HANDLING = -2;
/** Time points between two moves of the caches, at most; the same for stores that drain. */
const NOISE_EVERY = 24;
/** Pages of a fresh uncached range whose stores are followed at once; later ones when a device uses them. */
const FOLLOW_AT_FIRST = 2;

/**
 * The simulated machine: RAM, caches, buses, interrupts and virtual time in one process. Everything in it is decided by
 * the seed and by what runs on it. Models see it as a `ModelHost`, drivers as a `Machine`.
 */
export class SimMachine implements Machine, ModelHost {
  readonly name: string;
  readonly traits: MachineTraits;
  readonly ram: readonly SimBank[];
  readonly scheduler: TaskScheduler;
  readonly faults: FaultInjection;
  observer: MachineObserver | null = null;
  /** True while a model's or an event's code runs: there the CPU's side must not be used. */
  inHardware = false;

  readonly #prng: Prng;
  readonly #noise: Prng;
  readonly #timings: SimTimings;
  readonly #time = new EventQueue();
  readonly #posted: PostedWrites;
  readonly #registers = new RegionMap('registers');
  readonly #ports = new RegionMap('ports');
  readonly #pci = new PciConfig();
  readonly #irq: InterruptController;
  readonly #cache: Cache;
  readonly #prefetcher: Prefetcher | null;
  readonly #stores: StoreBuffer | null;
  readonly #bus: MemoryBus;
  readonly #faults: Faults;
  #handler: ((line: number) => void) | null = null;
  #interruptsEnabled = true;
  /** The line whose handler runs with interrupts still disabled, or `NOT_HANDLING`. */
  #handling = NOT_HANDLING;
  #untilNoise = NOISE_EVERY;
  /** Time points since something happened. */
  #quiet = 0;
  #lastRead = -1;
  #lastValue = 0;
  #lastReadNs = -1;

  constructor(options: SimMachineOptions) {
    const lineBytes = options.cacheLineBytes ?? 64;
    if (![32, 64, 128, 256].includes(lineBytes)) {
      throw new RangeError(`${options.name}: a cache line has 32, 64, 128 or 256 bytes, found ${lineBytes}`);
    }
    if (options.ram.length === 0) throw new RangeError(`${options.name}: a machine needs RAM`);
    this.name = options.name;
    this.traits = {
      coherent: options.coherent,
      cacheLineBytes: lineBytes,
      weaklyOrdered: options.weaklyOrdered ?? false,
      observable: { deviceAccess: true, cacheOps: true, interrupts: true, registerAccess: true },
    };
    this.#timings = { ...defaultTimings, ...options.timings };
    this.#prng = new Prng(options.seed);
    this.#noise = this.#prng.fork('noise');
    this.#posted = new PostedWrites(
      this.#prng.fork('posted writes'),
      this.#timings.postedMinNs,
      this.#timings.postedMaxNs,
    );
    this.ram = options.ram
      .map((bank) => new SimBank(physAddr(bank.base), bank.sizeBytes, options.coherent))
      .sort((a, b) => a.base - b.base);
    for (let i = 1; i < this.ram.length; i++) {
      const [low, high] = [this.ram[i - 1] as SimBank, this.ram[i] as SimBank];
      if (low.end > high.base) {
        throw new RangeError(`${options.name}: RAM banks at ${hexAddr(low.base)} and ${hexAddr(high.base)} overlap`);
      }
    }
    this.#irq = new InterruptController(options.msiBase ?? -1);
    this.#faults = new Faults(this.#irq, this.#time);
    this.faults = this.#faults;
    this.#cache = new Cache(lineBytes);
    const noisy = !options.coherent && options.cacheNoise !== 'off';
    this.#prefetcher = noisy
      ? new Prefetcher(this.#prng.fork('caches'), this.#cache, (op, bank, offset) => this.#lineMoved(op, bank, offset))
      : null;
    this.#stores = this.traits.weaklyOrdered ? new StoreBuffer(this.#prng.fork('store order')) : null;
    this.#bus = new MemoryBus(this.ram, this.#registers, this.#irq, this.#cache, this.#prefetcher, this.#stores);
    this.scheduler = new TaskScheduler(this);
  }

  /** The seed of this run, to print and to repeat. */
  get seed(): number {
    return this.#prng.seed;
  }
  bankAt(phys: number): SimBank | null {
    return this.#bus.bankAt(phys);
  }

  // Registers

  read8(addr: PhysAddr): number {
    return this.#read(addr, 1) & 0xff;
  }
  read16(addr: PhysAddr): number {
    return this.#read(addr, 2) & 0xffff;
  }
  read32(addr: PhysAddr): number {
    return this.#read(addr, 4) >>> 0;
  }
  write8(addr: PhysAddr, value: number): void {
    this.#write(addr, 1, value & 0xff);
  }
  write16(addr: PhysAddr, value: number): void {
    this.#write(addr, 2, value & 0xffff);
  }
  write32(addr: PhysAddr, value: number): void {
    this.#write(addr, 4, value >>> 0);
  }

  #read(addr: number, width: number): number {
    this.#enter();
    this.#flushPosted();
    this.#advance(this.#time.now + this.#timings.readNs);
    const region = this.#registers.find(addr);
    const value = region === null ? -1 : this.#readBlock(region, addr - region.base, width);
    this.#lastRead = addr;
    this.#lastValue = value;
    this.#lastReadNs = this.#time.now;
    if (this.observer !== null) this.#tellRegister(false, addr, width, value);
    this.#endPoint();
    return value;
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
  #write(addr: number, width: number, value: number): void {
    this.#enter();
    if (this.observer !== null) this.#tellRegister(true, addr, width, value);
    this.#posted.push(this.#time.now, addr, width, value);
    this.#pass(this.#timings.writeNs);
  }
  #tellRegister(isWrite: boolean, addr: number, width: number, value: number): void {
    const shown = width === 4 ? value >>> 0 : value & (width === 2 ? 0xffff : 0xff);
    this.observer?.registerAccess?.(this.#time.now, isWrite, addr, width, shown);
  }

  portRead(port: number, width: 1 | 2 | 4): number {
    this.#enter();
    this.#flushPosted();
    this.#advance(this.#time.now + this.#timings.portNs);
    const region = this.#ports.find(port);
    const value = region === null ? -1 : this.#readBlock(region, port - region.base, width);
    this.#endPoint();
    return unsigned(value, width);
  }
  portWrite(port: number, width: 1 | 2 | 4, value: number): void {
    this.#enter();
    this.#flushPosted();
    this.#advance(this.#time.now + this.#timings.portNs);
    const region = this.#ports.find(port);
    if (region !== null) this.#writeBlock(region, port - region.base, width, unsigned(value, width));
    this.#endPoint();
  }
  pciConfigRead(bdf: number, offset: number, width: 1 | 2 | 4): number {
    this.#enter();
    this.#flushPosted();
    this.#advance(this.#time.now + this.#timings.portNs);
    this.#beginHardware();
    try {
      return unsigned(this.#pci.read(bdf, offset, width), width);
    } catch (error) {
      throw this.#failed(error);
    } finally {
      this.#endHardware();
    }
  }
  pciConfigWrite(bdf: number, offset: number, width: 1 | 2 | 4, value: number): void {
    this.#enter();
    this.#flushPosted();
    this.#advance(this.#time.now + this.#timings.portNs);
    this.#beginHardware();
    try {
      this.#pci.write(bdf, offset, width, unsigned(value, width));
    } catch (error) {
      throw this.#failed(error);
    } finally {
      this.#endHardware();
    }
  }

  // Interrupts

  setIrqHandler(handler: (line: number) => void): void {
    this.#handler = handler;
  }
  enableIrqLine(line: number): void {
    this.#irq.enable(line);
  }
  disableIrqLine(line: number): void {
    this.#irq.disable(line);
  }
  setInterruptsEnabled(enabled: boolean): boolean {
    const was = this.#interruptsEnabled;
    this.#interruptsEnabled = enabled;
    if (enabled && !was) {
      // Soft interrupts at the end of a handler run with interrupts enabled: its own line may come again by then.
      if (this.#handling !== NOT_HANDLING) {
        this.#irq.end(this.#handling);
        this.#handling = NOT_HANDLING;
      }
      this.timePoint();
    }
    return was;
  }
  raiseLocalIrq(): void {
    this.#irq.raiseLocal();
  }
  allocateMsi(): MsiVector {
    return this.#irq.allocateMsi();
  }
  freeMsi(vector: MsiVector): void {
    this.#irq.freeMsi(vector);
  }

  // Time

  now(): number {
    return this.#time.now;
  }
  after(delayNs: number, callback: () => void): TimerHandle {
    const timer = new Timer(this.#time, callback);
    timer.start(delayNs);
    return timer;
  }
  cancel(timer: TimerHandle): void {
    this.#time.cancel(timer as Timer);
  }
  timer(callback: () => void): Timer {
    return new Timer(this.#time, callback);
  }
  cpuRelax(): void {
    this.#enter();
    this.#pass(this.#timings.relaxNs);
  }
  delay(delayNs: number): void {
    this.#enter();
    this.#pass(Math.ceil(delayNs));
  }
  timePoint(): void {
    this.#enter();
    this.#pass(0);
  }

  // Memory

  cacheClean(phys: PhysAddr, sizeBytes: number): void {
    this.#cacheOp('clean', phys, sizeBytes);
  }
  cacheInvalidate(phys: PhysAddr, sizeBytes: number): void {
    this.#cacheOp('invalidate', phys, sizeBytes);
  }
  cacheFlush(phys: PhysAddr, sizeBytes: number): void {
    this.#cacheOp('flush', phys, sizeBytes);
  }
  #cacheOp(op: CacheOp, phys: number, sizeBytes: number): void {
    if (this.traits.coherent || sizeBytes <= 0) return;
    this.observer?.cacheOp?.(this.#time.now, op, phys, sizeBytes);
    const lineBytes = this.#cache.lineBytes;
    for (let at = phys, left = sizeBytes; left > 0; ) {
      const bank = this.#bus.bankAt(at);
      if (bank === null) return;
      const offset = at - bank.base;
      const size = Math.min(left, bank.sizeBytes - offset);
      const start = offset - (offset % lineBytes);
      const end = offset + size + ((lineBytes - ((offset + size) % lineBytes)) % lineBytes);
      if (op !== 'invalidate') this.#cache.clean(bank, start, end);
      if (op !== 'clean') this.#cache.invalidate(bank, start, end);
      this.#prefetcher?.note(bank, start, end);
      at += size;
      left -= size;
    }
  }
  #lineMoved(op: CacheOp, bank: SimBank, offset: number): void {
    this.observer?.cacheOp?.(this.#time.now, op, bank.base + offset, this.#cache.lineBytes);
  }

  barrier(kind: BarrierKind): void {
    this.observer?.barrier?.(this.#time.now, kind);
    if (kind === 'rmb' || kind === 'dma_rmb') return;
    if (this.#stores?.active) this.#stores.drain();
    this.#enter();
    this.#pass(this.#timings.barrierNs);
  }

  setUncached(phys: PhysAddr, sizeBytes: number, uncached: boolean): void {
    const bank = this.#bus.bankAt(phys);
    if (bank?.contains(phys, sizeBytes) !== true) {
      throw new RangeError(`uncached memory must lie in one bank of RAM; found ${sizeBytes} bytes at ${hexAddr(phys)}`);
    }
    if (phys % PAGE_SIZE !== 0 || sizeBytes % PAGE_SIZE !== 0) {
      throw new RangeError(`uncached memory is whole pages; found ${sizeBytes} bytes at ${hexAddr(phys)}`);
    }
    const start = phys - bank.base;
    const end = start + sizeBytes;
    if (uncached) this.#cache.clean(bank, start, end);
    this.#cache.invalidate(bank, start, end);
    const first = start >>> PAGE_SHIFT;
    const last = end >>> PAGE_SHIFT;
    for (let page = first; page < last; page++) {
      const was = bank.pages[page] as number;
      if ((was !== PageState.CACHED) === uncached) continue;
      if (!uncached) this.#stores?.forget(bank, page);
      bank.pages[page] = uncached ? PageState.UNCACHED : PageState.CACHED;
      bank.uncachedPages += uncached ? 1 : -1;
      if (uncached && page < first + FOLLOW_AT_FIRST) this.#stores?.follow(bank, page);
    }
    // The lines beside it are the ones whose owner might be harmed.
    this.#prefetcher?.note(bank, start, end);
  }

  // What models see

  prng(name: string): Prng {
    return this.#prng.fork(`model ${name}`);
  }
  mapRegisters(base: PhysAddr, sizeBytes: number, name: string, block: RegisterBlock): void {
    for (const bank of this.ram) {
      if (base < bank.end && base + sizeBytes > bank.base) {
        throw new Error(`${name}: registers at ${hexAddr(base)} lie in RAM (${hexAddr(bank.base)})`);
      }
    }
    this.#registers.add(base, sizeBytes, name, block);
  }
  unmapRegisters(base: PhysAddr): void {
    this.#registers.remove(base);
  }
  mapPorts(base: number, count: number, name: string, block: RegisterBlock): void {
    this.#ports.add(base, count, name, block);
  }
  addPciFunction(fn: PciFunction): void {
    this.#pci.add(fn);
  }
  irqLine(line: number): IrqLine {
    return this.#irq.irqLine(line);
  }
  busMaster(options: BusMasterOptions): BusMaster {
    return new SimBusMaster(options, this.#bus, this.#faults, this, this.traits.coherent);
  }

  // Time points

  /** What every time point begins with. */
  #enter(): void {
    if (this.scheduler.aborted !== null) throw this.scheduler.aborted;
    if (this.inHardware) {
      throw this.#failed(
        new Error("the CPU's side of the machine was used in hardware time (by a model, or in a callback of after())"),
      );
    }
  }

  /** Let `ns` pass, and deliver what comes meanwhile. */
  #pass(ns: number): void {
    const time = this.#time;
    const end = time.now + ns;
    for (;;) {
      this.#advance(end);
      if (this.#irq.deliverable === 0 || !this.#interruptsEnabled || this.#handler === null) break;
      this.#deliver();
      if (time.now >= end) break;
    }
    this.#endPoint();
  }

  /**
   * Move the clock to `end`, and run what is due until then; less far when an interrupt can be delivered in between.
   */
  #advance(end: number): void {
    const time = this.#time;
    const posted = this.#posted;
    while (posted.nextDue <= end || time.nextDue <= end) {
      if (posted.nextDue <= time.nextDue) this.#arrive();
      else this.#runEvent();
      if (this.#irq.deliverable > 0 && this.#interruptsEnabled && this.#handler !== null) return;
    }
    if (time.now < end) time.now = end;
  }

  /** What every time point ends with: interrupts, caches that move by themselves, and a look for lockups. */
  #endPoint(): void {
    if (this.#irq.deliverable > 0 && this.#interruptsEnabled && this.#handler !== null) this.#deliver();
    if (--this.#untilNoise <= 0) this.#moveByItself();
    if (++this.#quiet >= PATIENT_POINTS) this.#stuck();
    const scheduler = this.scheduler;
    if (this.#time.now - scheduler.currentSinceNs > LOCKUP_NS && scheduler.current !== null) this.#lockup();
    if (scheduler.aborted !== null) throw scheduler.aborted;
  }

  #moveByItself(): void {
    this.#untilNoise = 1 + this.#noise.below(NOISE_EVERY);
    this.#prefetcher?.tick();
    if (this.#stores?.active) this.#stores.drainOne();
  }

  #runEvent(): void {
    const timer = this.#time.take();
    this.#quiet = 0;
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
    const region = this.#registers.find(posted.addr);
    if (region !== null) this.#writeBlock(region, posted.addr - region.base, posted.width, posted.value);
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
  /** A read pushes every posted write before it. */
  #flushPosted(): void {
    const posted = this.#posted;
    while (posted.length > 0) {
      posted.nextDue = this.#time.now;
      this.#arrive();
    }
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

  /** Deliver interrupts until none is left, or interrupts are disabled. */
  #deliver(): void {
    for (let count = 0; this.#irq.deliverable > 0 && this.#interruptsEnabled; count++) {
      const line = this.#irq.take();
      if (count >= STORM) {
        throw this.#failed(
          new LockupError(`interrupt storm: line ${line} was delivered ${STORM} times, and its level stays high`),
        );
      }
      this.#quiet = 0;
      this.observer?.interrupt?.(this.#time.now, line);
      this.#interruptsEnabled = false;
      const outer = this.#handling;
      this.#handling = line;
      this.#advance(this.#time.now + this.#timings.interruptNs);
      try {
        this.#handler?.(line);
      } catch (error) {
        throw this.#failed(error);
      } finally {
        if (this.#handling === line) this.#irq.end(line);
        this.#handling = outer;
        this.#interruptsEnabled = true;
      }
    }
  }

  /** Nobody can run: let time pass to the next thing that happens. For the scheduler. */
  idle(): boolean {
    const time = this.#time;
    const next = Math.min(time.nextDue, this.#posted.nextDue);
    const enabled = this.#interruptsEnabled;
    // A CPU with nothing to do idles with interrupts enabled; a task that waits with them disabled finds them so again.
    this.#interruptsEnabled = true;
    try {
      if (this.#irq.deliverable > 0 && this.#handler !== null) this.#deliver();
      else if (next === Number.POSITIVE_INFINITY) return false;
      else {
        if (next > time.now) this.#stores?.passed(next - time.now);
        this.#pass(Math.max(0, next - time.now));
      }
      return true;
    } finally {
      this.#interruptsEnabled = enabled;
    }
  }

  /** Nothing has happened for long: take longer steps, and give up when nothing can happen any more. */
  #stuck(): void {
    const time = this.#time;
    if (this.#quiet >= LOCKUP_POINTS && time.length === 0) this.#lockup();
    time.now = Math.min(time.now + IMPATIENT_NS, Math.max(time.now, time.nextDue));
  }
  #lockup(): never {
    const scheduler = this.scheduler;
    const who = scheduler.current === null ? 'the CPU' : `task '${scheduler.current.name}'`;
    const seconds = ((this.#time.now - scheduler.currentSinceNs) / 1e9).toFixed(1);
    let where = 'without reading any register';
    if (this.#lastReadNs >= scheduler.currentSinceNs) {
      const region = this.#registers.find(this.#lastRead);
      const name =
        region === null ? 'where nothing answers' : `${region.name}+${hexAddr(this.#lastRead - region.base)}`;
      where = `and last read the register at ${hexAddr(this.#lastRead)} (${name}), which gave ${hexAddr(this.#lastValue >>> 0)}`;
    }
    const hope = this.#time.length === 0 ? '; nothing is under way that could change it' : '';
    throw this.#failed(
      new LockupError(`lockup: ${who} has kept the CPU for ${seconds} s of simulated time ${where}${hope}`),
    );
  }
}

function unsigned(value: number, width: number): number {
  if (width === 4) return value >>> 0;
  return width === 2 ? value & 0xffff : value & 0xff;
}
