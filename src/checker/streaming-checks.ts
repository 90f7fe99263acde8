/** Holds map and unmap calls against the ledger. */
import type { DmaAddr } from '../base/addr.ts';
import type { Device } from '../kernel/device.ts';
import { type DmaDataDirection, dmaDirectionName } from '../kernel/dma-direction.ts';
import { DMA_ATTR_SKIP_CPU_SYNC, type MapKind, type Scatterlist, sgNext, sgPhys } from '../mapping/index.ts';
import { EntryFlag, EntryType, entryTypeName, type Ledger } from './ledger.ts';
import type { MemoryChecks } from './memory-checks.ts';
import { placeOf } from './place.ts';
import type { CheckState } from './state.ts';

const typeOf = (kind: MapKind): EntryType => (kind === 'resource' ? EntryType.RESOURCE : EntryType.SINGLE);

/** See the file's head. */
export class StreamingChecks {
  readonly #state: CheckState;
  readonly #ledger: Ledger;
  readonly #memory: MemoryChecks;
  /** The newest mapping: the one that the next `mappingError` is about, as a rule. */
  #newest = 0;

  constructor(state: CheckState, memory: MemoryChecks) {
    this.#state = state;
    this.#ledger = state.ledger;
    this.#memory = memory;
  }

  map(
    dev: Device,
    kind: MapKind,
    phys: number,
    size: number,
    addr: DmaAddr,
    dir: DmaDataDirection,
    attrs: number,
  ): void {
    const state = this.#state;
    const mapped = kind === 'resource' ? -1 : phys;
    if (mapped >= 0) this.#memory.checkKind(dev, kind, phys, size, addr, dir);
    if (addr < 0) return;
    const number = state.deviceNumber(dev);
    const flags = kind === 'page' ? EntryFlag.PAGE : 0;
    if (mapped >= 0) this.#memory.checkOverlap(dev, addr, phys, size, dir, attrs);
    const entry = this.#ledger.add(number, typeOf(kind), addr, mapped, size, dir, attrs, flags, state.machine.now());
    this.#ledger.traces[entry] = state.trace();
    this.#newest = entry;
  }

  unmap(dev: Device, kind: MapKind, addr: DmaAddr, size: number, dir: DmaDataDirection, attrs: number): void {
    const state = this.#state;
    const ledger = this.#ledger;
    if (addr < 0) {
      state.report('dma/unmap-invalid-address', dev, state.here(), null, { bytes: size }, addr);
      return;
    }
    const number = state.deviceNumber(dev);
    const type = typeOf(kind);
    const entry = ledger.find(number, addr, size, type, dir);
    if (entry < 0) {
      this.reportUnknown(dev, addr, size);
      return;
    }
    if (ledger.size[entry] !== size && ledger.type[entry] === type) this.#reportSize(dev, entry, size);
    if (ledger.type[entry] !== type) this.#reportFunction(dev, entry, type);
    if (ledger.direction[entry] !== dir) this.#reportDirection(dev, entry, dir);
    if (ledger.type[entry] === EntryType.SINGLE || ledger.type[entry] === EntryType.RESOURCE) {
      if ((ledger.flags[entry]! & EntryFlag.ERROR_CHECKED) === 0) this.reportUnchecked(entry, true);
    }
    if ((attrs & DMA_ATTR_SKIP_CPU_SYNC) === 0) this.#memory.checkEdges(entry);
    this.#end(entry);
  }

  mappingError(dev: Device, addr: DmaAddr): void {
    if (addr < 0) return;
    const { byAddress, address, device, flags } = this.#ledger;
    const number = this.#state.deviceNumber(dev);
    const newest = this.#newest;
    if (address[newest] === addr && device[newest] === number && this.#ledger.isLive(newest)) {
      if ((flags[newest]! & EntryFlag.ERROR_CHECKED) === 0) {
        flags[newest]! |= EntryFlag.ERROR_CHECKED;
        return;
      }
    }
    // As dma-debug: of several mappings of one address, each call checks one.
    byAddress.overlapping(number, addr, addr + 1, (entry) => {
      if (address[entry] !== addr || (flags[entry]! & EntryFlag.ERROR_CHECKED) !== 0) return false;
      flags[entry]! |= EntryFlag.ERROR_CHECKED;
      return true;
    });
  }

  mapSg(dev: Device, sgl: Scatterlist, nents: number, mapped: number, dir: DmaDataDirection, attrs: number): void {
    if (mapped <= 0) return;
    const state = this.#state;
    const number = state.deviceNumber(dev);
    const trace = state.trace();
    let sg: Scatterlist | null = sgl;
    for (let i = 0; i < mapped && sg !== null; i++, sg = sgNext(sg)) {
      // Where entries were merged, a segment need not be one range of memory.
      const phys = mapped === nents && sg.length === sg.dmaLength ? sgPhys(sg) : -1;
      if (phys >= 0) {
        this.#memory.checkKind(dev, 'page', phys, sg.dmaLength, sg.dmaAddress, dir);
        this.#memory.checkOverlap(dev, sg.dmaAddress, phys, sg.dmaLength, dir, attrs);
      }
      const now = state.machine.now();
      const flags = EntryFlag.ERROR_CHECKED;
      const entry = this.#ledger.add(number, EntryType.SG, sg.dmaAddress, phys, sg.dmaLength, dir, attrs, flags, now);
      this.#ledger.sgNents[entry] = nents;
      this.#ledger.sgMapped[entry] = mapped;
      this.#ledger.traces[entry] = trace;
    }
  }

