import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { type DmaAddr, PAGE_SIZE } from '../base/addr.ts';
import { KernelBug, OK } from '../base/errno.ts';
import {
  deviceAdd,
  deviceDel,
  driverRegister,
  GFP_ATOMIC,
  GFP_KERNEL,
  preemptDisable,
  preemptEnable,
} from '../kernel/index.ts';
import { type DirectRigOptions, directRig } from './direct-rig.cases.ts';
import * as old from './historical.ts';
import type { AllocKind } from './observer.ts';
import type { DmaCoherent } from './ops.ts';
import {
  type DmaPool,
  dmamPoolCreate,
  dmamPoolDestroy,
  dmaPoolAlloc,
  dmaPoolCreate,
  dmaPoolDestroy,
  dmaPoolFree,
  dmaPoolsShow,
  dmaPoolZalloc,
} from './pool.ts';

interface PoolCase {
  readonly size: number;
  readonly align: number;
  readonly boundary: number;
  readonly created: number;
  readonly alloc_page_off: readonly (readonly [number, number])[];
  readonly pages: number;
  readonly after_free_even_0_38_ascending_alloc20: readonly number[];
}
const MIB = 2 ** 20;
const roomy: DirectRigOptions = { ram: [{ base: 0, sizeBytes: 16 * MIB }] };
const log = (rig: ReturnType<typeof directRig>): string[] => rig.kernel.log.lines.map(({ text }) => text);

function take(pool: DmaPool): DmaCoherent {
  const block = dmaPoolAlloc(pool, GFP_KERNEL);
  assert.ok(block !== null);
  return block;
}
function give(pool: DmaPool, { mem, handle }: DmaCoherent): void {
  dmaPoolFree(pool, mem, handle);
}

for (const variant of ['none', 'swiotlb-force']) {
  const url = new URL(`../../fixtures/golden/dma_pool.${variant}.json`, import.meta.url);
  const { result } = JSON.parse(readFileSync(url, 'utf8')) as { result: { cases: readonly PoolCase[] } };
  for (const recorded of result.cases) {
    const { size, align, boundary } = recorded;
    test(`blocks lie and are reused as recorded (${variant}): size ${size}, align ${align}, boundary ${boundary}`, () => {
      const { dev, kernel } = directRig(roomy);
      const pool = dmaPoolCreate('golden', dev, size, align, boundary);
      assert.equal(Number(pool !== null), recorded.created);
      if (pool === null) return;
      const blocks = recorded.alloc_page_off.map(() => take(pool));
      assert.equal(pool.nrPages, recorded.pages);
      const starts: number[] = [];
      const seen = blocks.map(({ mem, handle }) => {
        assert.equal(mem.phys, handle as number);
        let page = starts.findIndex((start) => handle >= start && handle < start + pool.allocation);
        if (page < 0) page = starts.push(handle) - 1;
        return [page, handle - starts[page]!];
      });
      assert.deepEqual(seen, recorded.alloc_page_off);
      for (let i = 0; i <= 38; i += 2) give(pool, blocks[i]!);
      const again = recorded.after_free_even_0_38_ascending_alloc20.map(() => blocks.indexOf(take(pool)));
      assert.deepEqual(again, recorded.after_free_even_0_38_ascending_alloc20);
      for (const block of blocks) give(pool, block);
      assert.equal(pool.nrActive, 0);
      const free = kernel.pages.freePages;
      const pages = pool.nrPages * 2 ** Math.ceil(Math.log2(pool.allocation / PAGE_SIZE));
      dmaPoolDestroy(pool);
      assert.equal(kernel.pages.freePages, free + pages);
      assert.deepEqual(kernel.splats, []);
    });
  }
}

