/** Replays `dma_pool`: where 200 blocks lie, and which come back first. */
import { GFP_KERNEL } from '../../kernel/index.ts';
import {
  type DmaCoherent,
  type DmaPool,
  dmaPoolAlloc,
  dmaPoolCreate,
  dmaPoolDestroy,
  dmaPoolFree,
} from '../../mapping/index.ts';
import type { Fields } from './golden.ts';
import type { CaseOutcome } from './outcome.ts';
import type { Rig } from './rig.ts';

const BLOCKS = 200;
const FREED = 20;

/** @internal A case for each pool. */
export async function replayPools(rig: Rig, result: Fields): Promise<CaseOutcome[]> {
  return result.objects('cases').map((entry) => {
    const size = entry.number('size', 0, 2 ** 31);
    const align = entry.number('align', 0, 2 ** 31);
    const boundary = entry.number('boundary', 0, 2 ** 31);
    const pool = dmaPoolCreate('conform', rig.dev, size, align, boundary);
    const got = pool === null ? { created: 0 } : { created: 1, ...usePool(pool) };
    const expected = Object.fromEntries(Object.keys(got).map((key) => [key, entry.raw(key)]));
    return { name: `size ${size} align ${align} boundary ${boundary}`, expected, got };
  });
}

function usePool(pool: DmaPool): Record<string, unknown> {
  const blocks: DmaCoherent[] = [];
  for (let i = 0; i < BLOCKS; i++) {
    const block = dmaPoolAlloc(pool, GFP_KERNEL);
    if (block === null) break;
    blocks.push(block);
  }
  const handles = blocks.map(({ handle }) => handle);
  const pages: number[] = [];
  const places = handles.map((handle) => {
    const page = Math.floor(handle / 4096);
    if (!pages.includes(page)) pages.push(page);
    return [pages.indexOf(page), handle % 4096];
  });
  const sameOffset = blocks.every(({ mem, handle }) => mem.phys % 4096 === handle % 4096);
  for (let i = 0; i < 2 * FREED; i += 2) dmaPoolFree(pool, blocks[i]!.mem, handles[i]!);
  const again: number[] = [];
  for (let i = 0; i < FREED; i++) again.push(handles.indexOf(dmaPoolAlloc(pool, GFP_KERNEL)!.handle));
  for (const [i, block] of blocks.entries()) dmaPoolFree(pool, block.mem, handles[i]!);
  dmaPoolDestroy(pool);
  return {
    alloc_page_off: places,
    pages: pages.length,
    page0_low12: handles[0]! % 4096,
    cpu_low12_eq_dma_low12: sameOffset ? 1 : 0,
    after_free_even_0_38_ascending_alloc20: again,
  };
}
