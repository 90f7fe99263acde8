/** What drivers do with a PCI function: switch it on, claim and map its BARs, let it master the bus. */
import type { PhysAddr } from '../base/addr.ts';
import { EBUSY, EINVAL, type Errno, OK } from '../base/errno.ts';
import { devErr, devInfo, devWarn } from './device.ts';
import { devmAddAction } from './devres.ts';
import { type IoMem, ioremap, iounmap } from './io.ts';
import { splat } from './panic.ts';
import {
  PCI_STD_NUM_BARS,
  type PciDev,
  type PciResource,
  pciReadConfigWord,
  pciResourceText,
  pciWriteConfigWord,
} from './pci-dev.ts';
import { pciFreeIrqVectors } from './pci-msi.ts';
import { PCI_COMMAND, PCI_COMMAND_IO, PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY } from './pci-regs.ts';
import { releaseMemRegion, requestMemRegion } from './resource.ts';

function resourceAt(dev: PciDev, bar: number): PciResource | null {
  return dev.resources[bar] ?? null;
}
/** Physical address (or port) of a BAR; 0 when there is none, or nothing was assigned. @linux pci_resource_start */
export function pciResourceStart(dev: PciDev, bar: number): number {
  return Math.max(resourceAt(dev, bar)?.start ?? 0, 0);
}
/** Bytes of a BAR; 0 when there is none. @linux pci_resource_len */
export function pciResourceLen(dev: PciDev, bar: number): number {
  return resourceAt(dev, bar)?.sizeBytes ?? 0;
}
/** Its last byte; 0 when there is none. @linux pci_resource_end */
export function pciResourceEnd(dev: PciDev, bar: number): number {
  const resource = resourceAt(dev, bar);
  return resource === null || resource.start < 0 ? 0 : resource.start + resource.sizeBytes - 1;
}

/**
 * Make the function answer at its BARs. Nests. EINVAL when a BAR has no address. @linux pci_enable_device
 */
export function pciEnableDevice(dev: PciDev): Errno {
  if (dev.enableCount++ > 0) return OK;
  const command = pciReadConfigWord(dev, PCI_COMMAND);
  let wanted = command;
  for (let bar = 0; bar < PCI_STD_NUM_BARS; bar++) {
    const resource = resourceAt(dev, bar);
    if (resource === null) continue;
    if (resource.start < 0) {
      devErr(dev, `BAR ${bar} ${pciResourceText(resource)}: not assigned; can't enable device`);
      dev.enableCount--;
      return EINVAL;
    }
    wanted |= resource.kind === 'io' ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
  }
  if (wanted !== command) {
    const [before, after] = [command, wanted].map((value) => value.toString(16).padStart(4, '0'));
    devInfo(dev, `enabling device (${before} -> ${after})`);
    pciWriteConfigWord(dev, PCI_COMMAND, wanted);
  }
  return OK;
}
/** Undo one `pciEnableDevice`; with the last, bus mastering ends. @linux pci_disable_device */
export function pciDisableDevice(dev: PciDev): void {
  if (dev.enableCount <= 0) {
    splat(dev.kernel, 'warn', `WARNING: ${dev.name}: disabling already-disabled device`);
    return;
  }
  if (--dev.enableCount > 0) return;
  setMaster(dev, false);
  dev.isBusmaster = false;
}
/** Whether it is enabled. @linux pci_is_enabled */
export function pciIsEnabled(dev: PciDev): boolean {
  return dev.enableCount > 0;
}
/**
 * `pciEnableDevice` until the driver is unbound: then interrupt vectors, BARs and the device itself are given back.
 * @linux pcim_enable_device
 */
export function pcimEnableDevice(dev: PciDev): Errno {
  const error = pciEnableDevice(dev);
  if (error !== OK) return error;
  devmAddAction(dev, () => {
    pciFreeIrqVectors(dev);
    for (let bar = 0; bar < PCI_STD_NUM_BARS; bar++) pciReleaseRegion(dev, bar);
    if (dev.enableCount > 0) pciDisableDevice(dev);
  });
  return OK;
}

