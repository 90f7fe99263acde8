/** Rigs whose device bounces. */

import { defaultIoTlbMem } from './bounce.ts';
import { type DirectRigOptions, directRig } from './direct-rig.cases.ts';
import { dmaInit } from './init.ts';
import type { MappingRig } from './ops.cases.ts';
import { Swiotlb } from './swiotlb.ts';

const MIB = 2 ** 20;

/** A direct rig on a kernel that was booted with `cmdline`; 8 MiB unless told otherwise. */
export function swiotlbRig(cmdline: string, options: DirectRigOptions = {}): MappingRig {
  const ram = options.ram ?? [{ base: 0, sizeBytes: 8 * MIB }];
  const rig = directRig({ ...options, ram, kernel: { ...options.kernel, cmdline } });
  dmaInit(rig.kernel);
  return rig;
}
/** The kernel's pool. Throws when it has none. */
export function poolOf(rig: MappingRig): Swiotlb {
  const { backend } = defaultIoTlbMem(rig.kernel);
  if (backend instanceof Swiotlb) return backend;
  throw new Error('the kernel has no bounce buffers');
}
