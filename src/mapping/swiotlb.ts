/**
 * Bounce buffers: when a device cannot reach a buffer (or may not see what lies beside it), it is given slots of a pool
 * instead, and the bytes are copied there and back.
 */
import {
  alignDown,
  alignUp,
  DMA_MAPPING_ERROR,
  type DmaAddr,
  lowBits,
  offsetIn,
  PAGE_SIZE,
  type PhysAddr,
  pfnOf,
} from '../base/addr.ts';
import { getOrder } from '../base/bits.ts';
import { KernelBug } from '../base/errno.ts';
import { archSyncDmaForDevice } from '../kernel/arch.ts';
import { type Device, devWarn } from '../kernel/device.ts';
import { DMA_FROM_DEVICE, DMA_TO_DEVICE, type DmaDataDirection } from '../kernel/dma-direction.ts';
import type { Kernel, RamBank } from '../kernel/index.ts';
import { type Page, physToPage } from '../kernel/page-alloc.ts';
import { Ratelimit } from '../kernel/ratelimit.ts';
import { DMA_ATTR_NO_WARN, DMA_ATTR_SKIP_CPU_SYNC } from './attrs.ts';
import type { BounceBackend, IoTlbMem } from './bounce.ts';
import { dmaCapable, physToDma } from './dma-range.ts';
import { dmaGetMinAlignMask, dmaGetSegBoundary } from './mask.ts';
import { mappingObserver } from './observer.ts';
import { devWarnOnce, reachText } from './report.ts';
import {
  IO_TLB_SEGSIZE,
  IO_TLB_SHIFT,
  IO_TLB_SIZE,
  NO_ORIG,
  nrSlots,
  SlotAreas,
  SlotRequest,
} from './swiotlb-areas.ts';
import { copyPhys } from './swiotlb-copy.ts';

const NO_PHYS = -1 as PhysAddr;

/**
 * Low bits of an address that the bounce must have in common with the original: those the device asks for, below a slot
 * or below what the slots are aligned to (swiotlb_align_offset).
 */
function alignOffset(dev: Device, alignMask: number, addr: number): number {
  return lowBits(addr, dmaGetMinAlignMask(dev) & (alignMask | (IO_TLB_SIZE - 1)));
}

/** A pool of slots in one bank of RAM. @linux struct io_tlb_pool */
export class Swiotlb implements BounceBackend {
  readonly kernel: Kernel;
  /** The device's view of this pool. */
  readonly mem: IoTlbMem;
  readonly start: PhysAddr;
  readonly slots: SlotAreas;
  /** Slots in use. @linux io_tlb_used */
  used = 0;
  /** The most that ever were. @linux io_tlb_used_hiwater */
  usedHiwater = 0;
  readonly #bank: RamBank;
  readonly #request = new SlotRequest();
  readonly #full: Ratelimit;
  readonly #inactive: Ratelimit;

  /** @internal [start, start + nslabs slots) must be set aside, in one bank; see `swiotlbInit`. */
  constructor(kernel: Kernel, mem: IoTlbMem, start: PhysAddr, nslabs: number, nareas: number) {
    this.kernel = kernel;
    this.mem = mem;
    this.start = start;
    this.slots = new SlotAreas(nslabs, nareas);
    this.#bank = kernel.machine.bankAt(start)!;
    this.#full = new Ratelimit(kernel, 'swiotlb_tbl_map_single');
    this.#inactive = new Ratelimit(kernel, 'swiotlb_tbl_map_single');
    mem.start = start;
    mem.end = start + (nslabs << IO_TLB_SHIFT);
    mem.active = nslabs > 0;
    mem.backend = this;
  }

