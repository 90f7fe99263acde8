/**
 * Which slots of a bounce pool are free: slots of 2 KiB in segments of 128, the pool divided into areas (one for each CPU,
 * so that they do not wait for each other). `list` of a slot says how many free slots of its segment begin there, so that
 * a search looks at one number a slot; each area remembers where its last search ended.
 */
import { alignUp, lowBits, PAGE_SIZE } from '../base/addr.ts';
import { isPowerOf2 } from '../base/bits.ts';
import { KernelBug } from '../base/errno.ts';

/** @linux IO_TLB_SHIFT */
export const IO_TLB_SHIFT = 11;
/** A slot, in bytes. @linux IO_TLB_SIZE */
export const IO_TLB_SIZE = 1 << IO_TLB_SHIFT;
/** Slots of a segment, which no bounce crosses. @linux IO_TLB_SEGSIZE */
export const IO_TLB_SEGSIZE = 128;
/** @internal `origAddr` of a free slot. @linux INVALID_PHYS_ADDR */
export const NO_ORIG = -1;

/** How many slots hold `sizeBytes` bytes. @linux nr_slots */
export function nrSlots(sizeBytes: number): number {
  return Math.ceil(sizeBytes / IO_TLB_SIZE);
}
/** How many slots lie between two boundaries. @linux get_max_slots */
export function getMaxSlots(boundaryMask: number): number {
  return Math.floor(boundaryMask / IO_TLB_SIZE) + 1;
}

/** What one search asks for. Filled in by the caller and used again, so that a search makes no garbage. */
export class SlotRequest {
  /** Bytes to allocate, alignment included. */
  allocSize = 0;
  /** The original address; 0: none that would have to be matched. */
  origAddr = 0;
  /** Low bits of the slots' address that must be 0: a power of two minus 1. */
  allocAlignMask = 0;
  /** The device's min_align_mask. */
  minAlignMask = 0;
  /** Offset in its first slot at which the data begin. */
  offset = 0;
  /** The first slot's bus address. */
  poolDmaAddr = 0;
  /** No bounce crosses a multiple of this plus one, in bus addresses. */
  boundaryMask = 0;
}

/** The slots of a pool. @linux struct io_tlb_pool */
export class SlotAreas {
  readonly nslabs: number;
  readonly nareas: number;
  readonly areaSlots: number;
  /** Free slots of the segment from this one on; 0: in use. */
  readonly list: Uint8Array;
  /** Original address of the bytes at the slot's start; `NO_ORIG` when free. */
  readonly origAddr: Float64Array;
  /** Bytes of the allocation from this slot on. */
  readonly allocSize: Int32Array;
  /** Slots left out before this one, for alignment. */
  readonly padSlots: Uint16Array;
  /** Where each area's next search begins. */
  readonly index: Int32Array;
  /** Slots of each area in use. */
  readonly used: Int32Array;

  /** `nareas` must divide `nslabs` into whole segments. @linux swiotlb_init_io_tlb_pool */
  constructor(nslabs: number, nareas: number) {
    this.nslabs = nslabs;
    this.nareas = nareas;
    this.areaSlots = Math.floor(nslabs / nareas);
    this.list = new Uint8Array(nslabs);
    this.origAddr = new Float64Array(nslabs).fill(NO_ORIG);
    this.allocSize = new Int32Array(nslabs);
    this.padSlots = new Uint16Array(nslabs);
    this.index = new Int32Array(nareas);
    this.used = new Int32Array(nareas);
    for (let i = 0; i < nslabs; i++) this.list[i] = Math.min(IO_TLB_SEGSIZE - (i % IO_TLB_SEGSIZE), nslabs - i);
  }
  /** Slots in use. @linux mem_used */
  get usedSlots(): number {
    let sum = 0;
    for (let i = 0; i < this.nareas; i++) sum += this.used[i]!;
    return sum;
  }

  /** Take slots for a request, from `firstArea` on. Returns the first slot; -1 without room. @linux swiotlb_find_slots */
  find(request: SlotRequest, firstArea: number): number {
    const { nareas } = this;
    let area = firstArea & (nareas - 1);
    for (let i = 0; i < nareas; i++) {
      const slot = this.#search(request, area);
      if (slot >= 0) return slot;
      if (++area >= nareas) area = 0;
    }
    return -1;
  }

