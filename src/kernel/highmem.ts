/** Temporary pointers to pages: HIGHMEM pages have none of their own. */
import { PAGE_SIZE } from '../base/addr.ts';
import type { Mem } from '../machine/mem.ts';
import { mightSleep } from './context.ts';
import type { Kernel } from './kernel.ts';
import { type Page, PageHighMem } from './page-alloc.ts';
import { splat } from './panic.ts';

/** Pointers of HIGHMEM pages that are in use, with how many use each. */
class Kmaps {
  readonly live = new Map<Page, { readonly mem: Mem; users: number }>();
}
const KEY = {};
const makeKmaps = (): Kmaps => new Kmaps();

/**
 * A pointer to a page, until `kunmap`. That of a HIGHMEM page is no address of the linear map: map the page itself for
 * DMA. May sleep, to wait for a free slot. @linux kmap
 */
export async function kmap(kernel: Kernel, page: Page): Promise<Mem> {
  mightSleep(kernel, 'mm/highmem.c: kmap');
  return kmapLocalPage(kernel, page);
}
/** @linux kunmap */
export function kunmap(kernel: Kernel, page: Page): void {
  if (!PageHighMem(kernel, page)) return;
  const { live } = kernel.subsystem(KEY, makeKmaps);
  const entry = live.get(page);
  if (entry === undefined) {
    splat(kernel, 'memory', `BUG: kunmap of page 0x${page.toString(16)}, which is not mapped`);
    return;
  }
  entry.users--;
  if (entry.users > 0) return;
  entry.mem.freed = true;
  live.delete(page);
}
/** As `kmap`, for a short time in one context; never sleeps. @linux kmap_local_page, kmap_atomic */
export function kmapLocalPage(kernel: Kernel, page: Page): Mem {
  const { frames } = kernel.pages;
  const index = frames.indexOf(page);
  if (index < 0) throw new Error(`kmap: no RAM at page frame 0x${page.toString(16)}`);
  if (!PageHighMem(kernel, page)) return frames.newMem(index, PAGE_SIZE, true);
  const { live } = kernel.subsystem(KEY, makeKmaps);
  const entry = live.get(page);
  if (entry !== undefined) {
    entry.users++;
    return entry.mem;
  }
  const mem = frames.newMem(index, PAGE_SIZE, false);
  live.set(page, { mem, users: 1 });
  return mem;
}
/** @linux kunmap_local, kunmap_atomic */
export function kunmapLocal(kernel: Kernel, mem: Mem): void {
  kunmap(kernel, (mem.phys / PAGE_SIZE) as Page);
}
