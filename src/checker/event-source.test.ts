import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GFP_KERNEL, kfree, kmalloc } from '../kernel/index.ts';
import {
  DMA_FROM_DEVICE,
  dmaMappingError,
  dmaMapSg,
  dmaMapSingle,
  dmaSyncSingleForCpu,
  dmaUnmapSg,
  dmaUnmapSingle,
  sgAlloc,
  sgSetBuf,
} from '../mapping/index.ts';
import { attachEventStream } from './event-source.ts';
import { type DmakitEvent, eventLine } from './events.ts';
import { makeRig } from './rig.cases.ts';

/** A short run; its events as lines. */
async function eventsOf(seed: number): Promise<string[]> {
  const rig = makeRig({ seed, cacheNoise: 'on' });
  const lines: string[] = [];
  const stop = attachEventStream({ machine: rig.machine, kernel: rig.kernel, board: 'rig', mode: '', seed }, (event) =>
    lines.push(eventLine(event)),
  );
  await rig.kernel.run(async (kernel) => {
    for (let i = 0; i < 20; i++) {
      const mem = kmalloc(kernel, 512, GFP_KERNEL)!;
      const addr = dmaMapSingle(rig.a.dev, mem, DMA_FROM_DEVICE);
      dmaMappingError(rig.a.dev, addr);
      rig.a.write(addr, 512);
      for (let spin = 0; spin < 50; spin++) kernel.machine.cpuRelax();
      dmaSyncSingleForCpu(rig.a.dev, addr, 512, DMA_FROM_DEVICE);
      dmaUnmapSingle(rig.a.dev, addr, 512, DMA_FROM_DEVICE);
      kfree(kernel, mem);
    }
  });
  stop();
  rig.a.write(0x10_0000, 4);
  assert.deepEqual(rig.found().slice(0, -1), [], 'the checker listens beside it');
  return lines;
}

test('the same seed gives the same lines byte for byte, another seed does not', async () => {
  const first = await eventsOf(1);
  assert.deepEqual(await eventsOf(1), first);
  assert.notDeepEqual((await eventsOf(2)).slice(1), first.slice(1));
});

test('the first line is the header, and each line is one JSON object with time, context, task and kind first', async () => {
  const lines = await eventsOf(3);
  assert.equal(lines[0], '{"ev":"header","schema":"dmakit/events/1","board":"rig","mode":"","seed":3}');
  let last = 0;
  for (const line of lines.slice(1)) {
    const event = JSON.parse(line) as Exclude<DmakitEvent, { ev: 'header' }>;
    assert.deepEqual(Object.keys(event).slice(0, 4), ['t', 'ctx', 'task', 'ev']);
    assert.ok(event.t >= last);
    last = event.t;
  }
  const kinds = new Set(lines.map((line) => (JSON.parse(line) as DmakitEvent).ev));
  for (const kind of ['map', 'unmap', 'sync', 'mapping_error', 'bus_write', 'cache', 'kalloc', 'kfree'] as const) {
    assert.ok(kinds.has(kind), kind);
  }
});

test('a scatterlist is told with its segments', () => {
  const rig = makeRig();
  const events: DmakitEvent[] = [];
  attachEventStream(rig, (event) => events.push(event));
  const sg = sgAlloc(2);
  sgSetBuf(sg, rig.kmalloc(64));
  sgSetBuf(sg.following!, rig.kmalloc(128));
  assert.equal(dmaMapSg(rig.a.dev, sg, 2, DMA_FROM_DEVICE), 2);
  dmaUnmapSg(rig.a.dev, sg, 2, DMA_FROM_DEVICE);
  const mapped = events.find((event) => event.ev === 'map_sg');
  assert.deepEqual(mapped?.segments, [
    [sg.dmaAddress, 64],
    [sg.following!.dmaAddress, 128],
  ]);
  assert.equal(events.find((event) => event.ev === 'unmap_sg')?.nents, 2);
});
