/**
 * The device tree's /reserved-memory: ranges that are set aside at boot, at a fixed place or at any, and what devices
 * refer to by `memory-region`: CMA areas, memory of their own, restricted pools that all their transfers go through.
 */
import { hexAddr, PAGE_SIZE, type PhysAddr } from '../base/addr.ts';
import { EBUSY, EINVAL, ENODEV, type Errno, isErr, OK } from '../base/errno.ts';
import { CMA_MIN_ALIGNMENT_BYTES, memblockAlloc, memblockReserve } from '../kernel/contig.ts';
import { type Device, devErr, devWarn } from '../kernel/device.ts';
import {
  type OfNode,
  ofAddressCells,
  ofAddressToResource,
  ofDeviceIsAvailable,
  ofDeviceIsCompatible,
  ofGetProperty,
  ofParsePhandle,
  ofPropertyReadBool,
  ofSizeCells,
} from '../kernel/index.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { PageHighMem, physToPage } from '../kernel/page-alloc.ts';
import { prErr, prInfo, prWarn } from '../kernel/printk.ts';
import { IoTlbMem } from './bounce.ts';
import { type Cma, cmaInitReservedMem } from './cma.ts';
import { type DmaCoherentMem, dmaInitCoherentMemory, dmaInitGlobalCoherent } from './coherent-pool.ts';
import { defaultCma, devSetCmaArea, setDefaultCma } from './contiguous.ts';
import { minNotZero } from './dma-range.ts';
import { Swiotlb } from './swiotlb.ts';
import { IO_TLB_SHIFT } from './swiotlb-areas.ts';

const MIB = 2 ** 20;

/** One reserved region. @linux struct reserved_mem */
export interface ReservedMem {
  readonly node: OfNode;
  readonly base: PhysAddr;
  readonly sizeBytes: number;
  readonly kind: 'plain' | 'cma' | 'coherent' | 'restricted';
  cma: Cma | null;
  coherent: DmaCoherentMem | null;
  restricted: IoTlbMem | null;
}
const KEY = {};
const makeRegions = (): ReservedMem[] => [];

/** The regions of a kernel, in the tree's order. */
export function reservedMem(kernel: Kernel): readonly ReservedMem[] {
  return kernel.subsystem(KEY, makeRegions);
}

/**
 * Set aside what the tree's /reserved-memory asks for. What cannot be had is logged and left out. Once, at boot, before
 * anything else is set aside. @linux fdt_scan_reserved_mem
 */
