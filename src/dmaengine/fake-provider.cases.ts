/**
 * A controller that exists in software only, for tests of the core and of clients: virtual channels, and a timer that
 * moves a few bytes at a time between RAM and FIFOs. What can go wrong on hardware can be made to.
 */
import type { DmaAddr } from '../base/addr.ts';
import { EINVAL, type Errno, OK } from '../base/errno.ts';
import { List } from '../base/list.ts';
import type { Device } from '../kernel/device.ts';
import { spinLockIrqsave, spinUnlockIrqrestore } from '../kernel/locks.ts';
import { delTimer, KernelTimer, modTimer } from '../kernel/timer.ts';
import { forEachSg, type Scatterlist } from '../mapping/scatterlist.ts';
import { DMA_CYCLIC, DMA_MEMCPY, DMA_MEMSET, DMA_SLAVE, type DmaCapMask, dmaCapMask } from './cap-mask.ts';
import { type Cookie, type DmaTxState, dmaCookieStatus, dmaSetResidue } from './cookie.ts';
import { DmaDevice, type Prepared } from './dma-device.ts';
import type { DmaSlaveConfig } from './slave-config.ts';
import {
  DMA_COMPLETE,
  DMA_DEV_TO_MEM,
  DMA_ERROR,
  DMA_IN_PROGRESS,
  DMA_MEM_TO_DEV,
  DMA_MEM_TO_MEM,
  DMA_PAUSED,
  DMA_PREP_INTERRUPT,
  DMA_RESIDUE_GRANULARITY_BURST,
  DMA_TRANS_ABORTED,
  DMA_TRANS_READ_FAILED,
  DMA_TRANS_WRITE_FAILED,
  type DmaengineTxResult,
  type DmaStatus,
  type DmaTransferDirection,
  dmaBuswidths,
} from './types.ts';
import {
  VirtDmaChan,
  VirtDmaDesc,
  vchanCookieComplete,
  vchanCyclicCallback,
  vchanDmaDescFreeList,
  vchanFindDesc,
  vchanFreeChanResources,
  vchanGetAllDescriptors,
  vchanInit,
  vchanIssuePending,
  vchanNextDesc,
  vchanSynchronize,
  vchanTerminateVdesc,
  vchanTxPrep,
} from './virt-dma.ts';

/** A peripheral's data register: what was written to it, and what will be read from it. */
export interface FakeFifo {
  readonly address: number;
  readonly received: number[];
  readonly toSend: number[];
}

export interface FakeOptions {
  readonly channels?: number;
  readonly capMask?: DmaCapMask;
  readonly copyAlign?: number;
  /** Bytes moved at a time, default 4096. */
  readonly burstBytes?: number;
  readonly nsPerByte?: number;
  readonly setupNs?: number;
  /** Longest hardware transfer: longer ones are split. */
  readonly maxTransfer?: number;
  readonly fifos?: readonly FakeFifo[];
}

interface Segment {
  readonly src: number;
  readonly dst: number;
  readonly len: number;
}

class FakeDesc extends VirtDmaDesc {
  segments: Segment[] = [];
  /** Of a cyclic transfer; 0 otherwise. */
  periodLen = 0;
  fill = -1;
  total = 0;
  /** Where it is. */
  segment = 0;
  offset = 0;
  moved = 0;
}

export class FakeChan extends VirtDmaChan {
  active: FakeDesc | null = null;
  paused = false;
  config: DmaSlaveConfig = {};
  /** Cookies that failed. */
  readonly failed: Cookie[] = [];
  readonly pool: FakeDesc[] = [];
  /** How many descriptors were given back. */
  freed = 0;
  /** Whether its resources are allocated. */
  allocated = false;
  readonly timer: KernelTimer;
  readonly fake: FakeDmaDevice;

  constructor(fake: FakeDmaDevice, index: number) {
    super(fake.kernel, `fake${index}`);
    this.fake = fake;
    this.timer = new KernelTimer(fake.kernel, () => this.tick(), `fake${index}`);
  }
  override descFree(vd: VirtDmaDesc): void {
    this.freed++;
    this.pool.push(vd as FakeDesc);
  }
  startNext(): void {
    const next = vchanNextDesc(this) as FakeDesc | null;
    this.active = next;
    if (next === null) return;
    this.descIssued.remove(next);
    if (!this.paused) modTimer(this.timer, this.fake.setupNs + this.nextBytes(next) * this.fake.nsPerByte);
  }
  nextBytes(desc: FakeDesc): number {
    const segment = desc.segments[desc.segment]!;
    let bytes = Math.min(this.fake.burstBytes, segment.len - desc.offset);
    if (desc.periodLen > 0) bytes = Math.min(bytes, desc.periodLen - (desc.moved % desc.periodLen));
    return bytes;
  }
  tick(): void {
    const flags = spinLockIrqsave(this.lock);
    const desc = this.active;
    if (desc !== null && !this.paused && !this.fake.stuck) this.step(desc);
    spinUnlockIrqrestore(this.lock, flags);
  }
  step(desc: FakeDesc): void {
    const segment = desc.segments[desc.segment]!;
    const bytes = this.nextBytes(desc);
    const result = this.fake.move(segment, desc.offset, bytes, desc.fill);
    if (result !== 0) {
      desc.txResult.result = result;
      desc.txResult.residue = desc.total - desc.moved;
      this.failed.push(desc.cookie);
      this.finish(desc);
      return;
    }
    desc.moved += bytes;
    desc.offset += bytes;
    if (desc.offset === segment.len) {
      desc.offset = 0;
      desc.segment++;
    }
    if (desc.periodLen > 0) {
      if (desc.segment === desc.segments.length) desc.segment = 0;
      if (desc.moved % desc.periodLen === 0) vchanCyclicCallback(desc);
      desc.moved %= desc.total;
    } else if (desc.segment === desc.segments.length) {
      this.finish(desc);
      return;
    }
    modTimer(this.timer, this.nextBytes(desc) * this.fake.nsPerByte);
  }
  finish(desc: FakeDesc): void {
    this.active = null;
    vchanCookieComplete(desc);
    this.startNext();
  }
}

