/** PCI functions as devices, the buses they sit on, and their configuration space. */
import { dmaBitMask, hexAddr } from '../base/addr.ts';
import { EINVAL, type Errno, OK } from '../base/errno.ts';
import type { MsiVector } from '../machine/contract.ts';
import { type BusType, Device, setDefaultDmaMasks } from './device.ts';
import type { PciHostBridge } from './pci-host-bridge.ts';
import {
  PCI_CAPABILITY_LIST,
  PCI_CFG_SPACE_SIZE,
  PCI_FUNC,
  PCI_SLOT,
  PCI_STATUS,
  PCI_STATUS_CAP_LIST,
  PCI_STD_HEADER_SIZEOF,
} from './pci-regs.ts';

/** The ROM's place among a function's resources, behind six BARs. @linux PCI_ROM_RESOURCE */
export const PCI_ROM_RESOURCE = 6;
/** @linux PCI_STD_NUM_BARS */
export const PCI_STD_NUM_BARS = 6;
/** Longer lists of capabilities are rings (PCI_FIND_CAP_TTL). */
const MOST_CAPABILITIES = 48;

/** A range in which a function answers. @linux struct resource */
export interface PciResource {
  readonly kind: 'mem' | 'io';
  /** Physical address (or port) of its first byte; -1 while nothing is assigned. */
  start: number;
  /** A power of two. */
  readonly sizeBytes: number;
  /** Of a memory BAR: whether it may lie above 4 GiB. */
  readonly is64: boolean;
  readonly prefetchable: boolean;
}

/** A bus below a host bridge or a PCI-to-PCI bridge. @linux struct pci_bus */
export class PciBus {
  readonly bridge: PciHostBridge;
  readonly number: number;
  /** The last bus below it. */
  subordinate: number;
  /** The PCI-to-PCI bridge that leads to it; null for a root bus. */
  readonly self: PciDev | null;
  readonly parent: PciBus | null;
  readonly devices: PciDev[] = [];
  readonly children: PciBus[] = [];

  constructor(bridge: PciHostBridge, number: number, self: PciDev | null, parent: PciBus | null) {
    this.bridge = bridge;
    this.number = number;
    this.subordinate = number;
    this.self = self;
    this.parent = parent;
  }
}

/** A PCI function. Both DMA masks are 32 bits at first, and segments 64 KiB at most. @linux struct pci_dev */
export class PciDev extends Device {
  readonly pciBus: PciBus;
  /** Device and function number: see PCI_SLOT and PCI_FUNC. */
  readonly devfn: number;
  /** Bus, device and function as one number; also its requester id. */
  readonly bdf: number;
  vendor = 0;
  device = 0;
  subsystemVendor = 0;
  subsystemDevice = 0;
  /** Base class, subclass and programming interface: 24 bits. */
  class = 0;
  revision = 0;
  /** Without the bit of multifunction devices. */
  hdrType = 0;
  multifunction = false;
  /** BARs 0 to 5 and the ROM; null: there is none, or it is the upper half of the one before. @linux pci_dev.resource */
  readonly resources: (PciResource | null)[] = new Array<PciResource | null>(PCI_ROM_RESOURCE + 1).fill(null);
  /** 1 to 4 for INTA to INTD, 0: none. */
  pin = 0;
  /** The wired interrupt line; -1: none. @linux pci_dev.irq */
  irq = -1;
  /** Where its MSI capability is, 0: none. @linux pci_dev.msi_cap */
  msiCap = 0;
  msiEnabled = false;
  isBusmaster = false;
  /** Firmware says that what is connected here comes from outside. @linux pci_dev.external_facing */
  externalFacing = false;
  /** The bus below, of a bridge. */
  subordinate: PciBus | null = null;
  /** @internal How often it was enabled more than disabled. */
  enableCount = 0;
  /** @internal */
  msiVectors: MsiVector[] = [];
  /** @internal BARs that were claimed for a driver, as bits. */
  requestedRegions = 0;

  constructor(bus: PciBus, devfn: number, busType: BusType, parent: Device) {
    super(bus.bridge.kernel, pciNameOf(bus.bridge.domain, (bus.number << 8) | devfn), { bus: busType, parent });
    this.pciBus = bus;
    this.devfn = devfn;
    this.bdf = (bus.number << 8) | devfn;
    setDefaultDmaMasks(this);
    this.dmaParms = { maxSegmentSize: 65536, segmentBoundaryMask: Number(dmaBitMask(32)), minAlignMask: 0 };
  }
}

