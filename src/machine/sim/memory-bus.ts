import type { Cache } from './cache.ts';
import type { InterruptController } from './irq.ts';
import type { Prefetcher } from './prefetcher.ts';
import type { Region, RegionMap } from './region-map.ts';
import type { SimBank } from './sim-bank.ts';
import type { StoreBuffer } from './store-buffer.ts';

/** Bytes from `msiBase` on that take interrupt messages. */
const MSI_WINDOW_BYTES = 4096;

/** The machine's address map as device accesses see it, and what stands between them and memory. */
export class MemoryBus {
  readonly banks: readonly SimBank[];
  readonly registers: RegionMap;
  readonly irq: InterruptController;
  readonly cache: Cache;
  /** Null where caches do nothing by themselves. */
  readonly prefetcher: Prefetcher | null;
  /** Null on strongly ordered machines. */
  readonly stores: StoreBuffer | null;
  #last: SimBank;

  constructor(
    banks: readonly SimBank[],
    registers: RegionMap,
    irq: InterruptController,
    cache: Cache,
    prefetcher: Prefetcher | null,
    stores: StoreBuffer | null,
  ) {
    this.banks = banks;
    this.registers = registers;
    this.irq = irq;
    this.cache = cache;
    this.prefetcher = prefetcher;
    this.stores = stores;
    this.#last = banks[0] as SimBank;
  }

  /** The bank that holds `phys`, or null. */
  bankAt(phys: number): SimBank | null {
    const last = this.#last;
    if (phys >= last.base && phys < last.end) return last;
    for (let i = 0; i < this.banks.length; i++) {
      const bank = this.banks[i] as SimBank;
      if (phys >= bank.base && phys < bank.end) {
        this.#last = bank;
        return bank;
      }
    }
    return null;
  }

  /** Whether a write of `sizeBytes` at `phys` is an interrupt message. */
  isMessage(phys: number, sizeBytes: number): boolean {
    const base = this.irq.msiBase;
    return base >= 0 && sizeBytes === 4 && phys >= base && phys < base + MSI_WINDOW_BYTES;
  }

  // What a device's access means for the CPU's side of RAM.

  /** Before a device reads or writes: a snooping access makes dirty lines go first; then everything is in memory. */
  beforeAccess(bank: SimBank, offset: number, size: number, snoops: boolean): void {
    const start = offset - (offset % this.cache.lineBytes);
    const end = this.#lineEnd(offset + size);
    if (snoops === true) this.cache.clean(bank, start, end);
    else this.prefetcher?.note(bank, start, end);
  }
  /** After a device wrote: snooped lines hold the new bytes. */
  afterWrite(bank: SimBank, offset: number, size: number, snoops: boolean): void {
    if (snoops === true && bank.fill !== null) {
      this.cache.invalidate(bank, offset - (offset % this.cache.lineBytes), this.#lineEnd(offset + size));
    }
    if (this.stores !== null && bank.uncachedPages > 0) this.stores.written(bank, offset, size);
  }
  #lineEnd(end: number): number {
    const rest = end % this.cache.lineBytes;
    return rest === 0 ? end : end + this.cache.lineBytes - rest;
  }

  /** Read registers as a bus does: words where alignment and size allow it. Returns nothing; the bytes go to `into`. */
  readRegisters(region: Region, addr: number, into: Uint8Array, intoOffset: number, size: number): void {
    for (let done = 0; done < size; ) {
      const offset = addr + done - region.base;
      const width = accessWidth(offset, size - done);
      let value = region.block.readRegister(offset, width);
      for (let i = 0; i < width; i++) {
        into[intoOffset + done + i] = value;
        value >>>= 8;
      }
      done += width;
    }
  }
  writeRegisters(region: Region, addr: number, from: Uint8Array, fromOffset: number, size: number): void {
    for (let done = 0; done < size; ) {
      const offset = addr + done - region.base;
      const width = accessWidth(offset, size - done);
      let value = 0;
      for (let i = width - 1; i >= 0; i--) value = (value << 8) | (from[fromOffset + done + i] as number);
      region.block.writeRegister(offset, width, value >>> 0);
      done += width;
    }
  }
}

function accessWidth(offset: number, left: number): number {
  if (offset % 4 === 0 && left >= 4) return 4;
  return offset % 2 === 0 && left >= 2 ? 2 : 1;
}
