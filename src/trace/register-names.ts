/** Which register lies at an address: from the devices that the kernel has, and the datasheets' tables. */
import type { Checked } from '../checker/index.ts';
import { CHANNEL_STRIDE, CHANNELS, DMA, DMA_SHARED } from '../regs/bcm2835-dma.ts';
import { EDU, EDU_DEVICE_ID, EDU_VENDOR_ID } from '../regs/edu.ts';
import { FIFO } from '../regs/fifo-peripheral.ts';
import { describe, type RegisterBlockInfo } from '../regs/index.ts';
import { PL330 } from '../regs/pl330.ts';
import { SMMU, SMMU_PAGE_BYTES, SMMU_PAGE1 } from '../regs/smmu-v3.ts';
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
  'arm,smmu-v3': (offset) => {
    if (offset < SMMU_PAGE_BYTES) return { map: SMMU, offset, part: '' };
    return { map: SMMU_PAGE1, offset: offset - SMMU_PAGE_BYTES, part: '' };
  },
  'dmakit,fifo-port': (offset) => ({ map: FIFO, offset, part: '' }),
};

/** Of PCI functions: what their BAR 0 is, by vendor and device. */
const FUNCTIONS: readonly { vendor: number; device: number; find: (offset: number) => Found }[] = [
  { vendor: EDU_VENDOR_ID, device: EDU_DEVICE_ID, find: (offset) => ({ map: EDU, offset, part: '' }) },
];

interface Block {
  readonly name: string;
  readonly base: number;
  readonly sizeBytes: number;
  readonly find: (offset: number) => Found;
}
/** The part of a platform or PCI device that is needed here. */
interface WithResources {
  readonly resources?: readonly ({
    readonly kind: string;
    readonly start: number;
    readonly sizeBytes: number;
  } | null)[];
  readonly vendor?: number;
  readonly device?: number;
}

/** A decoder for the devices that the kernel of a run has when it is first asked. */
export function registerDecoder({ kernel }: Pick<Checked, 'kernel'>): RegisterDecoder {
  const blocks: Block[] = [];
  let known = 0;
  const learn = (): void => {
    for (; known < kernel.devices.length; known++) {
      const dev = kernel.devices[known]!;
      const { resources, vendor, device } = dev as WithResources;
      const property = dev.ofNode?.properties.get('compatible') ?? [];
      const compatible = String.fromCharCode(...property).split('\0');
      const find =
        compatible.map((name) => TABLES[name]).find((table) => table !== undefined) ??
        FUNCTIONS.find((known) => known.vendor === vendor && known.device === device)?.find;
      const range = resources?.find((resource) => resource?.kind === 'mem' && resource.start >= 0);
      if (find !== undefined && range) {
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