  /** @linux swiotlb_map */
  map(dev: Device, phys: PhysAddr, size: number, dir: DmaDataDirection, attrs: number): DmaAddr {
    const observer = mappingObserver(this.kernel);
    if (observer !== null) observer.bounced?.(dev, physToDma(dev, phys), size, this.mem.forceBounce);
    const tlb = this.mapSlots(dev, phys, size, 0, dir, attrs);
    if (tlb < 0) return DMA_MAPPING_ERROR;
    const addr = physToDma(dev, tlb);
    if (!dmaCapable(dev, addr, size)) {
      this.unmap(dev, tlb, size, dir, attrs | DMA_ATTR_SKIP_CPU_SYNC);
      devWarnOnce(dev, 'swiotlb_map', `swiotlb addr ${reachText(dev, addr, size)}`);
      return DMA_MAPPING_ERROR;
    }
    if (!dev.dmaCoherent && (attrs & DMA_ATTR_SKIP_CPU_SYNC) === 0) archSyncDmaForDevice(dev.kernel, tlb, size, dir);
    return addr;
  }

  /** See `BounceBackend`. The message of an exhausted pool is limited to ten in five seconds. @linux swiotlb_tbl_map_single */
  mapSlots(
    dev: Device,
    phys: PhysAddr,
    size: number,
    allocAlignMask: number,
    _dir: DmaDataDirection,
    attrs: number,
  ): PhysAddr {
    const { slots } = this;
    if (slots.nslabs === 0) return this.#refuse(dev);
    if (allocAlignMask > PAGE_SIZE - 1) {
      const text = 'Alloc alignment may prevent fulfilling requests with max mapping_size';
      devWarnOnce(dev, 'swiotlb_tbl_map_single', text);
    }
    const offset = alignOffset(dev, allocAlignMask, phys);
    const bytes = alignUp(size + offset, allocAlignMask + 1);
    let slot = this.#find(dev, phys, bytes, allocAlignMask);
    if (slot < 0) {
      if ((attrs & DMA_ATTR_NO_WARN) === 0 && this.#full.allow()) {
        const counts = `total ${slots.nslabs} (slots), used ${slots.usedSlots} (slots)`;
        devWarn(dev, `swiotlb buffer is full (sz: ${bytes} bytes), ${counts}`);
      }
      return NO_PHYS;
    }
    const padSlots = offset >>> IO_TLB_SHIFT;
    slot += padSlots;
    slots.padSlots[slot] = padSlots;
    const { origAddr } = slots;
    const end = slot + nrSlots(bytes) - padSlots;
    let orig: number = phys;
    for (let i = slot; i < end; i++, orig += IO_TLB_SIZE) origAddr[i] = orig;
    const tlb = (this.start + slot * IO_TLB_SIZE + offsetIn(offset, IO_TLB_SIZE)) as PhysAddr;
    // In both directions: what the device does not write must come back as it was.
    this.#bounce(dev, tlb, size, true);
    return tlb;
  }
  #refuse(dev: Device): PhysAddr {
    const text = "Can not allocate SWIOTLB buffer earlier and can't now provide you with the DMA bounce buffer";
    if (this.#inactive.allow()) devWarn(dev, text);
    return NO_PHYS;
  }
  #find(dev: Device, phys: number, bytes: number, allocAlignMask: number): number {
    const request = this.#request;
    request.allocSize = bytes;
    request.origAddr = phys;
    request.allocAlignMask = allocAlignMask;
    request.minAlignMask = dmaGetMinAlignMask(dev);
    request.offset = alignOffset(dev, 0, phys);
    request.poolDmaAddr = physToDma(dev, this.start);
    request.boundaryMask = dmaGetSegBoundary(dev);
    // The machine has one CPU, whose number is 0.
    const slot = this.slots.find(request, 0);
    if (slot >= 0) {
      this.used += nrSlots(bytes);
      if (this.used > this.usedHiwater) this.usedHiwater = this.used;
    }
    return slot;
  }

  /** Copy `size` bytes at `tlb` from their original place (`toSlots`), or back to it (swiotlb_bounce). */
  #bounce(dev: Device, tlb: PhysAddr, size: number, toSlots: boolean): void {
    const { slots } = this;
    const slot = (tlb - this.start) >>> IO_TLB_SHIFT;
    let orig = slots.origAddr[slot]!;
    if (orig === NO_ORIG) return;
    // Negative where a sync begins in the first bytes of a slot behind the first.
    const tlbOffset = offsetIn(tlb, IO_TLB_SIZE) - alignOffset(dev, 0, orig);
    orig += tlbOffset;
    const left = slots.allocSize[slot]! - tlbOffset;
    let bytes = size;
    if (bytes > left) {
      const text = `Buffer overflow detected. Allocation size: ${left}. Mapping size: ${size}.`;
      devWarnOnce(dev, 'swiotlb_bounce', text);
      bytes = left;
    }
    const bank = this.#bank.contains(orig, bytes) ? this.#bank : this.kernel.machine.bankAt(orig);
    if (bank === null) throw new KernelBug(`bounce of 0x${orig.toString(16)}, where there is no RAM`);
    const here = Math.min(bytes, bank.base + bank.sizeBytes - orig);
    if (toSlots) copyPhys(this.#bank, tlb, bank, orig, here);
    else copyPhys(bank, orig, this.#bank, tlb, here);
    if (here < bytes) this.#bounceRest(tlb + here, orig + here, bytes - here, toSlots);
  }
  /** The part of a buffer that lies in the next bank. */
  #bounceRest(tlb: number, orig: number, size: number, toSlots: boolean): void {
    const bank = this.kernel.machine.bankAt(orig);
    if (bank === null) throw new KernelBug(`bounce of 0x${orig.toString(16)}, where there is no RAM`);
    if (toSlots) copyPhys(this.#bank, tlb, bank, orig, size);
    else copyPhys(bank, orig, this.#bank, tlb, size);
  }

  /** @linux swiotlb_tbl_unmap_single */
  unmap(dev: Device, tlb: PhysAddr, size: number, dir: DmaDataDirection, attrs: number): void {
    if ((attrs & DMA_ATTR_SKIP_CPU_SYNC) === 0 && dir !== DMA_TO_DEVICE) this.#bounce(dev, tlb, size, false);
    this.#release(dev, tlb);
  }
  #release(dev: Device, tlb: PhysAddr): void {
    const offset = alignOffset(dev, 0, tlb);
    this.used -= this.slots.release((tlb - offset - this.start) >>> IO_TLB_SHIFT, offset);
  }
  /** @linux swiotlb_sync_single_for_cpu */
  syncForCpu(dev: Device, tlb: PhysAddr, size: number, dir: DmaDataDirection): void {
    if (dir !== DMA_TO_DEVICE) this.#bounce(dev, tlb, size, false);
  }
  /** @linux swiotlb_sync_single_for_device */
  syncForDevice(dev: Device, tlb: PhysAddr, size: number, dir: DmaDataDirection): void {
    if (dir !== DMA_FROM_DEVICE) this.#bounce(dev, tlb, size, true);
  }
  /** A segment, less what aligning may cost. @linux swiotlb_max_mapping_size */
  maxMappingSize(dev: Device): number {
    return IO_TLB_SIZE * IO_TLB_SEGSIZE - nrSlots(dmaGetMinAlignMask(dev)) * IO_TLB_SIZE;
  }

  /** @linux swiotlb_alloc */
  allocPages(dev: Device, sizeBytes: number): Page | null {
    const slot = this.#find(dev, 0, sizeBytes, PAGE_SIZE * 2 ** getOrder(sizeBytes) - 1);
    if (slot < 0) return null;
    const tlb = (this.start + slot * IO_TLB_SIZE) as PhysAddr;
    if (tlb !== alignDown(tlb, PAGE_SIZE)) {
      const text = `Cannot allocate pages from non page-aligned swiotlb addr 0x${tlb.toString(16)}.`;
      devWarnOnce(dev, 'swiotlb_alloc', text);
      this.#release(dev, tlb);
      return null;
    }
    return physToPage(tlb);
  }
  /** @linux swiotlb_free */
  freePages(dev: Device, page: Page, _sizeBytes: number): boolean {
    if (page < pfnOf(this.start) || page >= pfnOf(this.mem.end)) return false;
    this.#release(dev, (page * PAGE_SIZE) as PhysAddr);
    return true;
  }
}
