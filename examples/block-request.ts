// The two stages in which a disk driver maps a request. First the block layer turns the request's pages into physical
// segments (blkRqMapSg), within the controller's limits; then the DMA API turns those into bus segments (dmaMapSg), which
// an IOMMU may merge further. The "disk" is a piece of memory that the board's DMA engine copies to.
import { addrAdd, EIO, ENOMEM, type Errno } from 'dmakit/base';
import {
  DMA_CTRL_ACK,
  DMA_PREP_INTERRUPT,
  describeOutstanding,
  dmaAsyncIssuePending,
  dmaenginePrepDmaMemcpy,
  dmaengineSubmit,
} from 'dmakit/dmaengine';
import {
  __freePages,
  allocPage,
  Completion,
  complete,
  DMA_FROM_DEVICE,
  DMA_TO_DEVICE,
  freePages,
  GFP_KERNEL,
  getFreePages,
  type Page,
  pageAddress,
  waitForCompletion,
} from 'dmakit/kernel';
import {
  Bio,
  blkdevDequeueRequest,
  blkEndRequest,
  blkQueueMaxSectors,
  blkQueueMaxSegments,
  blkRqMapSg,
  dmaMappingError,
  dmaMapSg,
  dmaMapSingle,
  dmaUnmapSg,
  dmaUnmapSingle,
  elvNextRequest,
  RequestQueue,
  SECTOR_SIZE,
  sgAlloc,
  sgAt,
  sgDmaAddress,
  sgDmaLen,
  submitBio,
} from 'dmakit/mapping';
import { defineDriver } from 'dmakit/tools';

const PAGES = 12;
const PAGE_BYTES = 4096;
const SECTORS_PER_PAGE = PAGE_BYTES / SECTOR_SIZE;
const DISK_ORDER = 4; // 16 pages

export default defineDriver({
  name: 'block-request',
  needs: 'memcpy',
  async main({ kernel, dev, chan, expect, expectBytes, log }) {
    const disk = getFreePages(kernel, GFP_KERNEL, DISK_ORDER);
    if (disk === null) return ENOMEM;
    const queue = new RequestQueue(kernel);
    blkQueueMaxSectors(queue, 5 * SECTORS_PER_PAGE);
    blkQueueMaxSegments(queue, 4);

    let ended = 0;
    const endIo = (error: Errno): void => {
      if (error === 0) ended++;
    };
    // Pages as a program might have them: after every third one memory goes on elsewhere.
    const pages: Page[] = [];
    for (let i = 0; i < 2 * PAGES; i++) {
      const page = allocPage(kernel, GFP_KERNEL);
      if (page === null) return ENOMEM;
      pages.push(page);
    }
    for (let i = 0; i < PAGES; i++) {
      const page = pages[i + Math.floor(i / 3)]!;
      pageAddress(kernel, page)!.bytes.fill(0x40 + i);
      const vecs = [{ page, offset: 0, length: PAGE_BYTES }];
      submitBio(queue, new Bio(i * SECTORS_PER_PAGE, DMA_TO_DEVICE, vecs, endIo));
    }

    const sgl = sgAlloc(queue.maxSegments);
    for (let request = elvNextRequest(queue); request !== null; request = elvNextRequest(queue)) {
      blkdevDequeueRequest(request);
      const segments = blkRqMapSg(queue, request, sgl);
      const count = dmaMapSg(dev, sgl, segments, request.dir);
      const at = request.sector * SECTOR_SIZE;
      const target = disk.slice(at, request.sectors * SECTOR_SIZE);
      const to = dmaMapSingle(dev, target, DMA_FROM_DEVICE);
      if (count === 0 || dmaMappingError(dev, to)) return ENOMEM;
      log(`${request.sectors} sectors at ${request.sector}: ${segments} physical segments, ${count} on the bus`);

      const done = new Completion(kernel, 'request');
      done.waitsFor = () => describeOutstanding(chan);
      let offset = 0;
      for (let i = 0; i < count; i++) {
        const sg = sgAt(sgl, i);
        const last = i === count - 1;
        const flags = DMA_CTRL_ACK | (last ? DMA_PREP_INTERRUPT : 0);
        const tx = dmaenginePrepDmaMemcpy(chan, addrAdd(to, offset), sgDmaAddress(sg), sgDmaLen(sg), flags);
        if (tx === null) return EIO;
        if (last) tx.callback = () => complete(done);
        dmaengineSubmit(tx);
        offset += sgDmaLen(sg);
      }
      dmaAsyncIssuePending(chan);
      await waitForCompletion(done);
      // Not `count`: what was mapped is `segments` entries.
      dmaUnmapSg(dev, sgl, segments, request.dir);
      dmaUnmapSingle(dev, to, target.size, DMA_FROM_DEVICE);
      blkEndRequest(request, 0 as Errno);
    }

    expect(ended === PAGES, `${ended} of ${PAGES} bios ended`);
    for (let i = 0; i < PAGES; i++) {
      expectBytes(disk.slice(i * PAGE_BYTES, PAGE_BYTES), 0x40 + i, `page ${i} of the disk`);
    }
    for (const page of pages) __freePages(kernel, page, 0);
    freePages(kernel, disk, DISK_ORDER);
    return 0;
  },
});
