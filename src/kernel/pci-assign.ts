/** Which addresses a PCI bus has to give, and giving them to BARs that firmware left without. */
import { alignUp, rangeInside, rangesOverlap } from '../base/addr.ts';
import { devInfo, devWarn } from './device.ts';
import { pciUpdateResource } from './pci-bars.ts';
import {
  PCI_STD_NUM_BARS,
  type PciBus,
  type PciDev,
  type PciResource,
  pciReadConfigDword,
  pciReadConfigWord,
  pciResourceText,
} from './pci-dev.ts';
import type { PciHostBridge } from './pci-host-bridge.ts';
import { PCI_CLASS_BRIDGE_HOST, PCI_COMMAND, PCI_COMMAND_IO, PCI_COMMAND_MEMORY } from './pci-regs.ts';

/** Below these are the legacy devices (PCIBIOS_MIN_MEM and PCIBIOS_MIN_IO). */
const MIN_MEM = 0x10_0000;
const MIN_IO = 0x1000;

/** A range of addresses from which BARs have theirs. */
class AddressWindow {
  readonly kind: 'mem' | 'io';
  readonly start: number;
  readonly sizeBytes: number;
  /** CPU address minus bus address. */
  readonly offset: number;
  readonly #taken: { start: number; sizeBytes: number }[] = [];

