import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PAGE_SIZE } from '../base/addr.ts';
import { EIO, OK } from '../base/errno.ts';
import { DMA_FROM_DEVICE, DMA_TO_DEVICE } from '../kernel/dma-direction.ts';
import { GFP_KERNEL, type Kernel } from '../kernel/index.ts';
import { allocPages, type Page, pageToPhys } from '../kernel/page-alloc.ts';
import {
  Bio,
  type BioVec,
  BLK_BOUNCE_ANY,
  BLK_BOUNCE_ISA,
  blkdevDequeueRequest,
  blkEndRequest,
  blkQueueBounceLimit,
  blkQueueMaxSectors,
  blkQueueMaxSegmentSize,
  blkQueueMaxSegments,
  blkQueueSegmentBoundary,
  blkRqMapSg,
  elvNextRequest,
  RequestQueue,
  submitBio,
} from './block.ts';
import { directRig } from './direct-rig.cases.ts';
import { forEachSg, sgAlloc, sgNents, sgPhys } from './scatterlist.ts';
import { dmaMapSg, dmaUnmapSg } from './sg.ts';

const MIB = 2 ** 20;
const ends: number[] = [];
const done = (error: number): void => {
  ends.push(error);
};
/** A rig, a queue, and 32 contiguous pages. */
function make() {
  ends.length = 0;
  const rig = directRig({ ram: [{ base: 0, sizeBytes: 32 * MIB }] });
  return { ...rig, queue: new RequestQueue(rig.kernel), first: allocPages(rig.kernel, GFP_KERNEL, 5)! };
}
const vec = (first: Page, pages: number, offset = 0, length = PAGE_SIZE): BioVec => ({
  page: (first + pages) as Page,
  offset,
  length,
});
function segments(queue: RequestQueue, base: Page): number[][] {
  const request = elvNextRequest(queue)!;
  const sgl = sgAlloc(64);
  const nents = blkRqMapSg(queue, request, sgl);
  assert.equal(nents, request.nrPhysSegments);
  assert.equal(sgNents(sgl), nents, 'the end is marked');
  const found: number[][] = [];
  forEachSg(sgl, nents, (sg) => found.push([sgPhys(sg) - pageToPhys(base), sg.length]));
  return found;
}

test('contiguous memory becomes one physical segment, across bios', () => {
  const { queue, first } = make();
  submitBio(queue, new Bio(0, DMA_TO_DEVICE, [vec(first, 0), vec(first, 1), vec(first, 4)], done));
  submitBio(queue, new Bio(24, DMA_TO_DEVICE, [vec(first, 5), vec(first, 6, 0, 512)], done));
  assert.deepEqual(segments(queue, first), [
    [0, 2 * PAGE_SIZE],
    [4 * PAGE_SIZE, 2 * PAGE_SIZE + 512],
  ]);
});
test('a segment keeps to the queue’s size and boundary', () => {
  const { queue, first } = make();
  blkQueueMaxSegmentSize(queue, 3 * PAGE_SIZE);
  submitBio(queue, new Bio(0, DMA_TO_DEVICE, [vec(first, 0, 512, 7 * PAGE_SIZE)], done));
  assert.deepEqual(segments(queue, first), [
    [512, 3 * PAGE_SIZE],
    [512 + 3 * PAGE_SIZE, 3 * PAGE_SIZE],
    [512 + 6 * PAGE_SIZE, PAGE_SIZE],
  ]);
  blkQueueSegmentBoundary(queue, 2 * PAGE_SIZE - 1);
  assert.equal(pageToPhys(first) % (2 * PAGE_SIZE), 0);
  assert.deepEqual(segments(queue, first).slice(0, 2), [
    [512, 2 * PAGE_SIZE - 512],
    [2 * PAGE_SIZE, 2 * PAGE_SIZE],
  ]);
});
test('bios join a request until a limit is reached', () => {
  const { queue, first } = make();
  const bio = (sector: number, page: number, dir: Bio['dir'] = DMA_TO_DEVICE): Bio =>
    new Bio(sector, dir, [vec(first, page)], done);
  blkQueueMaxSectors(queue, 16);
  for (const [sector, page] of [
    [0, 0],
    [8, 1],
    [16, 2],
  ] as const) {
    submitBio(queue, bio(sector, page));
  }
  assert.deepEqual(
    [...queue.pending].map(({ sector, sectors }) => [sector, sectors]),
    [
      [0, 16],
      [16, 8],
    ],
  );
  submitBio(queue, bio(24, 3, DMA_FROM_DEVICE));
  assert.equal(queue.pending.length, 3, 'reads and writes do not mix');
  blkQueueMaxSegments(queue, 1);
  submitBio(queue, bio(32, 9, DMA_FROM_DEVICE));
  assert.equal(queue.pending.length, 4, 'a second segment is one too many');
});
test('the second stage makes bus segments of the physical ones; unmapping takes their number', () => {
  const rig = make();
  const { queue, first, dev } = rig;
  submitBio(queue, new Bio(0, DMA_FROM_DEVICE, [vec(first, 0), vec(first, 1), vec(first, 3)], done));
  const request = elvNextRequest(queue)!;
  blkdevDequeueRequest(request);
  assert.equal(elvNextRequest(queue), null);
  const sgl = sgAlloc(8);
  const nents = blkRqMapSg(queue, request, sgl);
  const count = dmaMapSg(dev, sgl, nents, request.dir);
  assert.ok(count > 0 && count <= nents);
  forEachSg(sgl, count, (sg) => rig.deviceWrite(sg.dmaAddress, new Uint8Array(sg.dmaLength).fill(0x55)));
  dmaUnmapSg(dev, sgl, nents, request.dir);
  blkEndRequest(request, OK);
  assert.deepEqual(ends, [OK]);
});
test('a table serves longer requests after shorter ones', () => {
  const { queue, first } = make();
  const sgl = sgAlloc(4);
  for (const pages of [1, 3, 2]) {
    const vecs = Array.from({ length: pages }, (_, i) => vec(first, 2 * i));
    submitBio(queue, new Bio(0, DMA_TO_DEVICE, vecs, done));
    const request = elvNextRequest(queue)!;
    assert.equal(blkRqMapSg(queue, request, sgl), pages);
    assert.equal(sgNents(sgl), pages);
    blkdevDequeueRequest(request);
  }
  submitBio(
    queue,
    new Bio(
      0,
      DMA_TO_DEVICE,
      [0, 2, 4, 6, 8].map((i) => vec(first, i)),
      done,
    ),
  );
  assert.throws(() => blkRqMapSg(queue, elvNextRequest(queue)!, sgl), RangeError);
});

