/**
 * The rings that driver and SMMU share: the command queue, into which the driver writes and whose end it can wait for,
 * and the event queue, which it reads. Indices count on past the end: the bit above them tells full from empty.
 */
import { type DmaAddr, hi32, lo32, PAGE_SIZE } from '../base/addr.ts';
import { type Errno, ETIMEDOUT, OK } from '../base/errno.ts';
import {
  type Device,
  devErr,
  devInfo,
  dmaMb,
  dmaRmb,
  dmaWmb,
  GFP_KERNEL,
  type IoMem,
  type Kernel,
  localIrqRestore,
  localIrqSave,
  type Mem,
  readl,
  readlRelaxed,
  writelRelaxed,
} from '../kernel/index.ts';
import { Ratelimit } from '../kernel/ratelimit.ts';
import { dmaAllocCoherent, dmaFreeCoherent } from '../mapping/index.ts';
import { SMMU, SMMU_CMD_BYTES, SMMU_CMD_SYNC, SMMU_EVT_BYTES, SMMU_OP, SMMU_PAGE1 } from '../regs/smmu-v3.ts';

/** The largest queue. */
const Q_MAX_BYTES = 2 ** 20;
/** @linux ARM_SMMU_POLL_TIMEOUT_US */
export const SMMU_POLL_TIMEOUT_US = 1_000_000;
/** How long the CPU sleeps at most while it waits for a queue; events come by themselves meanwhile. */
const POLL_NS = 100;
/** Commands collected before they are handed over. @linux CMDQ_BATCH_ENTRIES */
export const CMDQ_BATCH_ENTRIES = 64;
const CMD_WORDS = SMMU_CMD_BYTES / 4;
const EVT_WORDS = SMMU_EVT_BYTES / 4;
const OVERFLOW = SMMU_PAGE1.EVENTQ_PROD.OVFLG.mask;
const { CS, MSH, MSIATTR } = SMMU_CMD_SYNC.W0;
const SHAREABLE_INNER = 3;
const MEMATTR_OIWB = 0xf;

/** A ring in coherent memory. */
class SmmuQueue {
  readonly mem: Mem;
  readonly handle: DmaAddr;
  /** log2 of its entries. */
  readonly shift: number;
  readonly words: Int32Array;

  constructor(mem: Mem, handle: DmaAddr, shift: number) {
    this.mem = mem;
    this.handle = handle;
    this.shift = shift;
    this.words = new Int32Array(mem.bytes.buffer, mem.bytes.byteOffset, mem.size / 4);
  }
  /** What is written to its BASE register: the lower half has the size. */
  get baseLo(): number {
    return (lo32(this.handle) | this.shift) >>> 0;
  }
  /** With the hint that the SMMU may allocate cache lines. */
  get baseHi(): number {
    return (hi32(this.handle) | SMMU.CMDQ_BASE_HI.RA.mask) >>> 0;
  }
}

/** As many entries as `maxShift` and the memory allow; null when not even a page of them. */
function allocQueue(dev: Device, maxShift: number, entryBytes: number, name: string): SmmuQueue | null {
  let shift = Math.min(maxShift, Math.log2(Q_MAX_BYTES / entryBytes));
  for (; ; shift--) {
    const bytes = entryBytes * 2 ** shift;
    const memory = dmaAllocCoherent(dev, bytes, GFP_KERNEL);
    if (memory !== null) {
      devInfo(dev, `allocated ${2 ** shift} entries for ${name}`);
      return new SmmuQueue(memory.mem, memory.handle, shift);
    }
    if (bytes < PAGE_SIZE) break;
  }
  devErr(dev, `failed to allocate queue (0x${(entryBytes * 2 ** shift).toString(16)} bytes) for ${name}`);
  return null;
}

/** Commands that are collected. @linux struct arm_smmu_cmdq_batch */
export class SmmuBatch {
  readonly words = new Int32Array(CMDQ_BATCH_ENTRIES * CMD_WORDS);
  count = 0;
}

