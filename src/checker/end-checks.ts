/** What must be so when a driver is unbound, when it says that it failed, and when the run ends. */
import type { Device } from '../kernel/device.ts';
import { dmaDirectionName } from '../kernel/dma-direction.ts';
import type { Mem } from '../machine/mem.ts';
import type { EngineChecks } from './engine-checks.ts';
import { EntryFlag, EntryType, entryTypeName } from './ledger.ts';
import { isHouseDriver, type Place } from './place.ts';
import type { ByteRange } from './rule.ts';
import { differences, staleForCpu } from './stale.ts';
import type { CheckState } from './state.ts';
import type { StreamingChecks } from './streaming-checks.ts';

/** See the file's head. */
export class EndChecks {
  readonly #state: CheckState;
  readonly #streaming: StreamingChecks;
  readonly #engine: EngineChecks;

  constructor(state: CheckState, streaming: StreamingChecks, engine: EngineChecks) {
    this.#state = state;
    this.#engine = engine;
    this.#streaming = streaming;
  }

  /** A probe succeeded: what it mapped and allocated for its device is in use until the driver is unbound. */
  bound(dev: Device): void {
    const { ledger } = this.#state;
    const number = this.#state.deviceNumber(dev);
    ledger.forEach((entry) => {
      if (ledger.device[entry] === number) ledger.flags[entry]! |= EntryFlag.HELD_BY_DRIVER;
    });
  }
  /** Remove is over, and managed resources are released: what is left is lost. */
  unbound(dev: Device): void {
    const { ledger } = this.#state;
    const number = this.#state.deviceNumber(dev);
    const isTaken = this.#engine.isTaken(dev);
    this.#leaks('unbound', (entry) => {
      if (ledger.device[entry] !== number) return false;
      return !(isTaken && ledger.type[entry] === EntryType.COHERENT && isHouseDriver(this.#state.madeAt(entry)));
    });
  }
  /** The run came to its own end. */
  runEnded(): void {
    this.#staleAll('', null, null);
    const { ledger } = this.#state;
    this.#leaks('run-end', (entry) => {
      if ((ledger.flags[entry]! & EntryFlag.HELD_BY_DRIVER) !== 0) return false;
      // A controller's driver allocates for itself while it works, and frees when it is unbound.
      const dev = this.#state.devices[ledger.device[entry]!]!;
      return !(
        ledger.type[entry] === EntryType.COHERENT &&
        dev.driver !== null &&
        isHouseDriver(this.#state.madeAt(entry))
      );
    });
  }

  #leaks(when: 'unbound' | 'run-end', isLost: (entry: number) => boolean): void {
    const state = this.#state;
    const { ledger } = state;
    const lost: number[] = [];
    ledger.forEach((entry) => {
      if ((ledger.flags[entry]! & EntryFlag.LEAK_TOLD) === 0 && isLost(entry)) lost.push(entry);
    });
    // Entries are numbered as slots come free: tell them in the order in which they were made.
    lost.sort((a, b) => ledger.timeNs[a]! - ledger.timeNs[b]! || a - b);
    for (const entry of lost) {
      ledger.flags[entry]! |= EntryFlag.LEAK_TOLD;
      const dev = state.devices[ledger.device[entry]!]!;
      if ((ledger.flags[entry]! & EntryFlag.ERROR_CHECKED) === 0) this.#streaming.reportUnchecked(entry, false);
      const values = {
        address: ledger.address[entry]!,
        bytes: ledger.size[entry]!,
        type: entryTypeName(ledger.type[entry] as EntryType),
        direction: dmaDirectionName(ledger.direction[entry]!),
        when,
        pending: lost.length,
      };
      state.report('dma/leak', dev, null, state.madeAt(entry), values, values.address);
    }
  }

  /** The driver says that something is wrong, in `mem` when given: which mapped bytes does the CPU see wrongly? Whether any. */
  driverFailed(message: string, mem: Mem | null, at: Place | null): boolean {
    return this.#staleAll(message, mem, at);
  }

  #staleAll(failure: string, mem: Mem | null, at: Place | null): boolean {
    let found = false;
    const state = this.#state;
    const { ledger } = state;
    ledger.forEach((entry) => {
      if (ledger.wroteTo[entry] === 0 || ledger.phys[entry]! < 0) return;
      const cached = ledger.type[entry] !== EntryType.COHERENT || (ledger.flags[entry]! & EntryFlag.CACHED) !== 0;
      if (!cached) return;
      const phys = ledger.phys[entry]!;
      if (mem !== null && (mem.phys >= phys + ledger.size[entry]! || phys >= mem.phys + mem.size)) return;
      const stale = this.#staleOf(entry);
      if (stale.length === 0) return;
      const dev = state.devices[ledger.device[entry]!]!;
      const values = {
        mapAddress: ledger.address[entry]!,
        mapBytes: ledger.size[entry]!,
        direction: dmaDirectionName(ledger.direction[entry]!),
        stale,
        failure,
      };
      state.report('dma/missing-sync-for-cpu', dev, at, state.madeAt(entry), values, values.mapAddress);
      found = true;
    });
    return found;
  }
  /** Bytes that the device wrote and that the CPU does not see, relative to the entry's start. */
  #staleOf(entry: number): ByteRange[] {
    const { ledger, machine, devices } = this.#state;
    const from = ledger.wroteFrom[entry]!;
    const size = ledger.wroteTo[entry]! - from;
    const phys = ledger.phys[entry]! + from;
    const devicePhys = ledger.devicePhys[entry]! + from;
    const bank = machine.bankAt(phys);
    if (bank === null || !bank.contains(phys, size)) return [];
    let ranges: ByteRange[] = [];
    if (devicePhys === phys) {
      const dev = devices[ledger.device[entry]!]!;
      if (!dev.dmaCoherent) ranges = staleForCpu(bank, phys - bank.base, size);
    } else {
      // It bounces: the device wrote to a slot, and nobody has copied it to the buffer.
      const slots = machine.bankAt(devicePhys);
      if (slots === null || !slots.contains(devicePhys, size)) return [];
      ranges = differences(slots.memory, devicePhys - slots.base, bank.cpu, phys - bank.base, size);
    }
    return ranges.map(({ offset, bytes }) => ({ offset: offset + from, bytes }));
  }
}
