/** How large a function's BARs are, and where firmware has put them. */
import { devErr, devInfo } from './device.ts';
import {
  PCI_ROM_RESOURCE,
  PCI_STD_NUM_BARS,
  type PciDev,
  type PciResource,
  pciReadConfigDword,
  pciReadConfigWord,
  pciResourceText,
  pciWriteConfigDword,
  pciWriteConfigWord,
} from './pci-dev.ts';
import {
  PCI_BASE_ADDRESS_0,
  PCI_BASE_ADDRESS_MEM_PREFETCH,
  PCI_BASE_ADDRESS_MEM_TYPE_64,
  PCI_BASE_ADDRESS_MEM_TYPE_MASK,
  PCI_BASE_ADDRESS_SPACE_IO,
  PCI_COMMAND,
  PCI_COMMAND_IO,
  PCI_COMMAND_MEMORY,
  PCI_HEADER_TYPE_BRIDGE,
} from './pci-regs.ts';

const IO_MASK = 0xffff_fffc;
const MEM_MASK = 0xffff_fff0;
/** No address here is as large. */
const MOST_BYTES = 1n << 51n;

/** Where a resource's register is. */
export function pciBarOffset(dev: PciDev, index: number): number {
  if (index < PCI_STD_NUM_BARS) return PCI_BASE_ADDRESS_0 + 4 * index;
  return dev.hdrType === PCI_HEADER_TYPE_BRIDGE ? 0x38 : 0x30;
}

/** Size all BARs and the ROM, with decoding off meanwhile. @linux pci_read_bases */
export function pciReadBases(dev: PciDev): void {
  const command = pciReadConfigWord(dev, PCI_COMMAND);
  const decoding = command & (PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
  if (decoding !== 0) pciWriteConfigWord(dev, PCI_COMMAND, command & ~decoding);
  const bars = dev.hdrType === PCI_HEADER_TYPE_BRIDGE ? 2 : PCI_STD_NUM_BARS;
  for (let index = 0; index < bars; index++) {
    const resource = readBar(dev, index, index === bars - 1);
    dev.resources[index] = resource;
    if (resource === null) continue;
    devInfo(dev, `BAR ${index} ${pciResourceText(resource)}`);
    if (resource.is64) index++;
  }
  dev.resources[PCI_ROM_RESOURCE] = readRom(dev);
  if (decoding !== 0) pciWriteConfigWord(dev, PCI_COMMAND, command);
}

/** What the register holds, and which of its bits can be written. */
function probe(dev: PciDev, offset: number, ones: number): { held: number; size: number } {
  const held = pciReadConfigDword(dev, offset);
  pciWriteConfigDword(dev, offset, ones);
  const size = pciReadConfigDword(dev, offset);
  pciWriteConfigDword(dev, offset, held);
  return { held, size };
}

/** As __pci_read_base does. */
function readBar(dev: PciDev, index: number, last: boolean): PciResource | null {
  const offset = pciBarOffset(dev, index);
  const low = probe(dev, offset, 0xffff_ffff);
  // A function that is not there any more, or a BAR that is not implemented.
  if (low.size === 0xffff_ffff || low.size === 0) return null;
  if ((low.held & PCI_BASE_ADDRESS_SPACE_IO) !== 0) {
    const mask = (low.size & IO_MASK & 0xffff) >>> 0;
    return resourceOf(dev, index, 'io', BigInt(low.held & IO_MASK & 0xffff), BigInt(mask), false, false);
  }
  const is64 = (low.held & PCI_BASE_ADDRESS_MEM_TYPE_MASK) === PCI_BASE_ADDRESS_MEM_TYPE_64;
  const prefetchable = (low.held & PCI_BASE_ADDRESS_MEM_PREFETCH) !== 0;
  let held = BigInt((low.held & MEM_MASK) >>> 0);
  let size = BigInt((low.size & MEM_MASK) >>> 0);
  if (is64) {
    if (last) {
      devErr(dev, `BAR ${index}: 64-bit, and no register is left for its upper half; ignoring it`);
      return null;
    }
    const high = probe(dev, offset + 4, 0xffff_ffff);
    held |= BigInt(high.held) << 32n;
    size |= BigInt(high.size) << 32n;
  }
  return resourceOf(dev, index, 'mem', held, size, is64, prefetchable);
}

/** The lowest bit that can be written is the size; all above it must be writable too (pci_size). */
function resourceOf(
  dev: PciDev,
  index: number,
  kind: 'mem' | 'io',
  held: bigint,
  writable: bigint,
  is64: boolean,
  prefetchable: boolean,
): PciResource | null {
  const size = writable & -writable;
  const top = kind === 'io' ? 0xffffn : is64 ? (1n << 64n) - 1n : 0xffff_ffffn;
  // Port BARs may leave out the upper half of their bits.
  const gaps = (top & ~(size - 1n) & ~writable) !== 0n && !(kind === 'io' && writable >> 8n === 0n);
  if (size === 0n || gaps) {
    devErr(dev, `BAR ${index}: reg 0x${pciBarOffset(dev, index).toString(16)} has invalid size; ignoring it`);
    return null;
  }
  if (size > MOST_BYTES) {
    devErr(dev, `BAR ${index}: can't handle BAR of size 0x${size.toString(16)}`);
    return null;
  }
  const address = held & ~(size - 1n);
  const unset = address === 0n || address + size > 1n << 52n || (held | (size - 1n)) === top;
  return { kind, start: unset ? -1 : Number(address), sizeBytes: Number(size), is64, prefetchable };
}

/** ROMs are found, and never switched on or assigned. */
function readRom(dev: PciDev): PciResource | null {
  const { held, size } = probe(dev, pciBarOffset(dev, PCI_ROM_RESOURCE), 0xffff_f800);
  if (size === 0xffff_ffff) return null;
  const writable = BigInt((size & 0xffff_f800) >>> 0);
  if (writable === 0n) return null;
  return resourceOf(dev, PCI_ROM_RESOURCE, 'mem', BigInt((held & 0xffff_f800) >>> 0), writable, false, false);
}

/** Write a resource's address, as the bus sees it, to its register. @linux pci_update_resource */
export function pciUpdateResource(dev: PciDev, index: number, busAddr: number): void {
  const offset = pciBarOffset(dev, index);
  const command = pciReadConfigWord(dev, PCI_COMMAND);
  const { is64, kind } = dev.resources[index]!;
  const decode = kind === 'io' ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
  // Between two halves the BAR would answer somewhere else.
  if (is64 && (command & decode) !== 0) pciWriteConfigWord(dev, PCI_COMMAND, command & ~decode);
  pciWriteConfigDword(dev, offset, busAddr % 2 ** 32);
  if (is64) pciWriteConfigDword(dev, offset + 4, Math.floor(busAddr / 2 ** 32));
  if (is64 && (command & decode) !== 0) pciWriteConfigWord(dev, PCI_COMMAND, command);
}
