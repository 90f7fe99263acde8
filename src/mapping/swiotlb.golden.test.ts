// Bounces against Linux 6.12 with swiotlb=force on a machine with two CPUs: where they lie, how long they may be, and
// which bytes are copied when.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { DMA_MAPPING_ERROR, type DmaAddr, dmaBitMask } from '../base/addr.ts';
import { DMA_BIDIRECTIONAL, DMA_FROM_DEVICE, DMA_TO_DEVICE } from '../kernel/dma-direction.ts';
import { GFP_KERNEL, getFreePages, type Mem } from '../kernel/index.ts';
import { DMA_ATTR_SKIP_CPU_SYNC } from './attrs.ts';
import { dmaMaxMappingSize, dmaSetMaskAndCoherent, dmaSetMinAlignMask } from './mask.ts';
import type { MappingRig } from './ops.cases.ts';
import { dmaMapSingle, dmaMapSingleAttrs, dmaUnmapSingle, dmaUnmapSingleAttrs } from './streaming.ts';
import { poolOf, swiotlbRig } from './swiotlb-rig.cases.ts';
import { dmaNeedSync, dmaSyncSingleRangeForCpu, dmaSyncSingleRangeForDevice } from './sync.ts';

interface Golden {
  readonly cases: readonly {
    readonly min_align_mask: string;
    readonly max_mapping_size: number;
    readonly maps: readonly { readonly off: number; readonly size: number; readonly addr: string }[];
  }[];
  readonly order: readonly { readonly step: string; readonly addrs: readonly string[] }[];
  readonly content: readonly Record<string, string | number>[];
}
const golden = (
  JSON.parse(readFileSync(new URL('../../fixtures/golden/swiotlb.swiotlb-force.json', import.meta.url), 'utf8')) as {
    result: Golden;
  }
).result;
const MIB = 2 ** 20;
/** The recorded machine's area of its one mapping CPU. */
const AREA = 0x7500_0000;

/** A pool like the recorded machine's, whose next search begins where `addr` says. */
function rigAt(addr: string): { rig: MappingRig; mem: Mem; shift: number } {
  const rig = swiotlbRig('swiotlb=32768,2,force', { ram: [{ base: 0, sizeBytes: 160 * MIB }] });
  const mem = getFreePages(rig.kernel, GFP_KERNEL, 7);
  assert.ok(mem !== null);
  const pool = poolOf(rig);
  pool.slots.index[0] = (Number(addr) - AREA) / 2048;
  return { rig, mem, shift: pool.start - AREA };
}

test('every bounce lies where the kernel puts it, for every alignment mask', () => {
  const { rig, mem, shift } = rigAt(golden.cases[0]!.maps[0]!.addr);
  const { dev } = rig;
  for (const { min_align_mask, max_mapping_size, maps } of golden.cases) {
    dmaSetMinAlignMask(dev, Number(min_align_mask));
    assert.equal(dmaMaxMappingSize(dev), max_mapping_size, `mask ${min_align_mask}`);
    for (const { off, size, addr } of maps) {
      const got = dmaMapSingle(dev, mem.slice(off, size), DMA_TO_DEVICE);
      const expected = addr.startsWith('FAIL') ? DMA_MAPPING_ERROR : Number(addr) + shift;
      assert.equal(got, expected, `mask ${min_align_mask}, ${size} bytes at ${off}`);
      if (got !== DMA_MAPPING_ERROR) dmaUnmapSingle(dev, got, size, DMA_TO_DEVICE);
    }
  }
  assert.equal(poolOf(rig).used, 0);
});

test('slots are taken in the kernel’s order, whatever was given back', () => {
  const { rig, mem, shift } = rigAt(golden.order[0]!.addrs[0]!);
  const { dev } = rig;
  const map = (i: number, size: number): DmaAddr => dmaMapSingle(dev, mem.slice(i * 64, size), DMA_TO_DEVICE);
  const check = (step: number, addrs: readonly DmaAddr[]): void => {
    const { step: name, addrs: expected } = golden.order[step]!;
    assert.deepEqual(
      addrs,
      expected.map((addr) => Number(addr) + shift),
      name,
    );
  };
  const indexes = Array.from({ length: 40 }, (_, i) => i);
  let live = indexes.map((i) => map(i, 64));
  check(0, live);
  for (const addr of live) dmaUnmapSingle(dev, addr, 64, DMA_TO_DEVICE);
  live = indexes.map((i) => map(i, 64));
  check(1, live);
  for (let i = 0; i < 40; i += 2) dmaUnmapSingle(dev, live[i]!, 64, DMA_TO_DEVICE);
  for (let i = 0; i < 40; i += 2) live[i] = map(i, 64);
  check(2, live);
  for (const addr of live) dmaUnmapSingle(dev, addr, 64, DMA_TO_DEVICE);
  const sizes = golden.order[3]!.step.split(' ').slice(2).map(Number);
  const mixed = sizes.map((size) => map(0, size));
  check(3, mixed);
  for (const [i, addr] of mixed.entries()) dmaUnmapSingle(dev, addr, sizes[i]!, DMA_TO_DEVICE);
  check(4, [map(0, 262144), map(0, 262144), map(0, 262144)]);
});

