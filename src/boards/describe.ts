/** What a board's devices can reach: the data of `dmakit board NAME`. */
import {
  DMA_CYCLIC,
  DMA_INTERLEAVE,
  DMA_INTERRUPT,
  DMA_MEMCPY,
  DMA_MEMSET,
  DMA_PQ,
  DMA_SLAVE,
  DMA_XOR,
  type DmaDevice,
  dmaDevices,
  dmaHasCap,
  dmaTransactionTypeName,
} from '../dmaengine/index.ts';
import { devIommu, iommuGroupGet, type ResvRegion } from '../iommu/index.ts';
import { type Device, ofIrqGet, ofPropertyReadStringArray, PciDev } from '../kernel/index.ts';
import { ioTlbMemOf } from '../mapping/index.ts';
import type { System } from './system.ts';

/** A range of addresses; `kind` names a zone. */
export interface MemoryRange {
  readonly base: number;
  readonly sizeBytes: number;
}
/** What a PCI function says of itself. */
export interface PciDescription {
  /** Four hexadecimal digits each. */
  readonly vendor: string;
  readonly device: string;
  /** Six. */
  readonly class: string;
  /** Where its BARs are, by number. */
  readonly bars: readonly (MemoryRange & { readonly index: number })[];
  readonly untrusted: boolean;
}
/** What the IOMMU does for a device. */
export interface IommuDescription {
  /** Devices of one group share their addresses. */
  readonly group: number;
  /** `dma`: translated, strict; `dma-fq`: translated, lazy; `identity`: let through. */
  readonly domain: string;
  /** Addresses with a meaning of their own, which are never given to buffers. */
  readonly reserved: readonly (MemoryRange & { readonly type: ResvRegion['type'] })[];
}
/** How much of the RAM a device reaches. */
export interface Reach {
  /** RAM that the device addresses itself, by physical address. */
  readonly direct: readonly MemoryRange[];
  readonly directBytes: number;
  /** RAM that the IOMMU puts within its reach. */
  readonly translatedBytes: number;
  /** RAM for which a bounce buffer must stand in. */
  readonly bounceBytes: number;
  /** RAM that it cannot be given at all. */
  readonly unreachableBytes: number;
}
export interface DeviceDescription {
  readonly name: string;
  readonly node: string | null;
  readonly compatible: readonly string[];
  /** null: no driver is bound. */
  readonly driver: string | null;
  /** Bits of the streaming mask; 0 when nobody set one. */
  readonly maskBits: number;
  readonly coherentMaskBits: number;
  /** The last bus address that the buses above let through; null: no limit. */
  readonly busLimit: number | null;
  readonly coherent: boolean;
  /** Windows between physical and bus addresses; empty: they are the same. */
  readonly windows: readonly { readonly phys: number; readonly bus: number; readonly sizeBytes: number }[];
  /** null for a device without a mask: it makes no accesses of its own. */
  readonly reach: Reach | null;
  readonly interrupts: readonly number[];
  /** null: it is no PCI function. */
  readonly pci: PciDescription | null;
  /** null: it is behind no IOMMU, or that is off. */
  readonly iommu: IommuDescription | null;
  /** Channels when it is a DMA controller. */
  readonly channels: readonly ChannelDescription[];
}
export interface ChannelDescription {
  readonly name: string;
  readonly capabilities: readonly string[];
  /** The client that has it, or null. */
  readonly client: string | null;
}
export interface BoardDescription {
  readonly name: string;
  readonly title: string;
  readonly description: string;
  readonly mode: string;
  readonly coherent: boolean;
  readonly cacheLineBytes: number;
  readonly weaklyOrdered: boolean;
  readonly memory: readonly MemoryRange[];
  readonly zones: readonly (MemoryRange & { readonly name: string })[];
  readonly devices: readonly DeviceDescription[];
}

const ZONES = ['DMA', 'DMA32', 'NORMAL', 'HIGHMEM'] as const;
const SHOWN = [DMA_MEMCPY, DMA_MEMSET, DMA_XOR, DMA_PQ, DMA_INTERRUPT, DMA_SLAVE, DMA_CYCLIC, DMA_INTERLEAVE] as const;
const PAGE_BYTES = 4096;
const PCI_BASE_CLASS_BRIDGE = 0x06;

/** Describe a system. Call it within `system.run`, or after it, so that its devices are probed. */
export function describeBoard(system: System): BoardDescription {
  const { definition, kernel, machine } = system;
  const { coherent, cacheLineBytes, weaklyOrdered } = machine.traits;
  const zones = ZONES.flatMap((name) => {
    const zone = kernel.pages.zone(name);
    if (zone === null || zone.endPfn <= zone.startPfn) return [];
    return [{ name, base: zone.startPfn * PAGE_BYTES, sizeBytes: (zone.endPfn - zone.startPfn) * PAGE_BYTES }];
  });
  return {
    name: definition.name,
    title: definition.title,
    description: definition.description,
    mode: system.mode,
    coherent,
    cacheLineBytes,
    weaklyOrdered,
    memory: machine.ram.map(({ base, sizeBytes }) => ({ base, sizeBytes })),
    zones,
    devices: kernel.devices.filter(isShown).map((dev) => describeDevice(system, dev)),
  };
}

