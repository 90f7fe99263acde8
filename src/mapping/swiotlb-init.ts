/** Whether the machine has bounce buffers, how many, and where: decided at boot, as the kernel decides. */
import { alignUp, type PhysAddr } from '../base/addr.ts';
import { isPowerOf2, roundupPowOfTwo } from '../base/bits.ts';
import { EINVAL, type Errno, OK } from '../base/errno.ts';
import { memblockAlloc } from '../kernel/contig.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { prInfo, prWarn } from '../kernel/printk.ts';
import { defaultIoTlbMem, type IoTlbMem } from './bounce.ts';
import { parseNumber } from './memparse.ts';
import { Swiotlb } from './swiotlb.ts';
import { IO_TLB_SEGSIZE, IO_TLB_SHIFT, IO_TLB_SIZE } from './swiotlb-areas.ts';

/** What is set aside when nobody says otherwise: 64 MiB. @linux IO_TLB_DEFAULT_SIZE */
export const IO_TLB_DEFAULT_SIZE = 64 << 20;
/** Less than 1 MiB is not worth it (IO_TLB_MIN_SLABS). */
const MIN_SLABS = (1 << 20) >>> IO_TLB_SHIFT;
const FOUR_GIB = 2 ** 32;
const MIB = 2 ** 20;

/** What `swiotlb=[SLABS][,[AREAS][,force|noforce]]` says. */
interface SwiotlbArgument {
  nslabs: number;
  /** 0: as many as there are CPUs. */
  nareas: number;
  force: boolean;
  disable: boolean;
}
/** Read as leniently as the kernel does: what is no number is skipped. @linux setup_io_tlb_npages, boot:swiotlb */
export function parseSwiotlb(text: string): SwiotlbArgument {
  const result = { nslabs: IO_TLB_DEFAULT_SIZE >>> IO_TLB_SHIFT, nareas: 0, force: false, disable: false };
  let rest = text;
  const slabs = parseNumber(rest);
  if (slabs !== null) {
    // No segment at the end that is shorter than the others.
    result.nslabs = alignUp(slabs.value, IO_TLB_SEGSIZE);
    rest = slabs.rest;
  }
  if (rest.startsWith(',')) rest = rest.slice(1);
  const areas = parseNumber(rest);
  if (areas !== null) {
    result.nareas = roundupPowOfTwo(areas.value);
    rest = areas.rest;
  }
  if (rest.startsWith(',')) rest = rest.slice(1);
  result.force = rest === 'force';
  result.disable = rest === 'noforce';
  return result;
}

/** Bounce buffers lie below this address: the board's low memory, or its ZONE_DMA, else below 4 GiB. */
function lowMemoryEnd(kernel: Kernel): number {
  const { zoneDmaLimit = 0, dmaPhysLimit = FOUR_GIB, lowAddressLimit } = kernel.options;
  return Math.min(lowAddressLimit ?? (zoneDmaLimit > 0 ? zoneDmaLimit : FOUR_GIB), dmaPhysLimit);
}
function ramEnd(kernel: Kernel): number {
  const last = kernel.machine.ram[kernel.machine.ram.length - 1];
  return last === undefined ? 0 : last.base + last.sizeBytes;
}
function ramBytes(kernel: Kernel): number {
  let sum = 0;
  for (const { sizeBytes } of kernel.machine.ram) sum += sizeBytes;
  return sum;
}

/**
 * Set the kernel's bounce buffers up: when there is RAM beyond 4 GiB (or beyond the board's `dmaPhysLimit`), when kmalloc's
 * alignment does not keep a non-coherent device's buffers apart, or with `swiotlb=force`; never with `swiotlb=noforce`.
 * The memory is set aside below 4 GiB (in the board's ZONE_DMA); half as much is tried when there is not enough. Once, at
 * boot. @linux swiotlb_init, swiotlb_init_remap
 */
