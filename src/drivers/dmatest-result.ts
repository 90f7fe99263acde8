/** What dmatest's threads report. */

/** One thread's outcome, as data and as the module's own lines. @linux dmatest.result, dmatest.summary */
export interface DmatestThreadResult {
  /** `dma0chan0` */
  readonly channel: string;
  /** `copy`, `set`, `xor` or `pq`. */
  readonly test: string;
  /** The thread: `dma0chan0-copy0`. */
  readonly name: string;
  readonly iterations: number;
  readonly failures: number;
  /** Transfers in a second of simulated time, filling and comparing excluded. */
  readonly iops: number;
  readonly kBps: number;
  /** The thread's return value: 0 or a negative errno. */
  readonly ret: number;
  /** Its lines in the log, the first 1000. */
  readonly lines: readonly string[];
}

/** What all threads of a run report. */
export interface DmatestResult {
  /** 0, or why the run could not begin. */
  readonly error: number;
  readonly threads: readonly DmatestThreadResult[];
  /** Sums over all threads. */
  readonly tests: number;
  readonly failures: number;
}

/** Fixed point with eight fractional bits, as the module counts operations per second. */
const FIXED_SHIFT = 8n;
const UINT_MAX = 0xffff_ffffn;

/** Rate per second of `count` events in `runtimeUs` microseconds, in 256ths. */
export function dmatestPersec(runtimeUs: number, count: number): bigint {
  if (runtimeUs <= 0) return 0n;
  let runtime = BigInt(Math.floor(runtimeUs));
  let perSecond = 1_000_000n;
  // The module divides by 32 bits.
  while (runtime > UINT_MAX) {
    runtime >>= 1n;
    perSecond <<= 1n;
  }
  return ((perSecond * BigInt(count)) << FIXED_SHIFT) / runtime;
}

/** `5601.26`: a rate as the module prints it, cut to two digits. */
export function fixedPointText(rate: bigint): string {
  const fraction = ((rate & 0xffn) * 100n) >> FIXED_SHIFT;
  return `${rate >> FIXED_SHIFT}.${fraction.toString().padStart(2, '0')}`;
}

/** Kilobytes per second. */
export function dmatestKBs(runtimeUs: number, lengthBytes: number): number {
  return Number(dmatestPersec(runtimeUs, Math.floor(lengthBytes / 1024)) >> FIXED_SHIFT);
}
