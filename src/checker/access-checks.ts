/** Holds what devices do on the bus against the ledger, byte by byte, and says what they read that is out of date. */
import type { Device } from '../kernel/device.ts';
import { dmaDirectionName } from '../kernel/dma-direction.ts';
import { FrameKind } from '../machine/frames.ts';
import { BusStatus } from '../machine/observer.ts';
import type { RamBank } from '../machine/ram.ts';
import type { FindingOf } from './finding.ts';
import { EntryFlag, EntryType, type Ledger, MAY_READ, MAY_WRITE } from './ledger.ts';
import { placeOf } from './place.ts';
import type { ByteRange } from './rule.ts';
import { mergeRanges, staleForDevice } from './stale.ts';
import type { CheckState } from './state.ts';

const STATUS_TEXT = ['ok', 'decode error', 'translation fault', 'slave error'] as const;
/** How far below an access the end of a mapping may lie to be called the one it ran out of. */
const NEAR_BYTES = 65536;
const HARDWARE = 'hardware';

/** A bus master: which device's mappings it may use, and where it was last. */
interface Master {
  readonly name: string;
  /** null: no device of that name is known; it may use all mappings. */
  device: Device | null;
  lastRead: number;
  lastWrite: number;
  /** The newest access outside, to tell one long access from many. */
  outside: FindingOf<'dma/device-access-outside'> | null;
  outsideEnd: number;
}

/** See the file's head. */
export class AccessChecks {
  readonly #state: CheckState;
  readonly #ledger: Ledger;
  readonly #masters = new Map<string, Master>();
  #master: Master | null = null;
  #bank: RamBank | null = null;
  /** Frames that were coherent allocations before the checker came: nothing is known of them but that they are right. */
  readonly #older = new Map<RamBank, Uint8Array>();

  constructor(state: CheckState) {
    this.#state = state;
    this.#ledger = state.ledger;
    if (state.kernel.devices.length === 0) return;
    for (const bank of state.machine.ram) this.#older.set(bank, bank.kinds.slice());
  }

  /** A device read or wrote. */
  access(name: string, isWrite: boolean, addr: number, phys: number, size: number, status: BusStatus): void {
    const bank = status === BusStatus.OK ? this.#bankAt(phys) : null;
    // Registers of peripherals and doorbells of interrupts are no memory.
    if (status === BusStatus.OK && bank === null) return;
    const master = this.#master?.name === name ? this.#master : this.#findMaster(name);
    const { address, size: sizes, rights, device } = this.#ledger;
    const right = isWrite ? MAY_WRITE : MAY_READ;
    const last = isWrite ? master.lastWrite : master.lastRead;
    const start = address[last]!;
    if (
      bank !== null &&
      this.#ledger.isLive(last) &&
      addr >= start &&
      addr + size <= start + sizes[last]! &&
      (rights[last]! & right) !== 0 &&
      (master.device === null || this.#state.devices[device[last]!] === master.device)
    ) {
      this.#covered(last, isWrite, addr, phys, size, bank);
      return;
    }
    this.#walk(master, isWrite, addr, phys, size, bank, status);
  }

  #bankAt(phys: number): RamBank | null {
    if (phys < 0) return null;
    if (this.#bank?.contains(phys)) return this.#bank;
    const bank = this.#state.machine.bankAt(phys);
    if (bank !== null) this.#bank = bank;
    return bank;
  }
  #findMaster(name: string): Master {
    let master = this.#masters.get(name);
    if (master === undefined) {
      master = { name, device: null, lastRead: 0, lastWrite: 0, outside: null, outsideEnd: -1 };
      this.#masters.set(name, master);
    }
    // It may be added to the kernel later than it was first heard of.
    master.device ??= this.#state.kernel.devices.find((dev) => dev.name === name) ?? null;
    this.#master = master;
    return master;
  }

