import { hexAddr, PAGE_SHIFT, PAGE_SIZE, type PhysAddr, physAddr } from '../../base/addr.ts';
import { Prng } from '../../base/prng.ts';
import type { BarrierKind, Machine, MachineTraits, MsiVector, TimerHandle } from '../contract.ts';
import type {
  BusMaster,
  BusMasterOptions,
  FaultInjection,
  IrqLine,
  ModelHost,
  ModelTimer,
  PciFunction,
  RegisterBlock,
} from '../model.ts';
import type { CacheOp, MachineObserver } from '../observer.ts';
import type { TaskScheduler } from '../task-scheduler.ts';
import { type BusWatcher, SimBusMaster } from './bus-master.ts';
import { Cache } from './cache.ts';
import { SimCpu } from './cpu.ts';
import { Faults } from './faults.ts';
import { InterruptController } from './irq.ts';
import { MemoryBus } from './memory-bus.ts';
import { defaultTimings, type SimMachineOptions, type SimTimings } from './options.ts';
import { Prefetcher } from './prefetcher.ts';
import { PageState, SimBank } from './sim-bank.ts';
import { StoreBuffer } from './store-buffer.ts';
import { EventQueue, Timer } from './time.ts';

/** For bus masters that nobody is told of. */
const UNWATCHED: BusWatcher = { observer: null, now: () => 0 };

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
  readonly #prng: Prng;
  readonly #timings: SimTimings;
  readonly #time = new EventQueue();
  readonly #cpu: SimCpu;
  readonly #irq: InterruptController;
  readonly #cache: Cache;
  readonly #prefetcher: Prefetcher | null;
  readonly #stores: StoreBuffer | null;
  readonly #bus: MemoryBus;
  readonly #faults: Faults;

  constructor(options: SimMachineOptions) {
    const lineBytes = options.cacheLineBytes ?? 64;
    if (![32, 64, 128, 256].includes(lineBytes)) {
      throw new RangeError(`${options.name}: a cache line has 32, 64, 128 or 256 bytes, found ${lineBytes}`);
    }
    this.name = options.name;
    this.traits = {
      coherent: options.coherent,
      cacheLineBytes: lineBytes,
      weaklyOrdered: options.weaklyOrdered ?? false,
      observable: { deviceAccess: true, cacheOps: true, interrupts: true, registerAccess: true },
    };
    this.#timings = { ...defaultTimings, ...options.timings };
    this.#prng = new Prng(options.seed);
    this.ram = makeBanks(options);
    this.#irq = new InterruptController(options.msiBase ?? -1);
    this.#faults = new Faults(this.#irq, this.#time);
    this.faults = this.#faults;
    this.#cache = new Cache(lineBytes);
    this.#prefetcher = null;
    if (!options.coherent && options.cacheNoise !== 'off') {
      const moved = (op: CacheOp, bank: SimBank, offset: number) => this.#lineMoved(op, bank, offset);
      this.#prefetcher = new Prefetcher(this.#prng.fork('caches'), this.#cache, moved);
    }
    this.#stores = this.traits.weaklyOrdered ? new StoreBuffer(this.#prng.fork('store order')) : null;
    this.#cpu = new SimCpu(this.#time, this.#irq, this.#timings, this.#prng, this.#prefetcher, this.#stores);
    this.#bus = new MemoryBus(this.ram, this.#cpu.registers, this.#irq, this.#cache, this.#prefetcher, this.#stores);
    this.scheduler = this.#cpu.scheduler;
  }

  /** The seed of this run, to print and to repeat. */
  get seed(): number {
    return this.#prng.seed;
  }
  get observer(): MachineObserver | null {
    return this.#cpu.observer;
  }
  set observer(observer: MachineObserver | null) {
    this.#cpu.observer = observer;
  }
  bankAt(phys: number): SimBank | null {
    return this.#bus.bankAt(phys);
  }

  // Registers

  read8(addr: PhysAddr): number {
    return this.#cpu.read(addr, 1) & 0xff;
  }
  read16(addr: PhysAddr): number {
    return this.#cpu.read(addr, 2) & 0xffff;
  }
  read32(addr: PhysAddr): number {
    return this.#cpu.read(addr, 4) >>> 0;
  }
  write8(addr: PhysAddr, value: number): void {
    this.#cpu.write(addr, 1, value & 0xff);
  }
  write16(addr: PhysAddr, value: number): void {
    this.#cpu.write(addr, 2, value & 0xffff);
  }
  write32(addr: PhysAddr, value: number): void {
    this.#cpu.write(addr, 4, value >>> 0);
  }
  portRead(port: number, width: 1 | 2 | 4): number {
    return this.#cpu.portRead(port, width);
  }
  portWrite(port: number, width: 1 | 2 | 4, value: number): void {
    this.#cpu.portWrite(port, width, value);
  }
  pciConfigRead(bdf: number, offset: number, width: 1 | 2 | 4): number {
    return this.#cpu.configRead(bdf, offset, width);
  }
  pciConfigWrite(bdf: number, offset: number, width: 1 | 2 | 4, value: number): void {
    this.#cpu.configWrite(bdf, offset, width, value);
  }

  // Interrupts

  setIrqHandler(handler: (line: number) => void): void {
    this.#cpu.handler = handler;
  }
  enableIrqLine(line: number): void {
    this.#irq.enable(line);
  }
  disableIrqLine(line: number): void {
    this.#irq.disable(line);
  }
  setInterruptsEnabled(enabled: boolean): boolean {
    return this.#cpu.setInterruptsEnabled(enabled);
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
  again(timer: TimerHandle, delayNs: number): void {
    (timer as Timer).start(delayNs);
  }
  cancel(timer: TimerHandle): void {
    this.#time.cancel(timer as Timer);
  }
  timer(callback: () => void): ModelTimer {
    return new Timer(this.#time, callback);
  }
  cpuRelax(): void {
    this.#cpu.relax(this.#timings.relaxNs);
  }
  delay(delayNs: number): void {
    this.#cpu.relax(Math.ceil(delayNs));
  }
  timePoint(): void {
    this.#cpu.pass(0);
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
    if (this.traits.coherent === true || sizeBytes <= 0) return;
    this.#cpu.observer?.cacheOp?.(this.#time.now, op, phys, sizeBytes);
    const lineBytes = this.#cache.lineBytes;
    for (let at = phys, left = sizeBytes; left > 0; ) {
      const bank = this.#bus.bankAt(at);
      if (bank === null) return;
      const offset = at - bank.base;
      const size = Math.min(left, bank.sizeBytes - offset);
      const start = offset - (offset % lineBytes);
      const rest = (offset + size) % lineBytes;
      const end = rest === 0 ? offset + size : offset + size + lineBytes - rest;
      if (op !== 'invalidate') this.#cache.clean(bank, start, end);
      if (op !== 'clean') this.#cache.invalidate(bank, start, end);
      this.#prefetcher?.note(bank, start, end);
      at += size;
      left -= size;
    }
  }
  #lineMoved(op: CacheOp, bank: SimBank, offset: number): void {
    this.#cpu.observer?.cacheOp?.(this.#time.now, op, bank.base + offset, this.#cache.lineBytes);
  }

  barrier(kind: BarrierKind): void {
    this.#cpu.observer?.barrier?.(this.#time.now, kind);
    if (kind === 'rmb' || kind === 'dma_rmb') return;
    const stores = this.#stores;
    if (stores !== null && stores.active === true) stores.drain();
    this.#cpu.pass(this.#timings.barrierNs);
  }

  /** The range must be whole pages within one bank; else `RangeError`. */
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
    for (let page = first; page < end >>> PAGE_SHIFT; page++) {
      const was = bank.pages[page] as number;
      if ((was !== PageState.CACHED) === uncached) continue;
      if (!uncached) this.#stores?.forget(bank, page);
      bank.pages[page] = uncached ? PageState.UNCACHED : PageState.CACHED;
      bank.uncachedPages += uncached ? 1 : -1;
      if (uncached && page < first + FOLLOW_AT_FIRST) this.#stores?.follow(bank, page);
    }
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
    this.#cpu.registers.add(base, sizeBytes, name, block);
  }
  unmapRegisters(base: PhysAddr): void {
    this.#cpu.registers.remove(base);
  }
  mapPorts(base: number, count: number, name: string, block: RegisterBlock): void {
    this.#cpu.ports.add(base, count, name, block);
  }
  addPciFunction(fn: PciFunction): void {
    this.#cpu.pci.add(fn);
  }
  irqLine(line: number): IrqLine {
    return this.#irq.irqLine(line);
  }
  busMaster(options: BusMasterOptions): BusMaster {
    const watcher = options.observed === false ? UNWATCHED : this.#cpu;
    return new SimBusMaster(options, this.#bus, this.#faults, watcher, this.traits.coherent);
  }
}

function makeBanks(options: SimMachineOptions): SimBank[] {
  if (options.ram.length === 0) throw new RangeError(`${options.name}: a machine needs RAM`);
  const banks = options.ram
    .map((bank) => new SimBank(physAddr(bank.base), bank.sizeBytes, options.coherent))
    .sort((a, b) => a.base - b.base);
  for (let i = 1; i < banks.length; i++) {
    const low = banks[i - 1] as SimBank;
    const high = banks[i] as SimBank;
    if (low.end > high.base) {
      throw new RangeError(`${options.name}: RAM banks at ${hexAddr(low.base)} and ${hexAddr(high.base)} overlap`);
    }
  }
  return banks;
}
