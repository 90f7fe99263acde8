import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DMA_FROM_DEVICE } from '../kernel/dma-direction.ts';
import { GFP_KERNEL, getFreePage } from '../kernel/index.ts';
import { type DirectRigOptions, directRig } from './direct-rig.cases.ts';
import { sgAlloc, sgDmaLen, sgSetBuf } from './scatterlist.ts';
import { dmaMapSg, dmaUnmapSg } from './sg.ts';
import { SgTable, sgAllocTable } from './sg-table.ts';
import { dmaMapSingle, dmaUnmapSingle } from './streaming.ts';
import {
  DEFINE_DMA_UNMAP_ADDR,
  DEFINE_DMA_UNMAP_LEN,
  dmaUnmapAddr,
  dmaUnmapAddrSet,
  dmaUnmapLen,
  dmaUnmapLenSet,
  needDmaMapState,
} from './unmap-state.ts';

/** A driver's receive buffer, mapped, written to by the device, and unmapped by what was kept. */
function receive(options: DirectRigOptions) {
  const rig = directRig(options);
  const { kernel, dev } = rig;
  const buffer = { mapping: DEFINE_DMA_UNMAP_ADDR(kernel), length: DEFINE_DMA_UNMAP_LEN(kernel) };
  const other = DEFINE_DMA_UNMAP_ADDR(kernel);
  const mem = getFreePage(kernel, GFP_KERNEL)!;
  mem.bytes.fill(0x41);
  const addr = dmaMapSingle(dev, mem, DMA_FROM_DEVICE);
  dmaUnmapAddrSet(buffer.mapping, addr);
  dmaUnmapLenSet(buffer.length, mem.size);
  rig.deviceWrite(addr, new Uint8Array(4096).fill(0x42));
  const kept = [dmaUnmapAddr(buffer.mapping), dmaUnmapLen(buffer.length), dmaUnmapAddr(other)];
  dmaUnmapSingle(dev, dmaUnmapAddr(buffer.mapping), dmaUnmapLen(buffer.length), DMA_FROM_DEVICE);
  return { kept, seen: mem.bytes[4095], addr, kernel };
}

test('with NEED_DMA_MAP_STATE, what a driver stores is there when it unmaps', () => {
  const { kept, seen, addr, kernel } = receive({ coherent: false });
  assert.deepEqual(kept, [addr, 4096, 0]);
  assert.equal(seen, 0x42);
  assert.equal(needDmaMapState(kernel), true);
});
test('without it nothing is kept, which is enough on a coherent machine', () => {
  const { kept, seen, kernel } = receive({ coherent: true, kernel: { config: { NEED_DMA_MAP_STATE: false } } });
  assert.deepEqual(kept, [0, 0, 0]);
  assert.equal(seen, 0x42);
  assert.equal(needDmaMapState(kernel), false);
});
test('a kernel without it on a machine that needs it loses what the device wrote', () => {
  const { seen } = receive({ coherent: false, kernel: { config: { NEED_DMA_MAP_STATE: false } } });
  assert.equal(seen, 0x41);
});

test('with NEED_SG_DMA_LENGTH a segment has two lengths, without it one', () => {
  for (const needed of [true, false]) {
    const { kernel, dev } = directRig({ kernel: { config: { NEED_SG_DMA_LENGTH: needed } } });
    const { config } = kernel.options;
    const sg = sgAlloc(1, config);
    sgSetBuf(sg, getFreePage(kernel, GFP_KERNEL)!.slice(16, 100));
    assert.equal(sgDmaLen(sg), needed ? 0 : 100);
    assert.equal(dmaMapSg(dev, sg, 1, DMA_FROM_DEVICE), 1);
    assert.deepEqual([sg.length, sg.dmaLength], [100, 100]);
    dmaUnmapSg(dev, sg, 1, DMA_FROM_DEVICE);
    // What an IOMMU that merges writes there.
    sg.dmaLength = 4096;
    assert.equal(sg.length, needed ? 100 : 4096);
    const table = new SgTable();
    sgAllocTable(table, 200, GFP_KERNEL, config);
    table.sgl.length = 7;
    assert.equal(sgDmaLen(table.sgl), needed ? 0 : 7);
  }
});
