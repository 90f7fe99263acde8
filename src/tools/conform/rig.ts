/** A machine like the recorded one: the same boot arguments, as much memory, and a device that nobody has used yet. */

import { physAddr } from '../../base/index.ts';
import { q35 } from '../../boards/q35.ts';
import { iommuGetDomainForDev, iommuIovaToPhys } from '../../iommu/index.ts';
import {
  allocContigRange,
  allocPages,
  type Device,
  FrameKind,
  freeContigRange,
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
  /** Events that are not in the file and were assumed (see history.ts). */
  unseenEvents = 0;
  readonly #taken: (() => void)[] = [];
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
  /** Where the pool of bounce buffers begins, and its slots. */
  get poolStart(): number {
    return ioTlbMemOf(this.dev).start;
  }
  get poolSlots(): number {
    const { start, end } = ioTlbMemOf(this.dev);
    return (end - start) / 2048;
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
    this.#taken.push(() => this.kernel.pages.release(page, order));
    return page;
  }
  /** Pages at the very place where the recorded kernel's page allocator had them, which decides what a mask reaches. */
  pagesAt(phys: number, count: number): Page {
    const page = physToPage(physAddr(phys));
    const bank = this.kernel.machine.bankAt(phys);
    if (bank === null || phys % 4096 !== 0 || !bank.contains(phys, count * 4096)) {
      throw new GoldenError(`0x${phys.toString(16)}: expected ${count} whole pages of RAM, found none there`);
    }
    if (bank.kindAt(phys) === FrameKind.FREE && allocContigRange(this.kernel, page, count) === 0) {
      this.#taken.push(() => freeContigRange(this.kernel, page, count));
      return page;
    }
    throw new GoldenError(`0x${phys.toString(16)}: the page is in use on this machine`);
  }
  /** Give back all pages. */
  release(): void {
    for (const giveBack of this.#taken.splice(0)) giveBack();
  }
  physOfPage(page: Page): number {
    return pageToPhys(page);
  }
}

/** Machines like the recorded one, each with eight devices that nobody has used: one for each replay. */
export class RigPool {
  readonly #recorded: RecordedMachine;
  #system: Awaited<ReturnType<typeof q35.boot>> | null = null;
  #used = 0;

  constructor(recorded: RecordedMachine) {
    this.#recorded = recorded;
  }

  /** Run `body` with an unused device, in process context. What it takes from the page allocator it must give back. */
  async run<T>(body: (rig: Rig) => Promise<T>): Promise<T> {
    this.#system ??= await this.#boot();
    const used = this.#used++;
    return this.#system.run((kernel) => {
      const devices = kernel.devices.filter(({ driver }) => driver?.name === 'edu');
      const dev = devices[used];
      if (dev === undefined) throw new Error('the machine has no edu device left');
      if (used + 1 === devices.length) this.#end();
      return body(new Rig(kernel, dev));
    });
  }
  #end(): void {
    this.#system = null;
    this.#used = 0;
  }
  #boot(): ReturnType<typeof q35.boot> {
    const { cmdline, ramBytes, untrusted } = this.#recorded;
    return q35.boot({ seed: 1, cmdline, ramBytes, cacheNoise: 'off', untrusted });
  }
}
