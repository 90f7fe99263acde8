import { PAGE_SIZE } from '../base/addr.ts';
import { getOrder } from '../base/bits.ts';

/** What get_order(0) is on a 64-bit machine: more than any allocator gives. */
const ORDER_OF_NOTHING = 52;

/** The order of the block that holds `sizeBytes` bytes; for 0 bytes what the kernel computes, which cannot be had. */
export function pageOrder(sizeBytes: number): number {
  return sizeBytes === 0 ? ORDER_OF_NOTHING : getOrder(sizeBytes);
}
/** How many whole pages hold `sizeBytes` bytes. */
export function pageCount(sizeBytes: number): number {
  return Math.ceil(sizeBytes / PAGE_SIZE);
}
