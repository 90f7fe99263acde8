/**
 * Driver of the looping FIFO port (src/hw/fifo-peripheral.ts): a client of slave DMA, as a serial or audio driver is one.
 * It takes its channels when a transfer begins and gives them back when it ends.
 */
import { EINVAL, EIO, ENODEV, ENOMEM, type Errno, ETIMEDOUT, isErr, OK, physAddr } from '../base/index.ts';
import {
  type Cookie,
  DMA_CTRL_ACK,
  DMA_DEV_TO_MEM,
  DMA_MEM_TO_DEV,
  DMA_PREP_INTERRUPT,
  DMA_SLAVE_BUSWIDTH_4_BYTES,
  DMA_TRANS_NOERROR,
  type DmaChan,
  DmaTxState,
  dmaAsyncIssuePending,
  dmaenginePrepDmaCyclic,
  dmaenginePrepSlaveSg,
  dmaengineSlaveConfig,
  dmaengineSubmit,
  dmaengineTerminateSync,
  dmaengineTxStatus,
  dmaGetSlaveCaps,
  dmaReleaseChannel,
  dmaRequestChan,
  dmaSubmitError,
  emptySlaveCaps,
} from '../dmaengine/index.ts';
import {
  Completion,
  complete,
  cpuRelax,
  type Device,
  type DeviceDriver,
  DMA_FROM_DEVICE,
  DMA_TO_DEVICE,
  devGetDrvdata,
  devmPlatformIoremapResource,
  devSetDrvdata,
  type IoMem,
  type Mem,
  ofPropertyReadU32,
  type PlatformDevice,
  readl,
  waitForCompletionTimeout,
  writel,
} from '../kernel/index.ts';
import { type DmaCoherent, dmaMapSg, dmaUnmapSg, type Scatterlist, sgAlloc, sgAt, sgSetBuf } from '../mapping/index.ts';
import { FIFO, FIFO_WORDS } from '../regs/fifo-peripheral.ts';

const { EN, TXEN, RXEN, LOOP, DMAEN, TXCLR, RXCLR } = FIFO.CTRL;
const { TX_UNDERRUN } = FIFO.STATUS;
const { TX, RX } = FIFO.THRESHOLD;
const DEFAULT_RATE_HZ = 1_000_000;
/** Looks at the level until the engine is given up: the clock then starts anyway, and the port tells of the underrun. */
const START_POLLS = 100;
const STATUS_FLAGS = FIFO.STATUS.clearMask;

/** What the driver knows of its port. */
interface FifoPort {
  readonly io: IoMem;
  /** The data register as DMA controllers see it: the node's address, not translated for the CPU. */
  readonly dataAddr: number;
}

/** How a transfer is to go. */
export interface FifoOptions {
  /** Samples (words) a second; default 1,000,000. */
  readonly rateHz?: number;
  /** Words a burst, a divisor of the length; default 4. A controller that knows no bursts moves single words. */
  readonly burst?: number;
  /** Entries of the scatterlist into which each buffer is cut; default 1. */
  readonly pieces?: number;
  /** Give up after this long; default ten times what the rate allows, and 1 ms. */
  readonly timeoutNs?: number;
}

/** What became of a transfer. */
export interface FifoResult {
  /** OK; -EIO when the engine reports an error, -ETIMEDOUT when it did not end, or what kept it from starting. */
  readonly error: Errno;
  /** The port's error flags (FIFO.STATUS), 0 when everybody was in time. */
  readonly status: number;
  /** Bytes that were not transferred. */
  readonly txResidue: number;
  readonly rxResidue: number;
}

const failed = (error: Errno): FifoResult => ({ error, status: 0, txResidue: 0, rxResidue: 0 });

/** One direction of a loopback. */
class Stream {
  readonly #chan: DmaChan;
  readonly #toDevice: boolean;
  readonly #sgl: Scatterlist;
  readonly #pieces: number;
  readonly #state = new DmaTxState();
  readonly done: Completion;
  #cookie: Cookie = 0;
  #mapped = 0;
  result: number = DMA_TRANS_NOERROR;
  /** The port's complaints of the transmitter when the last word was in its FIFO. */
  statusAtEnd = 0;

