/**
 * Driver of the Arm PL330 (CoreLink DMA-330), as Linux's drivers/dma/pl330.c: it writes a program for each piece of a
 * transfer, starts a channel thread on it, and hears of its end by an event. Beyond that driver, an abort becomes the
 * result of its transfer.
 */
import { type DmaAddr, dmaBitMask, EINVAL, ENOMEM, type Errno, isErr, isPowerOf2, List, OK } from '../base/index.ts';
import {
  type Cookie,
  DMA_COMPLETE,
  DMA_CYCLIC,
  DMA_DEV_TO_MEM,
  DMA_ERROR,
  DMA_MEM_TO_DEV,
  DMA_MEM_TO_MEM,
  DMA_MEMCPY,
  DMA_PAUSED,
  DMA_PRIVATE,
  DMA_RESIDUE_GRANULARITY_BURST,
  DMA_SLAVE,
  type DmaChan,
  DmaDevice,
  type DmaSlaveConfig,
  type DmaStatus,
  type DmaTransferDirection,
  type DmaTxState,
  dmaAsyncDeviceRegister,
  dmaAsyncDeviceUnregister,
  dmaBuswidths,
  dmaCapMask,
  dmaCookieInit,
  dmaCookieStatus,
  dmaGetSlaveChannel,
  dmaSetResidue,
  type OfDma,
  type OfDmaSpec,
  ofDmaControllerFree,
  ofDmaControllerRegister,
  type Prepared,
  type VirtDmaDesc,
  vchanDmaDescFreeList,
  vchanFreeChanResources,
  vchanGetAllDescriptors,
  vchanInit,
  vchanIssuePending,
  vchanSynchronize,
  vchanTxPrep,
} from '../dmaengine/index.ts';
import {
  type Device,
  type DeviceDriver,
  devErr,
  devGetDrvdata,
  devInfo,
  devmPlatformIoremapResource,
  devmRequestIrq,
  devSetDrvdata,
  GFP_KERNEL,
  IRQ_HANDLED,
  IRQ_NONE,
  type IrqReturn,
  ofPropertyReadBool,
  type PlatformDevice,
  platformGetIrqOptional,
  readl,
  spinLockIrqsave,
  spinUnlockIrqrestore,
  taskletKill,
  writel,
} from '../kernel/index.ts';
import {
  type DmaCoherent,
  dmaAllocCoherent,
  dmaFreeCoherent,
  dmaSetMaskAndCoherent,
  dmaSetMaxSegSize,
  forEachSg,
  type Scatterlist,
  sgDmaAddress,
  sgDmaLen,
} from '../mapping/index.ts';
import { PL330, PL330_PERIPH_ID } from '../regs/pl330.ts';
import { Pl330Chan } from './pl330-chan.ts';
import { type Pl330Desc, Pl330DescPool } from './pl330-desc.ts';
import { MAX_BURST } from './pl330-program.ts';
import { Pl330Dmac, readDmacConfig } from './pl330-thread.ts';

const { FSRD, FSRC, FTRD, INTMIS, INTCLR } = PL330;
/** Designer and part number; the revision is above. Linux: PERIPH_ID_VAL. */
const PART_MASK = 0xf_ffff;
/** What one program moves at least, with single bytes in all iterations of its loops. */
const MAX_SEGMENT_BYTES = 1_900_800;

class Pl330Device extends DmaDevice {
  readonly dmac: Pl330Dmac;
  readonly microcode: DmaCoherent;
  readonly pool: Pl330DescPool;
  /** By request line. As many as there are threads or request lines; each gets its thread when a client takes it. */
  readonly chans: readonly Pl330Chan[];

