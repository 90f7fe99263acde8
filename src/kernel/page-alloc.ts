/**
 * The page allocator: zones, the order in which they are tried, watermarks, and what the kernel says when it cannot
 * serve. The blocks themselves are the buddy allocator's (buddy.ts), what is known of each frame the frame table's.
 */
import { ADDR_LIMIT, alignUp, PAGE_SIZE, type PhysAddr, pfnOf } from '../base/addr.ts';
import { getOrder } from '../base/bits.ts';
import { FrameKind } from '../machine/frames.ts';
import type { Mem } from '../machine/mem.ts';
import { Buddy } from './buddy.ts';
import { mightSleep } from './context.ts';
import { FrameFlag, FrameState, FrameTable, MAX_PAGE_ORDER, MigrateType, type Page } from './frame-table.ts';
import {
  __GFP_DIRECT_RECLAIM,
  __GFP_DMA,
  __GFP_DMA32,
  __GFP_HIGH,
  __GFP_HIGHMEM,
  __GFP_MEMALLOC,
  __GFP_MOVABLE,
  __GFP_NOMEMALLOC,
  __GFP_NOWARN,
  __GFP_RECLAIMABLE,
  __GFP_ZERO,
  type Gfp,
  gfpNames,
} from './gfp.ts';
import type { Kernel } from './kernel.ts';
import { splat, warnOnce } from './panic.ts';
import { prWarn } from './printk.ts';
import { Ratelimit } from './ratelimit.ts';

export { MAX_PAGE_ORDER, MigrateType, type Page } from './frame-table.ts';

/** The zones, lowest first. */
export const ZONE_NAMES = ['DMA', 'DMA32', 'NORMAL', 'HIGHMEM'] as const;
export type ZoneName = (typeof ZONE_NAMES)[number];
/** Index of the zone that devices with the narrowest masks reach. @linux ZONE_DMA */
export const ZONE_DMA = 0;
/** Below 4 GiB. @linux ZONE_DMA32 */
export const ZONE_DMA32 = 1;
/** The rest of the linear map. @linux ZONE_NORMAL */
export const ZONE_NORMAL = 2;
/** Without an address of its own: kmap. @linux ZONE_HIGHMEM */
export const ZONE_HIGHMEM = 3;
/** What a zone keeps from allocations that could have come from the zones above: one page in so many of theirs. */
const LOWMEM_RESERVE_RATIO = [256, 256, 32, 0];

const MIB = 2 ** 20;
/** Sizes of the kernel image's parts. */
const IMAGE_PART_BYTES = 64 * 1024;

/** A zone as it is seen from outside. */
export interface Zone {
  readonly name: ZoneName;
  readonly startPfn: number;
  /** One past the last page frame. */
  readonly endPfn: number;
  /** Pages the allocator has to give. */
  readonly managed: number;
  readonly free: number;
  /** Free blocks by order. */
  readonly freeBlocks: readonly number[];
}

