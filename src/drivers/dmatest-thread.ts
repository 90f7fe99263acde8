/** One thread of dmatest: transfers of one kind on one channel, again and again. */
import { type DmaAddr, ENOMEM, type Errno, OK, offsetInPage, type Prng } from '../base/index.ts';
import {
  type Cookie,
  DMA_COMPLETE,
  DMA_COMPLETION_NO_ORDER,
  DMA_CTRL_ACK,
  DMA_ERROR,
  DMA_MEMCPY,
  DMA_MEMSET,
  DMA_OUT_OF_ORDER,
  DMA_PQ,
  DMA_PREP_INTERRUPT,
  DMA_XOR,
  type DmaAsyncTxDescriptor,
  type DmaChan,
  type DmaDevice,
  type DmaengineUnmapData,
  type DmaStatus,
  describeOutstanding,
  dmaAsyncIssuePending,
  dmaAsyncIsTxComplete,
  dmaengineGetUnmapData,
  dmaenginePrepDmaMemcpy,
  dmaenginePrepDmaMemset,
  dmaengineSubmit,
  dmaengineTerminateSync,
  dmaengineUnmapPut,
  dmaHasCap,
  dmaSubmitError,
  dmaSyncWait,
} from '../dmaengine/index.ts';
import {
  Completion,
  complete,
  DMA_BIDIRECTIONAL,
  DMA_TO_DEVICE,
  GFP_DMA,
  GFP_KERNEL,
  type Gfp,
  type Kernel,
  kfree,
  kmalloc,
  ktimeGet,
  LogLevel,
  MAX_SCHEDULE_TIMEOUT,
  type Mem,
  msleep,
  type Page,
  printk,
  reinitCompletion,
  virtToPage,
  waitForCompletionHere,
} from '../kernel/index.ts';
import { dmaMapPage, dmaMappingError } from '../mapping/index.ts';
import type { DmatestParams } from './dmatest-params.ts';
import {
  DmatestPatterns,
  MAX_ERROR_COUNT,
  PATTERN_COPY,
  PATTERN_DST,
  PATTERN_OVERWRITE,
  PATTERN_SRC,
  patternByte,
} from './dmatest-pattern.ts';
import { type DmatestThreadResult, dmatestKBs, dmatestPersec, fixedPointText } from './dmatest-result.ts';

/** The kinds of transaction that dmatest knows. */
export type DmatestType = typeof DMA_MEMCPY | typeof DMA_MEMSET | typeof DMA_XOR | typeof DMA_PQ;
/** The thread's name says what it does. */
export const dmatestOps: Record<DmatestType, string> = {
  [DMA_MEMCPY]: 'copy',
  [DMA_MEMSET]: 'set',
  [DMA_XOR]: 'xor',
  [DMA_PQ]: 'pq',
};

const KEPT_LINES = 1000;
const hex = (n: number): string => `0x${n.toString(16)}`;
const hex2 = (n: number): string => n.toString(16).padStart(2, '0');

/** A test buffer: where it is, for the CPU and for mapping. */
class TestBuffer {
  readonly raw: Mem;
  readonly bytes: Uint8Array;
  readonly words: Int32Array;
  readonly page: Page;
  readonly offset: number;

  constructor(raw: Mem, size: number, align: number) {
    const unaligned = raw.phys % 2 ** align;
    const mem = raw.slice(unaligned === 0 ? 0 : 2 ** align - unaligned, size);
    this.raw = raw;
    this.bytes = mem.bytes;
    this.words = new Int32Array(mem.bytes.buffer, mem.bytes.byteOffset, size >>> 2);
    this.page = virtToPage(mem);
    this.offset = offsetInPage(mem.phys);
  }
}

function complain(thread: DmatestThread, text: string): void {
  thread.print(LogLevel.WARNING, text);
}

