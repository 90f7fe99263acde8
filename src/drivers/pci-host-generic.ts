/** Driver of PCI host bridges that need none: those of the device tree whose configuration space just is there. */
import { ENODEV, type Errno, OK } from '../base/errno.ts';
import {
  type BridgeWindow,
  type Device,
  type DeviceDriver,
  devGetDrvdata,
  devInfo,
  deviceDel,
  devSetDrvdata,
  type OfNode,
  ofAddressCells,
  ofDmaConfigure,
  ofIrqMapPci,
  ofPropertyReadU32,
  ofPropertyReadU32Array,
  type PciHostBridge,
  pciDevices,
  pciHostProbe,
  platformBus,
  platformGetResource,
} from '../kernel/index.ts';

/** An entry of `ranges` begins with three cells of PCI address and ends with two of size. */
const PCI_CELLS = 3;
const SIZE_CELLS = 2;
/** In the first cell: which space. */
const SPACE_SHIFT = 24;
const SPACE_NAMES: Readonly<Record<number, BridgeWindow['type']>> = { 1: 'io', 2: 'mem', 3: 'mem' };

function numberOf(cells: readonly number[]): number {
  return cells.reduce((value, cell) => value * 2 ** 32 + cell, 0);
}

/** What the bridge passes on to its bus. */
function windowsOf(dev: Device, node: OfNode): BridgeWindow[] {
  const windows: BridgeWindow[] = [];
  const cells = ofPropertyReadU32Array(node, 'ranges') ?? [];
  const cpuCells = ofAddressCells(node);
  const entryCells = PCI_CELLS + cpuCells + SIZE_CELLS;
  const hex = (n: number) => `0x${n.toString(16).padStart(10, '0')}`;
  devInfo(dev, `host bridge ${node.path} ranges:`);
  for (let at = 0; at + entryCells <= cells.length; at += entryCells) {
    const type = SPACE_NAMES[(cells[at]! >>> SPACE_SHIFT) & 3];
    if (type === undefined) continue;
    const bus = numberOf(cells.slice(at + 1, at + PCI_CELLS));
    const cpu = numberOf(cells.slice(at + PCI_CELLS, at + PCI_CELLS + cpuCells));
    const size = numberOf(cells.slice(at + PCI_CELLS + cpuCells, at + entryCells));
    const label = (type === 'io' ? 'IO' : 'MEM').padStart(8);
    devInfo(dev, `${label} ${hex(cpu)}..${hex(cpu + size - 1)} -> ${hex(bus)}`);
    windows.push({ start: cpu, end: cpu + size - 1, offset: cpu - bus, type });
  }
  return windows;
}

async function probe(dev: Device): Promise<Errno> {
  const node = dev.ofNode;
  const config = platformGetResource(dev, 0);
  if (node === null || config === null) return ENODEV;
  const windows = windowsOf(dev, node);
  const [firstBus = 0, lastBus = 255] = ofPropertyReadU32Array(node, 'bus-range') ?? [];
  const hex = (n: number) => n.toString(16);
  const buses = [firstBus, lastBus].map((bus) => hex(bus).padStart(2, '0')).join('-');
  const end = config.start + config.sizeBytes - 1;
  devInfo(dev, `ECAM at [mem 0x${hex(config.start)}-0x${hex(end)}] for [bus ${buses}]`);
  const bridge = await pciHostProbe(dev.kernel, {
    domain: ofPropertyReadU32(node, 'linux,pci-domain') ?? 0,
    firstBus,
    lastBus,
    windows,
    mapIrq: (slot, pin) => ofIrqMapPci(dev.kernel, node, slot, pin),
    dmaConfigure: (pdev) => ofDmaConfigure(pdev, node),
    parent: dev,
  });
  devSetDrvdata(dev, bridge);
  return OK;
}
async function remove(dev: Device): Promise<void> {
  const bridge = devGetDrvdata<PciHostBridge>(dev);
  const below = pciDevices(dev.kernel).filter((pdev) => pdev.pciBus.bridge === bridge);
  for (const pdev of below.reverse()) await deviceDel(pdev);
  await deviceDel(bridge);
}

/** The driver. */
export const pciHostGenericDriver: DeviceDriver = {
  name: 'pci-host-generic',
  bus: platformBus,
  compatible: ['pci-host-ecam-generic'],
  probe,
  remove,
};