export function ofReservedMemInit(kernel: Kernel, root: OfNode): void {
  const parent = root.children.find((child) => child.name === 'reserved-memory');
  if (parent === undefined) return;
  const nodes = parent.children.filter(ofDeviceIsAvailable);
  // Fixed places first: the others go around them.
  const placed = [
    ...nodes.filter((node) => ofGetProperty(node, 'reg') !== null),
    ...nodes.filter((node) => ofGetProperty(node, 'reg') === null),
  ];
  for (const node of placed) {
    const range = ofGetProperty(node, 'reg') === null ? reserveAnywhere(kernel, node) : reserveFixed(kernel, node);
    if (range !== null) setUp(kernel, node, range.base, range.sizeBytes);
  }
}
interface Range {
  readonly base: PhysAddr;
  readonly sizeBytes: number;
}
function reserveFixed(kernel: Kernel, node: OfNode): Range | null {
  const range = ofAddressToResource(node, 0);
  if (range === null || range.sizeBytes === 0) return null;
  const sizeBytes = Math.ceil(range.sizeBytes / PAGE_SIZE) * PAGE_SIZE;
  if (memblockReserve(kernel, range.start, sizeBytes)) return { base: range.start, sizeBytes };
  const where = `base ${hexAddr(range.start)}, size ${Math.floor(sizeBytes / MIB)} MiB`;
  prErr(kernel, `OF: fdt: Reserved memory: failed to reserve memory for node '${node.fullName}': ${where}`);
  return null;
}
/** A property of `cells` cells as numbers. */
function numbers(node: OfNode, name: string, cells: number): number[] {
  const bytes = ofGetProperty(node, name);
  if (bytes === null || cells === 0) return [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const found: number[] = [];
  for (let at = 0; at + 4 * cells <= bytes.length; at += 4 * cells) {
    let value = 0;
    for (let i = 0; i < cells; i++) value = value * 2 ** 32 + view.getUint32(at + 4 * i);
    found.push(value);
  }
  return found;
}
/** `size`, `alignment` and `alloc-ranges` (__reserved_mem_alloc_size). */
function reserveAnywhere(kernel: Kernel, node: OfNode): Range | null {
  const addressCells = ofAddressCells(node);
  const sizeCells = ofSizeCells(node);
  const [size = 0] = numbers(node, 'size', sizeCells);
  if (size === 0) return null;
  const [asked = PAGE_SIZE] = numbers(node, 'alignment', sizeCells);
  const isCma = ofPropertyReadBool(node, 'reusable') && ofDeviceIsCompatible(node, 'shared-dma-pool');
  const alignBytes = Math.max(asked, isCma ? CMA_MIN_ALIGNMENT_BYTES : PAGE_SIZE);
  const sizeBytes = Math.ceil(size / PAGE_SIZE) * PAGE_SIZE;
  const ranges = rangesOf(node, addressCells, sizeCells);
  const { highmemStart } = kernel.options;
  if (ranges.length === 0) ranges.push({ minPhys: 0, limitPhys: highmemStart ?? Number.MAX_SAFE_INTEGER });
  for (const { minPhys, limitPhys } of ranges) {
    const base = memblockAlloc(kernel, { sizeBytes, alignBytes, minPhys, limitPhys });
    if (base !== null) return { base, sizeBytes };
  }
  prErr(kernel, `OF: reserved mem: failed to allocate memory for node '${node.fullName}'`);
  return null;
}
function rangesOf(node: OfNode, addressCells: number, sizeCells: number): { minPhys: number; limitPhys: number }[] {
  const cells = numbers(node, 'alloc-ranges', 1);
  const found: { minPhys: number; limitPhys: number }[] = [];
  const step = addressCells + sizeCells;
  const join = (at: number, count: number): number =>
    cells.slice(at, at + count).reduce((value, cell) => value * 2 ** 32 + cell, 0);
  for (let at = 0; step > 0 && at + step <= cells.length; at += step) {
    const minPhys = join(at, addressCells);
    found.push({ minPhys, limitPhys: minPhys + join(at + addressCells, sizeCells) });
  }
  return found;
}

function setUp(kernel: Kernel, node: OfNode, base: PhysAddr, sizeBytes: number): void {
  const region = { node, base, sizeBytes, cma: null, coherent: null, restricted: null };
  const list = kernel.subsystem(KEY, makeRegions);
  const mib = Math.floor(sizeBytes / MIB);
  const has = (name: string): boolean => ofPropertyReadBool(node, name);
  const created = (what: string): void =>
    prInfo(kernel, `Reserved memory: created ${what} memory pool at ${hexAddr(base)}, size ${mib} MiB`);
  if (ofDeviceIsCompatible(node, 'shared-dma-pool') && has('reusable') && !has('no-map')) {
    const cma = setUpCma(kernel, node, base, sizeBytes);
    if (cma !== null) created('CMA');
    list.push({ ...region, kind: cma === null ? 'plain' : 'cma', cma });
  } else if (ofDeviceIsCompatible(node, 'shared-dma-pool') && !has('reusable')) {
    created('DMA');
    if (has('linux,dma-default')) dmaInitGlobalCoherent(kernel, base, sizeBytes);
    list.push({ ...region, kind: 'coherent' });
  } else if (ofDeviceIsCompatible(node, 'restricted-dma-pool') && isRestricted(has)) {
    const text = `Reserved memory: created restricted DMA pool at ${hexAddr(base)}, size ${mib} MiB`;
    prInfo(kernel, text);
    list.push({ ...region, kind: 'restricted' });
  } else {
    list.push({ ...region, kind: 'plain' });
  }
}
function isRestricted(has: (name: string) => boolean): boolean {
  return !['reusable', 'linux,cma-default', 'linux,dma-default', 'no-map'].some(has);
}
/** As rmem_cma_setup. */
function setUpCma(kernel: Kernel, node: OfNode, base: PhysAddr, sizeBytes: number): Cma | null {
  const isDefault = ofPropertyReadBool(node, 'linux,cma-default');
  if (kernel.cmdline.has('cma') && isDefault) {
    prInfo(kernel, `Reserved memory: bypass ${node.fullName} node, using cmdline CMA params instead`);
    return null;
  }
  if (base % CMA_MIN_ALIGNMENT_BYTES !== 0 || sizeBytes % CMA_MIN_ALIGNMENT_BYTES !== 0) {
    prErr(kernel, 'Reserved memory: incorrect alignment of CMA region');
    return null;
  }
  const cma = cmaInitReservedMem(kernel, base, sizeBytes, node.fullName);
  if (isErr(cma)) {
    prErr(kernel, 'Reserved memory: unable to setup CMA region');
    return null;
  }
  if (isDefault && defaultCma(kernel) === null) setDefaultCma(kernel, cma);
  return cma;
}

function regionOf(kernel: Kernel, node: OfNode | null): ReservedMem | null {
  return node === null ? null : (reservedMem(kernel).find((region) => region.node === node) ?? null);
}
/** Give a device the region that its node's `memory-region` names first. See `ofReservedMemDeviceInitByIdx`. @linux of_reserved_mem_device_init */
export function ofReservedMemDeviceInit(dev: Device): Errno {
  return dev.ofNode === null ? ENODEV : ofReservedMemDeviceInitByIdx(dev, dev.ofNode, 0);
}
/**
 * Give a device region number `index` of the node's `memory-region`: its CMA area, its own coherent memory, or the pool
 * that all its transfers go through. ENODEV when there is no such reference, EINVAL when the region is of another sort,
 * EBUSY when the device has its own memory already. May sleep. @linux of_reserved_mem_device_init_by_idx
 */
export function ofReservedMemDeviceInitByIdx(dev: Device, node: OfNode, index: number): Errno {
  const target = ofParsePhandle(node, 'memory-region', index);
  if (target === null || !ofDeviceIsAvailable(target)) return ENODEV;
  const region = regionOf(dev.kernel, target);
  if (region === null || region.kind === 'plain') return EINVAL;
  if (region.kind === 'cma') {
    devSetCmaArea(dev, region.cma);
    return OK;
  }
  return region.kind === 'coherent' ? assignCoherent(dev, region) : assignRestricted(dev, region);
}
/** As rmem_dma_device_init. */
function assignCoherent(dev: Device, region: ReservedMem): Errno {
  if (dev.dmaMem !== null) return EBUSY;
  if (region.coherent === null) {
    const mem = dmaInitCoherentMemory(dev.kernel, region.base, null, region.sizeBytes);
    if (isErr(mem)) return mem;
    region.coherent = mem;
  }
  const last = region.base + region.sizeBytes - 1;
  if (last > minNotZero(dev.coherentDmaMaskLimit, dev.busDmaLimit)) {
    devWarn(dev, "reserved memory is beyond device's set DMA address range");
  }
  dev.dmaMem = region.coherent;
  return OK;
}
/** As rmem_swiotlb_device_init. */
function assignRestricted(dev: Device, region: ReservedMem): Errno {
  const { kernel } = dev;
  if (PageHighMem(kernel, physToPage(region.base))) {
    devErr(dev, 'Restricted DMA pool must be accessible within the linear mapping.');
    return EINVAL;
  }
  if (region.restricted === null) {
    const mem = new IoTlbMem();
    new Swiotlb(kernel, mem, region.base, Math.floor(region.sizeBytes / 2 ** IO_TLB_SHIFT), 1);
    mem.forceBounce = true;
    mem.forAlloc = true;
    region.restricted = mem;
  }
  dev.dmaIoTlbMem = region.restricted;
  return OK;
}
/** Take a device's regions away: its own memory, its CMA area, its restricted pool. @linux of_reserved_mem_device_release */
export function ofReservedMemDeviceRelease(dev: Device): void {
  dev.dmaMem = null;
  dev.cmaArea = null;
  dev.dmaIoTlbMem = null;
}

/** @internal The restricted pool that a device's node refers to, given to it as its bus is set up. @linux of_dma_set_restricted_buffer */
export function ofDmaSetRestrictedBuffer(dev: Device): void {
  const node = dev.ofNode;
  if (node === null || reservedMem(dev.kernel).length === 0) return;
  for (let index = 0; ; index++) {
    const target = ofParsePhandle(node, 'memory-region', index);
    if (target === null) return;
    if (!ofDeviceIsCompatible(target, 'restricted-dma-pool') || !ofDeviceIsAvailable(target)) continue;
    const error = ofReservedMemDeviceInitByIdx(dev, node, index);
    if (error !== OK) prWarn(dev.kernel, `${dev.name}: failed to initialise "restricted-dma-pool" memory node`);
    return;
  }
}
