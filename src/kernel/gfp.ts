/** Get-free-page flags: where memory may come from, and what the allocator may do to get it. Values as in Linux 6.12. */

/** A set of the bits below. @linux gfp_t */
export type Gfp = number;

/** From ZONE_DMA only (on x86 the first 16 MiB). */
export const __GFP_DMA = 0x01;
/** May come from ZONE_HIGHMEM, which has no address in the linear map. @linux __GFP_HIGHMEM */
export const __GFP_HIGHMEM = 0x02;
/** From below 4 GiB. */
export const __GFP_DMA32 = 0x04;
/** May be migrated, so that it may lie in a CMA area. */
export const __GFP_MOVABLE = 0x08;
export const __GFP_RECLAIMABLE = 0x10;
/** High priority: may use half of the reserve. */
export const __GFP_HIGH = 0x20;
export const __GFP_IO = 0x40;
export const __GFP_FS = 0x80;
/** Filled with zeros. @linux __GFP_ZERO */
export const __GFP_ZERO = 0x100;
/** May sleep to get memory. */
export const __GFP_DIRECT_RECLAIM = 0x400;
export const __GFP_KSWAPD_RECLAIM = 0x800;
/** No message when it fails. @linux __GFP_NOWARN */
export const __GFP_NOWARN = 0x2000;
export const __GFP_RETRY_MAYFAIL = 0x4000;
export const __GFP_NOFAIL = 0x8000;
export const __GFP_NORETRY = 0x10000;
/** Use all of the reserve. */
export const __GFP_MEMALLOC = 0x20000;
/** A compound page. */
export const __GFP_COMP = 0x40000;
export const __GFP_NOMEMALLOC = 0x80000;
export const __GFP_HARDWALL = 0x100000;
export const __GFP_THISNODE = 0x200000;
export const __GFP_ACCOUNT = 0x400000;

export const __GFP_RECLAIM = __GFP_DIRECT_RECLAIM | __GFP_KSWAPD_RECLAIM;

/** Any context; never sleeps; may use the reserve. @linux GFP_ATOMIC */
export const GFP_ATOMIC = __GFP_HIGH | __GFP_KSWAPD_RECLAIM;
/** Process context; may sleep. @linux GFP_KERNEL */
export const GFP_KERNEL = __GFP_RECLAIM | __GFP_IO | __GFP_FS;
/** Any context; never sleeps; fails early and silently. */
export const GFP_NOWAIT = __GFP_KSWAPD_RECLAIM | __GFP_NOWARN;
export const GFP_NOIO = __GFP_RECLAIM;
export const GFP_NOFS = __GFP_RECLAIM | __GFP_IO;
export const GFP_USER = __GFP_RECLAIM | __GFP_IO | __GFP_FS | __GFP_HARDWALL;
/** From memory that the narrowest devices reach. @linux GFP_DMA */
export const GFP_DMA = __GFP_DMA;
/** From below 4 GiB. @linux GFP_DMA32 */
export const GFP_DMA32 = __GFP_DMA32;
export const GFP_HIGHUSER = GFP_USER | __GFP_HIGHMEM;
export const GFP_HIGHUSER_MOVABLE = GFP_HIGHUSER | __GFP_MOVABLE;

/** Composite names come first: they swallow their bits, as %pGg prints. */
const names: readonly (readonly [number, string])[] = [
  [GFP_HIGHUSER_MOVABLE, 'GFP_HIGHUSER_MOVABLE'],
  [GFP_HIGHUSER, 'GFP_HIGHUSER'],
  [GFP_USER, 'GFP_USER'],
  [GFP_KERNEL, 'GFP_KERNEL'],
  [GFP_NOFS, 'GFP_NOFS'],
  [GFP_ATOMIC, 'GFP_ATOMIC'],
  [GFP_NOIO, 'GFP_NOIO'],
  [GFP_NOWAIT, 'GFP_NOWAIT'],
  [__GFP_DMA, 'GFP_DMA'],
  [__GFP_HIGHMEM, '__GFP_HIGHMEM'],
  [__GFP_DMA32, 'GFP_DMA32'],
  [__GFP_HIGH, '__GFP_HIGH'],
  [__GFP_IO, '__GFP_IO'],
  [__GFP_FS, '__GFP_FS'],
  [__GFP_NOWARN, '__GFP_NOWARN'],
  [__GFP_RETRY_MAYFAIL, '__GFP_RETRY_MAYFAIL'],
  [__GFP_NOFAIL, '__GFP_NOFAIL'],
  [__GFP_NORETRY, '__GFP_NORETRY'],
  [__GFP_COMP, '__GFP_COMP'],
  [__GFP_ZERO, '__GFP_ZERO'],
  [__GFP_NOMEMALLOC, '__GFP_NOMEMALLOC'],
  [__GFP_MEMALLOC, '__GFP_MEMALLOC'],
  [__GFP_HARDWALL, '__GFP_HARDWALL'],
  [__GFP_THISNODE, '__GFP_THISNODE'],
  [__GFP_RECLAIMABLE, '__GFP_RECLAIMABLE'],
  [__GFP_MOVABLE, '__GFP_MOVABLE'],
  [__GFP_ACCOUNT, '__GFP_ACCOUNT'],
  [__GFP_RECLAIM, '__GFP_RECLAIM'],
  [__GFP_DIRECT_RECLAIM, '__GFP_DIRECT_RECLAIM'],
  [__GFP_KSWAPD_RECLAIM, '__GFP_KSWAPD_RECLAIM'],
];

/** Flags as the kernel's %pGg prints them: `GFP_KERNEL|GFP_DMA`. */
export function gfpNames(gfp: Gfp): string {
  const found: string[] = [];
  let rest = gfp;
  for (const [bits, name] of names) {
    if (rest !== 0 && (rest & bits) === bits) {
      found.push(name);
      rest &= ~bits;
    }
  }
  if (rest !== 0) found.push(`0x${rest.toString(16)}`);
  return found.length === 0 ? 'none' : found.join('|');
}

/** Whether the allocator may sleep. @linux gfpflags_allow_blocking */
export function gfpflagsAllowBlocking(gfp: Gfp): boolean {
  return (gfp & __GFP_DIRECT_RECLAIM) !== 0;
}
