/** Mappings that belong to a descriptor and are undone when the last holder lets go of them. */
import { DMA_MAPPING_ERROR, type DmaAddr } from '../base/addr.ts';
import { KernelBug } from '../base/errno.ts';
import type { Device } from '../kernel/device.ts';
import { DMA_BIDIRECTIONAL, DMA_FROM_DEVICE, DMA_TO_DEVICE } from '../kernel/dma-direction.ts';
import type { Gfp } from '../kernel/gfp.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { dmaUnmapPage } from '../mapping/streaming.ts';
import type { DmaAsyncTxDescriptor } from './descriptor.ts';

/**
 * Addresses mapped for one operation: `addr` holds first the `toCnt` sources, then `fromCnt` destinations, then `bidiCnt`
 * buffers that are both; each is `len` bytes long.
 * @linux struct dmaengine_unmap_data
 */
export class DmaengineUnmapData {
  dev: Device | null = null;
  /** How many addresses fit. */
  mapCnt = 0;
  toCnt = 0;
  fromCnt = 0;
  bidiCnt = 0;
  len = 0;
  readonly addr: Float64Array;
  /** @internal */
  refs = 0;
  /** @internal */
  nextFree: DmaengineUnmapData | null = null;
  /** @internal */
  readonly pool: UnmapPool;

  /** @internal Use `dmaengineGetUnmapData`. */
  constructor(pool: UnmapPool) {
    this.pool = pool;
    this.addr = new Float64Array(pool.entries);
  }
}

/** The kernel's size classes. */
const SIZES = [2, 16, 128, 256] as const;

class UnmapPool {
  readonly entries: number;
  free: DmaengineUnmapData | null = null;
  constructor(entries: number) {
    this.entries = entries;
  }
}

const key = {};
const makePools = (): UnmapPool[] => SIZES.map((size) => new UnmapPool(size));
let lastKernel: Kernel | null = null;
let lastPools: UnmapPool[] = [];
/** Remembers whose it gave last: this is called for every transfer, and there is one kernel as a rule. */
function poolsOf(kernel: Kernel): UnmapPool[] {
  if (kernel !== lastKernel) {
    lastKernel = kernel;
    lastPools = kernel.subsystem(key, makePools);
  }
  return lastPools;
}

/**
 * Unmap data with room for `nr` addresses, at most 256 (more is a KernelBug), held once. Null is never returned here, as
 * memory for it is the library's; callers check all the same, as kernel code must. Any context.
 * @linux dmaengine_get_unmap_data
 */
export function dmaengineGetUnmapData(dev: Device, nr: number, _flags: Gfp): DmaengineUnmapData | null {
  const pools = poolsOf(dev.kernel);
  let index = 0;
  while (nr > SIZES[index]!) {
    if (++index === SIZES.length)
      throw new KernelBug(`dmaengine_get_unmap_data: ${nr} addresses, at most 256 are possible`);
  }
  const pool = pools[index]!;
  let unmap = pool.free;
  if (unmap === null) unmap = new DmaengineUnmapData(pool);
  else pool.free = unmap.nextFree;
  unmap.nextFree = null;
  unmap.dev = dev;
  unmap.mapCnt = nr;
  unmap.toCnt = unmap.fromCnt = unmap.bidiCnt = 0;
  unmap.len = 0;
  unmap.refs = 1;
  return unmap;
}

/** Let go of the data; the last holder unmaps every address. Any context. @linux dmaengine_unmap_put */
export function dmaengineUnmapPut(unmap: DmaengineUnmapData): void {
  if (unmap.refs <= 0) throw new KernelBug('dmaengine_unmap_put: the unmap data were given back already');
  if (--unmap.refs > 0) return;
  const dev = unmap.dev!;
  const { addr, len } = unmap;
  let i = 0;
  const to = unmap.toCnt;
  const from = to + unmap.fromCnt;
  const bidi = from + unmap.bidiCnt;
  for (; i < to; i++) dmaUnmapPage(dev, addr[i] as DmaAddr, len, DMA_TO_DEVICE);
  for (; i < from; i++) dmaUnmapPage(dev, addr[i] as DmaAddr, len, DMA_FROM_DEVICE);
  for (; i < bidi; i++) {
    // An address of 0 marks a destination that was left out (a disabled P or Q).
    if (addr[i] !== 0 && addr[i] !== DMA_MAPPING_ERROR) dmaUnmapPage(dev, addr[i] as DmaAddr, len, DMA_BIDIRECTIONAL);
  }
  unmap.dev = null;
  unmap.nextFree = unmap.pool.free;
  unmap.pool.free = unmap;
}

/** Make the descriptor a further holder of the data, until it is completed. @linux dma_set_unmap */
export function dmaSetUnmap(tx: DmaAsyncTxDescriptor, unmap: DmaengineUnmapData): void {
  unmap.refs++;
  tx.unmap = unmap;
}
/** For providers, when a descriptor is done: let go of its unmap data, if any. @linux dma_descriptor_unmap */
export function dmaDescriptorUnmap(tx: DmaAsyncTxDescriptor): void {
  const { unmap } = tx;
  if (unmap === null) return;
  tx.unmap = null;
  dmaengineUnmapPut(unmap);
}
