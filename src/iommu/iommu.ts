/**
 * IOMMUs and the devices behind them: groups (devices that cannot be told apart share one), and the domain that each
 * group starts with, chosen from the boot arguments.
 */
import { EBUSY, EINVAL, ENODEV, ENOMEM, type Errno, OK } from '../base/errno.ts';
import { type Device, devInfo } from '../kernel/device.ts';
import { GFP_KERNEL } from '../kernel/gfp.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { prInfo } from '../kernel/printk.ts';
import { setDmaOps } from '../mapping/ops.ts';
import { DevIommu, devIommu, iommuDomainOf } from './dev-iommu.ts';
import { dmaCookie, setupDmaDomain } from './dma-cookie.ts';
import { iommuDmaOps } from './dma-iommu-ops.ts';
import { type DomainType, IOMMU_READ, IOMMU_WRITE, type IommuDomain, iommuMap } from './domain.ts';
import { iommuObserver } from './observer.ts';

/** A range of bus addresses with a meaning of its own. @linux struct iommu_resv_region */
export interface ResvRegion {
  readonly start: number;
  readonly sizeBytes: number;
  /**
   * `direct`: must stay mapped one to one; `direct-relaxable`: so until a driver takes over; `reserved`: never to be
   * mapped; `msi`: the hardware's interrupt window; `sw-msi`: where the kernel may map interrupt doorbells.
   */
  readonly type: 'direct' | 'direct-relaxable' | 'reserved' | 'msi' | 'sw-msi';
  readonly prot: number;
}

/** What an IOMMU driver offers. @linux struct iommu_ops */
export interface IommuOps {
  readonly name: string;
  /** Whether this IOMMU translates for the device; sets up what it keeps per device. ENODEV: it does not. */
  probeDevice(dev: Device): Errno;
  releaseDevice?(dev: Device): void;
  /** The group the device belongs to: an existing one, or a new one. */
  deviceGroup(dev: Device): IommuGroup;
  /** A domain with page tables, usable for `dev`; null without memory. */
  domainAllocPaging(dev: Device, type: 'dma' | 'dma-fq' | 'unmanaged'): IommuDomain | null;
  /** Null: the hardware cannot pass accesses through untranslated. */
  readonly identityDomain: IommuDomain | null;
  /** Demand a kind of domain for the device, or null to leave the choice. */
  defDomainType?(dev: Device): 'identity' | 'dma' | null;
  getResvRegions(dev: Device): ResvRegion[];
}

/** Devices that the IOMMU cannot tell apart; they share a domain. @linux struct iommu_group */
export class IommuGroup {
  readonly id: number;
  readonly devices: Device[] = [];
  /** The domain it started with, and returns to. */
  defaultDomain: IommuDomain | null = null;
  /** The domain its devices are attached to now. */
  domain: IommuDomain | null = null;
  constructor(id: number) {
    this.id = id;
  }
}

class IommuCore {
  readonly ops: IommuOps[] = [];
  defaultType: DomainType;
  /** Whether passthrough or translation, and strict or lazy, were asked for at boot. */
  readonly typeFromCmdline: boolean;
  readonly strictFromCmdline: boolean;
  nextGroup = 0;
  /** Devices that come and go are heard of. */
  listens = false;

  constructor(kernel: Kernel) {
    const { cmdline } = kernel;
    const intel = cmdline.get('intel_iommu')?.split(',') ?? [];
    const x86 = cmdline.get('iommu')?.split(',') ?? [];
    const asked = flag(cmdline.get('iommu.passthrough'));
    const passthrough = asked ?? (x86.includes('nopt') ? false : x86.includes('pt') ? true : null);
    // Debian's kernels defer invalidation unless told otherwise.
    const strictAsked = flag(cmdline.get('iommu.strict'));
    const strict = strictAsked ?? intel.includes('strict');
    this.typeFromCmdline = passthrough !== null;
    this.strictFromCmdline = strictAsked !== null;
    this.defaultType = passthrough === true ? 'identity' : strict ? 'dma' : 'dma-fq';
  }
}
const KEY = {};
function core(kernel: Kernel): IommuCore {
  return kernel.subsystem(KEY, () => new IommuCore(kernel));
}
/**
 * The kind of domain that groups start with unless something demands another: what `iommu.passthrough`, `iommu.strict`
 * and their older forms ask for. @linux boot:iommu.strict, boot:iommu.passthrough, iommu_get_default_domain_type
 */
export function iommuDefaultDomainType(kernel: Kernel): DomainType {
  return core(kernel).defaultType;
}
/** A boolean boot argument: 1, y, on … or 0, n, off …; null when absent or neither. @linux kstrtobool */
export function flag(text: string | undefined): boolean | null {
  if (text === undefined) return null;
  if (/^(?:1|[yt]|on)/i.test(text)) return true;
  if (/^(?:0|[nf]|of)/i.test(text)) return false;
  return null;
}

