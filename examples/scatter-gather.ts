// Gathers pages that lie anywhere in memory into one buffer: the list is mapped once, and each segment of it is a
// descriptor of its own, all queued before the first one starts.

import { addrAdd, EIO, ENOMEM } from 'dmakit/base';
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
  dmaMappingError,
  dmaMapSg,
  dmaMapSingle,
  dmaUnmapSg,
  dmaUnmapSingle,
  sgAlloc,
  sgAt,
  sgDmaAddress,
  sgDmaLen,
  sgSetPage,
} from 'dmakit/mapping';
import { defineDriver } from 'dmakit/tools';

const PAGES = 8;
const ORDER = 3; // 8 pages
const PAGE_BYTES = 4096;

export default defineDriver({
  name: 'scatter-gather',
  needs: 'memcpy',
  async main({ kernel, dev, chan, expectBytes }) {
    const target = getFreePages(kernel, GFP_KERNEL, ORDER);
    const pages: Page[] = [];
    const list = sgAlloc(PAGES);
    for (let i = 0; i < PAGES; i++) {
      const page = allocPage(kernel, GFP_KERNEL);
      if (page === null || target === null) return ENOMEM;
      pages.push(page);
      pageAddress(kernel, page)!.bytes.fill(0x10 + i);
      sgSetPage(sgAt(list, i), page, PAGE_BYTES, 0);
    }
    if (target === null) return ENOMEM;

    // What the pages are for the device may be fewer segments than pages: nents is what dmaMapSg returns.
    const nents = dmaMapSg(dev, list, PAGES, DMA_TO_DEVICE);
    const to = dmaMapSingle(dev, target, DMA_FROM_DEVICE);
    if (nents === 0 || dmaMappingError(dev, to)) return ENOMEM;

    const done = new Completion(kernel, 'all segments');
    done.waitsFor = () => describeOutstanding(chan);
    let offset = 0;
    for (let i = 0; i < nents; i++) {
      const sg = sgAt(list, i);
      const flags = DMA_CTRL_ACK | (i === nents - 1 ? DMA_PREP_INTERRUPT : 0);
      const tx = dmaenginePrepDmaMemcpy(chan, addrAdd(to, offset), sgDmaAddress(sg), sgDmaLen(sg), flags);
      if (tx === null) return EIO;
      if (i === nents - 1) tx.callback = () => complete(done);
      dmaengineSubmit(tx);
      offset += sgDmaLen(sg);
    }
    dmaAsyncIssuePending(chan);
    await waitForCompletion(done);

    // Unmapping takes the list as it was given to dmaMapSg: PAGES, not nents.
    dmaUnmapSg(dev, list, PAGES, DMA_TO_DEVICE);
    dmaUnmapSingle(dev, to, target.size, DMA_FROM_DEVICE);
    for (let i = 0; i < PAGES; i++) {
      expectBytes(target.slice(i * PAGE_BYTES, PAGE_BYTES), 0x10 + i, `page ${i} of the target`);
    }
    for (const page of pages) __freePages(kernel, page, 0);
    freePages(kernel, target, ORDER);
    return 0;
  },
});