test('a block is as long as was asked, and the same object every time', () => {
  const { dev } = directRig();
  const pool = dmaPoolCreate('p', dev, 20, 16, 0)!;
  const block = take(pool);
  assert.deepEqual([block.mem.size, block.mem.freed, pool.size], [20, false, 32]);
  give(pool, block);
  assert.equal(block.mem.freed, true);
  assert.equal(take(pool), block);
  assert.equal(block.mem.freed, false);
});
test('zalloc clears, alloc does not', () => {
  const { dev } = directRig();
  const pool = dmaPoolCreate('p', dev, 64, 64, 0)!;
  const block = take(pool);
  block.mem.bytes.fill(7);
  give(pool, block);
  assert.equal(take(pool).mem.bytes[40], 7);
  give(pool, block);
  assert.ok(dmaPoolZalloc(pool, GFP_KERNEL)!.mem.bytes.every((byte) => byte === 0));
});
test('a block is seen by the device without sync, on a machine with caches too', () => {
  const rig = directRig({ coherent: false });
  const pool = dmaPoolCreate('p', rig.dev, 64, 64, 0)!;
  const { mem, handle } = take(pool);
  mem.bytes.fill(0x31);
  assert.equal(rig.deviceRead(handle, 64)?.[63], 0x31);
  rig.deviceWrite(handle, new Uint8Array(64).fill(0x32));
  assert.equal(mem.bytes[63], 0x32);
});
test('without memory there is no block, and the pool goes on', () => {
  const { dev, kernel } = directRig();
  const pool = dmaPoolCreate('p', dev, 4096, 4096, 0)!;
  const blocks: DmaCoherent[] = [];
  for (let block = dmaPoolAlloc(pool, GFP_ATOMIC); block !== null; block = dmaPoolAlloc(pool, GFP_ATOMIC)) {
    blocks.push(block);
  }
  assert.ok(blocks.length > 10);
  give(pool, blocks[0]!);
  assert.equal(dmaPoolAlloc(pool, GFP_ATOMIC), blocks[0]);
  for (const block of blocks) give(pool, block);
  dmaPoolDestroy(pool);
  assert.equal(kernel.pages.freePages, kernel.pages.managedPages);
});
test('an allocation that may sleep is reported in atomic context', () => {
  const { dev, kernel } = directRig();
  const pool = dmaPoolCreate('p', dev, 64, 64, 0)!;
  give(pool, take(pool));
  preemptDisable(kernel);
  dmaPoolAlloc(pool, GFP_ATOMIC);
  assert.equal(kernel.splats.length, 0);
  dmaPoolAlloc(pool, GFP_KERNEL);
  assert.match(kernel.splats[0]!.message, /sleeping function called from invalid context/);
  preemptEnable(kernel);
});
test('a pool that is destroyed while in use is reported, and its pages are lost', () => {
  const rig = directRig();
  const pool = dmaPoolCreate('labp', rig.dev, 64, 64, 0)!;
  take(pool);
  const free = rig.kernel.pages.freePages;
  dmaPoolDestroy(pool);
  assert.deepEqual(log(rig), ['tester: dma_pool_destroy labp busy']);
  assert.equal(rig.kernel.pages.freePages, free);
  dmaPoolDestroy(null);
});
test('the observer learns of every block', () => {
  const { dev, kernel } = directRig();
  const told: (string | number)[][] = [];
  kernel.mappingObserver = {
    alloc: (_dev: unknown, kind: AllocKind, _phys: number, size: number) => told.push(['alloc', kind, size]),
    free: (_dev: unknown, kind: AllocKind, _phys: number, size: number) => told.push(['free', kind, size]),
  };
  const pool = dmaPoolCreate('p', dev, 100, 16, 0)!;
  give(pool, take(pool));
  dmaPoolDestroy(pool);
  assert.deepEqual(told, [
    ['alloc', 'coherent', 4096],
    ['alloc', 'pool', 112],
    ['free', 'pool', 112],
    ['free', 'coherent', 4096],
  ]);
});
test('a device’s pools are listed, newest first', () => {
  const { dev } = directRig();
  const first = dmaPoolCreate('buffer-32', dev, 32, 32, 0)!;
  dmaPoolCreate('a name of more than thirty-one characters', dev, 4096, 1, 0);
  take(first);
  take(first);
  assert.equal(
    dmaPoolsShow(dev),
    'poolinfo - 0.1\na name of more than thirty-one     0    0 4096  0\nbuffer-32           2  128   32  1\n',
  );
});

