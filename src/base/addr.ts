/**
 * Addresses. The only file that may split, mask or combine addresses: JavaScript's bit operators truncate to 32 bits
 * silently, so every other file uses these helpers.
 *
 * An address is a number below 2^52, branded by the space it belongs to; mixing spaces does not compile.
 */

declare const space: unique symbol;

/** Physical address: what the CPU's page tables and the memory controller use. @linux phys_addr_t */
export type PhysAddr = number & { readonly [space]: 'phys' };
/** Bus address: what a device puts on its bus to reach memory. @linux dma_addr_t, dma64_addr_t */
export type DmaAddr = number & { readonly [space]: 'dma' };
/** I/O virtual address: what an IOMMU translates. A `DmaAddr` of a device behind an IOMMU is an `Iova` of its domain. */
export type Iova = number & { readonly [space]: 'iova' };
/** Any branded address. */
export type Addr = PhysAddr | DmaAddr | Iova;

/** One past the largest address that is representable here (2^52). */
export const ADDR_LIMIT = 2 ** 52;
/** @linux PAGE_SHIFT */
export const PAGE_SHIFT = 12;
/** Page size in bytes. @linux PAGE_SIZE */
export const PAGE_SIZE = 4096;

const TWO_32 = 0x1_0000_0000;

/** Brand a number as a physical address. Throws `RangeError` unless it is an integer in [0, 2^52). */
export function physAddr(n: number): PhysAddr {
  return checked(n, 'physical address') as PhysAddr;
}
/** Brand a number as a bus address. Throws `RangeError` unless it is an integer in [0, 2^52). */
export function dmaAddr(n: number): DmaAddr {
  return checked(n, 'DMA address') as DmaAddr;
}
/** Brand a number as an I/O virtual address. Throws `RangeError` unless it is an integer in [0, 2^52). */
export function iova(n: number): Iova {
  return checked(n, 'I/O virtual address') as Iova;
}

function checked(n: number, what: string): number {
  if (!Number.isInteger(n) || n < 0 || n >= ADDR_LIMIT) {
    throw new RangeError(`${what} must be an integer in [0, 2^52), found ${n}`);
  }
  return n;
}

/**
 * The failed mapping. The kernel's is all ones; here it is -1, so that it lies in no range, and prints as the kernel
 * prints it. @linux DMA_MAPPING_ERROR
 */
export const DMA_MAPPING_ERROR = -1 as DmaAddr;

/** `a + offsetBytes`, in the same address space. */
export function addrAdd<T extends Addr>(a: T, offsetBytes: number): T {
  return (a + offsetBytes) as T;
}

/** Low 32 bits as an unsigned number. */
export function lo32(a: number): number {
  // Truncation to 32 bits is what is asked for.
  return a >>> 0;
}
/** Bits 32 and up. @linux upper_32_bits */
export function hi32(a: number): number {
  return Math.floor(a / TWO_32);
}
/** The address whose halves are `lo` and `hi` (both unsigned 32-bit). */
export function fromLoHi(lo: number, hi: number): number {
  return (hi >>> 0) * TWO_32 + (lo >>> 0);
}

/** `a` modulo a power of two up to 2^31: the offset within a page, line or slot. */
export function offsetIn(a: number, sizeBytes: number): number {
  // Truncation to 32 bits keeps the low bits, which are all that is asked for.
  return (a & (sizeBytes - 1)) >>> 0;
}
/** The bits of an address that are set in a mask below 2^32. */
export function lowBits(a: number, mask: number): number {
  return (a & mask) >>> 0;
}
/** Offset in its page. @linux offset_in_page */
export function offsetInPage(a: number): number {
  return a & (PAGE_SIZE - 1);
}
/** Round down to a multiple of a power of two of any width. @linux ALIGN_DOWN */
export function alignDown<T extends number>(a: T, sizeBytes: number): T {
  return (a - (a % sizeBytes)) as T;
}
/** Round up to a multiple of a power of two of any width. @linux ALIGN */
export function alignUp<T extends number>(a: T, sizeBytes: number): T {
  const rest = a % sizeBytes;
  return (rest === 0 ? a : a + (sizeBytes - rest)) as T;
}
/** Whether `a` is a multiple of `sizeBytes`. @linux IS_ALIGNED */
export function isAligned(a: number, sizeBytes: number): boolean {
  return a % sizeBytes === 0;
}
/** Page frame number. @linux PHYS_PFN */
export function pfnOf(a: number): number {
  return Math.floor(a / PAGE_SIZE);
}
/** How many pages `sizeBytes` bytes take. @linux PFN_UP */
export function pagesFor(sizeBytes: number): number {
  return Math.ceil(sizeBytes / PAGE_SIZE);
}

/**
 * Whether [start, start+size) lies wholly in [outerStart, outerStart+outerSize). The one range test: safe for sizes of
 * 0 (inside when its start is inside or at the end), for the last byte of the space, and for `DMA_MAPPING_ERROR` (never
 * inside anything).
 */
export function rangeInside(start: number, size: number, outerStart: number, outerSize: number): boolean {
  return start >= 0 && size >= 0 && start >= outerStart && start - outerStart <= outerSize - size;
}
/** Whether two ranges share a byte. Empty ranges and `DMA_MAPPING_ERROR` share none. */
export function rangesOverlap(aStart: number, aSize: number, bStart: number, bSize: number): boolean {
  return aStart >= 0 && bStart >= 0 && aSize > 0 && bSize > 0 && aStart < bStart + bSize && bStart < aStart + aSize;
}

/** A mask of `bits` low ones, 0 to 64. @linux DMA_BIT_MASK */
export function dmaBitMask(bits: number): bigint {
  if (!Number.isInteger(bits) || bits < 0 || bits > 64)
    throw new RangeError(`a DMA mask has 0 to 64 bits, found ${bits}`);
  return (1n << BigInt(bits)) - 1n;
}
/** A mask as a number for comparing with addresses: capped at 2^52-1, above which no address here exists. */
export function maskLimit(mask: bigint): number {
  const cap = BigInt(ADDR_LIMIT - 1);
  return Number(mask > cap ? cap : mask);
}

/** An address as the kernel prints it: `0x` and hexadecimal digits; a failed mapping as all ones. */
export function hexAddr(a: number): string {
  return a < 0 ? '0xffffffffffffffff' : `0x${a.toString(16)}`;
}
