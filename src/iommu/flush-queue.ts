/**
 * The flush queue of lazy mode: unmapped ranges wait in a ring, and are given back to the allocator only after the
 * whole domain was invalidated, which one invalidation does for many: when the ring is full, or every 10 ms. Until
 * then the device can still reach what was unmapped.
 */
import type { Kernel } from '../kernel/kernel.ts';
import { delTimerSync, KernelTimer, modTimer } from '../kernel/timer.ts';
import type { IommuDomain } from './domain.ts';
import { freeIovaFast, type IovaRcaches } from './iova-rcache.ts';
import { iommuObserver } from './observer.ts';

/** Entries of the ring of one CPU. (Linux: IOVA_DEFAULT_FQ_SIZE) */
const IOVA_DEFAULT_FQ_SIZE = 256;
/** (Linux: IOVA_DEFAULT_FQ_TIMEOUT) */
const IOVA_DEFAULT_FQ_TIMEOUT_NS = 10_000_000;

/** See the file's head. @linux iova_fq */
export class FlushQueue {
  readonly #kernel: Kernel;
  readonly #domain: IommuDomain;
  readonly #rcaches: IovaRcaches;
  readonly #pfns = new Float64Array(IOVA_DEFAULT_FQ_SIZE);
  readonly #pages = new Float64Array(IOVA_DEFAULT_FQ_SIZE);
  /** How many flushes had started when the entry was queued: it may go when one that started later is over. */
  readonly #counters = new Float64Array(IOVA_DEFAULT_FQ_SIZE);
  #head = 0;
  #tail = 0;
  #flushesStarted = 0;
  #flushesFinished = 0;
  readonly #timer: KernelTimer;

  /** @linux iommu_dma_init_fq */
  constructor(kernel: Kernel, domain: IommuDomain, rcaches: IovaRcaches) {
    this.#kernel = kernel;
    this.#domain = domain;
    this.#rcaches = rcaches;
    this.#timer = new KernelTimer(kernel, () => this.flush(), 'fq_timer');
  }

  /** Ranges that wait. */
  get length(): number {
    return (this.#tail - this.#head + IOVA_DEFAULT_FQ_SIZE) % IOVA_DEFAULT_FQ_SIZE;
  }

  /** Queue a range that was unmapped. Any context. @linux queue_iova */
  queue(pfn: number, pages: number): void {
    this.freeFlushed();
    if ((this.#tail + 1) % IOVA_DEFAULT_FQ_SIZE === this.#head) {
      this.flushIotlb();
      this.freeFlushed();
    }
    const index = this.#tail;
    this.#tail = (index + 1) % IOVA_DEFAULT_FQ_SIZE;
    this.#pfns[index] = pfn;
    this.#pages[index] = pages;
    this.#counters[index] = this.#flushesStarted;
    if (!this.#timer.pending) modTimer(this.#timer, IOVA_DEFAULT_FQ_TIMEOUT_NS);
  }

  /** Invalidate now, and give every waiting range back. */
  flush(): void {
    this.flushIotlb();
    this.freeFlushed();
  }

  /** As `flush`, and stop the timer. */
  destroy(): void {
    delTimerSync(this.#timer);
    this.flush();
  }

  /** Invalidate the domain; what waited before may go. @linux fq_flush_iotlb */
  flushIotlb(): void {
    this.#flushesStarted++;
    this.#domain.flushIotlbAll();
    this.#flushesFinished++;
    iommuObserver(this.#kernel)?.flushQueue?.(this.#domain, this.length);
  }

  /** Give back what an invalidation has covered. @linux fq_ring_free */
  freeFlushed(): void {
    while (this.#head !== this.#tail) {
      const index = this.#head;
      if (this.#counters[index]! >= this.#flushesFinished) return;
      freeIovaFast(this.#rcaches, this.#pfns[index]!, this.#pages[index]!);
      this.#head = (index + 1) % IOVA_DEFAULT_FQ_SIZE;
    }
  }
}
