/**
 * Virtual channels: the bookkeeping that most controller drivers share. A descriptor moves through five lists, named for
 * its state: allocated by prep, submitted by the client, issued for the hardware, completed and awaiting its callback, or
 * terminated and awaiting `vchanSynchronize`.
 */
import { type Errno, KernelBug, OK } from '../base/errno.ts';
import { List } from '../base/list.ts';
import type { Kernel } from '../kernel/kernel.ts';
import {
  assertSpinLocked,
  SpinLock,
  spinLockIrq,
  spinLockIrqsave,
  spinUnlockIrq,
  spinUnlockIrqrestore,
} from '../kernel/locks.ts';
import { Tasklet, taskletKill, taskletSchedule } from '../kernel/tasklet.ts';
import {
  DmaengineDescCallback,
  dmaengineDescCallbackInvoke,
  dmaengineDescClearCallback,
  dmaengineDescGetCallback,
} from './callback.ts';
import { type Cookie, dmaCookieAssign, dmaCookieComplete, dmaCookieInit } from './cookie.ts';
import { DmaAsyncTxDescriptor, dmaAsyncTxDescriptorInit, dmaengineDescTestReuse } from './descriptor.ts';
import { DmaChan } from './dma-chan.ts';
import type { DmaDevice } from './dma-device.ts';
import { DMA_CTRL_REUSE, DMA_TRANS_NOERROR, type DmaengineResult } from './types.ts';

/** A descriptor of a virtual channel; drivers subclass it. It is its own `tx`. @linux struct virt_dma_desc */
export class VirtDmaDesc extends DmaAsyncTxDescriptor {
  /** How it ended; told to `callbackResult`. Drivers set it before `vchanCookieComplete`. */
  readonly txResult: DmaengineResult = { result: DMA_TRANS_NOERROR, residue: 0 };
  /** What the client handles. */
  get tx(): DmaAsyncTxDescriptor {
    return this;
  }
}

/** The virtual descriptor that a client's handle stands for. @linux to_virt_desc */
export function toVirtDesc(tx: DmaAsyncTxDescriptor): VirtDmaDesc {
  return tx as VirtDmaDesc;
}
/** The virtual channel that a client's handle stands for. @linux to_virt_chan */
export function toVirtChan(chan: DmaChan): VirtDmaChan {
  return chan as VirtDmaChan;
}

/** A virtual channel; drivers subclass it and override `descFree`. @linux struct virt_dma_chan */
export class VirtDmaChan extends DmaChan {
  /** Protects the lists and the driver's own state of the channel; the interrupt handler takes it. */
  readonly lock: SpinLock;
  /** @internal Calls the clients back. */
  readonly task: Tasklet;
  /** Prepared, not yet submitted (or reusable and completed). @linux virt_dma_chan.desc_allocated */
  readonly descAllocated = new List<VirtDmaDesc>('desc_allocated');
  /** Submitted, not yet issued. @linux virt_dma_chan.desc_submitted */
  readonly descSubmitted = new List<VirtDmaDesc>('desc_submitted');
  /** For the hardware, in order. @linux virt_dma_chan.desc_issued */
  readonly descIssued = new List<VirtDmaDesc>('desc_issued');
  /** Done, callback to come. @linux virt_dma_chan.desc_completed */
  readonly descCompleted = new List<VirtDmaDesc>('desc_completed');
  /** Dropped, to be freed when nothing can use them any more. @linux virt_dma_chan.desc_terminated */
  readonly descTerminated = new List<VirtDmaDesc>('desc_terminated');
  /** The cyclic descriptor whose period just ended. */
  cyclic: VirtDmaDesc | null = null;
  /** @internal Completed descriptors whose callbacks are being called. */
  readonly completing = new List<VirtDmaDesc>('completing');
  /** @internal Scratch of the tasklet. */
  readonly cb = new DmaengineDescCallback();

  constructor(kernel: Kernel, name = 'vchan') {
    super();
    this.lock = new SpinLock(kernel, `${name}.lock`);
    this.task = new Tasklet(kernel, () => vchanComplete(this), `${name}.task`);
  }

  /** Give a descriptor's memory back. Called without the lock; from `vchanSynchronize`, tasklet or process context. */
  descFree(_vd: VirtDmaDesc): void {
    throw new KernelBug(`desc_free of ${this.name || 'a virtual channel'} is not defined`);
  }
}

