/** Cookies: the order of submission as a number, from which completion is told by comparing. */
import { KernelBug } from '../base/errno.ts';
import type { DmaAsyncTxDescriptor } from './descriptor.ts';
import type { DmaChan } from './dma-chan.ts';
import { DMA_COMPLETE, DMA_IN_PROGRESS, type DmaStatus } from './types.ts';

/** A transaction's number on its channel: 1 to 2^31 - 1, then 1 again; negative is an error. @linux dma_cookie_t */
export type Cookie = number;

/** The first cookie, and the first one after the wrap. @linux DMA_MIN_COOKIE */
export const DMA_MIN_COOKIE = 1;

/** Whether a cookie from submit is an error number instead. @linux dma_submit_error */
export function dmaSubmitError(cookie: Cookie): boolean {
  return cookie < 0;
}

/** For providers: no transaction yet. @linux dma_cookie_init */
export function dmaCookieInit(chan: DmaChan): void {
  chan.cookie = DMA_MIN_COOKIE;
  chan.completedCookie = DMA_MIN_COOKIE;
  chan.stoppedCookie = DMA_MIN_COOKIE;
  chan.issuedCookie = DMA_MIN_COOKIE;
}

/** For providers, in submit under the channel's lock: the next cookie, given to the descriptor. @linux dma_cookie_assign */
export function dmaCookieAssign(tx: DmaAsyncTxDescriptor): Cookie {
  const { chan } = tx;
  let cookie = (chan.cookie + 1) | 0;
  if (cookie < DMA_MIN_COOKIE) cookie = DMA_MIN_COOKIE;
  tx.cookie = chan.cookie = cookie;
  return cookie;
}

/**
 * For providers, under the channel's lock: this transaction is done, and with it all before it. The descriptor's cookie
 * becomes 0, and completing it twice is a KernelBug.
 * @linux dma_cookie_complete
 */
export function dmaCookieComplete(tx: DmaAsyncTxDescriptor): void {
  const { cookie, chan } = tx;
  if (cookie < DMA_MIN_COOKIE) {
    throw new KernelBug(`dma_cookie_complete: a descriptor of ${chan.name} was completed twice, or never submitted`);
  }
  chan.completedCookie = cookie;
  tx.cookie = 0;
  chan.device.observer?.complete?.(chan, tx, cookie);
}

/** The state of a channel when a cookie's status was asked. @linux struct dma_tx_state */
export class DmaTxState {
  /** The last completed cookie. */
  last: Cookie = 0;
  /** The last submitted cookie. */
  used: Cookie = 0;
  /** Bytes that the asked transaction has still to transfer. */
  residue = 0;
  /** Bytes read from the source and not yet written to the destination. */
  inFlightBytes = 0;
}

/**
 * For providers: what comparing cookies says, DMA_COMPLETE or DMA_IN_PROGRESS. Fills `state` with a residue of 0; the
 * provider then sets the real one with `dmaSetResidue`.
 * @linux dma_cookie_status
 */
export function dmaCookieStatus(chan: DmaChan, cookie: Cookie, state: DmaTxState | null): DmaStatus {
  const used = chan.cookie;
  const complete = chan.completedCookie;
  if (state !== null) {
    state.last = complete;
    state.used = used;
    state.residue = 0;
    state.inFlightBytes = 0;
  }
  return dmaAsyncIsComplete(cookie, complete, used);
}

/** Whether a cookie is done, from the last completed and the last submitted one, across the wrap. @linux dma_async_is_complete */
export function dmaAsyncIsComplete(cookie: Cookie, lastComplete: Cookie, lastUsed: Cookie): DmaStatus {
  if (lastComplete <= lastUsed) {
    if (cookie <= lastComplete || cookie > lastUsed) return DMA_COMPLETE;
  } else if (cookie <= lastComplete && cookie > lastUsed) {
    return DMA_COMPLETE;
  }
  return DMA_IN_PROGRESS;
}

/** For providers: how many bytes the asked transaction has still to transfer. @linux dma_set_residue */
export function dmaSetResidue(state: DmaTxState | null, residue: number): void {
  if (state !== null) state.residue = residue;
}
/** For providers: how many bytes are between source and destination. @linux dma_set_in_flight_bytes */
export function dmaSetInFlightBytes(state: DmaTxState | null, inFlightBytes: number): void {
  if (state !== null) state.inFlightBytes = inFlightBytes;
}

/** How many cookies were given after `from` up to `to`, across the wrap. */
export function cookiesBetween(from: Cookie, to: Cookie): number {
  return to >= from ? to - from : 0x7fff_ffff - from + to;
}
