/** A channel of the BCM2835's DMA controller as its driver sees it, and its descriptors: chains of control blocks. */
import type { DmaAddr } from '../base/index.ts';
import {
  type Cookie,
  DMA_DEV_TO_MEM,
  DMA_MEM_TO_MEM,
  DMA_TRANS_READ_FAILED,
  DMA_TRANS_WRITE_FAILED,
  type DmaSlaveConfig,
  type DmaTransferDirection,
  VirtDmaChan,
  VirtDmaDesc,
  vchanCookieComplete,
  vchanCyclicCallback,
  vchanNextDesc,
} from '../dmaengine/index.ts';
import {
  cpuRelax,
  type Device,
  devErr,
  type IoMem,
  IRQ_HANDLED,
  IRQ_NONE,
  type IrqReturn,
  readl,
  readlRelaxed,
  spinLock,
  spinUnlock,
  writel,
  writelRelaxed,
} from '../kernel/index.ts';
import { CHANNEL_STRIDE, CONTROL_BLOCK, DMA } from '../regs/bcm2835-dma.ts';
import { type ControlBlock, ControlBlockPool } from './bcm2835-dma-blocks.ts';

const { ACTIVE, INT, ERROR, RESET, WAITING_FOR_OUTSTANDING_WRITES } = DMA.CS;
const { READ_ERROR, LITE } = DMA.DEBUG;
const { SRC_INC, DEST_INC } = DMA.TI;
const { TI, SOURCE_AD, DEST_AD, TXFR_LEN, STRIDE, NEXTCONBK } = CONTROL_BLOCK;
const ERROR_FLAGS = DMA.DEBUG.clearMask;

/** 30 bits of length, and of 16 on a lite channel, kept to whole words so that a chain's addresses stay aligned. */
const MAX_DMA_LEN = 2 ** 30 - 4;
const MAX_LITE_DMA_LEN = 2 ** 16 - 4;
/** Reads of CS until a peripheral that never answers is given up. */
const ABORT_POLLS = 10_000;

/** A transfer: its control blocks, linked in memory. */
export class Bcm2835Desc extends VirtDmaDesc {
  dir: DmaTransferDirection = DMA_MEM_TO_MEM;
  cyclic = false;
  /** In bytes. */
  size = 0;
  /** How many of `blocks` make up the chain. */
  frames = 0;
  /** Those that it owns. */
  readonly blocks: ControlBlock[] = [];
  nextSpare: Bcm2835Desc | null = null;
}

/** See the file's head. Methods that say so want `lock` held. */
export class Bcm2835Chan extends VirtDmaChan {
  readonly dev: Device;
  /** Its number in the controller. */
  readonly ch: number;
  readonly irq: number;
  readonly irqFlags: number;
  readonly isLite: boolean;
  readonly #io: IoMem;
  readonly #base: number;
  /** Request line of the peripheral that the channel serves; 0 for none. */
  dreq = 0;
  cfg: DmaSlaveConfig = {};
  /** What the hardware works on. */
  desc: Bcm2835Desc | null = null;
  /** The last transfer that failed. */
  failedCookie: Cookie = 0;
  #blocks: ControlBlockPool | null = null;
  /**
   * Descriptors for reuse. They and the blocks are taken by prep and given back by the tasklet, without a lock: between
   * looking at the first and taking it nothing can come in, as there is no time point (llist has cmpxchg for that).
   */
  #spare: Bcm2835Desc | null = null;