  /** As swiotlb_search_pool_area. */
  #search(request: SlotRequest, area: number): number {
    const { list, areaSlots } = this;
    const { allocSize, origAddr } = request;
    const nslots = nrSlots(allocSize);
    if (nslots === 0) throw new KernelBug('at kernel/dma/swiotlb.c: bounce of no bytes');
    if (nslots > areaSlots - this.used[area]!) return -1;
    let alignMask = request.allocAlignMask;
    // Drivers were always given pages where they asked for a page or more, and rely on it.
    if (alignMask === 0 && request.minAlignMask === 0 && allocSize >= PAGE_SIZE) alignMask = PAGE_SIZE - 1;
    alignMask |= IO_TLB_SIZE - 1;
    // Bits below are kept by the offset in the slots.
    const matchMask = request.minAlignMask & ~alignMask;
    const stride = getMaxSlots(Math.max(alignMask, matchMask));
    const maxSlots = getMaxSlots(request.boundaryMask);
    const start = request.poolDmaAddr % (request.boundaryMask + 1);
    const firstSlot = nrSlots(start);
    const base = area * areaSlots;
    const maySpan = (firstSlot % maxSlots) + this.nslabs > maxSlots;
    if (maySpan && !isPowerOf2(maxSlots)) throw new KernelBug('at include/linux/iommu-helper.h: odd boundary');
    // Only low bits are compared, which truncation to 32 bits keeps.
    const low = start | 0;
    const compared = origAddr === 0 ? alignMask : alignMask | matchMask;
    const aligned = origAddr === 0 ? 0 : lowBits(origAddr, matchMask) | 0;
    let index = this.index[area]!;
    for (let checked = 0; checked < areaSlots; ) {
      const slot = base + index;
      let step = stride;
      if (((low + (slot << IO_TLB_SHIFT)) & compared) !== aligned) step = 1;
      else if (list[slot]! >= nslots && !(maySpan && spans(firstSlot + slot, nslots, maxSlots))) {
        this.#claim(slot, nslots, allocSize - request.offset);
        index += nslots;
        this.index[area] = index >= areaSlots ? 0 : index;
        this.used[area] = this.used[area]! + nslots;
        return slot;
      }
      index += step;
      if (index >= areaSlots) index = 0;
      checked += step;
    }
    return -1;
  }
  #claim(slot: number, nslots: number, bytes: number): void {
    const { list, allocSize } = this;
    for (let i = 0; i < nslots; i++) {
      list[slot + i] = 0;
      allocSize[slot + i] = bytes - (i << IO_TLB_SHIFT);
    }
    let count = 0;
    for (let i = slot - 1; i >= 0 && i % IO_TLB_SEGSIZE !== IO_TLB_SEGSIZE - 1 && list[i] !== 0; i--) list[i] = ++count;
  }

  /**
   * Give slots back. `slot` is where the data begin; what was left out before it goes along. Returns how many were freed.
   * @linux swiotlb_release_slots
   */
  release(slot: number, offset: number): number {
    const { list, origAddr, allocSize, padSlots } = this;
    const first = slot - padSlots[slot]!;
    const nslots = nrSlots(allocSize[first]! + offset);
    const end = first + nslots;
    let count = end < alignUp(first + 1, IO_TLB_SEGSIZE) ? list[end]! : 0;
    for (let i = end - 1; i >= first; i--) {
      list[i] = ++count;
      origAddr[i] = NO_ORIG;
      allocSize[i] = 0;
      padSlots[i] = 0;
    }
    for (let i = first - 1; i >= 0 && i % IO_TLB_SEGSIZE !== IO_TLB_SEGSIZE - 1 && list[i] !== 0; i--)
      list[i] = ++count;
    const area = Math.floor(first / this.areaSlots);
    this.used[area] = this.used[area]! - nslots;
    return nslots;
  }
}

/** Whether slots [slot, slot+count) cross a multiple of `boundary`, a power of two (iommu_is_span_boundary). */
function spans(slot: number, count: number, boundary: number): boolean {
  return (slot % boundary) + count > boundary;
}
