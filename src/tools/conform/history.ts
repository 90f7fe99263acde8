/**
 * What happened on the recorded machine and is not in the file: earlier users of the bounce buffers, cases that an excerpt
 * leaves out, time that passed between two cases. It cannot be computed, and it shows only in which addresses come
 * next. A history is a list of such events; the replay goes through them like through everything else.
 */
import { DMA_TO_DEVICE, msleep } from '../../kernel/index.ts';
import { DMA_MAPPING_ERROR, dmaMapPage, dmaUnmapPage } from '../../mapping/index.ts';
import type { Rig } from './rig.ts';

/** Something unseen before case number `before`. */
export type HiddenEvent =
  /** Somebody mapped and unmapped this many pages in one piece. */
  | { readonly before: number; readonly what: 'map'; readonly pages: number }
  /** Somebody bounced this many small buffers, one after another. */
  | { readonly before: number; readonly what: 'bounce'; readonly count: number }
  /** Long enough for a flush queue's timer. */
  | { readonly before: number; readonly what: 'wait' };

const PAGE_ORDER_OF_HISTORY = 6;
const FLUSH_MS = 30;

/** Let the events before case `index` happen. */
export async function passHistory(rig: Rig, history: readonly HiddenEvent[], index: number): Promise<void> {
  for (const event of history) {
    if (event.before !== index) continue;
    if (event.what === 'wait') await msleep(rig.kernel, FLUSH_MS);
    else if (event.what === 'map') mapOnce(rig, event.pages * 4096);
    else for (let i = 0; i < event.count; i++) mapOnce(rig, 64);
  }
}

function mapOnce(rig: Rig, bytes: number): void {
  const page = rig.pages(PAGE_ORDER_OF_HISTORY);
  const addr = dmaMapPage(rig.dev, page, 0, bytes, DMA_TO_DEVICE);
  if (addr !== DMA_MAPPING_ERROR) dmaUnmapPage(rig.dev, addr, bytes, DMA_TO_DEVICE);
  rig.kernel.pages.release(page, PAGE_ORDER_OF_HISTORY);
}
