import { offsetIn } from '../../base/addr.ts';
import type { BusMaster, BusMasterOptions, Translation, Translator } from '../model.ts';
import { BusStatus, type MachineObserver } from '../observer.ts';
import type { Faults } from './faults.ts';
import type { MemoryBus } from './memory-bus.ts';
import type { Region } from './region-map.ts';
import type { SimBank } from './sim-bank.ts';

/** What a bus master needs of the machine besides the bus. */
export interface BusWatcher {
  observer: MachineObserver | null;
  now(): number;
}

/** From this size on, the typed array's own copy is faster than a loop over words. */
const BULK_BYTES = 256;
/** Processors move longer pieces between unlike alignments at a tenth of the speed; shorter ones they do not. */
const SLOW_FROM_BYTES = 2048;
/** Registers and the like are moved through a buffer of this size. */
const STAGE_BYTES = 4096;

/** A device's connection to the simulated machine's memory. */
export class SimBusMaster implements BusMaster {
  readonly name: string;
  failedAt = -1;
  value32 = 0;
  readonly #bus: MemoryBus;
  readonly #faults: Faults;
  readonly #watcher: BusWatcher;
  readonly #busOffset: number;
  readonly #translator: Translator | null;
  readonly #requesterId: number;
  readonly #limit: number;
  readonly #snoops: boolean;
  readonly #translation: Translation = { phys: 0, sizeBytes: 0 };
  readonly #word = new Uint8Array(4);
  readonly #word32 = new Uint32Array(this.#word.buffer);
  #stage: Uint8Array | null = null;
  // The caller's array of the last access, as words.
  #array: Uint8Array | null = null;
  #array32: Int32Array | null = null;
  #arrayStart = 0;
  // What the last `#resolve` found: `#size` bytes at `#phys`, in a bank, in registers, or (neither) a message.
  #phys = -1;
  #size = 0;
  #bank: SimBank | null = null;
  #region: Region | null = null;

  constructor(options: BusMasterOptions, bus: MemoryBus, faults: Faults, watcher: BusWatcher, coherent: boolean) {
    this.name = options.name;
    this.#bus = bus;
    this.#faults = faults;
    this.#watcher = watcher;
    this.#busOffset = options.busOffset ?? 0;
    this.#translator = options.translator ?? null;
    this.#requesterId = options.requesterId ?? 0;
    this.#limit = 2 ** (options.addressBits ?? 52);
    this.#snoops = (options.coherent ?? coherent) && !coherent;
  }

