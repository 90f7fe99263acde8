/** The PCI bus: how its devices find their drivers. */
import { OK } from '../base/errno.ts';
import { type BusType, type Device, type DeviceDriver, driverRegister } from './device.ts';
import { driverUnregister } from './driver-core.ts';
import type { Kernel } from './kernel.ts';
import { PciDev } from './pci-dev.ts';
import { pciHostBridgeOf } from './pci-host-bridge.ts';

/** Any vendor, device or subsystem. @linux PCI_ANY_ID */
export const PCI_ANY_ID = 0xffff_ffff;

/** Which functions a driver is for; what is absent is any. @linux struct pci_device_id */
export interface PciDeviceId {
  readonly vendor?: number;
  readonly device?: number;
  readonly subvendor?: number;
  readonly subdevice?: number;
  /** Class code of 24 bits, compared where `classMask` (default: all ones) has ones. */
  readonly class?: number;
  readonly classMask?: number;
  /** The driver's own. */
  readonly driverData?: unknown;
}

/** A driver of PCI functions. @linux struct pci_driver */
export interface PciDriver extends DeviceDriver {
  readonly bus: BusType;
  /** @linux pci_driver.id_table */
  readonly idTable: readonly PciDeviceId[];
  probe(dev: PciDev): ReturnType<DeviceDriver['probe']>;
  remove?(dev: PciDev): Promise<void> | void;
}

/** The entry of a table that is for this function, or null. @linux pci_match_id */
export function pciMatchId(ids: readonly PciDeviceId[], dev: PciDev): PciDeviceId | null {
  return ids.find((id) => matchesOne(id, dev)) ?? null;
}
function matchesOne(id: PciDeviceId, dev: PciDev): boolean {
  const is = (wanted: number | undefined, found: number) =>
    wanted === undefined || wanted === PCI_ANY_ID || wanted === found;
  const mask = id.classMask ?? 0xff_ffff;
  return (
    is(id.vendor, dev.vendor) &&
    is(id.device, dev.device) &&
    is(id.subvendor, dev.subsystemVendor) &&
    is(id.subdevice, dev.subsystemDevice) &&
    (id.class === undefined || ((id.class ^ dev.class) & mask) === 0)
  );
}

/** @linux pci_bus_type */
export const pciBus: BusType = {
  name: 'pci',
  match(dev: Device, driver: DeviceDriver): boolean {
    const { idTable } = driver as Partial<PciDriver>;
    return dev instanceof PciDev && idTable !== undefined && pciMatchId(idTable, dev) !== null;
  },
  dmaConfigure(dev: Device) {
    return (dev instanceof PciDev ? pciHostBridgeOf(dev)?.dmaConfigure?.(dev) : null) ?? OK;
  },
};

/** Register a driver and bind it to every function in its table. As `driverRegister`. @linux pci_register_driver, module_pci_driver */
export function pciRegisterDriver(kernel: Kernel, driver: PciDriver): ReturnType<typeof driverRegister> {
  return driverRegister(kernel, driver);
}
/** @linux pci_unregister_driver */
export function pciUnregisterDriver(kernel: Kernel, driver: PciDriver): Promise<void> {
  return driverUnregister(kernel, driver);
}