test('a device that writes to a freed block corrupts the pool: its bus address, or where the list goes on', () => {
  const rig = directRig();
  const pool = dmaPoolCreate('p', rig.dev, 64, 64, 0)!;
  const block = take(pool);
  give(pool, block);
  rig.deviceWrite((block.handle + 8) as DmaAddr, new Uint8Array([0x78, 0x56, 0x34, 0x12]));
  const bad = take(pool);
  assert.equal(bad.mem, block.mem);
  assert.equal(bad.handle, 0x1234_5678);
  const next = take(pool);
  give(pool, next);
  rig.deviceWrite(next.handle, new Uint8Array([0x00, 0xbe, 0xad, 0xde]));
  assert.equal(take(pool), next);
  assert.throws(() => dmaPoolAlloc(pool, GFP_KERNEL), KernelBug);
});
test('a block that is freed twice is handed out twice, unchecked as the kernel is', () => {
  const { dev, kernel } = directRig();
  const pool = dmaPoolCreate('p', dev, 64, 64, 0)!;
  const block = take(pool);
  give(pool, block);
  give(pool, block);
  assert.equal(take(pool), block);
  assert.equal(take(pool), block);
  assert.equal(take(pool), block);
  assert.deepEqual(kernel.splats, []);
});
test('a block that is freed with a wrong bus address is handed out with it', () => {
  const { dev } = directRig();
  const pool = dmaPoolCreate('p', dev, 64, 64, 0)!;
  const { mem } = take(pool);
  dmaPoolFree(pool, mem, 0x4567_8000 as DmaAddr);
  const again = take(pool);
  assert.deepEqual([again.mem, again.handle], [mem, 0x4567_8000]);
});

test('DMAPOOL_DEBUG fills, checks and reports as recorded', () => {
  const text = readFileSync(new URL('../../fixtures/dma-debug/pool-with-DMAPOOL_DEBUG.txt', import.meta.url), 'utf8');
  // What differs from run to run: addresses, pointers, and the free list's own words.
  const plain = (line: string): string =>
    line
      .replace(/^\S+ \S+: |^tester: /, 'dev: ')
      .replace('xdma_pool', 'dma_pool')
      .replace(/0x[0-9a-f]{16}/g, 'DMA')
      .replace(/[0-9a-f]{16}/g, 'PTR')
      .replace(/^00000000: .*/, '00000000: link');
  const recorded = text
    .split('\n')
    .filter((line) => /pool_|^000000/.test(line))
    .map(plain);
  const rig = directRig({ kernel: { config: { DMAPOOL_DEBUG: true } } });
  const pool = dmaPoolCreate('labp', rig.dev, 64, 64, 0)!;
  const [a, b, c] = [take(pool), take(pool), take(pool)];
  assert.deepEqual([a.mem.bytes[0], a.mem.bytes[16], a.mem.bytes[63]], [0xa9, 0xa9, 0xa9]);
  give(pool, a);
  assert.deepEqual([a.mem.bytes[16], a.mem.bytes[63]], [0xa7, 0xa7]);
  give(pool, a);
  give(pool, b);
  give(pool, a);
  dmaPoolFree(pool, c.mem, 0x4567_8000 as DmaAddr);
  assert.equal(pool.nrActive, 1);
  rig.deviceWrite((b.handle + 40) as DmaAddr, new Uint8Array([0x11]));
  assert.equal(take(pool), b);
  dmaPoolDestroy(pool);
  assert.deepEqual(log(rig).map(plain), recorded);
});

test('a managed pool goes with its driver', async () => {
  const rig = directRig();
  const { kernel, dev } = rig;
  let pool: DmaPool | null = null;
  let freed: DmaPool | null = null;
  await kernel.run(async () => {
    await driverRegister(kernel, {
      name: 'user',
      match: () => true,
      probe(probed) {
        pool = dmamPoolCreate('p', probed, 64, 64, 0);
        freed = dmamPoolCreate('q', probed, 64, 64, 0);
        give(pool!, take(pool!));
        dmamPoolDestroy(freed!);
        return OK;
      },
    });
    await deviceAdd(dev);
    assert.match(dmaPoolsShow(dev), /^poolinfo - 0.1\np +0 +64 +64 +1\n$/);
    await deviceDel(dev);
    assert.equal(dmaPoolsShow(dev), 'poolinfo - 0.1\n');
  });
  assert.equal(kernel.pages.freePages, kernel.pages.managedPages);
  dmamPoolDestroy(freed!);
  assert.match(kernel.splats[0]!.message, /dmam_pool_destroy: q is not managed/);
});
test('the pci_pool calls are the dma_pool calls', () => {
  const { dev, kernel } = directRig();
  const pool = old.pciPoolCreate('p', dev, 64, 64, 0)!;
  const block = old.pciPoolAlloc(pool, GFP_KERNEL)!;
  assert.equal(pool.nrActive, 1);
  old.pciPoolFree(pool, block.mem, block.handle);
  old.pciPoolDestroy(pool);
  assert.equal(kernel.pages.freePages, kernel.pages.managedPages);
});
