import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DMA_MAPPING_ERROR, dmaAddr, dmaBitMask, PAGE_SIZE, physAddr } from '../base/addr.ts';
import { EIO, ENOMEM, OK } from '../base/errno.ts';
import { DMA_BIDIRECTIONAL, DMA_FROM_DEVICE, DMA_NONE, DMA_TO_DEVICE } from '../kernel/dma-direction.ts';
import { deviceAdd, GFP_KERNEL } from '../kernel/index.ts';
import { getFreePage, virtToPage } from '../kernel/page-alloc.ts';
import { directRig } from './direct-rig.cases.ts';
import * as old from './historical.ts';
import { setDmaOps } from './ops.ts';
import { sgAlloc, sgSetBuf } from './scatterlist.ts';

function letters(rig: ReturnType<typeof directRig>) {
  const mem = getFreePage(rig.kernel, GFP_KERNEL)!;
  mem.bytes.fill(0x41);
  return mem;
}

test('PCI directions are the DMA directions', () => {
  assert.deepEqual(
    [old.PCI_DMA_BIDIRECTIONAL, old.PCI_DMA_TODEVICE, old.PCI_DMA_FROMDEVICE, old.PCI_DMA_NONE],
    [DMA_BIDIRECTIONAL, DMA_TO_DEVICE, DMA_FROM_DEVICE, DMA_NONE],
  );
});

test('the pci_ calls map, sync and unmap', () => {
  const rig = directRig({ coherent: false });
  const { kernel, dev } = rig;
  const mem = letters(rig);
  const dir = old.PCI_DMA_BIDIRECTIONAL;
  const addr = old.pciMapSingle(dev, mem, dir);
  assert.equal(old.pciDmaMappingError(dev, addr), OK);
  assert.equal(old.pciDmaMappingError(dev, DMA_MAPPING_ERROR), ENOMEM);
  rig.deviceWrite(addr, new Uint8Array(64).fill(0x42));
  old.pciDmaSyncSingleForCpu(dev, addr, 64, dir);
  assert.equal(mem.bytes[0], 0x42);
  mem.bytes[0] = 0x43;
  old.pciDmaSyncSingleForDevice(dev, addr, 64, dir);
  assert.equal(rig.deviceRead(addr, 1)?.[0], 0x43);
  rig.deviceWrite(addr, new Uint8Array(64).fill(0x44));
  old.dmaSyncSingle(dev, addr, 64, dir);
  assert.equal(mem.bytes[0], 0x44);
  rig.deviceWrite(addr, new Uint8Array(64).fill(0x45));
  old.pciUnmapSingle(dev, addr, 4096, dir);
  assert.equal(mem.bytes[0], 0x45);

  const page = old.pciMapPage(dev, virtToPage(mem), 0, 4096, dir);
  rig.deviceWrite(page, new Uint8Array(64).fill(0x46));
  old.pciUnmapPage(dev, page, 4096, dir);
  assert.equal(mem.bytes[0], 0x46);

  const sg = sgAlloc(1);
  sgSetBuf(sg, mem);
  assert.equal(old.pciMapSg(dev, sg, 1, dir), 1);
  rig.deviceWrite(sg.dmaAddress, new Uint8Array(64).fill(0x47));
  old.pciDmaSyncSgForCpu(dev, sg, 1, dir);
  assert.equal(mem.bytes[0], 0x47);
  mem.bytes[0] = 0x48;
  old.pciDmaSyncSgForDevice(dev, sg, 1, dir);
  assert.equal(rig.deviceRead(sg.dmaAddress, 1)?.[0], 0x48);
  rig.deviceWrite(sg.dmaAddress, new Uint8Array(64).fill(0x49));
  old.dmaSyncSg(dev, sg, 1, dir);
  assert.equal(mem.bytes[0], 0x49);
  rig.deviceWrite(sg.dmaAddress, new Uint8Array(64).fill(0x4a));
  old.pciUnmapSg(dev, sg, 1, dir);
  assert.equal(mem.bytes[0], 0x4a);

  const consistent = old.pciAllocConsistent(dev, 4096)!;
  rig.deviceWrite(consistent.handle, new Uint8Array(1).fill(5));
  assert.equal(consistent.mem.bytes[0], 5);
  old.pciFreeConsistent(dev, 4096, consistent.mem, consistent.handle);
  assert.equal(consistent.mem.freed, true);
  assert.equal(kernel.splats.length, 0);
});

