/** What a machine tells its observer. All times are in nanoseconds since start; addresses are plain numbers. */
import type { BarrierKind } from './contract.ts';

/** What became of a device's bus access. */
export const BusStatus = {
  OK: 0,
  /** Nothing decodes the address. */
  DECODE_ERROR: 1,
  /** An IOMMU refused it. */
  TRANSLATION_FAULT: 2,
  /** An injected bus error. */
  SLAVE_ERROR: 3,
} as const;
/** One of `BusStatus`'s numbers; 0 is success. */
export type BusStatus = (typeof BusStatus)[keyof typeof BusStatus];

export type CacheOp = 'clean' | 'invalidate' | 'flush' | 'evict' | 'prefetch';

/** Implement any of these; absent ones cost nothing. */
export interface MachineObserver {
  /** A device read or wrote `sizeBytes` bytes at bus address `addr` (after the bus: `phys`, or -1 when refused). */
  deviceAccess?(
    timeNs: number,
    master: string,
    isWrite: boolean,
    addr: number,
    phys: number,
    sizeBytes: number,
    status: BusStatus,
  ): void;
  registerAccess?(timeNs: number, isWrite: boolean, addr: number, width: number, value: number): void;
  interrupt?(timeNs: number, line: number): void;
  cacheOp?(timeNs: number, op: CacheOp, phys: number, sizeBytes: number): void;
  barrier?(timeNs: number, kind: BarrierKind): void;
}
