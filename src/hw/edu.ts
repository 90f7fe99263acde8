/**
 * QEMU's educational PCI device (hw/misc/edu.c, docs/specs/edu.rst): a factorial unit, an interrupt, and a DMA engine
 * between memory and a buffer of 4 KiB.
 *
 * It differs from QEMU's in three things. The upper halves of 64-bit registers can be written by themselves, since
 * 64-bit accesses are two of 32 bits here; a write to the lower half clears the upper one, as it does there. A transfer
 * takes `setupNs` and the time its bytes need on the bus, where QEMU's takes 100 ms. One that leaves the buffer is
 * refused, where QEMU gives up altogether (versions up to 7.2 also at exactly 4096 bytes).
 */
import { dmaBitMask, maskLimit } from '../base/index.ts';
import { BusStatus, type ModelHost, type ModelTimer, type RegisterBlock } from '../machine/index.ts';
import {
  EDU,
  EDU_BAR_BYTES,
  EDU_BUFFER_BYTES,
  EDU_BUFFER_START,
  EDU_DEVICE_ID,
  EDU_IDENTIFICATION,
  EDU_VENDOR_ID,
} from '../regs/edu.ts';
import { PciFunctionModel, type PciFunctionOptions } from './pci-function.ts';

const { COMPUTING } = EDU.STATUS;
const { FACTORIAL, DMA } = EDU.INTERRUPT_STATUS;
const { START, DIRECTION } = EDU.DMA_COMMAND;
const SOURCE = 0;
const DESTINATION = 1;
const COUNT = 2;
/** Class "unassigned", revision 16, and the subsystem numbers of everything that QEMU makes. */
const IDENTITY = { class: 0x00_ff00, revision: 0x10, subsystemVendor: 0x1af4, subsystem: 0x1100 };

/** How the device is built in. */
export interface EduOptions extends Pick<PciFunctionOptions, 'name' | 'bdf' | 'intx' | 'translator' | 'addressBits'> {
  /** Where firmware has put BAR 0; absent: nowhere. */
  readonly bar0?: number;
  /** Bits of an address that reach the bus; the rest is cut off. Default 28, as QEMU's `dma_mask`. */
  readonly dmaMaskBits?: number;
  /** From the command to the first byte. Default 100 µs. */
  readonly setupNs?: number;
  /** Default 133, a PCI bus of 32 bits at 33 MHz. */
  readonly megabytesPerSecond?: number;
  /** Time for a factorial. Default 1 µs. */
  readonly factorialNs?: number;
  /** False: it can only pull its pin. Default true. */
  readonly msi?: boolean;
}

/** See the file's head. */
export class EduModel implements RegisterBlock {
  readonly pci: PciFunctionModel;
  /** The buffer. */
  readonly buffer = new Uint8Array(EDU_BUFFER_BYTES);
  /** What became of the last transfer on the bus. */
  lastStatus: BusStatus = BusStatus.OK;
  /** Transfers that were refused because they leave the buffer, and addresses that the mask has cut. */
  refusedTransfers = 0;
  clampedAddresses = 0;
  /** The last of either, in QEMU's words; '' when there was none. */
  complaint = '';
  readonly #options: EduOptions;
  readonly #maskLimit: number;
  readonly #dmaTimer: ModelTimer;
  readonly #factorialTimer: ModelTimer;
  /** Source, destination, count: lower and upper halves. */
  readonly #halves = new Uint32Array(6);
  #command = 0;
  #liveness = 0;
  #factorial = 0;
  #status = 0;
  #interrupts = 0;

  constructor(host: ModelHost, options: EduOptions) {
    this.#options = options;
    this.#maskLimit = maskLimit(dmaBitMask(options.dmaMaskBits ?? 28));
    this.#dmaTimer = host.timer(() => this.#transfer());
    this.#factorialTimer = host.timer(() => this.#computed());
    const { name, bdf, intx, translator, addressBits, bar0 } = options;
    this.pci = new PciFunctionModel(host, {
      ...IDENTITY,
      ...{ name, bdf, vendor: EDU_VENDOR_ID, device: EDU_DEVICE_ID, msi: options.msi ?? true },
      bars: [{ index: 0, sizeBytes: EDU_BAR_BYTES, block: this, ...(bar0 === undefined ? {} : { address: bar0 }) }],
      ...(intx === undefined ? {} : { intx }),
      ...(translator === undefined ? {} : { translator }),
      ...(addressBits === undefined ? {} : { addressBits }),
    });
  }

  readRegister(offset: number, width: number): number {
    if (width !== 4 || offset % 4 !== 0) return -1;
    switch (offset) {
      case EDU.IDENTIFICATION.offset:
        return EDU_IDENTIFICATION;
      case EDU.LIVENESS.offset:
        return this.#liveness;
      case EDU.FACTORIAL.offset:
        return this.#factorial;
      case EDU.STATUS.offset:
        return this.#status;
      case EDU.INTERRUPT_STATUS.offset:
        return this.#interrupts;
      case EDU.DMA_COMMAND.offset:
        return this.#command;
    }
    const half = halfAt(offset);
    return half < 0 ? -1 : this.#halves[half]!;
  }

