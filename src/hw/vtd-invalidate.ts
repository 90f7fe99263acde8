/** What invalidations of a VT-d unit make it forget; the same for commands by register and by queue. */
import { offsetIn } from '../base/addr.ts';
import type { ContextCache, DomainCache } from './vtd-cache.ts';
import type { VtdConfig } from './vtd-config.ts';

/** Granularities, as commands encode them. */
export const GLOBAL = 1;
export const DOMAIN = 2;
/** Of contexts: one device, or some functions of it. */
export const DEVICE = 3;
/** Of translations: pages by address. */
export const PAGE = 3;

/** By the function mask of a command: bits of a source id that do not count. */
const FUNCTION_MASKS = [0, 4, 6, 7];
/** Bytes of an invalidation by address mask; a power at run time costs as much as the rest. */
const RANGE_BYTES = Array.from({ length: 64 }, (_, mask) => 4096 * 2 ** mask);
/** Ranges with a smaller mask are below 4 GiB. */
const OFFSET_BITS = 19;

/** See the file's head. */
export class VtdInvalidation {
  readonly #contexts: ContextCache;
  /** Translations by page size, and the tables of the last level. */
  readonly #translations: readonly DomainCache[];
  readonly #tables: DomainCache;
  readonly #pageSelective: boolean;
  readonly #maxAddressMask: number;

  constructor(config: VtdConfig, contexts: ContextCache, translations: readonly DomainCache[], tables: DomainCache) {
    this.#contexts = contexts;
    this.#translations = translations;
    this.#tables = tables;
    this.#pageSelective = config.pageSelective;
    this.#maxAddressMask = config.maxAddressMask;
  }

  /** Returns the granularity at which it was done. */
  contexts(granularity: number, domain: number, source: number, functionMask: number): number {
    if (granularity === GLOBAL) this.#contexts.dropAll();
    else if (granularity === DOMAIN) this.#contexts.dropDomain(domain);
    else this.#contexts.dropSource(domain, source, FUNCTION_MASKS[functionMask]!);
    return granularity;
  }

  /**
   * Pages: the 2^`mask` ones around `addr`; `leafOnly` promises that no table was changed but of the last level. Returns
   * the granularity at which it was done, 0 when it was not.
   */
  translations(granularity: number, domain: number, addr: number, mask: number, leafOnly: boolean): number {
    const caches = this.#translations;
    if (granularity === GLOBAL) {
      for (let i = 0; i < caches.length; i++) caches[i]!.dropAll();
      this.#tables.dropAll();
      return GLOBAL;
    }
    if (granularity === DOMAIN || !this.#pageSelective) {
      for (let i = 0; i < caches.length; i++) caches[i]!.dropDomain(domain);
      this.#tables.dropDomain(domain);
      return DOMAIN;
    }
    if (mask > this.#maxAddressMask) return 0;
    const sizeBytes = RANGE_BYTES[mask]!;
    const start = mask < OFFSET_BITS ? addr - offsetIn(addr, sizeBytes) : addr - (addr % sizeBytes);
    for (let i = 0; i < caches.length; i++) caches[i]!.dropRange(domain, start, sizeBytes);
    if (!leafOnly) this.#tables.dropRange(domain, start, sizeBytes);
    return PAGE;
  }
}