  read(addr: number, into: Uint8Array, intoOffset: number, sizeBytes: number): BusStatus {
    for (let done = 0; done < sizeBytes; ) {
      const at = addr + done;
      const status = this.#resolve(at, sizeBytes - done, false);
      if (status !== BusStatus.OK) return this.#fail(at, sizeBytes - done, false, status);
      const size = this.#size;
      const phys = this.#phys;
      if (this.#bank !== null) this.#readRam(this.#bank, phys - this.#bank.base, into, intoOffset + done, size);
      else this.#bus.readRegisters(this.#region as Region, phys, into, intoOffset + done, size);
      if (this.#watcher.observer !== null) this.#tell(false, at, phys, size, BusStatus.OK);
      done += size;
    }
    return BusStatus.OK;
  }

  write(addr: number, from: Uint8Array, fromOffset: number, sizeBytes: number): BusStatus {
    for (let done = 0; done < sizeBytes; ) {
      const at = addr + done;
      const status = this.#resolve(at, sizeBytes - done, true);
      if (status !== BusStatus.OK) return this.#fail(at, sizeBytes - done, true, status);
      const size = this.#size;
      const phys = this.#phys;
      // Told first: a register or a message may bring about further accesses, which come after this one.
      if (this.#watcher.observer !== null) this.#tell(true, at, phys, size, BusStatus.OK);
      if (this.#bank !== null) this.#writeRam(this.#bank, phys - this.#bank.base, from, fromOffset + done, size);
      else if (this.#region !== null) this.#bus.writeRegisters(this.#region, phys, from, fromOffset + done, size);
      else this.#bus.irq.message(word(from, fromOffset + done));
      done += size;
    }
    return BusStatus.OK;
  }

  copy(dst: number, src: number, sizeBytes: number): BusStatus {
    for (let done = 0; done < sizeBytes; ) {
      let status = this.#resolve(src + done, sizeBytes - done, false);
      if (status !== BusStatus.OK) return this.#fail(src + done, sizeBytes - done, false, status);
      const srcBank = this.#bank;
      const srcPhys = this.#phys;
      const srcSize = this.#size;
      if (srcBank === null) {
        status = this.#copyStaged(dst + done, src + done, srcSize < STAGE_BYTES ? srcSize : STAGE_BYTES);
        if (status !== BusStatus.OK) return status;
        done += srcSize < STAGE_BYTES ? srcSize : STAGE_BYTES;
        continue;
      }
      status = this.#resolve(dst + done, srcSize, true);
      if (status !== BusStatus.OK) return this.#fail(dst + done, srcSize, true, status);
      const dstBank = this.#bank;
      const dstPhys = this.#phys;
      let size = this.#size;
      if (dstBank === null) {
        if (size > STAGE_BYTES) size = STAGE_BYTES;
        status = this.#copyStaged(dst + done, src + done, size);
        if (status !== BusStatus.OK) return status;
      } else {
        this.#copyRam(dstBank, dstPhys - dstBank.base, srcBank, srcPhys - srcBank.base, size);
        if (this.#watcher.observer !== null) {
          this.#tell(false, src + done, srcPhys, size, BusStatus.OK);
          this.#tell(true, dst + done, dstPhys, size, BusStatus.OK);
        }
      }
      done += size;
    }
    return BusStatus.OK;
  }

  fill(dst: number, byte: number, sizeBytes: number): BusStatus {
    for (let done = 0; done < sizeBytes; ) {
      const at = dst + done;
      const status = this.#resolve(at, sizeBytes - done, true);
      if (status !== BusStatus.OK) return this.#fail(at, sizeBytes - done, true, status);
      const bank = this.#bank;
      let size = this.#size;
      if (bank === null) {
        if (size > STAGE_BYTES) size = STAGE_BYTES;
        this.#stage ??= new Uint8Array(STAGE_BYTES);
        this.#stage.fill(byte, 0, size);
        const written = this.write(at, this.#stage, 0, size);
        if (written !== BusStatus.OK) return written;
      } else {
        const offset = this.#phys - bank.base;
        if (this.#watcher.observer !== null) this.#tell(true, at, this.#phys, size, BusStatus.OK);
        if (bank.fill !== null) this.#bus.beforeAccess(bank, offset, size, this.#snoops);
        bank.memory.fill(byte, offset, offset + size);
        if (bank.uncachedPages > 0 || this.#snoops === true) this.#bus.afterWrite(bank, offset, size, this.#snoops);
      }
      done += size;
    }
    return BusStatus.OK;
  }

  read32(addr: number): BusStatus {
    const status = this.#resolve(addr, 4, false);
    if (status !== BusStatus.OK) {
      this.value32 = 0xffffffff;
      return this.#fail(addr, 4, false, status);
    }
    const bank = this.#bank;
    if (bank === null || this.#size < 4 || offsetIn(this.#phys, 4) !== 0 || bank.uncachedPages > 0) {
      return this.#readWord(addr);
    }
    const offset = this.#phys - bank.base;
    if (bank.fill !== null) this.#bus.beforeAccess(bank, offset, 4, this.#snoops);
    this.value32 = (bank.memory32[offset >>> 2] as number) >>> 0;
    if (this.#watcher.observer !== null) this.#tell(false, addr, this.#phys, 4, BusStatus.OK);
    return BusStatus.OK;
  }
  #readWord(addr: number): BusStatus {
    const status = this.read(addr, this.#word, 0, 4);
    this.value32 = status === BusStatus.OK ? (this.#word32[0] as number) : 0xffffffff;
    return status;
  }
  write32(addr: number, value: number): BusStatus {
    const status = this.#resolve(addr, 4, true);
    if (status !== BusStatus.OK) return this.#fail(addr, 4, true, status);
    const bank = this.#bank;
    if (bank === null || this.#size < 4 || offsetIn(this.#phys, 4) !== 0) {
      this.#word32[0] = value;
      return this.write(addr, this.#word, 0, 4);
    }
    if (this.#watcher.observer !== null) this.#tell(true, addr, this.#phys, 4, BusStatus.OK);
    const offset = this.#phys - bank.base;
    if (bank.fill !== null) this.#bus.beforeAccess(bank, offset, 4, this.#snoops);
    bank.memory32[offset >>> 2] = value;
    if (this.#snoops || bank.uncachedPages > 0) this.#bus.afterWrite(bank, offset, 4, this.#snoops);
    return BusStatus.OK;
  }

  /** Find where the first bytes of an access go, and how many of them go there. */
  #resolve(addr: number, sizeBytes: number, isWrite: boolean): BusStatus {
    this.#phys = -1;
    if (!(addr >= 0 && addr < this.#limit)) return BusStatus.DECODE_ERROR;
    let size = sizeBytes;
    if (addr + size > this.#limit) size = this.#limit - addr;
    if (this.#faults.armed !== 0) {
      const before = this.#faults.bytesBefore(this.name, addr, size);
      if (before === 0) return BusStatus.SLAVE_ERROR;
      if (before > 0) size = before;
    }
    let phys: number;
    if (this.#translator === null) phys = addr - this.#busOffset;
    else {
      const translation = this.#translation;
      const status = this.#translator.translate(this.#requesterId, addr, size, isWrite, translation);
      if (status !== BusStatus.OK) return status;
      phys = translation.phys;
      if (translation.sizeBytes < size) size = translation.sizeBytes;
    }
    this.#phys = phys;
    this.#region = null;
    if (isWrite && this.#bus.isMessage(phys, sizeBytes)) {
      this.#bank = null;
      this.#size = 4;
      return BusStatus.OK;
    }
    const bank = this.#bus.bankAt(phys);
    this.#bank = bank;
    let end: number;
    if (bank !== null) end = bank.end;
    else {
      const region = this.#bus.registers.find(phys);
      if (region === null) return BusStatus.DECODE_ERROR;
      this.#region = region;
      end = region.end;
    }
    this.#size = phys + size > end ? end - phys : size;
    return BusStatus.OK;
  }

  #fail(addr: number, sizeBytes: number, isWrite: boolean, status: BusStatus): BusStatus {
    this.failedAt = addr;
    if (this.#watcher.observer !== null) this.#tell(isWrite, addr, -1, sizeBytes, status);
    return status;
  }
  #tell(isWrite: boolean, addr: number, phys: number, sizeBytes: number, status: BusStatus): void {
    this.#watcher.observer?.deviceAccess?.(this.#watcher.now(), this.name, isWrite, addr, phys, sizeBytes, status);
  }

  #readRam(bank: SimBank, offset: number, into: Uint8Array, intoOffset: number, size: number): void {
    if (bank.fill !== null) this.#bus.beforeAccess(bank, offset, size, this.#snoops);
    if (size >= BULK_BYTES) into.set(bank.memory.subarray(offset, offset + size), intoOffset);
    else {
      const words = this.#wordsOf(into, offset, intoOffset, size);
      if (words !== null) {
        let to = (intoOffset + this.#arrayStart) >>> 2;
        const end = (offset + size) >>> 2;
        const memory = bank.memory32;
        for (let from = offset >>> 2; from < end; from++) words[to++] = memory[from] as number;
      } else {
        const memory = bank.memory;
        for (let i = 0; i < size; i++) into[intoOffset + i] = memory[offset + i] as number;
      }
    }
    if (bank.uncachedPages > 0) this.#bus.stores?.read(bank, offset, size, into, intoOffset);
  }

  #writeRam(bank: SimBank, offset: number, from: Uint8Array, fromOffset: number, size: number): void {
    if (bank.fill !== null) this.#bus.beforeAccess(bank, offset, size, this.#snoops);
    if (size >= BULK_BYTES) bank.memory.set(from.subarray(fromOffset, fromOffset + size), offset);
    else {
      const words = this.#wordsOf(from, offset, fromOffset, size);
      if (words !== null) {
        let at = (fromOffset + this.#arrayStart) >>> 2;
        const end = (offset + size) >>> 2;
        const memory = bank.memory32;
        for (let to = offset >>> 2; to < end; to++) memory[to] = words[at++] as number;
      } else {
        const memory = bank.memory;
        for (let i = 0; i < size; i++) memory[offset + i] = from[fromOffset + i] as number;
      }
    }
    if (bank.uncachedPages > 0 || this.#snoops === true) this.#bus.afterWrite(bank, offset, size, this.#snoops);
  }

  /** The caller's array as words, when the access is one of whole words on both sides; null otherwise. */
  #wordsOf(array: Uint8Array, offset: number, arrayOffset: number, size: number): Int32Array | null {
    if (array !== this.#array) {
      this.#array = array;
      const start = array.byteOffset;
      this.#arrayStart = start & 3;
      const from = start - this.#arrayStart;
      this.#array32 = new Int32Array(array.buffer, from, (start + array.length - from) >>> 2);
    }
    return ((offset | size | (arrayOffset + this.#arrayStart)) & 3) === 0 ? this.#array32 : null;
  }

  #copyRam(dst: SimBank, dstOffset: number, src: SimBank, srcOffset: number, size: number): void {
    const bus = this.#bus;
    if (src.fill !== null) bus.beforeAccess(src, srcOffset, size, this.#snoops);
    if (dst.fill !== null) bus.beforeAccess(dst, dstOffset, size, this.#snoops);
    const overlap = dst === src && dstOffset > srcOffset && dstOffset < srcOffset + size;
    if (overlap || size < 64) copyUp(dst, dstOffset, src, srcOffset, size);
    else if (size <= SLOW_FROM_BYTES || ((dstOffset - srcOffset) & 31) === 0 || (dstOffset & 31) === 0) {
      copyBulk(dst, dstOffset, src, srcOffset, size);
    } else {
      for (let done = 0; done < size; done += SLOW_FROM_BYTES) {
        const part = Math.min(SLOW_FROM_BYTES, size - done);
        copyBulk(dst, dstOffset + done, src, srcOffset + done, part);
      }
    }
    if (src.uncachedPages > 0) bus.stores?.read(src, srcOffset, size, dst.memory, dstOffset);
    if (dst.uncachedPages > 0 || this.#snoops === true) bus.afterWrite(dst, dstOffset, size, this.#snoops);
  }

  #copyStaged(dst: number, src: number, size: number): BusStatus {
    this.#stage ??= new Uint8Array(STAGE_BYTES);
    const status = this.read(src, this.#stage, 0, size);
    return status === BusStatus.OK ? this.write(dst, this.#stage, 0, size) : status;
  }
}

/** Ranges that do not overlap upwards. */
function copyBulk(dst: SimBank, dstOffset: number, src: SimBank, srcOffset: number, size: number): void {
  if (dst === src) dst.memory.copyWithin(dstOffset, srcOffset, srcOffset + size);
  else dst.memory.set(src.memory.subarray(srcOffset, srcOffset + size), dstOffset);
}

/** Byte by byte, ascending, as an engine does it: overlapping ranges repeat. */
function copyUp(dst: SimBank, dstOffset: number, src: SimBank, srcOffset: number, size: number): void {
  const apart = dst !== src || dstOffset <= srcOffset || dstOffset - srcOffset >= size;
  if (apart && ((dstOffset | srcOffset | size) & 3) === 0) {
    const from = src.memory32;
    const to = dst.memory32;
    const delta = (dstOffset - srcOffset) >> 2;
    const end = (srcOffset + size) >>> 2;
    for (let i = srcOffset >>> 2; i < end; i++) to[i + delta] = from[i] as number;
    return;
  }
  for (let i = 0; i < size; i++) dst.memory[dstOffset + i] = src.memory[srcOffset + i] as number;
}

function word(bytes: Uint8Array, at: number): number {
  const low = (bytes[at] as number) | ((bytes[at + 1] as number) << 8);
  return (low | ((bytes[at + 2] as number) << 16) | ((bytes[at + 3] as number) << 24)) >>> 0;
}
