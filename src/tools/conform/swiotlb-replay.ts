/** Replays `swiotlb`: which slots a bounce takes, in which order, and what is copied when. */
import {
  DMA_BIDIRECTIONAL,
  DMA_FROM_DEVICE,
  DMA_TO_DEVICE,
  type DmaDataDirection,
  type Mem,
  type Page,
} from '../../kernel/index.ts';
import {
  DMA_ATTR_SKIP_CPU_SYNC,
  DMA_MAPPING_ERROR,
  dmaBitMask,
  dmaMapPage,
  dmaMapPageAttrs,
  dmaMaxMappingSize,
  dmaNeedSync,
  dmaSetMaskAndCoherent,
  dmaSetMinAlignMask,
  dmaSyncSingleRangeForCpu,
  dmaSyncSingleRangeForDevice,
  dmaUnmapPage,
  dmaUnmapPageAttrs,
} from '../../mapping/index.ts';
import { type Fields, GoldenError } from './golden.ts';
import { type HiddenEvent, passHistory, withOtherBouncers } from './history.ts';
import { AddressLists, MappingScript, replayStep } from './iova-replay.ts';
import type { CaseOutcome } from './outcome.ts';
import type { Rig } from './rig.ts';

const BUFFER_PAGES = 128;
const BUFFER_BYTES = BUFFER_PAGES * 4096;
/** Bytes of the buffer in which the copies are observed. */
const CONTENT_BYTES = 512;
/** A mapping that failed still says what the kernel printed of its slot: the low bits of all ones. */
const SLOT_MASK = 2047;

/** @internal A case for each mapping, each step of the order, and each direction. */
export async function replaySwiotlb(
  rig: Rig,
  result: Fields,
  history: readonly HiddenEvent[],
  last: number,
): Promise<CaseOutcome[]> {
  const outcomes: CaseOutcome[] = [];
  const lists = new AddressLists();
  dmaSetMaskAndCoherent(rig.dev, dmaBitMask(64));
  const page = rig.pagesAt(result.number('buf_phys', 0, 2 ** 52), BUFFER_PAGES);
  for (const entry of result.objects('cases')) {
    const mask = entry.number('min_align_mask', 0, 2 ** 32 - 1);
    dmaSetMinAlignMask(rig.dev, mask);
    const name = `min_align_mask 0x${mask.toString(16)}`;
    outcomes.push({
      name: `${name}: largest mapping`,
      expected: entry.number('max_mapping_size', 0, Number.MAX_SAFE_INTEGER),
      got: dmaMaxMappingSize(rig.dev),
    });
    for (const map of entry.objects('maps')) {
      if (outcomes.length > last) return outcomes;
      await passHistory(rig, history, outcomes.length);
      const once = async (): Promise<CaseOutcome> => replayMap(rig, page, map, name, lists);
      outcomes.push(await withOtherBouncers(rig, await once(), lists, once));
    }
  }
  dmaSetMinAlignMask(rig.dev, 0);
  const script = new MappingScript(rig);
  for (const step of result.objects('order')) {
    if (outcomes.length > last) return outcomes;
    await passHistory(rig, history, outcomes.length);
    outcomes.push(await replayStep(rig, script, step, lists));
  }
  script.end();
  for (const content of result.objects('content')) outcomes.push(replayContent(rig, page, content));
  return outcomes;
}

function replayMap(rig: Rig, page: Page, map: Fields, name: string, lists: AddressLists): CaseOutcome {
  const offset = map.number('off', 0, BUFFER_BYTES);
  const size = map.number('size', 1, BUFFER_BYTES - offset);
  const addr = dmaMapPage(rig.dev, page, offset, size, DMA_TO_DEVICE);
  const { expected, got, bounce } = lists.reduce(rig, [map.text('addr')], [addr]);
  if (addr !== DMA_MAPPING_ERROR) dmaUnmapPage(rig.dev, addr, size, DMA_TO_DEVICE);
  const inSlot = addr === DMA_MAPPING_ERROR ? SLOT_MASK : addr % (SLOT_MASK + 1);
  return {
    name: `${name}: offset ${offset} size ${size}`,
    expected: { addr: expected[0], in_slot: map.raw('in_slot') },
    got: { addr: got[0], in_slot: inSlot },
    bounce,
  };
}

const DIRECTIONS: Record<string, DmaDataDirection> = {
  BIDIR: DMA_BIDIRECTIONAL,
  TO: DMA_TO_DEVICE,
  FROM: DMA_FROM_DEVICE,
};
const letter = (text: string) => text.charCodeAt(0);
/** The letters at some offsets. */
const lettersAt = (mem: Mem, ...offsets: number[]) =>
  String.fromCharCode(...offsets.map((offset) => mem.bytes[offset]!));

/** A: the original; B: the device wrote; C: the CPU wrote later; D: the device wrote after that. */
function replayContent(rig: Rig, page: Page, entry: Fields): CaseOutcome {
  const direction = entry.text('dir');
  const dir = DIRECTIONS[direction];
  if (dir === undefined) throw new GoldenError(`${entry.where}.dir: expected BIDIR, TO or FROM, found '${direction}'`);
  const skip = entry.number('skip_cpu_sync', 0, 1);
  const attrs = skip === 1 ? DMA_ATTR_SKIP_CPU_SYNC : 0;
  const { dev } = rig;
  const original = rig.memoryAt(rig.physOfPage(page), CONTENT_BYTES);
  original.bytes.fill(letter('A'));
  const addr = dmaMapPageAttrs(dev, page, 0, CONTENT_BYTES, dir, attrs);
  if (addr === DMA_MAPPING_ERROR) return { name: `content ${direction}`, expected: 'a mapping', got: 'none' };
  const phys = rig.physOf(addr);
  const seen = rig.memoryAt(phys, CONTENT_BYTES);
  const got: Record<string, unknown> = {
    dir: direction,
    skip_cpu_sync: skip,
    bounced: phys === original.phys ? 0 : 1,
    need_sync: dmaNeedSync(dev, addr) ? 1 : 0,
    after_map_bounce_is_orig: seen.bytes.every((byte) => byte === letter('A')) ? 1 : 0,
  };
  seen.bytes.fill(letter('B'));
  dmaSyncSingleRangeForCpu(dev, addr, 128, 64, dir);
  got.after_sync_cpu_128_64_orig = lettersAt(original, 127, 128, 191, 192);
  original.bytes.fill(letter('C'));
  dmaSyncSingleRangeForDevice(dev, addr, 256, 64, dir);
  got.after_sync_dev_256_64_bounce = lettersAt(seen, 255, 256, 319, 320);
  seen.bytes.fill(letter('D'));
  dmaUnmapPageAttrs(dev, addr, CONTENT_BYTES, dir, attrs);
  got.after_unmap_orig = lettersAt(original, 0, CONTENT_BYTES - 1);
  const expected = Object.fromEntries(Object.keys(got).map((key) => [key, entry.raw(key)]));
  return { name: `content ${direction}${skip === 1 ? ' skip_cpu_sync' : ''}`, expected, got };
}