/**
 * Announce an IOMMU. From now on devices that are probed are asked about; those that were are asked now.
 * @linux iommu_device_register
 */
export function iommuDeviceRegister(kernel: Kernel, ops: IommuOps): Errno {
  const state = core(kernel);
  if (state.ops.includes(ops)) return EBUSY;
  state.ops.push(ops);
  if (state.ops.length === 1) printPolicy(kernel, state);
  for (const dev of kernel.devices) if (dev.dmaIommu === null) iommuProbeDevice(dev);
  if (!state.listens) {
    state.listens = true;
    kernel.addHooks.push((dev) => void iommuProbeDevice(dev));
    kernel.removeHooks.push(iommuReleaseDevice);
  }
  return OK;
}
/** In the kernel: iommu_subsys_init. */
function printPolicy(kernel: Kernel, state: IommuCore): void {
  const source = (fromCmdline: boolean) => (fromCmdline ? ' (set via kernel command line)' : '');
  const translated = state.defaultType !== 'identity';
  const word = translated ? 'Translated' : 'Passthrough';
  prInfo(kernel, `iommu: Default domain type: ${word}${source(state.typeFromCmdline)}`);
  if (!translated) return;
  const mode = state.defaultType === 'dma' ? 'strict' : 'lazy';
  prInfo(kernel, `iommu: DMA domain TLB invalidation policy: ${mode} mode${source(state.strictFromCmdline)}`);
}
/** For drivers whose hardware makes deferred invalidation pointless or wrong: no domain defers. @linux iommu_set_dma_strict */
export function iommuSetDmaStrict(kernel: Kernel): void {
  const state = core(kernel);
  if (state.defaultType === 'dma-fq') state.defaultType = 'dma';
}
/** Forget an IOMMU; its devices must be gone. @linux iommu_device_unregister */
export function iommuDeviceUnregister(kernel: Kernel, ops: IommuOps): void {
  const { ops: known } = core(kernel);
  const index = known.indexOf(ops);
  if (index >= 0) known.splice(index, 1);
}

/** For drivers: a group of its own. @linux generic_device_group, iommu_group_alloc */
export function iommuGroupAlloc(kernel: Kernel): IommuGroup {
  return new IommuGroup(core(kernel).nextGroup++);
}
/** The group of a device, or null when it is behind no IOMMU. @linux iommu_group_get */
export function iommuGroupGet(dev: Device): IommuGroup | null {
  return dev.iommuGroup as IommuGroup | null;
}

/**
 * Put a device behind the IOMMU that serves it, if any, in the domain that the boot arguments ask for. Called by buses
 * before probe. ENODEV: no IOMMU serves it, and it reaches memory directly. @linux iommu_probe_device
 */
export function iommuProbeDevice(dev: Device): Errno {
  if (dev.dmaIommu !== null) return OK;
  for (const ops of core(dev.kernel).ops) {
    const error = ops.probeDevice(dev);
    if (error === ENODEV) continue;
    if (error !== OK) return error;
    return joinGroup(dev, ops);
  }
  return ENODEV;
}

function joinGroup(dev: Device, ops: IommuOps): Errno {
  const group = ops.deviceGroup(dev);
  dev.iommuGroup = group;
  dev.dmaIommu = new DevIommu(ops, dev);
  group.devices.push(dev);
  devInfo(dev, `Adding to iommu group ${group.id}`);
  if (group.defaultDomain === null) {
    const domain = defaultDomain(dev, ops);
    if (domain === null) {
      iommuReleaseDevice(dev);
      return ENOMEM;
    }
    group.defaultDomain = domain;
    group.domain = domain;
  }
  const error = attach(dev, group.domain!);
  if (error !== OK) iommuReleaseDevice(dev);
  return error;
}

function defaultDomain(dev: Device, ops: IommuOps): IommuDomain | null {
  let type = core(dev.kernel).defaultType;
  const demanded = ops.defDomainType?.(dev) ?? null;
  if (demanded !== null && !(demanded === 'dma' && type === 'dma-fq')) type = demanded;
  // Deferred invalidation would leave an untrusted device windows into freed memory.
  if (dev.untrusted) type = 'dma';
  if (type === 'identity') {
    if (ops.identityDomain !== null) return ops.identityDomain;
    type = 'dma';
  }
  const domain = ops.domainAllocPaging(dev, type as 'dma' | 'dma-fq');
  if (domain !== null) setupDmaDomain(domain, dev, ops.getResvRegions(dev));
  return domain;
}

/** Let the DMA API map through the domain, or past the IOMMU. Returns whether it maps. @linux iommu_setup_dma_ops */
export function iommuSetupDmaOps(dev: Device, domain: IommuDomain): boolean {
  const isDma = domain.type === 'dma' || domain.type === 'dma-fq';
  setDmaOps(dev, isDma ? iommuDmaOps : null);
  return isDma;
}

