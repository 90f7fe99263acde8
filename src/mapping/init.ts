/** The mapping layer's part of booting. */
import type { Kernel } from '../kernel/kernel.ts';
import { dmaAtomicPoolInit } from './atomic-pool.ts';
import { dmaContiguousReserve } from './contiguous.ts';
import { swiotlbInit } from './swiotlb-init.ts';

/**
 * Set memory aside as the boot arguments say: `cma=`, `swiotlb=`, `coherent_pool=`. Called by boards right after they
 * have made the kernel, while memory is whole; a kernel for which nobody calls it has none of these.
 */
export function dmaInit(kernel: Kernel): void {
  dmaContiguousReserve(kernel);
  swiotlbInit(kernel);
  dmaAtomicPoolInit(kernel);
}
