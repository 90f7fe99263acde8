/** A machine like the recorded one: the same boot arguments, as much memory, and a device that nobody has used yet. */

import { physAddr } from '../../base/index.ts';
import { q35 } from '../../boards/q35.ts';
import { iommuGetDomainForDev, iommuIovaToPhys } from '../../iommu/index.ts';
import {
  allocContigRange,
  allocPages,
  type Device,
  FrameKind,
  GFP_KERNEL,
  type Kernel,
  type Mem,
  memAt,
  type Page,
  pageToPhys,
  physToPage,
} from '../../kernel/index.ts';
import { type DmaAddr, dmaToPhys, ioTlbMemOf } from '../../mapping/index.ts';
import { GoldenError, type RecordedMachine } from './golden.ts';
import type { AddressKind } from './outcome.ts';

/** See the file's head. */
export class Rig {
  readonly kernel: Kernel;
  readonly dev: Device;
  constructor(kernel: Kernel, dev: Device) {
    this.kernel = kernel;
    this.dev = dev;
  }

  /** Whether the device's addresses are translated by an IOMMU. */
  get translated(): boolean {
    const domain = iommuGetDomainForDev(this.dev);
    return domain !== null && domain.type !== 'identity';
  }
  /** What an address that was just mapped says. */
  kindOf(addr: number): AddressKind {
    if (this.translated) return 'iova';
    return addr >= 0 && ioTlbMemOf(this.dev).contains(addr) ? 'slot' : 'page';
  }
  /** The memory behind a mapped address. */
  physOf(addr: DmaAddr): number {
    const domain = iommuGetDomainForDev(this.dev);
    return domain !== null && this.translated ? iommuIovaToPhys(domain, addr) : dmaToPhys(this.dev, addr);
  }
  memoryAt(phys: number, sizeBytes: number): Mem {
    return memAt(this.kernel, phys, sizeBytes);
  }
  /** `2^order` pages from the page allocator. */
  pages(order: number): Page {
    const page = allocPages(this.kernel, GFP_KERNEL, order);
    if (page === null) throw new GoldenError(`the machine has no ${4096 << order} contiguous bytes left`);
    return page;
  }
  /** Pages at the very place where the recorded kernel's page allocator had them, which decides what a mask reaches. */
  pagesAt(phys: number, count: number): Page {
    const page = physToPage(physAddr(phys));
    const bank = this.kernel.machine.bankAt(phys);
    if (bank === null || phys % 4096 !== 0 || !bank.contains(phys, count * 4096)) {
      throw new GoldenError(`0x${phys.toString(16)}: expected ${count} whole pages of RAM, found none there`);
    }
    if (bank.kindAt(phys) === FrameKind.FREE && allocContigRange(this.kernel, page, count) === 0) return page;
    throw new GoldenError(`0x${phys.toString(16)}: the page is in use on this machine`);
  }
  physOfPage(page: Page): number {
    return pageToPhys(page);
  }
}

/** Boot such a machine and run `body` on it in process context. */
export async function withRig<T>(recorded: RecordedMachine, body: (rig: Rig) => Promise<T>): Promise<T> {
  const system = await q35.boot({
    seed: 1,
    cmdline: recorded.cmdline,
    ramBytes: recorded.ramBytes,
    cacheNoise: 'off',
    untrusted: recorded.untrusted,
  });
  return system.run((kernel) => {
    const dev = kernel.devices.find((candidate) => candidate.driver?.name === 'edu');
    if (dev === undefined) throw new Error('the machine has no edu device');
    return body(new Rig(kernel, dev));
  });
}