const LETTER = { A: 0x41, B: 0x42, C: 0x43, D: 0x44 };

test('bytes are copied when the kernel copies them', () => {
  for (const expected of golden.content) {
    const rig = swiotlbRig('swiotlb=force');
    const { dev, kernel } = rig;
    const mem = getFreePages(kernel, GFP_KERNEL, 0)!.slice(512, 512);
    const dir = { BIDIR: DMA_BIDIRECTIONAL, TO: DMA_TO_DEVICE, FROM: DMA_FROM_DEVICE }[expected.dir as string]!;
    const attrs = expected.skip_cpu_sync === 1 ? DMA_ATTR_SKIP_CPU_SYNC : 0;
    const letters = (bytes: Uint8Array, at: readonly number[]): string =>
      String.fromCharCode(...at.map((i) => bytes[i]!));
    mem.bytes.fill(LETTER.A);
    const addr = dmaMapSingleAttrs(dev, mem, dir, attrs);
    const device = (): Uint8Array => rig.deviceRead(addr, 512)!;
    const seen: Record<string, string | number> = {
      dir: expected.dir!,
      skip_cpu_sync: expected.skip_cpu_sync!,
      bounced: Number(addr !== (mem.phys as number)),
      need_sync: Number(dmaNeedSync(dev, addr)),
      after_map_bounce_is_orig: Number(device().every((byte) => byte === LETTER.A)),
    };
    assert.ok(rig.deviceWrite(addr, new Uint8Array(512).fill(LETTER.B)));
    dmaSyncSingleRangeForCpu(dev, addr, 128, 64, dir);
    seen.after_sync_cpu_128_64_orig = letters(mem.bytes, [127, 128, 191, 192]);
    mem.bytes.fill(LETTER.C);
    dmaSyncSingleRangeForDevice(dev, addr, 256, 64, dir);
    seen.after_sync_dev_256_64_bounce = letters(device(), [255, 256, 319, 320]);
    assert.ok(rig.deviceWrite(addr, new Uint8Array(512).fill(LETTER.D)));
    dmaUnmapSingleAttrs(dev, addr, 512, dir, attrs);
    seen.after_unmap_orig = letters(mem.bytes, [0, 511]);
    assert.deepEqual(seen, expected);
  }
});

test('masks succeed and fail as recorded, and out-of-reach slots are told once', () => {
  const { result } = JSON.parse(
    readFileSync(new URL('../../fixtures/golden/dma_mask.swiotlb-force.json', import.meta.url), 'utf8'),
  ) as {
    result: { cases: readonly { bits: number; set_mask: number; map4k?: string }[] };
  };
  const rows = result.cases;
  // The pool lies below 2 GiB, and above 1 GiB, as on the recorded machine.
  const ram = [
    { base: 0, sizeBytes: 32 * MIB },
    { base: 0x7500_0000, sizeBytes: 0x0b00_0000 },
  ];
  const rig = swiotlbRig('swiotlb=force', { ram });
  const { dev, kernel } = rig;
  const mem = getFreePages(kernel, GFP_KERNEL, 0)!;
  for (const { bits, set_mask, map4k } of rows) {
    assert.equal(dmaSetMaskAndCoherent(dev, dmaBitMask(bits)), set_mask, `${bits} bits`);
    if (map4k === undefined) continue;
    const addr = dmaMapSingle(dev, mem, DMA_TO_DEVICE);
    assert.equal(addr === DMA_MAPPING_ERROR, map4k.startsWith('FAIL'), `${bits} bits`);
    if (addr !== DMA_MAPPING_ERROR) dmaUnmapSingle(dev, addr, 4096, DMA_TO_DEVICE);
  }
  assert.equal(kernel.splats.length, 1);
  assert.match(
    kernel.splats[0]!.message,
    /^tester: swiotlb addr 0x0000000[0-9a-f]{9}\+4096 overflow \(mask ffffff, bus limit 0\)\.$/,
  );
  assert.equal(poolOf(rig).used, 0);
});