  constructor(dmac: Pl330Dmac, microcode: DmaCoherent) {
    super(dmac.dev);
    this.dmac = dmac;
    this.microcode = microcode;
    this.pool = new Pl330DescPool(this.kernel, dmac.dev.name);
    const { channels, peripherals } = dmac.config;
    const count = Math.max(channels, peripherals);
    this.chans = Array.from({ length: count }, (_, peripheral) => new Pl330Chan(dmac, peripheral, this.pool));
    for (const chan of this.chans) vchanInit(chan, this);
    this.capMask =
      peripherals > 0 ? dmaCapMask(DMA_MEMCPY, DMA_SLAVE, DMA_CYCLIC, DMA_PRIVATE) : dmaCapMask(DMA_MEMCPY);
    this.srcAddrWidths = dmaBuswidths(1, 2, 4, 8);
    this.dstAddrWidths = dmaBuswidths(1, 2, 4, 8);
    this.directions = (1 << DMA_DEV_TO_MEM) | (1 << DMA_MEM_TO_DEV);
    this.residueGranularity = DMA_RESIDUE_GRANULARITY_BURST;
    this.maxBurst = MAX_BURST;
  }

  override deviceAllocChanResources(chan: DmaChan): Errno | number {
    const c = chan as Pl330Chan;
    dmaCookieInit(c);
    c.thread = this.dmac.requestThread();
    return c.thread === null ? ENOMEM : 1;
  }
  override async deviceFreeChanResources(chan: DmaChan): Promise<void> {
    const c = chan as Pl330Chan;
    this.deviceTerminateAll(c);
    await taskletKill(c.task);
    vchanFreeChanResources(c);
    if (c.thread !== null) this.dmac.releaseThread(c.thread);
    c.thread = null;
    c.unmapFifo();
  }

  override devicePrepDmaMemcpy(chan: DmaChan, dst: DmaAddr, src: DmaAddr, len: number, flags: number): Prepared {
    if (len === 0) return null;
    const desc = this.pool.get(DMA_MEM_TO_MEM, false);
    desc.append(src, dst, len);
    return vchanTxPrep(chan as Pl330Chan, desc, flags);
  }

  override devicePrepSlaveSg(
    chan: DmaChan,
    sgl: Scatterlist,
    sgLen: number,
    direction: DmaTransferDirection,
    flags: number,
  ): Prepared {
    const c = chan as Pl330Chan;
    const desc = this.#slaveDesc(c, direction, false);
    if (desc === null) return null;
    const fifo = c.prepareFifo(desc);
    let fits = fifo >= 0;
    forEachSg(sgl, sgLen, (sg) => {
      fits &&= this.#appendSlave(desc, fifo, sgDmaAddress(sg), sgDmaLen(sg));
    });
    return this.#finishSlave(c, desc, fits, flags);
  }

  override devicePrepDmaCyclic(
    chan: DmaChan,
    bufAddr: DmaAddr,
    bufLen: number,
    periodLen: number,
    direction: DmaTransferDirection,
    flags: number,
  ): Prepared {
    const c = chan as Pl330Chan;
    if (bufLen % periodLen !== 0) return null;
    const desc = this.#slaveDesc(c, direction, true);
    if (desc === null) return null;
    const fifo = c.prepareFifo(desc);
    let fits = fifo >= 0;
    for (let offset = 0; offset < bufLen && fits; offset += periodLen) {
      fits = this.#appendSlave(desc, fifo, bufAddr + offset, periodLen);
    }
    return this.#finishSlave(c, desc, fits, flags);
  }