function attach(dev: Device, domain: IommuDomain): Errno {
  const error = domain.attachDev(dev);
  if (error !== OK) return error;
  devIommu(dev)!.domain = domain;
  const isDma = iommuSetupDmaOps(dev, domain);
  iommuObserver(dev.kernel)?.attach?.(domain, dev);
  return isDma ? mapDirectRegions(dev, domain) : OK;
}

/** Keep firmware's regions mapped one to one across the change of domain. (iommu_create_device_direct_mappings) */
function mapDirectRegions(dev: Device, domain: IommuDomain): Errno {
  for (const region of devIommu(dev)!.ops.getResvRegions(dev)) {
    if (region.type !== 'direct' && region.type !== 'direct-relaxable') continue;
    const prot = region.prot === 0 ? IOMMU_READ | IOMMU_WRITE : region.prot;
    for (let offset = 0; offset < region.sizeBytes; offset += domain.pageSizes[0]!) {
      const iova = region.start + offset;
      if (domain.iovaToPhys(iova) >= 0) continue;
      const error = iommuMap(domain, iova, iova, domain.pageSizes[0]!, prot, GFP_KERNEL);
      if (error !== OK) return error;
    }
  }
  return OK;
}

/** Take a device out of its group; it is gone. @linux iommu_release_device */
export function iommuReleaseDevice(dev: Device): void {
  const own = devIommu(dev);
  const group = iommuGroupGet(dev);
  if (own === null || group === null) return;
  own.domain?.detachDev(dev);
  setDmaOps(dev, null);
  own.ops.releaseDevice?.(dev);
  group.devices.splice(group.devices.indexOf(dev), 1);
  dev.dmaIommu = null;
  dev.iommuGroup = null;
  if (group.devices.length === 0) freeDefaultDomain(group);
}
/** The last device of a group is gone, and with it what the DMA API had mapped. (iommu_group_release) */
function freeDefaultDomain(group: IommuGroup): void {
  const domain = group.defaultDomain;
  group.defaultDomain = null;
  group.domain = null;
  if (domain === null || domain.type === 'identity') return;
  dmaCookie(domain).destroy();
  domain.free();
}

/** The domain a device is attached to, or null. @linux iommu_get_domain_for_dev */
export function iommuGetDomainForDev(dev: Device): IommuDomain | null {
  return iommuDomainOf(dev);
}
/** A domain of one's own, to be mapped by hand; null: no IOMMU, or no memory. @linux iommu_paging_domain_alloc, iommu_domain_alloc */
export function iommuDomainAlloc(dev: Device): IommuDomain | null {
  return devIommu(dev)?.ops.domainAllocPaging(dev, 'unmanaged') ?? null;
}
/** Give back a domain that no device is attached to. @linux iommu_domain_free */
export function iommuDomainFree(domain: IommuDomain): void {
  domain.free();
}
/**
 * Attach the group of a device to a domain of one's own; the DMA API no longer maps for it. ENODEV without IOMMU, EBUSY
 * when the group is not in its default domain. @linux iommu_attach_device, iommu_attach_group
 */
export function iommuAttachDevice(domain: IommuDomain, dev: Device): Errno {
  const group = iommuGroupGet(dev);
  if (group === null) return ENODEV;
  if (group.domain !== group.defaultDomain) return EBUSY;
  return moveGroup(group, domain);
}
/** Back to the default domain. @linux iommu_detach_device, iommu_detach_group */
export function iommuDetachDevice(domain: IommuDomain, dev: Device): Errno {
  const group = iommuGroupGet(dev);
  if (group === null || group.domain !== domain) return EINVAL;
  return moveGroup(group, group.defaultDomain!);
}
function moveGroup(group: IommuGroup, domain: IommuDomain): Errno {
  for (const dev of group.devices) {
    devIommu(dev)!.domain?.detachDev(dev);
    const error = attach(dev, domain);
    if (error !== OK) return error;
  }
  group.domain = domain;
  return OK;
}
/** The ranges of bus addresses that have a meaning of their own for a device; none without IOMMU. @linux iommu_get_resv_regions */
export function iommuGetResvRegions(dev: Device): ResvRegion[] {
  return devIommu(dev)?.ops.getResvRegions(dev) ?? [];
}
/** The reserved ranges of a group's devices, ascending, each once. @linux iommu_get_group_resv_regions */
export function iommuGetGroupResvRegions(group: IommuGroup): ResvRegion[] {
  const all = group.devices.flatMap((dev) => devIommu(dev)!.ops.getResvRegions(dev));
  all.sort((a, b) => a.start - b.start);
  return all.filter(
    (region, i) => i === 0 || region.start !== all[i - 1]!.start || region.sizeBytes !== all[i - 1]!.sizeBytes,
  );
}
