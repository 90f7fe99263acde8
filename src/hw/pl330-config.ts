/** How a PL330 is built and wired: what its integrator chose, and what its surroundings are. */
import type { PhysAddr } from '../base/index.ts';
import type { BusMasterOptions, Signal } from '../machine/index.ts';

/** How long things take. */
export interface Pl330Timing {
  readonly instructionNs: number;
  /** One beat of a burst, on the read as on the write channel: 5 ns for 8 bytes copy 800 MB/s. */
  readonly beatNs: number;
  /** Filling a line of the instruction cache. */
  readonly fetchNs: number;
  /** From DMAGO to the channel's first instruction. */
  readonly goNs: number;
  /** From DBGCMD to the end of its instruction. */
  readonly debugNs: number;
  /** Length of the states Killing, Completing and Faulting completing. */
  readonly completeNs: number;
  /** From an event or a request to the waiting thread's next instruction. */
  readonly wakeNs: number;
  /** A DMALD that waits this long for the MFIFO while nobody can free it is a lock-up: 1024 cycles. */
  readonly watchdogNs: number;
  /**
   * What a thread does in one turn at most: bytes read plus bytes written when it is the only one that runs, and when it
   * shares the bus with others; and instructions.
   */
  readonly sliceBytes: number;
  readonly sharedSliceBytes: number;
  readonly sliceInstructions: number;
}

export const DEFAULT_TIMING: Pl330Timing = {
  instructionNs: 5,
  beatNs: 5,
  fetchNs: 60,
  goNs: 150,
  debugNs: 40,
  completeNs: 30,
  wakeNs: 40,
  watchdogNs: 5120,
  sliceBytes: 8192,
  sharedSliceBytes: 2048,
  sliceInstructions: 256,
};

/**
 * A peripheral's request lines (TRM 2.5). A line is high while the peripheral wants a transfer of that kind; DMAWFP looks
 * at it, or waits for it. A controller whose peripheral has one line uses `burst`: it serves DMAWFP single as well.
 */
export interface PeripheralRequest {
  readonly burst?: Signal;
  readonly single?: Signal;
  /** High while what is requested is the last transfer: ends endless loops (DMALPFE). */
  readonly last?: Signal;
  /** Told after each DMALDP and DMASTP that was done, and of DMAFLUSHP. */
  acknowledge?(kind: 'single' | 'burst' | 'flush'): void;
}

/** How the controller is wired on its board. */
export interface Pl330Options {
  /** Physical address of the registers. */
  readonly base: PhysAddr;
  /** Its way to memory; `name` names the controller. It has 32 address lines. */
  readonly master: BusMasterOptions;
  /** Interrupt line of each event, from event 0 on; several may share one, those without one reach nobody. */
  readonly irqLines: readonly number[];
  readonly abortIrqLine: number;
  /** By peripheral number; a plain signal is a burst request. Missing ones never request. */
  readonly requests?: readonly (Signal | PeripheralRequest | null)[];
  readonly timing?: Partial<Pl330Timing>;
  /** 1 to 8. Default 8. */
  readonly channels?: number;
  /** 0 to 32. Default 4. */
  readonly peripherals?: number;
  /** 1 to 32. Default 16. */
  readonly events?: number;
  /** Default 64. */
  readonly dataWidthBits?: 32 | 64 | 128;
  /** Lines of the MFIFO, each as wide as the bus. Default 128. */
  readonly mfifoLines?: number;
  readonly cacheLineBytes?: 4 | 8 | 16 | 32;
  /** 1 to 16. Default 8. */
  readonly cacheLines?: number;
  /** The manager runs from here after reset (boot_from_pc); absent: it waits for DBGCMD. */
  readonly bootAddress?: number;
  /** The manager is non-secure (boot_manager_ns); bits of events and peripherals that are. Default: all is secure. */
  readonly managerNonSecure?: boolean;
  readonly eventsNonSecure?: number;
  readonly peripheralsNonSecure?: number;
}
