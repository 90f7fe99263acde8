/** Device-managed coherent memory: given back when the driver is unbound. */
import type { DmaAddr } from '../base/addr.ts';
import type { Device } from '../kernel/device.ts';
import { devmAddAction, devmRemoveAction } from '../kernel/devres.ts';
import { __GFP_NOWARN, type Gfp } from '../kernel/gfp.ts';
import type { Mem } from '../kernel/index.ts';
import { warnOn } from '../kernel/panic.ts';
import { DMA_ATTR_NO_WARN } from './attrs.ts';
import { dmaAllocAttrs, dmaFreeAttrs } from './coherent.ts';
import type { DmaCoherent } from './ops.ts';

/** Actions that free managed memory, to find them again. */
const releases = new WeakMap<Mem, () => void>();

/** `dmaAllocCoherent`, freed with the driver. May sleep with GFP_KERNEL. @linux dmam_alloc_coherent */
export function dmamAllocCoherent(dev: Device, size: number, gfp: Gfp): DmaCoherent | null {
  return dmamAllocAttrs(dev, size, gfp, (gfp & __GFP_NOWARN) !== 0 ? DMA_ATTR_NO_WARN : 0);
}
/** @linux dmam_alloc_attrs */
export function dmamAllocAttrs(dev: Device, size: number, gfp: Gfp, attrs: number): DmaCoherent | null {
  const memory = dmaAllocAttrs(dev, size, gfp, attrs);
  if (memory === null) return null;
  const release = (): void => dmaFreeAttrs(dev, size, memory.mem, memory.handle, attrs);
  releases.set(memory.mem, release);
  devmAddAction(dev, release);
  return memory;
}
/** Free managed memory early; memory that is not managed is reported, and freed all the same. @linux dmam_free_coherent */
export function dmamFreeCoherent(dev: Device, size: number, mem: Mem, handle: DmaAddr): void {
  const release = releases.get(mem);
  const known = release !== undefined && devmRemoveAction(dev, release);
  dmaFreeAttrs(dev, size, mem, handle, 0);
  warnOn(dev.kernel, !known, `at kernel/dma/mapping.c dmam_free_coherent: ${dev.name} does not manage this memory`);
}
