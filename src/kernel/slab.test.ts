import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Prng } from '../base/prng.ts';
import { FrameKind } from '../machine/frames.ts';
import type { Mem } from '../machine/mem.ts';
import { Device } from './device.ts';
import { devresReleaseAll } from './devres.ts';
import { __GFP_NOWARN, __GFP_ZERO, GFP_ATOMIC, GFP_DMA, GFP_DMA32, GFP_KERNEL } from './gfp.ts';
import { logText, MIB, memoryRig, splatMessages } from './memory-rig.cases.ts';
import { getFreePage } from './page-alloc.ts';
import {
  devmKcalloc,
  devmKfree,
  devmKmalloc,
  devmKzalloc,
  kcalloc,
  kfree,
  kmalloc,
  kmallocArray,
  kmallocSizeRoundup,
  kmemCacheAlloc,
  kmemCacheCreate,
  kmemCacheDestroy,
  kmemCacheFree,
  kmemCacheShrink,
  kmemCacheZalloc,
  kmemdup,
  ksize,
  kzalloc,
  SLAB_CACHE_DMA,
  SLAB_CACHE_DMA32,
  SLAB_HWCACHE_ALIGN,
  SLAB_POISON,
} from './slab.ts';

test('kmalloc rounds up to its size classes', () => {
  const kernel = memoryRig();
  const sizes = [1, 8, 9, 65, 97, 129, 193, 257, 8192, 8193].map((size) =>
    ksize(kernel, kmalloc(kernel, size, GFP_KERNEL)!),
  );
  assert.deepEqual(sizes, [8, 8, 16, 96, 128, 192, 256, 512, 8192, 16384]);
  assert.equal(kmallocSizeRoundup(kernel, 65), 96);
  assert.equal(kmallocSizeRoundup(kernel, 8193), 16384);
  assert.equal(kmallocSizeRoundup(kernel, 0), 0);
});

test('on a non-coherent machine no two objects share a cache line', () => {
  const kernel = memoryRig({ coherent: false, cacheLineBytes: 64 });
  const prng = new Prng(5);
  const lines = new Set<number>();
  for (let i = 0; i < 500; i++) {
    const size = 1 + prng.below(300);
    const mem = kmalloc(kernel, size, GFP_KERNEL)!;
    for (let line = Math.floor(mem.phys / 64); line <= Math.floor((mem.phys + size - 1) / 64); line++) {
      assert.ok(!lines.has(line), `object ${i} of ${size} bytes shares a line`);
      lines.add(line);
    }
  }
  assert.equal(ksize(kernel, kmalloc(kernel, 65, GFP_KERNEL)!), 128, 'there is no class of 96 bytes');
});

test('an object is aligned to a power of two up to its size', () => {
  const kernel = memoryRig();
  for (const size of [64, 512, 4096, 8192]) {
    for (let i = 0; i < 5; i++) assert.equal(kmalloc(kernel, size, GFP_KERNEL)!.phys % size, 0);
  }
});

test('the last freed object is handed out next, as the same object', () => {
  const kernel = memoryRig();
  const first = kmalloc(kernel, 100, GFP_KERNEL)!;
  const second = kmalloc(kernel, 100, GFP_KERNEL)!;
  assert.equal(second.phys, first.phys + 128);
  kfree(kernel, first);
  kfree(kernel, second);
  assert.equal(first.freed, true);
  assert.equal(kmalloc(kernel, 100, GFP_KERNEL), second);
  assert.equal(second.freed, false);
  const other = kmalloc(kernel, 110, GFP_KERNEL)!;
  assert.equal(other.phys, first.phys);
  assert.equal(other.size, 110);
  assert.equal(first.freed, true, 'the pointer of the earlier, shorter allocation stays freed');
});

test('slab frames are known as such, and given back when empty', () => {
  const kernel = memoryRig();
  const before = kernel.pages.freePages;
  const cache = kmemCacheCreate(kernel, 'thing', 200, 0, 0);
  const objects = Array.from({ length: 500 }, () => kmemCacheAlloc(cache, GFP_KERNEL)!);
  assert.equal(kernel.machine.bankAt(objects[0]!.phys)!.kindAt(objects[0]!.phys), FrameKind.SLAB);
  assert.ok(kernel.pages.freePages < before);
  for (const object of objects) kmemCacheFree(cache, object);
  kmemCacheShrink(cache);
  assert.equal(kernel.pages.freePages, before);
  kmemCacheDestroy(cache);
  assert.equal(kernel.splats.length, 0);
  kmemCacheDestroy(null);
});

