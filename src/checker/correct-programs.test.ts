/** Programs that keep to the rules, made at random: the checker has nothing to say of any of them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Prng } from '../base/index.ts';
import { freePages, GFP_ATOMIC, GFP_KERNEL, kfree, kmalloc, virtToPage } from '../kernel/index.ts';
import type { Mem } from '../machine/mem.ts';
import {
  DMA_BIDIRECTIONAL,
  DMA_FROM_DEVICE,
  DMA_TO_DEVICE,
  type DmaCoherent,
  type DmaDataDirection,
  dmaAllocCoherent,
  dmaFreeCoherent,
  dmaMapPage,
  dmaMappingError,
  dmaMapSg,
  dmaMapSingle,
  dmaSyncSgForCpu,
  dmaSyncSgForDevice,
  dmaSyncSingleForCpu,
  dmaSyncSingleForDevice,
  dmaSyncSingleRangeForCpu,
  dmaSyncSingleRangeForDevice,
  dmaUnmapPage,
  dmaUnmapSg,
  dmaUnmapSingle,
  type Scatterlist,
  sgAlloc,
  sgNext,
  sgSetBuf,
} from '../mapping/index.ts';
import { renderFindings } from './report/report.ts';
import { makeRig, type Rig, type RigDevice } from './rig.cases.ts';

/** A mapped buffer or list, whoever owns it now. */
interface Live {
  readonly device: RigDevice;
  readonly dir: DmaDataDirection;
  readonly mems: readonly Mem[];
  readonly addrs: readonly number[];
  cpuOwns: boolean;
  syncForCpu(): void;
  syncForDevice(): void;
  unmap(): void;
}
const DIRECTIONS = [DMA_BIDIRECTIONAL, DMA_TO_DEVICE, DMA_FROM_DEVICE] as const;
const SIZES = [1, 7, 32, 60, 64, 100, 512, 2048, 4096, 10_000] as const;

class Program {
  readonly rig: Rig;
  readonly prng: Prng;
  readonly live: Live[] = [];
  readonly rings: { device: RigDevice; ring: DmaCoherent; size: number }[] = [];
  constructor(rig: Rig, seed: number) {
    this.rig = rig;
    this.prng = new Prng(seed);
  }
  pick<T>(all: readonly T[]): T {
    return all[this.prng.below(all.length)]!;
  }

