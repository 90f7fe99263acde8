/**
 * Memory that belongs to one device, or to all that do not snoop: a range that was set aside, from which coherent
 * allocations come in blocks of 2^n pages.
 */
import { alignUp, type DmaAddr, PAGE_SIZE, type PhysAddr, pfnOf } from '../base/addr.ts';
import { getOrder } from '../base/bits.ts';
import { EBUSY, EINVAL, type Errno, isErr, OK } from '../base/errno.ts';
import { archDmaClearUncached, archDmaPrepCoherent, archDmaSetUncached } from '../kernel/arch.ts';
import type { Device } from '../kernel/device.ts';
import { FrameKind, type Mem } from '../kernel/index.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { allocSources, type DevCoherentSource } from './alloc-sources.ts';
import { physToDma } from './dma-range.ts';
import type { DmaCoherent } from './ops.ts';

/** A pool. @linux struct dma_coherent_mem */
export class DmaCoherentMem implements DevCoherentSource {
  readonly kernel: Kernel;
  readonly phys: PhysAddr;
  readonly sizeBytes: number;
  /** Bus address of its first byte; null: what each device's windows make of `phys`. */
  readonly deviceBase: DmaAddr | null;
  /** One byte a page. */
  readonly #taken: Uint8Array;

  /** @internal Use `dmaDeclareCoherentMemory` or `dmaInitGlobalCoherent`. */
  constructor(kernel: Kernel, phys: PhysAddr, deviceBase: DmaAddr | null, sizeBytes: number) {
    this.kernel = kernel;
    this.phys = phys;
    this.sizeBytes = sizeBytes;
    this.deviceBase = deviceBase;
    this.#taken = new Uint8Array(sizeBytes / PAGE_SIZE);
    archDmaPrepCoherent(kernel, phys, sizeBytes);
    archDmaSetUncached(kernel, phys, sizeBytes);
    this.#setKind(0, this.#taken.length, FrameKind.RESERVED);
  }
  /** Pages that are handed out. */
  get usedPages(): number {
    let sum = 0;
    for (const bit of this.#taken) sum += bit;
    return sum;
  }
  #setKind(at: number, count: number, kind: FrameKind): void {
    const { frames } = this.kernel.pages;
    frames.setKind(frames.indexOf(pfnOf(this.phys) + at), count, kind);
  }

  /** Zeroed memory; null when the pool has no such block. @linux dma_alloc_from_dev_coherent, dma_alloc_from_global_coherent */
  alloc(dev: Device, sizeBytes: number): DmaCoherent | null {
    const taken = this.#taken;
    const count = 2 ** getOrder(sizeBytes);
    if (sizeBytes === 0 || sizeBytes > this.sizeBytes) return null;
    for (let at = 0; at + count <= taken.length; at += count) {
      if (taken.subarray(at, at + count).includes(1)) continue;
      taken.fill(1, at, at + count);
      this.#setKind(at, count, FrameKind.COHERENT);
      const { frames } = this.kernel.pages;
      const mem = frames.uncachedMem(frames.indexOf(pfnOf(this.phys) + at), sizeBytes);
      mem.bytes.fill(0);
      const base = this.deviceBase ?? physToDma(dev, this.phys);
      return { mem, handle: (base + at * PAGE_SIZE) as DmaAddr };
    }
    return null;
  }
  /** Give a block of 2^order pages back; false when it is not of this pool. @linux dma_release_from_dev_coherent, dma_release_from_global_coherent */
  release(_dev: Device, order: number, mem: Mem): boolean {
    const at = (mem.phys - this.phys) / PAGE_SIZE;
    if (at < 0 || at >= this.#taken.length) return false;
    const count = Math.min(2 ** order, this.#taken.length - at);
    this.#taken.fill(0, at, at + count);
    this.#setKind(at, count, FrameKind.RESERVED);
    mem.freed = true;
    return true;
  }
  contains(mem: Mem): boolean {
    return mem.phys >= this.phys && mem.phys < this.phys + this.sizeBytes;
  }
  /** @internal The memory becomes ordinary reserved memory again. */
  destroy(): void {
    archDmaClearUncached(this.kernel, this.phys, this.sizeBytes);
  }
}

/** @internal A pool over memory that is set aside; EINVAL for no bytes or where there is no RAM. @linux dma_init_coherent_memory */
export function dmaInitCoherentMemory(
  kernel: Kernel,
  phys: PhysAddr,
  deviceBase: DmaAddr | null,
  sizeBytes: number,
): DmaCoherentMem | Errno {
  const bytes = sizeBytes - (sizeBytes % PAGE_SIZE);
  const bank = kernel.machine.bankAt(phys);
  if (bytes === 0 || phys % PAGE_SIZE !== 0 || bank === null || !bank.contains(phys, bytes)) return EINVAL;
  return new DmaCoherentMem(kernel, phys, deviceBase, bytes);
}

/**
 * Give a device a memory of its own, which it sees at `deviceAddr`: its coherent allocations come from there and from
 * nowhere else. The range must have been set aside. EINVAL for no memory, EBUSY when the device has some already. May
 * sleep. @linux dma_declare_coherent_memory
 */
export function dmaDeclareCoherentMemory(dev: Device, phys: PhysAddr, deviceAddr: DmaAddr, sizeBytes: number): Errno {
  if (dev.dmaMem !== null) return EBUSY;
  const mem = dmaInitCoherentMemory(dev.kernel, phys, deviceAddr, sizeBytes);
  if (isErr(mem)) return mem;
  dev.dmaMem = mem;
  return OK;
}
/** Take it away again. @linux dma_release_coherent_memory */
export function dmaReleaseCoherentMemory(dev: Device): void {
  if (dev.dmaMem instanceof DmaCoherentMem) dev.dmaMem.destroy();
  dev.dmaMem = null;
}
/** Of a device's own memory: what was allocated, or null when it is full. @linux dma_alloc_from_dev_coherent */
export function dmaAllocFromDevCoherent(dev: Device, sizeBytes: number): DmaCoherent | null {
  return dev.dmaMem instanceof DmaCoherentMem ? dev.dmaMem.alloc(dev, sizeBytes) : null;
}

/**
 * Serve the coherent allocations of all devices that do not snoop from one range, which must have been set aside: for
 * machines whose CPU cannot bypass its cache elsewhere. @linux dma_init_global_coherent
 */
export function dmaInitGlobalCoherent(kernel: Kernel, phys: PhysAddr, sizeBytes: number): Errno {
  const mem = dmaInitCoherentMemory(kernel, phys, null, alignUp(sizeBytes, PAGE_SIZE));
  if (isErr(mem)) return mem;
  allocSources(kernel).globalCoherent = mem;
  return OK;
}
