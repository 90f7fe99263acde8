/** What a page frame is used for: kept for every frame of RAM, so that what the kernel refuses or warns of is known. */

/** Kinds of page frames. */
export const FrameKind = {
  /** In no use: a device that reaches it is a bug. */
  FREE: 0,
  /** Handed out by the page allocator. */
  PAGES: 1,
  /** Carved into objects by the slab allocator. */
  SLAB: 2,
  /** A kernel stack (mapped in vmalloc space, as CONFIG_VMAP_STACK does). */
  STACK: 3,
  /** Part of a vmalloc area. */
  VMALLOC: 4,
  KERNEL_TEXT: 5,
  KERNEL_RODATA: 6,
  KERNEL_DATA: 7,
  /** Data of a loaded module (mapped in vmalloc space). */
  MODULE_DATA: 8,
  /** A coherent DMA allocation. */
  COHERENT: 9,
  /** Set aside at boot: firmware, reserved-memory, swiotlb, CMA not lent out. */
  RESERVED: 10,
} as const;
/** One of `FrameKind`'s numbers. */
export type FrameKind = (typeof FrameKind)[keyof typeof FrameKind];

const names = Object.fromEntries(
  Object.entries(FrameKind).map(([name, kind]) => [kind, name.toLowerCase().replace('_', ' ')]),
);
/** For messages: `frameKindName(FrameKind.KERNEL_TEXT)` is `kernel text`. */
export function frameKindName(kind: FrameKind): string {
  return names[kind] as string;
}
