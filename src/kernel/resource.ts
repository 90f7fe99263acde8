/** Who uses which registers. */
import { hexAddr, type PhysAddr, rangesOverlap } from '../base/addr.ts';
import { EBUSY, type Errno, OK } from '../base/errno.ts';
import { type Device, devErr } from './device.ts';
import { devmAddAction } from './devres.ts';
import { type IoMem, ioremap, iounmap } from './io.ts';
import type { Kernel } from './kernel.ts';

/** A range of registers or ports, or an interrupt line (in `start`). @linux struct resource */
export interface Resource {
  readonly kind: 'mem' | 'io' | 'irq';
  readonly start: number;
  readonly sizeBytes: number;
  readonly name: string;
}

interface Region {
  readonly start: number;
  readonly sizeBytes: number;
  readonly owner: string;
}
const key = {};
const makeRegions = (): Region[] => [];

/** Claim a range of registers. EBUSY when part of it is claimed. @linux request_mem_region */
export function requestMemRegion(kernel: Kernel, start: number, sizeBytes: number, owner: string): Errno {
  const regions = kernel.subsystem(key, makeRegions);
  if (regions.some((region) => rangesOverlap(region.start, region.sizeBytes, start, sizeBytes))) return EBUSY;
  regions.push({ start, sizeBytes, owner });
  return OK;
}
/** Give it back. @linux release_mem_region */
export function releaseMemRegion(kernel: Kernel, start: number, sizeBytes: number): void {
  const regions = kernel.subsystem(key, makeRegions);
  const at = regions.findIndex((region) => region.start === start && region.sizeBytes === sizeBytes);
  if (at >= 0) regions.splice(at, 1);
}
/** Claim and map a range of registers until the device is unbound. EBUSY when part of it is claimed. @linux devm_ioremap_resource */
export function devmIoremapResource(dev: Device, resource: Resource): IoMem | Errno {
  const { start, sizeBytes } = resource;
  const { kernel } = dev;
  if (requestMemRegion(kernel, start, sizeBytes, dev.name) !== OK) {
    const last = hexAddr(start + sizeBytes - 1);
    devErr(dev, `can't request region for resource [mem ${hexAddr(start)}-${last}]`);
    return EBUSY;
  }
  const io = ioremap(kernel, start as PhysAddr, sizeBytes);
  devmAddAction(dev, () => {
    iounmap(io);
    releaseMemRegion(kernel, start, sizeBytes);
  });
  return io;
}
