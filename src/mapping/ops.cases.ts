/**
 * The conformance suite of mapping back ends: direct on coherent and non-coherent machines, bounce buffers, IOMMUs. Each
 * runs it; what one cannot show it skips, with a reason.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addrAdd, DMA_MAPPING_ERROR, type DmaAddr, dmaBitMask, PAGE_SIZE, rangesOverlap } from '../base/addr.ts';
import { EIO, ENOMEM, KernelBug, OK } from '../base/errno.ts';
import { Prng } from '../base/prng.ts';
import { DMA_BIDIRECTIONAL, DMA_FROM_DEVICE, DMA_NONE, DMA_TO_DEVICE } from '../kernel/dma-direction.ts';
import {
  GFP_KERNEL,
  type Kernel,
  kfree,
  kmalloc,
  type Mem,
  taskStack,
  vmalloc,
  vmallocToPage,
  wmb,
} from '../kernel/index.ts';
import { __freePages, allocPage, freePages, getFreePages, type Page, pageAddress } from '../kernel/page-alloc.ts';
import { DMA_ATTR_NO_KERNEL_MAPPING } from './attrs.ts';
import {
  dmaAllocAttrs,
  dmaAllocCoherent,
  dmaFreeAttrs,
  dmaFreeCoherent,
  dmaGetSgtable,
  dmaMmapCoherent,
} from './coherent.ts';
import { dmaMappingError } from './error.ts';
import { dmaGetMask, dmaSetMaskAndCoherent } from './mask.ts';
import { dmaAllocNoncoherent, dmaAllocPages, dmaFreeNoncoherent, dmaFreePages } from './noncoherent.ts';
import { dmaAllocNoncontiguous, dmaFreeNoncontiguous } from './noncontiguous.ts';
import { dmaMapResource, dmaUnmapResource } from './resource.ts';
import { forEachSg, sgAlloc, sgSetPage } from './scatterlist.ts';
import { type MapVia, playScenario, type ScenarioTarget } from './scenario.ts';
import { dmaMapSg, dmaMapSgtable, dmaUnmapSg, dmaUnmapSgtable } from './sg.ts';
import { SgTable, sgAllocTableFromPages } from './sg-table.ts';
import { dmaMapPage, dmaMapSingle, dmaUnmapPage, dmaUnmapSingle } from './streaming.ts';
import { dmaSyncSgForCpu, dmaSyncSgForDevice, dmaSyncSingleForCpu } from './sync.ts';
import { UserMapping } from './user-mapping.ts';

/** A device behind the back end, with the machine's bus beside it. */
export interface MappingRig extends ScenarioTarget {
  /** How many bytes of RAM the machine has, at most: tests that exhaust it need to know that it is small. */
  readonly ramBytes: number;
}
/** What a test asks of its rig. */
export interface MappingRigOptions {
  readonly seed: number;
  /** Whether caches evict and prefetch by themselves. */
  readonly cacheNoise: 'on' | 'off';
}
/** A back end under test. */
export interface MappingBackend {
  readonly name: string;
  /** The device and the CPU see the same bytes at once: neither caches nor bounce buffers lie between them. */
  readonly seesMemory: boolean;
  /** The CPU's cache lies between them, so that buffers in one line harm each other. */
  readonly cached: boolean;
  /** The device is refused what is not mapped. */
  readonly isolates: boolean;
  make(options: MappingRigOptions): MappingRig | Promise<MappingRig>;
  /** Titles of cases it cannot run, and why not. */
  readonly skips?: Readonly<Record<string, string>>;
}

type Case = (rig: MappingRig, backend: MappingBackend) => void | Promise<void>;
const VIAS: readonly MapVia[] = ['single', 'page', 'sg'];

