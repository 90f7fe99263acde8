import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PAGE_SIZE } from '../base/addr.ts';
import { Prng } from '../base/prng.ts';
import { DMA_BIDIRECTIONAL, DMA_TO_DEVICE, type Page, pageToPhys } from '../kernel/index.ts';
import { BusStatus } from '../machine/index.ts';
import { dmaMapPage, dmaUnmapPage } from '../mapping/index.ts';
import { RAM_BASE, type SmmuSystem, smmuSystem } from './smmu-rig.cases.ts';

const ATTEMPTS = 1_000_000;
const RAM_BYTES = 32 << 20;
/** Attempts go this far from addresses that are, or just were, mapped. */
const NEAR_BYTES = 65536;

interface Live {
  readonly addr: number;
  readonly page: Page;
  readonly pages: number;
  readonly isWritable: boolean;
}

/** Maps and unmaps at random, and knows what is live: frame of the address to mapping. */
class Traffic {
  readonly live: Live[] = [];
  readonly byFrame = new Map<number, Live>();
  lastUnmapped = 0;
  readonly #s: SmmuSystem;
  readonly #prng: Prng;
  readonly #buffers: Page[] = [];

  constructor(s: SmmuSystem, prng: Prng) {
    this.#s = s;
    this.#prng = prng;
    for (let i = 0; i < 64; i++) {
      const page = s.page(3);
      // Every word says where it is.
      for (let at = 0; at < 8 * PAGE_SIZE; at += 4) s.setWord(pageToPhys(page) + at, pageToPhys(page) + at);
      this.#buffers.push(page);
    }
  }
  step(): void {
    if (this.live.length > 100 || (this.live.length > 0 && this.#prng.chance(1, 2))) {
      const gone = this.live.splice(this.#prng.below(this.live.length), 1)[0]!;
      for (let i = 0; i < gone.pages; i++) this.byFrame.delete(gone.addr / PAGE_SIZE + i);
      dmaUnmapPage(this.#s.dev, gone.addr as never, gone.pages * PAGE_SIZE, direction(gone.isWritable));
      this.lastUnmapped = gone.addr;
      return;
    }
    const page = this.#buffers[this.#prng.below(this.#buffers.length)]!;
    const pages = this.#prng.between(1, 8);
    const isWritable = this.#prng.chance(1, 2);
    const addr = dmaMapPage(this.#s.dev, page, 0, pages * PAGE_SIZE, direction(isWritable));
    const made = { addr, page, pages, isWritable };
    this.live.push(made);
    for (let i = 0; i < pages; i++) this.byFrame.set(addr / PAGE_SIZE + i, made);
  }
  /** An address to try: near what is or was mapped, or anywhere. */
  target(): number {
    const prng = this.#prng;
    if (prng.chance(1, 2)) {
      const known = prng.chance(1, 3) ? this.lastUnmapped : this.live[prng.below(this.live.length)]!.addr;
      const addr = known - NEAR_BYTES + prng.below(2 * NEAR_BYTES);
      return Math.max(0, addr - (addr % 4));
    }
    if (prng.chance(1, 4)) return RAM_BASE + 4 * prng.below(RAM_BYTES / 4);
    return 4 * prng.below(2 ** 30);
  }
}
const direction = (isWritable: boolean) => (isWritable ? DMA_BIDIRECTIONAL : DMA_TO_DEVICE);

test('a hostile device that tries 1,000,000 addresses reaches live mappings, and nothing else', async () => {
  const seed = 7;
  const s = await smmuSystem({ ramBytes: RAM_BYTES, seed });
  const prng = new Prng(seed);
  const { master } = s;
  let hits = 0;
  let near = 0;
  await s.kernel.run(() => {
    const traffic = new Traffic(s, prng);
    for (let i = 0; i < 50; i++) traffic.step();
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      if (attempt % 50 === 0) traffic.step();
      if (traffic.live.length === 0) traffic.step();
      const addr = traffic.target();
      const live = traffic.byFrame.get(Math.floor(addr / PAGE_SIZE));
      const isWrite = prng.chance(1, 4);
      const where = `seed ${seed}, attempt ${attempt} at 0x${addr.toString(16)}`;
      const expected = live === undefined ? -1 : pageToPhys(live.page) + (addr - live.addr);
      // What is written is what is there, so that every word goes on saying where it is.
      const status = isWrite ? master.write32(addr, expected) : master.read32(addr);
      const allowed = live !== undefined && (!isWrite || live.isWritable);
      assert.equal(status === BusStatus.OK, allowed, where);
      if (allowed) hits++;
      if (allowed && !isWrite) assert.equal(master.value32, expected, where);
      if (Math.abs(addr - traffic.lastUnmapped) < NEAR_BYTES) near++;
    }
  });
  assert.ok(hits > ATTEMPTS / 50, `${hits} hits`);
  assert.ok(near > ATTEMPTS / 20, `${near} near what was just unmapped`);
  assert.deepEqual(s.kernel.splats, []);
});

test('without translation the same attempts hit memory', async () => {
  const s = await smmuSystem({ ramBytes: RAM_BYTES, cmdline: 'iommu.passthrough=1' });
  const prng = new Prng(7);
  let hits = 0;
  await s.kernel.run(() => {
    const traffic = new Traffic(s, prng);
    for (let i = 0; i < 50; i++) traffic.step();
    for (let attempt = 0; attempt < 20_000; attempt++) {
      if (s.master.read32(traffic.target()) === BusStatus.OK) hits++;
    }
  });
  assert.ok(hits > 10_000, `${hits} hits`);
});

test('in lazy mode the window is there, and nothing else is', async () => {
  const s = await smmuSystem({ ramBytes: RAM_BYTES, cmdline: 'iommu.strict=0' });
  const prng = new Prng(9);
  let inWindow = 0;
  await s.kernel.run(() => {
    const traffic = new Traffic(s, prng);
    const recently = new Map<number, number>();
    for (let attempt = 0; attempt < 100_000; attempt++) {
      if (attempt % 20 === 0) {
        const before = new Set(traffic.byFrame.keys());
        traffic.step();
        for (const frame of before) if (!traffic.byFrame.has(frame)) recently.set(frame, s.machine.now());
        s.machine.delay(50_000);
      }
      if (traffic.live.length === 0) traffic.step();
      const addr = traffic.target();
      const frame = Math.floor(addr / PAGE_SIZE);
      const isLive = traffic.byFrame.has(frame);
      const reached = s.master.read32(addr) === BusStatus.OK;
      if (isLive) assert.equal(reached, true);
      else if (reached) {
        inWindow++;
        const ageMs = (s.machine.now() - recently.get(frame)!) / 1e6;
        // 10 ms from the first that waits, to the next tick of the kernel's timer.
        assert.ok(ageMs < 12, `${ageMs} ms`);
      }
    }
  });
  assert.ok(inWindow > 100, `${inWindow} accesses in windows`);
});
