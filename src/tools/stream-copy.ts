/**
 * A stream of any length through a DMA engine: chunks are read into mapped buffers, several descriptors are in flight,
 * and what arrived is handed on in order. Memory stays bounded by the slots. Each slot has whole cache lines of its
 * own, and a chunk lies in them as it lies in the stream, so that odd chunk sizes make unaligned transfers.
 */
import { addrAdd, offsetIn } from '../base/addr.ts';
import { errnoName } from '../base/errno.ts';
import {
  DMA_CTRL_ACK,
  DMA_MEMCPY,
  DMA_PREP_INTERRUPT,
  DMA_TRANS_NOERROR,
  type DmaChan,
  dmaAsyncIssuePending,
  dmaCapMask,
  dmaenginePrepDmaMemcpy,
  dmaengineSubmit,
  dmaengineTerminateSync,
  dmaReleaseChannel,
  dmaRequestChannel,
  dmaSubmitError,
} from '../dmaengine/index.ts';
import {
  Completion,
  complete,
  type Device,
  DMA_FROM_DEVICE,
  DMA_TO_DEVICE,
  GFP_KERNEL,
  type Kernel,
  reinitCompletion,
  waitForCompletionTimeout,
} from '../kernel/index.ts';
import {
  type DmaCoherent,
  dmaAllocNoncoherent,
  dmaFreeNoncoherent,
  dmaSyncSingleForCpu,
  dmaSyncSingleForDevice,
} from '../mapping/index.ts';

/** The largest chunk: it and its buffers' spare cache line are allocated in one piece. */
export const MAX_CHUNK_BYTES = 2 << 20;

/** Where the bytes come from and go to. */
export interface StreamEnds {
  /** Fill `into` from the stream; fewer bytes than its length mean that the stream has ended. */
  read(into: Uint8Array): Promise<number>;
  /** Bytes of the stream from `position` on, in order. They are valid until the promise settles. */
  write(bytes: Uint8Array, position: number): Promise<void>;
  /** Asked between chunks: true ends the copy early. */
  stopped(): boolean;
}

/** How to copy. */
export interface StreamCopyOptions {
  readonly chunkBytes: number;
  /** Descriptors in flight, default 4. */
  readonly slots?: number;
  /** The channel's name, such as `dma0chan1`; default: the first free one that can copy. */
  readonly channel?: string;
  /** For one transfer, in simulated time; default 30 s. */
  readonly timeoutNs?: number;
}

/** What was done. */
export interface StreamCopyResult {
  readonly channel: string;
  readonly bytes: number;
  readonly transfers: number;
  /** Simulated time from the first byte mapped to the last one arrived. */
  readonly simulatedNs: number;
  /** True when `stopped` ended it early. */
  readonly stopped: boolean;
}

/** The DMA engine did not do its work: a transfer that failed, timed out or could not be set up. */
export class CopyError extends Error {
  override name = 'CopyError';
}
/** There is no such channel, or none that is free and can copy. */
export class NoChannelError extends Error {
  override name = 'NoChannelError';
}

/** One transfer in flight, and its buffers, which stay mapped: the syncs hand them back and forth. */
class Slot {
  readonly source: DmaCoherent;
  readonly target: DmaCoherent;
  readonly done: Completion;
  /** 0 while nothing is in flight. */
  bytes = 0;
  offset = 0;
  position = 0;
  failure = '';

  constructor(source: DmaCoherent, target: DmaCoherent, done: Completion) {
    this.source = source;
    this.target = target;
    this.done = done;
  }
}

/** Copy until the stream ends. Call it in a task of `kernel`. Throws CopyError or NoChannelError. */
export async function streamCopy(
  kernel: Kernel,
  ends: StreamEnds,
  options: StreamCopyOptions,
): Promise<StreamCopyResult> {
  const chan = await requestCopyChannel(kernel, options.channel);
  const copy = new StreamCopy(kernel, chan, ends, options);
  try {
    return await copy.run();
  } finally {
    await copy.end();
    await dmaReleaseChannel(chan);
  }
}

/** A free channel that can copy memory, by name or the first one. Throws NoChannelError. */
export async function requestCopyChannel(kernel: Kernel, name?: string): Promise<DmaChan> {
  const filter = name === undefined ? undefined : (chan: DmaChan) => chan.name === name;
  const chan = await dmaRequestChannel(kernel, dmaCapMask(DMA_MEMCPY), filter);
  if (chan !== null) return chan;
  throw new NoChannelError(
    name === undefined ? 'no free channel can copy memory' : `no free channel '${name}' can copy memory`,
  );
}

class StreamCopy {
  readonly #kernel: Kernel;
  readonly #chan: DmaChan;
  readonly #dev: Device;
  readonly #ends: StreamEnds;
  readonly #options: StreamCopyOptions;
  readonly #lineBytes: number;
  readonly #slots: Slot[] = [];
  #busy: Slot[] = [];
  #transfers = 0;

  constructor(kernel: Kernel, chan: DmaChan, ends: StreamEnds, options: StreamCopyOptions) {
    this.#kernel = kernel;
    this.#chan = chan;
    this.#dev = chan.device.dev;
    this.#ends = ends;
    this.#options = options;
    this.#lineBytes = kernel.machine.traits.cacheLineBytes;
  }

