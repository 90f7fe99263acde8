import type { DmaAddr, PhysAddr } from '../base/addr.ts';
import { ENOSYS, ENXIO, type Errno, OK } from '../base/errno.ts';
import { DMA_CYCLIC, DMA_SLAVE, dmaHasCap } from './cap-mask.ts';
import type { DmaChan } from './dma-chan.ts';
import type { DmaResidueGranularity, DmaSlaveBuswidth, DmaTransferDirection } from './types.ts';

/**
 * How a channel talks to a peripheral; given to `dmaengineSlaveConfig` before preparing. Addresses of the peripheral's
 * data registers are physical: the provider maps them for its own bus. Absent fields are zero, as in a C initialiser.
 * @linux struct dma_slave_config
 */
export interface DmaSlaveConfig {
  /** Deprecated in favour of the prep call's direction; some providers still look at it. */
  direction?: DmaTransferDirection;
  /** The data register read from (DMA_DEV_TO_MEM). */
  srcAddr?: PhysAddr;
  /** The data register written to (DMA_MEM_TO_DEV). */
  dstAddr?: PhysAddr;
  /** Width of the source register in bytes. */
  srcAddrWidth?: DmaSlaveBuswidth;
  /** Width of the destination register in bytes. */
  dstAddrWidth?: DmaSlaveBuswidth;
  /** How many units of the source's width may go in one burst (half the FIFO's depth is usual). */
  srcMaxburst?: number;
  /** How many units of the destination's width may go in one burst. */
  dstMaxburst?: number;
  /** Length of the register area at the source in units of its width: the address wraps there instead of standing still. */
  srcPortWindowSize?: number;
  /** Length of the register area at the destination in units of its width. */
  dstPortWindowSize?: number;
  /** The peripheral, not the controller, decides where a transfer ends. */
  deviceFc?: boolean;
  /** What only this provider and this peripheral understand. */
  peripheralConfig?: unknown;
  /** Size of `peripheralConfig` in bytes. */
  peripheralSize?: number;
  /** Historical (gone since 5.17): the request line. The device tree or the slave map gives it now. */
  slaveId?: number;
}

/**
 * Set how the channel talks to its peripheral. It holds for descriptors prepared from now on. May be called in any
 * context. Returns what the provider says; -ENOSYS when it takes no configuration.
 * @linux dmaengine_slave_config
 */
export function dmaengineSlaveConfig(chan: DmaChan, config: DmaSlaveConfig): Errno {
  const { device } = chan;
  if (device.deviceConfig === undefined) return ENOSYS;
  device.observer?.config?.(chan, config);
  return device.deviceConfig(chan, config);
}

/** What a channel can do for a peripheral. Widths are bit masks, bit n for a width of n bytes. @linux struct dma_slave_caps */
export interface DmaSlaveCaps {
  srcAddrWidths: number;
  dstAddrWidths: number;
  /** Bit n for the direction with number n. */
  directions: number;
  minBurst: number;
  maxBurst: number;
  /** How many entries of a scatterlist go in one burst of the hardware; 0 is no limit. */
  maxSgBurst: number;
  cmdPause: boolean;
  cmdResume: boolean;
  cmdTerminate: boolean;
  residueGranularity: DmaResidueGranularity;
  descriptorReuse: boolean;
}

/** An empty `DmaSlaveCaps` to be filled. */
export function emptySlaveCaps(): DmaSlaveCaps {
  return {
    srcAddrWidths: 0,
    dstAddrWidths: 0,
    directions: 0,
    minBurst: 0,
    maxBurst: 0,
    maxSgBurst: 0,
    cmdPause: false,
    cmdResume: false,
    cmdTerminate: false,
    residueGranularity: 0,
    descriptorReuse: false,
  };
}

/**
 * Fill `caps` with what the channel offers a peripheral. -ENXIO when the device has no slave channels or declares no
 * direction (an old driver whose abilities are not known).
 * @linux dma_get_slave_caps
 */
export function dmaGetSlaveCaps(chan: DmaChan, caps: DmaSlaveCaps): Errno {
  const { device } = chan;
  if (!dmaHasCap(DMA_SLAVE, device.capMask) && !dmaHasCap(DMA_CYCLIC, device.capMask)) return ENXIO;
  if (device.directions === 0) return ENXIO;
  caps.srcAddrWidths = device.srcAddrWidths;
  caps.dstAddrWidths = device.dstAddrWidths;
  caps.directions = device.directions;
  caps.minBurst = device.minBurst;
  caps.maxBurst = device.maxBurst;
  caps.maxSgBurst = device.maxSgBurst;
  caps.residueGranularity = device.residueGranularity;
  caps.descriptorReuse = device.descriptorReuse;
  caps.cmdPause = device.devicePause !== undefined;
  caps.cmdResume = device.deviceResume !== undefined;
  caps.cmdTerminate = device.deviceTerminateAll !== undefined;
  // Channels of one device may differ: the driver has the last word.
  device.deviceCaps?.(chan, caps);
  return OK;
}

/** One piece of a frame in an interleaved transfer, and the gaps behind it. @linux struct data_chunk */
export interface DataChunk {
  /** Bytes to transfer. */
  size: number;
  /** Gap to the next chunk on both sides, where the sides' own are 0. */
  icg: number;
  /** Gap on the destination's side, 0: use `icg`. */
  dstIcg: number;
  /** Gap on the source's side, 0: use `icg`. */
  srcIcg: number;
}

/** A two-dimensional transfer: `numf` frames, each of the chunks in `sgl`. @linux struct dma_interleaved_template */
export interface DmaInterleavedTemplate {
  srcStart: DmaAddr;
  dstStart: DmaAddr;
  dir: DmaTransferDirection;
  /** Whether the source's address moves on (false: a FIFO). */
  srcInc: boolean;
  dstInc: boolean;
  /** Whether the gaps hold on the source's side; otherwise it is contiguous. */
  srcSgl: boolean;
  dstSgl: boolean;
  /** Number of frames. */
  numf: number;
  /** Chunks in a frame (`sgl.length`). */
  frameSize: number;
  sgl: readonly DataChunk[];
}

function icgOf(inc: boolean, sgl: boolean, icg: number, sideIcg: number): number {
  if (!inc) return 0;
  if (sideIcg !== 0) return sideIcg;
  return sgl ? icg : 0;
}
/** Bytes to skip at the destination behind a chunk. @linux dmaengine_get_dst_icg */
export function dmaengineGetDstIcg(template: DmaInterleavedTemplate, chunk: DataChunk): number {
  return icgOf(template.dstInc, template.dstSgl, chunk.icg, chunk.dstIcg);
}
/** Bytes to skip at the source behind a chunk. @linux dmaengine_get_src_icg */
export function dmaengineGetSrcIcg(template: DmaInterleavedTemplate, chunk: DataChunk): number {
  return icgOf(template.srcInc, template.srcSgl, chunk.icg, chunk.srcIcg);
}

/** A piece of bus address space, for `dmaenginePrepPeripheralDmaVec`. @linux struct dma_vec */
export interface DmaVec {
  addr: DmaAddr;
  /** In bytes. */
  len: number;
}
