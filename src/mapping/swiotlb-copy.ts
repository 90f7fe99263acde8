/** How a bounce copies: through the CPU's view of memory, between any two banks. */
import type { RamBank } from '../kernel/index.ts';

/** Below this size, a loop over words is faster than a call of the engine's copy. */
const LOOP_BYTES = 256;

/** Copy `size` bytes from `source` (a physical address in its bank) to `target`; the ranges do not overlap. No garbage for small copies. */
export function copyPhys(toBank: RamBank, target: number, fromBank: RamBank, source: number, size: number): void {
  const to = target - toBank.base;
  const from = source - fromBank.base;
  if (size <= LOOP_BYTES) {
    if (((to | from | size) & 3) === 0) {
      const toWords = toBank.cpu32;
      const fromWords = fromBank.cpu32;
      let j = from >>> 2;
      const end = (to + size) >>> 2;
      for (let i = to >>> 2; i < end; i++) toWords[i] = fromWords[j++]!;
      return;
    }
    const toBytes = toBank.cpu;
    const fromBytes = fromBank.cpu;
    for (let i = 0; i < size; i++) toBytes[to + i] = fromBytes[from + i]!;
    return;
  }
  if (toBank === fromBank) toBank.cpu.copyWithin(to, from, from + size);
  else toBank.cpu.set(fromBank.cpu.subarray(from, from + size), to);
}
