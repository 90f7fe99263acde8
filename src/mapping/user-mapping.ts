import { PAGE_SIZE, type PhysAddr } from '../base/addr.ts';
import { EINVAL, ENXIO, type Errno, OK } from '../base/errno.ts';
import type { Mem } from '../kernel/index.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { memAt } from '../kernel/page-alloc.ts';

/**
 * A window of user space that is to show DMA memory: which part is wanted, and, once it is mapped, the pointer to it.
 * Stands for the kernel's vm_area_struct, of which nothing else matters here. @linux struct vm_area_struct
 */
export class UserMapping {
  /** First page wanted, counted from the start of the allocation. @linux vm_pgoff */
  readonly pgoff: number;
  readonly sizeBytes: number;
  /** What user space sees; null until mapped. */
  mem: Mem | null = null;

  constructor(sizeBytes: number, pgoff = 0) {
    this.sizeBytes = sizeBytes;
    this.pgoff = pgoff;
  }
}

/** @internal Show [phys + pgoff pages, …) of an allocation of `size` bytes; ENXIO when it is shorter than that. */
export function mapUser(kernel: Kernel, user: UserMapping, phys: PhysAddr, size: number, uncached: boolean): Errno {
  const count = Math.ceil(size / PAGE_SIZE);
  const wanted = Math.ceil(user.sizeBytes / PAGE_SIZE);
  if (user.pgoff >= count || wanted > count - user.pgoff) return ENXIO;
  const start = phys + user.pgoff * PAGE_SIZE;
  const { frames } = kernel.pages;
  const index = frames.indexOf(start / PAGE_SIZE);
  if (index < 0) return EINVAL;
  user.mem = uncached ? frames.uncachedMem(index, user.sizeBytes) : memAt(kernel, start, user.sizeBytes);
  return OK;
}
