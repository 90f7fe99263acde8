/** Rules of the memory behind mappings: what kind it is, who else uses its cache lines, whether it was freed. */
import { alignDown, alignUp, type DmaAddr, rangesOverlap } from '../base/addr.ts';
import { iommuGetDomainForDev, iommuIovaToPhys } from '../iommu/index.ts';
import type { Device } from '../kernel/device.ts';
import { DMA_TO_DEVICE, dmaDirectionName } from '../kernel/dma-direction.ts';
import { FrameKind, frameKindName } from '../machine/frames.ts';
import type { RamBank } from '../machine/ram.ts';
import { DMA_ATTR_SKIP_CPU_SYNC, dmaToPhys, type MapKind } from '../mapping/index.ts';
import { FreedMemory } from './freed-memory.ts';
import { EntryFlag, MAY_READ, MAY_WRITE } from './ledger.ts';
import type { CheckState } from './state.ts';

/** See the file's head. */
export class MemoryChecks {
  readonly #state: CheckState;
  readonly #freed = new FreedMemory();
  readonly #lineBytes: number;
  #bank: RamBank | null = null;

  constructor(state: CheckState) {
    this.#state = state;
    this.#lineBytes = state.machine.traits.cacheLineBytes;
  }

  #bankAt(phys: number): RamBank | null {
    if (this.#bank?.contains(phys)) return this.#bank;
    const bank = this.#state.machine.bankAt(phys);
    if (bank !== null) this.#bank = bank;
    return bank;
  }

  /** A map call, failed or not. */
  checkKind(dev: Device, kind: MapKind, phys: number, size: number, addr: number, dir: number): void {
    const bank = this.#bankAt(phys);
    if (bank === null) return;
    const state = this.#state;
    const frames = bank.kindAt(phys);
    if (frames === FrameKind.SLAB || frames === FrameKind.FREE) {
      if (frames === FrameKind.FREE || this.#freed.has(phys, size)) {
        const values = { address: addr, bytes: size, phys, order: 'mapped after free' } as const;
        state.report('dma/freed-memory', dev, state.here(), null, values, phys);
      }
      return;
    }
    if (frames === FrameKind.PAGES) return;
    if (frames === FrameKind.KERNEL_TEXT || frames === FrameKind.KERNEL_RODATA) {
      const values = { bytes: size, what: frameKindName(frames), direction: dmaDirectionName(dir) };
      state.report('dma/kernel-image', dev, state.here(), null, values, phys);
    }
    const byAddress = kind === 'single' && (frames === FrameKind.VMALLOC || frames === FrameKind.MODULE_DATA);
    if (frames === FrameKind.STACK || byAddress) {
      const values = { bytes: size, what: frameKindName(frames), refused: addr < 0 };
      state.report('dma/stack-or-vmalloc', dev, state.here(), null, values, phys);
    }
  }

