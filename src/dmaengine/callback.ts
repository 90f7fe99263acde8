/** Calling the client back when a descriptor is done. */
import type { DmaAsyncTxCallback, DmaAsyncTxCallbackResult, DmaAsyncTxDescriptor } from './descriptor.ts';
import { DMA_TRANS_NOERROR, type DmaengineResult } from './types.ts';

/** A descriptor's callback, taken out under the lock, to be called without it. @linux struct dmaengine_desc_callback */
export class DmaengineDescCallback {
  callback: DmaAsyncTxCallback | null = null;
  callbackResult: DmaAsyncTxCallbackResult | null = null;
  callbackParam: unknown = null;
  /** @internal For the observer. */
  tx: DmaAsyncTxDescriptor | null = null;
}

/** For providers: take a descriptor's callback out, since the descriptor may be gone when it is called. @linux dmaengine_desc_get_callback */
export function dmaengineDescGetCallback(tx: DmaAsyncTxDescriptor, cb: DmaengineDescCallback): void {
  cb.callback = tx.callback;
  cb.callbackResult = tx.callbackResult;
  cb.callbackParam = tx.callbackParam;
  cb.tx = tx;
}

/** Make a callback empty. */
export function dmaengineDescClearCallback(cb: DmaengineDescCallback): void {
  cb.callback = null;
  cb.callbackResult = null;
  cb.callbackParam = null;
  cb.tx = null;
}

/** Whether there is anybody to call. @linux dmaengine_desc_callback_valid */
export function dmaengineDescCallbackValid(cb: DmaengineDescCallback): boolean {
  return cb.callback !== null || cb.callbackResult !== null;
}

const success: Readonly<DmaengineResult> = Object.freeze({ result: DMA_TRANS_NOERROR, residue: 0 });

/**
 * For providers, in tasklet context and with no lock held: call the client, with the result when it asks for one.
 * @param result null is success
 * @linux dmaengine_desc_callback_invoke
 */
export function dmaengineDescCallbackInvoke(cb: DmaengineDescCallback, result: DmaengineResult | null): void {
  const outcome = result ?? success;
  if (cb.callbackResult !== null) {
    const { tx } = cb;
    tx?.chan.device.observer?.callback?.(tx.chan, tx, outcome.result);
    cb.callbackResult(cb.callbackParam, outcome);
  } else if (cb.callback !== null) {
    const { tx } = cb;
    tx?.chan.device.observer?.callback?.(tx.chan, tx, outcome.result);
    cb.callback(cb.callbackParam);
  }
}

/** For providers: take the callback out and call it at once. @linux dmaengine_desc_get_callback_invoke */
export function dmaengineDescGetCallbackInvoke(tx: DmaAsyncTxDescriptor, result: DmaengineResult | null): void {
  const cb = new DmaengineDescCallback();
  dmaengineDescGetCallback(tx, cb);
  dmaengineDescCallbackInvoke(cb, result);
}
