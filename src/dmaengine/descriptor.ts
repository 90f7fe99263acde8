import type { DmaAddr } from '../base/addr.ts';
import { EINVAL, EOPNOTSUPP, EPERM, type Errno, OK } from '../base/errno.ts';
import { ListNode } from '../base/list.ts';
import type { Mem } from '../kernel/index.ts';
import type { Cookie } from './cookie.ts';
import type { DmaChan } from './dma-chan.ts';
import { DMA_CTRL_ACK, DMA_CTRL_REUSE, type DmaCtrlFlags, type DmaengineResult } from './types.ts';
import type { DmaengineUnmapData } from './unmap-data.ts';

/** Called when a descriptor is done. Tasklet context: it may prepare, submit and issue, and may not sleep. @linux dma_async_tx_callback */
export type DmaAsyncTxCallback = (param: unknown) => void;
/**
 * The same, told how the transfer ended. The result object is the provider's: copy what is to be kept.
 * @linux dma_async_tx_callback_result
 */
export type DmaAsyncTxCallbackResult = (param: unknown, result: DmaengineResult) => void;

/** Who keeps a descriptor's metadata; bits. @linux enum dma_desc_metadata_mode */
export type DmaDescMetadataMode = number;
/** @linux DESC_METADATA_NONE */
export const DESC_METADATA_NONE = 0;
/** The client owns the buffer and attaches it. @linux DESC_METADATA_CLIENT */
export const DESC_METADATA_CLIENT = 1 << 0;
/** The provider owns the buffer and lends a pointer. @linux DESC_METADATA_ENGINE */
export const DESC_METADATA_ENGINE = 1 << 1;

/** What a provider that handles metadata offers. @linux struct dma_descriptor_metadata_ops */
export interface DmaDescriptorMetadataOps {
  attach?(tx: DmaAsyncTxDescriptor, data: Mem, len: number): Errno;
  getPtr?(tx: DmaAsyncTxDescriptor): DmaMetadata | Errno;
  setLen?(tx: DmaAsyncTxDescriptor, payloadLen: number): Errno;
}
/** A provider's metadata buffer: the bytes in use, and how many there may be. */
export interface DmaMetadata {
  readonly mem: Mem;
  readonly payloadLen: number;
  readonly maxLen: number;
}

/** Submit function of a descriptor: assigns a cookie and queues it. */
export type DmaTxSubmit = (tx: DmaAsyncTxDescriptor) => Cookie;

/**
 * One prepared operation. A provider subclasses it (or `VirtDmaDesc`) with what its hardware needs; a client sets the
 * callback, submits it, and does not touch it afterwards. It is a list element, which providers use for their queues.
 * @linux struct dma_async_tx_descriptor
 */
export class DmaAsyncTxDescriptor extends ListNode {
  /** Given at submission; -EBUSY while a dependency holds it back, 0 once completed. */
  cookie: Cookie = 0;
  flags: DmaCtrlFlags = 0;
  /** Bus address of the provider's hardware descriptor, where it has one. */
  phys: DmaAddr = 0 as DmaAddr;
  /** @internal Set by `dmaAsyncTxDescriptorInit`. */
  chan!: DmaChan;
  txSubmit: DmaTxSubmit | null = null;
  /** Give the descriptor back: for descriptors with DMA_CTRL_REUSE, which otherwise live on. */
  descFree: ((tx: DmaAsyncTxDescriptor) => Errno) | null = null;
  callback: DmaAsyncTxCallback | null = null;
  /** Takes precedence over `callback`. */
  callbackResult: DmaAsyncTxCallbackResult | null = null;
  callbackParam: unknown = null;
  unmap: DmaengineUnmapData | null = null;
  descMetadataMode: DmaDescMetadataMode = DESC_METADATA_NONE;
  metadataOps: DmaDescriptorMetadataOps | null = null;
  /** @internal Length of a copy, for the channel's counters; 0 otherwise. */
  copyBytes = 0;
  /** The operation that is submitted when this one is done (async_tx). */
  next: DmaAsyncTxDescriptor | null = null;
  /** The operation that this one waits for (async_tx). */
  parent: DmaAsyncTxDescriptor | null = null;
}

/**
 * For providers, in every prep function: make the descriptor the channel's, without callback, metadata or dependency
 * (a pooled descriptor still has those of its last use).
 * @linux dma_async_tx_descriptor_init
 */
export function dmaAsyncTxDescriptorInit(tx: DmaAsyncTxDescriptor, chan: DmaChan): void {
  tx.chan = chan;
  tx.cookie = 0;
  tx.flags = 0;
  tx.callback = null;
  tx.callbackResult = null;
  tx.callbackParam = null;
  tx.unmap = null;
  tx.descMetadataMode = DESC_METADATA_NONE;
  tx.metadataOps = null;
  tx.copyBytes = 0;
  tx.next = null;
  tx.parent = null;
}

