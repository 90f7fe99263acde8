/** Rules of what memory can be mapped. */
import { hexAddr } from '../../base/addr.ts';
import { bytesText, lineText, rule } from '../rule.ts';

export const memoryRules = {
  'dma/cacheline-overlap': rule<{
    address: number;
    bytes: number;
    /** '': not another mapping, but bytes beside this one that the CPU wrote; then `otherAddress` is physical. */
    otherDevice: string;
    otherAddress: number;
    otherBytes: number;
    lineBytes: number;
    /** Whether they share bytes, and not only a line. */
    sameBytes: boolean;
  }>({
    severity: 'error',
    statement: 'Memory that a device writes shares no cache line with anything else that is in use.',
    wording: "cacheline tracking EEXIST, overlapping mappings aren't supported",
    page: `A cache works in lines. When the CPU's side maintains one buffer, the lines at its edges take their neighbours with them: cleaning
writes a neighbour's old bytes over what a device wrote there, invalidating drops what the CPU wrote there. So a buffer that a device
writes begins and ends on a line boundary: allocate it by itself with kmalloc (which honours ARCH_DMA_MINALIGN), or align the member of
the structure with ____cacheline_aligned and put nothing behind it in the line. The same memory mapped twice, with one of them written
by a device, is the extreme case.`,
    message: ({ device, values: v }) => {
      if (v.otherDevice === '') {
        return `the CPU wrote next to the ${v.bytes} bytes at ${hexAddr(v.address)} mapped for ${device}, in a ${v.lineBytes}-byte cache line where the device wrote as well: one of the two is lost`;
      }
      return v.sameBytes
        ? `${bytesText(v.bytes)} at ${hexAddr(v.address)} mapped for ${device} overlap ${v.otherBytes} mapped for ${v.otherDevice} at ${hexAddr(v.otherAddress)}, and a device writes there`
        : `${bytesText(v.bytes)} at ${hexAddr(v.address)} mapped for ${device} share a ${v.lineBytes}-byte cache line with ${v.otherBytes} mapped for ${v.otherDevice} at ${hexAddr(v.otherAddress)}, and a device writes there`;
    },
    kernel: ({ deviceString, values: v }) =>
      v.otherDevice === ''
        ? null
        : `DMA-API: ${deviceString}: cacheline tracking EEXIST, overlapping mappings aren't supported`,
    fix: ({ values: v }) =>
      v.sameBytes
        ? 'unmap the first mapping before the second is made'
        : `allocate the two buffers separately with kmalloc, or align both to ${v.lineBytes} bytes`,
  }),

  'dma/stack-or-vmalloc': rule<{ bytes: number; what: string; refused: boolean }>({
    severity: 'error',
    statement: 'Memory on a stack, in a vmalloc area or in a module is not mapped by its address.',
    wording: 'device driver maps memory from stack, rejecting DMA map of vmalloc memory',
    page: `Such memory is not in the kernel's linear map: its physical pages are somewhere else than the address suggests, and need not be
neighbours. dmaMapSingle refuses it. A stack moreover shares its cache lines with whatever the CPU does there. Copy to a kmalloc buffer;
pages of a vmalloc area can be mapped one by one with dmaMapPage and vmallocToPage.`,
    message: ({ device, values: v }) =>
      `${bytesText(v.bytes)} of ${v.what} memory ${v.refused ? 'given to a map call' : 'mapped'} for ${device}${v.refused ? ', which refused it' : ''}`,
    kernel: ({ deviceString, values: v }) => {
      if (v.refused) return `${deviceString}: rejecting DMA map of vmalloc memory`;
      return v.what === 'stack'
        ? `DMA-API: ${deviceString}: device driver maps memory from stack`
        : `DMA-API: ${deviceString}: device driver maps memory from invalid area`;
    },
    fix: ({ at, mappedAt }) => `map a buffer from kmalloc instead${lineText('in', at ?? mappedAt)}`,
  }),

  'dma/kernel-image': rule<{ bytes: number; what: string; direction: string }>({
    severity: 'error',
    statement: 'Kernel text and read-only data are never mapped.',
    wording: 'device driver maps memory from kernel text or rodata',
    page: `The kernel's image can lie outside of the memory that a device reaches, and no device may change it. dma-debug names it "kernel text
or rodata". Copy constant data to a kmalloc buffer.`,
    message: ({ device, values: v }) => `${bytesText(v.bytes)} of ${v.what} mapped ${v.direction} for ${device}`,
    kernel: ({ deviceString }) => `DMA-API: ${deviceString}: device driver maps memory from kernel text or rodata`,
    fix: ({ at, mappedAt }) => `copy the data to a buffer from kmalloc and map that${lineText('in', at ?? mappedAt)}`,
  }),

  'dma/unreachable-memory': rule<{ what: string }>({
    severity: 'portability',
    statement: 'A device is given memory that its DMA mask reaches.',
    wording: 'DMA addr overflow',
    page: `A device whose mask is narrower than the memory of the machine cannot reach all of it. Where the kernel has bounce buffers, it
copies; where it has none, the map call fails, and works again on a machine with less memory. Set the widest mask that the hardware has,
allocate with GFP_DMA or GFP_DMA32 where it is narrow, and handle the failure.`,
    message: ({ values: v }) => v.what,
    kernel: ({ values: v }) => v.what,
    fix: ({ at }) =>
      `allocate it with GFP_DMA32 or GFP_DMA, or set a wider mask with dmaSetMask${lineText('; see', at)}`,
  }),

  'dma/freed-memory': rule<{
    address: number;
    bytes: number;
    phys: number;
    order: 'freed while mapped' | 'mapped after free';
  }>({
    severity: 'error',
    statement: 'Memory is freed only after its mapping is gone, and never mapped after it was freed.',
    wording: null,
    page: `Freed memory has a new owner at once. A device that still holds the address writes into the new owner's data, and unmapping
invalidates the new owner's cache lines. Unmap first, then free.`,
    message: ({ device, values: v }) =>
      v.order === 'freed while mapped'
        ? `memory at physical ${hexAddr(v.phys)} is freed while ${bytesText(v.bytes)} of it are mapped for ${device} at ${hexAddr(v.address)}`
        : `${bytesText(v.bytes)} of freed memory at physical ${hexAddr(v.phys)} are mapped for ${device}`,
    kernel: () => null,
    fix: ({ at, values: v }) =>
      v.order === 'freed while mapped'
        ? `unmap first${lineText(', before', at)}`
        : `free it after the last use${lineText('; see', at)}`,
  }),
};
