/** Replays `dma_mask` and `dma_mask_descending`: which masks are taken, and what can be mapped with them. */
import { PAGE_SIZE } from '../../base/index.ts';
import { DMA_TO_DEVICE, GFP_KERNEL } from '../../kernel/index.ts';
import {
  DMA_MAPPING_ERROR,
  dmaAllocCoherent,
  dmaBitMask,
  dmaFreeCoherent,
  dmaGetRequiredMask,
  dmaMapPage,
  dmaSetCoherentMask,
  dmaSetMask,
  dmaUnmapPage,
} from '../../mapping/index.ts';
import type { Fields } from './golden.ts';
import { addressPart, type CaseOutcome, FAILED, hex, NULL_HANDLE } from './outcome.ts';
import type { Rig } from './rig.ts';

/** @internal A case for each mask. */
export async function replayMasks(rig: Rig, result: Fields): Promise<CaseOutcome[]> {
  const { dev } = rig;
  const outcomes: CaseOutcome[] = [];
  const held = new Map<number, ReturnType<Rig['pagesAt']>>();
  for (const entry of result.objects('cases')) {
    const bits = entry.number('bits', 0, 64);
    const got: Record<string, unknown> = {
      set_mask: dmaSetMask(dev, dmaBitMask(bits)),
      set_coherent_mask: dmaSetCoherentMask(dev, dmaBitMask(bits)),
      required: `0x${dmaGetRequiredMask(dev).toString(16)}`,
    };
    const expected: Record<string, unknown> = {};
    for (const key of Object.keys(got)) expected[key] = entry.raw(key);
    if (entry.has('phys')) {
      // Where the buffer lay is no decision of the mapping API; without an IOMMU it decides which masks reach it.
      const phys = entry.number('phys', 0, 2 ** 52);
      const page = rig.translated ? (held.get(-1) ?? rig.pages(0)) : (held.get(phys) ?? rig.pagesAt(phys, 1));
      held.set(rig.translated ? -1 : phys, page);
      tryMemory(rig, page, got);
    }
    for (const key of ['coherent4k', 'map4k']) {
      if (!entry.has(key) && got[key] === undefined) continue;
      const kind =
        key === 'map4k' && got[key] !== FAILED ? rig.kindOf(Number(got[key])) : rig.translated ? 'iova' : 'page';
      // One bounce at a time tells nothing of its place.
      expected[key] = addressPart(String(entry.raw(key)), kind, 0);
      got[key] = addressPart(String(got[key]), kind, 0);
    }
    outcomes.push({ name: `${bits} bits`, expected, got });
  }
  return outcomes;
}

function tryMemory(rig: Rig, page: ReturnType<Rig['pagesAt']>, got: Record<string, unknown>): void {
  const { dev } = rig;
  const memory = dmaAllocCoherent(dev, PAGE_SIZE, GFP_KERNEL);
  got.coherent4k = memory === null ? NULL_HANDLE : hex(memory.handle);
  if (memory !== null) dmaFreeCoherent(dev, PAGE_SIZE, memory.mem, memory.handle);
  const addr = dmaMapPage(dev, page, 0, PAGE_SIZE, DMA_TO_DEVICE);
  got.map4k = hex(addr);
  if (addr !== DMA_MAPPING_ERROR) dmaUnmapPage(dev, addr, PAGE_SIZE, DMA_TO_DEVICE);
}
