/**
 * A board for random programs: some of its DMA devices, each with a bus master that takes the very path of the board's
 * own (the same bus windows, the same IOMMU under the same id), and what must be as it was when a program is over.
 */
import { dmaBitMask } from '../base/index.ts';
import { attachChecker, type Checker } from '../checker/index.ts';
import { dmaCookie, iommuGetDomainForDev } from '../iommu/index.ts';
import { Device, type Kernel } from '../kernel/index.ts';
import { type BusMaster, type BusMasterOptions, BusStatus, FrameKind, type ModelHost } from '../machine/index.ts';
import {
  dmaSetMaskAndCoherent,
  dmaSetMinAlignMask,
  dmaSetSegBoundary,
  ioTlbMemOf,
  swiotlbStats,
} from '../mapping/index.ts';
import { type Board, defineBoard } from './board.ts';
import type { BootOptions, System } from './index.ts';

/** A device that does on the bus what it is told. */
export interface RigDevice {
  readonly dev: Device;
  readonly bus: BusMaster;
}
/** How a rig is booted. */
export interface RigOptions extends BootOptions {
  /** Attach the checker. */
  readonly checked?: boolean;
  /** Widths of the devices' masks, where they can be set; others keep what their driver has set. */
  readonly maskBits?: readonly number[];
  /** What every device asks of its segments: `dmaSetMinAlignMask`, `dmaSetSegBoundary`. */
  readonly minAlignMask?: number;
  readonly segBoundary?: number;
}

/** Kinds of pages that somebody took and has to give back; the slab's are kept for reuse. */
const TRANSIENT: readonly number[] = [FrameKind.PAGES, FrameKind.COHERENT, FrameKind.VMALLOC, FrameKind.STACK];
const MIB = 2 ** 20;
const DEVICES = 3;

/** The board, and the options of every bus master that its models ask for. */
function withOpenBus(board: Board, masters: Map<string, BusMasterOptions>): Board {
  const bind = (host: ModelHost, mode: Parameters<Board['bind']>[1]): void => {
    const tap = host as { busMaster: ModelHost['busMaster'] };
    const original = tap.busMaster.bind(host);
    tap.busMaster = (options) => {
      masters.set(options.name, options);
      return original(options);
    };
    board.bind(host, mode);
    tap.busMaster = original;
  };
  return defineBoard({ ...board, bind });
}

/** See the file's head. */
export class ProgramRig {
  readonly system: System;
  readonly kernel: Kernel;
  readonly checker: Checker | null;
  readonly devices: RigDevice[] = [];
  readonly #masters: ReadonlyMap<string, BusMasterOptions>;

  private constructor(system: System, masters: ReadonlyMap<string, BusMasterOptions>, checked: boolean) {
    this.system = system;
    this.kernel = system.kernel;
    this.#masters = masters;
    this.checker = checked ? attachChecker(system, { places: false }) : null;
  }
  /** Boot, with 128 MiB and 16 MiB of bounce buffers where there are any, and run `main` with the devices bound. */
  static async run(board: Board, options: RigOptions, main: (rig: ProgramRig) => void): Promise<void> {
    const rig = await ProgramRig.boot(board, options);
    await rig.system.run(() => {
      rig.findDevices(options);
      main(rig);
    });
    await rig.close();
  }
  static async boot(board: Board, options: RigOptions): Promise<ProgramRig> {
    const masters = new Map<string, BusMasterOptions>();
    const force = typeof options.mode === 'string' && options.mode.includes('swiotlb=force') ? ',force' : '';
    const system = await withOpenBus(board, masters).boot({
      ramBytes: 128 * MIB,
      cmdline: `swiotlb=8192${force}`,
      ...options,
    });
    return new ProgramRig(system, masters, options.checked ?? false);
  }