/** For drivers: make the channel one of the device's, with nothing queued. @linux vchan_init */
export function vchanInit(vc: VirtDmaChan, device: DmaDevice): void {
  dmaCookieInit(vc);
  vc.device = device;
  device.channels.pushBack(vc);
}

/**
 * For drivers, at the end of a prep function: register the descriptor as allocated and give the client's handle.
 * Takes the lock.
 * @linux vchan_tx_prep
 */
export function vchanTxPrep(vc: VirtDmaChan, vd: VirtDmaDesc, txFlags: number): DmaAsyncTxDescriptor {
  dmaAsyncTxDescriptorInit(vd, vc);
  vd.flags = txFlags;
  vd.txSubmit = vchanTxSubmit;
  vd.descFree = vchanTxDescFree;
  vd.txResult.result = DMA_TRANS_NOERROR;
  vd.txResult.residue = 0;
  const flags = spinLockIrqsave(vc.lock);
  vc.descAllocated.pushBack(vd);
  spinUnlockIrqrestore(vc.lock, flags);
  return vd;
}

/** Submit: the next cookie, and to the end of the submitted descriptors. Set by `vchanTxPrep`. @linux vchan_tx_submit */
export function vchanTxSubmit(tx: DmaAsyncTxDescriptor): Cookie {
  const vc = toVirtChan(tx.chan);
  const vd = toVirtDesc(tx);
  const flags = spinLockIrqsave(vc.lock);
  const cookie = dmaCookieAssign(tx);
  if (vd.list !== (vc.descAllocated as unknown)) {
    spinUnlockIrqrestore(vc.lock, flags);
    throw new KernelBug(
      `vchan_tx_submit: the descriptor of ${vc.name} is on ${vd.list?.name ?? 'no list'}, not prepared`,
    );
  }
  vc.descAllocated.remove(vd);
  vc.descSubmitted.pushBack(vd);
  spinUnlockIrqrestore(vc.lock, flags);
  return cookie;
}

/** Free a reusable descriptor that was not submitted again. Set by `vchanTxPrep`. @linux vchan_tx_desc_free */
export function vchanTxDescFree(tx: DmaAsyncTxDescriptor): Errno {
  const vc = toVirtChan(tx.chan);
  const vd = toVirtDesc(tx);
  const flags = spinLockIrqsave(vc.lock);
  (vd.list as unknown as List<VirtDmaDesc>).remove(vd);
  spinUnlockIrqrestore(vc.lock, flags);
  vc.descFree(vd);
  return OK;
}

/** For drivers, the lock held: submitted descriptors become issued. True when there is something to start. @linux vchan_issue_pending */
export function vchanIssuePending(vc: VirtDmaChan): boolean {
  assertSpinLocked(vc.lock);
  vc.descIssued.spliceBack(vc.descSubmitted);
  return !vc.descIssued.isEmpty;
}

/**
 * For drivers, the lock held, the descriptor on no list: it is done. Its callback follows in the tasklet.
 * @linux vchan_cookie_complete
 */
export function vchanCookieComplete(vd: VirtDmaDesc): void {
  const vc = toVirtChan(vd.chan);
  assertSpinLocked(vc.lock);
  dmaCookieComplete(vd);
  vc.descCompleted.pushBack(vd);
  taskletSchedule(vc.task);
}

/** For drivers: a period of a cyclic descriptor ended; its callback follows in the tasklet. @linux vchan_cyclic_callback */
export function vchanCyclicCallback(vd: VirtDmaDesc): void {
  const vc = toVirtChan(vd.chan);
  vc.cyclic = vd;
  taskletSchedule(vc.task);
}

/**
 * For drivers, in terminate_all, the lock held: the descriptor that the hardware works on is dropped. It is freed by
 * `vchanSynchronize`, when no callback can use it any more.
 * @linux vchan_terminate_vdesc
 */
export function vchanTerminateVdesc(vd: VirtDmaDesc): void {
  const vc = toVirtChan(vd.chan);
  assertSpinLocked(vc.lock);
  vc.descTerminated.pushBack(vd);
  if (vc.cyclic === vd) vc.cyclic = null;
}

