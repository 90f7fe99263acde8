/** Submitting, issuing, and asking how far a transaction is. */
import { EINVAL } from '../base/errno.ts';
import { devErr } from '../kernel/device.ts';
import { cpuRelax, ktimeGet } from '../kernel/wait.ts';
import type { Cookie, DmaTxState } from './cookie.ts';
import type { DmaAsyncTxDescriptor } from './descriptor.ts';
import type { DmaChan } from './dma-chan.ts';
import { DMA_COMPLETE, DMA_ERROR, DMA_IN_PROGRESS, type DmaStatus } from './types.ts';

/** How long `dmaSyncWait` polls: 5 seconds. */
const SYNC_WAIT_TIMEOUT_NS = 5_000_000_000;
/** A descriptor that waits for another one has this instead of a cookie (-EBUSY). */
const HELD_BACK = -16;

/**
 * Queue a descriptor; nothing starts before `dmaAsyncIssuePending`. The descriptor is the provider's from now on. Any
 * context. Returns its cookie, or a negative errno: check with `dmaSubmitError`.
 * @linux dmaengine_submit
 */
export function dmaengineSubmit(tx: DmaAsyncTxDescriptor): Cookie {
  const { chan } = tx;
  const bytes = tx.copyBytes;
  const cookie = tx.txSubmit === null ? EINVAL : tx.txSubmit(tx);
  if (cookie > 0 && bytes > 0) {
    tx.copyBytes = 0;
    chan.memcpyCount++;
    chan.bytesTransferred += bytes;
  }
  chan.device.observer?.submit?.(chan, tx, cookie);
  return cookie;
}

/** Start everything submitted on the channel. Any context. @linux dma_async_issue_pending */
export function dmaAsyncIssuePending(chan: DmaChan): void {
  chan.issuedCookie = chan.cookie;
  chan.everIssued = true;
  const { device } = chan;
  device.observer?.issuePending?.(chan);
  device.deviceIssuePending!(chan);
}

/**
 * What became of a transaction. With `state`, also the last completed and last submitted cookie, and the residue: how
 * many bytes of *this* transaction are still to do, as fine as the device's `residueGranularity`. Any context.
 * @linux dmaengine_tx_status
 */
export function dmaengineTxStatus(chan: DmaChan, cookie: Cookie, state: DmaTxState | null = null): DmaStatus {
  return chan.device.deviceTxStatus!(chan, cookie, state);
}

/** The older form of `dmaengineTxStatus`; `state.last` and `state.used` are filled. @linux dma_async_is_tx_complete */
export function dmaAsyncIsTxComplete(chan: DmaChan, cookie: Cookie, state: DmaTxState | null = null): DmaStatus {
  return chan.device.deviceTxStatus!(chan, cookie, state);
}

/**
 * Issue, and poll until the transaction is done, busy-waiting: any context. DMA_ERROR, with a message, after 5 seconds.
 * @linux dma_sync_wait
 */
export function dmaSyncWait(chan: DmaChan, cookie: Cookie): DmaStatus {
  const { kernel, dev } = chan.device;
  const deadline = ktimeGet(kernel) + SYNC_WAIT_TIMEOUT_NS;
  dmaAsyncIssuePending(chan);
  for (;;) {
    const status = dmaAsyncIsTxComplete(chan, cookie);
    if (ktimeGet(kernel) >= deadline) {
      devErr(dev, 'dma_sync_wait: timeout!');
      return DMA_ERROR;
    }
    if (status !== DMA_IN_PROGRESS) return status;
    cpuRelax(kernel);
  }
}

/**
 * Wait for a descriptor that may itself wait for another one to be submitted. DMA_COMPLETE for null. Busy-waits.
 * @linux dma_wait_for_async_tx
 */
export function dmaWaitForAsyncTx(tx: DmaAsyncTxDescriptor | null): DmaStatus {
  if (tx === null) return DMA_COMPLETE;
  const { kernel, dev } = tx.chan.device;
  const deadline = ktimeGet(kernel) + SYNC_WAIT_TIMEOUT_NS;
  while (tx.cookie === HELD_BACK) {
    if (ktimeGet(kernel) >= deadline) {
      devErr(dev, 'dma_wait_for_async_tx timeout waiting for descriptor submission');
      return DMA_ERROR;
    }
    cpuRelax(kernel);
  }
  return dmaSyncWait(tx.chan, tx.cookie);
}
