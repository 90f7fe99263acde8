// What the DMA mapping API costs over dma-direct, without observers, and what the allocators below it cost.
import { dmaBitMask } from '../src/base/addr.ts';
import {
  __freePages,
  allocPage,
  Device,
  GFP_KERNEL,
  getFreePages,
  Kernel,
  kfree,
  kmalloc,
  type Mem,
  virtToPage,
} from '../src/kernel/index.ts';
import { SimMachine } from '../src/machine/index.ts';
import {
  DMA_BIDIRECTIONAL,
  DMA_FROM_DEVICE,
  DMA_TO_DEVICE,
  dmaAllocCoherent,
  dmaFreeCoherent,
  dmaMapPage,
  dmaMappingError,
  dmaMapSg,
  dmaMapSingle,
  dmaSyncSingleForCpu,
  dmaSyncSingleForDevice,
  dmaUnmapPage,
  dmaUnmapSg,
  dmaUnmapSingle,
  forEachSg,
  sgAlloc,
  sgSetPage,
} from '../src/mapping/index.ts';
import { bench } from './harness.ts';

function make(coherent: boolean): { kernel: Kernel; dev: Device; mem: Mem } {
  const ram = [{ base: 0, sizeBytes: 64 << 20 }];
  const kernel = new Kernel(new SimMachine({ name: 'bench', coherent, seed: 1, cacheNoise: 'off', ram }));
  const dev = new Device(kernel, 'bench');
  dev.dmaMask = dmaBitMask(32);
  dev.coherentDmaMask = dmaBitMask(32);
  const mem = getFreePages(kernel, GFP_KERNEL, 4);
  if (mem === null) throw new Error('no memory for the bench');
  return { kernel, dev, mem };
}

const { kernel, dev, mem } = make(true);
const other = make(false);
const small = mem.slice(0, 64);
const page = virtToPage(mem);
const sgl = sgAlloc(16);
forEachSg(sgl, 16, (sg) => sgSetPage(sg, allocPage(kernel, GFP_KERNEL)!, 4096, 0));
const live = dmaMapSingle(dev, mem, DMA_BIDIRECTIONAL);
const otherPage = other.mem.slice(0, 4096);
let failed = 0;

bench('mapping', {
  'map+unmap single, 64 B': (n) => {
    for (let i = 0; i < n; i++) {
      const addr = dmaMapSingle(dev, small, DMA_TO_DEVICE);
      if (dmaMappingError(dev, addr) !== 0) failed++;
      dmaUnmapSingle(dev, addr, 64, DMA_TO_DEVICE);
    }
  },
  'map+unmap page, 4 KiB': (n) => {
    for (let i = 0; i < n; i++) {
      const addr = dmaMapPage(dev, page, 0, 4096, DMA_FROM_DEVICE);
      if (dmaMappingError(dev, addr) !== 0) failed++;
      dmaUnmapPage(dev, addr, 4096, DMA_FROM_DEVICE);
    }
  },
  'map_sg+unmap_sg, 16 pages': (n) => {
    for (let i = 0; i < n; i++) {
      if (dmaMapSg(dev, sgl, 16, DMA_TO_DEVICE) === 0) failed++;
      dmaUnmapSg(dev, sgl, 16, DMA_TO_DEVICE);
    }
  },
  'sync for CPU + for device, 4 KiB': (n) => {
    for (let i = 0; i < n; i++) {
      dmaSyncSingleForCpu(dev, live, 4096, DMA_BIDIRECTIONAL);
      dmaSyncSingleForDevice(dev, live, 4096, DMA_BIDIRECTIONAL);
    }
  },
  'alloc+free coherent, 4 KiB': (n) => {
    for (let i = 0; i < n; i++) {
      const memory = dmaAllocCoherent(dev, 4096, GFP_KERNEL);
      if (memory === null) failed++;
      else dmaFreeCoherent(dev, 4096, memory.mem, memory.handle);
    }
  },
  'non-coherent: map+unmap single, 4 KiB': (n) => {
    for (let i = 0; i < n; i++) {
      const addr = dmaMapSingle(other.dev, otherPage, DMA_FROM_DEVICE);
      dmaUnmapSingle(other.dev, addr, 4096, DMA_FROM_DEVICE);
    }
  },
  'kmalloc+kfree, 256 B': (n) => {
    for (let i = 0; i < n; i++) kfree(kernel, kmalloc(kernel, 256, GFP_KERNEL));
  },
  'alloc_page+free_page': (n) => {
    for (let i = 0; i < n; i++) __freePages(kernel, allocPage(kernel, GFP_KERNEL)!, 0);
  },
});

if (failed > 0) throw new Error(`${failed} operations failed`);