/** Register the suite for a back end. */
export function mappingOpsCases(backend: MappingBackend): void {
  const skips = backend.skips ?? {};
  for (const title of Object.keys(skips)) {
    if (!(title in cases) && !(title in seededCases)) throw new Error(`${backend.name}: no case '${title}' to skip`);
  }
  for (const [title, body] of Object.entries(cases)) {
    test(`${backend.name}: ${title}`, { skip: skips[title] ?? false }, async () => {
      const rig = await backend.make({ seed: 1, cacheNoise: 'off' });
      await rig.kernel.run(() => body(rig, backend));
    });
  }
  for (const [title, { seeds, body }] of Object.entries(seededCases)) {
    test(`${backend.name}: ${title}`, { skip: skips[title] ?? false }, async () => {
      for (let seed = 1; seed <= seeds; seed++) {
        const rig = await backend.make({ seed, cacheNoise: 'on' });
        try {
          await rig.kernel.run(() => body(rig, seed));
        } catch (error) {
          throw new Error(`seed ${seed}: ${error instanceof Error ? error.message : error}`, { cause: error });
        }
      }
    });
  }
}

/** Correct use: must hold on every back end, whatever the caches do. */
const CORRECT: readonly string[] = [
  'cpu-write 0+4096 A; map 0+4096 to-device; dev-read 0+4096 = A; unmap; cpu-read 0+4096 = A',
  'cpu-write 0+4096 A; map 0+4096 from-device; dev-write 0+4096 B; unmap; cpu-read 0+4096 = B',
  'cpu-write 0+4096 A; map 0+4096 bidirectional; dev-read 0+4096 = A; dev-write 0+4096 B; unmap; cpu-read 0+4096 = B',
  'map 0+4096 to-device; sync-cpu; cpu-write 0+4096 C; sync-dev; dev-read 0+4096 = C; unmap',
  'map 0+4096 from-device; dev-write 0+4096 D; sync-cpu; cpu-read 0+4096 = D; sync-dev; dev-write 0+4096 E; unmap; cpu-read 0+4096 = E',
  'cpu-write 0+8192 A; map 1024+4096 to-device; dev-read 0+4096 = A; unmap',
  // A partial sync moves its part, and no more is relied upon.
  'map 0+4096 from-device; dev-write 0+4096 F; sync-cpu 1024+1024; cpu-read 1024+1024 = F; sync-dev 1024+1024; unmap; cpu-read 0+4096 = F',
  // Neighbours at a distance of a line never notice.
  'cpu-write 0+8192 N; map 4096+2048 from-device; dev-write 0+2048 G; cpu-write 0+4096 M; cpu-write 6144+2048 M; unmap; cpu-read 0+4096 = M; cpu-read 4096+2048 = G; cpu-read 6144+2048 = M',
  // Two live mappings of different parts.
  'cpu-write 0+8192 A; map 0+4096 to-device as out; map 4096+4096 from-device as in; dev-read 0+4096 = A of out; dev-write 0+4096 B of in; unmap in; unmap out; cpu-read 0+4096 = A; cpu-read 4096+4096 = B',
  // The same memory, read by the device twice at a time.
  'cpu-write 0+4096 A; map 0+4096 to-device as a; map 0+4096 to-device as b; dev-read 0+4096 = A of a; dev-read 0+4096 = A of b; unmap a; unmap b',
  // What was left out of the implicit sync is made up for.
  'cpu-write 0+4096 A; map 0+4096 to-device skip-sync; sync-dev; dev-read 0+4096 = A; unmap skip-sync',
  'map 0+4096 from-device skip-sync; sync-dev; dev-write 0+4096 B; sync-cpu; unmap skip-sync; cpu-read 0+4096 = B',
];

function liveMem(kernel: Kernel, order: number): Mem {
  const mem = getFreePages(kernel, GFP_KERNEL, order);
  assert.ok(mem !== null, 'no memory for the test');
  return mem;
}
function liveAddr(rig: MappingRig, addr: DmaAddr): DmaAddr {
  assert.equal(dmaMappingError(rig.dev, addr), OK);
  return addr;
}
function fill(size: number, letter: string): Uint8Array {
  return new Uint8Array(size).fill(letter.charCodeAt(0));
}

