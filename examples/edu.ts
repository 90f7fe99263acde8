// A PCI driver, whole: probe, BAR, interrupt, DMA mask, and transfers both ways through QEMU's educational device. It is
// the same on every kind of machine: what address the device is given (physical, bounced, of an IOMMU) is the DMA API's
// business. Try it with --mode 'iommu=off;iommu=strict;iommu=lazy;iommu=pt;noncoherent'. With --mode swiotlb=force it
// fails as it would on a PC: bounce buffers lie where 28 bits do not reach.
import { dmaBitMask, ENOMEM, ENOSPC } from 'dmakit/base';
import {
  Completion,
  complete,
  DMA_FROM_DEVICE,
  DMA_TO_DEVICE,
  devmRequestIrq,
  GFP_DMA,
  GFP_KERNEL,
  type IoMem,
  IRQ_HANDLED,
  IRQ_NONE,
  IRQF_SHARED,
  kfree,
  kmalloc,
  PCI_IRQ_INTX,
  PCI_IRQ_MSI,
  pciAllocIrqVectors,
  pciIrqVector,
  pcimEnableDevice,
  pcimIomapRegion,
  pciSetMaster,
  readl,
  reinitCompletion,
  waitForCompletionTimeout,
  writel,
  writeq,
} from 'dmakit/kernel';
import { dmaMappingError, dmaMapSingle, dmaSetMaskAndCoherent, dmaUnmapSingle } from 'dmakit/mapping';
import { defineDriver } from 'dmakit/tools';

const INTERRUPT_STATUS = 0x24;
const INTERRUPT_ACK = 0x64;
const DMA_SOURCE = 0x80;
const DMA_DESTINATION = 0x88;
const DMA_COUNT = 0x90;
const DMA_COMMAND = 0x98; // 1: start; 2: from the device; 4: interrupt at the end
const BUFFER = 0x40000; // the device's own 4 KiB, as its DMA engine sees them
const SIZE = 4096;

export default defineDriver({
  name: 'edu-example',
  pci: [{ vendor: 0x1234, device: 0x11e8 }],
  async main({ kernel, device, expect, expectBytes }) {
    let error = pcimEnableDevice(device);
    if (error < 0) return error;
    const registers = pcimIomapRegion(device, 0, 'edu-example') as IoMem;
    error = dmaSetMaskAndCoherent(device, dmaBitMask(28));
    if (error < 0) return error;
    if (pciAllocIrqVectors(device, 1, 1, PCI_IRQ_MSI | PCI_IRQ_INTX) < 0) return ENOSPC;

    const done = new Completion(kernel, 'edu transfer');
    const interrupt = () => {
      const status = readl(registers, INTERRUPT_STATUS);
      if (status === 0) return IRQ_NONE;
      writel(status, registers, INTERRUPT_ACK);
      complete(done);
      return IRQ_HANDLED;
    };
    error = devmRequestIrq(device, pciIrqVector(device, 0), interrupt, IRQF_SHARED, 'edu-example', device);
    if (error < 0) return error;
    pciSetMaster(device); // without it, neither transfers nor messages get anywhere

    const transfer = async (from: number, to: number, command: number) => {
      reinitCompletion(done);
      writeq(from, registers, DMA_SOURCE);
      writeq(to, registers, DMA_DESTINATION);
      writeq(SIZE, registers, DMA_COUNT);
      writel(command, registers, DMA_COMMAND);
      expect((await waitForCompletionTimeout(done, 1e9)) > 0, 'the device interrupts');
    };

    // GFP_DMA: the lowest memory, which 28 bits reach. Elsewhere it may need a bounce buffer, or cannot be mapped.
    const sent = kmalloc(kernel, SIZE, GFP_KERNEL | GFP_DMA);
    const received = kmalloc(kernel, SIZE, GFP_KERNEL | GFP_DMA);
    if (sent === null || received === null) return ENOMEM;
    for (let round = 0; round < 4; round++) {
      for (let i = 0; i < SIZE; i++) sent.bytes[i] = i * 7 + round;

      let addr = dmaMapSingle(device, sent, DMA_TO_DEVICE);
      if (dmaMappingError(device, addr)) return ENOMEM;
      await transfer(addr, BUFFER, 1 | 4);
      dmaUnmapSingle(device, addr, SIZE, DMA_TO_DEVICE);

      addr = dmaMapSingle(device, received, DMA_FROM_DEVICE);
      if (dmaMappingError(device, addr)) return ENOMEM;
      await transfer(BUFFER, addr, 1 | 2 | 4);
      dmaUnmapSingle(device, addr, SIZE, DMA_FROM_DEVICE);

      expectBytes(received, sent, 'the returned buffer');
    }
    kfree(kernel, received);
    kfree(kernel, sent);
    return 0;
  },
});
