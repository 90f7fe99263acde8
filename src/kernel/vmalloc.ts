/**
 * Memory outside the linear map: vmalloc areas of scattered frames, stacks, module data; and the kernel's own image. The
 * CPU uses it like any other, but an address in it is no base for DMA.
 */
import { offsetInPage, PAGE_SIZE, type PhysAddr } from '../base/addr.ts';
import { getOrder } from '../base/bits.ts';
import { FrameKind } from '../machine/frames.ts';
import { Mem } from '../machine/mem.ts';
import { mightSleep } from './context.ts';
import { __GFP_HIGHMEM, __GFP_ZERO, GFP_KERNEL } from './gfp.ts';
import type { Kernel } from './kernel.ts';
import { __freePages, allocPage, allocPages, type Page, pageToPhys, virtToPage } from './page-alloc.ts';
import { splat } from './panic.ts';

/** A virtually contiguous area. Its frames are scattered, so that no single `Mem` covers it. */
export class VmallocArea {
  readonly kernel: Kernel;
  readonly size: number;
  /** In the order of the area. */
  readonly pages: readonly Page[];
  readonly #mems: Mem[];
  freed = false;

  /** @internal Use `vmalloc`. */
  constructor(kernel: Kernel, size: number, pages: readonly Page[]) {
    this.kernel = kernel;
    this.size = size;
    this.pages = pages;
    const { frames } = kernel.pages;
    this.#mems = pages.map((page) => frames.newMem(frames.indexOf(page), PAGE_SIZE, false));
  }
  /** Pointer to part of the area; the part must lie within one page. Throws `RangeError` otherwise. */
  at(offset: number, size: number): Mem {
    this.#check(offset, size);
    if (size > PAGE_SIZE - offsetInPage(offset)) {
      throw new RangeError(`[${offset}, ${offset + size}) crosses a page: its frames are not contiguous`);
    }
    return this.#mems[Math.floor(offset / PAGE_SIZE)]!.slice(offsetInPage(offset), size);
  }
  /** Copy out, across pages. */
  read(offset: number, size: number): Uint8Array {
    this.#check(offset, size);
    const out = new Uint8Array(size);
    for (let done = 0; done < size; ) {
      const part = this.#part(offset + done, size - done);
      out.set(part, done);
      done += part.length;
    }
    return out;
  }
  /** Copy in, across pages. */
  write(offset: number, bytes: Uint8Array): void {
    this.#check(offset, bytes.length);
    for (let done = 0; done < bytes.length; ) {
      const part = this.#part(offset + done, bytes.length - done);
      part.set(bytes.subarray(done, done + part.length));
      done += part.length;
    }
  }
  #check(offset: number, size: number): void {
    if (offset < 0 || size < 0 || offset + size > this.size) {
      throw new RangeError(`[${offset}, ${offset + size}) lies outside an area of ${this.size} bytes`);
    }
  }
  #part(offset: number, size: number): Uint8Array {
    const within = offsetInPage(offset);
    const { bytes } = this.#mems[Math.floor(offset / PAGE_SIZE)]!;
    return bytes.subarray(within, Math.min(PAGE_SIZE, within + size));
  }
  /** @internal */
  release(): void {
    this.freed = true;
    for (const mem of this.#mems) mem.freed = true;
    for (const page of this.pages) __freePages(this.kernel, page, 0);
  }
}