  step(): void {
    const action = this.prng.below(12);
    if (action < 3) this.live.push(this.pick([this.#single, this.#pages, this.#list]).call(this));
    else if (action === 3) this.#alloc();
    else if (action === 4) this.#unmapOne();
    else if (action === 5) this.#useRing();
    else if (this.live.length > 0) this.#use(this.pick(this.live));
    if (this.prng.below(4) === 0) for (let i = 0; i < 10; i++) this.rig.machine.cpuRelax();
  }
  finish(): void {
    while (this.live.length > 0) this.#unmapOne();
    for (const { device, ring, size } of this.rings) dmaFreeCoherent(device.dev, size, ring.mem, ring.handle);
    this.rig.checker.runEnded();
    this.rig.checker.close();
  }

  #buffer(size: number): Mem {
    return kmalloc(this.rig.kernel, size, GFP_ATOMIC) ?? assert.fail('out of memory');
  }
  #single(): Live {
    const device = this.pick([this.rig.a, this.rig.b]);
    const { dev } = device;
    const dir = this.pick(DIRECTIONS);
    const size = this.pick(SIZES);
    const mem = this.#buffer(size);
    mem.bytes.fill(this.prng.below(256));
    const addr = dmaMapSingle(dev, mem, dir);
    assert.equal(dmaMappingError(dev, addr), 0);
    const parts = this.prng.below(2) === 0;
    return {
      device,
      dir,
      mems: [mem],
      addrs: [addr],
      cpuOwns: false,
      syncForCpu() {
        if (!parts) dmaSyncSingleForCpu(dev, addr, size, dir);
        else {
          dmaSyncSingleRangeForCpu(dev, addr, 0, size >>> 1, dir);
          dmaSyncSingleRangeForCpu(dev, addr, size >>> 1, size - (size >>> 1), dir);
        }
      },
      syncForDevice() {
        if (!parts) dmaSyncSingleForDevice(dev, addr, size, dir);
        else {
          dmaSyncSingleRangeForDevice(dev, addr, size >>> 1, size - (size >>> 1), dir);
          dmaSyncSingleRangeForDevice(dev, addr, 0, size >>> 1, dir);
        }
      },
      unmap: () => {
        dmaUnmapSingle(dev, addr, size, dir);
        kfree(this.rig.kernel, mem);
      },
    };
  }
  #pages(): Live {
    const device = this.pick([this.rig.a, this.rig.b]);
    const { dev } = device;
    const dir = this.pick(DIRECTIONS);
    const pages = this.rig.pages(1);
    const addr = dmaMapPage(dev, virtToPage(pages), 0, 8192, dir);
    assert.equal(dmaMappingError(dev, addr), 0);
    return {
      device,
      dir,
      mems: [pages],
      addrs: [addr],
      cpuOwns: false,
      syncForCpu: () => dmaSyncSingleForCpu(dev, addr, 8192, dir),
      syncForDevice: () => dmaSyncSingleForDevice(dev, addr, 8192, dir),
      unmap: () => {
        dmaUnmapPage(dev, addr, 8192, dir);
        freePages(this.rig.kernel, pages, 1);
      },
    };
  }
  #list(): Live {
    const device = this.pick([this.rig.a, this.rig.b]);
    const { dev } = device;
    const dir = this.pick(DIRECTIONS);
    const nents = 1 + this.prng.below(6);
    const sgl = sgAlloc(nents);
    const mems: Mem[] = [];
    const addrs: number[] = [];
    for (let sg: Scatterlist | null = sgl; sg !== null; sg = sgNext(sg)) {
      const mem = this.#buffer(this.pick(SIZES));
      mems.push(mem);
      sgSetBuf(sg, mem);
    }
    assert.equal(dmaMapSg(dev, sgl, nents, dir), nents);
    for (let sg: Scatterlist | null = sgl; sg !== null; sg = sgNext(sg)) addrs.push(sg.dmaAddress);
    return {
      device,
      dir,
      mems,
      addrs,
      cpuOwns: false,
      syncForCpu: () => dmaSyncSgForCpu(dev, sgl, nents, dir),
      syncForDevice: () => dmaSyncSgForDevice(dev, sgl, nents, dir),
      unmap: () => {
        dmaUnmapSg(dev, sgl, nents, dir);
        for (const mem of mems) kfree(this.rig.kernel, mem);
      },
    };
  }
  #unmapOne(): void {
    if (this.live.length === 0) return;
    const [gone] = this.live.splice(this.prng.below(this.live.length), 1);
    gone!.unmap();
  }

  /** The owner does something with a part of it, or hands it over. */
  #use(live: Live): void {
    if (this.prng.below(3) === 0) {
      if (live.cpuOwns) live.syncForDevice();
      else live.syncForCpu();
      live.cpuOwns = !live.cpuOwns;
      return;
    }
    const which = this.prng.below(live.mems.length);
    const mem = live.mems[which]!;
    const from = this.prng.below(mem.size);
    const size = 1 + this.prng.below(mem.size - from);
    if (live.cpuOwns) {
      mem.bytes.fill(this.prng.below(256), from, from + size);
      return;
    }
    const addr = live.addrs[which]! + from;
    const writes = live.dir === DMA_FROM_DEVICE || (live.dir === DMA_BIDIRECTIONAL && this.prng.below(2) === 0);
    if (writes) live.device.write(addr, size, this.prng.below(256));
    else live.device.read(addr, size);
  }
  #alloc(): void {
    const device = this.pick([this.rig.a, this.rig.b]);
    const size = this.pick([64, 4096, 12288]);
    this.rings.push({ device, ring: dmaAllocCoherent(device.dev, size, GFP_KERNEL)!, size });
  }
  #useRing(): void {
    if (this.rings.length === 0) return;
    const { device, ring, size } = this.pick(this.rings);
    ring.mem.bytes.fill(this.prng.below(256), 0, size);
    device.read(ring.handle, size);
    device.write(ring.handle + (size >>> 1), size >>> 1);
    if (this.prng.below(4) === 0) {
      dmaFreeCoherent(device.dev, size, ring.mem, ring.handle);
      this.rings.splice(
        this.rings.findIndex((other) => other.ring === ring),
        1,
      );
    }
  }
}

for (const coherent of [false, true]) {
  test(`random programs that keep to the rules give no finding (${coherent ? 'coherent' : 'non-coherent'})`, async () => {
    for (let seed = 1; seed <= 40; seed++) {
      const rig = makeRig({ coherent, seed, cacheNoise: 'on', places: false });
      await rig.kernel.run(() => {
        const program = new Program(rig, seed);
        for (let i = 0; i < 200; i++) program.step();
        program.finish();
      });
      assert.equal(renderFindings(rig.findings(), 'text'), 'no findings\n', `seed ${seed}`);
    }
  });
}
