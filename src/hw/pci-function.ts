/**
 * What every model of a PCI function has in common: its configuration space, BARs that answer where they are put, an
 * interrupt by message or pin, and a way to memory that the bus-master bit opens.
 */
import { fromLoHi, physAddr } from '../base/index.ts';
import {
  type BusMaster,
  BusStatus,
  type ModelHost,
  type PciFunction,
  type RegisterBlock,
  type Translator,
} from '../machine/index.ts';
import { MSI, PCI } from '../regs/pci.ts';
import type { RegisterBlockInfo } from '../regs/register-map.ts';
import type { PciIrqLine, PciPin } from './pci-interrupt.ts';

const { MEMORY, MASTER, INTX_DISABLE } = PCI.COMMAND;
const { INTERRUPT, CAP_LIST, REC_MASTER_ABORT } = PCI.STATUS;
const { ENABLE } = MSI.CONTROL;
const CONFIG_BYTES = 256;
/** The first capability, behind the header. */
const MSI_AT = PCI.sizeBytes;

/** A memory BAR and the registers behind it. */
export interface PciBar {
  /** 0 to 5; a 64-bit one takes the next number as well. */
  readonly index: number;
  /** A power of two from 16 on. */
  readonly sizeBytes: number;
  readonly is64?: boolean;
  readonly prefetchable?: boolean;
  readonly block: RegisterBlock;
  /** Where firmware has put it; absent: nowhere. */
  readonly address?: number;
}

/** What a function is, apart from what its registers do. */
export interface PciFunctionOptions {
  /** As the kernel names it, `0000:00:10.0`: observers are shown it. */
  readonly name: string;
  readonly bdf: number;
  readonly vendor: number;
  readonly device: number;
  /** Base class, subclass, programming interface. */
  readonly class: number;
  readonly revision?: number;
  readonly subsystemVendor?: number;
  readonly subsystem?: number;
  readonly multifunction?: boolean;
  readonly bars?: readonly PciBar[];
  /** Where INTA goes; absent: no pin. */
  readonly intx?: PciIrqLine;
  /** Whether it can send a message. */
  readonly msi?: boolean;
  /** The IOMMU in front of it. */
  readonly translator?: Translator;
  /** Address lines, default 64 (of which 52 exist here). */
  readonly addressBits?: number;
  /** Whether firmware has switched the BARs on. Default: when it has assigned one. */
  readonly enabled?: boolean;
}

interface Decoder {
  readonly bar: PciBar;
  /** Where it answers now; -1: nowhere. */
  at: number;
}

/** See the file's head. */
export class PciFunctionModel implements PciFunction {
  readonly name: string;
  readonly bdf: number;
  readonly #host: ModelHost;
  readonly #master: BusMaster;
  readonly #config = new Uint8Array(CONFIG_BYTES);
  /** Bits that a write stores, and bits that writing one clears. */
  readonly #writable = new Uint8Array(CONFIG_BYTES);
  readonly #clearable = new Uint8Array(CONFIG_BYTES);
  readonly #decoders: Decoder[];
  readonly #pin: PciPin | null;
  readonly #hasMsi: boolean;
  #asserted = false;
  /** Accesses that the function tried while it was no bus master. */
  blockedAccesses = 0;
  /** Where a BAR was put and cannot answer, because something else does; null: nowhere. */
  misplaced: string | null = null;

