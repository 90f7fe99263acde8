/** What the DMA engine tells its observer, `kernel.dmaengineObserver`. */
import type { Cookie } from './cookie.ts';
import type { DmaAsyncTxDescriptor } from './descriptor.ts';
import type { DmaChan } from './dma-chan.ts';
import type { DmaSlaveConfig } from './slave-config.ts';
import type { DmaengineTxResult } from './types.ts';

/** Which prep function made a descriptor. */
export type DmaPrepKind =
  | 'memcpy'
  | 'memset'
  | 'xor'
  | 'xor_val'
  | 'pq'
  | 'pq_val'
  | 'interrupt'
  | 'slave_sg'
  | 'peripheral_dma_vec'
  | 'cyclic'
  | 'interleaved';

/** Implement any of these; absent ones cost nothing. Called synchronously, in the caller's context. */
export interface DmaengineObserver {
  /** A channel got a client; `client` is its device, or null for a general one. */
  request?(chan: DmaChan, client: string | null): void;
  release?(chan: DmaChan): void;
  config?(chan: DmaChan, config: DmaSlaveConfig): void;
  /**
   * A consumer wrapper prepared `tx` (null: the provider refused), for `len` bytes. `dst` and `src` are where it begins,
   * -1 where that is no memory, or several pieces.
   */
  prep?(chan: DmaChan, kind: DmaPrepKind, tx: DmaAsyncTxDescriptor | null, len: number, dst: number, src: number): void;
  /** `cookie` is negative when it was refused. */
  submit?(chan: DmaChan, tx: DmaAsyncTxDescriptor, cookie: Cookie): void;
  issuePending?(chan: DmaChan): void;
  /** The provider completed a descriptor, in interrupt context as a rule. */
  complete?(chan: DmaChan, tx: DmaAsyncTxDescriptor, cookie: Cookie): void;
  /** A client's callback is about to run. */
  callback?(chan: DmaChan, tx: DmaAsyncTxDescriptor, result: DmaengineTxResult): void;
  pause?(chan: DmaChan): void;
  resume?(chan: DmaChan): void;
  /** All descriptors of the channel were dropped. */
  terminate?(chan: DmaChan): void;
  /** The channel is quiet: no callback runs any more. */
  synchronize?(chan: DmaChan): void;
}