  /** The entry that covers `position` with one of the rights, furthest; of any device where the master is unknown. */
  #covering(master: Master, position: number, rights: number): number {
    const { byAddress, rights: kinds, address, size } = this.#ledger;
    if (master.device !== null) {
      return byAddress.covering(this.#state.deviceNumber(master.device), position, kinds, rights);
    }
    let best = -1;
    for (let number = 0; number < this.#state.devices.length; number++) {
      const entry = byAddress.covering(number, position, kinds, rights);
      if (entry >= 0 && (best < 0 || address[entry]! + size[entry]! > address[best]! + size[best]!)) best = entry;
    }
    return best;
  }
  /** Where the next entry begins behind `position`, at most `end`. */
  #nextStart(master: Master, position: number, end: number): number {
    const { byAddress, address } = this.#ledger;
    let next = end;
    for (let number = 0; number < this.#state.devices.length; number++) {
      if (master.device !== null && this.#state.devices[number] !== master.device) continue;
      byAddress.overlapping(number, position, end, (entry) => {
        if (address[entry]! > position && address[entry]! < next) next = address[entry]!;
        return false;
      });
    }
    return next;
  }

  #walk(
    master: Master,
    isWrite: boolean,
    addr: number,
    phys: number,
    size: number,
    bank: RamBank | null,
    status: BusStatus,
  ): void {
    const { address, size: sizes } = this.#ledger;
    const right = isWrite ? MAY_WRITE : MAY_READ;
    const end = addr + size;
    for (let at = addr; at < end; ) {
      const entry = this.#covering(master, at, right);
      if (entry >= 0) {
        const stop = Math.min(end, address[entry]! + sizes[entry]!);
        if (bank !== null) {
          if (isWrite) master.lastWrite = entry;
          else master.lastRead = entry;
          this.#covered(entry, isWrite, at, phys + (at - addr), stop - at, bank);
        }
        at = stop;
        continue;
      }
      const wrong = this.#covering(master, at, MAY_READ | MAY_WRITE);
      if (wrong >= 0) {
        const stop = Math.min(end, address[wrong]! + sizes[wrong]!);
        this.#wrongWay(master, wrong, isWrite, at, stop - at);
        at = stop;
        continue;
      }
      const stop = this.#nextStart(master, at, end);
      const physAt = phys < 0 ? -1 : phys + (at - addr);
      if (bank === null || !this.#isOlder(bank, physAt)) this.#outside(master, isWrite, addr, at, stop, status);
      at = stop;
    }
  }

  /** Coherent memory from before the checker was attached. */
  #isOlder(bank: RamBank, phys: number): boolean {
    const frame = Math.floor((phys - bank.base) / 4096);
    return this.#older.get(bank)?.[frame] === FrameKind.COHERENT && bank.kinds[frame] === FrameKind.COHERENT;
  }

  /** An access that is allowed. */
  #covered(entry: number, isWrite: boolean, addr: number, phys: number, size: number, bank: RamBank): void {
    const ledger = this.#ledger;
    const offset = addr - ledger.address[entry]!;
    if (isWrite) {
      if (ledger.wroteTo[entry] === 0) {
        ledger.wroteFrom[entry] = offset;
        ledger.wroteTo[entry] = offset + size;
      } else {
        if (offset < ledger.wroteFrom[entry]!) ledger.wroteFrom[entry] = offset;
        if (offset + size > ledger.wroteTo[entry]!) ledger.wroteTo[entry] = offset + size;
      }
      ledger.devicePhys[entry] = phys - offset;
      return;
    }
    if (bank.fill === null) return;
    if (ledger.type[entry] === EntryType.COHERENT && (ledger.flags[entry]! & EntryFlag.CACHED) === 0) return;
    const dev = this.#state.devices[ledger.device[entry]!]!;
    if (dev.dmaCoherent) return;
    const stale = staleForDevice(bank, phys - bank.base, size);
    if (stale.length === 0) return;
    const values = {
      mapAddress: ledger.address[entry]!,
      mapBytes: ledger.size[entry]!,
      direction: dmaDirectionName(ledger.direction[entry]!),
      stale: stale.map((range) => ({ offset: range.offset + offset, bytes: range.bytes })),
    };
    const { state, madeAt } = this.#facts(entry);
    const rule = 'dma/missing-sync-for-device';
    const finding = state.report(rule, dev, null, madeAt, values, values.mapAddress, dev.name, HARDWARE);
    // A transfer is many accesses: all their stale bytes are one finding's.
    const found = finding.values;
    if (found !== values && found.mapAddress === values.mapAddress) {
      (found as { stale: readonly ByteRange[] }).stale = mergeRanges([...found.stale, ...values.stale]);
    }
  }
  #facts(entry: number) {
    return { state: this.#state, madeAt: this.#state.madeAt(entry) };
  }

  /** Mapped, but not for that. */
  #wrongWay(master: Master, entry: number, isWrite: boolean, addr: number, bytes: number): void {
    const { state, madeAt } = this.#facts(entry);
    const { address, size, device } = this.#ledger;
    const dev = state.devices[device[entry]!]!;
    const values = { address: addr, bytes, mapAddress: address[entry]!, mapBytes: size[entry]! };
    const rule = isWrite ? 'dma/device-write-to-device-mapping' : 'dma/device-read-from-device-mapping';
    state.report(rule, dev, null, madeAt, values, values.mapAddress, master.name, HARDWARE);
  }

  /** Not mapped at all: [at, end) of an access that began at `start`. */
  #outside(master: Master, isWrite: boolean, start: number, at: number, end: number, status: BusStatus): void {
    const known = master.outside;
    if (known !== null && known.values.write === isWrite && master.outsideEnd === at) {
      (known.values as { bytes: number }).bytes += end - at;
      master.outsideEnd = end;
      return;
    }
    const state = this.#state;
    const { ledger, history } = state;
    const device = master.device === null ? -1 : state.deviceNumber(master.device);
    const near = this.#nearestBelow(master, at);
    const nearEnd = near < 0 ? -1 : ledger.address[near]! + ledger.size[near]!;
    // An access that ran out of a mapping is about that mapping, whatever was mapped behind it before.
    const other = this.#ofAnother(master, at);
    const past = nearEnd === at || at > start || other >= 0 ? -1 : history.find(device, at, end - at);
    const isNear = near >= 0 && past < 0 && other < 0;
    const values = {
      address: at,
      bytes: end - at,
      write: isWrite,
      status: STATUS_TEXT[status],
      nearAddress: isNear ? ledger.address[near]! : 0,
      nearBytes: isNear ? ledger.size[near]! : 0,
      unmapped: past >= 0,
      otherDevice: other < 0 ? '' : state.devices[ledger.device[other]!]!.name,
    };
    const unmappedAt = past < 0 ? null : placeOf(history.unmappedTraces[past] ?? null);
    let mappedAt = isNear ? state.madeAt(near) : other >= 0 ? state.madeAt(other) : null;
    if (past >= 0) mappedAt = placeOf(history.mappedTraces[past] ?? null);
    const distinct = `${isWrite} ${values.nearAddress}`;
    const rule = 'dma/device-access-outside';
    const finding = state.report(rule, master.device, unmappedAt, mappedAt, values, distinct, master.name, HARDWARE);
    master.outside = finding.times === 1 ? finding : null;
    master.outsideEnd = end;
  }
  /** An entry of another device that covers the byte; -1: none. */
  #ofAnother(master: Master, at: number): number {
    if (master.device === null) return -1;
    const { byAddress, rights } = this.#ledger;
    for (let number = 0; number < this.#state.devices.length; number++) {
      if (this.#state.devices[number] === master.device) continue;
      const entry = byAddress.covering(number, at, rights, MAY_READ | MAY_WRITE);
      if (entry >= 0) return entry;
    }
    return -1;
  }
  #nearestBelow(master: Master, at: number): number {
    const { byAddress, address, size } = this.#ledger;
    let best = -1;
    let bestEnd = -1;
    for (let number = 0; number < this.#state.devices.length; number++) {
      if (master.device !== null && this.#state.devices[number] !== master.device) continue;
      byAddress.overlapping(number, Math.max(0, at - NEAR_BYTES), at, (entry) => {
        const end = address[entry]! + size[entry]!;
        if (end <= at && end > bestEnd) {
          best = entry;
          bestEnd = end;
        }
        return false;
      });
    }
    return best;
  }
}