/** See the file's head. @linux dmatest_func, struct dmatest_thread */
export class DmatestThread {
  readonly kernel: Kernel;
  readonly chan: DmaChan;
  readonly device: DmaDevice;
  readonly type: DmatestType;
  readonly name: string;
  readonly params: DmatestParams;
  /** Whether it has ended. */
  done = false;
  /** Whether it was not started yet. */
  pending = true;
  totalTests = 0;
  failedTests = 0;
  ret: Errno = ENOMEM;
  readonly lines: string[] = [];
  #iops = 0;
  #kBps = 0;

  readonly #prng: Prng;
  #patterns!: DmatestPatterns;
  readonly #sources: TestBuffer[] = [];
  readonly #destinations: TestBuffer[] = [];
  #align = 0;
  #srcCount = 1;
  #dstCount = 1;
  #flags = 0;
  #coefs = new Uint8Array(0);
  /** Bus addresses for xor and P+Q. */
  readonly #srcAddrs: DmaAddr[] = [];
  readonly #dstAddrs: DmaAddr[] = [];

  #completion: Completion;
  /** Of the present test. */
  #unmap: DmaengineUnmapData | null = null;
  #len = 0;
  #srcOff = 0;
  #dstOff = 0;
  #mapError: Errno = OK;
  #totalLen = 0;
  #fillNs = 0;
  #compareNs = 0;
  /** Of the region that is being verified. */
  #region = 0;
  #inSource = false;

  constructor(chan: DmaChan, type: DmatestType, index: number, params: DmatestParams, prng: Prng) {
    this.kernel = chan.device.kernel;
    this.chan = chan;
    this.device = chan.device;
    this.type = type;
    this.name = `${chan.name}-${dmatestOps[type]}${index}`;
    this.params = params;
    this.#prng = prng.fork(this.name);
    this.#completion = this.#newCompletion();
  }

