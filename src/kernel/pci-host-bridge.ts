/** What a PCI host bridge decodes: the windows through which the CPU reaches the bus, which devices cannot use for memory. */
import type { Errno } from '../base/errno.ts';
import { Device } from './device.ts';
import type { PciBus, PciDev } from './pci-dev.ts';

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
  /** The segment: the first four digits of the names of what is below. */
  domain = 0;
  /** Its bus, once it was scanned. */
  root: PciBus | null = null;
  /**
   * The line to which pin `pin` (1 to 4) of the root bus's slot is wired; -1: to none. Null: firmware says it, in each
   * function's interrupt line register. @linux pci_host_bridge.map_irq
   */
  mapIrq: ((slot: number, pin: number) => number) | null = null;
  /** Sets up DMA addressing of a function below, before its driver's probe; an error fails that. */
  dmaConfigure: ((dev: PciDev) => Errno) | null = null;
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
