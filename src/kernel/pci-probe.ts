/** Finding the functions below a host bridge: the scan of its buses, and what each function says of itself. */
import type { Errno } from '../base/errno.ts';
import { type Device, devInfo, deviceAdd, devWarn } from './device.ts';
import type { Kernel } from './kernel.ts';
import { pciAssignResources } from './pci-assign.ts';
import { pciReadBases } from './pci-bars.ts';
import { pciBus } from './pci-bus.ts';
import {
  PciBus,
  PciDev,
  pciFindCapability,
  pciReadConfigByte,
  pciReadConfigDword,
  pciReadConfigWord,
  pciWriteConfigByte,
  pciWriteConfigDword,
  pciWriteConfigWord,
} from './pci-dev.ts';
import { type BridgeWindow, PciHostBridge } from './pci-host-bridge.ts';
import {
  PCI_CAP_ID_EXP,
  PCI_CAP_ID_MSI,
  PCI_CLASS_BRIDGE_PCI,
  PCI_CLASS_REVISION,
  PCI_COMMAND,
  PCI_COMMAND_MASTER,
  PCI_HEADER_TYPE,
  PCI_HEADER_TYPE_BRIDGE,
  PCI_HEADER_TYPE_MASK,
  PCI_HEADER_TYPE_MFD,
  PCI_HEADER_TYPE_NORMAL,
  PCI_INTERRUPT_LINE,
  PCI_INTERRUPT_PIN,
  PCI_MSI_FLAGS,
  PCI_MSI_FLAGS_ENABLE,
  PCI_PRIMARY_BUS,
  PCI_SLOT,
  PCI_SUBSYSTEM_ID,
  PCI_SUBSYSTEM_VENDOR_ID,
  PCI_VENDOR_ID,
} from './pci-regs.ts';

/** What firmware or a device tree says of a host bridge. */
export interface PciHostOptions {
  /** The segment, default 0. */
  readonly domain?: number;
  /** Its buses, default 0 to 255. */
  readonly firstBus?: number;
  readonly lastBus?: number;
  readonly windows: readonly BridgeWindow[];
  /** See `PciHostBridge.mapIrq`. */
  readonly mapIrq?: (slot: number, pin: number) => number;
  /** See `PciHostBridge.dmaConfigure`. */
  readonly dmaConfigure?: (dev: PciDev) => Errno;
  /** The last bus address that passes the bridge, for hosts that cannot take all; 0 (default): no limit. */
  readonly busDmaLimit?: number;
  /** Whether what is at (or, for a bridge, below) this bus, device and function comes from outside the machine. */
  readonly externalFacing?: (bdf: number) => boolean;
  readonly parent?: Device;
}

/**
 * Scan the buses below a host bridge, give addresses to what has none, and add a device for each function; drivers that
 * are registered already are bound. May sleep. @linux pci_host_probe, pci_scan_root_bus_bridge
 */
export async function pciHostProbe(kernel: Kernel, options: PciHostOptions): Promise<PciHostBridge> {
  const { domain = 0, firstBus = 0, lastBus = 255 } = options;
  const hex = (n: number, digits: number) => n.toString(16).padStart(digits, '0');
  const name = `pci${hex(domain, 4)}:${hex(firstBus, 2)}`;
  const bridge = new PciHostBridge(kernel, name, { parent: options.parent ?? null });
  bridge.domain = domain;
  bridge.windows = [...options.windows];
  bridge.mapIrq = options.mapIrq ?? null;
  bridge.dmaConfigure = options.dmaConfigure ?? null;
  if (options.parent !== undefined) bridge.ofNode = options.parent.ofNode;
  await deviceAdd(bridge);
  const root = new PciBus(bridge, firstBus, null, null);
  root.subordinate = lastBus;
  bridge.root = root;
  const scan = new Scan(bridge, options);
  scan.bus(root);
  pciAssignResources(bridge);
  for (const dev of scan.found) await deviceAdd(dev);
  return bridge;
}

class Scan {
  readonly found: PciDev[] = [];
  readonly #bridge: PciHostBridge;
  readonly #options: PciHostOptions;

  constructor(bridge: PciHostBridge, options: PciHostOptions) {
    this.#bridge = bridge;
    this.#options = options;
  }

