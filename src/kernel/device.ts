/**
 * Devices and drivers as the driver core sees them. Binding is in driver-core.ts, managed resources in devres.ts.
 */
import { type DmaAddr, dmaBitMask, maskLimit, type PhysAddr } from '../base/addr.ts';
import { EPROBE_DEFER, type Errno, errnoName } from '../base/errno.ts';
import type { DevresNode } from './devres.ts';
import type { Kernel } from './kernel.ts';
import { Mutex } from './mutex.ts';
import type { OfNode } from './of.ts';
import { LogLevel, printk } from './printk.ts';

/** A window through which a device sees memory: CPU address `cpuStart` is bus address `dmaStart`. @linux struct bus_dma_region */
export interface DmaRange {
  readonly cpuStart: PhysAddr;
  readonly dmaStart: DmaAddr;
  readonly sizeBytes: number;
}

/** What a device's scatterlists must keep to. @linux struct device_dma_parameters */
export interface DeviceDmaParms {
  /** Bytes; 0: not set, 64 KiB hold. */
  maxSegmentSize: number;
  /** A segment may not cross a multiple of this plus one; 0: not set, 4 GiB - 1 hold. */
  segmentBoundaryMask: number;
  /** Low bits of an address that a bounce must keep. */
  minAlignMask: number;
}

/** A kind of bus: how its devices find their drivers. @linux struct bus_type */
export interface BusType {
  readonly name: string;
  /** Whether `driver` is for `dev`, asked before the driver's own `match` and `compatible`; absent: those decide. */
  match?(dev: Device, driver: DeviceDriver): boolean;
  /** Set up DMA addressing before probe. An error fails the probe. */
  dmaConfigure?(dev: Device): Errno;
  dmaCleanup?(dev: Device): void;
}

/** A driver. The same object may be registered with several kernels. @linux struct device_driver */
export interface DeviceDriver {
  readonly name: string;
  /** Only devices of this bus; absent: of any. */
  readonly bus?: BusType;
  /** `compatible` strings of device-tree nodes, any of them. */
  readonly compatible?: readonly string[];
  /** Decides alone, when present. */
  match?(dev: Device): boolean;
  /** May sleep. EPROBE_DEFER: probed again when another device was bound; another error: not bound. */
  probe(dev: Device): Promise<Errno> | Errno;
  /** May sleep. Managed resources are released after it. */
  remove?(dev: Device): Promise<void> | void;
}

/** How a `Device` begins. */
export interface DeviceOptions {
  readonly parent?: Device | null;
  readonly ofNode?: OfNode | null;
  readonly bus?: BusType | null;
}

/** A device. Every field exists from the start, so that all devices have one shape. @linux struct device */
export class Device {
  readonly kernel: Kernel;
  /** @linux dev_name */
  readonly name: string;
  parent: Device | null;
  bus: BusType | null;
  driver: DeviceDriver | null = null;
  driverData: unknown = null;
  ofNode: OfNode | null;
  #dmaMask: bigint | null = null;
  #coherentDmaMask = 0n;
  /** `dmaMask` as a number to compare addresses with, capped at 2^52-1; 0 without mask. */
  dmaMaskLimit = 0;
  /** `coherentDmaMask` likewise. */
  coherentDmaMaskLimit = 0;
  /** The last bus address that reaches memory through the buses above; 0: no limit. @linux device.bus_dma_limit */
  busDmaLimit = 0;
  /** null: bus addresses are physical addresses. @linux device.dma_range_map */
  dmaRangeMap: readonly DmaRange[] | null = null;
  dmaParms: DeviceDmaParms | null = null;
  /** Its accesses snoop the CPU's caches. @linux dev_is_dma_coherent */
  dmaCoherent: boolean;
  /** It is not trusted to keep to its mappings (a hot-plugged PCI device). */
  untrusted = false;
  /** Owned by src/mapping and above; see there. */
  dmaOps: unknown = null;
  dmaIommu: unknown = null;
  iommuGroup: unknown = null;
  dmaMem: unknown = null;
  dmaIoTlbMem: unknown = null;
  cmaArea: unknown = null;
  dmaPools: unknown = null;