/** See the file's head. One for each kernel, at `kernel.pages`. */
export class PageAllocator {
  /** One failure in ten seconds is told. */
  readonly #noPage: Ratelimit;
  /** @internal */
  readonly frames: FrameTable;
  /** @internal */
  readonly buddy: Buddy;
  /** Last address that ZONE_DMA may hold; 2^24-1 when there is no such zone, as in the kernel. @linux zone_dma_limit */
  readonly zoneDmaLimit: number;
  /** @linux CONFIG_ZONE_DMA */
  readonly hasZoneDma: boolean;
  /** @linux CONFIG_ZONE_DMA32 */
  readonly hasZoneDma32: boolean;
  /** One past the last page frame of RAM. @linux max_pfn */
  readonly maxPfn: number;
  /** First byte of the kernel image: text, rodata and data, `IMAGE_PART_BYTES` each. */
  readonly kernelImage: PhysAddr;
  readonly imagePartBytes = IMAGE_PART_BYTES;
  /**
   * Told when a movable page is moved, before its old frame is given away: whoever refers to it must refer to the new
   * one from then on. Returns false when the page cannot be moved now.
   */
  readonly migrateHooks: ((from: Page, to: Page) => boolean)[] = [];
  readonly #kernel: Kernel;
  readonly #limits: readonly number[];
  readonly #managed = [0, 0, 0, 0];
  readonly #watermarkMin = [0, 0, 0, 0];
  /** By zone and by the highest zone that the allocation may use. */
  readonly #reserve: number[][];

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
    this.#noPage = new Ratelimit(kernel, '', 10e9, 1);
    const { machine, options } = kernel;
    const dmaEnd = options.zoneDmaLimit ?? 16 * MIB;
    const dma32End = options.zoneDma32Limit ?? 2 ** 32;
    this.hasZoneDma = dmaEnd > 0;
    this.hasZoneDma32 = dma32End > 0;
    this.zoneDmaLimit = (dmaEnd > 0 ? dmaEnd : 16 * MIB) - 1;
    this.#limits = [dmaEnd, dma32End, options.highmemStart ?? ADDR_LIMIT, ADDR_LIMIT];
    this.frames = new FrameTable(machine.ram);
    this.buddy = new Buddy(this.frames, ZONE_NAMES.length);
    const last = this.frames.spans[this.frames.spans.length - 1];
    this.maxPfn = last === undefined ? 0 : last.basePfn + last.count;
    this.#assignZones();
    this.kernelImage = this.#placeImage();
    this.#boot();
    this.#reserve = ZONE_NAMES.map((_, zone) =>
      ZONE_NAMES.map((_, highest) => {
        let above = 0;
        for (let i = zone + 1; i <= highest; i++) above += this.#managed[i]!;
        const ratio = LOWMEM_RESERVE_RATIO[zone]!;
        return ratio === 0 ? 0 : Math.floor(above / ratio);
      }),
    );
    this.#setWatermarks();
  }

  #assignZones(): void {
    for (const { basePfn, count, first } of this.frames.spans) {
      let from = 0;
      for (let zone = 0; zone < ZONE_NAMES.length; zone++) {
        const to = Math.min(count, Math.max(from, Math.floor(this.#limits[zone]! / PAGE_SIZE) - basePfn));
        this.frames.zone.fill(zone, first + from, first + to);
        from = to;
      }
    }
  }
  /** Where the kernel's image lies: above the first 16 MiB where there is room, else behind the first page. */
  #placeImage(): PhysAddr {
    const { ram } = this.#kernel.machine;
    const bank = ram.find(({ sizeBytes }) => sizeBytes >= 32 * MIB) ?? ram[0];
    if (bank === undefined) return 0 as PhysAddr;
    const roomy = bank.sizeBytes >= 32 * MIB;
    const at = roomy ? Math.max(alignUp(bank.base, 2 * MIB), 16 * MIB) : bank.base + PAGE_SIZE;
    return at as PhysAddr;
  }
  #boot(): void {
    const { spans } = this.frames;
    const taken: { start: number; end: number }[] = [];
    const reserve = (phys: number, sizeBytes: number, kind: number): void => {
      const firstPfn = pfnOf(phys);
      const endPfn = pfnOf(phys + sizeBytes + PAGE_SIZE - 1);
      for (const span of spans) {
        const from = Math.max(firstPfn - span.basePfn, 0);
        const to = Math.min(endPfn - span.basePfn, span.count);
        if (from >= to) continue;
        span.bank.kinds.fill(kind, from, to);
        taken.push({ start: span.first + from, end: span.first + to });
      }
    };
    // Page frame 0 stays unused: the real mode area on x86; elsewhere too, so that no page is 0.
    reserve(0, PAGE_SIZE, FrameKind.RESERVED);
    const kinds = [FrameKind.KERNEL_TEXT, FrameKind.KERNEL_RODATA, FrameKind.KERNEL_DATA];
    kinds.forEach((kind, i) => {
      reserve(this.kernelImage + i * IMAGE_PART_BYTES, IMAGE_PART_BYTES, kind);
    });
    for (const { phys, sizeBytes, kind } of this.#kernel.options.reserved ?? []) {
      reserve(phys, sizeBytes, kind ?? FrameKind.RESERVED);
    }
    taken.sort((a, b) => a.start - b.start);
    for (const { first, count } of spans) {
      let at = first;
      const end = first + count;
      for (const range of taken) {
        if (range.end <= at || range.start >= end) continue;
        if (range.start > at) this.#giveAtBoot(at, range.start - at);
        at = Math.max(at, range.end);
      }
      if (at < end) this.#giveAtBoot(at, end - at);
    }
  }
  #giveAtBoot(index: number, count: number): void {
    const { zone } = this.frames;
    for (let i = index; i < index + count; i++) this.#managed[zone[i]!] = this.#managed[zone[i]!]! + 1;
    this.buddy.release(index, count);
  }
  /** As init_per_zone_wmark_min. */
  #setWatermarks(): void {
    const low = this.#managed[0]! + this.#managed[1]! + this.#managed[2]!;
    const minKib = Math.min(262144, Math.max(128, Math.floor(Math.sqrt(low * 4 * 16))));
    for (let zone = 0; zone < ZONE_HIGHMEM; zone++) {
      if (low > 0) this.#watermarkMin[zone] = Math.floor(((minKib / 4) * this.#managed[zone]!) / low);
    }
    this.#watermarkMin[ZONE_HIGHMEM] = Math.min(128, Math.floor(this.#managed[ZONE_HIGHMEM]! / 1024));
  }

  /** A zone by name; empty when the board has none. Throws on an unknown name. */
  zone(name: ZoneName): Zone {
    const id = ZONE_NAMES.indexOf(name);
    if (id < 0) throw new Error(`zones are ${ZONE_NAMES.join(', ')}; found '${name}'`);
    const { zone } = this.frames;
    const first = zone.indexOf(id);
    const last = zone.lastIndexOf(id);
    return {
      name,
      startPfn: first < 0 ? 0 : this.frames.pageAt(first),
      endPfn: first < 0 ? 0 : this.frames.pageAt(last) + 1,
      managed: this.#managed[id]!,
      free: this.buddy.free[id]!,
      freeBlocks: this.buddy.freeBlocks(id),
    };
  }
  /** Free pages of all zones. @linux nr_free_pages */
  get freePages(): number {
    let sum = 0;
    for (const count of this.buddy.free) sum += count;
    return sum;
  }
  /** Pages the allocator has to give, free or not. @linux totalram_pages */
  get managedPages(): number {
    return this.#managed.reduce((sum, count) => sum + count, 0);
  }
  /** @internal Frames that were reserved belong to the allocator from now on, or the other way round. */
  adjustManaged(zone: number, pages: number): void {
    this.#managed[zone] = this.#managed[zone]! + pages;
  }

  #highestZone(gfp: Gfp): number {
    if ((gfp & __GFP_DMA) !== 0 && this.hasZoneDma) return ZONE_DMA;
    if ((gfp & __GFP_DMA32) !== 0 && this.hasZoneDma32) return ZONE_DMA32;
    return (gfp & __GFP_HIGHMEM) !== 0 ? ZONE_HIGHMEM : ZONE_NORMAL;
  }

  /** @internal The index of a block's first frame, or -1. No checks, no message. */
  take(gfp: Gfp, order: number): number {
    const highest = this.#highestZone(gfp);
    const type =
      (gfp & __GFP_MOVABLE) !== 0
        ? MigrateType.MOVABLE
        : (gfp & __GFP_RECLAIMABLE) !== 0
          ? MigrateType.RECLAIMABLE
          : MigrateType.UNMOVABLE;
    let index = this.#fromZones(highest, order, type, gfp);
    if (index < 0) {
      // Frames on the per-CPU stacks may be what is missing.
      this.buddy.drain();
      index = this.#fromZones(highest, order, type, gfp);
    }
    return index;
  }
  #fromZones(highest: number, order: number, type: MigrateType, gfp: Gfp): number {
    for (let zone = highest; zone >= 0; zone--) {
      const free = this.buddy.free[zone]!;
      if (free < 1 << order) continue;
      if ((gfp & __GFP_MEMALLOC) === 0 || (gfp & __GFP_NOMEMALLOC) !== 0) {
        let floor = this.#watermarkMin[zone]!;
        if ((gfp & __GFP_HIGH) !== 0) floor -= floor >> 1;
        const usable = type === MigrateType.MOVABLE ? free : free - this.buddy.freeCma[zone]!;
        if (usable - (1 << order) < floor + this.#reserve[zone]![highest]!) continue;
      }
      const index = this.buddy.take(zone, order, type);
      if (index >= 0) return index;
    }
    return -1;
  }

  /** @internal See `allocPages`. */
  alloc(gfp: Gfp, order: number): Page | null {
    const kernel = this.#kernel;
    if (order > MAX_PAGE_ORDER) {
      warnOnce(kernel, (gfp & __GFP_NOWARN) === 0, `mm/page_alloc.c: order ${order} exceeds MAX_PAGE_ORDER`);
      return null;
    }
    if ((gfp & __GFP_DIRECT_RECLAIM) !== 0) mightSleep(kernel, 'mm/page_alloc.c: alloc_pages');
    const index = this.take(gfp, order);
    if (index < 0) {
      if ((gfp & __GFP_NOWARN) === 0) this.#warnAlloc(gfp, order);
      return null;
    }
    const count = 1 << order;
    const { frames } = this;
    frames.flags[index] = (gfp & __GFP_MOVABLE) !== 0 ? FrameFlag.MOVABLE : 0;
    frames.setKind(index, count, FrameKind.PAGES);
    frames.markMems(index, count, false);
    if ((gfp & __GFP_ZERO) !== 0) frames.zero(index, count);
    if (kernel.observer !== null) {
      kernel.observer.alloc?.(kernel.machine.now(), 'pages', frames.physAt(index), count * PAGE_SIZE);
    }
    return frames.pageAt(index);
  }
  #warnAlloc(gfp: Gfp, order: number): void {
    if (!this.#noPage.allow()) return;
    const kernel = this.#kernel;
    const task = kernel.machine.scheduler.current?.name ?? 'swapper/0';
    const mode = `0x${gfp.toString(16)}(${gfpNames(gfp)})`;
    prWarn(kernel, `${task}: page allocation failure: order:${order}, mode:${mode}, nodemask=(null)`);
    for (const name of ZONE_NAMES) {
      const zone = this.zone(name);
      if (zone.managed > 0) prWarn(kernel, `${name} free:${zone.free * 4}kB managed:${zone.managed * 4}kB`);
    }
  }

  /** @internal See `__freePages`. */
  release(page: Page, order: number): void {
    const kernel = this.#kernel;
    const { frames } = this;
    const index = frames.indexOf(page);
    const problem = this.#freeProblem(index, order);
    if (problem !== null) {
      const task = kernel.machine.scheduler.current?.name ?? 'swapper/0';
      const pfn = page.toString(16).padStart(5, '0');
      splat(kernel, 'memory', `BUG: Bad page state in process ${task}  pfn:${pfn}`, [
        `page dumped because: ${problem}`,
      ]);
      return;
    }
    const count = 1 << order;
    if (kernel.observer !== null) {
      kernel.observer.free?.(kernel.machine.now(), 'pages', frames.physAt(index), count * PAGE_SIZE);
    }
    frames.setKind(index, count, FrameKind.FREE);
    frames.markMems(index, count, true);
    this.buddy.give(index, order);
  }
  #freeProblem(index: number, order: number): string | null {
    if (index < 0) return 'no such page';
    const state = this.frames.state[index]!;
    if (state === (FrameState.ALLOCATED | order)) return null;
    if ((state & FrameState.FREE) !== 0) return 'it is free already (double free)';
    if (state === FrameState.RESERVED) return 'it is reserved';
    const allocated = this.frames.allocatedOrder(index);
    if (allocated < 0) return 'it is free already, or within a larger block';
    return `it was allocated with order ${allocated} and is freed with order ${order}`;
  }
}

