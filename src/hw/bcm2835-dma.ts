/**
 * Model of the BCM2835's DMA controller ("BCM2835 ARM Peripherals", chapter 4), as the BCM2836 and BCM2837 have it too.
 * Registers are words; other widths see the word's bytes when reading and are ignored when writing.
 */
import type { PhysAddr } from '../base/index.ts';
import type { BusMasterOptions, IrqLine, ModelHost, RegisterBlock, Signal } from '../machine/index.ts';
import { CHANNELS, DMA_SHARED } from '../regs/bcm2835-dma.ts';
import { Channel, type ChannelTiming } from './bcm2835-dma-channel.ts';

const { INT_STATUS, ENABLE } = DMA_SHARED;
const FIRST_SHARED = INT_STATUS.offset;
const BLOCK_BYTES = 0x1000;

/** Measured on boards: a few hundred megabytes a second between SDRAM and SDRAM. */
const DEFAULT_TIMING: ChannelTiming = {
  fetchNs: 160,
  writeResponseNs: 120,
  bytesPerUs: 640,
  requestNs: 60,
  sliceBytes: 64 * 1024,
};

/** How the controller is wired on its board. */
export interface Bcm2835DmaOptions {
  /** Physical address of the registers. */
  readonly base: PhysAddr;
  /** Interrupt line of each of the 15 channels; several may share one. */
  readonly irqLines: readonly number[];
  /** Its way to memory; `name` names the controller. */
  readonly master: BusMasterOptions;
  /** Request lines by peripheral number (TI.PERMAP, 1 to 31); a missing one never requests. */
  readonly requests?: readonly (Signal | null)[];
  readonly timing?: Partial<ChannelTiming>;
}

/** An interrupt line and the channels that drive it: high while any of them does. */
class Wire {
  readonly #line: IrqLine;
  #channels = 0;
  constructor(line: IrqLine) {
    this.#line = line;
  }
  drive(channel: number, high: boolean): void {
    if (high) this.#channels |= 1 << channel;
    else this.#channels &= ~(1 << channel);
    this.#line.set(this.#channels !== 0);
  }
}

/** See the file's head. */
export class Bcm2835DmaModel implements RegisterBlock {
  readonly #channels: Channel[] = [];
  #enable: number = ENABLE.reset;

  constructor(host: ModelHost, options: Bcm2835DmaOptions) {
    if (options.irqLines.length !== CHANNELS) {
      throw new Error(`the BCM2835 DMA controller has ${CHANNELS} interrupt lines, found ${options.irqLines.length}`);
    }
    const master = host.busMaster(options.master);
    const timing = { ...DEFAULT_TIMING, ...options.timing };
    const wires = new Map<number, Wire>();
    const requests = options.requests ?? [];
    for (const [index, number] of options.irqLines.entries()) {
      const wire = wires.get(number) ?? new Wire(host.irqLine(number));
      wires.set(number, wire);
      this.#channels.push(new Channel(index, host, master, timing, requests, (high) => wire.drive(index, high)));
    }
    host.mapRegisters(options.base, BLOCK_BYTES, options.master.name, this);
  }

  readRegister(offset: number, width: number): number {
    if (width === 4) return this.#read(offset);
    return (this.#read(offset & ~3) >>> ((offset & 3) * 8)) % 2 ** (width * 8);
  }
  #read(offset: number): number {
    if (offset < FIRST_SHARED) return this.#channels[offset >>> 8]?.readRegister(offset & 0xff) ?? 0;
    if (offset === INT_STATUS.offset) {
      return this.#channels.reduce((status, { interrupt, index }) => status | (interrupt ? 1 << index : 0), 0);
    }
    return offset === ENABLE.offset ? this.#enable : 0;
  }

  writeRegister(offset: number, width: number, value: number): void {
    if (width !== 4) return;
    if (offset < FIRST_SHARED) this.#channels[offset >>> 8]?.writeRegister(offset & 0xff, value);
    else if (offset === ENABLE.offset) {
      this.#enable = ENABLE.store(this.#enable, value);
      for (const channel of this.#channels) channel.enabled = (this.#enable & (1 << channel.index)) !== 0;
    }
  }

  /** Fault injection: set error flags in a channel's DEBUG (READ_LAST_NOT_SET_ERROR among them). */
  raiseErrors(channel: number, flags: number): void {
    this.#channels[channel]!.raiseErrors(flags);
  }
}
