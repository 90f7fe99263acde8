/** Platform devices: those of a board or SoC, which no bus can find. The device tree lists them. */
import { ffs } from '../base/bits.ts';
import { EINVAL, ENXIO, type Errno, OK } from '../base/errno.ts';
import { type BusType, Device, type DeviceOptions, devErr, setDefaultDmaMasks } from './device.ts';
import { deviceAdd, deviceDel, matchesByTree } from './driver-core.ts';
import type { IoMem } from './io.ts';
import type { Kernel } from './kernel.ts';
import {
  type OfNode,
  ofDeviceIsAvailable,
  ofDeviceIsCompatible,
  ofPropertyReadBool,
  ofPropertyReadStringArray,
  ofPropertyReadU32,
} from './of.ts';
import { ofAddressToResource, ofDmaConfigure, ofTranslateAddress } from './of-address.ts';
import { ofIrqGet } from './of-irq.ts';
import { devmIoremapResource, type Resource } from './resource.ts';

/** @linux platform_bus_type */
export const platformBus: BusType = {
  name: 'platform',
  match: (dev, driver) => matchesByTree(dev, driver) || driver.name === dev.name,
  dmaConfigure: (dev) => ofDmaConfigure(dev),
  dmaCleanup: (dev) => {
    if (dev.ofNode !== null) dev.dmaRangeMap = null;
  },
};

/** How a `PlatformDevice` begins. */
export interface PlatformDeviceOptions extends DeviceOptions {
  /** Without any, a device of the tree has those of its node. */
  readonly resources?: readonly Resource[];
}

/** Both DMA masks are 32 bits at first. @linux struct platform_device */
export class PlatformDevice extends Device {
  readonly resources: Resource[];

  constructor(kernel: Kernel, name: string, options: PlatformDeviceOptions = {}) {
    super(kernel, name, { ...options, bus: options.bus ?? platformBus });
    setDefaultDmaMasks(this);
    this.dmaParms = { maxSegmentSize: 0, segmentBoundaryMask: 0, minAlignMask: 0 };
    const node = options.ofNode ?? null;
    this.resources = options.resources?.slice() ?? (node === null ? [] : resourcesOf(node));
  }
}
function resourcesOf(node: OfNode): Resource[] {
  const names = ofPropertyReadStringArray(node, 'reg-names') ?? [];
  const resources: Resource[] = [];
  for (let index = 0; ; index++) {
    const range = ofAddressToResource(node, index);
    if (range === null) return resources;
    resources.push({ kind: 'mem', start: range.start, sizeBytes: range.sizeBytes, name: names[index] ?? node.path });
  }
}

/** The register range `index` of a device, or null. @linux platform_get_resource */
export function platformGetResource(dev: Device, index: number): Resource | null {
  return nth(dev, 'mem', index);
}
/** The register range of that name, or null. @linux platform_get_resource_byname */
export function platformGetResourceByname(dev: Device, name: string): Resource | null {
  if (!(dev instanceof PlatformDevice)) return null;
  return dev.resources.find((resource) => resource.kind === 'mem' && resource.name === name) ?? null;
}
function nth(dev: Device, kind: Resource['kind'], index: number): Resource | null {
  if (!(dev instanceof PlatformDevice)) return null;
  let left = index;
  for (const resource of dev.resources) if (resource.kind === kind && left-- === 0) return resource;
  return null;
}
/** The interrupt line `index`; without one it is logged, and ENXIO. @linux platform_get_irq */
export function platformGetIrq(dev: Device, index: number): number | Errno {
  const irq = platformGetIrqOptional(dev, index);
  if (irq < 0) devErr(dev, `IRQ index ${index} not found`);
  return irq;
}
/** The same without complaint. @linux platform_get_irq_optional */
export function platformGetIrqOptional(dev: Device, index: number): number | Errno {
  const resource = nth(dev, 'irq', index);
  if (resource !== null) return resource.start;
  return dev.ofNode === null ? ENXIO : ofIrqGet(dev.kernel, dev.ofNode, index);
}
/**
 * Claim and map the register range `index`; both are undone when the device is unbound. EINVAL without such a range,
 * EBUSY when somebody has claimed part of it. May sleep. @linux devm_platform_ioremap_resource
 */
export function devmPlatformIoremapResource(dev: Device, index: number): IoMem | Errno {
  const resource = platformGetResource(dev, index);
  if (resource === null) {
    devErr(dev, 'invalid resource (null)');
    return EINVAL;
  }
  return devmIoremapResource(dev, resource);
}

/** Buses whose children are devices of their own. */
const BUSES = ['simple-bus', 'simple-mfd', 'isa', 'arm,amba-bus'];

/** The name the kernel gives a device of the tree: `7e007000.dma-controller`, or the path's names. @linux of_device_make_bus_id */
export function ofDeviceName(node: OfNode): string {
  let name = '';
  for (let at: OfNode = node; at.parent !== null; at = at.parent) {
    const address = ofTranslateAddress(at);
    const tail = name === '' ? '' : `:${name}`;
    const mask = ofPropertyReadU32(at, 'mask');
    // Several devices in one register, such as LEDs, are told apart by their bit.
    const bit = mask === null ? '' : `${ffs(mask).toString(16)}.`;
    if (address !== null) return `${address.toString(16)}.${bit}${at.name}${tail}`;
    name = `${at.fullName}${tail}`;
  }
  return name;
}

/**
 * Add a platform device for each available node below `root` that has a `compatible`, and below the buses among them.
 * Returns them in the order in which they were added; drivers are bound as they are registered. May sleep.
 * @linux of_platform_populate, of_platform_default_populate
 */
export async function ofPlatformPopulate(
  kernel: Kernel,
  root: OfNode,
  parent: Device | null = null,
): Promise<PlatformDevice[]> {
  const added: PlatformDevice[] = [];
  for (const node of root.children) {
    if (!ofPropertyReadBool(node, 'compatible') || !ofDeviceIsAvailable(node)) continue;
    const dev = new PlatformDevice(kernel, ofDeviceName(node), { ofNode: node, parent });
    if ((await deviceAdd(dev)) !== OK) continue;
    added.push(dev);
    if (BUSES.some((compatible) => ofDeviceIsCompatible(node, compatible))) {
      added.push(...(await ofPlatformPopulate(kernel, node, dev)));
    }
  }
  return added;
}
/** Take away the platform devices below `parent`, newest first. May sleep. @linux of_platform_depopulate */
export async function ofPlatformDepopulate(parent: Device): Promise<void> {
  const children = parent.kernel.devices.filter((dev) => dev.parent === parent && dev instanceof PlatformDevice);
  for (const dev of children.reverse()) {
    await ofPlatformDepopulate(dev);
    await deviceDel(dev);
  }
}