/** An area of at least `size` bytes, in whole pages. Null when there is no memory, or `size` is 0. May sleep. @linux vmalloc */
export function vmalloc(kernel: Kernel, size: number): VmallocArea | null {
  return allocate(kernel, size, 0);
}
/** @linux vzalloc */
export function vzalloc(kernel: Kernel, size: number): VmallocArea | null {
  return allocate(kernel, size, __GFP_ZERO);
}
function allocate(kernel: Kernel, size: number, extra: number): VmallocArea | null {
  mightSleep(kernel, 'mm/vmalloc.c: vmalloc');
  const count = Math.ceil(size / PAGE_SIZE);
  if (count === 0) return null;
  const pages: Page[] = [];
  for (let i = 0; i < count; i++) {
    const page = allocPage(kernel, GFP_KERNEL | __GFP_HIGHMEM | extra);
    if (page === null) {
      for (const taken of pages) __freePages(kernel, taken, 0);
      return null;
    }
    pages.push(page);
  }
  // Neighbours in the area are no neighbours in memory, as after a while on every machine.
  pages.reverse();
  const { frames } = kernel.pages;
  for (const page of pages) frames.setKind(frames.indexOf(page), 1, FrameKind.VMALLOC);
  kernel.observer?.alloc?.(kernel.machine.now(), 'vmalloc', pageToPhys(pages[0]!), count * PAGE_SIZE);
  return new VmallocArea(kernel, size, pages);
}
/** Give an area back; null is ignored, a double free reported. May sleep. @linux vfree */
export function vfree(area: VmallocArea | null): void {
  if (area === null) return;
  const { kernel } = area;
  if (area.freed) {
    splat(kernel, 'memory', 'WARNING: Trying to vfree() nonexistent vm area');
    return;
  }
  kernel.observer?.free?.(kernel.machine.now(), 'vmalloc', pageToPhys(area.pages[0]!), area.pages.length * PAGE_SIZE);
  area.release();
}
/** The page behind an address of an area, or of a stack or module. @linux vmalloc_to_page */
export function vmallocToPage(area: VmallocArea | Mem, offset = 0): Page {
  if (!(area instanceof VmallocArea)) return virtToPage(offset === 0 ? area : area.slice(offset));
  const page = area.pages[Math.floor(offset / PAGE_SIZE)];
  if (page === undefined) throw new RangeError(`offset ${offset} lies outside an area of ${area.size} bytes`);
  return page;
}
/** Whether a pointer lies in vmalloc space: vmalloc areas and stacks; module data has a space of its own. @linux is_vmalloc_addr */
export function isVmallocAddr(mem: Mem): boolean {
  return !mem.linear && mem.bank.kindAt(mem.phys) !== FrameKind.MODULE_DATA;
}

function allocateMapped(kernel: Kernel, size: number, kind: FrameKind): Mem {
  const order = getOrder(size);
  const page = allocPages(kernel, GFP_KERNEL | __GFP_ZERO, order);
  if (page === null) throw new Error(`no memory for ${size} bytes`);
  const { frames } = kernel.pages;
  const index = frames.indexOf(page);
  frames.setKind(index, 1 << order, kind);
  return frames.newMem(index, size, false);
}
/**
 * Memory like that of a task's stack (CONFIG_VMAP_STACK): a local array of a driver, which must not be mapped. Free it with
 * `freeTaskStack`. Throws when there is no memory.
 */
export function taskStack(kernel: Kernel, size: number): Mem {
  return allocateMapped(kernel, size, FrameKind.STACK);
}
export function freeTaskStack(kernel: Kernel, stack: Mem): void {
  stack.freed = true;
  __freePages(kernel, virtToPage(stack), getOrder(stack.size));
}
/** Static data of a module, which is not in the linear map. Free it with `freeModuleData`. Throws when there is no memory. */
export function moduleData(kernel: Kernel, size: number): Mem {
  return allocateMapped(kernel, size, FrameKind.MODULE_DATA);
}
export function freeModuleData(kernel: Kernel, data: Mem): void {
  data.freed = true;
  __freePages(kernel, virtToPage(data), getOrder(data.size));
}

/** The kernel's own image in memory. */
export interface KernelImage {
  readonly text: Mem;
  readonly rodata: Mem;
  readonly data: Mem;
}
/** Pointers to the kernel's text, constants and data (all in the linear map). @linux _text, __start_rodata, _sdata */
export function kernelImage(kernel: Kernel): KernelImage {
  const { kernelImage: start, imagePartBytes } = kernel.pages;
  const part = (i: number): Mem => {
    const phys = (start + i * imagePartBytes) as PhysAddr;
    const bank = kernel.machine.bankAt(phys)!;
    const at = phys - bank.base;
    return new Mem(bank, phys, imagePartBytes, bank.cpu.subarray(at, at + imagePartBytes), true);
  };
  return { text: part(0), rodata: part(1), data: part(2) };
}
