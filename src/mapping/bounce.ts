/**
 * Where dma-direct turns to when a device cannot reach a buffer. Bounce buffers themselves are in a file of their own;
 * here is what a device knows of them: `dev.dmaIoTlbMem`, by default the one of the kernel.
 */
import { DMA_MAPPING_ERROR, type DmaAddr, type PhysAddr } from '../base/addr.ts';
import type { Device } from '../kernel/device.ts';
import type { DmaDataDirection } from '../kernel/dma-direction.ts';
import type { Page } from '../kernel/frame-table.ts';
import type { Kernel } from '../kernel/kernel.ts';

/** What provides bounce buffers. Physical addresses `tlb` lie in them. */
export interface BounceBackend {
  /** Find slots for [phys, phys+size) and copy in; `DMA_MAPPING_ERROR` when there is none or the device cannot reach it. */
  map(dev: Device, phys: PhysAddr, size: number, dir: DmaDataDirection, attrs: number): DmaAddr;
  /**
   * Find slots whose address has the bits of `allocAlignMask` clear (for IOMMUs, which map whole pages), and copy in.
   * Returns their physical address, or -1. @linux swiotlb_tbl_map_single
   */
  mapSlots(
    dev: Device,
    phys: PhysAddr,
    size: number,
    allocAlignMask: number,
    dir: DmaDataDirection,
    attrs: number,
  ): PhysAddr;
  /** Copy back unless `DMA_ATTR_SKIP_CPU_SYNC`, and free the slots. */
  unmap(dev: Device, tlb: PhysAddr, size: number, dir: DmaDataDirection, attrs: number): void;
  syncForCpu(dev: Device, tlb: PhysAddr, size: number, dir: DmaDataDirection): void;
  syncForDevice(dev: Device, tlb: PhysAddr, size: number, dir: DmaDataDirection): void;
  /** The largest mapping that can be bounced, in bytes. */
  maxMappingSize(dev: Device): number;
  /** Memory for coherent allocations of a device that may use nothing else. */
  allocPages(dev: Device, sizeBytes: number): Page | null;
  /** False when the page is not of this memory. */
  freePages(dev: Device, page: Page, sizeBytes: number): boolean;
}

/** The bounce buffers of a kernel or of one device. @linux struct io_tlb_mem */
export class IoTlbMem {
  /** There is memory to bounce through. @linux is_swiotlb_active */
  active = false;
  /** Everything bounces. @linux is_swiotlb_force_bounce */
  forceBounce = false;
  /** Coherent memory comes from here as well. @linux is_swiotlb_for_alloc */
  forAlloc = false;
  /** What kmalloc returns need not be alone in its cache lines: small buffers of non-coherent devices bounce. */
  bounceUnalignedKmalloc = false;
  /** The range of physical addresses that bounces lie in; empty without any. */
  start = 0;
  end = 0;
  backend: BounceBackend | null = null;

  /** Whether a physical address is a bounce. @linux is_swiotlb_buffer */
  contains(phys: number): boolean {
    return phys >= this.start && phys < this.end;
  }
}

const KEY = {};

/** The kernel's own bounce buffers; inactive until something fills them in. @linux io_tlb_default_mem */
export function defaultIoTlbMem(kernel: Kernel): IoTlbMem {
  return kernel.subsystem(KEY, () => new IoTlbMem());
}
/** The bounce buffers of a device. @linux swiotlb_dev_init */
export function ioTlbMemOf(dev: Device): IoTlbMem {
  // Kept with the device, so that mapping looks nothing up.
  dev.dmaIoTlbMem ??= defaultIoTlbMem(dev.kernel);
  return dev.dmaIoTlbMem as IoTlbMem;
}
/** @internal Bounce a buffer; the caller has seen that `tlb.active` or `tlb.forceBounce`. */
export function bounceMap(
  tlb: IoTlbMem,
  dev: Device,
  phys: PhysAddr,
  size: number,
  dir: DmaDataDirection,
  attrs: number,
): DmaAddr {
  return tlb.backend === null ? DMA_MAPPING_ERROR : tlb.backend.map(dev, phys, size, dir, attrs);
}