  constructor(chan: DmaChan, mem: Mem, toDevice: boolean, pieces: number) {
    this.#chan = chan;
    this.#toDevice = toDevice;
    this.#pieces = pieces;
    this.#sgl = cut(mem, pieces);
    this.done = new Completion(chan.device.kernel, `fifo ${toDevice ? 'tx' : 'rx'}`);
  }
  get #direction(): 1 | 2 {
    return this.#toDevice ? DMA_TO_DEVICE : DMA_FROM_DEVICE;
  }

  /** Map, prepare, submit. */
  queue(): Errno {
    // The controller does the accesses: buffers are mapped for it, not for the port.
    this.#mapped = dmaMapSg(this.#chan.device.dev, this.#sgl, this.#pieces, this.#direction);
    if (this.#mapped === 0) return ENOMEM;
    const direction = this.#toDevice ? DMA_MEM_TO_DEV : DMA_DEV_TO_MEM;
    const flags = DMA_PREP_INTERRUPT | DMA_CTRL_ACK;
    const tx = dmaenginePrepSlaveSg(this.#chan, this.#sgl, this.#mapped, direction, flags);
    if (tx === null) return EINVAL;
    tx.callbackResult = (_param, { result }) => {
      this.result = result;
      complete(this.done);
    };
    this.#cookie = dmaengineSubmit(tx);
    if (dmaSubmitError(this.#cookie)) return this.#cookie as Errno;
    dmaAsyncIssuePending(this.#chan);
    return OK;
  }
  residue(): number {
    dmaengineTxStatus(this.#chan, this.#cookie, this.#state);
    return this.#state.residue;
  }
  async end(): Promise<void> {
    await dmaengineTerminateSync(this.#chan);
    if (this.#mapped > 0) dmaUnmapSg(this.#chan.device.dev, this.#sgl, this.#pieces, this.#direction);
  }
}

/** A list of `pieces` parts of a buffer, whole words each. */
function cut(mem: Mem, pieces: number): Scatterlist {
  const sgl = sgAlloc(pieces);
  const words = Math.floor(mem.size / 4 / pieces);
  for (let i = 0; i < pieces; i++) {
    const at = i * words * 4;
    sgSetBuf(sgAt(sgl, i), mem.slice(at, i === pieces - 1 ? mem.size - at : words * 4));
  }
  return sgl;
}

/**
 * Send `tx` and receive it again into `rx`, both at once. The buffers have one size, a multiple of the burst. Sleeps.
 * Errors: see `FifoResult`; -ENODEV and -EPROBE_DEFER when the node's channels cannot be had.
 */
export async function fifoLoopback(dev: Device, tx: Mem, rx: Mem, options: FifoOptions = {}): Promise<FifoResult> {
  const { burst = 4, pieces = 1 } = options;
  if (tx.size !== rx.size || tx.size === 0 || tx.size % (burst * 4 * pieces) !== 0) return failed(EINVAL);
  const txChan = await dmaRequestChan(dev, 'tx');
  if (isErr(txChan)) return failed(txChan);
  const rxChan = await dmaRequestChan(dev, 'rx');
  if (isErr(rxChan)) {
    await dmaReleaseChannel(txChan);
    return failed(rxChan);
  }
  const out = new Stream(txChan, tx, true, pieces);
  const back = new Stream(rxChan, rx, false, pieces);
  const usable = Math.min(burstFor(txChan, burst), burstFor(rxChan, burst));
  let error = configure(dev, txChan, usable);
  if (error === OK) error = configure(dev, rxChan, usable);
  if (error === OK) error = back.queue();
  if (error === OK) error = out.queue();
  let status = 0;
  let [txResidue, rxResidue] = [0, 0];
  if (error === OK) {
    startPort(dev, options, usable, TXEN.mask | RXEN.mask | LOOP.mask);
    const ended = await waitForBoth(dev, out, back, options.timeoutNs ?? defaultTimeoutNs(options, tx.size));
    if (!ended) error = ETIMEDOUT;
    else if (back.result !== DMA_TRANS_NOERROR || out.result !== DMA_TRANS_NOERROR) error = EIO;
    [txResidue, rxResidue] = [out.residue(), back.residue()];
    const late = stopPort(dev);
    status = ended ? (late & ~TX_UNDERRUN.mask) | out.statusAtEnd : late;
  }
  await out.end();
  await back.end();
  await dmaReleaseChannel(rxChan);
  await dmaReleaseChannel(txChan);
  return { error, status, txResidue, rxResidue };
}

/** False when it took too long. */
async function waitForBoth(dev: Device, out: Stream, back: Stream, timeoutNs: number): Promise<boolean> {
  if ((await waitForCompletionTimeout(out.done, timeoutNs)) === 0) return false;
  // What is in the FIFO now is the last: once it is sent, an empty FIFO is nobody's fault.
  out.statusAtEnd = readl(devGetDrvdata<FifoPort>(dev).io, FIFO.STATUS.offset) & TX_UNDERRUN.mask;
  return (await waitForCompletionTimeout(back.done, timeoutNs)) > 0;
}
function defaultTimeoutNs(options: FifoOptions, sizeBytes: number): number {
  return 1_000_000 + (10e9 * (sizeBytes / 4)) / (options.rateHz ?? DEFAULT_RATE_HZ);
}

/** Called in softirq context after each period with its number, from 0 on. */
export type PeriodCallback = (period: number) => void;

/**
 * Record the port's counter into a ring of periods, as audio drivers do, until `periods` of them were filled. A period is
 * a multiple of the burst, the buffer one of the period. Sleeps.
 */
export async function fifoCapture(
  dev: Device,
  ring: DmaCoherent,
  periodBytes: number,
  periods: number,
  onPeriod: PeriodCallback,
  options: FifoOptions = {},
): Promise<FifoResult> {
  const chan = await dmaRequestChan(dev, 'rx');
  if (isErr(chan)) return failed(chan);
  const burst = burstFor(chan, options.burst ?? 4);
  const enough = new Completion(dev.kernel, 'fifo capture');
  let filled = 0;
  let status = 0;
  let error = configure(dev, chan, burst);
  const tx =
    error === OK
      ? dmaenginePrepDmaCyclic(chan, ring.handle, ring.mem.size, periodBytes, DMA_DEV_TO_MEM, DMA_PREP_INTERRUPT)
      : null;
  if (tx === null) error = error === OK ? EINVAL : error;
  else {
    tx.callback = () => {
      if (filled < periods) onPeriod(filled);
      if (++filled === periods) complete(enough);
    };
    dmaengineSubmit(tx);
    dmaAsyncIssuePending(chan);
    startPort(dev, options, burst, RXEN.mask);
    const timeoutNs = options.timeoutNs ?? defaultTimeoutNs(options, periodBytes * periods);
    if ((await waitForCompletionTimeout(enough, timeoutNs)) === 0) error = ETIMEDOUT;
    status = stopPort(dev);
  }
  await dmaengineTerminateSync(chan);
  await dmaReleaseChannel(chan);
  return { error, status, txResidue: 0, rxResidue: 0 };
}

/** A request must be for as many words as the controller moves at once, or the last ones would wait for company. */
function burstFor(chan: DmaChan, wanted: number): number {
  const caps = emptySlaveCaps();
  return dmaGetSlaveCaps(chan, caps) === OK ? Math.min(wanted, Math.max(caps.maxBurst, 1)) : 1;
}

function configure(dev: Device, chan: DmaChan, burst: number): Errno {
  const { dataAddr } = devGetDrvdata<FifoPort>(dev);
  return dmaengineSlaveConfig(chan, {
    srcAddr: physAddr(dataAddr),
    dstAddr: physAddr(dataAddr),
    srcAddrWidth: DMA_SLAVE_BUSWIDTH_4_BYTES,
    dstAddrWidth: DMA_SLAVE_BUSWIDTH_4_BYTES,
    srcMaxburst: burst,
    dstMaxburst: burst,
  });
}

function startPort(dev: Device, options: FifoOptions, burst: number, mode: number): void {
  const { io } = devGetDrvdata<FifoPort>(dev);
  writel(TXCLR.mask | RXCLR.mask, io, FIFO.CTRL.offset);
  writel(STATUS_FLAGS, io, FIFO.STATUS.offset);
  writel(options.rateHz ?? DEFAULT_RATE_HZ, io, FIFO.RATE.offset);
  // A request is for a whole burst, so there must be room for it, or that many words.
  writel(TX.prep(FIFO_WORDS - burst) | RX.prep(burst), io, FIFO.THRESHOLD.offset);
  // The transmitter gets a head start, so that the clock's first tick finds a word.
  writel(mode | DMAEN.mask, io, FIFO.CTRL.offset);
  const sends = TXEN.test(mode);
  for (let i = 0; sends && i < START_POLLS && TX.get(readl(io, FIFO.LEVEL.offset)) === 0; i++) cpuRelax(dev.kernel);
  writel(mode | DMAEN.mask | EN.mask, io, FIFO.CTRL.offset);
}

/** Returns the error flags. */
function stopPort(dev: Device): number {
  const { io } = devGetDrvdata<FifoPort>(dev);
  const status = readl(io, FIFO.STATUS.offset);
  writel(TXCLR.mask | RXCLR.mask, io, FIFO.CTRL.offset);
  return status;
}

function probe(dev: PlatformDevice): Errno {
  const io = devmPlatformIoremapResource(dev, 0);
  if (isErr(io)) return io;
  const bus = dev.ofNode === null ? null : ofPropertyReadU32(dev.ofNode, 'reg');
  if (bus === null) return ENODEV;
  const port: FifoPort = { io, dataAddr: bus + FIFO.DATA.offset };
  devSetDrvdata(dev, port);
  return OK;
}

/** The driver; `fifoLoopback` and `fifoCapture` use a device that it is bound to. */
export const fifoClientDriver: DeviceDriver = {
  name: 'fifo-port',
  compatible: ['dmakit,fifo-port'],
  probe: (dev) => probe(dev as PlatformDevice),
};
