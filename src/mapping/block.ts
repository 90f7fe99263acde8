/**
 * The block layer's side of DMA, as far as the DMA documents teach it: a queue with the controller's limits, bios that are
 * merged into requests within them, and the two stages of mapping one: physical segments (`blkRqMapSg`), then bus segments
 * (`dmaMapSg`). The names are those of the documents; where Linux 6.12 has dropped one, that is said.
 */
import { PAGE_SIZE, pfnOf } from '../base/addr.ts';
import type { Errno } from '../base/errno.ts';
import { List, ListNode } from '../base/list.ts';
import { DMA_FROM_DEVICE, DMA_TO_DEVICE } from '../kernel/dma-direction.ts';
import { __GFP_DMA, GFP_NOIO, type Gfp } from '../kernel/gfp.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { __freePages, allocPages, type Page, pageToPhys } from '../kernel/page-alloc.ts';
import { type Scatterlist, sgMarkEnd, sgNext, sgSetPage, sgUnmarkEnd } from './scatterlist.ts';

/** @linux SECTOR_SIZE */
export const SECTOR_SIZE = 512;
/** No page bounces. Historical. @linux BLK_BOUNCE_ANY */
export const BLK_BOUNCE_ANY = Number.MAX_SAFE_INTEGER;
/** Pages above ISA's 16 MiB bounce. Historical. @linux BLK_BOUNCE_ISA */
export const BLK_BOUNCE_ISA = 0x00ff_ffff;
/** Limits of a queue whose driver sets none. @linux BLK_SAFE_MAX_SECTORS, BLK_MAX_SEGMENTS, BLK_MAX_SEGMENT_SIZE, BLK_SEG_BOUNDARY_MASK */
export const BLK_DEFAULT_LIMITS = {
  maxSectors: 255,
  maxSegments: 128,
  maxSegmentSize: 65536,
  segBoundaryMask: 0xffff_ffff,
} as const;

/** Part of a page (or of the pages from it on). @linux struct bio_vec */
export interface BioVec {
  readonly page: Page;
  readonly offset: number;
  readonly length: number;
}
/** One transfer between sectors and memory. @linux struct bio */
export class Bio {
  readonly sector: number;
  /** DMA_TO_DEVICE writes to the disk, DMA_FROM_DEVICE reads from it. */
  readonly dir: typeof DMA_TO_DEVICE | typeof DMA_FROM_DEVICE;
  readonly vecs: readonly BioVec[];
  /** Called when it has ended. */
  readonly endIo: (error: Errno) => void;
  /** @internal What the controller is given instead, after `blkQueueBounce`. */
  used: readonly BioVec[];

  constructor(sector: number, dir: Bio['dir'], vecs: readonly BioVec[], endIo: (error: Errno) => void) {
    this.sector = sector;
    this.dir = dir;
    this.vecs = vecs;
    this.used = vecs;
    this.endIo = endIo;
  }
  get sectors(): number {
    return this.vecs.reduce((sum, { length }) => sum + length, 0) / SECTOR_SIZE;
  }
}
/** Bios of adjacent sectors that the controller serves as one. @linux struct request */
export class BlkRequest extends ListNode {
  readonly queue: RequestQueue;
  readonly bios: Bio[];

  /** @internal */
  constructor(queue: RequestQueue, bio: Bio) {
    super();
    this.queue = queue;
    this.bios = [bio];
  }
  /** @linux blk_rq_pos */
  get sector(): number {
    return this.bios[0]!.sector;
  }
  /** @linux blk_rq_sectors */
  get sectors(): number {
    return this.bios.reduce((sum, bio) => sum + bio.sectors, 0);
  }
  /** As the DMA API wants it. @linux rq_dma_dir */
  get dir(): Bio['dir'] {
    return this.bios[0]!.dir;
  }
  /** How many physical segments it has within the queue's limits: as many entries as `blkRqMapSg` fills. @linux blk_rq_nr_phys_segments */
  get nrPhysSegments(): number {
    return countSegments(this.queue, this.bios);
  }
}
/** A controller's queue and its limits. @linux struct request_queue */
export class RequestQueue {
  readonly kernel: Kernel;
  readonly pending = new List<BlkRequest>('requests');
  maxSectors: number = BLK_DEFAULT_LIMITS.maxSectors;
  maxSegments: number = BLK_DEFAULT_LIMITS.maxSegments;
  maxSegmentSize: number = BLK_DEFAULT_LIMITS.maxSegmentSize;
  segBoundaryMask: number = BLK_DEFAULT_LIMITS.segBoundaryMask;
  /** The last physical address that the controller reaches. */
  bounceLimit: number = BLK_BOUNCE_ANY;

