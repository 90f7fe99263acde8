/**
 * A channel of the PL330's driver. Its thread has room for two programs: while one runs, the next is ready, and the
 * interrupt starts it before anything else.
 */
import { type DmaAddr, type Errno, OK, type PhysAddr } from '../base/index.ts';
import {
  type Cookie,
  DMA_DEV_TO_DEV,
  DMA_DEV_TO_MEM,
  DMA_MEM_TO_DEV,
  DMA_TRANS_ABORTED,
  DMA_TRANS_NONE,
  DMA_TRANS_READ_FAILED,
  DMA_TRANS_WRITE_FAILED,
  type DmaengineTxResult,
  type DmaSlaveConfig,
  type DmaTransferDirection,
  VirtDmaChan,
  type VirtDmaDesc,
  vchanCookieComplete,
  vchanCyclicCallback,
  vchanFindDesc,
  vchanNextDesc,
  vchanTerminateVdesc,
} from '../dmaengine/index.ts';
import {
  DMA_BIDIRECTIONAL,
  DMA_FROM_DEVICE,
  DMA_TO_DEVICE,
  type DmaDataDirection,
  devErr,
  readl,
  spinLock,
  spinUnlock,
} from '../kernel/index.ts';
import { DMA_MAPPING_ERROR, dmaMappingError, dmaMapResource, dmaUnmapResource } from '../mapping/index.ts';
import { PL330 } from '../regs/pl330.ts';
import type { Pl330Desc, Pl330DescPool } from './pl330-desc.ts';
import { MAX_BURST, maxPieceBytes } from './pl330-program.ts';
import type { Pl330Dmac, Pl330Thread } from './pl330-thread.ts';

const { FTR, SAR, DAR, CPC } = PL330;
const NO_ADDRESS = 0 as PhysAddr;

/** See the file's head. Methods that say so want `lock` held. @linux struct dma_pl330_chan */
export class Pl330Chan extends VirtDmaChan {
  readonly dmac: Pl330Dmac;
  /** Its number, and that of the request line that it serves. */
  readonly peripheral: number;
  readonly #pool: Pl330DescPool;
  thread: Pl330Thread | null = null;
  /** Which of the thread's requests runs or is to be started next, how many are queued from it on, and whether it runs. */
  #head = 0;
  #queued = 0;
  #running = false;
  /** Stopped by `pause`, for its residue to be read; only `terminate` ends this. */
  paused = false;
  /** The descriptor whose programs are written; others behind it wait in `descIssued`. */
  #filling: Pl330Desc | null = null;
  /** The last descriptor that failed. */
  failedCookie: Cookie = 0;

  // The peripheral's data register, mapped for the direction that was used last.
  #config: DmaSlaveConfig = {};
  #fifoDir: DmaTransferDirection = DMA_TRANS_NONE;
  #fifoBus = DMA_MAPPING_ERROR;
  #fifoBytes = 1;

  constructor(dmac: Pl330Dmac, peripheral: number, pool: Pl330DescPool) {
    super(dmac.dev.kernel, `${dmac.dev.name}.${peripheral}`);
    this.dmac = dmac;
    this.peripheral = peripheral;
    this.#pool = pool;
  }

  override descFree(vd: VirtDmaDesc): void {
    this.#pool.put(vd as Pl330Desc);
  }

  // The peripheral

