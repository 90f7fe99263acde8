/** Handing a mapped buffer to and fro between CPU and device. */
import { addrAdd, type DmaAddr } from '../base/addr.ts';
import type { Device } from '../kernel/device.ts';
import type { DmaDataDirection } from '../kernel/dma-direction.ts';
import { mappingObserver } from './observer.ts';
import { opsOf } from './ops.ts';
import { invalidDirection } from './report.ts';
import type { Scatterlist } from './scatterlist.ts';
import type { SgTable } from './sg-table.ts';
import { directionIsInvalid } from './streaming.ts';

/** The CPU may look at what the device wrote, and write; until the buffer is synced back. Any context. @linux dma_sync_single_for_cpu */
export function dmaSyncSingleForCpu(dev: Device, addr: DmaAddr, size: number, dir: DmaDataDirection): void {
  if (directionIsInvalid(dir)) invalidDirection(dev.kernel, 'dma_sync_single_for_cpu', dir);
  const observer = mappingObserver(dev.kernel);
  if (observer !== null) observer.sync?.(dev, addr, size, dir, true);
  opsOf(dev).syncSingleForCpu?.(dev, addr, size, dir);
}
/** The device owns the buffer again. Any context. @linux dma_sync_single_for_device */
export function dmaSyncSingleForDevice(dev: Device, addr: DmaAddr, size: number, dir: DmaDataDirection): void {
  if (directionIsInvalid(dir)) invalidDirection(dev.kernel, 'dma_sync_single_for_device', dir);
  const observer = mappingObserver(dev.kernel);
  if (observer !== null) observer.sync?.(dev, addr, size, dir, false);
  opsOf(dev).syncSingleForDevice?.(dev, addr, size, dir);
}
/** `dmaSyncSingleForCpu` for `size` bytes from `offset` on. @linux dma_sync_single_range_for_cpu */
export function dmaSyncSingleRangeForCpu(
  dev: Device,
  addr: DmaAddr,
  offset: number,
  size: number,
  dir: DmaDataDirection,
): void {
  dmaSyncSingleForCpu(dev, addrAdd(addr, offset), size, dir);
}
/** `dmaSyncSingleForDevice` for `size` bytes from `offset` on. @linux dma_sync_single_range_for_device */
export function dmaSyncSingleRangeForDevice(
  dev: Device,
  addr: DmaAddr,
  offset: number,
  size: number,
  dir: DmaDataDirection,
): void {
  dmaSyncSingleForDevice(dev, addrAdd(addr, offset), size, dir);
}
/** `nents` is what was passed to `dmaMapSg`. @linux dma_sync_sg_for_cpu */
export function dmaSyncSgForCpu(dev: Device, sgl: Scatterlist, nents: number, dir: DmaDataDirection): void {
  if (directionIsInvalid(dir)) invalidDirection(dev.kernel, 'dma_sync_sg_for_cpu', dir);
  const observer = mappingObserver(dev.kernel);
  if (observer !== null) observer.syncSg?.(dev, sgl, nents, dir, true);
  opsOf(dev).syncSgForCpu?.(dev, sgl, nents, dir);
}
/** `nents` is what was passed to `dmaMapSg`. @linux dma_sync_sg_for_device */
export function dmaSyncSgForDevice(dev: Device, sgl: Scatterlist, nents: number, dir: DmaDataDirection): void {
  if (directionIsInvalid(dir)) invalidDirection(dev.kernel, 'dma_sync_sg_for_device', dir);
  const observer = mappingObserver(dev.kernel);
  if (observer !== null) observer.syncSg?.(dev, sgl, nents, dir, false);
  opsOf(dev).syncSgForDevice?.(dev, sgl, nents, dir);
}
/** @linux dma_sync_sgtable_for_cpu */
export function dmaSyncSgtableForCpu(dev: Device, table: SgTable, dir: DmaDataDirection): void {
  dmaSyncSgForCpu(dev, table.sgl, table.origNents, dir);
}
/** @linux dma_sync_sgtable_for_device */
export function dmaSyncSgtableForDevice(dev: Device, table: SgTable, dir: DmaDataDirection): void {
  dmaSyncSgForDevice(dev, table.sgl, table.origNents, dir);
}

/** Whether the sync calls do anything for a mapped address; a driver that asks may leave them out. @linux dma_need_sync */
export function dmaNeedSync(dev: Device, addr: DmaAddr): boolean {
  const ops = opsOf(dev);
  if (ops.needSync !== undefined) return ops.needSync(dev, addr);
  return (
    ops.syncSingleForCpu !== undefined ||
    ops.syncSingleForDevice !== undefined ||
    ops.syncSgForCpu !== undefined ||
    ops.syncSgForDevice !== undefined
  );
}
