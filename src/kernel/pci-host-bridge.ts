/** What a PCI host bridge decodes: the windows through which the CPU reaches the bus, which devices cannot use for memory. */
import { Device } from './device.ts';

/** A window of a host bridge, in CPU addresses. @linux struct resource_entry */
export interface BridgeWindow {
  readonly start: number;
  /** The last address. */
  readonly end: number;
  /** CPU address minus bus address. */
  readonly offset: number;
  readonly type: 'mem' | 'io' | 'bus';
}

/** @linux struct pci_host_bridge */
export class PciHostBridge extends Device {
  windows: BridgeWindow[] = [];
}

/** Whether a device sits on a PCI bus. @linux dev_is_pci */
export function devIsPci(dev: Device): boolean {
  return dev.bus !== null && dev.bus.name === 'pci';
}
/** The host bridge above a device, or null. @linux pci_find_host_bridge */
export function pciHostBridgeOf(dev: Device): PciHostBridge | null {
  for (let at: Device | null = dev; at !== null; at = at.parent) if (at instanceof PciHostBridge) return at;
  return null;
}
