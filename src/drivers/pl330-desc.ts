/** Descriptors of the PL330's driver: what is to be transferred, as segments of bus addresses. */
import { List } from '../base/index.ts';
import {
  DMA_DEV_TO_MEM,
  DMA_MEM_TO_DEV,
  DMA_MEM_TO_MEM,
  type DmaTransferDirection,
  VirtDmaDesc,
} from '../dmaengine/index.ts';
import { type Kernel, SpinLock, spinLockIrqsave, spinUnlockIrqrestore } from '../kernel/index.ts';
import type { ProgramPiece } from './pl330-program.ts';

/** See the file's head. Descriptors are pooled: the segments' memory stays with them. @linux struct dma_pl330_desc */
export class Pl330Desc extends VirtDmaDesc {
  dir: DmaTransferDirection = DMA_MEM_TO_MEM;
  /** The segments are periods, and follow each other without end. */
  cyclic = false;
  peripheral = 0;
  /** Unit of the peripheral's register in bytes, and units in a burst. */
  width = 1;
  burst = 1;
  /** All segments together, in bytes. */
  bytes = 0;
  /** Bytes of finished programs (of this round, when cyclic). */
  done = 0;
  segments = 0;
  /** Source, destination and length of each segment. */
  #numbers = new Float64Array(3);
  // The first byte for which there is no program yet.
  #segment = 0;
  #offset = 0;

  /** Empty it for a new transfer. */
  reset(dir: DmaTransferDirection, cyclic: boolean): this {
    this.dir = dir;
    this.cyclic = cyclic;
    this.bytes = 0;
    this.segments = 0;
    this.restart();
    return this;
  }
  /** From its first byte on. */
  restart(): void {
    this.done = 0;
    this.#segment = 0;
    this.#offset = 0;
  }
  append(src: number, dst: number, bytes: number): void {
    const at = 3 * this.segments++;
    if (at + 3 > this.#numbers.length) {
      const larger = new Float64Array(2 * this.#numbers.length);
      larger.set(this.#numbers);
      this.#numbers = larger;
    }
    this.#numbers[at] = src;
    this.#numbers[at + 1] = dst;
    this.#numbers[at + 2] = bytes;
    this.bytes += bytes;
  }
  /** Every byte has its program. Never, when cyclic. */
  get programmed(): boolean {
    return this.#segment === this.segments;
  }
  /** The rest of the segment that has no program yet. */
  nextPiece(piece: ProgramPiece): void {
    const at = 3 * this.#segment;
    piece.dir = this.dir;
    piece.peripheral = this.peripheral;
    piece.width = this.width;
    piece.burst = this.burst;
    piece.src = this.#numbers[at]!;
    piece.dst = this.#numbers[at + 1]!;
    // A peripheral's register stays where it is.
    if (this.dir !== DMA_DEV_TO_MEM) piece.src += this.#offset;
    if (this.dir !== DMA_MEM_TO_DEV) piece.dst += this.#offset;
    piece.bytes = this.#numbers[at + 2]! - this.#offset;
  }
  /** `bytes` of the segment have a program now. Returns whether these were its last. */
  advance(bytes: number): boolean {
    this.#offset += bytes;
    if (this.#offset < this.#numbers[3 * this.#segment + 2]!) return false;
    this.#offset = 0;
    this.#segment++;
    if (this.cyclic && this.#segment === this.segments) this.#segment = 0;
    return true;
  }
}

/** Spare descriptors of all channels: preparing makes no garbage once enough exist. Any context. @linux desc_pool */
export class Pl330DescPool {
  readonly #spare = new List<VirtDmaDesc>('desc_pool');
  readonly #lock: SpinLock;

  constructor(kernel: Kernel, name: string) {
    this.#lock = new SpinLock(kernel, `${name}.pool_lock`);
  }
  /** An empty descriptor. @linux pl330_get_desc */
  get(dir: DmaTransferDirection, cyclic: boolean): Pl330Desc {
    const flags = spinLockIrqsave(this.#lock);
    const desc = (this.#spare.shift() ?? new Pl330Desc()) as Pl330Desc;
    spinUnlockIrqrestore(this.#lock, flags);
    return desc.reset(dir, cyclic);
  }
  put(desc: Pl330Desc): void {
    const flags = spinLockIrqsave(this.#lock);
    this.#spare.pushFront(desc);
    spinUnlockIrqrestore(this.#lock, flags);
  }
}
