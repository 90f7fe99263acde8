/** An IOMMU of software for tests of the layers above its driver: page tables are a map, invalidations are counted. */

import { dmaBitMask, physAddr } from '../base/addr.ts';
import { EEXIST, ENODEV, type Errno, OK } from '../base/errno.ts';
import { type BusType, Device } from '../kernel/device.ts';
import { Kernel } from '../kernel/kernel.ts';
import { type BridgeWindow, PciHostBridge } from '../kernel/pci-host-bridge.ts';
import { SimMachine } from '../machine/index.ts';
import { IommuDomain, type IotlbGather } from './domain.ts';
import { IommuGroup, type IommuOps, iommuDeviceRegister, iommuProbeDevice, type ResvRegion } from './iommu.ts';

const PCI: BusType = { name: 'pci' };

/** Page sizes of 4 KiB, 2 MiB, 1 GiB; 48-bit addresses. */
export class SoftwareDomain extends IommuDomain {
  readonly table = new Map<number, { phys: number; prot: number }>();
  syncs = 0;
  flushes = 0;
  constructor(kernel: Kernel, type: 'dma' | 'dma-fq' | 'unmanaged') {
    super(kernel, type, [4096, 2 ** 21, 2 ** 30], { apertureStart: 0, apertureEnd: 2 ** 48 - 1, forceAperture: true });
  }
  override mapPages(iova: number, phys: number, pgsize: number, count: number, prot: number): number {
    for (let i = 0; i < pgsize * count; i += 4096) {
      if (this.table.has(iova + i)) return EEXIST;
      this.table.set(iova + i, { phys: phys + i, prot });
    }
    return pgsize * count;
  }
  override unmapPages(iova: number, pgsize: number, count: number, gather: IotlbGather): number {
    for (let i = 0; i < pgsize * count; i += 4096) if (!this.table.delete(iova + i)) return i;
    gather.addRange(iova, pgsize * count);
    return pgsize * count;
  }
  override iotlbSync(): void {
    this.syncs++;
  }
  override flushIotlbAll(): void {
    this.flushes++;
  }
  override iovaToPhys(iova: number): number {
    const entry = this.table.get(iova - (iova % 4096));
    return entry === undefined ? -1 : entry.phys + (iova % 4096);
  }
  override attachDev(): Errno {
    return OK;
  }
  override detachDev(): void {}
  override free(): void {}
}

/** The windows of a q35 machine's host bridge, as /proc/iomem shows them. */
export const Q35_WINDOWS: readonly BridgeWindow[] = [
  { start: 0xa_0000, end: 0xb_ffff, offset: 0, type: 'mem' },
  { start: 0x8000_0000, end: 0xafff_ffff, offset: 0, type: 'mem' },
  { start: 0xc000_0000, end: 0xfebf_ffff, offset: 0, type: 'mem' },
  { start: 0x1_0000_0000, end: 0x8_ffff_ffff, offset: 0, type: 'mem' },
  { start: 0xcf8, end: 0xcff, offset: 0, type: 'io' },
];
const MSI_REGION: ResvRegion = { start: 0xfee0_0000, sizeBytes: 0x10_0000, type: 'msi', prot: 0 };

/** A coherent machine with PCI devices behind a software IOMMU. */
export function softwareIommu(cmdline: string): { kernel: Kernel; newDevice(): Device } {
  const machine = new SimMachine({
    name: 'software-iommu',
    coherent: true,
    cacheLineBytes: 64,
    weaklyOrdered: false,
    seed: 1,
    ram: [{ base: physAddr(0), sizeBytes: 512 * 2 ** 20 }],
  });
  const kernel = new Kernel(machine, { cmdline, zoneDmaLimit: 2 ** 24, zoneDma32Limit: 2 ** 32 });
  const bridge = new PciHostBridge(kernel, 'pci0000:00');
  bridge.windows = [...Q35_WINDOWS];
  let groups = 0;
  const ops: IommuOps = {
    name: 'software',
    probeDevice: (dev) => (dev.bus === PCI ? OK : ENODEV),
    deviceGroup: () => new IommuGroup(groups++),
    domainAllocPaging: (_dev, type) => new SoftwareDomain(kernel, type),
    identityDomain: null,
    getResvRegions: () => [MSI_REGION],
  };
  iommuDeviceRegister(kernel, ops);
  let count = 0;
  return {
    kernel,
    newDevice() {
      const dev = new Device(kernel, `0000:00:${(16 + count++).toString(16)}.0`, { bus: PCI, parent: bridge });
      dev.dmaMask = dmaBitMask(32);
      dev.coherentDmaMask = dmaBitMask(32);
      dev.dmaParms = { maxSegmentSize: 65536, segmentBoundaryMask: 0xffff_ffff, minAlignMask: 0 };
      iommuProbeDevice(dev);
      return dev;
    },
  };
}