/** Free the descriptor, or keep it allocated when the client wants to use it again. Takes the lock. @linux vchan_vdesc_fini */
export function vchanVdescFini(vd: VirtDmaDesc): void {
  const vc = toVirtChan(vd.chan);
  if (!dmaengineDescTestReuse(vd)) {
    vc.descFree(vd);
    return;
  }
  const flags = spinLockIrqsave(vc.lock);
  vc.descAllocated.pushFront(vd);
  spinUnlockIrqrestore(vc.lock, flags);
}

/** For drivers, the lock held: the issued descriptor of a cookie, or null. @linux vchan_find_desc */
export function vchanFindDesc(vc: VirtDmaChan, cookie: Cookie): VirtDmaDesc | null {
  assertSpinLocked(vc.lock);
  for (let vd = vc.descIssued.first; vd !== null; vd = vc.descIssued.next(vd)) {
    if (vd.cookie === cookie) return vd;
  }
  return null;
}

/** For drivers, the lock held: the descriptor to start next (it stays on the list), or null. @linux vchan_next_desc */
export function vchanNextDesc(vc: VirtDmaChan): VirtDmaDesc | null {
  assertSpinLocked(vc.lock);
  return vc.descIssued.first;
}

/** For drivers, the lock held: move every descriptor to `head`, to be freed without the lock. @linux vchan_get_all_descriptors */
export function vchanGetAllDescriptors(vc: VirtDmaChan, head: List<VirtDmaDesc>): void {
  assertSpinLocked(vc.lock);
  head.spliceBack(vc.descAllocated);
  head.spliceBack(vc.descSubmitted);
  head.spliceBack(vc.descIssued);
  head.spliceBack(vc.descCompleted);
  head.spliceBack(vc.descTerminated);
}

/** For drivers, without the lock: free the descriptors (reusable ones become allocated again). @linux vchan_dma_desc_free_list */
export function vchanDmaDescFreeList(vc: VirtDmaChan, head: List<VirtDmaDesc>): void {
  for (let vd = head.shift(); vd !== null; vd = head.shift()) vchanVdescFini(vd);
}

/** For drivers, in free_chan_resources: free every descriptor, reusable ones too. Takes the lock. @linux vchan_free_chan_resources */
export function vchanFreeChanResources(vc: VirtDmaChan): void {
  const head = new List<VirtDmaDesc>('free_chan_resources');
  const flags = spinLockIrqsave(vc.lock);
  vchanGetAllDescriptors(vc, head);
  for (const vd of head) vd.flags &= ~DMA_CTRL_REUSE;
  spinUnlockIrqrestore(vc.lock, flags);
  vchanDmaDescFreeList(vc, head);
}

/** For drivers, as device_synchronize: wait until no callback runs, and free what was terminated. Sleeps. @linux vchan_synchronize */
export async function vchanSynchronize(vc: VirtDmaChan): Promise<void> {
  await taskletKill(vc.task);
  const head = new List<VirtDmaDesc>('terminated');
  const flags = spinLockIrqsave(vc.lock);
  head.spliceBack(vc.descTerminated);
  spinUnlockIrqrestore(vc.lock, flags);
  vchanDmaDescFreeList(vc, head);
}

/** The tasklet: callbacks of the cyclic descriptor and of all completed ones, in order, with no lock held. */
function vchanComplete(vc: VirtDmaChan): void {
  const { cb, completing } = vc;
  spinLockIrq(vc.lock);
  completing.spliceBack(vc.descCompleted);
  const cyclic = vc.cyclic;
  vc.cyclic = null;
  if (cyclic !== null) dmaengineDescGetCallback(cyclic, cb);
  spinUnlockIrq(vc.lock);
  try {
    if (cyclic !== null) dmaengineDescCallbackInvoke(cb, cyclic.txResult);
    for (let vd = completing.shift(); vd !== null; vd = completing.shift()) finish(vd, cb);
  } finally {
    dmaengineDescClearCallback(cb);
    // A callback threw: the descriptors behind it are still to be called back.
    if (!completing.isEmpty) taskletSchedule(vc.task);
  }
}

function finish(vd: VirtDmaDesc, cb: DmaengineDescCallback): void {
  dmaengineDescGetCallback(vd, cb);
  try {
    dmaengineDescCallbackInvoke(cb, vd.txResult);
  } finally {
    vchanVdescFini(vd);
  }
}
