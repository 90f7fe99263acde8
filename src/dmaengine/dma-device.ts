import type { DmaAddr } from '../base/addr.ts';
import type { Errno } from '../base/errno.ts';
import { List } from '../base/list.ts';
import type { Device } from '../kernel/device.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Scatterlist } from '../mapping/scatterlist.ts';
import type { DmaCapMask } from './cap-mask.ts';
import type { Cookie, DmaTxState } from './cookie.ts';
import type { DmaAsyncTxDescriptor } from './descriptor.ts';
import type { DmaChan } from './dma-chan.ts';
import type { DmaengineObserver } from './observer.ts';
import type { DmaInterleavedTemplate, DmaSlaveCaps, DmaSlaveConfig, DmaVec } from './slave-config.ts';
import type { DmaSlaveMap } from './slave-map.ts';
import type { DmaResidueGranularity, DmaStatus, DmaTransferDirection } from './types.ts';

/** Decides whether a client may have a channel; `param` is the client's or the slave map's. @linux dma_filter_fn */
export type DmaFilterFn = (chan: DmaChan, param: unknown) => boolean;

/** How clients without a device tree find their channel on this device. @linux struct dma_filter */
export interface DmaFilter {
  readonly fn: DmaFilterFn;
  readonly map: readonly DmaSlaveMap[];
}

/** What prep functions give: a descriptor to submit, or null when the provider cannot (no memory, bad arguments). */
export type Prepared = DmaAsyncTxDescriptor | null;

/**
 * A controller as the core sees it. A provider subclasses it and overrides the operations that its hardware has (or sets
 * them on an instance); those it leaves out do not exist, and the core says so. Prep functions, submit and issue may be
 * called in any context and may not sleep; `deviceSynchronize` and `deviceFreeChanResources` may sleep.
 * @linux struct dma_device
 */
export class DmaDevice {
  readonly kernel: Kernel;
  readonly dev: Device;
  /** The N of `dmaN`; -1 before registration. */
  devId = -1;
  /** Registered channels. */
  chancnt = 0;
  /** Clients that took a channel of this device exclusively. */
  privatecnt = 0;
  readonly channels = new List<DmaChan>('channels');
  /** What the device can do; set before registration. */
  capMask: DmaCapMask = 0;
  filter: DmaFilter | null = null;
  descMetadataModes = 0;
  /** Most sources of an xor. */
  maxXor = 0;
  /** Most sources of a P+Q operation. */
  maxPq = 0;
  /** Alignment of copies as a power of two: 0 is one byte, 2 is four. */
  copyAlign = 0;
  xorAlign = 0;
  pqAlign = 0;
  fillAlign = 0;
  /** Bit n for a register width of n bytes; see `dmaBuswidths`. */
  srcAddrWidths = 0;
  dstAddrWidths = 0;
  /** Bit n for the direction with number n. */
  directions = 0;
  minBurst = 0;
  maxBurst = 0;
  /** Entries of a scatterlist in one burst of the hardware; 0 is no limit. */
  maxSgBurst = 0;
  descriptorReuse = false;
  residueGranularity: DmaResidueGranularity = 0;
  /** @internal Holds on the device: one of its own while registered, and one for each channel in use. */
  refs = 0;
  /** @internal Channel numbers in use. */
  readonly chanIds: boolean[] = [];

  constructor(dev: Device) {
    this.kernel = dev.kernel;
    this.dev = dev;
  }

  /** `dma0`, once registered. */
  get name(): string {
    return `dma${this.devId}`;
  }
  /** @internal Who is told what happens on its channels, or null. */
  get observer(): DmaengineObserver | null {
    return this.kernel.dmaengineObserver as DmaengineObserver | null;
  }

  /** First client: allocate what the channel needs. Negative: an errno. */
  deviceAllocChanResources?(chan: DmaChan): number;
  /** Behind a router, once the route is known. */
  deviceRouterConfig?(chan: DmaChan): Errno;
  /** Last client is gone; everything was synchronized. May sleep. */
  deviceFreeChanResources?(chan: DmaChan): void | Promise<void>;

