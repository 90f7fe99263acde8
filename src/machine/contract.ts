/**
 * The machine contract: everything that a driver can reach, behind one narrow interface. It is implemented by the
 * simulated machine, over QEMU's qtest and over VFIO, and each is held to machine.cases.ts.
 */
import type { PhysAddr } from '../base/addr.ts';
import type { MachineObserver } from './observer.ts';
import type { RamBank } from './ram.ts';
import type { Scheduler } from './scheduler.ts';

/** Barriers a driver may issue. On a strongly ordered machine they only mark time points. */
export type BarrierKind = 'mb' | 'wmb' | 'rmb' | 'dma_wmb' | 'dma_rmb';

/** What an implementation can show to observers; a rule that needs more says "not observable here". */
export interface Observability {
  /** Every access of every device, byte by byte. */
  readonly deviceAccess: boolean;
  /** CPU cache operations. */
  readonly cacheOps: boolean;
  readonly interrupts: boolean;
  readonly registerAccess: boolean;
}

/** What kind of machine it is; fixed for its life. */
export interface MachineTraits {
  /** Devices snoop the CPU's caches; no cache maintenance is needed. */
  readonly coherent: boolean;
  /** CPU cache line, in bytes. */
  readonly cacheLineBytes: number;
  /** Stores to coherent memory may reach devices out of order until a barrier. */
  readonly weaklyOrdered: boolean;
  readonly observable: Observability;
}

/** A scheduled call; pass it to `cancel`. */
export interface TimerHandle {
  readonly dueNs: number;
}

/** A message-signalled interrupt: the device writes `data` to `address`, and `line` is delivered. */
export interface MsiVector {
  readonly line: number;
  readonly address: PhysAddr;
  readonly data: number;
}

/** Interrupt lines are numbered from 0 up to this, exclusive: wired ones and those by message. @linux NR_IRQS */
export const IRQ_LINES = 2048;
/** The line number under which the CPU's own interrupt is delivered; see `Machine.raiseLocalIrq`. */
export const LOCAL_IRQ = -1;

/** A machine. Addresses are physical, times nanoseconds, values unsigned. */
export interface Machine {
  readonly name: string;
  readonly traits: MachineTraits;
  /** Ascending by base, disjoint. */
  readonly ram: readonly RamBank[];
  /** The bank that holds `phys`, or null where there is no RAM. */
  bankAt(phys: number): RamBank | null;

  // Registers. Each access is a time point: time passes by its cost, and due interrupts are delivered. A read of an
  // address that nothing decodes gives all ones. Writes are posted: they reach the device a little later, in order, and
  // at the latest before a read of any register returns.
  read8(addr: PhysAddr): number;
  read16(addr: PhysAddr): number;
  read32(addr: PhysAddr): number;
  write8(addr: PhysAddr, value: number): void;
  write16(addr: PhysAddr, value: number): void;
  write32(addr: PhysAddr, value: number): void;
  /** x86 port I/O, width in bytes; not posted. Machines without ports read all ones. */
  portRead(port: number, width: 1 | 2 | 4): number;
  portWrite(port: number, width: 1 | 2 | 4, value: number): void;
  /** PCI configuration space of bus/device/function (bus << 8 | device << 3 | function); all ones where there is none. */
  pciConfigRead(bdf: number, offset: number, width: 1 | 2 | 4): number;
  pciConfigWrite(bdf: number, offset: number, width: 1 | 2 | 4, value: number): void;

  // Interrupts. The kernel sets one handler, called with the line at a time point while interrupts are enabled. A wired
  // line stays pending while its level is high; it is masked while the handler runs.
  setIrqHandler(handler: (line: number) => void): void;
  enableIrqLine(line: number): void;
  disableIrqLine(line: number): void;
  /** The CPU's interrupt flag. Enabling is a time point. Returns what it was. */
  setInterruptsEnabled(enabled: boolean): boolean;
  /**
   * Make the CPU's own interrupt, `LOCAL_IRQ`, pending, as a timer tick or a self-sent interrupt would: delivered to the
   * handler like any line, at the next time point at which interrupts are enabled, also when every task waits. Needs no
   * enabling; several calls before the delivery count once. May be called in hardware time.
   */
  raiseLocalIrq(): void;
  allocateMsi(): MsiVector;
  freeMsi(vector: MsiVector): void;

  // Time.
  now(): number;
  /**
   * Call `callback` after `delayNs`, at a time point, outside any driver context (hardware time: it may raise
   * interrupts, never run driver code directly). Equal times run first in, first out.
   */
  after(delayNs: number, callback: () => void): TimerHandle;
  /** Once more, `delayNs` from now, with a timer of `after` that has run or was cancelled: it makes no garbage. */
  again(timer: TimerHandle, delayNs: number): void;
  cancel(timer: TimerHandle): void;
  /** Busy-wait: `cpuRelax` lets a little time pass, `delay` at least `delayNs`. Time points. */
  cpuRelax(): void;
  delay(delayNs: number): void;
  /** A time point that costs nothing: deliver what is due. */
  timePoint(): void;

  // Cache maintenance by physical range, rounded out to whole lines; no effect on a coherent machine.
  /** Write dirty lines back to memory. */
  cacheClean(phys: PhysAddr, sizeBytes: number): void;
  /** Drop lines (dirty data is lost) and refill from memory. */
  cacheInvalidate(phys: PhysAddr, sizeBytes: number): void;
  /** Clean, then invalidate. */
  cacheFlush(phys: PhysAddr, sizeBytes: number): void;
  barrier(kind: BarrierKind): void;
  /**
   * Declare memory as uncached to the CPU (a coherent allocation), or as ordinary again. From then on its `Mem` is a
   * view of `memory`, and on a weakly ordered machine its stores are pending until a barrier.
   */
  setUncached(phys: PhysAddr, sizeBytes: number, uncached: boolean): void;

  /** Tasks and waiting. */
  readonly scheduler: Scheduler;
  /** Who is told what happens; null costs nothing. */
  observer: MachineObserver | null;
}
