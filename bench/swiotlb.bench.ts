// What a bounce costs, in an empty pool and in one that is nearly full.
import { dmaBitMask } from '../src/base/addr.ts';
import { Prng } from '../src/base/prng.ts';
import { Device, GFP_KERNEL, getFreePages, Kernel, type Mem } from '../src/kernel/index.ts';
import { SimMachine } from '../src/machine/index.ts';
import { DMA_BIDIRECTIONAL, DMA_TO_DEVICE, dmaInit, dmaMapSingle, dmaUnmapSingle } from '../src/mapping/index.ts';
import { bench } from './harness.ts';

/** A pool of 64 MiB in which so many of 100 mappings are live, at random places. */
function make(percent: number): { dev: Device; mem: Mem } {
  const ram = [{ base: 0, sizeBytes: 128 << 20 }];
  const machine = new SimMachine({ name: 'bench', coherent: true, seed: 1, cacheNoise: 'off', ram });
  const kernel = new Kernel(machine, { cmdline: 'swiotlb=force' });
  dmaInit(kernel);
  const dev = new Device(kernel, 'bench');
  dev.dmaMask = dmaBitMask(32);
  const mem = getFreePages(kernel, GFP_KERNEL, 4);
  if (mem === null) throw new Error('no memory for the bench');
  const small = mem.slice(0, 64);
  const slots = Array.from({ length: 32768 }, () => dmaMapSingle(dev, small, DMA_TO_DEVICE));
  const prng = new Prng(1);
  for (const addr of slots) {
    if (prng.below(100) >= percent) dmaUnmapSingle(dev, addr, 64, DMA_TO_DEVICE);
  }
  return { dev, mem };
}

let failed = 0;
function pairs({ dev, mem }: { dev: Device; mem: Mem }, size: number) {
  const buffer = mem.slice(0, size);
  return (n: number): void => {
    for (let i = 0; i < n; i++) {
      const addr = dmaMapSingle(dev, buffer, DMA_BIDIRECTIONAL);
      if (addr < 0) failed++;
      dmaUnmapSingle(dev, addr, size, DMA_BIDIRECTIONAL);
    }
  };
}
const empty = make(0);
const full = make(90);

bench('swiotlb', {
  'map+unmap, 64 B': pairs(empty, 64),
  'map+unmap, 64 B, 90 % full': pairs(full, 64),
  'map+unmap, 1500 B': pairs(empty, 1500),
  'map+unmap, 4 KiB': pairs(empty, 4096),
});

if (failed > 0) throw new Error(`${failed} mappings failed`);