  constructor(host: ModelHost, options: PciFunctionOptions) {
    const { name, bdf, translator } = options;
    this.name = name;
    this.bdf = bdf;
    this.#host = host;
    this.#master = host.busMaster({
      name,
      requesterId: bdf,
      addressBits: Math.min(options.addressBits ?? 52, 52),
      ...(translator === undefined ? {} : { translator }),
    });
    this.#decoders = (options.bars ?? []).map((bar) => ({ bar, at: -1 }));
    this.#pin = options.intx?.pin() ?? null;
    this.#hasMsi = options.msi ?? false;
    this.#layOut(options);
    host.addPciFunction(this);
    this.#decode();
  }

  // What the model of the device uses.

  /** Whether it may access memory now. */
  get isMaster(): boolean {
    return MASTER.test(this.#command);
  }
  /** Read memory. Without the bus-master bit, or where nothing answers, nothing is read, and the status tells of it. */
  dmaRead(addr: number, into: Uint8Array, intoOffset: number, sizeBytes: number): BusStatus {
    return this.#done(
      this.#mayAccess() ? this.#master.read(addr, into, intoOffset, sizeBytes) : BusStatus.DECODE_ERROR,
    );
  }
  dmaWrite(addr: number, from: Uint8Array, fromOffset: number, sizeBytes: number): BusStatus {
    return this.#done(
      this.#mayAccess() ? this.#master.write(addr, from, fromOffset, sizeBytes) : BusStatus.DECODE_ERROR,
    );
  }
  /** One aligned little-endian word, in `dmaValue` afterwards. */
  dmaRead32(addr: number): BusStatus {
    return this.#done(this.#mayAccess() ? this.#master.read32(addr) : BusStatus.DECODE_ERROR);
  }
  get dmaValue(): number {
    return this.#master.value32;
  }
  dmaWrite32(addr: number, value: number): BusStatus {
    return this.#done(this.#mayAccess() ? this.#master.write32(addr, value) : BusStatus.DECODE_ERROR);
  }
  /** The bus address at which the last access that did not succeed failed. */
  get failedAt(): number {
    return this.#master.failedAt;
  }

  /** Whether interrupts are messages now. */
  get msiEnabled(): boolean {
    return this.#hasMsi && ENABLE.test(this.#get16(MSI_AT + MSI.CONTROL.offset));
  }
  /** Raise the interrupt: a message each time, or the pin until `lowerIrq`. */
  raiseIrq(): void {
    if (this.msiEnabled) this.#sendMessage();
    this.#asserted = true;
    this.#drivePin();
  }
  /** The reason for the interrupt is gone. */
  lowerIrq(): void {
    this.#asserted = false;
    this.#drivePin();
  }

  // Configuration space

  configRead(offset: number, width: 1 | 2 | 4): number {
    if (offset + width > CONFIG_BYTES) return -1;
    let value = 0;
    for (let i = width - 1; i >= 0; i--) value = (value << 8) | this.#config[offset + i]!;
    return value >>> 0;
  }
  configWrite(offset: number, width: 1 | 2 | 4, value: number): void {
    if (offset + width > CONFIG_BYTES) return;
    for (let i = 0; i < width; i++) {
      const at = offset + i;
      const byte = (value >>> (8 * i)) & 0xff;
      const stored = (this.#config[at]! & ~this.#writable[at]!) | (byte & this.#writable[at]!);
      this.#config[at] = stored & ~(byte & this.#clearable[at]!);
    }
    this.#decode();
    this.#drivePin();
  }

  #layOut(options: PciFunctionOptions): void {
    this.#allow(PCI, 0);
    this.#set16(PCI.VENDOR.offset, options.vendor);
    this.#set16(PCI.DEVICE.offset, options.device);
    this.#config[PCI.REVISION.offset] = options.revision ?? 0;
    this.#config[PCI.PROG_IF.offset] = options.class & 0xff;
    this.#set16(PCI.CLASS.offset, options.class >>> 8);
    if (options.multifunction === true) this.#config[PCI.HEADER_TYPE.offset] = PCI.HEADER_TYPE.MULTIFUNCTION.mask;
    this.#set16(PCI.SUBSYSTEM_VENDOR.offset, options.subsystemVendor ?? 0);
    this.#set16(PCI.SUBSYSTEM.offset, options.subsystem ?? 0);
    if (options.intx !== undefined) this.#config[PCI.INTERRUPT_PIN.offset] = 1;
    for (let index = 0; index < 6; index++) this.#writable.fill(0, PCI.BAR.at(index), PCI.BAR.at(index) + 4);
    for (const { bar } of this.#decoders) this.#layOutBar(bar);
    if (this.#hasMsi) this.#layOutMsi();
    const placed = this.#decoders.some(({ bar }) => bar.address !== undefined);
    if (options.enabled ?? placed) this.#set16(PCI.COMMAND.offset, MEMORY.mask);
  }
  #layOutBar({ index, sizeBytes, is64 = false, prefetchable = false, address = 0 }: PciBar): void {
    const powerOfTwo = sizeBytes >= 16 && Number.isInteger(Math.log2(sizeBytes));
    if (!powerOfTwo || index < 0 || index > (is64 ? 4 : 5) || (!is64 && sizeBytes > 2 ** 31)) {
      throw new RangeError(`${this.name}: a BAR of ${sizeBytes} bytes cannot be number ${index}`);
    }
    const { TYPE, PREFETCH } = PCI.BAR;
    const kind = TYPE.prep(is64 ? 2 : 0) | PREFETCH.prep(prefetchable ? 1 : 0);
    const at = PCI.BAR.at(index);
    // The bits below the size are wired to zero: that is how its size is found.
    const mask = 2n ** 64n - BigInt(sizeBytes);
    for (let i = 0; i < (is64 ? 8 : 4); i++) this.#writable[at + i] = Number((mask >> BigInt(8 * i)) & 0xffn);
    this.#set32(at, (address % 2 ** 32) + kind);
    if (is64) this.#set32(at + 4, Math.floor(address / 2 ** 32));
  }
  #layOutMsi(): void {
    this.#set16(PCI.STATUS.offset, CAP_LIST.mask);
    this.#config[PCI.CAPABILITIES.offset] = MSI_AT;
    this.#allow(MSI, MSI_AT);
    this.#config[MSI_AT + MSI.ID.offset] = MSI.ID.reset;
    this.#set16(MSI_AT + MSI.CONTROL.offset, MSI.CONTROL.IS_64.mask);
  }
  /** Take over which bits of a block can be written. */
  #allow(map: RegisterBlockInfo, start: number): void {
    for (const register of map.registers) {
      for (let index = 0; index < register.count; index++) {
        for (let i = 0; i < register.width / 8; i++) {
          const at = start + register.at(index) + i;
          this.#writable[at] = (register.writeMask >>> (8 * i)) & 0xff;
          this.#clearable[at] = (register.clearMask >>> (8 * i)) & 0xff;
        }
      }
    }
  }

  get #command(): number {
    return this.#get16(PCI.COMMAND.offset);
  }
  #get16(at: number): number {
    return this.#config[at]! | (this.#config[at + 1]! << 8);
  }
  #set16(at: number, value: number): void {
    this.#config[at] = value;
    this.#config[at + 1] = value >>> 8;
  }
  #get32(at: number): number {
    return (this.#get16(at) | (this.#get16(at + 2) << 16)) >>> 0;
  }
  #set32(at: number, value: number): void {
    this.#set16(at, value & 0xffff);
    this.#set16(at + 2, value >>> 16);
  }

  // BARs

  /** Registers answer where the BARs are now. */
  #decode(): void {
    const on = MEMORY.test(this.#command);
    for (const decoder of this.#decoders) {
      const wanted = on ? this.#addressOf(decoder.bar) : -1;
      if (wanted === decoder.at) continue;
      if (decoder.at >= 0) this.#host.unmapRegisters(physAddr(decoder.at));
      decoder.at = wanted >= 0 && this.#map(wanted, decoder.bar) ? wanted : -1;
    }
  }
  /** Where a BAR answers; -1 at address 0, and where its last byte is the end of the space, as while it is sized. */
  #addressOf({ index, sizeBytes, is64 = false }: PciBar): number {
    const at = PCI.BAR.at(index);
    const low = this.#get32(at);
    const address = fromLoHi(low - (low % 16), is64 ? this.#get32(at + 4) : 0);
    if (address === 0) return -1;
    const end = address + sizeBytes;
    return end >= (is64 ? 2 ** 52 : 2 ** 32) ? -1 : address;
  }
  /** On memory, and on other registers, it loses: two answers at once are nothing to rely on. */
  #map(address: number, bar: PciBar): boolean {
    try {
      this.#host.mapRegisters(physAddr(address), bar.sizeBytes, this.name, bar.block);
      return true;
    } catch (error) {
      this.misplaced = (error as Error).message;
      return false;
    }
  }

  // Interrupts and accesses

  #drivePin(): void {
    if (this.#pin === null) return;
    const status = this.#get16(PCI.STATUS.offset);
    const pending = this.#asserted && !this.msiEnabled;
    this.#set16(PCI.STATUS.offset, pending ? status | INTERRUPT.mask : status & ~INTERRUPT.mask);
    this.#pin.set(pending && !INTX_DISABLE.test(this.#command));
  }
  /** A message is a memory write like any other. */
  #sendMessage(): void {
    const address = fromLoHi(this.#get32(MSI_AT + MSI.ADDRESS_LO.offset), this.#get32(MSI_AT + MSI.ADDRESS_HI.offset));
    this.dmaWrite32(address, this.#get16(MSI_AT + MSI.DATA.offset));
  }
  #mayAccess(): boolean {
    if (this.isMaster) return true;
    this.blockedAccesses++;
    return false;
  }
  #done(status: BusStatus): BusStatus {
    if (status !== BusStatus.OK && this.isMaster) {
      this.#set16(PCI.STATUS.offset, this.#get16(PCI.STATUS.offset) | REC_MASTER_ABORT.mask);
    }
    return status;
  }
}
