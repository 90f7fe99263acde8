/** Replays `map_sg`: how many bus segments a scatterlist becomes, and which. */
import { DMA_TO_DEVICE } from '../../kernel/index.ts';
import {
  dmaBitMask,
  dmaGetMergeBoundary,
  dmaMapSg,
  dmaMaxMappingSize,
  dmaOptMappingSize,
  dmaSetMaskAndCoherent,
  dmaSetMaxSegSize,
  dmaSetSegBoundary,
  dmaUnmapSg,
  type Scatterlist,
  SIZE_MAX,
  sgAlloc,
  sgNext,
  sgPhys,
  sgSetPage,
} from '../../mapping/index.ts';
import { type Fields, GoldenError } from './golden.ts';
import { type HiddenEvent, passHistory, withOtherBouncers } from './history.ts';
import { AddressLists } from './iova-replay.ts';
import type { AddressKind, CaseOutcome } from './outcome.ts';
import type { Rig } from './rig.ts';

interface Entry {
  readonly offset: number;
  readonly length: number;
}
const MAX_ENTRIES = 4096;
const MAX_ENTRY_BYTES = 2 ** 21;

/** @internal The limits, then a case for each list. */
export async function replaySg(
  rig: Rig,
  result: Fields,
  history: readonly HiddenEvent[],
  last: number,
): Promise<CaseOutcome[]> {
  const { dev } = rig;
  dmaSetMaskAndCoherent(dev, dmaBitMask(result.has('mask') ? result.number('mask', 0, 64) : 32));
  const size = (bytes: number) => (bytes >= SIZE_MAX ? '0xffffffffffffffff' : `0x${bytes.toString(16)}`);
  const limits: Record<string, string> = {
    max_mapping_size: size(dmaMaxMappingSize(dev)),
    opt_mapping_size: size(dmaOptMappingSize(dev)),
    merge_boundary: size(dmaGetMergeBoundary(dev)),
  };
  const recorded = Object.fromEntries(Object.keys(limits).map((key) => [key, result.raw(key)]));
  const outcomes: CaseOutcome[] = [{ name: 'limits', expected: recorded, got: limits }];
  const lists = new AddressLists();
  for (const [i, entry] of result.objects('cases').entries()) {
    if (i + 1 > last) return outcomes;
    await passHistory(rig, history, i + 1);
    const once = async (): Promise<CaseOutcome> => replayList(rig, entry, lists);
    outcomes.push(await withOtherBouncers(rig, await once(), lists, once));
  }
  return outcomes;
}

function replayList(rig: Rig, entry: Fields, lists: AddressLists): CaseOutcome {
  const { dev } = rig;
  dmaSetMaxSegSize(dev, entry.number('max_seg', 1, 2 ** 32 - 1));
  dmaSetSegBoundary(dev, entry.number('boundary', 0, 2 ** 52));
  const entries = readEntries(entry);
  const sgl = sgAlloc(entries.length);
  let sg: Scatterlist | null = sgl;
  for (const { offset, length } of entries) {
    // One page more than it takes, so that no two entries are physically contiguous.
    const order = Math.max(1, Math.ceil(Math.log2((offset + length) / 4096 + 1)));
    sgSetPage(sg!, rig.pages(order), length, offset);
    sg = sgNext(sg!);
  }
  const ret = dmaMapSg(dev, sgl, entries.length, DMA_TO_DEVICE);
  const kind = ret > 0 ? rig.kindOf(sgl.dmaAddress) : 'page';
  const got: Record<string, unknown> = { ret, out: segments(sgl, ret, kind) };
  if (entry.has('iova_to_phys_ok')) got.iova_to_phys_ok = ret > 0 && showsItsMemory(rig, sgl, entries.length) ? 1 : 0;
  if (ret > 0) dmaUnmapSg(dev, sgl, entries.length, DMA_TO_DEVICE);
  rig.release();
  return compareList(rig, entry, got, ret > 0 ? sgl.dmaAddress : null, lists);
}

function compareList(
  rig: Rig,
  entry: Fields,
  got: Record<string, unknown>,
  first: number | null,
  lists: AddressLists,
): CaseOutcome {
  const kind = first === null ? 'page' : rig.kindOf(first);
  const expected: Record<string, unknown> = { ret: entry.raw('ret'), out: reduceSegments(entry.list('out'), kind) };
  if (got.iova_to_phys_ok !== undefined) expected.iova_to_phys_ok = entry.raw('iova_to_phys_ok');
  const name = entry.has('name') ? entry.text('name') : entry.where;
  if (first === null) return { name, expected, got };
  const address = lists.reduce(rig, [String(entry.raw('first_addr'))], [first]);
  expected.first_addr = address.expected[0];
  got.first_addr = address.got[0];
  return { name, expected, got, bounce: address.bounce };
}

/** @internal The entries of a list: [offset in the page, length]. */
export function readEntries(entry: Fields): Entry[] {
  const list = entry.list('in');
  if (list.length === 0 || list.length > MAX_ENTRIES) {
    throw new GoldenError(`${entry.where}.in: expected 1 to ${MAX_ENTRIES} entries, found ${list.length}`);
  }
  return list.map((pair, i) => {
    const [offset, length] = Array.isArray(pair) ? pair : [];
    const ok = (n: unknown): n is number =>
      Number.isInteger(n) && (n as number) >= 0 && (n as number) <= MAX_ENTRY_BYTES;
    if (ok(offset) && ok(length)) return { offset, length };
    throw new GoldenError(`${entry.where}.in[${i}]: expected [offset, length], found ${JSON.stringify(pair)}`);
  });
}

/** Bus segments. Without an IOMMU how far apart they are is up to the page allocator. */
function segments(sgl: Scatterlist, count: number, kind: AddressKind): unknown[] {
  const out: unknown[] = [];
  let sg: Scatterlist | null = sgl;
  for (let i = 0; i < count && sg !== null; i++, sg = sgNext(sg)) {
    const rel = sg.dmaAddress - sgl.dmaAddress;
    out.push({ rel: kind === 'page' ? null : rel, low12: sg.dmaAddress % 4096, len: sg.dmaLength });
  }
  return out;
}
function reduceSegments(out: readonly unknown[], kind: AddressKind): unknown[] {
  if (kind !== 'page') return [...out];
  return out.map((segment) => ({ ...(segment as object), rel: null }));
}

/** Whether the bus segments, in order, show exactly the entries' memory. */
function showsItsMemory(rig: Rig, sgl: Scatterlist, nents: number): boolean {
  let bus: Scatterlist | null = sgl;
  let used = 0;
  let sg: Scatterlist | null = sgl;
  for (let i = 0; i < nents && sg !== null; i++, sg = sgNext(sg)) {
    for (let done = 0; done < sg.length; ) {
      if (bus === null || bus.dmaLength === 0) return false;
      const span = Math.min(sg.length - done, bus.dmaLength - used, 4096 - ((sgPhys(sg) + done) % 4096));
      if (rig.physOf((bus.dmaAddress + used) as Scatterlist['dmaAddress']) !== sgPhys(sg) + done) return false;
      done += span;
      used += span;
      if (used === bus.dmaLength) {
        bus = sgNext(bus);
        used = 0;
      }
    }
  }
  return true;
}