/** @linux struct arm_smmu_cmdq */
export class SmmuCmdq {
  readonly #dev: Device;
  readonly #kernel: Kernel;
  readonly #io: IoMem;
  readonly #queue: SmmuQueue;
  readonly #entries: number;
  /** The SMMU overwrites a CMD_SYNC with 0 when it is complete; else its consumer index is read. */
  readonly #msiPoll: boolean;
  readonly #ratelimit: Ratelimit;
  readonly #one = new SmmuBatch();
  #prod = 0;
  #cons = 0;

  /** Null without memory. @linux arm_smmu_cmdq_init */
  static make(dev: Device, io: IoMem, maxShift: number, msiPoll: boolean): SmmuCmdq | null {
    const queue = allocQueue(dev, maxShift, SMMU_CMD_BYTES, 'cmdq');
    return queue === null ? null : new SmmuCmdq(dev, io, queue, msiPoll);
  }
  private constructor(dev: Device, io: IoMem, queue: SmmuQueue, msiPoll: boolean) {
    this.#dev = dev;
    this.#kernel = dev.kernel;
    this.#io = io;
    this.#queue = queue;
    this.#entries = 2 ** queue.shift;
    this.#msiPoll = msiPoll;
    this.#ratelimit = new Ratelimit(dev.kernel, 'arm_smmu_cmdq_issue_cmdlist');
  }
  /** Tell the SMMU where it is, and begin anew. */
  install(): void {
    writelRelaxed(this.#queue.baseLo, this.#io, SMMU.CMDQ_BASE.offset);
    writelRelaxed(this.#queue.baseHi, this.#io, SMMU.CMDQ_BASE_HI.offset);
    this.#prod = 0;
    this.#cons = 0;
    writelRelaxed(0, this.#io, SMMU.CMDQ_PROD.offset);
    writelRelaxed(0, this.#io, SMMU.CMDQ_CONS.offset);
  }
  free(): void {
    dmaFreeCoherent(this.#dev, this.#queue.mem.size, this.#queue.mem, this.#queue.handle);
  }

  /** Add a command of four words to a batch, which is handed over when it is full. @linux arm_smmu_cmdq_batch_add */
  batchAdd(batch: SmmuBatch, w0: number, w1: number, w2: number, w3: number): void {
    if (batch.count === CMDQ_BATCH_ENTRIES) {
      this.#issue(batch, false);
      batch.count = 0;
    }
    const at = batch.count++ * CMD_WORDS;
    const { words } = batch;
    words[at] = w0;
    words[at + 1] = w1;
    words[at + 2] = w2;
    words[at + 3] = w3;
  }
  /** Hand a batch over, and wait until all of it is done. ETIMEDOUT, with a message, when that takes a second. @linux arm_smmu_cmdq_batch_submit */
  batchSubmit(batch: SmmuBatch): Errno {
    const error = this.#issue(batch, true);
    batch.count = 0;
    return error;
  }
  /** One command without waiting. @linux arm_smmu_cmdq_issue_cmd */
  issue(w0: number, w1: number, w2: number, w3: number): Errno {
    this.batchAdd(this.#one, w0, w1, w2, w3);
    const error = this.#issue(this.#one, false);
    this.#one.count = 0;
    return error;
  }
  /** One command, and wait until it is done. @linux arm_smmu_cmdq_issue_cmd_with_sync */
  issueWithSync(w0: number, w1: number, w2: number, w3: number): Errno {
    this.batchAdd(this.#one, w0, w1, w2, w3);
    return this.batchSubmit(this.#one);
  }

  #issue(batch: SmmuBatch, sync: boolean): Errno {
    const flags = localIrqSave(this.#kernel);
    const wanted = batch.count + (sync ? 1 : 0);
    let error = this.#waitForRoom(wanted);
    const { words } = this.#queue;
    const entries = this.#entries;
    let prod = this.#prod;
    for (let i = 0; i < batch.count; i++) {
      const to = (prod & (entries - 1)) * CMD_WORDS;
      const from = i * CMD_WORDS;
      words[to] = batch.words[from]!;
      words[to + 1] = batch.words[from + 1]!;
      words[to + 2] = batch.words[from + 2]!;
      words[to + 3] = batch.words[from + 3]!;
      prod = (prod + 1) & (2 * entries - 1);
    }
    const slot = prod & (entries - 1);
    if (sync) {
      this.#writeSync(slot);
      prod = (prod + 1) & (2 * entries - 1);
    }
    this.#prod = prod;
    dmaWmb(this.#kernel);
    writelRelaxed(prod, this.#io, SMMU.CMDQ_PROD.offset);
    if (sync && error === OK) error = this.#msiPoll ? this.#pollMessage(slot, prod) : this.#pollConsumer(prod);
    localIrqRestore(this.#kernel, flags);
    return error;
  }

  #writeSync(slot: number): void {
    const { words, handle } = this.#queue;
    const at = slot * CMD_WORDS;
    let w0 = SMMU_OP.SYNC as number;
    if (this.#msiPoll) {
      const address = handle + slot * SMMU_CMD_BYTES;
      w0 |= (CS.values.IRQ << CS.shift) | (SHAREABLE_INNER << MSH.shift) | (MEMATTR_OIWB << MSIATTR.shift);
      words[at + 2] = lo32(address);
      words[at + 3] = hi32(address);
    } else {
      w0 |= CS.values.SEV << CS.shift;
      words[at + 2] = 0;
      words[at + 3] = 0;
    }
    words[at] = w0;
    words[at + 1] = 0;
  }

  /** Wait until so many entries are free. */
  #waitForRoom(wanted: number): Errno {
    if (this.#freeEntries() >= wanted) return OK;
    const deadlineNs = this.#kernel.machine.now() + SMMU_POLL_TIMEOUT_US * 1000;
    for (;;) {
      this.#readConsumer();
      if (this.#freeEntries() >= wanted) return OK;
      if (this.#kernel.machine.now() > deadlineNs) {
        if (this.#ratelimit.allow()) devErr(this.#dev, 'CMDQ timeout');
        return ETIMEDOUT;
      }
      this.#kernel.machine.delay(POLL_NS);
    }
  }
  #freeEntries(): number {
    return this.#entries - ((this.#prod - this.#cons) & (2 * this.#entries - 1));
  }
  #readConsumer(): void {
    this.#cons = readl(this.#io, SMMU.CMDQ_CONS.offset) & (2 * this.#entries - 1);
  }

  #pollMessage(slot: number, prod: number): Errno {
    const { words } = this.#queue;
    const { machine } = this.#kernel;
    const deadlineNs = machine.now() + SMMU_POLL_TIMEOUT_US * 1000;
    // The SMMU's write of 0 makes the command invalid.
    while (words[slot * CMD_WORDS] !== 0) {
      if (machine.now() > deadlineNs) return this.#timedOut(prod);
      machine.delay(POLL_NS);
    }
    this.#cons = prod;
    return OK;
  }
  #pollConsumer(prod: number): Errno {
    const { machine } = this.#kernel;
    const deadlineNs = machine.now() + SMMU_POLL_TIMEOUT_US * 1000;
    for (;;) {
      this.#readConsumer();
      if (this.#cons === prod) return OK;
      if (machine.now() > deadlineNs) return this.#timedOut(prod);
    }
  }
  #timedOut(prod: number): Errno {
    if (this.#ratelimit.allow()) {
      const hex = (n: number) => `0x${n.toString(16).padStart(8, '0')}`;
      const hwProd = readlRelaxed(this.#io, SMMU.CMDQ_PROD.offset);
      const hwCons = readlRelaxed(this.#io, SMMU.CMDQ_CONS.offset);
      devErr(this.#dev, `CMD_SYNC timeout at ${hex(prod)} [hwprod ${hex(hwProd)}, hwcons ${hex(hwCons)}]`);
    }
    return ETIMEDOUT;
  }

  /**
   * The SMMU has stopped at a command: say which, and make it a CMD_SYNC, so that it goes on when the error is
   * acknowledged. From its interrupt. @linux __arm_smmu_cmdq_skip_err
   */
  skipError(): void {
    const { ERR } = SMMU.CMDQ_CONS;
    const cons = readlRelaxed(this.#io, SMMU.CMDQ_CONS.offset);
    const error = ERR.get(cons);
    const text =
      ['No error', 'Illegal command', 'Abort on command fetch', 'ATC invalidate timeout'][error] ?? 'Unknown';
    devErr(this.#dev, `CMDQ error (cons 0x${cons.toString(16).padStart(8, '0')}): ${text}`);
    if (error === ERR.values.CERROR_ABT) {
      devErr(this.#dev, 'retrying command fetch');
      return;
    }
    if (error === ERR.values.CERROR_NONE || error === ERR.values.CERROR_ATC_INV_SYNC) return;
    const at = (cons & (this.#entries - 1)) * CMD_WORDS;
    const { words } = this.#queue;
    devErr(this.#dev, 'skipping command in error state:');
    for (let i = 0; i < CMD_WORDS; i += 2) devErr(this.#dev, `\t0x${hex64(words[at + i]!, words[at + i + 1]!)}`);
    words.fill(0, at, at + CMD_WORDS);
    words[at] = SMMU_OP.SYNC;
    dmaWmb(this.#kernel);
  }
}

/** @linux struct arm_smmu_evtq */
export class SmmuEvtq {
  readonly #dev: Device;
  readonly #io: IoMem;
  readonly #page1: IoMem;
  readonly #queue: SmmuQueue;
  readonly #mask: number;
  #prod = 0;
  #cons = 0;

  /** Null without memory. `page1` has its indices. */
  static make(dev: Device, io: IoMem, page1: IoMem, maxShift: number): SmmuEvtq | null {
    const queue = allocQueue(dev, maxShift, SMMU_EVT_BYTES, 'evtq');
    return queue === null ? null : new SmmuEvtq(dev, io, page1, queue);
  }
  private constructor(dev: Device, io: IoMem, page1: IoMem, queue: SmmuQueue) {
    this.#dev = dev;
    this.#io = io;
    this.#page1 = page1;
    this.#queue = queue;
    this.#mask = 2 ** (queue.shift + 1) - 1;
  }
  /** Tell the SMMU where it is, and begin anew. */
  install(): void {
    writelRelaxed(this.#queue.baseLo, this.#io, SMMU.EVENTQ_BASE.offset);
    writelRelaxed(this.#queue.baseHi, this.#io, SMMU.EVENTQ_BASE_HI.offset);
    this.#prod = 0;
    this.#cons = 0;
    writelRelaxed(0, this.#page1, SMMU_PAGE1.EVENTQ_PROD.offset);
    writelRelaxed(0, this.#page1, SMMU_PAGE1.EVENTQ_CONS.offset);
  }
  free(): void {
    dmaFreeCoherent(this.#dev, this.#queue.mem.size, this.#queue.mem, this.#queue.handle);
  }

  /** Take the oldest record, eight words, into `record`; false when there is none. @linux queue_remove_raw */
  remove(record: Uint32Array): boolean {
    if (this.isEmpty) return false;
    dmaRmb(this.#dev.kernel);
    const at = (this.#cons & (this.#mask >>> 1)) * EVT_WORDS;
    for (let i = 0; i < EVT_WORDS; i++) record[i] = this.#queue.words[at + i]!;
    this.#cons = ((this.#cons & OVERFLOW) | ((this.#cons + 1) & this.#mask)) >>> 0;
    this.#writeConsumer();
    return true;
  }
  get isEmpty(): boolean {
    return ((this.#prod ^ this.#cons) & this.#mask) === 0;
  }
  /** Look for new records. True: some were lost since the last look. @linux queue_sync_prod_in */
  lookForMore(): boolean {
    const prod = readl(this.#page1, SMMU_PAGE1.EVENTQ_PROD.offset);
    const overflowed = ((prod ^ this.#prod) & OVERFLOW) !== 0;
    this.#prod = prod;
    return overflowed;
  }
  /** Tell the SMMU that an overflow was seen. @linux queue_sync_cons_ovf */
  acknowledgeOverflow(): void {
    if (((this.#prod ^ this.#cons) & OVERFLOW) === 0) return;
    this.#cons = ((this.#prod & OVERFLOW) | (this.#cons & ~OVERFLOW)) >>> 0;
    this.#writeConsumer();
  }
  #writeConsumer(): void {
    dmaMb(this.#dev.kernel);
    writelRelaxed(this.#cons, this.#page1, SMMU_PAGE1.EVENTQ_CONS.offset);
  }
}

/** Two words as sixteen digits. */
export function hex64(lo: number, hi: number): string {
  const digits = (n: number) => (n >>> 0).toString(16).padStart(8, '0');
  return digits(hi) + digits(lo);
}