export function swiotlbInit(kernel: Kernel): void {
  const mem = defaultIoTlbMem(kernel);
  const argument = parseSwiotlb(kernel.cmdline.get('swiotlb') ?? '');
  let needed = ramEnd(kernel) > (kernel.options.dmaPhysLimit ?? FOUR_GIB);
  let { nslabs } = argument;
  const { traits } = kernel.machine;
  mem.bounceUnalignedKmalloc = !traits.coherent && kernel.dmaMinAlign < traits.cacheLineBytes;
  if (mem.bounceUnalignedKmalloc && !needed) {
    // Only small buffers bounce: 1 MiB for each GiB of RAM is enough, as on arm64.
    needed = true;
    if (!kernel.cmdline.has('swiotlb')) {
      nslabs = Math.min(nslabs, alignUp(Math.ceil(ramBytes(kernel) / 1024 / IO_TLB_SIZE), IO_TLB_SEGSIZE));
    }
  }
  if ((!needed && !argument.force) || argument.disable) return;
  mem.forceBounce = argument.force;
  // One CPU.
  const nareas = argument.nareas === 0 ? 1 : argument.nareas;
  if (nslabs < IO_TLB_SEGSIZE * nareas) nslabs = IO_TLB_SEGSIZE * nareas;
  if (!isPowerOf2(nslabs)) {
    nslabs = roundupPowOfTwo(nslabs);
    prInfo(kernel, `software IO TLB: SWIOTLB bounce buffer size roundup to ${(nslabs << IO_TLB_SHIFT) / MIB}MB`);
  }
  if (nareas > 1) prInfo(kernel, `software IO TLB: area num ${nareas}.`);
  setAside(kernel, mem, nslabs, nareas);
}
function setAside(kernel: Kernel, mem: IoTlbMem, wanted: number, nareas: number): void {
  let nslabs = wanted;
  let start = allocateSlabs(kernel, nslabs);
  while (start === null) {
    if (nslabs <= MIN_SLABS) {
      prWarn(kernel, 'software IO TLB: No low mem');
      return;
    }
    nslabs = alignUp(nslabs >>> 1, IO_TLB_SEGSIZE);
    start = allocateSlabs(kernel, nslabs);
  }
  if (nslabs !== wanted) {
    prInfo(kernel, `software IO TLB: SWIOTLB bounce buffer size adjusted ${wanted} -> ${nslabs} slabs`);
  }
  new Swiotlb(kernel, mem, start, nslabs, Math.min(nareas, nslabs / IO_TLB_SEGSIZE));
  const bytes = nslabs << IO_TLB_SHIFT;
  const range = `[mem 0x${hex16(start)}-0x${hex16(start + bytes)}]`;
  prInfo(kernel, `software IO TLB: mapped ${range} (${Math.floor(bytes / MIB)}MB)`);
}
function allocateSlabs(kernel: Kernel, nslabs: number): PhysAddr | null {
  const sizeBytes = nslabs << IO_TLB_SHIFT;
  const limitPhys = lowMemoryEnd(kernel);
  // Aligned to a segment: alignments up to one are then found in every segment.
  const alignBytes = IO_TLB_SEGSIZE << IO_TLB_SHIFT;
  const start = memblockAlloc(kernel, { sizeBytes, limitPhys, alignBytes });
  if (start === null) {
    const text = `swiotlb_memblock_alloc: Failed to allocate ${sizeBytes} bytes tlb structure`;
    prWarn(kernel, `software IO TLB: ${text}`);
  }
  return start;
}
function hex16(n: number): string {
  return n.toString(16).padStart(16, '0');
}

/** The files of debugfs's swiotlb folder. */
export interface SwiotlbStats {
  /** @linux io_tlb_nslabs */
  readonly ioTlbNslabs: number;
  /** @linux io_tlb_used */
  readonly ioTlbUsed: number;
  /** @linux io_tlb_used_hiwater */
  readonly ioTlbUsedHiwater: number;
}
/** How full a pool is, in slots; all 0 without bounce buffers. Default: the kernel's own pool. */
export function swiotlbStats(kernel: Kernel, mem: IoTlbMem = defaultIoTlbMem(kernel)): SwiotlbStats {
  const { backend } = mem;
  if (!(backend instanceof Swiotlb)) return { ioTlbNslabs: 0, ioTlbUsed: 0, ioTlbUsedHiwater: 0 };
  return { ioTlbNslabs: backend.slots.nslabs, ioTlbUsed: backend.used, ioTlbUsedHiwater: backend.usedHiwater };
}
/** Begin to measure the high-water mark anew. Returns EINVAL for any value but 0. @linux io_tlb_hiwater_set */
export function swiotlbSetHiwater(kernel: Kernel, value: number, mem: IoTlbMem = defaultIoTlbMem(kernel)): Errno {
  if (value !== 0) return EINVAL;
  if (mem.backend instanceof Swiotlb) mem.backend.usedHiwater = 0;
  return OK;
}
