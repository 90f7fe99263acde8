/** Memory that random programs map: a part in the middle, and bytes beside it which the CPU keeps using. */
import { alignUp, getOrder, PAGE_SIZE } from '../base/index.ts';
import {
  freePages,
  GFP_DMA,
  GFP_KERNEL,
  getFreePages,
  type Kernel,
  kfree,
  kmalloc,
  type Mem,
  type Page,
  vfree,
  virtToPage,
  vmalloc,
  vmallocToPage,
} from '../kernel/index.ts';

export type Source = 'kmalloc' | 'pages' | 'vmalloc';

/** What is beside the part must stay as the CPU left it. */
export class ProgramBuffer {
  /** What is mapped. */
  readonly part: Mem;
  /** Its page, and where it begins in it: for `dmaMapPage`. */
  readonly page: Page;
  readonly offset: number;
  readonly #guards: readonly Mem[];
  readonly #free: () => void;
  #guard = 0;

  private constructor(part: Mem, page: Page, offset: number, guards: readonly Mem[], free: () => void) {
    this.part = part;
    this.page = page;
    this.offset = offset;
    this.#guards = guards;
    this.#free = free;
  }

  /**
   * `size` bytes, not at the memory's beginning. What lies beside them begins right there, or with the next of `line` bytes where
   * lines must not be shared (0: they may be). Null when there is no memory.
   */
  static make(kernel: Kernel, source: Source, size: number, at: number, line: number, low: boolean) {
    const lead = line === 0 ? at % 200 : line * (at % 4);
    const end = line === 0 ? lead + size : alignUp(lead + size, line);
    const bytes = end + (line === 0 ? at % 5 : line);
    const gfp = low ? GFP_KERNEL | GFP_DMA : GFP_KERNEL;
    if (source === 'vmalloc') return ProgramBuffer.#vmalloc(kernel, lead, end, Math.min(size, 3000));
    const order = getOrder(bytes);
    const whole = source === 'kmalloc' ? kmalloc(kernel, bytes, gfp) : getFreePages(kernel, gfp, order);
    if (whole === null) return null;
    const free = source === 'kmalloc' ? () => kfree(kernel, whole) : () => freePages(kernel, whole, order);
    const part = whole.slice(lead, size);
    const guards = [whole.slice(0, lead), whole.slice(end, bytes - end)];
    return new ProgramBuffer(part, virtToPage(part), part.phys % PAGE_SIZE, guards, free);
  }
  static #vmalloc(kernel: Kernel, lead: number, end: number, size: number): ProgramBuffer | null {
    const area = vmalloc(kernel, PAGE_SIZE);
    if (area === null) return null;
    const guards = [area.at(0, lead)];
    if (end < PAGE_SIZE) guards.push(area.at(end, PAGE_SIZE - end));
    return new ProgramBuffer(area.at(lead, size), vmallocToPage(area, 0), lead, guards, () => vfree(area));
  }

  /** The CPU writes what is beside the part. */
  guard(value: number): void {
    this.#guard = value;
    for (const { bytes } of this.#guards) bytes.fill(value);
  }
  /** Check it, and give all back. */
  free(): void {
    for (const { bytes } of this.#guards) {
      const at = bytes.findIndex((byte) => byte !== this.#guard);
      if (at >= 0) throw new Error(`byte ${at} beside a mapping became ${bytes[at]}, the CPU wrote ${this.#guard}`);
    }
    this.#free();
  }
}
