/**
 * Model of the BCM2835's DMA controller ("BCM2835 ARM Peripherals", chapter 4), as the BCM2836 and BCM2837 have it too.
 * Registers are words; other widths see the word's bytes when reading and are ignored when writing.
 */
import type { PhysAddr } from '../base/index.ts';
import type { BusMasterOptions, IrqLine, ModelHost, RegisterBlock, Signal } from '../machine/index.ts';
import { CHANNEL_STRIDE, CHANNELS, DMA_SHARED } from '../regs/bcm2835-dma.ts';
import { Channel, type ChannelTiming } from './bcm2835-dma-channel.ts';

const { INT_STATUS, ENABLE } = DMA_SHARED;
const BLOCK_BYTES = 0x1000;

/** Measured on boards: a few hundred megabytes a second between SDRAM and SDRAM. */
const DEFAULT_TIMING: ChannelTiming = {
  fetchNs: 160,
  writeResponseNs: 120,
  bytesPerUs: 640,
  requestNs: 60,
  sliceBytes: 32 * 1024,
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
    const lines = new Map<number, IrqLine>();
    for (const number of options.irqLines) {
      if (!lines.has(number)) lines.set(number, host.irqLine(number));
    }
    for (let index = 0; index < CHANNELS; index++) {
      const number = options.irqLines[index]!;
      const line = lines.get(number)!;
      const changed = () => line.set(this.#channels.some((c, i) => options.irqLines[i] === number && c.interrupt));
      this.#channels.push(new Channel(index, host, master, timing, options.requests ?? [], changed));
    }
    host.mapRegisters(options.base, BLOCK_BYTES, options.master.name, this);
  }

  readRegister(offset: number, width: number): number {
    const word = this.#read(offset - (offset % 4));
    return width === 4 ? word : (word >>> ((offset % 4) * 8)) % 2 ** (width * 8);
  }
  #read(offset: number): number {
    if (offset === INT_STATUS.offset) {
      return this.#channels.reduce((status, { interrupt, index }) => status | (interrupt ? 1 << index : 0), 0);
    }
    if (offset === ENABLE.offset) return this.#enable;
    return this.#channels[Math.floor(offset / CHANNEL_STRIDE)]?.readRegister(offset % CHANNEL_STRIDE) ?? 0;
  }

  writeRegister(offset: number, width: number, value: number): void {
    if (width !== 4 || offset % 4 !== 0) return;
    if (offset === ENABLE.offset) {
      this.#enable = ENABLE.store(this.#enable, value);
      for (const channel of this.#channels) channel.enabled = (this.#enable & (1 << channel.index)) !== 0;
      return;
    }
    this.#channels[Math.floor(offset / CHANNEL_STRIDE)]?.writeRegister(offset % CHANNEL_STRIDE, value);
  }

  /** Fault injection: set error flags in a channel's DEBUG (READ_LAST_NOT_SET_ERROR among them). */
  raiseErrors(channel: number, flags: number): void {
    this.#channels[channel]!.raiseErrors(flags);
  }
}