  async run(): Promise<StreamCopyResult> {
    const { chunkBytes, slots = 4 } = this.#options;
    for (let i = 0; i < slots; i++) this.#slots.push(this.#makeSlot());
    const free = [...this.#slots];
    const { machine } = this.#kernel;
    const startNs = machine.now();
    let read = 0;
    let written = 0;
    for (let ended = false; ; ) {
      ended ||= this.#ends.stopped();
      if (!ended && free.length > 0) {
        const slot = free.pop()!;
        const offset = offsetIn(read, this.#lineBytes);
        const bytes = await this.#outside(this.#ends.read(slot.source.mem.bytes.subarray(offset, offset + chunkBytes)));
        ended = bytes < chunkBytes;
        if (bytes === 0) continue;
        this.#start(slot, offset, bytes, read);
        read += bytes;
        continue;
      }
      const slot = this.#busy.shift();
      if (slot === undefined) break;
      await this.#finish(slot);
      await this.#outside(
        this.#ends.write(slot.target.mem.bytes.subarray(slot.offset, slot.offset + slot.bytes), slot.position),
      );
      written += slot.bytes;
      slot.bytes = 0;
      free.push(slot);
    }
    return {
      channel: this.#chan.name,
      bytes: written,
      transfers: this.#transfers,
      simulatedNs: machine.now() - startNs,
      stopped: this.#ends.stopped(),
    };
  }

  /** Give back everything, also in the middle of a transfer. */
  async end(): Promise<void> {
    if (this.#busy.length > 0) await dmaengineTerminateSync(this.#chan);
    for (const { source, target } of this.#slots) {
      dmaFreeNoncoherent(this.#dev, source.mem.size, source.mem, source.handle, DMA_TO_DEVICE);
      dmaFreeNoncoherent(this.#dev, target.mem.size, target.mem, target.handle, DMA_FROM_DEVICE);
    }
  }

  #outside<T>(promise: Promise<T>): Promise<T> {
    return this.#kernel.machine.scheduler.outside(promise);
  }

  #makeSlot(): Slot {
    const done = new Completion(this.#kernel, `a transfer on ${this.#chan.name}`);
    const source = this.#buffer(DMA_TO_DEVICE);
    try {
      return new Slot(source, this.#buffer(DMA_FROM_DEVICE), done);
    } catch (error) {
      dmaFreeNoncoherent(this.#dev, source.mem.size, source.mem, source.handle, DMA_TO_DEVICE);
      throw error;
    }
  }
  /** Memory that the engine reaches. */
  #buffer(direction: typeof DMA_TO_DEVICE | typeof DMA_FROM_DEVICE): DmaCoherent {
    const sizeBytes = this.#options.chunkBytes + this.#lineBytes;
    const buffer = dmaAllocNoncoherent(this.#dev, sizeBytes, direction, GFP_KERNEL);
    if (buffer !== null) return buffer;
    throw new CopyError(`no ${sizeBytes} bytes of free memory within the reach of ${this.#dev.name}`);
  }

  #start(slot: Slot, offset: number, bytes: number, position: number): void {
    slot.offset = offset;
    slot.position = position;
    slot.bytes = bytes;
    slot.failure = '';
    dmaSyncSingleForDevice(this.#dev, addrAdd(slot.source.handle, offset), bytes, DMA_TO_DEVICE);
    dmaSyncSingleForDevice(this.#dev, addrAdd(slot.target.handle, offset), bytes, DMA_FROM_DEVICE);
    reinitCompletion(slot.done);
    this.#busy.push(slot);
    this.#submit(slot, 0, bytes);
    dmaAsyncIssuePending(this.#chan);
  }

  /** Queue [from, from+bytes) of the slot; in halves where the controller does not take it in one go. */
  #submit(slot: Slot, from: number, bytes: number): void {
    const last = from + bytes === slot.bytes;
    const flags = last ? DMA_PREP_INTERRUPT | DMA_CTRL_ACK : DMA_CTRL_ACK;
    const tx = dmaenginePrepDmaMemcpy(
      this.#chan,
      addrAdd(slot.target.handle, slot.offset + from),
      addrAdd(slot.source.handle, slot.offset + from),
      bytes,
      flags,
    );
    if (tx === null) {
      if (bytes === 1) throw new CopyError(`${this.#chan.name} prepares no transfer`);
      const half = bytes >= 2 * this.#lineBytes ? Math.ceil(bytes / 2 / this.#lineBytes) * this.#lineBytes : 1;
      this.#submit(slot, from, half);
      this.#submit(slot, from + half, bytes - half);
      return;
    }
    tx.callbackResult = (_param, result) => {
      if (result.result !== DMA_TRANS_NOERROR) slot.failure = `the controller reports error ${result.result}`;
      if (last) complete(slot.done);
    };
    const cookie = dmaengineSubmit(tx);
    if (dmaSubmitError(cookie)) throw new CopyError(`${this.#chan.name}: submit failed: ${errnoName(cookie)}`);
    this.#transfers++;
  }

  async #finish(slot: Slot): Promise<void> {
    const { timeoutNs = 30e9 } = this.#options;
    const left = await waitForCompletionTimeout(slot.done, timeoutNs);
    if (left === 0) {
      this.#busy.unshift(slot);
      throw new CopyError(
        `${this.#chan.name}: the transfer of ${slot.bytes} bytes at ${slot.position} did not end within ${timeoutNs / 1e9} s`,
      );
    }
    dmaSyncSingleForCpu(this.#dev, addrAdd(slot.source.handle, slot.offset), slot.bytes, DMA_TO_DEVICE);
    dmaSyncSingleForCpu(this.#dev, addrAdd(slot.target.handle, slot.offset), slot.bytes, DMA_FROM_DEVICE);
    if (slot.failure !== '') {
      throw new CopyError(
        `${this.#chan.name}: the transfer of ${slot.bytes} bytes at ${slot.position} failed: ${slot.failure}`,
      );
    }
  }
}
