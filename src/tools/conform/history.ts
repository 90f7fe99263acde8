/**
 * What happened on the recorded machine and is not in the file: earlier users of the bounce buffers, cases that an excerpt
 * leaves out, time that passed between two cases. It cannot be computed, and it shows only in which addresses come
 * next. A history is a list of such events; the replay goes through them like through everything else.
 */
import { allocPages, DMA_TO_DEVICE, GFP_KERNEL, msleep } from '../../kernel/index.ts';
import { DMA_MAPPING_ERROR, dmaMapPage, dmaUnmapPage } from '../../mapping/index.ts';
import type { AddressLists } from './iova-replay.ts';
import { agrees, type CaseOutcome, SEGMENT_SLOTS } from './outcome.ts';
import type { Rig } from './rig.ts';

/** Something unseen before case number `before`. */
export type HiddenEvent =
  /** Somebody mapped and unmapped this many pages in one piece. */
  | { readonly before: number; readonly what: 'map'; readonly pages: number }
  /** Long enough for a flush queue's timer. */
  | { readonly before: number; readonly what: 'wait' };

const PAGE_ORDER_OF_HISTORY = 6;
const FLUSH_MS = 30;

/** Let the events before case `index` happen. */
export async function passHistory(rig: Rig, history: readonly HiddenEvent[], index: number): Promise<void> {
  for (const event of history) {
    if (event.before !== index) continue;
    if (event.what === 'wait') await msleep(rig.kernel, FLUSH_MS);
    else mapOnce(rig, event.pages * 4096);
    rig.unseenEvents++;
  }
}

/** Returns the address that was handed out. */
function mapOnce(rig: Rig, bytes: number): number {
  const page = allocPages(rig.kernel, GFP_KERNEL, PAGE_ORDER_OF_HISTORY);
  if (page === null) return DMA_MAPPING_ERROR;
  const addr = dmaMapPage(rig.dev, page, 0, bytes, DMA_TO_DEVICE);
  if (addr !== DMA_MAPPING_ERROR) dmaUnmapPage(rig.dev, addr, bytes, DMA_TO_DEVICE);
  rig.kernel.pages.release(page, PAGE_ORDER_OF_HISTORY);
  return addr;
}

/** A bounce that may not cross a boundary, or needs an alignment, begins less than this many slots further on. */
const NEARBY_SLOTS = 32;
/** Cases left out of an excerpt take fewer slots than this. */
const MOST_SKIPPED = 4096;

/**
 * The next search of the pool of bounce buffers begins where the last one ended. Other users, and cases that are not
 * shown, move that place: a case whose bounces came out some slots before the recorded ones is repeated with small
 * buffers bounced before it, until it comes out right. Returns the outcome to be counted.
 */
export async function withOtherBouncers(
  rig: Rig,
  outcome: CaseOutcome,
  lists: AddressLists,
  repeat: () => Promise<CaseOutcome>,
): Promise<CaseOutcome> {
  const { bounce } = outcome;
  if (bounce === undefined) return outcome;
  const first = lists.isFirst;
  lists.settle();
  if (agrees(outcome)) return outcome;
  // Before the first one nobody has told where the recorded pool's segments begin: all that counts is the place in one.
  const slots = first ? (bounce.slotsBehind + SEGMENT_SLOTS) % SEGMENT_SLOTS : bounce.slotsBehind;
  if (slots < 0 || slots > MOST_SKIPPED) return outcome;
  for (let nearby = 0; nearby < NEARBY_SLOTS; nearby++) {
    if (!beginAt(rig, bounce.slot + slots - nearby)) break;
    if (first) lists.forget();
    const again = await repeat();
    if (!agrees(again)) continue;
    rig.unseenEvents++;
    return again;
  }
  return outcome;
}

/** Bounce small buffers until the next search begins at this slot of the pool. False when it cannot be. */
function beginAt(rig: Rig, wanted: number): boolean {
  const { poolSlots } = rig;
  const slot = ((wanted % poolSlots) + poolSlots) % poolSlots;
  for (let i = 0; i <= poolSlots; i++) {
    const at = mapOnce(rig, 64);
    if (at === DMA_MAPPING_ERROR) return false;
    if ((Math.floor((at - rig.poolStart) / 2048) + 1) % poolSlots === slot) return true;
  }
  return false;
}
