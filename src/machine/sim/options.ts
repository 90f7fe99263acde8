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
  /** Giving the CPU back to a task that yielded; a task that really waited has it at once. */
  readonly yieldNs: number;
}
/** What `SimMachineOptions.timings` may change. */
export const defaultTimings: SimTimings = {
  readNs: 100,
  writeNs: 10,
  postedMinNs: 20,
  postedMaxNs: 250,
  portNs: 500,
  relaxNs: 20,
  barrierNs: 5,
  interruptNs: 50,
  yieldNs: 100,
};

/** What a simulated machine is made of. */
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
