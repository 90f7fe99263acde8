/** Rules of what devices do on the bus, held against the ledger byte by byte. */
import { hexAddr } from '../../base/addr.ts';
import { bytesText, lineText, rule } from '../rule.ts';

const LATER = 'wait for the transfer to end, or terminate it, before unmapping';

export const deviceAccessRules = {
  'dma/device-access-outside': rule<{
    address: number;
    bytes: number;
    write: boolean;
    /** What the bus answered. */
    status: 'ok' | 'decode error' | 'translation fault' | 'slave error';
    /** The mapping nearest below, when one is near: its start and size; size 0 when none is. */
    nearAddress: number;
    nearBytes: number;
    /** Whether the bytes were mapped for the device and are unmapped now. */
    unmapped: boolean;
    /** The device that the bytes are mapped for instead, or ''. */
    otherDevice: string;
  }>({
    severity: 'error',
    statement: 'A device reads and writes only memory that is mapped or allocated for it at that moment.',
    wording: null,
    page: `Every byte that a device touches is held against the live mappings and allocations of that device, with or without an IOMMU. An
IOMMU works in pages: 2 KiB past a 64-byte mapping is within the page, and passes. Without an IOMMU nothing stops a device at all, and
it overwrites memory of somebody else; with one, a fault is logged and the data is missing.

Usual causes: the buffer was unmapped or freed while the device still ran; the length given to the device is larger than what was
mapped; the device was given a physical address instead of the one the map call returned; the buffer was mapped for another device
than the one that does the DMA.`,
    message: ({ device, values: v }) => {
      const did = `${device} ${v.write ? 'wrote' : 'read'} ${bytesText(v.bytes)} at ${hexAddr(v.address)}`;
      const answer = v.status === 'ok' ? '' : ` (the bus answered: ${v.status})`;
      if (v.otherDevice !== '') return `${did}, which is mapped for ${v.otherDevice}${answer}`;
      if (v.unmapped) return `${did}, which is unmapped already${answer}`;
      if (v.nearBytes === 0) return `${did}, where nothing is mapped for it${answer}`;
      const past = v.address - (v.nearAddress + v.nearBytes);
      const where = past === 0 ? 'right behind' : `${bytesText(past)} past`;
      return `${did}, ${where} the end of a ${v.nearBytes}-byte mapping at ${hexAddr(v.nearAddress)}${answer}`;
    },
    kernel: () => null,
    fix: ({ device, mappedAt, values: v }) => {
      if (v.otherDevice !== '') {
        return `map it for ${device}, the device that does the DMA (chan.device.dev for a DMA channel)${lineText(', in', mappedAt)}`;
      }
      if (v.unmapped) return LATER;
      if (v.nearBytes === 0) return 'give the device the address that the map call returned, while it is mapped';
      return `map ${bytesText(v.address + v.bytes - v.nearAddress)}, or give the device a length of ${v.nearBytes}`;
    },
  }),

  'dma/device-write-to-device-mapping': rule<{ address: number; bytes: number; mapAddress: number; mapBytes: number }>({
    severity: 'error',
    statement: 'A device does not write to memory that is mapped DMA_TO_DEVICE.',
    wording: null,
    page: `DMA_TO_DEVICE promises that the device only reads. What it writes all the same is lost on machines with bounce buffers (nothing is
copied back), is refused by an IOMMU, and on non-coherent machines stands in memory while the CPU reads its cache: no sync or unmap
in that direction drops the stale lines.`,
    message: ({ device, values: v }) =>
      `${device} wrote ${bytesText(v.bytes)} at ${hexAddr(v.address)}, within a mapping of ${v.mapBytes} that is DMA_TO_DEVICE`,
    kernel: () => null,
    fix: ({ mappedAt }) =>
      `map it DMA_FROM_DEVICE, or DMA_BIDIRECTIONAL when the device also reads it${mappedAt === null ? '' : `, in line ${mappedAt.line}`}`,
  }),

  'dma/device-read-from-device-mapping': rule<{ address: number; bytes: number; mapAddress: number; mapBytes: number }>(
    {
      severity: 'portability',
      statement: 'A device does not read memory that is mapped DMA_FROM_DEVICE.',
      wording: null,
      page: `DMA_FROM_DEVICE promises that the device only writes. Reading mostly works, but what it reads need not be what the CPU wrote: on
non-coherent machines the CPU's data may still be in the cache, and an IOMMU with write-only pages refuses the access.`,
      message: ({ device, values: v }) =>
        `${device} read ${bytesText(v.bytes)} at ${hexAddr(v.address)}, within a mapping of ${v.mapBytes} that is DMA_FROM_DEVICE`,
      kernel: () => null,
      fix: ({ mappedAt }) =>
        `map it DMA_TO_DEVICE, or DMA_BIDIRECTIONAL when the device also writes it${mappedAt === null ? '' : `, in line ${mappedAt.line}`}`,
    },
  ),
};