  /** Whether it is in `kernel.devices`. */
  added = false;
  /** Why its probe was deferred last, or ''. */
  deferReason = '';
  /** @internal Held while it is bound or unbound. @linux device_lock */
  readonly lock: Mutex;
  /** @internal The newest managed resource. */
  devres: DevresNode | null = null;

  constructor(kernel: Kernel, name: string, options: DeviceOptions = {}) {
    this.kernel = kernel;
    this.name = name;
    this.parent = options.parent ?? null;
    this.bus = options.bus ?? null;
    this.ofNode = options.ofNode ?? null;
    this.dmaCoherent = kernel.machine.traits.coherent;
    this.lock = new Mutex(kernel, `device ${name}`);
  }

  /** What it can address, or null before anybody said. @linux device.dma_mask */
  get dmaMask(): bigint | null {
    return this.#dmaMask;
  }
  set dmaMask(mask: bigint | null) {
    this.#dmaMask = mask;
    this.dmaMaskLimit = mask === null ? 0 : maskLimit(mask);
  }
  /** The same for coherent allocations; 0: none can be made. @linux device.coherent_dma_mask */
  get coherentDmaMask(): bigint {
    return this.#coherentDmaMask;
  }
  set coherentDmaMask(mask: bigint) {
    this.#coherentDmaMask = mask;
    this.coherentDmaMaskLimit = maskLimit(mask);
  }
}

/** Both masks to 32 bits, as buses give their devices. */
export function setDefaultDmaMasks(dev: Device): void {
  dev.dmaMask = dmaBitMask(32);
  dev.coherentDmaMask = dmaBitMask(32);
}

/** @linux dev_set_drvdata, platform_set_drvdata */
export function devSetDrvdata(dev: Device, data: unknown): void {
  dev.driverData = data;
}
/** What `devSetDrvdata` stored; null when the device is not bound. The caller says which type it stored. @linux dev_get_drvdata, platform_get_drvdata */
export function devGetDrvdata<T>(dev: Device): T {
  return dev.driverData as T;
}

/** The driver's or bus's name and the device's, as messages begin: `dma-pl330 f8003000.dma-controller`. @linux dev_driver_string */
export function devDriverString(dev: Device): string {
  return dev.driver?.name ?? dev.bus?.name ?? '';
}
function devPrintk(dev: Device, level: LogLevel, text: string): void {
  const owner = devDriverString(dev);
  printk(dev.kernel, level, `${owner === '' ? '' : `${owner} `}${dev.name}: ${text}`);
}
/** Log `DRIVER NAME: text`. Any context, as its siblings. @linux dev_err */
export function devErr(dev: Device, text: string): void {
  devPrintk(dev, LogLevel.ERR, text);
}
/** @linux dev_warn */
export function devWarn(dev: Device, text: string): void {
  devPrintk(dev, LogLevel.WARNING, text);
}
/** @linux dev_info */
export function devInfo(dev: Device, text: string): void {
  devPrintk(dev, LogLevel.INFO, text);
}
/** @linux dev_dbg */
export function devDbg(dev: Device, text: string): void {
  devPrintk(dev, LogLevel.DEBUG, text);
}
/**
 * For failing probes: log `error NAME: text`, or for EPROBE_DEFER keep `text` as the reason of the deferral. Returns
 * `error`. @linux dev_err_probe
 */
export function devErrProbe(dev: Device, error: Errno, text: string): Errno {
  if (error === EPROBE_DEFER) dev.deferReason = text;
  else devErr(dev, `error ${errnoName(error)}: ${text}`);
  return error;
}

export {
  deviceAdd,
  deviceDel,
  deviceReleaseDriver,
  driverRegister,
  driverUnregister,
  waitForDeviceProbe,
} from './driver-core.ts';
