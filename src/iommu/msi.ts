/**
 * Interrupt messages of devices whose IOMMU translates them like any write: the page of the register that takes them is
 * mapped for the device, and the device is told that address.
 */
import { alignDown, offsetIn, PAGE_SIZE, type PhysAddr } from '../base/addr.ts';
import { EBUSY, EINVAL, ENOMEM, type Errno, OK } from '../base/errno.ts';
import type { Device } from '../kernel/device.ts';
import { GFP_KERNEL } from '../kernel/gfp.ts';
import { iommuDomainOf } from './dev-iommu.ts';
import { dmaCookie } from './dma-cookie.ts';
import { IOMMU_MMIO, IOMMU_NOEXEC, IOMMU_WRITE, type IommuDomain, iommuMap } from './domain.ts';

/** A page of doorbells that is mapped. */
interface MsiPage {
  readonly phys: number;
  readonly iova: number;
}
/** What a domain has mapped for messages. */
class MsiPages {
  readonly pages: MsiPage[] = [];
  /** Where the next page of a domain of one's own goes; -1: the DMA API gives it an address. */
  next: number;
  constructor(next: number) {
    this.next = next;
  }
}
const pagesOf = new WeakMap<IommuDomain, MsiPages>();

/**
 * Have messages of devices in a domain of one's own mapped from `base` on, a page each. EINVAL for any other domain, EBUSY
 * when it was said before. @linux iommu_get_msi_cookie
 */
export function iommuGetMsiCookie(domain: IommuDomain, base: number): Errno {
  if (domain.type !== 'unmanaged') return EINVAL;
  if (pagesOf.has(domain)) return EBUSY;
  pagesOf.set(domain, new MsiPages(base));
  return OK;
}

/**
 * The bus address under which a device reaches the doorbell at `doorbell`; it is mapped if need be, and stays so as long
 * as the domain. The doorbell's own address where nothing translates. ENOMEM: no address, or no memory for tables. May
 * sleep. @linux iommu_dma_prepare_msi, iommu_dma_compose_msi_msg
 */
export function iommuDmaPrepareMsi(dev: Device, doorbell: PhysAddr): number {
  const domain = iommuDomainOf(dev);
  if (domain === null || domain.type === 'identity' || domain.type === 'blocked') return doorbell;
  const isDma = domain.type === 'dma' || domain.type === 'dma-fq';
  let state = pagesOf.get(domain);
  if (state === undefined) {
    if (!isDma) return doorbell;
    state = new MsiPages(-1);
    pagesOf.set(domain, state);
  }
  const granule = isDma ? dmaCookie(domain).granule : PAGE_SIZE;
  const phys = alignDown<number>(doorbell, granule);
  const known = state.pages.find((page) => page.phys === phys);
  const iova = known?.iova ?? mapPage(dev, domain, state, phys, granule);
  return iova < 0 ? iova : iova + offsetIn(doorbell, granule);
}

function mapPage(dev: Device, domain: IommuDomain, state: MsiPages, phys: number, granule: number): number {
  const managed = state.next < 0;
  const iova = managed ? dmaCookie(domain).alloc(dev, granule, dev.dmaMaskLimit) : state.next;
  if (iova === 0) return ENOMEM;
  const error = iommuMap(domain, iova, phys, granule, IOMMU_WRITE | IOMMU_NOEXEC | IOMMU_MMIO, GFP_KERNEL);
  if (error !== OK) {
    if (managed) dmaCookie(domain).free(iova, granule, false);
    return error;
  }
  if (!managed) state.next += granule;
  state.pages.push({ phys, iova });
  return iova;
}