/**
 * Allocate 2^order physically contiguous pages. Null when there is no such block, after the kernel's message unless
 * `__GFP_NOWARN`; also for orders above MAX_PAGE_ORDER, with a warning. May sleep with `__GFP_DIRECT_RECLAIM`.
 * @linux alloc_pages
 */
export function allocPages(kernel: Kernel, gfp: Gfp, order: number): Page | null {
  return kernel.pages.alloc(gfp, order);
}
/** One page. @linux alloc_page */
export function allocPage(kernel: Kernel, gfp: Gfp): Page | null {
  return kernel.pages.alloc(gfp, 0);
}
/** Give back what `allocPages` returned, with the same order; anything else is reported and left alone. Any context. @linux __free_pages */
export function __freePages(kernel: Kernel, page: Page, order: number): void {
  kernel.pages.release(page, order);
}
/** @linux __free_page */
export function __freePage(kernel: Kernel, page: Page): void {
  kernel.pages.release(page, 0);
}
/** As `allocPages`, but as a pointer; never from HIGHMEM. @linux __get_free_pages */
export function getFreePages(kernel: Kernel, gfp: Gfp, order: number): Mem | null {
  const page = kernel.pages.alloc(gfp & ~__GFP_HIGHMEM, order);
  return page === null ? null : pageAddress(kernel, page);
}
/** @linux __get_free_page */
export function getFreePage(kernel: Kernel, gfp: Gfp): Mem | null {
  return getFreePages(kernel, gfp, 0);
}
/** @linux get_zeroed_page */
export function getZeroedPage(kernel: Kernel, gfp: Gfp): Mem | null {
  return getFreePages(kernel, gfp | __GFP_ZERO, 0);
}
/** @linux free_pages, free_page */
export function freePages(kernel: Kernel, mem: Mem, order: number): void {
  kernel.pages.release(virtToPage(mem), order);
}
/**
 * Turn a block of 2^order pages into as many single pages, each to be freed by itself. @linux split_page
 */
