/** Holds coherent and other allocations against the ledger. */
import type { DmaAddr } from '../base/addr.ts';
import type { Device } from '../kernel/device.ts';
import { DMA_BIDIRECTIONAL } from '../kernel/dma-direction.ts';
import type { AllocKind } from '../mapping/index.ts';
import { EntryFlag, EntryType, entryTypeName } from './ledger.ts';
import { placeOf } from './place.ts';
import type { CheckState } from './state.ts';

/** See the file's head. Blocks of a pool are parts of the pool's own allocations, which are told as well. */
export class CoherentChecks {
  readonly #state: CheckState;

  constructor(state: CheckState) {
    this.#state = state;
  }

  alloc(dev: Device, kind: AllocKind, phys: number, size: number, handle: DmaAddr, attrs: number): void {
    if (handle < 0 || kind === 'pool') return;
    const state = this.#state;
    const { ledger } = state;
    // Coherent memory takes no part in rules of cache lines, so its physical range is not indexed.
    const flags = EntryFlag.ERROR_CHECKED | (kind === 'coherent' ? 0 : EntryFlag.CACHED);
    const now = state.machine.now();
    const number = state.deviceNumber(dev);
    const entry = ledger.add(number, EntryType.COHERENT, handle, -1, size, DMA_BIDIRECTIONAL, attrs, flags, now);
    ledger.phys[entry] = phys;
    ledger.traces[entry] = state.trace();
  }

  free(dev: Device, kind: AllocKind, phys: number, size: number, handle: DmaAddr): void {
    if (kind === 'pool') return;
    const state = this.#state;
    const { ledger, history } = state;
    const number = state.deviceNumber(dev);
    const entry = handle < 0 ? -1 : ledger.find(number, handle, size, EntryType.COHERENT, DMA_BIDIRECTIONAL);
    const at = state.here();
    if (entry < 0) {
      const past = handle < 0 ? -1 : history.find(number, handle, size > 0 ? size : 1);
      const earlier = past >= 0 ? placeOf(history.mappedTraces[past] ?? null) : null;
      const values = { address: handle, bytes: size, allocatedPhys: -1, freedPhys: phys };
      state.report('dma/free-address', dev, at, earlier, values, handle);
      return;
    }
    const madeAt = state.madeAt(entry);
    const address = ledger.address[entry]!;
    if (ledger.type[entry] !== EntryType.COHERENT) {
      const mappedAs = entryTypeName(ledger.type[entry] as EntryType);
      const values = { address, bytes: ledger.size[entry]!, mappedAs, unmappedAs: 'coherent' };
      state.report('dma/unmap-function', dev, at, madeAt, values, address);
    } else {
      const allocatedBytes = ledger.size[entry]!;
      if (allocatedBytes !== size) {
        state.report('dma/free-size', dev, at, madeAt, { address, allocatedBytes, freedBytes: size }, address);
      }
      const allocatedPhys = ledger.phys[entry]!;
      if (phys >= 0 && allocatedPhys >= 0 && phys !== allocatedPhys) {
        const values = { address, bytes: size, allocatedPhys, freedPhys: phys };
        state.report('dma/free-address', dev, at, madeAt, values, address);
      }
    }
    history.add(number, address, ledger.size[entry]!, ledger.traces[entry] ?? null, state.trace());
    ledger.remove(entry);
  }
}