  /** @linux pl330_config */
  configure(config: DmaSlaveConfig): Errno {
    this.#config = { ...config };
    this.unmapFifo();
    return OK;
  }
  /** Give a descriptor the peripheral's unit and burst. Returns the register's bus address, or -1 when it has none. @linux pl330_config_write, pl330_prep_slave_fifo */
  prepareFifo(desc: Pl330Desc): DmaAddr {
    const { srcAddr, dstAddr, srcAddrWidth, dstAddrWidth, srcMaxburst, dstMaxburst } = this.#config;
    const isRead = desc.dir === DMA_DEV_TO_MEM;
    desc.peripheral = this.peripheral;
    desc.width = Math.max(1, (isRead ? srcAddrWidth : dstAddrWidth) ?? 1);
    desc.burst = Math.max(1, Math.min(MAX_BURST, (isRead ? srcMaxburst : dstMaxburst) ?? 1));
    if (this.#fifoDir !== desc.dir) {
      this.unmapFifo();
      const phys = (isRead ? srcAddr : dstAddr) ?? NO_ADDRESS;
      const bus = dmaMapResource(this.dmac.dev, phys, desc.width, fifoMapDir(desc.dir), 0);
      if (dmaMappingError(this.dmac.dev, bus) !== OK) return DMA_MAPPING_ERROR;
      this.#fifoDir = desc.dir;
      this.#fifoBus = bus;
      this.#fifoBytes = desc.width;
    }
    return this.#fifoBus;
  }
  /** @linux pl330_unprep_slave_fifo */
  unmapFifo(): void {
    if (this.#fifoDir === DMA_TRANS_NONE) return;
    dmaUnmapResource(this.dmac.dev, this.#fifoBus, this.#fifoBytes, fifoMapDir(this.#fifoDir), 0);
    this.#fifoDir = DMA_TRANS_NONE;
  }

  // The thread; the lock is held

  /** Write programs as long as there is room and work, and start. @linux fill_queue, _start */
  kick(): void {
    if (this.paused || this.thread === null) return;
    this.#fill(this.thread);
    this.#start(this.thread);
  }
  #fill(thread: Pl330Thread): void {
    while (this.#queued < 2) {
      const desc = this.#filling ?? this.#nextIssued();
      if (desc === null) return;
      const request = thread.requests[(this.#head + this.#queued) & 1]!;
      const { piece } = request;
      desc.nextPiece(piece);
      piece.bytes = Math.min(piece.bytes, maxPieceBytes(this.dmac.config, piece));
      request.endsSegment = desc.advance(piece.bytes);
      request.desc = desc;
      this.dmac.assemble(thread, request);
      this.#queued++;
      this.#filling = desc.programmed ? null : desc;
    }
  }
  #nextIssued(): Pl330Desc | null {
    const vd = vchanNextDesc(this);
    if (vd === null) return null;
    this.descIssued.remove(vd);
    const desc = vd as Pl330Desc;
    desc.restart();
    return desc;
  }
  #start(thread: Pl330Thread): void {
    if (this.#running || this.#queued === 0) return;
    this.#running = this.dmac.start(thread, thread.requests[this.#head]!);
    if (!this.#running) this.#fail(thread.requests[this.#head]!.desc!, DMA_TRANS_ABORTED);
  }

  /** The running program signalled its end. Hardirq. @linux pl330_update */
  finished(): void {
    const { thread } = this;
    spinLock(this.lock);
    if (thread !== null && this.#running && !this.paused) {
      const request = thread.requests[this.#head]!;
      const desc = request.desc!;
      request.desc = null;
      this.#running = false;
      this.#head ^= 1;
      this.#queued--;
      // Get going again as soon as possible.
      this.#start(thread);
      this.#account(desc, request.piece.bytes, request.endsSegment);
      this.kick();
    }
    spinUnlock(this.lock);
  }
  #account(desc: Pl330Desc, bytes: number, endsSegment: boolean): void {
    desc.done += bytes;
    if (desc.cyclic) {
      if (desc.done === desc.bytes) desc.done = 0;
      if (endsSegment) vchanCyclicCallback(desc);
    } else if (desc.done === desc.bytes) vchanCookieComplete(desc);
  }

  /** The thread faulted: kill it, end the descriptor with the error, and go on with the next. Hardirq. */
  faulted(): void {
    const { thread } = this;
    spinLock(this.lock);
    if (thread !== null) {
      const { io, dev } = this.dmac;
      const fault = readl(io, FTR.at(thread.id));
      devErr(
        dev,
        `channel thread ${thread.id} aborted: ${faultNames(fault)} at program counter 0x${readl(io, CPC.at(thread.id)).toString(16)}`,
      );
      this.#abort(thread, resultOf(fault));
    }
    spinUnlock(this.lock);
  }
  /** The manager faulted: whatever was to be started did not start. Hardirq. */
  reset(): void {
    const { thread } = this;
    spinLock(this.lock);
    if (thread !== null) this.#abort(thread, DMA_TRANS_ABORTED);
    spinUnlock(this.lock);
  }
  #abort(thread: Pl330Thread, result: DmaengineTxResult): void {
    const desc = this.#running ? thread.requests[this.#head]!.desc : null;
    const transferred = this.#transferred(thread);
    this.dmac.stop(thread);
    this.#running = false;
    if (desc !== null) {
      desc.txResult.residue = desc.bytes - desc.done - transferred;
      this.#fail(desc, result);
    }
    this.kick();
  }
  /** Drop a descriptor's programs, the first of which is at the head, and complete it with its error. */
  #fail(desc: Pl330Desc, result: DmaengineTxResult): void {
    const { requests } = this.thread!;
    while (this.#queued > 0 && requests[this.#head]!.desc === desc) {
      requests[this.#head]!.desc = null;
      this.#head ^= 1;
      this.#queued--;
    }
    if (this.#filling === desc) this.#filling = null;
    desc.txResult.result = result;
    this.failedCookie = desc.cookie;
    vchanCookieComplete(desc);
  }

  /** Kill the thread, and keep what is known of its transfer. @linux pl330_pause */
  pause(): void {
    if (this.thread === null || this.paused) return;
    this.dmac.stop(this.thread);
    this.paused = true;
  }
  /** Kill the thread; its descriptors are terminated. @linux pl330_terminate_all */
  terminate(): void {
    const { thread } = this;
    if (thread === null) return;
    this.dmac.stop(thread);
    for (; this.#queued > 0; this.#queued--, this.#head ^= 1) {
      const request = thread.requests[this.#head]!;
      this.#drop(request.desc);
      request.desc = null;
    }
    this.#drop(this.#filling);
    this.#filling = null;
    this.#running = false;
    this.paused = false;
  }

  /** Both requests, and the descriptor that is to be written on, may be of one descriptor: it goes once. */
  #drop(desc: Pl330Desc | null): void {
    if (desc !== null && desc.list === null) vchanTerminateVdesc(desc);
  }

  // Residue; the lock is held

  /** Bytes of the running program that are transferred already. Linux: pl330_get_current_xferred_count. */
  #transferred(thread: Pl330Thread): number {
    if (!this.#running) return 0;
    const { piece } = thread.requests[this.#head]!;
    const isRead = piece.dir === DMA_DEV_TO_MEM;
    const at = readl(this.dmac.io, isRead ? DAR.at(thread.id) : SAR.at(thread.id));
    const bytes = at - (isRead ? piece.dst : piece.src);
    // Elsewhere: the program's first instructions are still to come.
    return bytes >= 0 && bytes <= piece.bytes ? bytes : 0;
  }
  /** The descriptor of a cookie when the thread works on it, or is to. */
  #inHardware(cookie: Cookie): Pl330Desc | null {
    if (this.thread !== null) {
      const [{ desc: first }, { desc: second }] = this.thread.requests;
      if (first?.cookie === cookie) return first;
      if (second?.cookie === cookie) return second;
    }
    return this.#filling?.cookie === cookie ? this.#filling : null;
  }
  /** Whether the thread works on the descriptor of a cookie, or is to next. */
  isActive(cookie: Cookie): boolean {
    return this.#inHardware(cookie) !== null;
  }
  /** Bytes that the descriptor of a cookie has still to transfer. @linux pl330_tx_status */
  residue(cookie: Cookie): number {
    const { thread } = this;
    const desc = this.#inHardware(cookie);
    if (desc !== null && thread !== null) {
      const isRunning = thread.requests[this.#head]!.desc === desc;
      return desc.bytes - desc.done - (isRunning ? this.#transferred(thread) : 0);
    }
    const issued = vchanFindDesc(this, cookie);
    if (issued !== null) return (issued as Pl330Desc).bytes;
    for (const vd of this.descSubmitted) if (vd.cookie === cookie) return (vd as Pl330Desc).bytes;
    return 0;
  }
}

/** From the peripheral's point of view: it reads what goes to it. Linux: pl330_dma_slave_map_dir. */
function fifoMapDir(dir: DmaTransferDirection): DmaDataDirection {
  if (dir === DMA_MEM_TO_DEV) return DMA_FROM_DEVICE;
  return dir === DMA_DEV_TO_DEV ? DMA_BIDIRECTIONAL : DMA_TO_DEVICE;
}
function resultOf(fault: number): DmaengineTxResult {
  if (FTR.DATA_READ_ERR.test(fault)) return DMA_TRANS_READ_FAILED;
  return FTR.DATA_WRITE_ERR.test(fault) ? DMA_TRANS_WRITE_FAILED : DMA_TRANS_ABORTED;
}
function faultNames(fault: number): string {
  const names = FTR.fields.filter((field) => field.test(fault)).map((field) => field.name);
  return names.length > 0 ? names.join(', ') : 'no fault type';
}