  /** As pci_scan_child_bus does. */
  bus(bus: PciBus): void {
    for (let devfn = 0; devfn < 256; devfn += 8) this.#slot(bus, devfn);
    const bridges = bus.devices.filter((dev) => dev.hdrType === PCI_HEADER_TYPE_BRIDGE);
    // Those that firmware has set up keep their numbers; the others have what is left.
    const rest = bridges.filter((dev) => !this.#configuredBridge(bus, dev));
    for (const dev of rest) this.#newBus(bus, dev);
  }

  /** As pci_scan_slot does. */
  #slot(bus: PciBus, devfn: number): void {
    const first = this.#function(bus, devfn);
    if (first === null || !first.multifunction) return;
    for (let fn = 1; fn < 8; fn++) this.#function(bus, devfn + fn);
  }

  /** As pci_scan_single_device and pci_setup_device do. */
  #function(bus: PciBus, devfn: number): PciDev | null {
    const { machine } = this.#bridge.kernel;
    const id = machine.pciConfigRead((bus.number << 8) | devfn, PCI_VENDOR_ID, 4);
    const [vendor, device] = [id & 0xffff, id >>> 16];
    // Some broken boards give zeros, or half an answer, where nothing is.
    if (vendor === 0xffff || vendor === 0) return null;
    const dev = new PciDev(bus, devfn, pciBus, bus.self ?? this.#bridge);
    [dev.vendor, dev.device] = [vendor, device];
    const header = pciReadConfigByte(dev, PCI_HEADER_TYPE);
    dev.hdrType = header & PCI_HEADER_TYPE_MASK;
    dev.multifunction = (header & PCI_HEADER_TYPE_MFD) !== 0;
    const classRevision = pciReadConfigDword(dev, PCI_CLASS_REVISION);
    dev.class = classRevision >>> 8;
    dev.revision = classRevision & 0xff;
    if (!this.#setup(dev)) return null;
    bus.devices.push(dev);
    this.found.push(dev);
    return dev;
  }

  /** False for a function that cannot be used. */
  #setup(dev: PciDev): boolean {
    const ids = [dev.vendor, dev.device].map((id) => id.toString(16).padStart(4, '0')).join(':');
    const type = dev.hdrType.toString(16).padStart(2, '0');
    const kind = pciFindCapability(dev, PCI_CAP_ID_EXP) === 0 ? 'conventional PCI' : 'PCIe';
    const isBridge = dev.hdrType === PCI_HEADER_TYPE_BRIDGE;
    const classText = dev.class.toString(16).padStart(6, '0');
    devInfo(dev, `[${ids}] type ${type} class 0x${classText} ${kind} ${isBridge ? 'bridge' : 'endpoint'}`);
    if (dev.hdrType !== PCI_HEADER_TYPE_NORMAL && !isBridge) {
      devWarn(dev, `unknown header type ${type}, ignoring device`);
      return false;
    }
    if (isBridge !== (dev.class >>> 8 === PCI_CLASS_BRIDGE_PCI)) {
      devWarn(dev, `ignoring class 0x${classText} (doesn't match header type ${type})`);
      dev.class = 0;
    }
    if (!isBridge) {
      dev.subsystemVendor = pciReadConfigWord(dev, PCI_SUBSYSTEM_VENDOR_ID);
      dev.subsystemDevice = pciReadConfigWord(dev, PCI_SUBSYSTEM_ID);
    }
    pciReadBases(dev);
    this.#configure(dev);
    return true;
  }

