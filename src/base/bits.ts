/** Bit helpers for 32-bit register values. Never for addresses: see addr.ts. */

/** 1 << n as an unsigned number, n from 0 to 31. @linux BIT */
export function bit(n: number): number {
  return (1 << n) >>> 0;
}
/** Ones from bit `hi` down to bit `lo`. @linux GENMASK */
export function genmask(hi: number, lo: number): number {
  return ((0xffffffff >>> (31 - hi)) & (0xffffffff << lo)) >>> 0;
}
/** Position of the highest set bit counting from 1; 0 for 0. @linux fls */
export function fls(value: number): number {
  return 32 - Math.clz32(value);
}
/** floor(log2(n)) for a positive safe integer of any width. @linux ilog2 */
export function ilog2(n: number): number {
  return n < 0x1_0000_0000 ? 31 - Math.clz32(n) : 32 + (31 - Math.clz32(Math.floor(n / 0x1_0000_0000)));
}
/** The smallest power of two not below n (n ≥ 1). @linux roundup_pow_of_two */
export function roundupPowOfTwo(n: number): number {
  if (n <= 1) return 1;
  return n <= 0x4000_0000 ? 1 << (32 - Math.clz32(n - 1)) : 2 ** (ilog2(n - 1) + 1);
}
/** Whether n is a power of two (any width below 2^52). @linux is_power_of_2 */
export function isPowerOf2(n: number): boolean {
  return n > 0 && 2 ** ilog2(n) === n;
}
/** Pages as a power of two that hold `sizeBytes` bytes: 0 for up to one page. @linux get_order */
export function getOrder(sizeBytes: number): number {
  return sizeBytes <= 4096 ? 0 : ilog2(Math.ceil(sizeBytes / 4096) - 1) + 1;
}
/** Index of the lowest set bit; -1 for 0. @linux __ffs */
export function ffs(value: number): number {
  return value === 0 ? -1 : 31 - Math.clz32(value & -value);
}