function setMaster(dev: PciDev, enable: boolean): void {
  const command = pciReadConfigWord(dev, PCI_COMMAND);
  const wanted = enable ? command | PCI_COMMAND_MASTER : command & ~PCI_COMMAND_MASTER;
  if (wanted !== command) pciWriteConfigWord(dev, PCI_COMMAND, wanted);
}
/** Let it access memory. Without this, its accesses and its messages reach nothing. @linux pci_set_master */
export function pciSetMaster(dev: PciDev): void {
  setMaster(dev, true);
  dev.isBusmaster = true;
}
/** @linux pci_clear_master */
export function pciClearMaster(dev: PciDev): void {
  setMaster(dev, false);
  dev.isBusmaster = false;
}

/** Claim a BAR for a driver; EBUSY when somebody has part of it. One that is not there needs no claim. @linux pci_request_region */
export function pciRequestRegion(dev: PciDev, bar: number, name: string): Errno {
  const resource = resourceAt(dev, bar);
  if (resource === null || resource.start < 0) return OK;
  // Ports are a space of their own, of which nobody keeps books here.
  if (resource.kind === 'mem' && requestMemRegion(dev.kernel, resource.start, resource.sizeBytes, name) !== OK) {
    devWarn(dev, `BAR ${bar}: can't reserve ${pciResourceText(resource)}`);
    return EBUSY;
  }
  dev.requestedRegions |= 1 << bar;
  return OK;
}
/** Give a claimed BAR back; one that was not claimed is ignored. @linux pci_release_region */
export function pciReleaseRegion(dev: PciDev, bar: number): void {
  if ((dev.requestedRegions & (1 << bar)) === 0) return;
  dev.requestedRegions &= ~(1 << bar);
  const resource = resourceAt(dev, bar)!;
  if (resource.kind === 'mem') releaseMemRegion(dev.kernel, resource.start, resource.sizeBytes);
}
/** Claim all BARs, or none. @linux pci_request_regions */
export function pciRequestRegions(dev: PciDev, name: string): Errno {
  for (let bar = 0; bar < PCI_STD_NUM_BARS; bar++) {
    const error = pciRequestRegion(dev, bar, name);
    if (error === OK) continue;
    while (--bar >= 0) pciReleaseRegion(dev, bar);
    return error;
  }
  return OK;
}
/** @linux pci_release_regions */
export function pciReleaseRegions(dev: PciDev): void {
  for (let bar = 0; bar < PCI_STD_NUM_BARS; bar++) pciReleaseRegion(dev, bar);
}

/** Map a memory BAR, at most `maxBytes` of it (0: all). Null when there is none. May sleep. @linux pci_iomap */
export function pciIomap(dev: PciDev, bar: number, maxBytes = 0): IoMem | null {
  const resource = resourceAt(dev, bar);
  if (resource === null || resource.kind !== 'mem' || resource.start < 0) return null;
  const size = maxBytes > 0 ? Math.min(maxBytes, resource.sizeBytes) : resource.sizeBytes;
  return ioremap(dev.kernel, resource.start as PhysAddr, size);
}
/** A whole memory BAR. @linux pci_ioremap_bar */
export function pciIoremapBar(dev: PciDev, bar: number): IoMem | null {
  const resource = resourceAt(dev, bar);
  if (resource !== null && resource.kind === 'mem' && resource.start >= 0) return pciIomap(dev, bar);
  devErr(dev, `can't ioremap BAR ${bar}: ${resource === null ? '[??? 0x0 flags 0x0]' : pciResourceText(resource)}`);
  return null;
}
/** @linux pci_iounmap */
export function pciIounmap(_dev: PciDev, io: IoMem): void {
  iounmap(io);
}
/** Claim and map a BAR until the driver is unbound. EINVAL without one, EBUSY when it is claimed. May sleep. @linux pcim_iomap_region */
export function pcimIomapRegion(dev: PciDev, bar: number, name: string): IoMem | Errno {
  const error = pciRequestRegion(dev, bar, name);
  if (error !== OK) return error;
  const io = pciIomap(dev, bar);
  if (io === null) {
    pciReleaseRegion(dev, bar);
    return EINVAL;
  }
  devmAddAction(dev, () => {
    iounmap(io);
    pciReleaseRegion(dev, bar);
  });
  return io;
}
