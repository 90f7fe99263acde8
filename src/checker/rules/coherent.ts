/** Rules of coherent allocations. */
import { hexAddr } from '../../base/addr.ts';
import { bytesText, lineText, paddedHex, rule } from '../rule.ts';

export const coherentRules = {
  'dma/free-size': rule<{ address: number; allocatedBytes: number; freedBytes: number }>({
    severity: 'error',
    statement: 'A coherent allocation is freed with the size it was allocated with.',
    wording: 'device driver frees DMA memory with different size',
    page: `The allocator keeps no record of sizes: the number given to dmaFreeCoherent says how many pages, which mapping and how much address
space are given back. Too small leaks the rest; too large frees pages of somebody else.`,
    message: ({ values: v }) =>
      `${bytesText(v.allocatedBytes)} allocated at ${hexAddr(v.address)}, freed as ${bytesText(v.freedBytes)}`,
    kernel: ({ deviceString, values: v }) =>
      `DMA-API: ${deviceString}: device driver frees DMA memory with different size [device address=${paddedHex(v.address)}] [map size=${v.allocatedBytes} bytes] [unmap size=${v.freedBytes} bytes]`,
    fix: ({ at, values: v }) => `free ${bytesText(v.allocatedBytes)}${lineText('in', at)}`,
  }),

  'dma/free-address': rule<{
    address: number;
    bytes: number;
    /** Where the CPU's pointer was when it was allocated and when it was freed; -1: nothing was allocated at the handle. */
    allocatedPhys: number;
    freedPhys: number;
  }>({
    severity: 'error',
    statement: 'A coherent allocation is freed with the pointer and the handle that the allocation returned.',
    wording: 'device driver frees DMA memory with different CPU address',
    page: `dmaFreeCoherent needs both: the pages are found by the CPU's pointer, the translation by the handle. With a pair that does not
belong together one buffer's pages and another's translation are freed; with a handle that was never allocated, or was freed before,
pages are given back that are in use.`,
    message: ({ values: v }) =>
      v.allocatedPhys < 0
        ? `coherent memory freed at ${hexAddr(v.address)}, where none is allocated`
        : `coherent memory at ${hexAddr(v.address)} freed with another pointer (physical ${hexAddr(v.freedPhys)}, allocated ${hexAddr(v.allocatedPhys)})`,
    kernel: ({ deviceString, values: v }) =>
      v.allocatedPhys < 0
        ? `DMA-API: ${deviceString}: device driver tries to free DMA memory it has not allocated [device address=${paddedHex(v.address)}] [size=${v.bytes} bytes]`
        : `DMA-API: ${deviceString}: device driver frees DMA memory with different CPU address [device address=${paddedHex(v.address)}] [size=${v.bytes} bytes] [cpu alloc address=0x${paddedHex(v.allocatedPhys)}] [cpu free address=0x${paddedHex(v.freedPhys)}]`,
    fix: ({ at }) => `free with the mem and handle of one allocation, once${lineText('; see', at)}`,
  }),
};