  constructor(kernel: Kernel) {
    this.kernel = kernel;
  }
}

/** The most sectors of a request. @linux blk_queue_max_sectors, blk_queue_max_hw_sectors */
export function blkQueueMaxSectors(queue: RequestQueue, sectors: number): void {
  queue.maxSectors = Math.max(sectors, PAGE_SIZE / SECTOR_SIZE);
}
/** The most physical segments of a request. @linux blk_queue_max_segments, blk_queue_max_phys_segments */
export function blkQueueMaxSegments(queue: RequestQueue, segments: number): void {
  queue.maxSegments = Math.max(segments, 1);
}
/** The most bytes of a segment, at least a page. @linux blk_queue_max_segment_size */
export function blkQueueMaxSegmentSize(queue: RequestQueue, sizeBytes: number): void {
  queue.maxSegmentSize = Math.max(sizeBytes, PAGE_SIZE);
}
/** No segment crosses a multiple of this plus one, at least a page. @linux blk_queue_segment_boundary */
export function blkQueueSegmentBoundary(queue: RequestQueue, mask: number): void {
  queue.segBoundaryMask = Math.max(mask, PAGE_SIZE - 1);
}
/** Pages above `limit`, a physical address or BLK_BOUNCE_…, are copied to pages below. Historical. @linux blk_queue_bounce_limit */
export function blkQueueBounceLimit(queue: RequestQueue, limit: number): void {
  queue.bounceLimit = limit;
}

/** Bytes of `vec` from `done` on that fit in one segment (get_max_segment_size). */
function segmentBytes(queue: RequestQueue, phys: number, left: number): number {
  const toBoundary = queue.segBoundaryMask + 1 - (phys % (queue.segBoundaryMask + 1));
  return Math.min(left, queue.maxSegmentSize, toBoundary);
}
/** Call `segment` with each physical segment: contiguous pieces merged within the limits. Returns how many there are. */
function eachSegment(
  queue: RequestQueue,
  bios: readonly Bio[],
  segment: ((phys: number, bytes: number) => void) | null,
): number {
  let count = 0;
  let start = -1;
  let length = 0;
  for (const { used } of bios) {
    for (const { page, offset, length: bytes } of used) {
      const first = pageToPhys(page) + offset;
      for (let done = 0; done < bytes; ) {
        const phys = first + done;
        const open = start >= 0 && start + length === phys ? segmentBytes(queue, start, length + bytes - done) : 0;
        if (open > length) {
          done += open - length;
          length = open;
          continue;
        }
        if (start >= 0) segment?.(start, length);
        count++;
        start = phys;
        length = segmentBytes(queue, phys, bytes - done);
        done += length;
      }
    }
  }
  if (start >= 0) segment?.(start, length);
  return count;
}
function countSegments(queue: RequestQueue, bios: readonly Bio[]): number {
  return eachSegment(queue, bios, null);
}

/**
 * First stage: fill `sgl` with the request's physical segments, contiguous memory merged as far as the queue's limits
 * allow, and mark its end. Returns how many entries were filled; `sgl` must have room for `nrPhysSegments`. The second
 * stage is `dmaMapSg` with that number. @linux blk_rq_map_sg
 */
export function blkRqMapSg(queue: RequestQueue, request: BlkRequest, sgl: Scatterlist): number {
  let sg: Scatterlist | null = null;
  const count = eachSegment(queue, request.bios, (phys, bytes) => {
    if (sg === null) sg = sgl;
    else {
      // A table that was used for a shorter request ends too early.
      sgUnmarkEnd(sg);
      sg = sgNext(sg);
    }
    if (sg === null)
      throw new RangeError(`the scatterlist is shorter than the request's ${request.nrPhysSegments} segments`);
    sgSetPage(sg, pfnOf(phys) as Page, bytes, phys % PAGE_SIZE);
  });
  if (sg !== null) sgMarkEnd(sg);
  return count;
}

