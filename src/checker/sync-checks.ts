/** Holds sync calls against the ledger. */
import type { DmaAddr } from '../base/addr.ts';
import type { Device } from '../kernel/device.ts';
import { DMA_BIDIRECTIONAL, type DmaDataDirection, dmaDirectionName } from '../kernel/dma-direction.ts';
import { type Scatterlist, sgNext } from '../mapping/index.ts';
import { EntryType } from './ledger.ts';
import type { MemoryChecks } from './memory-checks.ts';
import type { CheckState } from './state.ts';

/** See the file's head. */
export class SyncChecks {
  readonly #state: CheckState;
  readonly #memory: MemoryChecks;

  constructor(state: CheckState, memory: MemoryChecks) {
    this.#state = state;
    this.#memory = memory;
  }

  sync(dev: Device, addr: DmaAddr, size: number, dir: DmaDataDirection, forCpu: boolean): void {
    const state = this.#state;
    const { ledger } = state;
    const number = state.deviceNumber(dev);
    const entry = addr < 0 ? -1 : this.#containing(number, addr, size, dir);
    if (entry < 0) {
      this.#reportNothing(dev, addr, size, forCpu);
      return;
    }
    const mapped = ledger.direction[entry]!;
    if (mapped !== dir && mapped !== DMA_BIDIRECTIONAL) {
      const values = {
        address: addr,
        bytes: size,
        mappedDirection: dmaDirectionName(mapped),
        syncedDirection: dmaDirectionName(dir),
        forCpu,
      };
      state.report('dma/sync-direction', dev, state.here(), state.madeAt(entry), values, addr);
      return;
    }
    if (!forCpu) return;
    this.#memory.checkEdges(entry);
    this.#handOver(entry, addr - ledger.address[entry]!, size);
  }

  /** The CPU has seen [offset, offset+size): what the device wrote there is no longer unseen. */
  #handOver(entry: number, offset: number, size: number): void {
    const { wroteFrom, wroteTo } = this.#state.ledger;
    if (wroteTo[entry] === 0) return;
    if (offset <= wroteFrom[entry]!) wroteFrom[entry] = Math.max(wroteFrom[entry]!, offset + size);
    else if (offset + size >= wroteTo[entry]!) wroteTo[entry] = Math.min(wroteTo[entry]!, offset);
    if (wroteFrom[entry]! >= wroteTo[entry]!) wroteTo[entry] = 0;
  }

  syncSg(dev: Device, sgl: Scatterlist, nents: number, dir: DmaDataDirection, forCpu: boolean): void {
    const { ledger } = this.#state;
    const number = this.#state.deviceNumber(dev);
    const first = sgl.dmaAddress < 0 ? -1 : ledger.find(number, sgl.dmaAddress, sgl.dmaLength, EntryType.SG, dir);
    if (first < 0) {
      this.#reportNothing(dev, sgl.dmaAddress, sgl.dmaLength || sgl.length, forCpu);
      return;
    }
    const mapped = ledger.type[first] === EntryType.SG ? ledger.sgMapped[first]! : 1;
    let sg: Scatterlist | null = sgl;
    for (let i = 0; i < Math.min(nents, mapped) && sg !== null; i++, sg = sgNext(sg)) {
      this.sync(dev, sg.dmaAddress, sg.dmaLength, dir, forCpu);
    }
  }

  /** The entry that has all of the range; one of the same direction when there are several. */
  #containing(device: number, addr: number, size: number, dir: DmaDataDirection): number {
    const { ledger } = this.#state;
    // Most sync calls are for a whole mapping.
    const exact = ledger.byAddress.firstExact(device, addr, size);
    if (exact >= 0 && ledger.size[exact]! >= size && ledger.direction[exact] === dir) return exact;
    let found = -1;
    ledger.byAddress.overlapping(device, addr, addr + 1, (entry) => {
      if (addr + size > ledger.address[entry]! + ledger.size[entry]!) return false;
      const fits = ledger.direction[entry] === dir;
      if (fits || found < 0) found = entry;
      return fits;
    });
    return found;
  }

  #reportNothing(dev: Device, addr: number, size: number, forCpu: boolean): void {
    const state = this.#state;
    const { ledger } = state;
    const entry = addr < 0 ? -1 : ledger.byAddress.covering(state.deviceNumber(dev), addr, ledger.rights, 3);
    if (entry < 0) {
      state.report('dma/sync-unknown', dev, state.here(), null, { address: addr, bytes: size, forCpu }, addr);
      return;
    }
    const values = {
      address: addr,
      bytes: size,
      mapAddress: ledger.address[entry]!,
      mapBytes: ledger.size[entry]!,
      forCpu,
    };
    state.report('dma/sync-outside', dev, state.here(), state.madeAt(entry), values, addr);
  }
}