function pciNameOf(domain: number, bdf: number): string {
  const hex = (n: number, digits: number) => n.toString(16).padStart(digits, '0');
  const devfn = bdf & 0xff;
  return `${hex(domain, 4)}:${hex(bdf >>> 8, 2)}:${hex(PCI_SLOT(devfn), 2)}.${PCI_FUNC(devfn)}`;
}
/** `0000:00:10.0`. @linux pci_name */
export function pciName(dev: PciDev): string {
  return dev.name;
}
/** Whether a device is a PCI function, as a type guard. @linux to_pci_dev */
export function toPciDev(dev: Device): PciDev | null {
  return dev instanceof PciDev ? dev : null;
}

/** `[mem 0xfe300000-0xfe3fffff]`, as the kernel prints it. */
export function pciResourceText(resource: PciResource): string {
  const { kind, start, sizeBytes, is64, prefetchable } = resource;
  const flags = `${is64 ? ' 64bit' : ''}${prefetchable ? ' pref' : ''}`;
  const digits = (n: number) =>
    hexAddr(n)
      .slice(2)
      .padStart(kind === 'io' ? 4 : 8, '0');
  if (start < 0) return `[${kind === 'io' ? 'io ' : 'mem'} size 0x${digits(sizeBytes)}${flags}]`;
  return `[${kind === 'io' ? 'io ' : 'mem'} 0x${digits(start)}-0x${digits(start + sizeBytes - 1)}${flags}]`;
}

// Configuration space. Offsets must be aligned to the width and lie in the first 4096 bytes; others give all ones.

function reaches(offset: number, width: number): boolean {
  return offset >= 0 && offset < 4096 && offset % width === 0;
}
/** All ones where nothing answers, and for an offset that cannot be. @linux pci_read_config_byte */
export function pciReadConfigByte(dev: PciDev, offset: number): number {
  return reaches(offset, 1) ? dev.kernel.machine.pciConfigRead(dev.bdf, offset, 1) : 0xff;
}
/** @linux pci_read_config_word */
export function pciReadConfigWord(dev: PciDev, offset: number): number {
  return reaches(offset, 2) ? dev.kernel.machine.pciConfigRead(dev.bdf, offset, 2) : 0xffff;
}
/** @linux pci_read_config_dword */
export function pciReadConfigDword(dev: PciDev, offset: number): number {
  return reaches(offset, 4) ? dev.kernel.machine.pciConfigRead(dev.bdf, offset, 4) : 0xffff_ffff;
}
function write(dev: PciDev, offset: number, width: 1 | 2 | 4, value: number): Errno {
  if (!reaches(offset, width)) return EINVAL;
  dev.kernel.machine.pciConfigWrite(dev.bdf, offset, width, value);
  return OK;
}
/** EINVAL for an offset that cannot be. @linux pci_write_config_byte */
export function pciWriteConfigByte(dev: PciDev, offset: number, value: number): Errno {
  return write(dev, offset, 1, value);
}
/** @linux pci_write_config_word */
export function pciWriteConfigWord(dev: PciDev, offset: number, value: number): Errno {
  return write(dev, offset, 2, value);
}
/** @linux pci_write_config_dword */
export function pciWriteConfigDword(dev: PciDev, offset: number, value: number): Errno {
  return write(dev, offset, 4, value);
}

/** Where the capability `id` is, or 0. A list that is a ring, or leaves configuration space, ends. @linux pci_find_capability */
export function pciFindCapability(dev: PciDev, id: number): number {
  if ((pciReadConfigWord(dev, PCI_STATUS) & PCI_STATUS_CAP_LIST) === 0) return 0;
  return walk(dev, pciReadConfigByte(dev, PCI_CAPABILITY_LIST), id);
}
/** The same from behind the capability at `at`. @linux pci_find_next_capability */
export function pciFindNextCapability(dev: PciDev, at: number, id: number): number {
  return walk(dev, pciReadConfigByte(dev, at + 1), id);
}
function walk(dev: PciDev, first: number, id: number): number {
  let at = first;
  for (let ttl = MOST_CAPABILITIES; ttl > 0; ttl--) {
    at &= ~3;
    if (at < PCI_STD_HEADER_SIZEOF || at >= PCI_CFG_SPACE_SIZE) return 0;
    const entry = pciReadConfigWord(dev, at);
    if ((entry & 0xff) === 0xff) return 0;
    if ((entry & 0xff) === id) return at;
    at = entry >>> 8;
  }
  return 0;
}
