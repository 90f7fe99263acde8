// What a block of a dma_pool costs.
import { dmaBitMask } from '../src/base/addr.ts';
import { Device, GFP_ATOMIC, Kernel } from '../src/kernel/index.ts';
import { SimMachine } from '../src/machine/index.ts';
import { type DmaCoherent, dmaPoolAlloc, dmaPoolCreate, dmaPoolFree, dmaPoolZalloc } from '../src/mapping/index.ts';
import { bench } from './harness.ts';

const ram = [{ base: 0, sizeBytes: 32 << 20 }];
const kernel = new Kernel(new SimMachine({ name: 'bench', coherent: true, seed: 1, cacheNoise: 'off', ram }));
const dev = new Device(kernel, 'bench');
dev.dmaMask = dmaBitMask(32);
dev.coherentDmaMask = dmaBitMask(32);
const pool = dmaPoolCreate('bench', dev, 64, 64, 0)!;
const held: DmaCoherent[] = [];
for (let i = 0; i < 10_000; i++) held.push(dmaPoolAlloc(pool, GFP_ATOMIC)!);
let failed = 0;

bench('pool', {
  'dma_pool_alloc+free, 64 B': (n) => {
    for (let i = 0; i < n; i++) {
      const block = dmaPoolAlloc(pool, GFP_ATOMIC);
      if (block === null) failed++;
      else dmaPoolFree(pool, block.mem, block.handle);
    }
  },
  'the same, eight at a time': (n) => {
    for (let i = 0; i < n; i += 8) {
      for (let j = 0; j < 8; j++) held[j] = dmaPoolAlloc(pool, GFP_ATOMIC)!;
      for (let j = 0; j < 8; j++) dmaPoolFree(pool, held[j]!.mem, held[j]!.handle);
    }
  },
  'dma_pool_zalloc+free, 64 B': (n) => {
    for (let i = 0; i < n; i++) {
      const block = dmaPoolZalloc(pool, GFP_ATOMIC);
      if (block === null) failed++;
      else dmaPoolFree(pool, block.mem, block.handle);
    }
  },
});

if (failed > 0) throw new Error(`${failed} allocations failed`);