export function splitPage(kernel: Kernel, page: Page, order: number): void {
  const { frames } = kernel.pages;
  const index = frames.indexOf(page);
  if (index < 0 || frames.allocatedOrder(index) !== order) {
    throw new Error(`splitPage: page ${page} is no allocated block of order ${order}`);
  }
  frames.markMems(index, 1 << order, true);
  frames.flags.fill(frames.flags[index]!, index, index + (1 << order));
  frames.state.fill(FrameState.ALLOCATED, index, index + (1 << order));
}
/** Contiguous pages for `size` bytes, the rest of the power of two given back at once. @linux alloc_pages_exact */
export function allocPagesExact(kernel: Kernel, size: number, gfp: Gfp): Mem | null {
  const order = getOrder(size);
  const page = kernel.pages.alloc(gfp & ~__GFP_HIGHMEM, order);
  if (page === null) return null;
  splitPage(kernel, page, order);
  const count = Math.ceil(size / PAGE_SIZE);
  for (let i = count; i < 1 << order; i++) kernel.pages.release((page + i) as Page, 0);
  const { frames } = kernel.pages;
  return frames.newMem(frames.indexOf(page), count * PAGE_SIZE, true);
}
/** Give back what `allocPagesExact` returned. @linux free_pages_exact */
export function freePagesExact(kernel: Kernel, mem: Mem, size: number): void {
  const page = virtToPage(mem);
  for (let i = 0; i < Math.ceil(size / PAGE_SIZE); i++) kernel.pages.release((page + i) as Page, 0);
  mem.freed = true;
}