  /** Copy `len` bytes, of any alignment that `copyAlign` allows and of any length: the provider splits. */
  devicePrepDmaMemcpy?(chan: DmaChan, dst: DmaAddr, src: DmaAddr, len: number, flags: number): Prepared;
  devicePrepDmaXor?(chan: DmaChan, dst: DmaAddr, src: readonly DmaAddr[], len: number, flags: number): Prepared;
  /** Sets bit 0 of `result[0]` when the xor of the sources is not zero. */
  devicePrepDmaXorVal?(
    chan: DmaChan,
    src: readonly DmaAddr[],
    len: number,
    result: Uint32Array,
    flags: number,
  ): Prepared;
  /** `dst` is P and Q. */
  devicePrepDmaPq?(
    chan: DmaChan,
    dst: readonly DmaAddr[],
    src: readonly DmaAddr[],
    scf: Uint8Array,
    len: number,
    flags: number,
  ): Prepared;
  /** Sets bits 0 (P) and 1 (Q) of `pqres[0]` where they are not right. */
  devicePrepDmaPqVal?(
    chan: DmaChan,
    pq: readonly DmaAddr[],
    src: readonly DmaAddr[],
    scf: Uint8Array,
    len: number,
    pqres: Uint32Array,
    flags: number,
  ): Prepared;
  devicePrepDmaMemset?(chan: DmaChan, dst: DmaAddr, value: number, len: number, flags: number): Prepared;
  devicePrepDmaMemsetSg?(chan: DmaChan, sg: Scatterlist, nents: number, value: number, flags: number): Prepared;
  /** An operation that only calls back. */
  devicePrepDmaInterrupt?(chan: DmaChan, flags: number): Prepared;
  devicePrepPeripheralDmaVec?(
    chan: DmaChan,
    vecs: readonly DmaVec[],
    direction: DmaTransferDirection,
    flags: number,
  ): Prepared;
  /** `sgl` is mapped; `sgLen` is what dmaMapSg returned. */
  devicePrepSlaveSg?(
    chan: DmaChan,
    sgl: Scatterlist,
    sgLen: number,
    direction: DmaTransferDirection,
    flags: number,
    context: unknown,
  ): Prepared;
  devicePrepDmaCyclic?(
    chan: DmaChan,
    bufAddr: DmaAddr,
    bufLen: number,
    periodLen: number,
    direction: DmaTransferDirection,
    flags: number,
  ): Prepared;
  devicePrepInterleavedDma?(chan: DmaChan, template: DmaInterleavedTemplate, flags: number): Prepared;
  devicePrepDmaImmData?(chan: DmaChan, dst: DmaAddr, data: number, flags: number): Prepared;

  /** Channels may differ: correct what `dmaGetSlaveCaps` filled in from the device. */
  deviceCaps?(chan: DmaChan, caps: DmaSlaveCaps): void;
  deviceConfig?(chan: DmaChan, config: DmaSlaveConfig): Errno;
  devicePause?(chan: DmaChan): Errno;
  deviceResume?(chan: DmaChan): Errno;
  /** Stop the hardware and drop every descriptor; no callback of them may start afterwards. Must not sleep. */
  deviceTerminateAll?(chan: DmaChan): Errno;
  /** Wait until no callback runs, and free terminated descriptors. */
  deviceSynchronize?(chan: DmaChan): void | Promise<void>;
  /** Required. */
  deviceTxStatus?(chan: DmaChan, cookie: Cookie, state: DmaTxState | null): DmaStatus;
  /** Required: start what was submitted. */
  deviceIssuePending?(chan: DmaChan): void;
  /** The last hold is gone: the provider may free the device. */
  deviceRelease?(): void;
  /** A line in the debugfs summary for this device, instead of the core's. */
  dbgSummaryShow?(): string;
}