/** Buses and interrupt controllers say nothing about DMA. */
function isShown(dev: Device): boolean {
  return (
    dev.driver !== null ||
    dev instanceof PciDev ||
    dev.ofNode?.properties.has('dmas') === true ||
    dev.ofNode?.properties.has('#dma-cells') === true
  );
}

function describeDevice(system: System, dev: Device): DeviceDescription {
  const { kernel } = system;
  const engine = dmaDevices(kernel).find((device) => device.dev === dev);
  const masters = engine !== undefined || dev.ofNode?.properties.has('#dma-cells') === true || bringsItsOwnDma(dev);
  return {
    name: dev.name,
    node: dev.ofNode?.fullName ?? null,
    compatible: (dev.ofNode !== null && ofPropertyReadStringArray(dev.ofNode, 'compatible')) || [],
    driver: dev.driver?.name ?? null,
    maskBits: bitsOf(dev.dmaMask ?? 0n),
    coherentMaskBits: bitsOf(dev.coherentDmaMask),
    busLimit: dev.busDmaLimit === 0 ? null : dev.busDmaLimit,
    coherent: dev.dmaCoherent,
    windows: (dev.dmaRangeMap ?? []).map(({ cpuStart, dmaStart, sizeBytes }) => ({
      phys: cpuStart,
      bus: dmaStart,
      sizeBytes,
    })),
    reach: masters && dev.dmaMask !== null ? reachOf(system, dev) : null,
    interrupts: interruptsOf(dev),
    pci: dev instanceof PciDev ? describePci(dev) : null,
    iommu: describeIommu(dev),
    channels: engine === undefined ? [] : channelsOf(engine),
  };
}

/** PCI bridges forward accesses, and make none. */
function bringsItsOwnDma(dev: Device): boolean {
  return dev instanceof PciDev ? dev.class >>> 16 !== PCI_BASE_CLASS_BRIDGE : dev.ofNode === null;
}

function describePci(dev: PciDev): PciDescription {
  const hex = (n: number, digits: number) => n.toString(16).padStart(digits, '0');
  return {
    vendor: hex(dev.vendor, 4),
    device: hex(dev.device, 4),
    class: hex(dev.class, 6),
    bars: dev.resources.flatMap((resource, index) =>
      resource === null || resource.start < 0 ? [] : [{ index, base: resource.start, sizeBytes: resource.sizeBytes }],
    ),
    untrusted: dev.untrusted,
  };
}

function describeIommu(dev: Device): IommuDescription | null {
  const group = iommuGroupGet(dev);
  const own = devIommu(dev);
  if (group === null || own === null) return null;
  return {
    group: group.id,
    domain: own.domain?.type ?? 'none',
    reserved: own.ops.getResvRegions(dev).map(({ start, sizeBytes, type }) => ({ base: start, sizeBytes, type })),
  };
}

function bitsOf(mask: bigint): number {
  return mask === 0n ? 0 : mask.toString(2).length;
}

function reachOf(system: System, dev: Device): Reach {
  const limit = Math.min(dev.dmaMaskLimit, dev.busDmaLimit === 0 ? Number.POSITIVE_INFINITY : dev.busDmaLimit);
  const whole = { cpuStart: 0, dmaStart: 0, sizeBytes: 2 ** 52 };
  const windows = dev.dmaRangeMap ?? [whole];
  const direct: MemoryRange[] = [];
  let ramBytes = 0;
  for (const bank of system.machine.ram) {
    ramBytes += bank.sizeBytes;
    for (const { cpuStart, dmaStart, sizeBytes } of windows) {
      const start = Math.max(bank.base, cpuStart);
      const end = Math.min(bank.base + bank.sizeBytes, cpuStart + sizeBytes, limit + 1 - dmaStart + cpuStart);
      if (end > start) direct.push({ base: start, sizeBytes: end - start });
    }
  }
  const directBytes = direct.reduce((sum, range) => sum + range.sizeBytes, 0);
  if (describeIommu(dev)?.domain.startsWith('dma') === true) {
    return { direct: [], directBytes: 0, translatedBytes: ramBytes, bounceBytes: 0, unreachableBytes: 0 };
  }
  const rest = ramBytes - directBytes;
  const bounceBytes = ioTlbMemOf(dev).active ? rest : 0;
  return { direct, directBytes, translatedBytes: 0, bounceBytes, unreachableBytes: rest - bounceBytes };
}

function interruptsOf(dev: Device): number[] {
  const lines: number[] = [];
  if (dev instanceof PciDev) return dev.irq < 0 ? [] : [dev.irq, ...dev.msiVectors.map(({ line }) => line)];
  if (dev.ofNode === null) return lines;
  for (let index = 0; ; index++) {
    const line = ofIrqGet(dev.kernel, dev.ofNode, index);
    if (line < 0) return lines;
    if (!lines.includes(line)) lines.push(line);
  }
}

function channelsOf(engine: DmaDevice): ChannelDescription[] {
  const capabilities = SHOWN.filter((type) => dmaHasCap(type, engine.capMask)).map((type) =>
    dmaTransactionTypeName(type).replace('DMA_', '').toLowerCase(),
  );
  return [...engine.channels].map((chan) => ({ name: chan.name, capabilities, client: chan.dbgClientName }));
}