const cases: Record<string, Case> = {
  'correct use is right, by every family of calls'(rig) {
    for (const via of VIAS) for (const scenario of CORRECT) playScenario(rig, scenario, { via });
  },

  'one byte can be mapped, at any offset'(rig) {
    for (const offset of [0, 1, 63, 4095]) {
      playScenario(rig, `cpu-write ${offset}+1 A; map ${offset}+1 to-device; dev-read 0+1 = A; unmap`);
    }
  },

  'a write of the CPU after map, without sync, is seen where CPU and device share memory'(rig, { seesMemory }) {
    const seen = seesMemory ? 'B' : 'A';
    playScenario(rig, `cpu-write 0+4096 A; map 0+4096 to-device; cpu-write 0+4096 B; dev-read 0+4096 = ${seen}; unmap`);
  },
  'a write of the device is seen before sync or unmap where CPU and device share memory'(rig, { seesMemory }) {
    const seen = seesMemory ? 'B' : 'A';
    const steps = 'cpu-write 0+4096 A; map 0+4096 from-device; cpu-read 0+4096 = A; dev-write 0+4096 B';
    playScenario(rig, `${steps}; cpu-read 0+4096 = ${seen}; unmap; cpu-read 0+4096 = B`);
  },
  'a partial sync leaves exactly the rest stale'(rig, { seesMemory }) {
    const rest = seesMemory ? 'B' : 'A';
    const steps = 'cpu-write 0+4096 A; map 0+4096 from-device; dev-write 0+4096 B; sync-cpu 1024+1024';
    const seen = `cpu-read 0+1024 = ${rest}; cpu-read 1024+1024 = B; cpu-read 2048+2048 = ${rest}`;
    playScenario(rig, `${steps}; ${seen}; unmap; cpu-read 0+4096 = B`);
  },
  'unmapping with the wrong direction loses what the device wrote, where a cache or a bounce lies between'(
    rig,
    backend,
  ) {
    // The mapping is made by hand, since a scenario unmaps as it mapped.
    const mem = liveMem(rig.kernel, 0);
    mem.bytes.fill(0x41);
    const addr = liveAddr(rig, dmaMapSingle(rig.dev, mem, DMA_BIDIRECTIONAL));
    assert.equal(rig.deviceWrite(addr, fill(4096, 'B')), true);
    dmaUnmapSingle(rig.dev, addr, 4096, DMA_TO_DEVICE);
    assert.equal(mem.bytes[100], backend.seesMemory ? 0x42 : 0x41);
    freePages(rig.kernel, mem, 0);
  },
  'two buffers in one cache line: taking one back drops the CPU’s write to the other'(rig, { cached }) {
    const line = rig.kernel.machine.traits.cacheLineBytes;
    const half = line / 2;
    const lost = cached ? 'A' : 'C';
    const steps = [
      `cpu-write 0+${2 * line} A`,
      `map 0+${half} from-device`,
      `cpu-write ${half}+${half + line} C`,
      `dev-write 0+${half} D`,
      'unmap',
      `cpu-read 0+${half} = D`,
      `cpu-read ${half}+${half} = ${lost}`,
      `cpu-read ${line}+${line} = C`,
    ];
    playScenario(rig, steps.join(';'));
  },
  'two buffers in one cache line: writing one back undoes the device’s write to the other'(
    rig,
    { cached, seesMemory },
  ) {
    const line = rig.kernel.machine.traits.cacheLineBytes;
    const half = line / 2;
    const undone = cached ? 'A' : 'D';
    const steps = [
      `cpu-write 0+${line} A`,
      `map 0+${half} from-device as in`,
      `dev-write 0+${half} D of in`,
      // The CPU's write makes the shared line dirty; mapping the neighbour cleans it over what the device wrote.
      `cpu-write ${half}+${half} C`,
      `map ${half}+${half} to-device as out`,
      'unmap in',
      `cpu-read 0+${half} = ${undone}`,
      `dev-read 0+${half} = C of out`,
      'unmap out',
    ];
    if (seesMemory || cached) playScenario(rig, steps.join(';'));
  },

  'two live mappings never overlap in what the device sees, unless they are of the same memory'(rig) {
    const { kernel, dev } = rig;
    const live: { addr: DmaAddr; size: number; mem: Mem }[] = [];
    for (let i = 0; i < 64; i++) {
      const mem = kmalloc(kernel, 100 + i * 60, GFP_KERNEL);
      assert.ok(mem !== null);
      const addr = liveAddr(rig, dmaMapSingle(dev, mem, DMA_TO_DEVICE));
      for (const other of live) assert.equal(rangesOverlap(addr, mem.size, other.addr, other.size), false);
      live.push({ addr, size: mem.size, mem });
    }
    for (const { addr, size, mem } of live) {
      dmaUnmapSingle(dev, addr, size, DMA_TO_DEVICE);
      kfree(kernel, mem);
    }
  },
  'an address keeps the offset in its page'(rig) {
    const mem = liveMem(rig.kernel, 1);
    for (const offset of [1, 512, 4000]) {
      const addr = liveAddr(rig, dmaMapSingle(rig.dev, mem.slice(offset, 64), DMA_TO_DEVICE));
      if (rig.dev.dmaOps !== null) assert.equal(addr % PAGE_SIZE, (mem.phys + offset) % PAGE_SIZE);
      dmaUnmapSingle(rig.dev, addr, 64, DMA_TO_DEVICE);
    }
    freePages(rig.kernel, mem, 1);
  },
  'a scatterlist reaches the device in order, however it was merged'(rig) {
    const { kernel, dev } = rig;
    const pages = Array.from({ length: 8 }, () => allocPage(kernel, GFP_KERNEL)).map((page) => {
      assert.ok(page !== null);
      return page;
    });
    const sgl = sgAlloc(8);
    forEachSg(sgl, 8, (sg, i) => {
      pageAddress(kernel, pages[i]!)!.bytes.fill(0x61 + i);
      sgSetPage(sg, pages[i]!, PAGE_SIZE, 0);
    });
    const count = dmaMapSg(dev, sgl, 8, DMA_BIDIRECTIONAL);
    assert.ok(count >= 1 && count <= 8, `mapped ${count} segments`);
    let total = 0;
    forEachSg(sgl, count, (sg) => {
      const seen = rig.deviceRead(sg.dmaAddress, sg.dmaLength);
      assert.ok(seen !== null);
      for (let i = 0; i < seen.length; i += PAGE_SIZE) assert.equal(seen[i], 0x61 + (total + i) / PAGE_SIZE);
      total += sg.dmaLength;
      assert.equal(rig.deviceWrite(sg.dmaAddress, fill(sg.dmaLength, 'Z')), true);
    });
    assert.equal(total, 8 * PAGE_SIZE);
    dmaSyncSgForCpu(dev, sgl, 8, DMA_BIDIRECTIONAL);
    for (const page of pages) {
      const { bytes } = pageAddress(kernel, page)!;
      assert.equal(bytes[17], 0x5a);
      bytes.fill(0x59);
    }
    dmaSyncSgForDevice(dev, sgl, 8, DMA_BIDIRECTIONAL);
    assert.equal(rig.deviceRead(sgl.dmaAddress, 1)?.[0], 0x59);
    dmaUnmapSg(dev, sgl, 8, DMA_BIDIRECTIONAL);
    for (const page of pages) __freePages(kernel, page, 0);
  },
  'a table over pages is mapped and unmapped as a whole'(rig) {
    const { kernel, dev } = rig;
    const pages: Page[] = [];
    for (let i = 0; i < 5; i++) pages.push(allocPage(kernel, GFP_KERNEL)!);
    const table = new SgTable();
    assert.equal(sgAllocTableFromPages(table, pages, 256, 4 * PAGE_SIZE, GFP_KERNEL), OK);
    assert.equal(dmaMapSgtable(dev, table, DMA_TO_DEVICE, 0), OK);
    let total = 0;
    forEachSg(table.sgl, table.nents, (sg) => {
      total += sg.dmaLength;
    });
    assert.equal(total, 4 * PAGE_SIZE);
    dmaUnmapSgtable(dev, table, DMA_TO_DEVICE, 0);
    for (const page of pages) __freePages(kernel, page, 0);
  },
  'an empty scatterlist is warned of, and maps nothing'(rig) {
    assert.equal(dmaMapSg(rig.dev, sgAlloc(1), 0, DMA_TO_DEVICE), 0);
    assert.equal(rig.kernel.splats.length, 1);
  },

  'coherent memory is zeroed, page-aligned, and seen by both sides without sync'(rig) {
    const { kernel, dev } = rig;
    const used = liveMem(kernel, 2);
    used.bytes.fill(0xee);
    freePages(kernel, used, 2);
    for (const size of [1, 4096, 10000]) {
      const memory = dmaAllocCoherent(dev, size, GFP_KERNEL);
      assert.ok(memory !== null);
      const { mem, handle } = memory;
      assert.equal(mem.size, size);
      assert.equal(handle % PAGE_SIZE, 0);
      assert.equal(
        mem.bytes.every((byte) => byte === 0),
        true,
      );
      assert.equal(
        rig.deviceRead(handle, size)?.every((byte) => byte === 0),
        true,
      );
      mem.bytes.fill(0x41);
      wmb(kernel);
      assert.deepEqual(rig.deviceRead(handle, size), fill(size, 'A'));
      assert.equal(rig.deviceWrite(handle, fill(size, 'B')), true);
      assert.deepEqual(mem.bytes.slice(), fill(size, 'B'));
      dmaFreeCoherent(dev, size, mem, handle);
      assert.equal(mem.freed, true);
    }
    assert.equal(kernel.splats.length, 0);
  },
  'coherent memory goes back whole'(rig) {
    const { kernel, dev } = rig;
    const warm = dmaAllocCoherent(dev, 4096, GFP_KERNEL)!;
    dmaFreeCoherent(dev, 4096, warm.mem, warm.handle);
    const before = kernel.pages.freePages;
    for (let i = 0; i < 50; i++) {
      const memory = dmaAllocCoherent(dev, 3 * PAGE_SIZE, GFP_KERNEL);
      assert.ok(memory !== null);
      dmaFreeCoherent(dev, 3 * PAGE_SIZE, memory.mem, memory.handle);
    }
    assert.equal(kernel.pages.freePages, before);
  },
  'memory without kernel mapping is reached by the device alone'(rig) {
    const { dev } = rig;
    const memory = dmaAllocAttrs(dev, 4096, GFP_KERNEL, DMA_ATTR_NO_KERNEL_MAPPING);
    assert.ok(memory !== null);
    assert.throws(() => memory.mem.readU8(0), RangeError);
    assert.equal(rig.deviceWrite(memory.handle, fill(4096, 'A')), true);
    assert.deepEqual(rig.deviceRead(memory.handle, 4096), fill(4096, 'A'));
    dmaFreeAttrs(dev, 4096, memory.mem, memory.handle, DMA_ATTR_NO_KERNEL_MAPPING);
  },
  'freeing coherent memory with interrupts off is warned of; freeing nothing is not'(rig) {
    const { kernel, dev } = rig;
    dmaFreeCoherent(dev, 4096, null, 0 as DmaAddr);
    const { mem, handle } = dmaAllocCoherent(dev, 4096, GFP_KERNEL)!;
    kernel.context.setIrqsDisabled(true);
    dmaFreeCoherent(dev, 4096, mem, handle);
    kernel.context.setIrqsDisabled(false);
    assert.equal(kernel.splats.length, 1);
    assert.match(kernel.splats[0]!.message, /dma_free_attrs/);
  },
  'a coherent mask of 0 is warned of, and gets no memory without IOMMU'(rig) {
    rig.dev.coherentDmaMask = 0n;
    const memory = dmaAllocCoherent(rig.dev, 4096, GFP_KERNEL);
    if (rig.dev.dmaOps === null) assert.equal(memory, null);
    assert.match(rig.kernel.splats[0]!.message, /dma_alloc_attrs/);
  },
  'pages are zeroed, and follow the sync rules'(rig) {
    const { kernel, dev } = rig;
    const pages = dmaAllocPages(dev, 8192, DMA_BIDIRECTIONAL, GFP_KERNEL);
    assert.ok(pages !== null);
    const mem = pageAddress(kernel, pages.page)!;
    assert.equal(
      mem.bytes.every((byte) => byte === 0),
      true,
    );
    assert.equal(rig.deviceWrite(pages.handle, fill(8192, 'P')), true);
    dmaSyncSingleForCpu(dev, pages.handle, 8192, DMA_BIDIRECTIONAL);
    assert.equal(mem.bytes[8191], 0x50);
    dmaFreePages(dev, 8192, pages.page, pages.handle, DMA_BIDIRECTIONAL);
    const small = dmaAllocNoncoherent(dev, 100, DMA_FROM_DEVICE, GFP_KERNEL);
    assert.ok(small !== null && small.mem.size === 100);
    dmaFreeNoncoherent(dev, 100, small.mem, small.handle, DMA_FROM_DEVICE);
    assert.equal(small.mem.freed, true);
  },
  'noncontiguous memory is one segment to the device'(rig) {
    const { dev } = rig;
    const table = dmaAllocNoncontiguous(dev, 5 * PAGE_SIZE, DMA_BIDIRECTIONAL, GFP_KERNEL, 0);
    assert.ok(table !== null);
    assert.equal(table.nents, 1);
    assert.ok(table.sgl.dmaLength >= 5 * PAGE_SIZE);
    assert.equal(rig.deviceWrite(table.sgl.dmaAddress, fill(5 * PAGE_SIZE, 'N')), true);
    dmaFreeNoncontiguous(dev, 5 * PAGE_SIZE, table, DMA_BIDIRECTIONAL);
    assert.equal(dmaAllocNoncontiguous(dev, 4096, DMA_BIDIRECTIONAL, GFP_KERNEL, DMA_ATTR_NO_KERNEL_MAPPING), null);
  },
  'noncontiguous memory goes back whole'(rig, { isolates }) {
    const { dev, kernel } = rig;
    let before = -1;
    for (let i = 0; i < 3; i++) {
      const table = dmaAllocNoncontiguous(dev, 5 * PAGE_SIZE, DMA_BIDIRECTIONAL, GFP_KERNEL, 0);
      assert.ok(table !== null);
      const { dmaAddress } = table.sgl;
      dmaFreeNoncontiguous(dev, 5 * PAGE_SIZE, table, DMA_BIDIRECTIONAL);
      if (isolates) assert.equal(rig.deviceRead(dmaAddress, 64), null);
      if (before < 0) before = kernel.pages.freePages;
    }
    assert.equal(kernel.pages.freePages, before);
  },
  'coherent memory can be shown to user space and described by a table'(rig) {
    const { dev, kernel } = rig;
    const { mem, handle } = dmaAllocCoherent(dev, 3 * PAGE_SIZE, GFP_KERNEL)!;
    const user = new UserMapping(2 * PAGE_SIZE, 1);
    assert.equal(dmaMmapCoherent(dev, user, mem, handle, 3 * PAGE_SIZE), OK);
    user.mem!.bytes[0] = 0x55;
    wmb(kernel);
    assert.equal(rig.deviceRead(addrAdd(handle, PAGE_SIZE), 1)?.[0], 0x55);
    assert.notEqual(dmaMmapCoherent(dev, new UserMapping(PAGE_SIZE, 3), mem, handle, 3 * PAGE_SIZE), OK);
    const table = new SgTable();
    assert.equal(dmaGetSgtable(dev, table, mem, handle, 3 * PAGE_SIZE), OK);
    let total = 0;
    forEachSg(table.sgl, table.origNents, (sg) => {
      total += sg.length;
    });
    assert.equal(total, 3 * PAGE_SIZE);
    dmaFreeCoherent(dev, 3 * PAGE_SIZE, mem, handle);
  },

  'what is not in the linear map is refused by dma_map_single, and maps by page'(rig) {
    const { kernel, dev } = rig;
    const area = vmalloc(kernel, 2 * PAGE_SIZE)!;
    for (const mem of [taskStack(kernel, 64), area.at(0, 64)]) {
      assert.equal(dmaMapSingle(dev, mem, DMA_TO_DEVICE), DMA_MAPPING_ERROR);
      const addr = liveAddr(rig, dmaMapPage(dev, vmallocToPage(mem), mem.phys % PAGE_SIZE, 64, DMA_TO_DEVICE));
      dmaUnmapPage(dev, addr, 64, DMA_TO_DEVICE);
    }
    assert.deepEqual(
      kernel.splats.map(({ message }) => /rejecting DMA map of vmalloc memory$/.test(message)),
      [true],
      'the kernel says so once',
    );
  },
  'an array of the JavaScript heap is no memory'(rig) {
    assert.throws(() => dmaMapSingle(rig.dev, new Uint8Array(64) as unknown as Mem, DMA_TO_DEVICE), TypeError);
  },
  'DMA_NONE and unknown directions stop the kernel'(rig) {
    const { dev } = rig;
    const mem = liveMem(rig.kernel, 0);
    const none = DMA_NONE;
    assert.throws(() => dmaMapSingle(dev, mem, none), KernelBug);
    assert.throws(() => dmaMapSingle(dev, mem, 7 as typeof none), KernelBug);
    assert.throws(() => dmaUnmapSingle(dev, 0 as DmaAddr, 1, none), KernelBug);
    assert.throws(() => dmaMapSg(dev, sgAlloc(1), 1, none), KernelBug);
    assert.throws(() => dmaUnmapSg(dev, sgAlloc(1), 1, none), KernelBug);
    assert.throws(() => dmaSyncSingleForCpu(dev, 0 as DmaAddr, 1, none), KernelBug);
    assert.throws(() => dmaMapResource(dev, 0 as never, 1, none, 0), KernelBug);
  },
  'a device without mask maps nothing, and is warned of once'(rig) {
    const { dev } = rig;
    const mem = liveMem(rig.kernel, 0);
    dev.dmaMask = null;
    for (let i = 0; i < 2; i++) assert.equal(dmaMapSingle(dev, mem, DMA_TO_DEVICE), DMA_MAPPING_ERROR);
    assert.equal(rig.kernel.splats.length, 1);
    assert.match(rig.kernel.splats[0]!.message, /dma_map_page_attrs/);
    assert.equal(dmaMapSg(dev, sgAlloc(1), 1, DMA_TO_DEVICE), 0);
    assert.equal(dmaMapResource(dev, 0x1000 as never, 4, DMA_TO_DEVICE, 0), DMA_MAPPING_ERROR);
    assert.equal(dmaSetMaskAndCoherent(dev, dmaBitMask(32)), EIO);
    assert.equal(dmaGetMask(dev), dmaBitMask(32));
  },
  'a failed mapping is told apart from every address'(rig) {
    assert.equal(dmaMappingError(rig.dev, DMA_MAPPING_ERROR), ENOMEM);
    assert.equal(dmaMappingError(rig.dev, 0 as DmaAddr), OK);
  },
  'registers of another device can be mapped'(rig) {
    const addr = dmaMapResource(rig.dev, 0x4000_0000 as never, 16, DMA_BIDIRECTIONAL, 0);
    liveAddr(rig, addr);
    dmaUnmapResource(rig.dev, addr, 16, DMA_BIDIRECTIONAL, 0);
  },
  'the device is refused what is not mapped any more'(rig, { isolates }) {
    const mem = liveMem(rig.kernel, 0);
    const addr = liveAddr(rig, dmaMapSingle(rig.dev, mem, DMA_BIDIRECTIONAL));
    assert.notEqual(rig.deviceRead(addr, 64), null);
    dmaUnmapSingle(rig.dev, addr, 4096, DMA_BIDIRECTIONAL);
    assert.equal(rig.deviceRead(addr, 64) === null, isolates);
    assert.equal(rig.deviceWrite(addr, fill(64, 'X')), !isolates);
  },
};