function pageAbove(kernel: Kernel, limit: number): Page {
  for (;;) {
    const page = allocPages(kernel, GFP_KERNEL, 0);
    assert.ok(page !== null);
    if (pageToPhys(page) > limit) return page;
  }
}
test('pages above the bounce limit are copied, to the disk before it and from the disk after it', () => {
  const rig = make();
  const { kernel, queue, deviceRead, deviceWrite } = rig;
  const far = pageAbove(kernel, BLK_BOUNCE_ISA);
  const bytes = kernel.pages.frames.mem(kernel.pages.frames.indexOf(far), PAGE_SIZE).bytes;
  blkQueueBounceLimit(queue, BLK_BOUNCE_ISA);
  const free = kernel.pages.freePages;
  for (const dir of [DMA_TO_DEVICE, DMA_FROM_DEVICE] as const) {
    bytes.fill(0x11);
    submitBio(queue, new Bio(0, dir, [vec(far, 0, 512, 1024)], done));
    const request = elvNextRequest(queue)!;
    const sgl = sgAlloc(1);
    assert.equal(blkRqMapSg(queue, request, sgl), 1);
    assert.ok(sgPhys(sgl) <= BLK_BOUNCE_ISA);
    assert.equal(deviceRead(sgPhys(sgl) as never, 1)?.[0] === 0x11, dir === DMA_TO_DEVICE);
    deviceWrite(sgPhys(sgl) as never, new Uint8Array(1024).fill(0x22));
    blkdevDequeueRequest(request);
    blkEndRequest(request, EIO);
    assert.deepEqual([bytes[511], bytes[512], bytes[1536]], [0x11, dir === DMA_TO_DEVICE ? 0x11 : 0x22, 0x11]);
  }
  assert.equal(kernel.pages.freePages, free);
  assert.deepEqual(ends, [EIO, EIO]);
  blkQueueBounceLimit(queue, BLK_BOUNCE_ANY);
  submitBio(queue, new Bio(0, DMA_TO_DEVICE, [vec(far, 0)], done));
  assert.deepEqual(segments(queue, far), [[0, PAGE_SIZE]]);
});
test('without memory to bounce to, the bio is refused', () => {
  const { kernel, queue } = make();
  const far = pageAbove(kernel, BLK_BOUNCE_ISA);
  blkQueueBounceLimit(queue, PAGE_SIZE);
  assert.equal(submitBio(queue, new Bio(0, DMA_TO_DEVICE, [vec(far, 0)], done)), false);
  assert.equal(elvNextRequest(queue), null);
});
