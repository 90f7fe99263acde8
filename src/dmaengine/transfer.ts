/**
 * The safe layer: one call for one transfer. When it returns or throws, the controller touches the buffers no more, an
 * error cannot be overlooked, and the report of a run that hangs says what the channel waits for.
 */
import type { DmaAddr } from '../base/addr.ts';
import { EINVAL, EIO, type Errno, ETIMEDOUT, errnoName } from '../base/errno.ts';
import { Completion, complete, waitForCompletion, waitForCompletionTimeout } from '../kernel/completion.ts';
import type { Scatterlist } from '../mapping/scatterlist.ts';
import type { Cookie } from './cookie.ts';
import type { DmaAsyncTxDescriptor } from './descriptor.ts';
import type { DmaChan } from './dma-chan.ts';
import { describeOutstanding } from './outstanding.ts';
import {
  dmaenginePrepDmaMemcpy,
  dmaenginePrepDmaMemset,
  dmaenginePrepSlaveSg,
  dmaenginePrepSlaveSingle,
} from './prep.ts';
import { dmaengineTerminateSync } from './terminate.ts';
import { dmaAsyncIssuePending, dmaengineSubmit, dmaengineTxStatus } from './tx-status.ts';
import {
  DMA_COMPLETE,
  DMA_CTRL_ACK,
  DMA_DEV_TO_MEM,
  DMA_MEM_TO_DEV,
  DMA_PREP_INTERRUPT,
  DMA_TRANS_ABORTED,
  DMA_TRANS_NOERROR,
  type DmaengineResult,
  type DmaengineTxResult,
  dmaengineTxResultName,
  dmaStatusName,
} from './types.ts';

/** What to transfer, between addresses that are mapped for the channel's device already. */
export type TransferRequest = (
  | { readonly kind: 'copy'; readonly dst: DmaAddr; readonly src: DmaAddr; readonly len: number }
  | { readonly kind: 'fill'; readonly dst: DmaAddr; readonly value: number; readonly len: number }
  /** To the configured peripheral. */
  | { readonly kind: 'toDevice'; readonly buf: DmaAddr; readonly len: number }
  /** From the configured peripheral. */
  | { readonly kind: 'fromDevice'; readonly buf: DmaAddr; readonly len: number }
  | { readonly kind: 'sgToDevice'; readonly sgl: Scatterlist; readonly sgLen: number }
  | { readonly kind: 'sgFromDevice'; readonly sgl: Scatterlist; readonly sgLen: number }
) & {
  /** Give up, and terminate the channel, after so many nanoseconds; absent: wait for ever. */
  readonly timeoutNs?: number;
};

/** A transfer that failed. The channel is quiet: nothing touches the buffers any more. */
export class TransferError extends Error {
  override name = 'TransferError';
  /** -EINVAL the provider refused it, -ETIMEDOUT, -EIO it failed, or what submit returned. */
  readonly errno: Errno;
  readonly result: DmaengineTxResult;
  /** Bytes not transferred, where the provider says so. */
  readonly residue: number;
  constructor(message: string, errno: Errno, result: DmaengineTxResult, residue: number) {
    super(message);
    this.errno = errno;
    this.result = result;
    this.residue = residue;
  }
}

const FLAGS = DMA_PREP_INTERRUPT | DMA_CTRL_ACK;

function prepare(chan: DmaChan, request: TransferRequest): DmaAsyncTxDescriptor | null {
  switch (request.kind) {
    case 'copy':
      return dmaenginePrepDmaMemcpy(chan, request.dst, request.src, request.len, FLAGS);
    case 'fill':
      return dmaenginePrepDmaMemset(chan, request.dst, request.value, request.len, FLAGS);
    case 'toDevice':
      return dmaenginePrepSlaveSingle(chan, request.buf, request.len, DMA_MEM_TO_DEV, FLAGS);
    case 'fromDevice':
      return dmaenginePrepSlaveSingle(chan, request.buf, request.len, DMA_DEV_TO_MEM, FLAGS);
    case 'sgToDevice':
      return dmaenginePrepSlaveSg(chan, request.sgl, request.sgLen, DMA_MEM_TO_DEV, FLAGS);
    case 'sgFromDevice':
      return dmaenginePrepSlaveSg(chan, request.sgl, request.sgLen, DMA_DEV_TO_MEM, FLAGS);
  }
}

/** What one `transfer` waits for. */
class Pending {
  readonly done: Completion;
  result: DmaengineTxResult = DMA_TRANS_NOERROR;
  residue = 0;
  constructor(chan: DmaChan) {
    this.done = new Completion(chan.device.kernel, `transfer on ${chan.name}`);
    this.done.waitsFor = () => describeOutstanding(chan);
  }
}
function finished(param: unknown, outcome: DmaengineResult): void {
  const pending = param as Pending;
  pending.result = outcome.result;
  pending.residue = outcome.residue;
  complete(pending.done);
}

/**
 * Prepare, submit, issue, and wait until done. Throws `TransferError` when the provider refuses or the transfer fails or
 * times out; after a timeout the channel was terminated. Sleeps.
 */
export async function transfer(chan: DmaChan, request: TransferRequest): Promise<void> {
  const what = `${request.kind} on ${chan.name || 'a released channel'}`;
  const tx = prepare(chan, request);
  if (tx === null)
    throw new TransferError(`${what}: the provider cannot do this transfer`, EINVAL, DMA_TRANS_ABORTED, 0);
  const pending = new Pending(chan);
  tx.callbackResult = finished;
  tx.callbackParam = pending;
  const cookie = dmaengineSubmit(tx);
  if (cookie < 0) {
    throw new TransferError(`${what}: submit failed with ${errnoName(cookie)}`, cookie as Errno, DMA_TRANS_ABORTED, 0);
  }
  dmaAsyncIssuePending(chan);
  if (request.timeoutNs === undefined) {
    await waitForCompletion(pending.done);
  } else if ((await waitForCompletionTimeout(pending.done, request.timeoutNs)) === 0) {
    await dmaengineTerminateSync(chan);
    throw new TransferError(`${what}: not done after ${request.timeoutNs} ns`, ETIMEDOUT, DMA_TRANS_ABORTED, 0);
  }
  checkOutcome(chan, what, cookie, pending);
}

function checkOutcome(chan: DmaChan, what: string, cookie: Cookie, pending: Pending): void {
  const { result, residue } = pending;
  if (result !== DMA_TRANS_NOERROR) {
    const left = residue > 0 ? `, ${residue} bytes not transferred` : '';
    throw new TransferError(`${what}: ${dmaengineTxResultName(result)}${left}`, EIO, result, residue);
  }
  const status = dmaengineTxStatus(chan, cookie);
  // Providers that know no results tell an error by the status alone.
  if (status !== DMA_COMPLETE)
    throw new TransferError(`${what}: ${dmaStatusName(status)} after its callback`, EIO, DMA_TRANS_ABORTED, 0);
}
