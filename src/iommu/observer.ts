/** What IOMMUs tell their observer; null costs nothing. */
import type { Device } from '../kernel/device.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { IommuDomain } from './domain.ts';

/** Implement any of these; absent ones cost nothing. Sizes are in bytes. */
export interface IommuObserver {
  map?(domain: IommuDomain, iova: number, phys: number, size: number, prot: number): void;
  unmap?(domain: IommuDomain, iova: number, size: number, unmappedBytes: number): void;
  /** A device was attached to a domain. */
  attach?(domain: IommuDomain, dev: Device): void;
  /** The hardware reported a refused access. `dev` is null when no device has the requester's id. */
  fault?(dev: Device | null, requester: string, iova: number, isWrite: boolean, reason: string): void;
  /** A lazy domain invalidated everything that was queued. */
  flushQueue?(domain: IommuDomain, entries: number): void;
}

/** The observer of a kernel, or null. */
export function iommuObserver(kernel: Kernel): IommuObserver | null {
  return kernel.iommuObserver as IommuObserver | null;
}
/** Set or, with null, remove the observer. */
export function setIommuObserver(kernel: Kernel, observer: IommuObserver | null): void {
  kernel.iommuObserver = observer;
}