test('masks by their old names', () => {
  const { dev } = directRig({ ram: [{ base: 0, sizeBytes: 32 * 2 ** 20 }] });
  assert.equal(old.pciSetDmaMask(dev, dmaBitMask(24)), OK);
  assert.equal(old.pciSetConsistentDmaMask(dev, dmaBitMask(28)), OK);
  assert.equal(dev.dmaMask, dmaBitMask(24));
  assert.equal(dev.coherentDmaMask, dmaBitMask(28));
  assert.equal(old.pciSetDmaMask(dev, dmaBitMask(10)), EIO);
});

test('double address cycles use physical addresses, where the bus does', () => {
  const rig = directRig({ coherent: false });
  const { dev } = rig;
  const mem = letters(rig);
  assert.equal(old.pciDacSetDmaMask(dev, dmaBitMask(64)), OK);
  assert.equal(dev.dmaMask, dmaBitMask(64));
  const addr = old.pciDacPageToDma(dev, virtToPage(mem), 16, DMA_BIDIRECTIONAL);
  assert.equal(addr, mem.phys + 16);
  assert.equal(old.pciDacDmaToPage(dev, addr), virtToPage(mem));
  assert.equal(old.pciDacDmaToOffset(dev, addr), 16);
  rig.deviceWrite(addr, new Uint8Array(32).fill(0x42));
  assert.equal(mem.bytes[16], 0x41);
  old.pciDacDmaSyncSingleForCpu(dev, addr, 32, DMA_BIDIRECTIONAL);
  assert.equal(mem.bytes[16], 0x42);
  mem.bytes[16] = 0x43;
  old.pciDacDmaSyncSingleForDevice(dev, addr, 32, DMA_BIDIRECTIONAL);
  assert.equal(rig.deviceRead(addr, 1)?.[0], 0x43);
  assert.equal(old.pciDacSetDmaMask(dev, dmaBitMask(12)), EIO, 'it must reach all memory');
  setDmaOps(dev, {});
  assert.equal(old.pciDacSetDmaMask(dev, dmaBitMask(64)), EIO);
  setDmaOps(dev, null);
  dev.dmaRangeMap = [{ cpuStart: physAddr(0), dmaStart: dmaAddr(PAGE_SIZE), sizeBytes: 2 ** 20 }];
  assert.equal(old.pciDacDmaSupported(dev, dmaBitMask(64)), false);
});

test('virt_to_bus and bus_to_virt are right on a plain machine, and reported', () => {
  const rig = directRig();
  const mem = letters(rig);
  const bus = old.virtToBus(rig.kernel, mem);
  assert.equal(bus, mem.phys);
  assert.equal(old.busToVirt(rig.kernel, bus, 8).bytes[7], 0x41);
  old.virtToBus(rig.kernel, mem);
  const messages = rig.kernel.splats.map(({ message }) => message);
  assert.equal(messages.length, 2);
  assert.match(messages[0]!, /virt_to_bus is deprecated/);
  assert.match(messages[1]!, /bus_to_virt is deprecated/);
});

test('virt_to_bus tells where it is wrong', async () => {
  const rig = directRig({
    dmaRangeMap: [{ cpuStart: physAddr(0), dmaStart: dmaAddr(0x8000_0000), sizeBytes: 2 ** 20 }],
  });
  await rig.kernel.run(async () => {
    await deviceAdd(rig.dev);
    old.virtToBus(rig.kernel, letters(rig));
    assert.match(rig.kernel.splats[1]!.message, /wrong address on this machine: tester sees memory at other addresses/);
    setDmaOps(rig.dev, {});
    old.busToVirt(rig.kernel, dmaAddr(0x1000), 4);
    assert.match(rig.kernel.splats[3]!.message, /tester is behind an IOMMU/);
  });
});
