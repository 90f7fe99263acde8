/** What invalidations of a VT-d unit make it forget; the same for commands by register and by queue. */
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
const PAGE_BYTES = 4096;

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
    const sizeBytes = mask === 0 ? PAGE_BYTES : PAGE_BYTES * 2 ** mask;
    const start = mask === 0 ? addr : addr - (addr % sizeBytes);
    for (let i = 0; i < caches.length; i++) caches[i]!.dropRange(domain, start, sizeBytes);
    if (!leafOnly) this.#tables.dropRange(domain, start, sizeBytes);
    return PAGE;
  }
}
