/**
 * Queued invalidation: descriptors go into a ring in memory, each followed by one that makes the unit write a status
 * word, which the driver waits for.
 */
import { hi32, lo32, PAGE_SIZE, type PhysAddr } from '../base/addr.ts';
import { EINVAL, type Errno, OK } from '../base/errno.ts';
import { __GFP_ZERO } from '../kernel/gfp.ts';
import {
  GFP_ATOMIC,
  type Kernel,
  kfree,
  kmalloc,
  type Mem,
  memAt,
  pageToPhys,
  prErr,
  prInfo,
  readl,
  SpinLock,
  spinLock,
  spinLockIrqsave,
  spinUnlock,
  spinUnlockIrqrestore,
  writel,
} from '../kernel/index.ts';
import { __freePages, allocPages, type Page } from '../kernel/page-alloc.ts';
import { QI_CC, QI_IOTLB, QI_TYPE, QI_WAIT, VTD } from '../regs/vtd.ts';
import { FLUSH_PAGES, hex64, type IntelIommu } from './intel-iommu-unit.ts';

/** Descriptors of the ring. (QI_LENGTH) */
const QI_LENGTH = 256;
const DESC_SHIFT = 4;
const DESC_WORDS = 4;
// What a status word says. @linux QI_FREE, QI_IN_USE, QI_DONE
const QI_FREE = 0;
const QI_IN_USE = 1;
const QI_DONE = 2;
const { IQE, ICE, ITE } = VTD.FSTS;
const WAIT_WORD = QI_TYPE.WAIT | QI_WAIT.W0.SW.mask;
const TYPES: Readonly<Record<number, string>> = {
  [QI_TYPE.CONTEXT]: 'Context-cache Invalidation',
  [QI_TYPE.IOTLB]: 'IOTLB Invalidation',
  [QI_TYPE.DEVICE_IOTLB]: 'Device-TLB Invalidation',
  [QI_TYPE.INTERRUPT_ENTRY]: 'Interrupt Entry Cache Invalidation',
  [QI_TYPE.WAIT]: 'Invalidation Wait',
};

/** See the file's head. @linux struct q_inval, struct qi_desc */
export class IntelQi {
  readonly #unit: IntelIommu;
  readonly #kernel: Kernel;
  readonly #lock: SpinLock;
  readonly #page: Page;
  readonly #statusMem: Mem;
  readonly #descriptors: Int32Array;
  readonly #status: Int32Array;
  readonly #statusPhys: PhysAddr;
  /** What every IOTLB invalidation says besides: let accesses that are under way finish. */
  readonly #drain: number;
  #freeHead = 0;
  #freeTail = 0;
  #freeCount = QI_LENGTH;

  /** Null without memory. The queue is on afterwards. @linux dmar_enable_qi */
  static make(unit: IntelIommu): IntelQi | null {
    const { kernel } = unit;
    const page = allocPages(kernel, GFP_ATOMIC | __GFP_ZERO, 0);
    if (page === null) return null;
    const status = kmalloc(kernel, QI_LENGTH * 4, GFP_ATOMIC | __GFP_ZERO);
    if (status === null) {
      __freePages(kernel, page, 0);
      return null;
    }
    return new IntelQi(unit, page, status);
  }

  private constructor(unit: IntelIommu, page: Page, status: Mem) {
    const { kernel } = unit;
    this.#unit = unit;
    this.#kernel = kernel;
    this.#lock = new SpinLock(kernel, `${unit.name}.q_lock`);
    this.#page = page;
    const phys = pageToPhys(page);
    const { bytes } = memAt(kernel, phys, PAGE_SIZE);
    this.#descriptors = new Int32Array(bytes.buffer, bytes.byteOffset, PAGE_SIZE / 4);
    this.#statusMem = status;
    this.#statusPhys = status.phys;
    this.#status = new Int32Array(status.bytes.buffer, status.bytes.byteOffset, QI_LENGTH);
    const { DWD, DRD } = VTD.CAP_HI;
    this.#drain = (DWD.test(unit.capHi) ? QI_IOTLB.W0.DW.mask : 0) | (DRD.test(unit.capHi) ? QI_IOTLB.W0.DR.mask : 0);
    writel(0, unit.io, VTD.IQT.offset);
    writel(lo32(phys), unit.io, VTD.IQA.offset);
    writel(hi32(phys), unit.io, VTD.IQA_HI.offset);
    unit.switchQueue(true);
  }

  /** @linux qi_flush_context */
  flushContext(did: number, source: number, granularity: number): void {
    this.submit(QI_TYPE.CONTEXT | (granularity << QI_CC.W0.G.shift) | (did << 16), source, 0, 0);
  }
  /** @linux qi_flush_iotlb, qi_desc_iotlb */
  flushIotlb(did: number, addr: number, order: number, granularity: number, leafOnly: boolean): void {
    const w0 = QI_TYPE.IOTLB | (granularity << QI_IOTLB.W0.G.shift) | this.#drain | (did << 16);
    if (granularity !== FLUSH_PAGES) this.submit(w0, 0, 0, 0);
    else this.submit(w0, 0, lo32(addr) | order | (leafOnly ? QI_IOTLB.W2.IH.mask : 0), hi32(addr));
  }