  writeRegister(offset: number, width: number, value: number): void {
    if (width !== 4 || offset % 4 !== 0) return;
    switch (offset) {
      case EDU.LIVENESS.offset:
        this.#liveness = ~value >>> 0;
        return;
      case EDU.FACTORIAL.offset:
        this.#startFactorial(value);
        return;
      case EDU.STATUS.offset:
        this.#status = EDU.STATUS.store(this.#status, value);
        return;
      case EDU.INTERRUPT_RAISE.offset:
        this.#raise(value);
        return;
      case EDU.INTERRUPT_ACK.offset:
        this.#interrupts = (this.#interrupts & ~value) >>> 0;
        if (this.#interrupts === 0) this.pci.lowerIrq();
        return;
      case EDU.DMA_COMMAND.offset:
        if (START.test(value) && !START.test(this.#command)) this.#startDma(value);
        return;
    }
    this.#writeHalf(halfAt(offset), value);
  }
  #writeHalf(half: number, value: number): void {
    if (half < 0 || START.test(this.#command)) return;
    this.#halves[half] = value;
    if (half % 2 === 0) this.#halves[half + 1] = 0;
  }

  #raise(bits: number): void {
    this.#interrupts = (this.#interrupts | bits) >>> 0;
    if (this.#interrupts !== 0) this.pci.raiseIrq();
  }

  #startFactorial(value: number): void {
    if (COMPUTING.test(this.#status)) return;
    this.#factorial = value;
    this.#status |= COMPUTING.mask;
    this.#factorialTimer.start(this.#options.factorialNs ?? 1000);
  }
  #computed(): void {
    let result = 1;
    // From 34 on the product has 32 twos, and stays zero.
    for (let n = this.#factorial; n > 0 && result !== 0; n--) result = Math.imul(result, n) >>> 0;
    this.#factorial = result;
    this.#status &= ~COMPUTING.mask;
    if (EDU.STATUS.RAISE_IRQ.test(this.#status)) this.#raise(FACTORIAL.mask);
  }

  #value(which: number): number {
    return this.#halves[2 * which + 1]! * 2 ** 32 + this.#halves[2 * which]!;
  }
  #startDma(command: number): void {
    this.#command = command & EDU.DMA_COMMAND.readMask;
    const { setupNs = 100_000, megabytesPerSecond = 133 } = this.#options;
    const bytes = Math.min(this.#value(COUNT), EDU_BUFFER_BYTES);
    this.#dmaTimer.start(setupNs + (bytes * 1000) / megabytesPerSecond);
  }
  #transfer(): void {
    const toDevice = DIRECTION.get(this.#command) === DIRECTION.values.TO_DEVICE;
    const count = this.#value(COUNT);
    const inside = this.#value(toDevice ? DESTINATION : SOURCE);
    if (this.#fits(inside, count)) {
      const addr = this.#clamp(this.#value(toDevice ? SOURCE : DESTINATION));
      const at = inside - EDU_BUFFER_START;
      if (toDevice) this.#fetch(addr, at, count);
      else this.lastStatus = this.pci.dmaWrite(addr, this.buffer, at, count);
    }
    this.#command &= ~START.mask;
    if (EDU.DMA_COMMAND.RAISE_IRQ.test(this.#command)) this.#raise(DMA.mask);
  }
  /** What nobody answers reads as zeros. */
  #fetch(addr: number, at: number, count: number): void {
    this.lastStatus = this.pci.dmaRead(addr, this.buffer, at, count);
    if (this.lastStatus === BusStatus.OK) return;
    const failed = this.pci.isMaster ? this.pci.failedAt - addr : 0;
    this.buffer.fill(0, at + failed, at + count);
  }

  #fits(start: number, count: number): boolean {
    const end = EDU_BUFFER_START + EDU_BUFFER_BYTES;
    if (start >= EDU_BUFFER_START && count <= EDU_BUFFER_BYTES && start + count <= end) return true;
    this.refusedTransfers++;
    const range = (from: number, to: number) => `0x${from.toString(16)}-0x${(to - 1).toString(16)}`;
    this.complaint = `EDU: DMA range ${range(start, start + count)} out of bounds (${range(EDU_BUFFER_START, end)})!`;
    return false;
  }
  /** Addresses are cut, not refused: a device with too few address lines does not know better. */
  #clamp(addr: number): number {
    const cut = addr % (this.#maskLimit + 1);
    if (cut === addr) return addr;
    this.clampedAddresses++;
    this.complaint = `EDU: clamping DMA 0x${addr.toString(16)} to 0x${cut.toString(16)}!`;
    return cut;
  }
}

/** Which half of a 64-bit DMA register is at the offset, or -1. */
function halfAt(offset: number): number {
  const half = (offset - EDU.DMA_SOURCE_LO.offset) / 4;
  return half >= 0 && half < 6 ? half : -1;
}
