/** The general pool: public channels, handed out by capability without being taken. */
import { KernelBug } from '../base/errno.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { mutexLock, mutexUnlock } from '../kernel/mutex.ts';
import {
  DMA_INTERRUPT,
  DMA_PRIVATE,
  DMA_SLAVE,
  DMA_TX_TYPE_END,
  type DmaTransactionType,
  dmaCapMask,
  dmaCapsSatisfy,
  dmaHasCap,
} from './cap-mask.ts';
import { dmaChanGet, dmaChanPut } from './chan-ref.ts';
import { type DmaengineCore, dmaengineCore } from './core.ts';
import type { DmaChan } from './dma-chan.ts';
import { dmaAsyncIssuePending } from './tx-status.ts';

/** Properties of a channel that are no operation: nobody asks the table for them. */
const NO_OPERATION = dmaCapMask(DMA_INTERRUPT, DMA_PRIVATE, DMA_SLAVE);

/** The channel with the capability that has the fewest places in the table. */
function leastUsed(core: DmaengineCore, type: DmaTransactionType): DmaChan | null {
  let least: DmaChan | null = null;
  for (const device of core.devices) {
    if (!dmaHasCap(type, device.capMask) || dmaHasCap(DMA_PRIVATE, device.capMask)) continue;
    for (const chan of device.channels) {
      if (chan.clientCount === 0) continue;
      if (least === null || chan.tableCount < least.tableCount) least = chan;
    }
  }
  if (least !== null) least.tableCount++;
  return least;
}

/** @internal Distribute the public channels over the table anew. @linux dma_channel_rebalance */
export function dmaChannelRebalance(core: DmaengineCore): void {
  core.table.fill(null);
  for (const device of core.devices) {
    if (dmaHasCap(DMA_PRIVATE, device.capMask)) continue;
    for (const chan of device.channels) chan.tableCount = 0;
  }
  if (core.refCount === 0) return;
  for (let type = 0; type < DMA_TX_TYPE_END; type++) {
    if (dmaCapsSatisfy(NO_OPERATION, dmaCapMask(type as DmaTransactionType))) continue;
    core.table[type] = leastUsed(core, type as DmaTransactionType);
  }
}

/**
 * A public channel for operations of the type, shared with all others that ask; null when there is none. Only between
 * `dmaengineGet` and `dmaenginePut`. Any context.
 * @linux dma_find_channel
 */
export function dmaFindChannel(kernel: Kernel, type: DmaTransactionType): DmaChan | null {
  return dmaengineCore(kernel).table[type] ?? null;
}

/** Become a client of the general pool: all public channels are held until `dmaenginePut`. Sleeps. @linux dmaengine_get */
export async function dmaengineGet(kernel: Kernel): Promise<void> {
  const core = dmaengineCore(kernel);
  await mutexLock(core.listMutex);
  core.refCount++;
  for (const device of core.devices) {
    if (dmaHasCap(DMA_PRIVATE, device.capMask)) continue;
    for (const chan of device.channels) dmaChanGet(chan);
  }
  if (core.refCount === 1) dmaChannelRebalance(core);
  mutexUnlock(core.listMutex);
}

/** Leave the general pool. More often than `dmaengineGet` is a KernelBug. Sleeps. @linux dmaengine_put */
export async function dmaenginePut(kernel: Kernel): Promise<void> {
  const core = dmaengineCore(kernel);
  await mutexLock(core.listMutex);
  if (core.refCount === 0) {
    mutexUnlock(core.listMutex);
    throw new KernelBug('dmaengine_put without dmaengine_get');
  }
  core.refCount--;
  for (const device of [...core.devices]) {
    if (dmaHasCap(DMA_PRIVATE, device.capMask)) continue;
    for (const chan of device.channels) await dmaChanPut(chan);
  }
  if (core.refCount === 0) dmaChannelRebalance(core);
  mutexUnlock(core.listMutex);
}

/** Start what was submitted on every public channel. Any context. @linux dma_issue_pending_all */
export function dmaIssuePendingAll(kernel: Kernel): void {
  for (const device of dmaengineCore(kernel).devices) {
    if (dmaHasCap(DMA_PRIVATE, device.capMask)) continue;
    for (const chan of device.channels) if (chan.clientCount > 0) dmaAsyncIssuePending(chan);
  }
}