/** See the file's head. */
export class FakeDmaDevice extends DmaDevice {
  readonly nsPerByte: number;
  readonly setupNs: number;
  readonly burstBytes: number;
  readonly maxTransfer: number;
  readonly fifos: readonly FakeFifo[];
  /** Called with what was just written, to spoil it. */
  corrupt: ((memory: Uint8Array, offset: number, len: number) => void) | null = null;
  /** Nothing goes on any more, as when the clock is off. */
  stuck = false;
  /** The next prep calls give null. */
  refusals = 0;
  /** What allocating a channel's resources returns. */
  allocResult = 0;

  constructor(dev: Device, options: FakeOptions = {}) {
    super(dev);
    this.capMask = options.capMask ?? dmaCapMask(DMA_MEMCPY, DMA_MEMSET, DMA_SLAVE, DMA_CYCLIC);
    this.copyAlign = options.copyAlign ?? 0;
    this.nsPerByte = options.nsPerByte ?? 1;
    this.setupNs = options.setupNs ?? 500;
    this.burstBytes = options.burstBytes ?? 4096;
    this.maxTransfer = options.maxTransfer ?? 65536;
    this.fifos = options.fifos ?? [];
    this.directions = (1 << DMA_MEM_TO_MEM) | (1 << DMA_MEM_TO_DEV) | (1 << DMA_DEV_TO_MEM);
    this.srcAddrWidths = this.dstAddrWidths = dmaBuswidths(1, 4);
    this.residueGranularity = DMA_RESIDUE_GRANULARITY_BURST;
    this.descriptorReuse = true;
    for (let i = 0; i < (options.channels ?? 1); i++) vchanInit(new FakeChan(this, i), this);
  }

  /** Move bytes between RAM, or between RAM and a FIFO. */
  move(segment: Segment, offset: number, bytes: number, fill: number): DmaengineTxResult {
    const source = this.fifos.find(({ address }) => address === segment.src);
    const sink = this.fifos.find(({ address }) => address === segment.dst);
    const src = segment.src + (source === undefined ? offset : 0);
    const dst = segment.dst + (sink === undefined ? offset : 0);
    const from = source === undefined ? this.kernel.machine.bankAt(src) : null;
    const to = sink === undefined ? this.kernel.machine.bankAt(dst) : null;
    if (source === undefined && fill < 0 && from?.contains(src, bytes) !== true) return DMA_TRANS_READ_FAILED;
    if (sink === undefined && to?.contains(dst, bytes) !== true) return DMA_TRANS_WRITE_FAILED;
    if (from !== null && to !== null && from === to && fill < 0) {
      to.memory.copyWithin(dst - to.base, src - from.base, src - from.base + bytes);
    } else {
      for (let i = 0; i < bytes; i++) {
        const value =
          fill >= 0 ? fill : from === null ? (source?.toSend.shift() ?? 0) : from.memory[src - from.base + i]!;
        if (to === null) sink!.received.push(value);
        else to.memory[dst - to.base + i] = value;
      }
    }
    if (to !== null) this.corrupt?.(to.memory, dst - to.base, bytes);
    return 0;
  }