test('random allocations never overlap, and keep their content', () => {
  const seed = 11;
  const kernel = memoryRig({ ram: [{ base: 0, sizeBytes: 32 * MIB }] });
  const prng = new Prng(seed);
  const live: { mem: Mem; tag: number }[] = [];
  for (let step = 0; step < 6000; step++) {
    if (live.length === 0 || prng.chance(52, 100)) {
      const size = 1 + prng.below(prng.chance(1, 20) ? 20000 : 700);
      const mem = kmalloc(kernel, size, GFP_KERNEL)!;
      const tag = prng.below(256);
      mem.bytes.fill(tag);
      live.push({ mem, tag });
    } else {
      const [{ mem, tag }] = live.splice(prng.below(live.length), 1) as [(typeof live)[0]];
      assert.ok(
        mem.bytes.every((byte) => byte === tag),
        `seed ${seed}, step ${step}: an object was overwritten`,
      );
      kfree(kernel, mem);
    }
  }
  assert.equal(kernel.splats.length, 0);
});

test('a double free is reported and changes nothing', () => {
  const kernel = memoryRig();
  const mem = kmalloc(kernel, 50, GFP_KERNEL)!;
  kfree(kernel, mem);
  kfree(kernel, mem);
  assert.deepEqual(splatMessages(kernel), ['BUG kmalloc-64 (Not tainted): Object already free']);
  assert.match(logText(kernel), /FIX kmalloc-64: Object at 0x[0-9a-f]{16} not freed/);
  assert.notEqual(kmalloc(kernel, 50, GFP_KERNEL)!.phys, kmalloc(kernel, 50, GFP_KERNEL)!.phys);
});

test('foreign and inner pointers, and objects of another cache, are reported', () => {
  const kernel = memoryRig();
  kfree(kernel, getFreePage(kernel, GFP_KERNEL)!);
  const mem = kmalloc(kernel, 64, GFP_KERNEL)!;
  kfree(kernel, mem.slice(8));
  const cache = kmemCacheCreate(kernel, 'mine', 64, 0, 0);
  kmemCacheFree(cache, mem);
  const large = kmalloc(kernel, 20000, GFP_KERNEL)!;
  kfree(kernel, large.slice(8));
  kfree(kernel, null);
  const messages = splatMessages(kernel);
  assert.match(messages[0]!, /object pointer: 0x[0-9a-f]{16} was not allocated by kmalloc/);
  assert.equal(messages[1], 'BUG kmalloc-64 (Not tainted): Invalid object pointer');
  assert.equal(messages[2], 'cache_from_obj: Wrong slab cache. mine but object is from kmalloc-64');
  assert.match(messages[3]!, /invalid pointer 0x[0-9a-f]{16} into a large allocation/);
  assert.equal(messages.length, 4);
});

test('a large kmalloc is whole pages, and freed once', () => {
  const kernel = memoryRig();
  const before = kernel.pages.freePages;
  const mem = kmalloc(kernel, 10000, GFP_KERNEL)!;
  assert.equal(mem.size, 10000);
  assert.equal(kernel.pages.freePages, before - 4);
  kfree(kernel, mem);
  assert.equal(kernel.pages.freePages, before);
  assert.equal(mem.freed, true);
  kfree(kernel, mem);
  assert.match(splatMessages(kernel)[0]!, /was not allocated by kmalloc \(freed already\)/);
  assert.equal(kmalloc(kernel, 8 * MIB, GFP_KERNEL | __GFP_NOWARN), null);
});

test('destroying a cache with live objects is reported as the kernel does', () => {
  const kernel = memoryRig();
  const cache = kmemCacheCreate(kernel, 'busy', 32, 0, 0);
  kmemCacheAlloc(cache, GFP_KERNEL);
  kmemCacheDestroy(cache);
  assert.deepEqual(splatMessages(kernel), ['kmem_cache_destroy busy: Slab cache still has objects when called']);
  assert.match(logText(kernel), /1 objects remaining in busy on __kmem_cache_shutdown\(\)/);
  assert.equal(kmemCacheAlloc(cache, GFP_KERNEL), null);
});

test('zeroing forms zero, plain ones do not', () => {
  const kernel = memoryRig();
  const mem = kmalloc(kernel, 64, GFP_KERNEL)!;
  mem.bytes.fill(7);
  kfree(kernel, mem);
  assert.equal(kmalloc(kernel, 64, GFP_KERNEL)!.bytes[3], 7);
  kfree(kernel, mem);
  assert.equal(kzalloc(kernel, 64, GFP_KERNEL)!.bytes[3], 0);
  mem.bytes.fill(7);
  kfree(kernel, mem);
  assert.equal(kcalloc(kernel, 8, 8, GFP_KERNEL)!.bytes[3], 0);
  assert.equal(kmallocArray(kernel, 3, 100, GFP_KERNEL)!.size, 300);
  assert.deepEqual([...kmemdup(kernel, new Uint8Array([1, 2, 3]), GFP_KERNEL)!.bytes], [1, 2, 3]);
  const cache = kmemCacheCreate(kernel, 'z', 16, 0, 0);
  const object = kmemCacheAlloc(cache, GFP_KERNEL)!;
  object.bytes.fill(7);
  kmemCacheFree(cache, object);
  assert.equal(kmemCacheZalloc(cache, GFP_KERNEL)!.bytes[0], 0);
});

