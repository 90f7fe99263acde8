/**
 * Control blocks of the BCM2835's DMA controller, carved from coherent pages: 32 bytes, aligned to 32. A block that was
 * handed back is handed out again first, and every block keeps its objects, so that a warm channel makes no garbage.
 */
import { addrAdd, type DmaAddr, PAGE_SIZE } from '../base/index.ts';
import { type Device, GFP_NOWAIT, type Mem } from '../kernel/index.ts';
import { type DmaCoherent, dmaAllocCoherent, dmaFreeCoherent } from '../mapping/index.ts';
import { CONTROL_BLOCK } from '../regs/bcm2835-dma.ts';

/** One control block as the driver handles it. */
export class ControlBlock {
  readonly mem: Mem;
  readonly handle: DmaAddr;
  /** What the driver wrote into it, so that nothing is read back from uncached memory. */
  source = 0;
  dest = 0;
  sizeBytes = 0;
  info = 0;
  nextFree: ControlBlock | null = null;

  constructor(mem: Mem, handle: DmaAddr) {
    this.mem = mem;
    this.handle = handle;
  }
}

/** The blocks of one channel. */
export class ControlBlockPool {
  readonly #dev: Device;
  readonly #pages: DmaCoherent[] = [];
  #free: ControlBlock | null = null;

  constructor(dev: Device) {
    this.#dev = dev;
  }

  /** A block with unknown content; null when there is none left. Any context. */
  take(): ControlBlock | null {
    const block = this.#free;
    if (block !== null) {
      this.#free = block.nextFree;
      block.nextFree = null;
    }
    return block;
  }
  free(block: ControlBlock): void {
    block.nextFree = this.#free;
    this.#free = block;
  }
  /** Get another page of blocks, and take one; null without memory. Any context. */
  grow(): ControlBlock | null {
    const page = dmaAllocCoherent(this.#dev, PAGE_SIZE, GFP_NOWAIT);
    if (page === null) return null;
    this.#pages.push(page);
    for (let at = PAGE_SIZE - CONTROL_BLOCK.sizeBytes; at >= 0; at -= CONTROL_BLOCK.sizeBytes) {
      this.free(new ControlBlock(page.mem.slice(at, CONTROL_BLOCK.sizeBytes), addrAdd(page.handle, at)));
    }
    return this.take();
  }
  /** Give all pages back; no block may be in use. */
  destroy(): void {
    this.#free = null;
    for (const { mem, handle } of this.#pages) dmaFreeCoherent(this.#dev, mem.size, mem, handle);
    this.#pages.length = 0;
  }
}
