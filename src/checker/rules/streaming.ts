/** Rules of streaming mappings: what is unmapped must be what was mapped. */
import { hexAddr } from '../../base/addr.ts';
import { bytesText, lineText, paddedHex, rule } from '../rule.ts';

/** The calls by the kind of mapping, for fixes. */
const UNMAP_CALL: Readonly<Record<string, string>> = {
  single: 'dmaUnmapSingle',
  'scatter-gather': 'dmaUnmapSg',
  coherent: 'dmaFreeCoherent',
  resource: 'dmaUnmapResource',
};

export const streamingRules = {
  'dma/unmap-size': rule<{ address: number; mappedBytes: number; unmappedBytes: number; type: string }>({
    severity: 'error',
    statement: 'A mapping is unmapped with the size it was mapped with.',
    wording: 'device driver frees DMA memory with different size',
    page: `The size given to the unmap call says how many bytes are handed back to the CPU: which cache lines are
invalidated, which bounce buffer bytes are copied back and its slots freed, which IOMMU pages are taken down. Too small, and the
rest stays stale, mapped or leaked; too large, and a neighbour loses its cache lines, slots or translation. On a coherent machine
without IOMMU nothing happens at all, which is why such drivers ship.

Keep the mapped size beside the handle (DEFINE_DMA_UNMAP_LEN is for that), and unmap with it.`,
    message: ({ values: v }) =>
      v.unmappedBytes < v.mappedBytes
        ? `${bytesText(v.mappedBytes)} mapped at ${hexAddr(v.address)}, only ${v.unmappedBytes} of them unmapped`
        : `${bytesText(v.mappedBytes)} mapped at ${hexAddr(v.address)}, but ${v.unmappedBytes} unmapped: ${bytesText(v.unmappedBytes - v.mappedBytes)} of somebody else`,
    kernel: ({ deviceString, values: v }) =>
      `DMA-API: ${deviceString}: device driver frees DMA memory with different size [device address=${paddedHex(v.address)}] [map size=${v.mappedBytes} bytes] [unmap size=${v.unmappedBytes} bytes]`,
    fix: ({ at, values: v }) => `unmap ${bytesText(v.mappedBytes)}${lineText('in', at)}`,
  }),

  'dma/unmap-direction': rule<{ address: number; bytes: number; mappedDirection: string; unmappedDirection: string }>({
    severity: 'error',
    statement: 'A mapping is unmapped with the direction it was mapped with.',
    wording: 'device driver frees DMA memory with different direction',
    page: `The direction decides what unmapping does: after DMA_FROM_DEVICE and DMA_BIDIRECTIONAL the caches are invalidated and bounce
buffers copied back; after DMA_TO_DEVICE neither. Unmapping a receive buffer as DMA_TO_DEVICE leaves the CPU with what it held
before; unmapping a transmit buffer as DMA_FROM_DEVICE throws the CPU's data away or overwrites it.`,
    message: ({ values: v }) =>
      `${bytesText(v.bytes)} at ${hexAddr(v.address)} mapped ${v.mappedDirection}, unmapped ${v.unmappedDirection}`,
    kernel: ({ deviceString, values: v }) =>
      `DMA-API: ${deviceString}: device driver frees DMA memory with different direction [device address=${paddedHex(v.address)}] [size=${v.bytes} bytes] [mapped with ${v.mappedDirection}] [unmapped with ${v.unmappedDirection}]`,
    fix: ({ at, values: v }) => `unmap with ${v.mappedDirection}${lineText('in', at)}`,
  }),

  'dma/unmap-function': rule<{ address: number; bytes: number; mappedAs: string; unmappedAs: string }>({
    severity: 'error',
    statement: 'A mapping is unmapped by the function that belongs to the one which mapped it.',
    wording: 'device driver frees DMA memory with wrong function',
    page: `Single and page mappings are one kind; scatterlists, resources and coherent allocations are three others. Each has its own way
back: a resource has no cache lines to maintain, a coherent allocation gives its pages back. The wrong function frees the wrong
thing, on some machines at once and on others never.`,
    message: ({ values: v }) =>
      `${bytesText(v.bytes)} at ${hexAddr(v.address)} mapped as ${v.mappedAs}, unmapped as ${v.unmappedAs}`,
    kernel: ({ deviceString, values: v }) =>
      `DMA-API: ${deviceString}: device driver frees DMA memory with wrong function [device address=${paddedHex(v.address)}] [size=${v.bytes} bytes] [mapped as ${v.mappedAs}] [unmapped as ${v.unmappedAs}]`,
    fix: ({ at, values: v }) => `call ${UNMAP_CALL[v.mappedAs]}${lineText('in', at)}`,
  }),

  'dma/unmap-unknown': rule<{
    address: number;
    bytes: number;
    /** never: nothing known of it. unmapped: it was, and is unmapped already. other-device: somebody else's. inside: within a mapping, not its start. */
    why: 'never' | 'unmapped' | 'other-device' | 'inside';
    otherDevice: string;
    /** For `inside`: how far from the start of that mapping. */
    offset: number;
  }>({
    severity: 'error',
    statement: 'Only what is mapped, for this device and at this address, is unmapped, and once.',
    wording: 'device driver tries to free DMA memory it has not allocated',
    page: `Unmapping an address twice, an address of another device or one that was never mapped takes down whatever lives there by then:
under an IOMMU the translation of the next mapping that got the address, with bounce buffers somebody else's slot. Without them,
cache lines of memory that may be in other hands are invalidated. Usually an error path runs after the normal path, or a handle is not
reset after unmapping.`,
    message: ({ values: v, device }) => {
      const what = `${bytesText(v.bytes)} at ${hexAddr(v.address)} unmapped for ${device}`;
      if (v.why === 'unmapped') return `${what}, which was unmapped before`;
      if (v.why === 'other-device') return `${what}, but it is mapped for ${v.otherDevice}`;
      if (v.why === 'inside') return `${what}, ${bytesText(v.offset)} behind the start of its mapping`;
      return `${what}, which was never mapped`;
    },
    kernel: ({ deviceString, values: v }) =>
      `DMA-API: ${deviceString}: device driver tries to free DMA memory it has not allocated [device address=${paddedHex(v.address)}] [size=${v.bytes} bytes]`,
    fix: ({ at, values: v }) => {
      if (v.why === 'unmapped') return `unmap once: remove one of the two calls${lineText('or guard the one in', at)}`;
      if (v.why === 'other-device')
        return `unmap with the device that mapped it, ${v.otherDevice}${lineText('in', at)}`;
      if (v.why === 'inside') return `unmap with the address that the map call returned${lineText('in', at)}`;
      return `unmap only what a map call returned${lineText('; see', at)}`;
    },
  }),

  'dma/unmap-invalid-address': rule<{ bytes: number }>({
    severity: 'error',
    statement: 'DMA_MAPPING_ERROR is no address: a failed mapping is not unmapped.',
    wording: 'device driver tries to free an invalid DMA memory address',
    page: `A map call that fails returns DMA_MAPPING_ERROR (all ones). Unmapping it invalidates cache lines or frees translations at an address
that belongs to nobody. Leave the path where dmaMappingError said no before anything is unmapped.`,
    message: ({ values: v }) => `a failed mapping of ${bytesText(v.bytes)} (DMA_MAPPING_ERROR) is unmapped`,
    kernel: ({ deviceString }) => `DMA-API: ${deviceString}: device driver tries to free an invalid DMA memory address`,
    fix: ({ at }) => `return when dmaMappingError(dev, handle) is not 0, before the unmap call${lineText('in', at)}`,
  }),

  'dma/sg-nents': rule<{ mappedNents: number; givenNents: number; returned: number }>({
    severity: 'error',
    statement:
      'A scatterlist is unmapped and synchronised with the number of entries given to dmaMapSg, not the number it returned.',
    wording: 'device driver frees DMA sg list with different entry count',
    page: `dmaMapSg may merge entries, so that it returns fewer than it was given; the returned number is for programming the device. Unmap and
sync walk the list as it was, and want the original number. With the returned one the rest of the list is not unmapped. The mistake
is silent wherever nothing merges, that is without an IOMMU; run with merge=always or on a board with an IOMMU to see it.`,
    message: ({ values: v }) =>
      `a scatterlist of ${v.mappedNents} entries is unmapped with ${v.givenNents}${v.givenNents === v.returned ? ', the number that dmaMapSg returned' : ''}`,
    kernel: ({ deviceString, values: v }) =>
      `DMA-API: ${deviceString}: device driver frees DMA sg list with different entry count [map count=${v.mappedNents}] [unmap count=${v.givenNents}]`,
    fix: ({ at, values: v }) => `pass ${v.mappedNents}, the number of entries given to dmaMapSg${lineText(', in', at)}`,
  }),

  'dma/mapping-error-unchecked': rule<{ address: number; bytes: number; type: string; unmapped: boolean }>({
    severity: 'error',
    statement: 'Every dmaMapSingle, dmaMapPage and dmaMapResource is followed by dmaMappingError.',
    wording: 'device driver failed to check map error',
    page: `Mapping can fail: the IOVA space or the bounce buffers are full, or the device cannot reach the memory. The address is then
DMA_MAPPING_ERROR, and a device that is given it writes where it should not, or stops. Failures are rare on a developer's machine and
normal on a loaded one. dma-debug notices a missing check only when the mapping is unmapped; here mappings that live on count too.`,
    message: ({ values: v }) =>
      `the mapping of ${bytesText(v.bytes)} at ${hexAddr(v.address)} was never checked with dmaMappingError${v.unmapped ? '' : ', and it is still live'}`,
    kernel: ({ deviceString, values: v }) =>
      v.unmapped
        ? `DMA-API: ${deviceString}: device driver failed to check map error[device address=${paddedHex(v.address)}] [size=${v.bytes} bytes] [mapped as ${v.type}]`
        : null,
    fix: ({ mappedAt }) => `add if (dmaMappingError(dev, handle)) return -ENOMEM${lineText('after', mappedAt)}`,
  }),

  'dma/leak': rule<{
    address: number;
    bytes: number;
    type: string;
    direction: string;
    when: 'unbound' | 'run-end';
    /** How many mappings or allocations of the device were left in all. */
    pending: number;
  }>({
    severity: 'error',
    statement: 'A driver gives back every mapping and allocation before it is unbound.',
    wording: 'device driver has pending DMA allocations while released from device',
    page: `What a driver leaves mapped stays so until the next boot: address space, bounce buffers and memory are lost, and a device that
still runs goes on writing to memory which has other owners by then. Most leaks sit on error paths: the third of four maps failed, and
the first two are forgotten.`,
    message: ({ device, values: v }) => {
      const what =
        v.type === 'coherent'
          ? `coherent allocation of ${bytesText(v.bytes)}`
          : `${v.type} mapping of ${bytesText(v.bytes)} ${v.direction}`;
      const when =
        v.when === 'unbound' ? `when its driver was unbound from ${device}` : `for ${device} when the run ended`;
      return `a ${what} at ${hexAddr(v.address)} was left ${when}`;
    },
    kernel: ({ deviceString, values: v }) =>
      v.when === 'unbound'
        ? `DMA-API: ${deviceString}: device driver has pending DMA allocations while released from device [count=${v.pending}]`
        : null,
    fix: ({ mappedAt, values: v }) =>
      `call ${UNMAP_CALL[v.type]} for what${lineText('', mappedAt) || ' is'} made, on every path`,
  }),

  'dma/direction-none': rule<{ what: string }>({
    severity: 'error',
    statement: 'A direction is DMA_TO_DEVICE, DMA_FROM_DEVICE or DMA_BIDIRECTIONAL.',
    wording: 'kernel BUG at kernel/dma/mapping.c',
    page: `DMA_NONE exists for debugging: a variable that was not set yet. The kernel stops with a BUG when something is mapped, unmapped or
synchronised with it, or with a number that is no direction at all.`,
    message: ({ values: v }) => `the kernel stopped: ${v.what}`,
    kernel: () => 'kernel BUG at kernel/dma/mapping.c',
    fix: ({ at }) =>
      `say who writes the buffer: DMA_TO_DEVICE, DMA_FROM_DEVICE or DMA_BIDIRECTIONAL${lineText('in', at)}`,
  }),
};