  #slaveDesc(c: Pl330Chan, direction: DmaTransferDirection, cyclic: boolean): Pl330Desc | null {
    if (direction !== DMA_MEM_TO_DEV && direction !== DMA_DEV_TO_MEM) {
      devErr(this.dev, 'Invalid dma direction');
      return null;
    }
    if (c.peripheral >= this.dmac.config.peripherals) {
      devErr(this.dev, `Invalid peripheral(${c.peripheral})!`);
      return null;
    }
    return this.pool.get(direction, cyclic);
  }
  /** Whole units only, of a width that the bus has. */
  #appendSlave(desc: Pl330Desc, fifo: DmaAddr, addr: number, bytes: number): boolean {
    if (!isPowerOf2(desc.width) || desc.width > this.dmac.config.widthBytes) {
      devErr(this.dev, `the peripheral's register cannot be ${desc.width} bytes wide`);
      return false;
    }
    if (bytes === 0 || bytes % desc.width !== 0) {
      devErr(this.dev, `${bytes} bytes are no multiple of the peripheral's ${desc.width}`);
      return false;
    }
    if (desc.dir === DMA_DEV_TO_MEM) desc.append(fifo, addr, bytes);
    else desc.append(addr, fifo, bytes);
    return true;
  }
  #finishSlave(c: Pl330Chan, desc: Pl330Desc, fits: boolean, flags: number): Prepared {
    if (fits && desc.segments > 0) return vchanTxPrep(c, desc, flags);
    this.pool.put(desc);
    return null;
  }

  override deviceConfig(chan: DmaChan, config: DmaSlaveConfig): Errno {
    return (chan as Pl330Chan).configure(config);
  }

  override deviceTxStatus(chan: DmaChan, cookie: Cookie, state: DmaTxState | null): DmaStatus {
    const c = chan as Pl330Chan;
    const status = dmaCookieStatus(c, cookie, state);
    if (status === DMA_COMPLETE) return cookie === c.failedCookie ? DMA_ERROR : status;
    const flags = spinLockIrqsave(c.lock);
    if (state !== null) dmaSetResidue(state, c.residue(cookie));
    const paused = c.paused && c.isActive(cookie);
    spinUnlockIrqrestore(c.lock, flags);
    return paused ? DMA_PAUSED : status;
  }

  override deviceIssuePending(chan: DmaChan): void {
    const c = chan as Pl330Chan;
    const flags = spinLockIrqsave(c.lock);
    if (vchanIssuePending(c)) c.kick();
    spinUnlockIrqrestore(c.lock, flags);
  }

  /** There is no resume: a killed program cannot go on. The pause is for reading the residue before terminating. */
  override devicePause(chan: DmaChan): Errno {
    const c = chan as Pl330Chan;
    const flags = spinLockIrqsave(c.lock);
    c.pause();
    spinUnlockIrqrestore(c.lock, flags);
    return OK;
  }
  override deviceTerminateAll(chan: DmaChan): Errno {
    const c = chan as Pl330Chan;
    const head = new List<VirtDmaDesc>('terminated');
    const flags = spinLockIrqsave(c.lock);
    c.terminate();
    vchanGetAllDescriptors(c, head);
    spinUnlockIrqrestore(c.lock, flags);
    vchanDmaDescFreeList(c, head);
    return OK;
  }
  override deviceSynchronize(chan: DmaChan): Promise<void> {
    return vchanSynchronize(chan as Pl330Chan);
  }

  /** All interrupts of the controller come here: abort, and events. Linux: pl330_irq_handler, pl330_update. */
  readonly interrupt = (): IrqReturn => {
    const { io } = this.dmac;
    let handled = false;
    if (FSRD.FS_MGR.test(readl(io, FSRD.offset))) {
      handled = true;
      this.#managerFaulted();
    }
    const faulting = readl(io, FSRC.offset);
    const events = readl(io, INTMIS.offset);
    if (events !== 0) writel(events, io, INTCLR.offset);
    if ((faulting | events) === 0) return handled ? IRQ_HANDLED : IRQ_NONE;
    for (const c of this.chans) {
      if (c.thread === null) continue;
      if (((faulting >>> c.thread.id) & 1) !== 0) c.faulted();
      else if (((events >>> c.thread.event) & 1) !== 0) c.finished();
    }
    return IRQ_HANDLED;
  };
  #managerFaulted(): void {
    devErr(this.dev, `the manager aborted: FTRD 0x${readl(this.dmac.io, FTRD.offset).toString(16)}`);
    this.dmac.stopManager();
    for (const c of this.chans) c.reset();
  }
}