/** Cases that must hold for every seed, with caches that evict and prefetch by themselves. */
const seededCases: Record<string, { seeds: number; body: (rig: MappingRig, seed: number) => void | Promise<void> }> = {
  'correct use is right for 1,000 seeds with cache noise': {
    seeds: 1000,
    body(rig, seed) {
      const prng = new Prng(seed);
      for (let i = 0; i < 3; i++) {
        const scenario = CORRECT[prng.below(CORRECT.length)]!;
        playScenario(rig, scenario, { via: VIAS[prng.below(3)]!, pauseNs: 400 });
      }
    },
  },
  'random programs of map, sync, access and unmap leave exactly the bytes the rules promise': {
    seeds: 100,
    body: randomProgram,
  },
};

const LETTERS = 'abcdefghijklmnopqrstuvwxyz';

/** Buffers on lines of their own, each with a model of who owns it and what it must hold. */
function randomProgram(rig: MappingRig, seed: number): void {
  const { kernel, dev } = rig;
  const prng = new Prng(seed);
  const size = 2048;
  const buffers = Array.from({ length: 6 }, () => {
    const mem = kmalloc(kernel, size, GFP_KERNEL)!;
    mem.bytes.fill(0x61);
    return { mem, letter: 0x61, addr: DMA_MAPPING_ERROR, device: false };
  });
  const free = kernel.pages.freePages;
  for (let step = 0; step < 120; step++) {
    const buffer = buffers[prng.below(buffers.length)]!;
    const letter = LETTERS.charCodeAt(prng.below(26));
    if (buffer.addr === DMA_MAPPING_ERROR) {
      assert.equal(
        buffer.mem.bytes.every((byte) => byte === buffer.letter),
        true,
        `step ${step}: the CPU sees other bytes`,
      );
      if (prng.chance(1, 2)) {
        buffer.mem.bytes.fill(letter);
        buffer.letter = letter;
      }
      buffer.addr = liveAddr(rig, dmaMapSingle(dev, buffer.mem, DMA_BIDIRECTIONAL));
      buffer.device = true;
    } else if (prng.chance(1, 4)) {
      dmaUnmapSingle(dev, buffer.addr, size, DMA_BIDIRECTIONAL);
      buffer.addr = DMA_MAPPING_ERROR;
    } else {
      const seen = rig.deviceRead(buffer.addr, size);
      assert.ok(seen !== null);
      assert.equal(
        seen.every((byte) => byte === buffer.letter),
        true,
        `step ${step}: the device sees other bytes`,
      );
      if (prng.chance(1, 2)) {
        assert.equal(rig.deviceWrite(buffer.addr, new Uint8Array(size).fill(letter)), true);
        buffer.letter = letter;
      }
    }
    kernel.machine.delay(prng.below(300));
  }
  for (const { mem, addr, letter } of buffers) {
    if (addr !== DMA_MAPPING_ERROR) dmaUnmapSingle(dev, addr, size, DMA_BIDIRECTIONAL);
    assert.equal(
      mem.bytes.every((byte) => byte === letter),
      true,
      'the CPU sees other bytes at the end',
    );
    kfree(kernel, mem);
  }
  assert.ok(kernel.pages.freePages >= free, 'mappings kept memory');
  assert.equal(kernel.splats.length, 0);
}