/** Acknowledge: the client is done with the descriptor. @linux async_tx_ack */
export function asyncTxAck(tx: DmaAsyncTxDescriptor): void {
  tx.flags |= DMA_CTRL_ACK;
}
/** Take the acknowledgement back. @linux async_tx_clear_ack */
export function asyncTxClearAck(tx: DmaAsyncTxDescriptor): void {
  tx.flags &= ~DMA_CTRL_ACK;
}
/** Whether the client is done with the descriptor. @linux async_tx_test_ack */
export function asyncTxTestAck(tx: DmaAsyncTxDescriptor): boolean {
  return (tx.flags & DMA_CTRL_ACK) !== 0;
}

/** Ask that the descriptor outlive its completion, to be submitted again. -EPERM when the provider cannot. @linux dmaengine_desc_set_reuse */
export function dmaengineDescSetReuse(tx: DmaAsyncTxDescriptor): Errno {
  if (!tx.chan.device.descriptorReuse) return EPERM;
  tx.flags |= DMA_CTRL_REUSE;
  return OK;
}
/** Let the descriptor end with its next completion. @linux dmaengine_desc_clear_reuse */
export function dmaengineDescClearReuse(tx: DmaAsyncTxDescriptor): void {
  tx.flags &= ~DMA_CTRL_REUSE;
}
/** Whether the descriptor outlives its completion. @linux dmaengine_desc_test_reuse */
export function dmaengineDescTestReuse(tx: DmaAsyncTxDescriptor): boolean {
  return (tx.flags & DMA_CTRL_REUSE) !== 0;
}
/** Give a reusable descriptor back. -EPERM when it is not reusable: the provider frees those itself. @linux dmaengine_desc_free */
export function dmaengineDescFree(tx: DmaAsyncTxDescriptor): Errno {
  if (!dmaengineDescTestReuse(tx) || tx.descFree === null) return EPERM;
  return tx.descFree(tx);
}

function checkMetadataMode(tx: DmaAsyncTxDescriptor, mode: DmaDescMetadataMode): Errno {
  // The descriptor's first use of metadata decides the mode; the two are not to be mixed.
  if (tx.metadataOps === null) return EOPNOTSUPP;
  if (tx.descMetadataMode === DESC_METADATA_NONE) tx.descMetadataMode = mode;
  return tx.descMetadataMode === mode ? OK : EINVAL;
}
/**
 * Attach the client's metadata, `len` bytes of `data`. -ENOTSUPP (here -EOPNOTSUPP) when the provider knows none,
 * -EINVAL when the descriptor is used in the other mode.
 * @linux dmaengine_desc_attach_metadata
 */
export function dmaengineDescAttachMetadata(tx: DmaAsyncTxDescriptor, data: Mem, len: number): Errno {
  const error = checkMetadataMode(tx, DESC_METADATA_CLIENT);
  if (error !== OK) return error;
  return tx.metadataOps?.attach?.(tx, data, len) ?? EOPNOTSUPP;
}
/** The provider's metadata buffer. Errors as for `dmaengineDescAttachMetadata`. @linux dmaengine_desc_get_metadata_ptr */
export function dmaengineDescGetMetadataPtr(tx: DmaAsyncTxDescriptor): DmaMetadata | Errno {
  const error = checkMetadataMode(tx, DESC_METADATA_ENGINE);
  if (error !== OK) return error;
  return tx.metadataOps?.getPtr?.(tx) ?? EOPNOTSUPP;
}
/** How many bytes of the provider's buffer the client filled. @linux dmaengine_desc_set_metadata_len */
export function dmaengineDescSetMetadataLen(tx: DmaAsyncTxDescriptor, payloadLen: number): Errno {
  const error = checkMetadataMode(tx, DESC_METADATA_ENGINE);
  if (error !== OK) return error;
  return tx.metadataOps?.setLen?.(tx, payloadLen) ?? EOPNOTSUPP;
}
/** Whether all that can hold metadata is in this mode. @linux dmaengine_is_metadata_mode_supported */
export function dmaengineIsMetadataModeSupported(chan: DmaChan, mode: DmaDescMetadataMode): boolean {
  return (chan.device.descMetadataModes & mode) !== 0;
}

/**
 * For providers, when an operation is done: submit what waits for it, up to the first operation of another channel, and
 * start it.
 * @linux dma_run_dependencies
 */
export function dmaRunDependencies(tx: DmaAsyncTxDescriptor): void {
  let dep = tx.next;
  if (dep === null) return;
  tx.next = null;
  const { chan } = dep;
  while (dep !== null) {
    dep.parent = null;
    let following: DmaAsyncTxDescriptor | null = dep.next;
    if (following !== null && following.chan === chan) dep.next = null;
    else following = null;
    dep.txSubmit!(dep);
    dep = following;
  }
  chan.device.deviceIssuePending!(chan);
}
