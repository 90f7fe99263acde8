/** The mapping layer's part of booting. */
import type { OfNode } from '../kernel/index.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { dmaAtomicPoolInit } from './atomic-pool.ts';
import { dmaContiguousReserve } from './contiguous.ts';
import { ofDmaSetRestrictedBuffer, ofReservedMemInit } from './reserved-memory.ts';
import { swiotlbInit } from './swiotlb-init.ts';

/**
 * Set memory aside as the boot arguments (`cma=`, `swiotlb=`, `coherent_pool=`) and the device tree's /reserved-memory
 * say. Called by boards right after they
 * have made the kernel, while memory is whole; a kernel for which nobody calls it has none of these.
 */
export function dmaInit(kernel: Kernel, tree: OfNode | null = null): void {
  if (tree !== null) {
    ofReservedMemInit(kernel, tree);
    kernel.addHooks.push(ofDmaSetRestrictedBuffer);
  }
  dmaContiguousReserve(kernel);
  swiotlbInit(kernel);
  dmaAtomicPoolInit(kernel);
}
