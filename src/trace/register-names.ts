/** Which register lies at an address: from the devices that the kernel has, and the datasheets' tables. */
import type { Checked } from '../checker/index.ts';
import { CHANNEL_STRIDE, CHANNELS, DMA, DMA_SHARED } from '../regs/bcm2835-dma.ts';
import { FIFO } from '../regs/fifo-peripheral.ts';
import { describe, type RegisterBlockInfo } from '../regs/index.ts';
import { PL330 } from '../regs/pl330.ts';
import type { RegisterDecoder } from './timeline.ts';

/** The table for an offset in a device's registers, the offset in that table, and a name where there are several. */
interface Found {
  readonly map: RegisterBlockInfo;
  readonly offset: number;
  readonly part: string;
}

/** By `compatible` string. */
const TABLES: Readonly<Record<string, (offset: number) => Found>> = {
  'arm,pl330': (offset) => ({ map: PL330, offset, part: '' }),
  'brcm,bcm2835-dma': (offset) => {
    const channel = Math.floor(offset / CHANNEL_STRIDE);
    if (channel >= CHANNELS) return { map: DMA_SHARED, offset, part: '' };
    return { map: DMA, offset: offset % CHANNEL_STRIDE, part: `ch${channel} ` };
  },
  'dmakit,fifo-port': (offset) => ({ map: FIFO, offset, part: '' }),
};

interface Block {
  readonly name: string;
  readonly base: number;
  readonly sizeBytes: number;
  readonly find: (offset: number) => Found;
}
/** The part of a platform device that is needed here. */
interface WithResources {
  readonly resources?: readonly { readonly kind: string; readonly start: number; readonly sizeBytes: number }[];
}

/** A decoder for the devices that the kernel of a run has when it is first asked. */
export function registerDecoder({ kernel }: Pick<Checked, 'kernel'>): RegisterDecoder {
  const blocks: Block[] = [];
  let known = 0;
  const learn = (): void => {
    for (; known < kernel.devices.length; known++) {
      const dev = kernel.devices[known]!;
      const property = dev.ofNode?.properties.get('compatible');
      if (property === undefined) continue;
      const compatible = String.fromCharCode(...property).split('\0');
      const find = compatible.map((name) => TABLES[name]).find((table) => table !== undefined);
      const range = (dev as WithResources).resources?.find(({ kind }) => kind === 'mem');
      if (find !== undefined && range !== undefined) {
        blocks.push({ name: dev.name, base: range.start, sizeBytes: range.sizeBytes, find });
      }
    }
  };
  return (addr, value, isWrite) => {
    if (known !== kernel.devices.length) learn();
    const block = blocks.find(({ base, sizeBytes }) => addr >= base && addr < base + sizeBytes);
    if (block === undefined) return null;
    const { map, offset, part } = block.find(addr - block.base);
    return { who: block.name, what: `${part}${describe(map, offset, value, isWrite)}` };
  };
}