/** Give the controller's queue a bio: it joins the end of a waiting request of adjacent sectors if the limits allow. @linux submit_bio */
export function submitBio(queue: RequestQueue, bio: Bio): boolean {
  if (!blkQueueBounce(queue, bio)) return false;
  for (const request of queue.pending) {
    const adjacent = request.sector + request.sectors === bio.sector && request.dir === bio.dir;
    if (!adjacent || request.sectors + bio.sectors > queue.maxSectors) continue;
    if (countSegments(queue, [...request.bios, bio]) > queue.maxSegments) continue;
    request.bios.push(bio);
    return true;
  }
  queue.pending.pushBack(new BlkRequest(queue, bio));
  return true;
}
/** The request to serve next, which stays in the queue until `blkdevDequeueRequest`; null when there is none. Historical. @linux elv_next_request */
export function elvNextRequest(queue: RequestQueue): BlkRequest | null {
  return queue.pending.first;
}
/** Take a request that is being served out of the queue. Historical. @linux blkdev_dequeue_request */
export function blkdevDequeueRequest(request: BlkRequest): void {
  request.queue.pending.remove(request);
}
/** The request is done: its bios learn of it, bounced pages are copied back and freed. @linux blk_end_request_all */
export function blkEndRequest(request: BlkRequest, error: Errno): void {
  for (const bio of request.bios) {
    unbounce(request.queue, bio);
    bio.endIo(error);
  }
}

/** Replace pages that the controller does not reach. False without memory for that. @linux blk_queue_bounce */
export function blkQueueBounce(queue: RequestQueue, bio: Bio): boolean {
  const far = (vec: BioVec): boolean => pageToPhys(vec.page) + vec.offset + vec.length - 1 > queue.bounceLimit;
  if (!bio.vecs.some(far)) return true;
  const used: BioVec[] = [];
  for (const vec of bio.vecs) {
    const near = far(vec) ? bouncePage(queue, vec) : vec;
    if (near === null) {
      bio.used = used;
      unbounce(queue, bio);
      return false;
    }
    if (near !== vec && bio.dir === DMA_TO_DEVICE) copyVec(queue.kernel, near, vec);
    used.push(near);
  }
  bio.used = used;
  return true;
}
function bouncePage(queue: RequestQueue, vec: BioVec): BioVec | null {
  const { kernel, bounceLimit } = queue;
  const zone: Gfp = bounceLimit <= kernel.pages.zoneDmaLimit ? __GFP_DMA : 0;
  const order = Math.ceil(Math.log2(Math.ceil((vec.offset + vec.length) / PAGE_SIZE)));
  const page = allocPages(kernel, GFP_NOIO | zone, order);
  if (page === null) return null;
  if (pageToPhys(page) + (PAGE_SIZE << order) - 1 <= bounceLimit) return { ...vec, page };
  __freePages(kernel, page, order);
  return null;
}
function unbounce(queue: RequestQueue, bio: Bio): void {
  bio.used.forEach((near, i) => {
    const vec = bio.vecs[i]!;
    if (near === vec) return;
    if (bio.dir === DMA_FROM_DEVICE) copyVec(queue.kernel, vec, near);
    const order = Math.ceil(Math.log2(Math.ceil((vec.offset + vec.length) / PAGE_SIZE)));
    __freePages(queue.kernel, near.page, order);
  });
  bio.used = bio.vecs;
}
/** By the CPU, which reaches HIGHMEM through a mapping of its own. */
function copyVec(kernel: Kernel, to: BioVec, from: BioVec): void {
  const bytesOf = ({ page, offset, length }: BioVec): Uint8Array => {
    const bank = kernel.machine.bankAt(pageToPhys(page))!;
    const at = pageToPhys(page) + offset - bank.base;
    return bank.cpu.subarray(at, at + length);
  };
  bytesOf(to).set(bytesOf(from));
}
