/** Control blocks of the BCM2835's DMA controller, from a dma_pool: 32 bytes, aligned to 32. */
import type { DmaAddr } from '../base/index.ts';
import { type Device, GFP_NOWAIT, type Mem } from '../kernel/index.ts';
import { type DmaPool, dmaPoolAlloc, dmaPoolCreate, dmaPoolDestroy, dmaPoolFree } from '../mapping/index.ts';
import { CONTROL_BLOCK } from '../regs/bcm2835-dma.ts';

/** One control block as the driver handles it. */
export class ControlBlock {
  mem: Mem;
  handle: DmaAddr;
  /** What the driver wrote into it, so that nothing is read back from uncached memory. */
  source = 0;
  dest = 0;
  sizeBytes = 0;
  info = 0;
  nextSpare: ControlBlock | null = null;

  constructor(mem: Mem, handle: DmaAddr) {
    this.mem = mem;
    this.handle = handle;
  }
}

/** The blocks of one channel. */
export class ControlBlockPool {
  readonly #pool: DmaPool;
  /** Objects without a block, so that a warm channel makes no garbage. */
  #spare: ControlBlock | null = null;

  private constructor(pool: DmaPool) {
    this.#pool = pool;
  }
  /** Null without memory. May sleep. */
  static create(dev: Device): ControlBlockPool | null {
    const pool = dmaPoolCreate(dev.name, dev, CONTROL_BLOCK.sizeBytes, CONTROL_BLOCK.sizeBytes, 0);
    return pool === null ? null : new ControlBlockPool(pool);
  }

  /** A block with unknown content; null without memory. Any context. */
  take(): ControlBlock | null {
    const memory = dmaPoolAlloc(this.#pool, GFP_NOWAIT);
    if (memory === null) return null;
    const block = this.#spare;
    if (block === null) return new ControlBlock(memory.mem, memory.handle);
    this.#spare = block.nextSpare;
    block.nextSpare = null;
    block.mem = memory.mem;
    block.handle = memory.handle;
    return block;
  }
  free(block: ControlBlock): void {
    dmaPoolFree(this.#pool, block.mem, block.handle);
    block.nextSpare = this.#spare;
    this.#spare = block;
  }
  /** Give all memory back; no block may be in use. May sleep. */
  destroy(): void {
    this.#spare = null;
    dmaPoolDestroy(this.#pool);
  }
}