  #desc(chan: FakeChan): FakeDesc | null {
    if (this.refusals > 0) {
      this.refusals--;
      return null;
    }
    const desc = chan.pool.pop() ?? new FakeDesc();
    desc.segments = [];
    desc.periodLen = desc.segment = desc.offset = desc.moved = desc.total = 0;
    desc.fill = -1;
    return desc;
  }
  #add(desc: FakeDesc, src: number, dst: number, len: number, srcInc: boolean, dstInc: boolean): void {
    for (let done = 0; done < len; done += this.maxTransfer) {
      const part = Math.min(this.maxTransfer, len - done);
      desc.segments.push({ src: src + (srcInc ? done : 0), dst: dst + (dstInc ? done : 0), len: part });
    }
    desc.total += len;
  }

  override deviceAllocChanResources(chan: FakeChan): number {
    if (this.allocResult >= 0) chan.allocated = true;
    return this.allocResult;
  }
  override deviceFreeChanResources(chan: FakeChan): void {
    this.deviceTerminateAll(chan);
    vchanFreeChanResources(chan);
    chan.allocated = false;
  }
  override devicePrepDmaMemcpy(chan: FakeChan, dst: DmaAddr, src: DmaAddr, len: number, flags: number): Prepared {
    if (len === 0) return null;
    const desc = this.#desc(chan);
    if (desc === null) return null;
    this.#add(desc, src, dst, len, true, true);
    return vchanTxPrep(chan, desc, flags);
  }
  override devicePrepDmaMemset(chan: FakeChan, dst: DmaAddr, value: number, len: number, flags: number): Prepared {
    const desc = this.#desc(chan);
    if (desc === null) return null;
    this.#add(desc, 0, dst, len, false, true);
    desc.fill = value % 256;
    return vchanTxPrep(chan, desc, flags);
  }
  override devicePrepSlaveSg(
    chan: FakeChan,
    sgl: Scatterlist,
    sgLen: number,
    direction: DmaTransferDirection,
    flags: number,
  ): Prepared {
    const toDevice = direction === DMA_MEM_TO_DEV;
    const port = toDevice ? chan.config.dstAddr : chan.config.srcAddr;
    const desc = this.#desc(chan);
    if (desc === null || port === undefined) return null;
    forEachSg(sgl, sgLen, ({ dmaAddress, dmaLength }) => {
      if (toDevice) this.#add(desc, dmaAddress, port, dmaLength, true, false);
      else this.#add(desc, port, dmaAddress, dmaLength, false, true);
    });
    return vchanTxPrep(chan, desc, flags);
  }
  override devicePrepDmaCyclic(
    chan: FakeChan,
    bufAddr: DmaAddr,
    bufLen: number,
    periodLen: number,
    direction: DmaTransferDirection,
    flags: number,
  ): Prepared {
    const toDevice = direction === DMA_MEM_TO_DEV;
    const port = toDevice ? chan.config.dstAddr : chan.config.srcAddr;
    if (port === undefined || periodLen === 0 || bufLen % periodLen !== 0) return null;
    const desc = this.#desc(chan);
    if (desc === null) return null;
    if (toDevice) this.#add(desc, bufAddr, port, bufLen, true, false);
    else this.#add(desc, port, bufAddr, bufLen, false, true);
    desc.periodLen = periodLen;
    return vchanTxPrep(chan, desc, flags | DMA_PREP_INTERRUPT);
  }

  override deviceConfig(chan: FakeChan, config: DmaSlaveConfig): Errno {
    if (config.srcMaxburst !== undefined && config.srcMaxburst > 16) return EINVAL;
    chan.config = { ...config };
    return OK;
  }
  override devicePause(chan: FakeChan): Errno {
    chan.paused = true;
    delTimer(chan.timer);
    return OK;
  }
  override deviceResume(chan: FakeChan): Errno {
    chan.paused = false;
    if (chan.active !== null) modTimer(chan.timer, this.setupNs);
    return OK;
  }
  override deviceTerminateAll(chan: FakeChan): Errno {
    const head = new List<VirtDmaDesc>('terminate');
    const flags = spinLockIrqsave(chan.lock);
    delTimer(chan.timer);
    chan.paused = false;
    vchanGetAllDescriptors(chan, head);
    // The one that was running is freed by synchronize only.
    if (chan.active !== null) {
      chan.active.txResult.result = DMA_TRANS_ABORTED;
      vchanTerminateVdesc(chan.active);
      chan.active = null;
    }
    spinUnlockIrqrestore(chan.lock, flags);
    vchanDmaDescFreeList(chan, head);
    return OK;
  }
  override deviceSynchronize(chan: FakeChan): Promise<void> {
    return vchanSynchronize(chan);
  }
  override deviceTxStatus(chan: FakeChan, cookie: Cookie, state: DmaTxState | null): DmaStatus {
    const status = dmaCookieStatus(chan, cookie, state);
    if (status === DMA_COMPLETE) return chan.failed.includes(cookie) ? DMA_ERROR : DMA_COMPLETE;
    const flags = spinLockIrqsave(chan.lock);
    const active = chan.active;
    const waiting = (active?.cookie === cookie ? active : vchanFindDesc(chan, cookie)) as FakeDesc | null;
    if (waiting !== null) dmaSetResidue(state, waiting.total - waiting.moved);
    spinUnlockIrqrestore(chan.lock, flags);
    return active?.cookie === cookie && chan.paused ? DMA_PAUSED : DMA_IN_PROGRESS;
  }
  override deviceIssuePending(chan: FakeChan): void {
    const flags = spinLockIrqsave(chan.lock);
    if (vchanIssuePending(chan) && chan.active === null) chan.startNext();
    spinUnlockIrqrestore(chan.lock, flags);
  }
}
