/**
 * Memory of user space: movable pages that the kernel may move elsewhere at any time (to empty a CMA area, say), unless
 * they are pinned. A driver that gives them to a device pins them for as long as the device may use them.
 */
import { PAGE_SIZE } from '../base/addr.ts';
import { EFAULT, EINVAL, ENOMEM, type Errno, OK } from '../base/errno.ts';
import { mightSleep } from './context.ts';
import { FrameFlag, MigrateType, PAGEBLOCK_ORDER, type Page } from './frame-table.ts';
import { __GFP_ZERO, GFP_HIGHUSER_MOVABLE, GFP_USER } from './gfp.ts';
import type { Kernel } from './kernel.ts';
import { splat } from './panic.ts';

/** The pages will be written to. @linux FOLL_WRITE */
export const FOLL_WRITE = 1 << 0;
/** The pin may last: pages in CMA areas are moved out of them first. @linux FOLL_LONGTERM */
export const FOLL_LONGTERM = 1 << 8;

/** Which page of which memory a frame is. */
class UserPage {
  readonly memory: UserMemory;
  readonly index: number;
  /** User space has given it up; the last unpin frees it. */
  orphan = false;

  constructor(memory: UserMemory, index: number) {
    this.memory = memory;
    this.index = index;
  }
}

/** A range of user space. */
export class UserMemory {
  readonly kernel: Kernel;
  readonly sizeBytes: number;
  /** Where each page lies now; a migration changes it. */
  readonly pages: Page[] = [];
  freed = false;

  /** @internal Use `userAlloc`. */
  constructor(kernel: Kernel, sizeBytes: number) {
    this.kernel = kernel;
    this.sizeBytes = sizeBytes;
  }
  /** Store as the program does. Throws `RangeError` outside. */
  write(offset: number, bytes: Uint8Array): void {
    this.#each(offset, bytes.length, (page, at, done) => page.set(bytes.subarray(done, done + page.length - at), at));
  }
  /** Load as the program does. Throws `RangeError` outside. */
  read(offset: number, sizeBytes: number): Uint8Array {
    const bytes = new Uint8Array(sizeBytes);
    this.#each(offset, sizeBytes, (page, at, done) => bytes.set(page.subarray(at, at + sizeBytes - done), done));
    return bytes;
  }
  #each(offset: number, sizeBytes: number, visit: (page: Uint8Array, at: number, done: number) => void): void {
    if (this.freed || offset < 0 || sizeBytes < 0 || offset + sizeBytes > this.sizeBytes) {
      throw new RangeError(`[${offset}, ${offset + sizeBytes}) lies outside user memory of ${this.sizeBytes} bytes`);
    }
    const { frames } = this.kernel.pages;
    for (let done = 0; done < sizeBytes; ) {
      const at = (offset + done) % PAGE_SIZE;
      const page = this.pages[Math.floor((offset + done) / PAGE_SIZE)]!;
      visit(frames.mem(frames.indexOf(page), PAGE_SIZE).bytes, at, done);
      done += PAGE_SIZE - at;
    }
  }
}

const KEY = {};
/** Let user memory follow its pages. */
function follow(kernel: Kernel): true {
  const { frames, migrateHooks } = kernel.pages;
  migrateHooks.push((from, to) => {
    const owner = frames.owner(frames.indexOf(from));
    if (owner instanceof UserPage) owner.memory.pages[owner.index] = to;
    return true;
  });
  return true;
}