  /** Take some devices that have a driver and are masters of the bus for others than the platform itself; where there is but one, it gets a twin. */
  findDevices({ maskBits = [], minAlignMask, segBoundary }: RigOptions): void {
    const { devices } = this.kernel;
    const isMaster = ({ name }: Device): boolean =>
      this.#masters.has(name) && this.#masters.get(name)?.observed !== false;
    const found = devices.filter((dev) => dev.driver !== null && isMaster(dev));
    const chosen = found.length <= DEVICES ? found : [found[0]!, found[1]!, found[found.length - 1]!];
    const first = chosen[0];
    if (first === undefined) throw new Error(`${this.system.board} has no device that is a master of the bus`);
    for (const dev of chosen) this.#add(dev, this.#masters.get(dev.name)!);
    if (chosen.length === 1)
      this.#add(twinOf(first), { ...this.#masters.get(first.name)!, name: `${first.name}.twin` });
    for (const [i, { dev }] of this.devices.entries()) {
      const bits = maskBits[i % maskBits.length];
      if (bits !== undefined) dmaSetMaskAndCoherent(dev, dmaBitMask(bits));
      if (minAlignMask !== undefined) dmaSetMinAlignMask(dev, minAlignMask);
      if (segBoundary !== undefined) dmaSetSegBoundary(dev, segBoundary);
    }
  }
  #add(dev: Device, options: BusMasterOptions): void {
    const host = this.kernel.machine as unknown as ModelHost;
    this.devices.push({ dev, bus: host.busMaster(options) });
  }

  /** Whether an IOMMU refuses the device what is not mapped. */
  isolates(dev: Device): boolean {
    return dev.dmaOps !== null;
  }
  /** Whether buffers of the device that are not whole pages go through bounce buffers. */
  bounces(dev: Device): boolean {
    return dev.dmaOps === null ? ioTlbMemOf(dev).forceBounce : dev.untrusted;
  }
  /** The highest bus address that the device reaches. */
  reach(dev: Device): number {
    return dev.busDmaLimit === 0 ? dev.dmaMaskLimit : Math.min(dev.dmaMaskLimit, dev.busDmaLimit);
  }

  /** Ranges of I/O addresses that are taken, with nothing in caches and queues; 0 where no IOMMU translates. */
  iovaRanges(): number {
    let count = 0;
    for (const { dev } of this.devices) {
      if (dev.dmaOps === null) continue;
      const cookie = dmaCookie(iommuGetDomainForDev(dev)!);
      cookie.flushQueue?.flush();
      cookie.rcaches.flush();
      count += cookie.iovad.rangeCount;
      if (cookie.rcaches.cachedCount !== 0) throw new Error(`${dev.name}: caches keep addresses after a flush`);
    }
    return count;
  }
  /** Slots of bounce buffers in use. */
  slotsUsed(): number {
    return swiotlbStats(this.kernel).ioTlbUsed;
  }
  /** Pages that are taken, of some kinds: all but the slab's. */
  pagesUsed(of: readonly number[] = TRANSIENT): number {
    let count = 0;
    for (const { kinds } of this.kernel.machine.ram) for (const kind of kinds) if (of.includes(kind)) count++;
    return count;
  }

  /** What a device reads there. Throws when it is refused. */
  read({ dev, bus }: RigDevice, addr: number, into: Uint8Array, sizeBytes: number): void {
    if (bus.read(addr, into, 0, sizeBytes) === BusStatus.OK) return;
    throw new Error(`${dev.name} cannot read ${sizeBytes} bytes at 0x${addr.toString(16)}`);
  }
  write({ dev, bus }: RigDevice, addr: number, from: Uint8Array, offset: number, sizeBytes: number): void {
    if (bus.write(addr, from, offset, sizeBytes) === BusStatus.OK) return;
    throw new Error(`${dev.name} cannot write ${sizeBytes} bytes at 0x${addr.toString(16)}`);
  }

  /** Take the board down: no driver keeps anything, the kernel has complained of nothing, the checker neither. */
  async close(): Promise<void> {
    this.checker?.runEnded();
    const { leaks, failure } = await this.system.close();
    if (failure !== undefined) throw new Error(failure);
    if (leaks.length > 0) throw new Error(`pages leak: ${JSON.stringify(leaks)}`);
    this.checker?.close();
  }
}

/** Another device in the same place of the board, for programs that need two. */
function twinOf(dev: Device): Device {
  const twin = new Device(dev.kernel, `${dev.name}.twin`, { parent: dev.parent });
  twin.dmaMask = dev.dmaMask;
  twin.coherentDmaMask = dev.coherentDmaMask;
  twin.busDmaLimit = dev.busDmaLimit;
  twin.dmaRangeMap = dev.dmaRangeMap;
  twin.dmaCoherent = dev.dmaCoherent;
  twin.dmaParms = dev.dmaParms === null ? null : { ...dev.dmaParms };
  dev.kernel.devices.push(twin);
  return twin;
}