  #newCompletion(): Completion {
    const completion = new Completion(this.kernel, this.name);
    completion.waitsFor = () => describeOutstanding(this.chan);
    return completion;
  }

  /** Write a line with the module's prefix, and keep it. */
  print(level: LogLevel, text: string): void {
    const line = `dmatest: ${text}`;
    printk(this.kernel, level, line);
    if (this.lines.length < KEPT_LINES) this.lines.push(line);
  }
  #result(what: string, data: number): void {
    const where = `src_off=${hex(this.#srcOff)} dst_off=${hex(this.#dstOff)} len=${hex(this.#len)}`;
    const unsigned = data < 0 ? BigInt.asUintN(64, BigInt(data)) : data;
    this.print(LogLevel.INFO, `${this.name}: result #${this.totalTests}: '${what}' with ${where} (${unsigned})`);
  }
  #fail(what: string, data: number): void {
    this.#result(what, data);
    dmaengineUnmapPut(this.#unmap!);
    this.failedTests++;
  }

  /** The thread's body. `shouldStop` is asked before each transfer. */
  async run(shouldStop: () => boolean): Promise<void> {
    const { params, kernel } = this;
    this.pending = false;
    let runtimeUs = 0;
    if (this.#setUp()) {
      const start = ktimeGet(kernel);
      while (!shouldStop() && !(params.iterations !== 0 && this.totalTests >= params.iterations)) {
        this.totalTests++;
        if (!this.#chooseRange()) break;
        const cookie = this.#start();
        if (cookie < 0) {
          await msleep(kernel, 100);
        } else if (cookie > 0) {
          // Most waits pass in place, without a promise.
          const waited = params.polled === true ? this.#poll(cookie) : this.#wait();
          const leftNs = typeof waited === 'number' ? waited : await waited;
          this.#finish(leftNs > 0, params.polled ? DMA_COMPLETE : dmaAsyncIsTxComplete(this.chan, cookie));
        }
      }
      runtimeUs = Math.floor((ktimeGet(kernel) - start - this.#compareNs - this.#fillNs) / 1000);
      this.ret = OK;
    }
    for (const buffer of this.#sources) kfree(kernel, buffer.raw);
    for (const buffer of this.#destinations) kfree(kernel, buffer.raw);
    this.#summary(runtimeUs);
    if (this.ret !== OK || this.failedTests > 0) await dmaengineTerminateSync(this.chan);
    this.done = true;
  }

  #summary(runtimeUs: number): void {
    const iops = dmatestPersec(runtimeUs, this.totalTests);
    this.#iops = Number(fixedPointText(iops));
    this.#kBps = dmatestKBs(runtimeUs, this.#totalLen);
    const rates = `${fixedPointText(iops)} iops ${this.#kBps} KB/s (${this.ret})`;
    this.print(LogLevel.INFO, `${this.name}: summary ${this.totalTests} tests, ${this.failedTests} failures ${rates}`);
  }

  /** The outcome so far. */
  result(): DmatestThreadResult {
    const { chan, type, name, totalTests, failedTests, ret, lines } = this;
    const test = dmatestOps[type];
    return {
      channel: chan.name,
      test,
      name,
      iterations: totalTests,
      failures: failedTests,
      iops: this.#iops,
      kBps: this.#kBps,
      ret,
      lines,
    };
  }

  #setUp(): boolean {
    const { params, device, type } = this;
    let align = device.copyAlign;
    if (type === DMA_MEMSET) {
      align = device.fillAlign;
    } else if (type === DMA_XOR) {
      // An odd number of equal sources gives the source again.
      this.#srcCount = minOdd(params.xorSources | 1, device.maxXor);
      align = device.xorAlign;
    } else if (type === DMA_PQ) {
      this.#srcCount = minOdd(params.pqSources | 1, device.maxPq);
      this.#dstCount = 2;
      align = device.pqAlign;
      this.#coefs = new Uint8Array(this.#srcCount).fill(1);
    }
    this.#align = params.alignment < 0 ? align : params.alignment;
    const buffers = this.#srcCount + this.#dstCount;
    if (buffers >= 255) {
      this.print(LogLevel.ERR, `too many buffers (${buffers} of 255 supported)`);
      return false;
    }
    const size = params.testBufSize;
    if (2 ** this.#align > size) {
      this.print(LogLevel.ERR, `${size}-byte buffer too small for ${2 ** this.#align}-byte alignment`);
      return false;
    }
    this.#patterns = new DmatestPatterns(size, type === DMA_MEMSET);
    this.#flags = params.polled ? DMA_CTRL_ACK : DMA_CTRL_ACK | DMA_PREP_INTERRUPT;
    const gfp = params.nobounce ? GFP_DMA : GFP_KERNEL;
    return (
      this.#allocate(this.#sources, this.#srcCount, gfp) && this.#allocate(this.#destinations, this.#dstCount, gfp)
    );
  }

  #allocate(buffers: TestBuffer[], count: number, gfp: Gfp): boolean {
    const size = this.params.testBufSize;
    for (let i = 0; i < count; i++) {
      const raw = kmalloc(this.kernel, size + (this.#align === 0 ? 0 : 2 ** this.#align), gfp);
      if (raw === null) return false;
      buffers.push(new TestBuffer(raw, size, this.#align));
    }
    return true;
  }

  /** Length and offsets of the next transfer, and its buffers filled. False: the parameters forbid any. */
  #chooseRange(): boolean {
    const { params } = this;
    const size = params.testBufSize;
    const unit = 2 ** this.#align;
    let len: number;
    if (params.transferSize !== 0) {
      if (params.transferSize >= size) {
        this.print(LogLevel.ERR, `${params.transferSize}-byte transfer size must be lower than ${size}-buffer size`);
        return false;
      }
      len = params.transferSize;
    } else {
      len = params.norandom === true ? size : (this.#prng.u32() % size) + 1;
      len = Math.max(len - (len % unit), unit);
    }
    this.#len = len;
    this.#totalLen += len;
    this.#srcOff = this.#dstOff = 0;
    if (params.norandom === false) {
      const srcOff = this.#prng.u32() % (size - len + 1);
      const dstOff = this.#prng.u32() % (size - len + 1);
      this.#srcOff = srcOff - (srcOff % unit);
      this.#dstOff = dstOff - (dstOff % unit);
    }
    if (params.noverify === false) {
      const start = ktimeGet(this.kernel);
      for (const buffer of this.#sources) this.#patterns.initSource(buffer.bytes, this.#srcOff, len);
      for (const buffer of this.#destinations) this.#patterns.initDestination(buffer.bytes, this.#dstOff, len);
      this.#fillNs += ktimeGet(this.kernel) - start;
    }
    return true;
  }

  /** Map and submit. The cookie; 0 when that failed and was reported; negative when it failed and is to be slept on. */
  #start(): Cookie {
    const unmap = dmaengineGetUnmapData(this.device.dev, this.#srcCount + this.#dstCount, GFP_KERNEL);
    if (unmap === null) {
      this.failedTests++;
      this.#result('unmap data NULL', ENOMEM);
      return 0;
    }
    this.#unmap = unmap;
    if (!this.#map(unmap)) return 0;
    const tx = this.#prepare(unmap);
    if (tx === null) {
      this.#fail('prep error', this.#mapError);
      return ENOMEM;
    }
    reinitCompletion(this.#completion);
    tx.callback = completed;
    tx.callbackParam = this.#completion;
    const cookie = dmaengineSubmit(tx);
    if (dmaSubmitError(cookie)) this.#fail('submit error', this.#mapError);
    return cookie;
  }

  #map(unmap: DmaengineUnmapData): boolean {
    const { dev } = this.device;
    const size = this.params.testBufSize;
    unmap.len = size;
    for (let i = 0; i < this.#srcCount; i++) {
      const { page, offset } = this.#sources[i]!;
      const addr = dmaMapPage(dev, page, offset, size, DMA_TO_DEVICE);
      this.#mapError = dmaMappingError(dev, addr);
      if (this.#mapError !== OK) {
        this.#fail('src mapping error', this.#mapError);
        return false;
      }
      unmap.addr[i] = addr;
      unmap.toCnt++;
    }
    // Both ways, so that what lies around the written range is written back first and survives.
    for (let i = 0; i < this.#dstCount; i++) {
      const { page, offset } = this.#destinations[i]!;
      const addr = dmaMapPage(dev, page, offset, size, DMA_BIDIRECTIONAL);
      this.#mapError = dmaMappingError(dev, addr);
      if (this.#mapError !== OK) {
        this.#fail('dst mapping error', this.#mapError);
        return false;
      }
      unmap.addr[this.#srcCount + i] = addr;
      unmap.bidiCnt++;
    }
    return true;
  }

  #prepare(unmap: DmaengineUnmapData): DmaAsyncTxDescriptor | null {
    const { device, chan } = this;
    const len = this.#len;
    const flags = this.#flags;
    const dst = (unmap.addr[this.#srcCount]! + this.#dstOff) as DmaAddr;
    const src = (unmap.addr[0]! + this.#srcOff) as DmaAddr;
    if (this.type === DMA_MEMCPY) return dmaenginePrepDmaMemcpy(chan, dst, src, len, flags);
    if (this.type === DMA_MEMSET) {
      return dmaenginePrepDmaMemset(chan, dst, this.#sources[0]!.bytes[this.#srcOff]!, len, flags);
    }
    for (let i = 0; i < this.#srcCount; i++) this.#srcAddrs[i] = (unmap.addr[i]! + this.#srcOff) as DmaAddr;
    for (let i = 0; i < this.#dstCount; i++) {
      this.#dstAddrs[i] = (unmap.addr[this.#srcCount + i]! + this.#dstOff) as DmaAddr;
    }
    if (this.type === DMA_XOR) return device.devicePrepDmaXor!(chan, dst, this.#srcAddrs, len, flags);
    return device.devicePrepDmaPq!(chan, this.#dstAddrs, this.#srcAddrs, this.#coefs, len, flags);
  }

  /** Above 0 when the callback came in time. */
  #wait(): number | Promise<number> {
    const { timeout } = this.params;
    dmaAsyncIssuePending(this.chan);
    return waitForCompletionHere(this.#completion, timeout < 0 ? MAX_SCHEDULE_TIMEOUT : timeout * 1_000_000);
  }
  async #poll(cookie: Cookie): Promise<number> {
    const status = dmaSyncWait(this.chan, cookie);
    await dmaengineTerminateSync(this.chan);
    return status === DMA_COMPLETE ? 1 : 0;
  }

  #finish(done: boolean, status: DmaStatus): void {
    const { device } = this;
    if (!done) {
      this.#fail('test timed out', 0);
      // Its callback may still come; it is not to end a later test.
      this.#completion = this.#newCompletion();
      return;
    }
    const unordered = dmaHasCap(DMA_COMPLETION_NO_ORDER, device.capMask) && status === DMA_OUT_OF_ORDER;
    if (status !== DMA_COMPLETE && !unordered) {
      this.#fail(status === DMA_ERROR ? 'completion error status' : 'completion busy status', this.#mapError);
      return;
    }
    dmaengineUnmapPut(this.#unmap!);
    if (this.params.noverify === true) {
      if (this.params.verbose === true) this.#result('test passed', 0);
      return;
    }
    const start = ktimeGet(this.kernel);
    const errors = this.#verifyAll();
    this.#compareNs += ktimeGet(this.kernel) - start;
    if (errors > 0) {
      this.#result('data error', errors);
      this.failedTests++;
    } else if (this.params.verbose) {
      this.#result('test passed', 0);
    }
  }

  #verifyAll(): number {
    const size = this.params.testBufSize;
    const srcOff = this.#srcOff;
    const dstOff = this.#dstOff;
    const srcEnd = srcOff + this.#len;
    const dstEnd = dstOff + this.#len;
    let errors = 0;
    this.#inSource = true;
    errors += this.#verify(this.#sources, 0, srcOff, 0, PATTERN_SRC);
    errors += this.#verify(this.#sources, srcOff, srcEnd, srcOff, PATTERN_SRC | PATTERN_COPY);
    errors += this.#verify(this.#sources, srcEnd, size, srcEnd, PATTERN_SRC);
    this.#inSource = false;
    errors += this.#verify(this.#destinations, 0, dstOff, 0, PATTERN_DST);
    errors += this.#verify(this.#destinations, dstOff, dstEnd, srcOff, PATTERN_SRC | PATTERN_COPY);
    errors += this.#verify(this.#destinations, dstEnd, size, dstEnd, PATTERN_DST);
    return errors;
  }

  #verify(buffers: readonly TestBuffer[], start: number, end: number, counter: number, pattern: number): number {
    if (start === end) return 0;
    this.#region = pattern;
    let errors = 0;
    for (const { bytes, words } of buffers) {
      errors += this.#patterns.verify(bytes, words, start, end, counter, pattern, errors, this.#mismatch);
    }
    if (errors > MAX_ERROR_COUNT) complain(this, `${this.name}: ${errors - MAX_ERROR_COUNT} errors suppressed`);
    return errors;
  }

  readonly #mismatch = (index: number, counter: number, actual: number): void => {
    const pattern = this.#region;
    const diff = actual ^ pattern;
    const expected = patternByte(pattern, counter, this.#patterns.isMemset);
    let buffer = 'dstbuf';
    let what = 'mismatch!';
    if (this.#inSource) {
      buffer = 'srcbuf';
      what = 'overwritten!';
    } else if ((pattern & PATTERN_COPY) !== 0 && (diff & (PATTERN_COPY | PATTERN_OVERWRITE)) !== 0) {
      what = 'not copied!';
    } else if ((diff & PATTERN_SRC) !== 0) {
      what = 'was copied!';
    }
    complain(this, `${this.name}: ${buffer}[${hex(index)}] ${what} Expected ${hex2(expected)}, got ${hex2(actual)}`);
  };
}

function completed(param: unknown): void {
  complete(param as Completion);
}

function minOdd(x: number, y: number): number {
  const least = Math.min(x, y);
  return least % 2 === 1 ? least : least - 1;
}