  /**
   * Queue a descriptor, and wait until the unit has worked it off. EINVAL when the unit refuses it; the queue goes on
   * then. Any context. @linux qi_submit_sync
   */
  submit(w0: number, w1: number, w2: number, w3: number): Errno {
    const lock = this.#lock;
    const flags = spinLockIrqsave(lock);
    while (this.#freeCount < 3) this.#relax();
    const index = this.#freeHead;
    const waitIndex = (index + 1) % QI_LENGTH;
    const status = this.#status;
    this.#write(index, w0, w1, w2, w3);
    status[index] = QI_IN_USE;
    status[waitIndex] = QI_IN_USE;
    const statusPhys = this.#statusPhys + 4 * waitIndex;
    this.#write(waitIndex, WAIT_WORD, QI_DONE, lo32(statusPhys), hi32(statusPhys));
    this.#freeHead = (index + 2) % QI_LENGTH;
    this.#freeCount -= 2;
    writel(this.#freeHead << DESC_SHIFT, this.#unit.io, VTD.IQT.offset);
    let error: Errno = OK;
    while (status[waitIndex] !== QI_DONE) {
      // Reading the fault status also pushes the posted write of the tail.
      error = this.#checkFault(index, waitIndex);
      if (error !== OK) break;
      if (status[waitIndex] === QI_DONE) break;
      this.#relax();
    }
    status[index] = QI_FREE;
    status[waitIndex] = QI_FREE;
    this.#reclaim();
    spinUnlockIrqrestore(lock, flags);
    return error;
  }
  /** Others may queue meanwhile; interrupts stay off. */
  #relax(): void {
    spinUnlock(this.#lock);
    this.#kernel.machine.cpuRelax();
    spinLock(this.#lock);
  }
  #write(index: number, w0: number, w1: number, w2: number, w3: number): void {
    const at = index * DESC_WORDS;
    const descriptors = this.#descriptors;
    descriptors[at] = w0;
    descriptors[at + 1] = w1;
    descriptors[at + 2] = w2;
    descriptors[at + 3] = w3;
  }
  /** In the kernel: reclaim_free_desc. */
  #reclaim(): void {
    while (this.#status[this.#freeTail] === QI_FREE && this.#freeTail !== this.#freeHead) {
      this.#freeTail = (this.#freeTail + 1) % QI_LENGTH;
      this.#freeCount++;
    }
  }

  /** Whether the unit has stopped at what was just queued. (qi_check_fault) */
  #checkFault(index: number, waitIndex: number): Errno {
    const { io } = this.#unit;
    const fault = readl(io, VTD.FSTS.offset);
    if ((fault & (IQE.mask | ITE.mask | ICE.mask)) === 0) return OK;
    this.#dump(fault);
    if (IQE.test(fault)) {
      const head = readl(io, VTD.IQH.offset) >>> DESC_SHIFT;
      if (head === index) {
        const [qw0, qw1] = this.#words(index);
        prErr(this.#kernel, `DMAR: VT-d detected invalid descriptor: qw0 = ${qw0}, qw1 = ${qw1}`);
        // The unit goes on with a harmless one in its place.
        this.#descriptors.copyWithin(index * DESC_WORDS, waitIndex * DESC_WORDS, (waitIndex + 1) * DESC_WORDS);
        writel(IQE.mask, io, VTD.FSTS.offset);
        return EINVAL;
      }
    }
    if (ICE.test(fault)) {
      writel(ICE.mask, io, VTD.FSTS.offset);
      prInfo(this.#kernel, 'DMAR: Invalidation Completion Error (ICE) cleared');
    }
    if (ITE.test(fault)) {
      writel(ITE.mask, io, VTD.FSTS.offset);
      prInfo(this.#kernel, 'DMAR: Invalidation Time-out Error (ITE) cleared');
    }
    return OK;
  }
  #words(index: number): [string, string] {
    const word = (i: number) => this.#descriptors[index * DESC_WORDS + i]! >>> 0;
    return [hex64(word(0), word(1)), hex64(word(2), word(3))];
  }
  /** In the kernel: qi_dump_fault. */
  #dump(fault: number): void {
    const { io } = this.#unit;
    const kernel = this.#kernel;
    const head = readl(io, VTD.IQH.offset) >>> DESC_SHIFT;
    if (IQE.test(fault)) {
      const reason = VTD.IQERCD.IQEI.get(readl(io, VTD.IQERCD.offset));
      prErr(kernel, `DMAR: VT-d detected Invalidation Queue Error: Reason ${reason.toString(16)}`);
    }
    if (ITE.test(fault)) prErr(kernel, 'DMAR: VT-d detected Invalidation Time-out Error: SID 0');
    if (ICE.test(fault)) prErr(kernel, 'DMAR: VT-d detected Invalidation Completion Error: SID 0');
    for (const [which, at] of [
      ['HEAD', head],
      ['PRIOR', (head + QI_LENGTH - 1) % QI_LENGTH],
    ] as const) {
      const type = TYPES[this.#descriptors[at * DESC_WORDS]! & 0xf] ?? 'UNKNOWN';
      const [qw0, qw1] = this.#words(at);
      prErr(kernel, `DMAR: QI ${which}: ${type} qw0 = 0x${qw0}, qw1 = 0x${qw1}`);
    }
  }

  /** Off, and its memory given back. */
  free(): void {
    this.#unit.switchQueue(false);
    __freePages(this.#kernel, this.#page, 0);
    kfree(this.#kernel, this.#statusMem);
  }
}
