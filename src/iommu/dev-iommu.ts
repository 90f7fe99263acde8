/** What the IOMMU layer keeps of a device, at `dev.dmaIommu`. */
import type { Device } from '../kernel/device.ts';
import type { IommuDomain } from './domain.ts';
import type { IommuOps } from './iommu.ts';

/** @linux struct dev_iommu */
export class DevIommu {
  readonly ops: IommuOps;
  readonly dev: Device;
  domain: IommuDomain | null = null;
  /** Addresses below 4 GiB are tried first, until that fails once. @linux dev_iommu.pci_32bit_workaround */
  pci32BitWorkaround: boolean;

  constructor(ops: IommuOps, dev: Device) {
    this.ops = ops;
    this.dev = dev;
    const { cmdline } = dev.kernel;
    const forcedac =
      /^(?:1|[yt]|on)/i.test(cmdline.get('iommu.forcedac') ?? '') ||
      (cmdline.get('intel_iommu')?.split(',').includes('forcedac') ?? false);
    this.pci32BitWorkaround = dev.bus?.name === 'pci' && !forcedac;
  }
}
/** Null when the device is behind no IOMMU. */
export function devIommu(dev: Device): DevIommu | null {
  return dev.dmaIommu as DevIommu | null;
}
/** @internal The domain of the device, or null. */
export function iommuDomainOf(dev: Device): IommuDomain | null {
  const own = dev.dmaIommu as DevIommu | null;
  return own === null ? null : own.domain;
}
