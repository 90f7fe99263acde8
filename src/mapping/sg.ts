/** Streaming mappings of scatterlists. */
import { EINVAL, EIO, ENOMEM, EREMOTEIO, type Errno, OK } from '../base/errno.ts';
import type { Device } from '../kernel/device.ts';
import type { DmaDataDirection } from '../kernel/dma-direction.ts';
import { mappingObserver } from './observer.ts';
import { missingOp, opsOf } from './ops.ts';
import { invalidDirection, warnOnceAt } from './report.ts';
import type { Scatterlist } from './scatterlist.ts';
import type { SgTable } from './sg-table.ts';
import { directionIsInvalid, maskIsMissing } from './streaming.ts';

/**
 * Map a list of `nents` entries. Returns how many bus segments the device gets, which may be fewer than `nents` (an IOMMU
 * merges): use the `dmaAddress` and `dmaLength` of that many entries. 0 on any error. Unmap and sync take the original
 * `nents`. Any context; `DMA_NONE` throws `KernelBug`. @linux dma_map_sg
 */
export function dmaMapSg(dev: Device, sgl: Scatterlist, nents: number, dir: DmaDataDirection): number {
  return dmaMapSgAttrs(dev, sgl, nents, dir, 0);
}
/** @linux dma_map_sg_attrs */
export function dmaMapSgAttrs(
  dev: Device,
  sgl: Scatterlist,
  nents: number,
  dir: DmaDataDirection,
  attrs: number,
): number {
  const mapped = mapSg(dev, sgl, nents, dir, attrs);
  return mapped < 0 ? 0 : mapped;
}
function mapSg(dev: Device, sgl: Scatterlist, nents: number, dir: DmaDataDirection, attrs: number): number {
  if (directionIsInvalid(dir)) invalidDirection(dev.kernel, '__dma_map_sg_attrs', dir);
  if (maskIsMissing(dev, '__dma_map_sg_attrs')) return 0;
  const ops = opsOf(dev);
  if (ops.mapSg === undefined) missingOp('map_sg');
  let mapped = ops.mapSg(dev, sgl, nents, dir, attrs);
  const known = mapped === EINVAL || mapped === ENOMEM || mapped === EIO || mapped === EREMOTEIO;
  if (mapped <= 0 && !known) {
    warnOnceAt(dev.kernel, 'kernel/dma/mapping.c __dma_map_sg_attrs', `map_sg returned ${mapped}`);
    mapped = EIO;
  }
  const observer = mappingObserver(dev.kernel);
  if (observer !== null) observer.mapSg?.(dev, sgl, nents, mapped, dir, attrs);
  return mapped;
}
/** Unmap a list. `nents` is what was passed to `dmaMapSg`, not what it returned. @linux dma_unmap_sg */
export function dmaUnmapSg(dev: Device, sgl: Scatterlist, nents: number, dir: DmaDataDirection): void {
  dmaUnmapSgAttrs(dev, sgl, nents, dir, 0);
}
/** @linux dma_unmap_sg_attrs */
export function dmaUnmapSgAttrs(
  dev: Device,
  sgl: Scatterlist,
  nents: number,
  dir: DmaDataDirection,
  attrs: number,
): void {
  if (directionIsInvalid(dir)) invalidDirection(dev.kernel, 'dma_unmap_sg_attrs', dir);
  const observer = mappingObserver(dev.kernel);
  if (observer !== null) observer.unmapSg?.(dev, sgl, nents, dir, attrs);
  opsOf(dev).unmapSg?.(dev, sgl, nents, dir, attrs);
}

/**
 * Map a table; `table.nents` becomes the number of bus segments. Returns 0, EINVAL, ENOMEM, EIO or EREMOTEIO.
 * @linux dma_map_sgtable
 */
export function dmaMapSgtable(dev: Device, table: SgTable, dir: DmaDataDirection, attrs: number): Errno {
  const mapped = mapSg(dev, table.sgl, table.origNents, dir, attrs);
  if (mapped < 0) return mapped as Errno;
  table.nents = mapped;
  return OK;
}
/** @linux dma_unmap_sgtable */
export function dmaUnmapSgtable(dev: Device, table: SgTable, dir: DmaDataDirection, attrs: number): void {
  dmaUnmapSgAttrs(dev, table.sgl, table.origNents, dir, attrs);
}
