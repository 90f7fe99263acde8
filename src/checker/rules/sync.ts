/** Rules of ownership: who may touch the bytes when, and what hands them over. */
import { hexAddr } from '../../base/addr.ts';
import { type ByteRange, bytesText, lineText, paddedHex, rangesText, rule } from '../rule.ts';

export const syncRules = {
  'dma/sync-unknown': rule<{ address: number; bytes: number; forCpu: boolean }>({
    severity: 'error',
    statement: 'Only what is mapped for the device is synchronised.',
    wording: 'device driver tries to sync DMA memory it has not allocated',
    page: `A sync call on an address that is not mapped, no longer mapped or mapped for another device maintains the caches of memory that
somebody else owns: an invalidation throws that owner's data away.`,
    message: ({ device, values: v }) =>
      `${bytesText(v.bytes)} at ${hexAddr(v.address)} synchronised for the ${v.forCpu ? 'CPU' : 'device'}, but nothing is mapped there for ${device}`,
    kernel: ({ deviceString, values: v }) =>
      `DMA-API: ${deviceString}: device driver tries to sync DMA memory it has not allocated [device address=${paddedHex(v.address)}] [size=${v.bytes} bytes]`,
    fix: ({ at }) =>
      `synchronise between map and unmap, with the device and address of the map call${lineText('; see', at)}`,
  }),

  'dma/sync-outside': rule<{ address: number; bytes: number; mapAddress: number; mapBytes: number; forCpu: boolean }>({
    severity: 'error',
    statement: 'A sync call stays within its mapping.',
    wording: 'device driver tries to sync DMA memory it has not allocated',
    page: `Bytes behind the end of a mapping belong to somebody else; synchronising them for the CPU throws that owner's cached data away.
dma-debug reports it as memory that was not allocated.`,
    message: ({ values: v }) =>
      `${bytesText(v.bytes)} at ${hexAddr(v.address)} synchronised, ${bytesText(v.address + v.bytes - v.mapAddress - v.mapBytes)} more than the mapping of ${v.mapBytes} has there`,
    kernel: ({ deviceString, values: v }) =>
      `DMA-API: ${deviceString}: device driver tries to sync DMA memory it has not allocated [device address=${paddedHex(v.address)}] [size=${v.bytes} bytes]`,
    fix: ({ at, values: v }) =>
      `synchronise at most ${bytesText(v.mapAddress + v.mapBytes - v.address)} from there${lineText('in', at)}`,
  }),

  'dma/sync-direction': rule<{
    address: number;
    bytes: number;
    mappedDirection: string;
    syncedDirection: string;
    forCpu: boolean;
  }>({
    severity: 'error',
    statement: 'A sync call has the direction of its mapping (any direction for DMA_BIDIRECTIONAL).',
    wording: 'device driver syncs DMA memory with different direction',
    page: `The direction of a sync call chooses between writing cache lines back and dropping them. A transmit buffer that is synchronised as
DMA_FROM_DEVICE can lose what the CPU wrote; a receive buffer synchronised as DMA_TO_DEVICE overwrites what the device wrote with what
the cache held, and the CPU goes on reading stale lines.`,
    message: ({ values: v }) =>
      `${bytesText(v.bytes)} at ${hexAddr(v.address)} mapped ${v.mappedDirection}, synchronised for the ${v.forCpu ? 'CPU' : 'device'} ${v.syncedDirection}`,
    kernel: ({ deviceString, values: v }) =>
      `DMA-API: ${deviceString}: device driver syncs DMA memory with different direction [device address=${paddedHex(v.address)}] [size=${v.bytes} bytes] [mapped with ${v.mappedDirection}] [synced with ${v.syncedDirection}]`,
    fix: ({ at, values: v }) => `synchronise with ${v.mappedDirection}${lineText('in', at)}`,
  }),

  'dma/missing-sync-for-device': rule<{
    mapAddress: number;
    mapBytes: number;
    direction: string;
    /** Stale bytes within the mapping. */
    stale: readonly ByteRange[];
  }>({
    severity: 'error',
    statement: 'What the CPU writes to a mapped buffer reaches the device only after a sync for the device.',
    wording: null,
    page: `From the map call on the buffer belongs to the device. A CPU that writes to it then writes to its cache; without
dmaSyncSingleForDevice the device reads what memory held before. The finding is made when the device reads bytes whose newest value
still sits in a dirty cache line. Ownership goes back and forth like this:

    dmaSyncSingleForCpu(dev, handle, size, dir)      the CPU may read and write
    dmaSyncSingleForDevice(dev, handle, size, dir)   the device may

On a coherent machine the driver works, since the device sees the caches.`,
    message: ({ device, values: v }) =>
      `${device} read stale ${rangesText(v.stale)} of the ${v.mapBytes}-byte mapping at ${hexAddr(v.mapAddress)}: the CPU's newer values were still in its cache`,
    kernel: () => null,
    fix: ({ values: v }) =>
      `add dmaSyncSingleForDevice(dev, handle, ${v.mapBytes}, ${v.direction}) after the CPU wrote and before the device is started`,
  }),

  'dma/missing-sync-for-cpu': rule<{
    mapAddress: number;
    mapBytes: number;
    direction: string;
    /** Bytes in which the CPU's view differs from what the device wrote. */
    stale: readonly ByteRange[];
    /** What the driver said went wrong, or '' when the run simply ended. */
    failure: string;
  }>({
    severity: 'error',
    statement: 'What a device wrote to a mapped buffer is read by the CPU only after a sync for the CPU or the unmap.',
    wording: null,
    page: `Until dmaSyncSingleForCpu or the unmap call the buffer belongs to the device, and the CPU's cache may hold the bytes as they were
before. On a non-coherent machine a driver that looks too early sees old data, mostly, and sometimes new data, when a line happened to
be evicted. On a coherent machine without bounce buffers it always works.`,
    message: ({ device, values: v }) =>
      `the CPU sees stale ${rangesText(v.stale)} of the ${v.mapBytes}-byte mapping at ${hexAddr(v.mapAddress)}: ${device} wrote them, and neither sync nor unmap followed${v.failure === '' ? '' : ` (${v.failure})`}`,
    kernel: () => null,
    fix: ({ at, values: v }) =>
      `add dmaSyncSingleForCpu(dev, handle, ${v.mapBytes}, ${v.direction})${lineText('before', at) || ' before the CPU reads it'}`,
  }),
};