/** Zeroed memory for a program; null when there is none. May sleep. */
export function userAlloc(kernel: Kernel, sizeBytes: number): UserMemory | null {
  kernel.subsystem(KEY, follow);
  const memory = new UserMemory(kernel, sizeBytes);
  const { frames } = kernel.pages;
  for (let i = 0; i * PAGE_SIZE < sizeBytes; i++) {
    const page = kernel.pages.alloc(GFP_HIGHUSER_MOVABLE | __GFP_ZERO, 0);
    if (page === null) {
      userFree(memory);
      return null;
    }
    memory.pages.push(page);
    frames.setOwner(frames.indexOf(page), 1, new UserPage(memory, i));
  }
  return memory;
}
/** The program is done with its memory, or has died. Pages that are pinned stay until they are unpinned. */
export function userFree(memory: UserMemory): void {
  const { kernel, pages } = memory;
  const { frames } = kernel.pages;
  memory.freed = true;
  for (const page of pages) {
    const index = frames.indexOf(page);
    const owner = frames.owner(index) as UserPage;
    if (frames.pins[index] !== 0) {
      owner.orphan = true;
      continue;
    }
    frames.setOwner(index, 1, null);
    kernel.pages.release(page, 0);
  }
  pages.length = 0;
}

/**
 * Keep `count` pages of user memory from page `start` on where they are, and fill `pages` with them. Returns how many were
 * pinned; EFAULT when they do not exist, EINVAL for unknown flags, ENOMEM when with FOLL_LONGTERM there is no room to move
 * a page out of a CMA area. Undo it with `unpinUserPages`. May sleep. @linux pin_user_pages
 */
export function pinUserPages(
  memory: UserMemory,
  start: number,
  count: number,
  gupFlags: number,
  pages: Page[],
): number | Errno {
  const { kernel } = memory;
  mightSleep(kernel, 'mm/gup.c: pin_user_pages');
  if ((gupFlags & ~(FOLL_WRITE | FOLL_LONGTERM)) !== 0) return EINVAL;
  if (memory.freed || start < 0 || count < 1 || start + count > memory.pages.length) return EFAULT;
  const { frames } = kernel.pages;
  if ((gupFlags & FOLL_LONGTERM) !== 0) {
    for (let i = start; i < start + count; i++) if (leaveCma(memory, i) !== OK) return ENOMEM;
  }
  pages.length = 0;
  for (let i = start; i < start + count; i++) {
    const page = memory.pages[i]!;
    const index = frames.indexOf(page);
    frames.pins[index] = frames.pins[index]! + 1;
    pages.push(page);
  }
  return count;
}
/** A page that stays for long must not block an area that is lent (migrate_longterm_unpinnable_folios). */
function leaveCma(memory: UserMemory, at: number): Errno {
  const { pages } = memory.kernel;
  const { frames } = pages;
  const from = memory.pages[at]!;
  const old = frames.indexOf(from);
  if (frames.blockType[old >>> PAGEBLOCK_ORDER] !== MigrateType.CMA) return OK;
  const to = pages.alloc(GFP_USER, 0);
  if (to === null) return ENOMEM;
  const index = frames.indexOf(to);
  frames.copy(index, old, 1);
  frames.flags[index] = FrameFlag.MOVABLE;
  frames.setOwner(index, 1, frames.owner(old));
  frames.setOwner(old, 1, null);
  memory.pages[at] = to;
  pages.release(from, 0);
  return OK;
}
/** Let pinned pages go; each as often as it was pinned. A page that is not pinned is reported. Any context. @linux unpin_user_pages */
export function unpinUserPages(kernel: Kernel, pages: readonly Page[]): void {
  for (const page of pages) unpinUserPage(kernel, page);
}
/** @linux unpin_user_page */
export function unpinUserPage(kernel: Kernel, page: Page): void {
  const { frames } = kernel.pages;
  const index = frames.indexOf(page);
  if (index < 0 || frames.pins[index] === 0) {
    splat(kernel, 'memory', `WARNING: at mm/gup.c unpin_user_page: page ${page} is not pinned`);
    return;
  }
  frames.pins[index] = frames.pins[index]! - 1;
  const owner = frames.owner(index);
  if (frames.pins[index] !== 0 || !(owner instanceof UserPage) || !owner.orphan) return;
  frames.setOwner(index, 1, null);
  kernel.pages.release(page, 0);
}
