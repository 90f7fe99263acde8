/**
 * What the simulated machine offers to models of controllers, IOMMUs and devices. Models know registers and this
 * interface, and nothing of the kernel side.
 */
import type { PhysAddr } from '../base/addr.ts';
import type { Prng } from '../base/prng.ts';
import type { TimerHandle } from './contract.ts';
import type { BusStatus } from './observer.ts';

/** A block of registers on a bus. Offsets are from the block's base; widths are 1, 2 or 4 bytes. */
export interface RegisterBlock {
  readRegister(offset: number, width: number): number;
  writeRegister(offset: number, width: number, value: number): void;
}

/** A device's configuration space and BARs are made of this; offsets as PCI defines them. */
export interface PciFunction {
  readonly bdf: number;
  configRead(offset: number, width: 1 | 2 | 4): number;
  configWrite(offset: number, width: 1 | 2 | 4, value: number): void;
}

/** A wired interrupt as its device drives it. */
export interface IrqLine {
  readonly line: number;
  /** Level-triggered: high until lowered. */
  set(high: boolean): void;
  /** Edge: delivered once. */
  pulse(): void;
}

/** A wire between models (a DMA request, an acknowledge): a level with listeners. */
export class Signal {
  readonly name: string;
  #high = false;
  readonly #listeners: ((high: boolean) => void)[] = [];
  constructor(name: string) {
    this.name = name;
  }
  get high(): boolean {
    return this.#high;
  }
  /** Drive it. Listeners hear of changes only. */
  set(high: boolean): void {
    if (high === this.#high) return;
    this.#high = high;
    for (const listener of this.#listeners) listener(high);
  }
  onChange(listener: (high: boolean) => void): void {
    this.#listeners.push(listener);
  }
}

/** An IOMMU as the bus sees it. */
export interface Translator {
  /**
   * Translate one access. Fills `result.phys` and `result.sizeBytes` (how far the translation holds from `addr`, at
   * least 1 byte; the bus asks again for the rest) and returns OK, or records the fault its own way and returns a
   * failure.
   */
  translate(requesterId: number, addr: number, sizeBytes: number, isWrite: boolean, result: Translation): BusStatus;
}
/** Out parameter of `Translator.translate`, reused so that no access makes garbage. */
export interface Translation {
  phys: number;
  sizeBytes: number;
}

/** How a device's accesses reach memory. */
export interface BusMasterOptions {
  /** Shown to observers: the device's name. */
  readonly name: string;
  /** Subtracted from bus addresses to make physical ones (0xC0000000 on the BCM2835), default 0. */
  readonly busOffset?: number;
  /** The IOMMU in front of it, and the id under which that knows it (PCI: bdf; Arm: stream id). */
  readonly translator?: Translator;
  readonly requesterId?: number;
  /** Address lines: accesses at 2^addressBits and above get DECODE_ERROR. Default 52. */
  readonly addressBits?: number;
  /** Whether its accesses snoop the CPU's caches; default: the machine's coherence. */
  readonly coherent?: boolean;
  /**
   * Whether observers are told of its accesses; default true. False for the platform's own: an IOMMU's walks of tables
   * that no device has mapped.
   */
  readonly observed?: boolean;
}

/**
 * A device's connection to memory. Accesses take place at once, at hardware time; models pace themselves with
 * `ModelHost.after`. They may cross pages and banks; RAM, peripheral registers (FIFOs) and MSI doorbells answer.
 * A failing access changes nothing from the failing byte on, and `failedAt` says where.
 */
export interface BusMaster {
  readonly name: string;
  /** Bus address of the first byte that failed in the last access that did not return OK. */
  readonly failedAt: number;
  read(addr: number, into: Uint8Array, intoOffset: number, sizeBytes: number): BusStatus;
  write(addr: number, from: Uint8Array, fromOffset: number, sizeBytes: number): BusStatus;
  /** Memory to memory without a buffer between, for models that move bytes ascending (the fast path of copies). */
  copy(dst: number, src: number, sizeBytes: number): BusStatus;
  fill(dst: number, byte: number, sizeBytes: number): BusStatus;
  /** One aligned little-endian word; the value is `value32` afterwards (all ones on failure). */
  read32(addr: number): BusStatus;
  readonly value32: number;
  write32(addr: number, value: number): BusStatus;
}

/** A timer made once and started any number of times without garbage: for models that pace themselves often. */
export interface ModelTimer extends TimerHandle {
  readonly pending: boolean;
  /** Run its callback `delayNs` from now, in hardware time; a pending timer is moved. */
  start(delayNs: number): void;
  /** Do not run; without effect when it is not pending. */
  stop(): void;
}

/** What can be made to go wrong, deterministically, in one run. */
export interface FaultInjection {
  /** The next access of `master` that touches the bus address gets SLAVE_ERROR. */
  failBusAccess(master: string, addr: number): void;
  /** The next `count` interrupts of the line are lost. */
  loseInterrupts(line: number, count: number): void;
  /**
   * Slow hardware: from now on, multiply every delay that is asked for in hardware time (by a model's register access or
   * a callback) by this factor. The kernel's own timers keep their time.
   */
  slowDown(factor: number): void;
}

/** The simulated machine as models see it. */
export interface ModelHost {
  /** Hardware time in nanoseconds. */
  now(): number;
  after(delayNs: number, callback: () => void): TimerHandle;
  cancel(timer: TimerHandle): void;
  /** A timer to keep: `after` makes a new one each time, this one makes no garbage. */
  timer(callback: () => void): ModelTimer;
  /** The seeded generator of this model's own (by name). */
  prng(name: string): Prng;
  mapRegisters(base: PhysAddr, sizeBytes: number, name: string, block: RegisterBlock): void;
  unmapRegisters(base: PhysAddr): void;
  mapPorts(base: number, count: number, name: string, block: RegisterBlock): void;
  addPciFunction(fn: PciFunction): void;
  irqLine(line: number): IrqLine;
  busMaster(options: BusMasterOptions): BusMaster;
}