  unmapSg(dev: Device, sgl: Scatterlist, nents: number, dir: DmaDataDirection, attrs: number): void {
    const state = this.#state;
    const ledger = this.#ledger;
    const number = state.deviceNumber(dev);
    const first = sgl.dmaAddress < 0 ? -1 : ledger.find(number, sgl.dmaAddress, sgl.dmaLength, EntryType.SG, dir);
    if (first < 0) {
      this.reportUnknown(dev, sgl.dmaAddress, sgl.dmaLength || sgl.length);
      return;
    }
    if (ledger.type[first] !== EntryType.SG) {
      this.#reportFunction(dev, first, EntryType.SG);
      this.#end(first);
      return;
    }
    const mapped = ledger.sgMapped[first]!;
    const mappedNents = ledger.sgNents[first]!;
    if (mappedNents !== nents) {
      const values = { mappedNents, givenNents: nents, returned: mapped };
      state.report('dma/sg-nents', dev, state.here(), state.madeAt(first), values, sgl.dmaAddress);
    }
    if (ledger.direction[first] !== dir) this.#reportDirection(dev, first, dir);
    let sg: Scatterlist | null = sgl;
    for (let i = 0; i < mapped && sg !== null; i++, sg = sgNext(sg)) {
      const entry = ledger.find(number, sg.dmaAddress, sg.dmaLength, EntryType.SG, dir);
      if (entry < 0 || ledger.type[entry] !== EntryType.SG) continue;
      if ((attrs & DMA_ATTR_SKIP_CPU_SYNC) === 0) this.#memory.checkEdges(entry);
      this.#end(entry);
    }
  }

  /** An entry's life is over. */
  #end(entry: number): void {
    const { device, address, size, traces } = this.#ledger;
    const state = this.#state;
    state.history.add(device[entry]!, address[entry]!, size[entry]!, traces[entry] ?? null, state.trace());
    this.#ledger.remove(entry);
  }

  /** Nothing is mapped there for that device: say what is known. */
  reportUnknown(dev: Device, addr: number, size: number): void {
    const state = this.#state;
    const { ledger, history } = state;
    const number = state.deviceNumber(dev);
    const at = state.here();
    const bytes = size > 0 ? size : 1;
    const inside = ledger.byAddress.covering(number, addr, ledger.rights, 3);
    if (inside >= 0) {
      const offset = addr - ledger.address[inside]!;
      const values = { address: addr, bytes: size, why: 'inside', otherDevice: '', offset } as const;
      state.report('dma/unmap-unknown', dev, at, state.madeAt(inside), values, addr);
      return;
    }
    const other = state.devices.findIndex(
      (_, i) => i !== number && ledger.byAddress.covering(i, addr, ledger.rights, 3) >= 0,
    );
    if (other >= 0) {
      const entry = ledger.byAddress.covering(other, addr, ledger.rights, 3);
      const otherDevice = state.devices[other]!.name;
      const values = { address: addr, bytes: size, why: 'other-device', otherDevice, offset: 0 } as const;
      state.report('dma/unmap-unknown', dev, at, state.madeAt(entry), values, addr);
      return;
    }
    const past = history.find(number, addr, bytes);
    const why = past >= 0 ? 'unmapped' : 'never';
    const earlier = past >= 0 ? placeOf(history.mappedTraces[past] ?? null) : null;
    state.report(
      'dma/unmap-unknown',
      dev,
      at,
      earlier,
      { address: addr, bytes: size, why, otherDevice: '', offset: 0 },
      addr,
    );
  }

  /** A mapping whose result was not tested. */
  reportUnchecked(entry: number, unmapped: boolean): void {
    const state = this.#state;
    const { address, size, type, device } = this.#ledger;
    const dev = state.devices[device[entry]!]!;
    const values = {
      address: address[entry]!,
      bytes: size[entry]!,
      type: entryTypeName(type[entry] as EntryType),
      unmapped,
    };
    const at = unmapped ? state.here() : null;
    state.report('dma/mapping-error-unchecked', dev, at, state.madeAt(entry), values, address[entry]!);
  }

  #reportSize(dev: Device, entry: number, size: number): void {
    const state = this.#state;
    const { address, size: sizes, type } = this.#ledger;
    const values = {
      address: address[entry]!,
      mappedBytes: sizes[entry]!,
      unmappedBytes: size,
      type: entryTypeName(type[entry] as EntryType),
    };
    state.report('dma/unmap-size', dev, state.here(), state.madeAt(entry), values, address[entry]!);
  }
  #reportDirection(dev: Device, entry: number, dir: DmaDataDirection): void {
    const state = this.#state;
    const { address, size, direction } = this.#ledger;
    const values = {
      address: address[entry]!,
      bytes: size[entry]!,
      mappedDirection: dmaDirectionName(direction[entry]!),
      unmappedDirection: dmaDirectionName(dir),
    };
    state.report('dma/unmap-direction', dev, state.here(), state.madeAt(entry), values, address[entry]!);
  }
  #reportFunction(dev: Device, entry: number, unmappedAs: EntryType): void {
    const state = this.#state;
    const { address, size, type } = this.#ledger;
    const values = {
      address: address[entry]!,
      bytes: size[entry]!,
      mappedAs: entryTypeName(type[entry] as EntryType),
      unmappedAs: entryTypeName(unmappedAs),
    };
    state.report('dma/unmap-function', dev, state.here(), state.madeAt(entry), values, address[entry]!);
  }
}