  constructor(dev: Device, io: IoMem, ch: number, irq: number, irqFlags: number) {
    super(dev.kernel, `${dev.name}.${ch}`);
    this.dev = dev;
    this.ch = ch;
    this.irq = irq;
    this.irqFlags = irqFlags;
    this.#io = io;
    this.#base = ch * CHANNEL_STRIDE;
    this.isLite = LITE.test(this.#read(DMA.DEBUG.offset));
  }

  #read(offset: number): number {
    return readl(this.#io, this.#base + offset);
  }
  #write(offset: number, value: number): void {
    writel(value, this.#io, this.#base + offset);
  }

  /** The most bytes that one control block moves. */
  get maxFrame(): number {
    return this.isLite === true ? MAX_LITE_DMA_LEN : MAX_DMA_LEN;
  }

  // ---- descriptors ----

  /** An empty descriptor. Any context. */
  newDesc(dir: DmaTransferDirection, cyclic: boolean): Bcm2835Desc {
    const desc = this.#spare ?? new Bcm2835Desc();
    this.#spare = desc.nextSpare;
    desc.nextSpare = null;
    desc.dir = dir;
    desc.cyclic = cyclic;
    desc.size = 0;
    desc.frames = 0;
    return desc;
  }
  /** A spare descriptor keeps one block, all that most need. */
  override descFree(vd: VirtDmaDesc): void {
    const desc = vd as Bcm2835Desc;
    const { blocks } = desc;
    while (blocks.length > 1) this.#blocks!.free(blocks.pop()!);
    desc.nextSpare = this.#spare;
    this.#spare = desc;
  }
  /** Before the first descriptor. False without memory. May sleep. */
  makePool(): boolean {
    this.#blocks = ControlBlockPool.create(this.dev);
    return this.#blocks !== null;
  }
  /** When no descriptor is in use any more. May sleep. */
  freePool(): void {
    const pool = this.#blocks;
    if (pool === null) return;
    for (let desc = this.#spare; desc !== null; desc = desc.nextSpare) {
      for (const block of desc.blocks) pool.free(block);
    }
    this.#spare = null;
    this.#blocks = null;
    pool.destroy();
  }

  /**
   * Append control blocks for `sizeBytes` bytes, split at what the channel can and, with `periodBytes`, at each period,
   * whose last block gets `extra`. False without memory; the caller then frees the descriptor.
   */
  append(
    desc: Bcm2835Desc,
    ti: number,
    extra: number,
    source: DmaAddr,
    dest: DmaAddr,
    sizeBytes: number,
    periodBytes = 0,
  ): boolean {
    const max = this.maxFrame;
    let from: number = source;
    let to: number = dest;
    let left = sizeBytes;
    let inPeriod = 0;
    while (left > 0) {
      let size = Math.min(left, max);
      let info = ti;
      if (periodBytes > 0) {
        if (inPeriod + size < periodBytes) inPeriod += size;
        else {
          size = periodBytes - inPeriod;
          inPeriod = 0;
          info |= extra;
        }
      }
      if (!this.#appendBlock(desc, info, from, to, size)) return false;
      if (SRC_INC.test(ti)) from += size;
      if (DEST_INC.test(ti)) to += size;
      left -= size;
    }
    return true;
  }

  #appendBlock(desc: Bcm2835Desc, info: number, source: number, dest: number, sizeBytes: number): boolean {
    const block = desc.blocks[desc.frames] ?? this.#newBlock(desc);
    if (block === null) return false;
    desc.frames++;
    block.source = source;
    block.dest = dest;
    block.sizeBytes = sizeBytes;
    block.info = info;
    const { mem } = block;
    mem.writeU32(TI.offset, info);
    mem.writeU32(SOURCE_AD.offset, source);
    mem.writeU32(DEST_AD.offset, dest);
    mem.writeU32(TXFR_LEN.offset, sizeBytes);
    mem.writeU32(STRIDE.offset, 0);
    mem.writeU32(NEXTCONBK.offset, 0);
    if (desc.frames > 1) desc.blocks[desc.frames - 2]!.mem.writeU32(NEXTCONBK.offset, block.handle);
    desc.size += sizeBytes;
    return true;
  }
  #newBlock(desc: Bcm2835Desc): ControlBlock | null {
    const block = this.#blocks!.take();
    if (block !== null) desc.blocks.push(block);
    return block;
  }
  /** The last block gets `extra`; that of a cyclic descriptor points at the first. */
  close(desc: Bcm2835Desc, extra: number): void {
    const last = desc.blocks[desc.frames - 1]!;
    last.info |= extra;
    last.mem.writeU32(TI.offset, last.info);
    if (desc.cyclic === true) last.mem.writeU32(NEXTCONBK.offset, desc.blocks[0]!.handle);
  }