test('poisoned caches notice a write after free', () => {
  const kernel = memoryRig();
  const cache = kmemCacheCreate(kernel, 'poisoned', 40, 0, SLAB_POISON);
  const mem = kmemCacheAlloc(cache, GFP_KERNEL)!;
  kmemCacheFree(cache, mem);
  assert.equal(mem.bytes[0], 0x6b);
  assert.equal(mem.bytes[39], 0xa5);
  mem.bytes[5] = 1;
  kmemCacheAlloc(cache, GFP_KERNEL);
  assert.deepEqual(splatMessages(kernel), ['BUG poisoned (Not tainted): Poison overwritten']);
  assert.match(logText(kernel), /@offset=5\. First byte 0x1 instead of 0x6b/);
});

test('objects keep to alignment and zone', () => {
  const kernel = memoryRig();
  const aligned = kmemCacheCreate(kernel, 'aligned', 10, 256, 0);
  assert.equal(kmemCacheAlloc(aligned, GFP_KERNEL)!.phys % 256, 0);
  assert.equal(kmemCacheAlloc(aligned, GFP_KERNEL)!.phys % 256, 0);
  assert.equal(kmemCacheCreate(kernel, 'hw', 40, 0, SLAB_HWCACHE_ALIGN).stride, 64);
  const dma = kmemCacheCreate(kernel, 'dma', 64, 0, SLAB_CACHE_DMA);
  assert.ok(kmemCacheAlloc(dma, GFP_KERNEL)!.phys < 16 * MIB);
  assert.ok(kmalloc(kernel, 64, GFP_KERNEL | GFP_DMA)!.phys < 16 * MIB);
  assert.ok(kmalloc(kernel, 64, GFP_KERNEL)!.phys >= 16 * MIB);
  assert.throws(() => kmemCacheCreate(kernel, 'none', 0, 0, 0), /objects of 0 bytes/);
  const low = kmemCacheCreate(kernel, 'low', 64, 0, SLAB_CACHE_DMA32);
  assert.ok(kmemCacheAlloc(low, GFP_KERNEL)!.phys < 2 ** 32);
});

test('flags that kmalloc cannot honour are told and dropped', () => {
  const kernel = memoryRig();
  assert.ok(kmalloc(kernel, 64, GFP_KERNEL | GFP_DMA32) !== null);
  assert.match(
    logText(kernel),
    /Unexpected gfp: 0x4 \(GFP_DMA32\)\. Fixing up to gfp: 0xcc0 \(GFP_KERNEL\)\. Fix your code!/,
  );
});

test('GFP_KERNEL in atomic context is reported even when the cache is warm', () => {
  const kernel = memoryRig();
  kfree(kernel, kmalloc(kernel, 64, GFP_KERNEL));
  kernel.context.disablePreempt();
  kmalloc(kernel, 64, GFP_ATOMIC);
  assert.equal(kernel.splats.length, 0);
  kmalloc(kernel, 64, GFP_KERNEL);
  assert.equal(kernel.splats[0]?.kind, 'sleep-in-atomic');
});

test('a cache that cannot grow says so, and gives null', () => {
  const kernel = memoryRig({ ram: [{ base: 0, sizeBytes: 2 * MIB }] });
  const cache = kmemCacheCreate(kernel, 'big', 4096, 0, 0);
  while (kmemCacheAlloc(cache, GFP_KERNEL) !== null);
  assert.match(logText(kernel), /page allocation failure/);
  assert.match(logText(kernel), /SLUB: Unable to allocate memory on CPU 0/);
  assert.match(logText(kernel), /cache: big, object size: 4096/);
});

test('managed memory goes with the driver', async () => {
  const kernel = memoryRig();
  const dev = new Device(kernel, 'dev0');
  const kept = devmKzalloc(dev, 64, GFP_KERNEL)!;
  const early = devmKmalloc(dev, 64, GFP_KERNEL)!;
  assert.equal(devmKcalloc(dev, 4, 4, GFP_KERNEL | __GFP_ZERO)!.size, 16);
  devmKfree(dev, early);
  assert.equal(early.freed, true);
  assert.equal(kept.freed, false);
  await devresReleaseAll(dev);
  assert.equal(kept.freed, true);
  assert.equal(kernel.splats.length, 0);
  devmKfree(dev, kmalloc(kernel, 8, GFP_KERNEL)!);
  assert.equal(kernel.splats.length, 1);
});

test('the observer hears of objects', () => {
  const kernel = memoryRig();
  const heard: string[] = [];
  kfree(kernel, kmalloc(kernel, 24, GFP_KERNEL));
  kernel.observer = {
    alloc: (_time, allocator, _phys, size) => heard.push(`alloc ${allocator} ${size}`),
    free: (_time, allocator, _phys, size) => heard.push(`free ${allocator} ${size}`),
  };
  kfree(kernel, kmalloc(kernel, 24, GFP_KERNEL));
  assert.deepEqual(heard, ['alloc slab 24', 'free slab 24']);
});