async function probe(dev: PlatformDevice): Promise<Errno> {
  const masked = dmaSetMaskAndCoherent(dev, dmaBitMask(32));
  if (masked !== OK) return masked;
  const io = devmPlatformIoremapResource(dev, 0);
  if (isErr(io)) return io;
  const node = dev.ofNode;
  const noFlushp = node !== null && ofPropertyReadBool(node, 'arm,pl330-broken-no-flushp');
  const periphBurst = node !== null && ofPropertyReadBool(node, 'arm,pl330-periph-burst');
  const config = readDmacConfig(io, noFlushp, periphBurst);
  if ((config.periphId & PART_MASK) !== (PL330_PERIPH_ID & PART_MASK)) {
    devErr(dev, `PERIPH_ID 0x${config.periphId.toString(16)} !`);
    return EINVAL;
  }
  const microcode = dmaAllocCoherent(dev, Pl330Dmac.microcodeBytes(config), GFP_KERNEL);
  if (microcode === null) {
    devErr(dev, "Can't allocate memory!");
    return ENOMEM;
  }
  const device = new Pl330Device(new Pl330Dmac(dev, io, config, microcode.mem, microcode.handle), microcode);
  devSetDrvdata(dev, device);
  const error = start(dev, device);
  if (error !== OK) {
    dmaFreeCoherent(dev, microcode.mem.size, microcode.mem, microcode.handle);
    return error;
  }
  dmaSetMaxSegSize(dev, MAX_SEGMENT_BYTES);
  devInfo(dev, `Loaded driver for PL330 DMAC-${config.periphId.toString(16)}`);
  const { dataBufferLines, widthBytes, channels, peripherals, events } = config;
  devInfo(
    dev,
    `\tDBUFF-${dataBufferLines}x${widthBytes}bytes Num_Chans-${channels} Num_Peri-${peripherals} Num_Events-${events}`,
  );
  return OK;
}

/** Interrupts, registration. */
function start(dev: PlatformDevice, device: Pl330Device): Errno {
  for (let index = 0; ; index++) {
    const irq = platformGetIrqOptional(dev, index);
    if (irq < 0) break;
    const error = devmRequestIrq(dev, irq, device.interrupt, 0, dev.name, device);
    if (error !== OK) return error;
  }
  const registered = dmaAsyncDeviceRegister(device);
  if (registered !== OK) {
    devErr(dev, 'unable to register DMAC');
    return registered;
  }
  if (dev.ofNode !== null && ofDmaControllerRegister(dev, xlate, device) !== OK) {
    devErr(dev, 'unable to register DMA to the generic DT DMA helpers');
  }
  return OK;
}

/** One cell: the request line, which is the channel's number. Linux: of_dma_pl330_xlate. */
async function xlate(spec: OfDmaSpec, ofdma: OfDma): Promise<DmaChan | Errno | null> {
  const device = ofdma.data as Pl330Device;
  const number = spec.args[0];
  if (spec.args.length !== 1 || number === undefined || number >= device.dmac.config.peripherals) return null;
  const chan = device.chans[number];
  return chan === undefined ? null : await dmaGetSlaveChannel(chan);
}

async function remove(dev: Device): Promise<void> {
  const device = devGetDrvdata<Pl330Device>(dev);
  ofDmaControllerFree(dev);
  dmaAsyncDeviceUnregister(device);
  for (const { task } of device.chans) await taskletKill(task);
  const { mem, handle } = device.microcode;
  dmaFreeCoherent(dev, mem.size, mem, handle);
}

/** The driver. @linux pl330_driver */
export const pl330Driver: DeviceDriver = {
  name: 'dma-pl330',
  compatible: ['arm,pl330'],
  probe: (dev) => probe(dev as PlatformDevice),
  remove,
};