  // ---- the hardware; the lock is held ----

  /** Start the next issued descriptor, or be idle. */
  startDesc(): void {
    const vd = vchanNextDesc(this);
    if (vd === null) {
      this.desc = null;
      return;
    }
    this.descIssued.remove(vd);
    this.desc = vd as Bcm2835Desc;
    // The second write waits for the stores to the control blocks; the first need not.
    writelRelaxed(this.desc.blocks[0]!.handle, this.#io, this.#base + DMA.CONBLK_AD.offset);
    this.#write(DMA.CS.offset, ACTIVE.mask);
  }

  /** Stop whatever goes on; the channel is as after reset. */
  abort(): void {
    // Whether the channel is idle shows in the address; ACTIVE does not tell.
    if (this.#read(DMA.CONBLK_AD.offset) === 0) return;
    this.#write(DMA.CS.offset, 0);
    let polls = ABORT_POLLS;
    while (WAITING_FOR_OUTSTANDING_WRITES.test(this.#read(DMA.CS.offset)) && --polls > 0) cpuRelax(this.dev.kernel);
    if (polls === 0) devErr(this.dev, 'failed to complete outstanding writes');
    this.#write(DMA.CS.offset, RESET.mask);
  }

  /**
   * Bytes that the running descriptor has still to transfer: the rest of the block that the channel is at, and the
   * blocks behind it.
   */
  residue(): number {
    const desc = this.desc!;
    let at: number;
    let position: number;
    // The channel may go on to its next block between the two reads.
    do {
      at = this.#read(DMA.CONBLK_AD.offset);
      position = this.#read(desc.dir === DMA_DEV_TO_MEM ? DMA.DEST_AD.offset : DMA.SOURCE_AD.offset);
    } while (at !== this.#read(DMA.CONBLK_AD.offset));
    let residue = 0;
    for (let i = desc.frames - 1; i >= 0; i--) {
      const block = desc.blocks[i]!;
      if (block.handle === at) {
        const done = position - (desc.dir === DMA_DEV_TO_MEM ? block.dest : block.source);
        // Outside of the block: it is not fetched yet.
        return residue + (done >= 0 && done <= block.sizeBytes ? block.sizeBytes - done : block.sizeBytes);
      }
      residue += block.sizeBytes;
    }
    return 0;
  }

  // ---- the interrupt ----

  readonly interrupt = (): IrqReturn => {
    const cs = readlRelaxed(this.#io, this.#base + DMA.CS.offset);
    // Several channels may share the line.
    if (!INT.test(cs)) return IRQ_NONE;
    spinLock(this.lock);
    if (ERROR.test(cs)) this.#noteError();
    // ACTIVE stays set for a cyclic descriptor, and for one that was issued meanwhile; a finished channel stays idle.
    writelRelaxed(INT.mask | ACTIVE.mask, this.#io, this.#base + DMA.CS.offset);
    const { desc } = this;
    if (desc !== null) {
      if (desc.cyclic === true) vchanCyclicCallback(desc);
      else if (this.#read(DMA.CONBLK_AD.offset) === 0) {
        vchanCookieComplete(desc);
        this.startDesc();
      }
    }
    spinUnlock(this.lock);
    return IRQ_HANDLED;
  };

  /** The channel goes on after an error: the transfer ends, and its result tells. */
  #noteError(): void {
    const debug = this.#read(DMA.DEBUG.offset);
    this.#write(DMA.DEBUG.offset, debug & ERROR_FLAGS);
    const { desc } = this;
    devErr(this.dev, `channel ${this.ch}: bus error, DEBUG 0x${debug.toString(16)}`);
    if (desc === null) return;
    desc.txResult.result = READ_ERROR.test(debug) ? DMA_TRANS_READ_FAILED : DMA_TRANS_WRITE_FAILED;
    this.failedCookie = desc.cookie;
  }
}