  /** As pci_init_capabilities, pci_assign_irq and set_pcie_untrusted do. */
  #configure(dev: PciDev): void {
    dev.msiCap = pciFindCapability(dev, PCI_CAP_ID_MSI);
    if (dev.msiCap !== 0) {
      // Whatever ran before may have left it on.
      const flags = pciReadConfigWord(dev, dev.msiCap + PCI_MSI_FLAGS);
      if ((flags & PCI_MSI_FLAGS_ENABLE) !== 0) {
        pciWriteConfigWord(dev, dev.msiCap + PCI_MSI_FLAGS, flags & ~PCI_MSI_FLAGS_ENABLE);
      }
    }
    dev.isBusmaster = (pciReadConfigWord(dev, PCI_COMMAND) & PCI_COMMAND_MASTER) !== 0;
    const pin = pciReadConfigByte(dev, PCI_INTERRUPT_PIN);
    dev.pin = pin > 4 ? 1 : pin;
    dev.irq = dev.pin === 0 ? -1 : this.#irqOf(dev);
    dev.busDmaLimit = this.#options.busDmaLimit ?? 0;
    const parent = dev.pciBus.self;
    dev.externalFacing = this.#options.externalFacing?.(dev.bdf) ?? false;
    const isBridge = dev.hdrType === PCI_HEADER_TYPE_BRIDGE;
    dev.untrusted =
      (parent !== null && (parent.untrusted || parent.externalFacing)) || (dev.externalFacing && !isBridge);
  }
  /** Pins of a bridge's secondary bus are wired on to those of its slot, rotated by slot (pci_common_swizzle). */
  #irqOf(dev: PciDev): number {
    const { mapIrq } = this.#bridge;
    if (mapIrq === null) {
      const line = pciReadConfigByte(dev, PCI_INTERRUPT_LINE);
      return line === 0 || line === 0xff ? -1 : line;
    }
    let at = dev;
    let { pin } = dev;
    for (let above = at.pciBus.self; above !== null; at = above, above = at.pciBus.self) {
      pin = ((pin - 1 + PCI_SLOT(at.devfn)) % 4) + 1;
    }
    const irq = mapIrq(PCI_SLOT(at.devfn), pin);
    if (irq >= 0) pciWriteConfigByte(dev, PCI_INTERRUPT_LINE, irq & 0xff);
    return irq;
  }

  /** As pci_scan_bridge does. */
  #configuredBridge(bus: PciBus, dev: PciDev): boolean {
    const buses = pciReadConfigDword(dev, PCI_PRIMARY_BUS);
    const [primary, secondary, subordinate] = [buses & 0xff, (buses >>> 8) & 0xff, (buses >>> 16) & 0xff];
    if (secondary === 0 && subordinate === 0) return false;
    const inside = secondary > bus.number && subordinate >= secondary && subordinate <= bus.subordinate;
    const alone = bus.children.every((other) => other.subordinate < secondary || other.number > subordinate);
    if (primary === bus.number && inside && alone) {
      this.#below(bus, dev, secondary, subordinate);
      return true;
    }
    const range = [secondary, subordinate].map((n) => n.toString(16).padStart(2, '0')).join('-');
    devInfo(dev, `bridge configuration invalid ([bus ${range}]), reconfiguring`);
    return false;
  }
  #newBus(bus: PciBus, dev: PciDev): void {
    const number = lastBusOf(bus) + 1;
    if (number > bus.subordinate) {
      devWarn(dev, 'No bus number available for what is behind it');
      return;
    }
    // Everything up to the last number is passed on while the buses below are being counted.
    pciWriteConfigDword(dev, PCI_PRIMARY_BUS, bus.number | (number << 8) | (bus.subordinate << 16));
    const child = this.#below(bus, dev, number, bus.subordinate);
    child.subordinate = lastBusOf(child);
    pciWriteConfigByte(dev, PCI_PRIMARY_BUS + 2, child.subordinate);
  }
  #below(bus: PciBus, dev: PciDev, number: number, subordinate: number): PciBus {
    const child = new PciBus(this.#bridge, number, dev, bus);
    child.subordinate = subordinate;
    bus.children.push(child);
    dev.subordinate = child;
    this.bus(child);
    return child;
  }
}

/** The highest bus number in use from a bus downwards. */
function lastBusOf(bus: PciBus): number {
  return bus.children.reduce((last, child) => Math.max(last, child.subordinate), bus.number);
}

/** All functions of a kernel, in the order in which they were added. @linux for_each_pci_dev */
export function pciDevices(kernel: Kernel): PciDev[] {
  return kernel.devices.filter((dev): dev is PciDev => dev instanceof PciDev);
}
/** The first function with these numbers behind `from` (null: from the beginning), or null. @linux pci_get_device */
export function pciGetDevice(
  kernel: Kernel,
  vendor: number,
  device: number,
  from: PciDev | null = null,
): PciDev | null {
  const all = pciDevices(kernel);
  const start = from === null ? 0 : all.indexOf(from) + 1;
  return all.slice(start).find((dev) => dev.vendor === vendor && dev.device === device) ?? null;
}
/** The function at `0000:00:10.0`, given as segment, bus, device and function numbers; or null. @linux pci_get_domain_bus_and_slot */
export function pciGetDomainBusAndSlot(kernel: Kernel, domain: number, bus: number, devfn: number): PciDev | null {
  const bdf = (bus << 8) | devfn;
  return pciDevices(kernel).find((dev) => dev.bdf === bdf && dev.pciBus.bridge.domain === domain) ?? null;
}
/** Whether the function still answers. @linux pci_device_is_present */
export function pciDeviceIsPresent(dev: PciDev): boolean {
  return pciReadConfigWord(dev, PCI_VENDOR_ID) === dev.vendor;
}