/** @linux page_to_phys */
export function pageToPhys(page: Page): PhysAddr {
  return (page * PAGE_SIZE) as PhysAddr;
}
/** @linux phys_to_page */
export function physToPage(phys: PhysAddr): Page {
  return pfnOf(phys) as Page;
}
/** @linux page_to_pfn */
export function pageToPfn(page: Page): number {
  return page;
}
/** @linux pfn_to_page */
export function pfnToPage(pfn: number): Page {
  return pfn as Page;
}
/** Whether there is RAM behind a page frame number. @linux pfn_valid */
export function pfnValid(kernel: Kernel, pfn: number): boolean {
  return kernel.pages.frames.indexOf(pfn) >= 0;
}
/** The page a linear-map pointer lies in. @linux virt_to_page */
export function virtToPage(mem: Mem): Page {
  return pfnOf(mem.phys) as Page;
}
/** @linux virt_to_phys, __pa */
export function virtToPhys(mem: Mem): PhysAddr {
  return mem.phys;
}
/** Whether the page has no address in the linear map. @linux PageHighMem */
export function PageHighMem(kernel: Kernel, page: Page): boolean {
  const index = kernel.pages.frames.indexOf(page);
  return index >= 0 && kernel.pages.frames.zone[index] === ZONE_HIGHMEM;
}
/**
 * The pointer to a page: to the whole block when the page is the first of an allocated one, else to that one page. The
 * same object every time. Null for HIGHMEM pages (use `kmap`) and where there is no RAM. @linux page_address
 */
export function pageAddress(kernel: Kernel, page: Page): Mem | null {
  const { frames } = kernel.pages;
  const index = frames.indexOf(page);
  if (index < 0 || frames.zone[index] === ZONE_HIGHMEM) return null;
  const order = frames.allocatedOrder(index);
  return frames.mem(index, order > 0 ? PAGE_SIZE << order : PAGE_SIZE);
}
/** @internal Kernel-internal pointer through the linear map to any RAM; throws where there is none. @linux phys_to_virt, __va */
export function memAt(kernel: Kernel, phys: number, sizeBytes: number): Mem {
  const { frames } = kernel.pages;
  const index = frames.indexOf(pfnOf(phys));
  const bank = index < 0 ? null : kernel.machine.bankAt(phys);
  if (bank === null || !bank.contains(phys, sizeBytes)) {
    throw new Error(`memAt: no RAM at 0x${phys.toString(16)}+${sizeBytes}`);
  }
  const page = phys - (phys % PAGE_SIZE);
  if (page === phys && sizeBytes === PAGE_SIZE) return frames.mem(index, PAGE_SIZE);
  return frames.newMem(index, phys - page + sizeBytes, true).slice(phys - page, sizeBytes);
}