  constructor(kind: 'mem' | 'io', start: number, sizeBytes: number, offset: number) {
    this.kind = kind;
    this.start = start;
    this.sizeBytes = sizeBytes;
    this.offset = offset;
  }
  contains({ kind, start, sizeBytes }: PciResource): boolean {
    return kind === this.kind && rangeInside(start, sizeBytes, this.start, this.sizeBytes);
  }
  /** False when part of it is taken. */
  claim(start: number, sizeBytes: number): boolean {
    if (this.#taken.some((other) => rangesOverlap(start, sizeBytes, other.start, other.sizeBytes))) return false;
    this.#taken.push({ start, sizeBytes });
    this.#taken.sort((a, b) => a.start - b.start);
    return true;
  }
  /** Take the lowest free place from `min` on that is aligned to its size; -1: there is none. */
  allocate(sizeBytes: number, min: number): number {
    let at = alignUp(Math.max(this.start, min), sizeBytes);
    for (const other of this.#taken) {
      if (rangesOverlap(at, sizeBytes, other.start, other.sizeBytes)) {
        at = alignUp(other.start + other.sizeBytes, sizeBytes);
      }
    }
    return rangeInside(at, sizeBytes, this.start, this.sizeBytes) && this.claim(at, sizeBytes) ? at : -1;
  }
}

/**
 * Claim what firmware has assigned within the windows of each bus, and assign the rest: the largest first, 64-bit BARs
 * above 4 GiB where there is a window. @linux pci_assign_unassigned_root_bus_resources
 */
export function pciAssignResources(bridge: PciHostBridge): void {
  const windows = bridge.windows.flatMap(({ start, end, offset, type }) =>
    type === 'bus' ? [] : [new AddressWindow(type, start, end - start + 1, offset)],
  );
  if (bridge.root !== null) assignBus(bridge.root, windows);
}

interface Place {
  readonly dev: PciDev;
  readonly index: number;
  readonly resource: PciResource;
}

function assignBus(bus: PciBus, windows: readonly AddressWindow[]): void {
  const places: Place[] = bus.devices.flatMap((dev) =>
    dev.resources.slice(0, PCI_STD_NUM_BARS).flatMap((resource, index) => {
      if (resource === null) return [];
      // Registers hold bus addresses.
      if (resource.start >= 0) resource.start += offsetAt(windows, resource);
      return [{ dev, index, resource }];
    }),
  );
  // What answers already goes before what is only written down.
  for (const enabled of [true, false]) {
    for (const place of places) if (isDecoding(place) === enabled) claim(place, windows);
  }
  // Bridges are claimed as a whole before their own buses are looked at.
  const below = bus.children.map((child) => ({ child, windows: windowsOfBridge(child, windows) }));
  const open = places.filter(({ dev, resource }) => resource.start < 0 && dev.class >>> 8 !== PCI_CLASS_BRIDGE_HOST);
  open.sort((a, b) => b.resource.sizeBytes - a.resource.sizeBytes);
  for (const place of open) assign(place, windows);
  for (const { child, windows: own } of below) assignBus(child, own);
}

function offsetAt(windows: readonly AddressWindow[], { kind, start, sizeBytes }: PciResource): number {
  const window = windows.find((w) => w.kind === kind && rangeInside(start + w.offset, sizeBytes, w.start, w.sizeBytes));
  return window?.offset ?? 0;
}
function isDecoding({ dev, resource }: Place): boolean {
  const bit = resource.kind === 'io' ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
  return (pciReadConfigWord(dev, PCI_COMMAND) & bit) !== 0;
}

/** As pci_claim_resource does. */
function claim({ dev, index, resource }: Place, windows: readonly AddressWindow[]): void {
  if (resource.start < 0) return;
  const window = windows.find((candidate) => candidate.contains(resource));
  const why = window === undefined ? 'no compatible bridge window' : 'address conflict with another BAR';
  if (window?.claim(resource.start, resource.sizeBytes) === true) return;
  devInfo(dev, `BAR ${index} ${pciResourceText(resource)}: can't claim; ${why}`);
  resource.start = -1;
}

/** As pci_assign_resource does. */
function assign({ dev, index, resource }: Place, windows: readonly AddressWindow[]): void {
  const { kind, sizeBytes, is64 } = resource;
  const usable = windows.filter((window) => window.kind === kind);
  const high = usable.filter((window) => window.start - window.offset >= 2 ** 32);
  const low = usable.filter((window) => !high.includes(window));
  for (const window of is64 ? [...high, ...low] : low) {
    const start = window.allocate(sizeBytes, kind === 'io' ? MIN_IO : MIN_MEM);
    if (start < 0) continue;
    resource.start = start;
    pciUpdateResource(dev, index, start - window.offset);
    devInfo(dev, `BAR ${index} ${pciResourceText(resource)}: assigned`);
    return;
  }
  devWarn(dev, `BAR ${index} ${pciResourceText(resource)}: can't assign; no space`);
  devWarn(dev, `BAR ${index} ${pciResourceText(resource)}: failed to assign`);
}

/** The windows that firmware has opened in a PCI-to-PCI bridge, claimed from those above, as pci_read_bridge_bases does. */
function windowsOfBridge(bus: PciBus, above: readonly AddressWindow[]): AddressWindow[] {
  const { self } = bus;
  if (self === null) return [];
  const ports = pciReadConfigWord(self, 0x1c);
  const memory = pciReadConfigDword(self, 0x20);
  const prefetch = pciReadConfigDword(self, 0x24);
  const is64 = (prefetch & 0xf) === 1;
  const high = (at: number) => (is64 ? pciReadConfigDword(self, at) * 2 ** 32 : 0);
  const ranges = [
    { kind: 'io', first: (ports & 0xf0) << 8, last: (ports & 0xf000) | 0xfff },
    { kind: 'mem', first: (memory & 0xfff0) * 2 ** 16, last: (memory >>> 20) * 2 ** 20 + 0xf_ffff },
    {
      kind: 'mem',
      first: high(0x28) + (prefetch & 0xfff0) * 2 ** 16,
      last: high(0x2c) + (prefetch >>> 20) * 2 ** 20 + 0xf_ffff,
    },
  ] as const;
  return ranges.flatMap(({ kind, first, last }) => {
    if (last <= first || first === 0 || last >= 2 ** 52) return [];
    const sizeBytes = last - first + 1;
    for (const window of above) {
      const start = first + window.offset;
      if (window.kind !== kind || !rangeInside(start, sizeBytes, window.start, window.sizeBytes)) continue;
      if (window.claim(start, sizeBytes)) return [new AddressWindow(kind, start, sizeBytes, window.offset)];
    }
    devInfo(self, `bridge window [${kind} size 0x${sizeBytes.toString(16)}]: can't claim; no compatible bridge window`);
    return [];
  });
}