  /** A new mapping, not in the ledger yet: does it share cache lines with another, and does a device write there? */
  checkOverlap(dev: Device, addr: number, phys: number, size: number, dir: number, attrs: number): void {
    const state = this.#state;
    const { ledger } = state;
    if (ledger.byPhys.count === 0 || (attrs & DMA_ATTR_SKIP_CPU_SYNC) !== 0 || size === 0) return;
    const line = this.#lineBytes;
    const from = phys - (phys % line);
    const to = alignUp(phys + size, line);
    const against = dir === DMA_TO_DEVICE ? MAY_WRITE : MAY_READ | MAY_WRITE;
    const other = ledger.firstInMemory(from, to - from, against);
    if (other < 0) return;
    const otherPhys = ledger.phys[other]!;
    const otherBytes = ledger.size[other]!;
    if ((ledger.attrs[other]! & DMA_ATTR_SKIP_CPU_SYNC) !== 0) return;
    const sameBytes = rangesOverlap(phys, size, otherPhys, otherBytes);
    // One buffer that a device reads and then overwrites, mapped for both at once: what SPI does with equal buffers.
    if (sameBytes && (dir === DMA_TO_DEVICE || ledger.direction[other] === DMA_TO_DEVICE)) return;
    // Two objects of kmalloc share a line only where the allocator knows that no line matters.
    if (!sameBytes && dev.dmaCoherent && this.#bankAt(phys)?.kindAt(phys) !== FrameKind.PAGES) return;
    const values = {
      address: addr,
      bytes: size,
      otherDevice: state.devices[ledger.device[other]!]!.name,
      otherAddress: ledger.address[other]!,
      otherBytes,
      lineBytes: line,
      sameBytes,
    };
    state.report('dma/cacheline-overlap', dev, state.here(), state.madeAt(other), values, phys);
  }

  /**
   * The CPU is about to get an entry's bytes back: its edge lines are dropped. What the CPU wrote next to the buffer in
   * the same line, while a device wrote to the buffer there, is lost, or the device's bytes are.
   */
  checkEdges(entry: number): void {
    const state = this.#state;
    const { ledger } = state;
    if (ledger.wroteTo[entry] === 0 || (ledger.flags[entry]! & EntryFlag.HAS_PHYS) === 0) return;
    const dev = state.devices[ledger.device[entry]!]!;
    if (dev.dmaCoherent) return;
    const start = ledger.phys[entry]!;
    const end = start + ledger.size[entry]!;
    const line = this.#lineBytes;
    if (start % line === 0 && end % line === 0) return;
    // Of a buffer that bounced, the device writes to no line.
    if (physOf(dev, ledger.address[entry]! as DmaAddr) !== start) return;
    const wroteFrom = start + ledger.wroteFrom[entry]!;
    const wroteTo = start + ledger.wroteTo[entry]!;
    const head = alignDown(start, line);
    const tail = alignDown(end, line);
    if (wroteFrom < head + line && this.#cpuWrote(head, start)) this.#reportNeighbour(dev, entry, head, start);
    if (end !== tail && wroteTo > tail && this.#cpuWrote(end, tail + line))
      this.#reportNeighbour(dev, entry, end, tail + line);
  }
  #cpuWrote(from: number, to: number): boolean {
    const bank = this.#bankAt(from);
    if (bank === null || bank.fill === null) return false;
    for (let at = from - bank.base; at < to - bank.base; at++) if (bank.cpu[at] !== bank.fill[at]) return true;
    return false;
  }
  #reportNeighbour(dev: Device, entry: number, from: number, to: number): void {
    const state = this.#state;
    const { ledger } = state;
    const values = {
      address: ledger.address[entry]!,
      bytes: ledger.size[entry]!,
      otherDevice: '',
      otherAddress: from,
      otherBytes: to - from,
      lineBytes: this.#lineBytes,
      sameBytes: false,
    };
    state.report('dma/cacheline-overlap', dev, state.here(), state.madeAt(entry), values, from);
  }

  /** An allocator hands memory out: it is not free any more. */
  allocated(allocator: string, phys: number, size: number): void {
    if (allocator === 'slab') this.#freed.handedOut(phys, size);
  }
  /** An allocator takes memory back. */
  released(allocator: string, phys: number, size: number): void {
    const state = this.#state;
    const { ledger } = state;
    if (allocator === 'slab') this.#freed.add(phys, size);
    if (ledger.byPhys.count === 0) return;
    const entry = ledger.firstInMemory(phys, size, MAY_READ | MAY_WRITE);
    if (entry < 0) return;
    const dev = state.devices[ledger.device[entry]!]!;
    const values = {
      address: ledger.address[entry]!,
      bytes: ledger.size[entry]!,
      phys,
      order: 'freed while mapped',
    } as const;
    state.report('dma/freed-memory', dev, state.here(), state.madeAt(entry), values, phys);
  }
}

/** The memory behind a mapped address. */
function physOf(dev: Device, addr: DmaAddr): number {
  const domain = dev.dmaOps === null ? null : iommuGetDomainForDev(dev);
  return domain === null ? dmaToPhys(dev, addr) : iommuIovaToPhys(domain, addr);
}
