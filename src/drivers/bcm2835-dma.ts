/**
 * Driver of the BCM2835's DMA controller ("BCM2835 ARM Peripherals", chapter 4), as Linux's drivers/dma/bcm2835-dma.c:
 * copies, scatterlists and cyclic buffers for peripherals. Beyond that driver it looks at the channel's error flags, so
 * that a bus error becomes the result of its transfer.
 */
import { type DmaAddr, dmaBitMask, EINVAL, ENODEV, ENOMEM, type Errno, isErr, List, OK } from '../base/index.ts';
import {
  type Cookie,
  DMA_COMPLETE,
  DMA_CYCLIC,
  DMA_DEV_TO_MEM,
  DMA_ERROR,
  DMA_MEM_TO_DEV,
  DMA_MEM_TO_MEM,
  DMA_MEMCPY,
  DMA_PREP_INTERRUPT,
  DMA_PRIVATE,
  DMA_RESIDUE_GRANULARITY_BURST,
  DMA_SLAVE,
  DMA_SLAVE_BUSWIDTH_4_BYTES,
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
  dmaCookieStatus,
  dmaGetAnySlaveChannel,
  dmaSetResidue,
  isSlaveDirection,
  type OfDma,
  type OfDmaSpec,
  ofDmaControllerFree,
  ofDmaControllerRegister,
  type Prepared,
  type VirtDmaDesc,
  vchanDmaDescFreeList,
  vchanFindDesc,
  vchanFreeChanResources,
  vchanGetAllDescriptors,
  vchanInit,
  vchanIssuePending,
  vchanSynchronize,
  vchanTerminateVdesc,
  vchanTxPrep,
} from '../dmaengine/index.ts';
import {
  type Device,
  type DeviceDriver,
  devErr,
  devGetDrvdata,
  devmPlatformIoremapResource,
  devSetDrvdata,
  devWarn,
  freeIrq,
  type IoMem,
  IRQF_SHARED,
  ofPropertyMatchString,
  ofPropertyReadU32,
  type PlatformDevice,
  platformGetIrq,
  requestIrq,
  spinLockIrqsave,
  spinUnlockIrqrestore,
  taskletKill,
} from '../kernel/index.ts';
import {
  dmaSetMaskAndCoherent,
  dmaSetMaxSegSize,
  forEachSg,
  type Scatterlist,
  sgDmaAddress,
  sgDmaLen,
} from '../mapping/index.ts';
import { CHANNELS, DMA } from '../regs/bcm2835-dma.ts';
import { Bcm2835Chan, type Bcm2835Desc } from './bcm2835-dma-chan.ts';

const { INTEN, WAIT_RESP, DEST_INC, SRC_INC, DEST_DREQ, SRC_DREQ, PERMAP } = DMA.TI;
const NO_ADDRESS = 0 as DmaAddr;

class Bcm2835DmaDevice extends DmaDevice {
  readonly io: IoMem;

  constructor(dev: Device, io: IoMem) {
    super(dev);
    this.io = io;
    this.capMask = dmaCapMask(DMA_SLAVE, DMA_PRIVATE, DMA_CYCLIC, DMA_MEMCPY);
    this.srcAddrWidths = dmaBuswidths(DMA_SLAVE_BUSWIDTH_4_BYTES);
    this.dstAddrWidths = dmaBuswidths(DMA_SLAVE_BUSWIDTH_4_BYTES);
    this.directions = (1 << DMA_DEV_TO_MEM) | (1 << DMA_MEM_TO_DEV) | (1 << DMA_MEM_TO_MEM);
    this.residueGranularity = DMA_RESIDUE_GRANULARITY_BURST;
    this.descriptorReuse = true;
  }

  override deviceAllocChanResources(chan: DmaChan): Errno {
    const c = chan as Bcm2835Chan;
    if (!c.makePool()) {
      devErr(c.dev, 'unable to allocate descriptor pool');
      return ENOMEM;
    }
    const error = requestIrq(this.kernel, c.irq, c.interrupt, c.irqFlags, 'DMA IRQ', c);
    if (error !== OK) c.freePool();
    return error;
  }
  override deviceFreeChanResources(chan: DmaChan): void {
    const c = chan as Bcm2835Chan;
    // Linux's driver relies on clients to terminate first: one that forgets has its memory written after it was freed.
    this.deviceTerminateAll(c);
    vchanFreeChanResources(c);
    freeIrq(this.kernel, c.irq, c);
    c.freePool();
  }

  override devicePrepDmaMemcpy(chan: DmaChan, dst: DmaAddr, src: DmaAddr, len: number, flags: number): Prepared {
    const c = chan as Bcm2835Chan;
    if (src === 0 || dst === 0 || len === 0) return null;
    const desc = c.newDesc(DMA_MEM_TO_MEM, false);
    const built = c.append(desc, DEST_INC.mask | SRC_INC.mask, 0, src, dst, len);
    return finishPrep(c, desc, built, INTEN.mask | WAIT_RESP.mask, flags);
  }

  override devicePrepSlaveSg(
    chan: DmaChan,
    sgl: Scatterlist,
    sgLen: number,
    direction: DmaTransferDirection,
    flags: number,
  ): Prepared {
    const c = chan as Bcm2835Chan;
    const ti = slaveInformation(c, direction, 'bcm2835_dma_prep_slave_sg');
    if (ti < 0) return null;
    const desc = c.newDesc(direction, false);
    const fromDevice = direction === DMA_DEV_TO_MEM;
    const port = portOf(c, direction);
    let built = true;
    forEachSg(sgl, sgLen, (sg) => {
      const addr = sgDmaAddress(sg);
      built &&= c.append(desc, ti, 0, fromDevice ? port : addr, fromDevice ? addr : port, sgDmaLen(sg));
    });
    return finishPrep(c, desc, built, INTEN.mask, flags);
  }

  override devicePrepDmaCyclic(
    chan: DmaChan,
    bufAddr: DmaAddr,
    bufLen: number,
    periodLen: number,
    direction: DmaTransferDirection,
    flags: number,
  ): Prepared {
    const c = chan as Bcm2835Chan;
    const ti = slaveInformation(c, direction, 'bcm2835_dma_prep_dma_cyclic');
    if (ti < 0) return null;
    if (bufLen === 0) {
      devErr(this.dev, 'bcm2835_dma_prep_dma_cyclic: bad buffer length (= 0)');
      return null;
    }
    const interrupts = (flags & DMA_PREP_INTERRUPT) !== 0;
    const period = interrupts ? periodLen : bufLen;
    if (bufLen % period !== 0) {
      devWarn(
        this.dev,
        `bcm2835_dma_prep_dma_cyclic: buffer_length (${bufLen}) is not a multiple of period_len (${period})`,
      );
    }
    const fromDevice = direction === DMA_DEV_TO_MEM;
    const port = portOf(c, direction);
    const extra = interrupts ? INTEN.mask : 0;
    const desc = c.newDesc(direction, true);
    const built = c.append(desc, ti, extra, fromDevice ? port : bufAddr, fromDevice ? bufAddr : port, bufLen, period);
    return finishPrep(c, desc, built, extra, flags);
  }

  override deviceConfig(chan: DmaChan, config: DmaSlaveConfig): Errno {
    (chan as Bcm2835Chan).cfg = { ...config };
    return OK;
  }

  override deviceTxStatus(chan: DmaChan, cookie: Cookie, state: DmaTxState | null): DmaStatus {
    const c = chan as Bcm2835Chan;
    const status = dmaCookieStatus(c, cookie, state);
    if (status === DMA_COMPLETE) return cookie === c.failedCookie ? DMA_ERROR : status;
    if (state === null) return status;
    const flags = spinLockIrqsave(c.lock);
    const vd = vchanFindDesc(c, cookie);
    if (vd !== null) dmaSetResidue(state, (vd as Bcm2835Desc).size);
    else if (c.desc !== null && c.desc.cookie === cookie) dmaSetResidue(state, c.residue());
    spinUnlockIrqrestore(c.lock, flags);
    return status;
  }

  override deviceIssuePending(chan: DmaChan): void {
    const c = chan as Bcm2835Chan;
    const flags = spinLockIrqsave(c.lock);
    if (vchanIssuePending(c) && c.desc === null) c.startDesc();
    spinUnlockIrqrestore(c.lock, flags);
  }

  override deviceTerminateAll(chan: DmaChan): Errno {
    const c = chan as Bcm2835Chan;
    const head = new List<VirtDmaDesc>('terminated');
    const flags = spinLockIrqsave(c.lock);
    if (c.desc !== null) {
      vchanTerminateVdesc(c.desc);
      c.desc = null;
      c.abort();
    }
    vchanGetAllDescriptors(c, head);
    spinUnlockIrqrestore(c.lock, flags);
    vchanDmaDescFreeList(c, head);
    return OK;
  }
  override deviceSynchronize(chan: DmaChan): Promise<void> {
    return vchanSynchronize(chan as Bcm2835Chan);
  }
}

/** The end of every prep function. */
function finishPrep(c: Bcm2835Chan, desc: Bcm2835Desc, built: boolean, extra: number, flags: number): Prepared {
  if (!built || desc.frames === 0) {
    c.descFree(desc);
    return null;
  }
  c.close(desc, extra);
  return vchanTxPrep(c, desc, flags);
}

/** TI of a transfer with a peripheral; -1 when it is none, or the channel is not configured for it. */
function slaveInformation(c: Bcm2835Chan, direction: DmaTransferDirection, who: string): number {
  if (!isSlaveDirection(direction)) {
    devErr(c.dev, `${who}: bad direction?`);
    return -1;
  }
  const fromDevice = direction === DMA_DEV_TO_MEM;
  const width = fromDevice ? c.cfg.srcAddrWidth : c.cfg.dstAddrWidth;
  if (width !== DMA_SLAVE_BUSWIDTH_4_BYTES) return -1;
  const paced = fromDevice ? SRC_DREQ.mask | DEST_INC.mask : DEST_DREQ.mask | SRC_INC.mask;
  return WAIT_RESP.mask | paced | PERMAP.prep(c.dreq);
}
/** The peripheral's data register. As in Linux 6.12 the client gives its address on the controller's bus (0x7e……). */
function portOf(c: Bcm2835Chan, direction: DmaTransferDirection): DmaAddr {
  const port = direction === DMA_DEV_TO_MEM ? c.cfg.srcAddr : c.cfg.dstAddr;
  return port === undefined ? NO_ADDRESS : (port as number as DmaAddr);
}

/** Interrupts of the channels that Linux may use; -1 for the others. */
function channelIrqs(dev: PlatformDevice, channelMask: number): number[] | Errno {
  const irqs: number[] = [];
  for (let ch = 0; ch < CHANNELS; ch++) {
    irqs.push(-1);
    if ((channelMask & (1 << ch)) === 0) continue;
    let index = dev.ofNode === null ? -1 : ofPropertyMatchString(dev.ofNode, 'interrupt-names', `dma${ch}`);
    if (index < 0) {
      devWarn(dev, 'missing interrupt-names property in device tree - legacy interpretation is used');
      index = Math.min(ch, 11);
    }
    const irq = platformGetIrq(dev, index);
    if (irq < 0) return irq as Errno;
    irqs[ch] = irq;
  }
  return irqs;
}

async function probe(dev: PlatformDevice): Promise<Errno> {
  const error = dmaSetMaskAndCoherent(dev, dmaBitMask(32));
  if (error !== OK) {
    devErr(dev, 'Unable to set DMA mask');
    return error;
  }
  dmaSetMaxSegSize(dev, 0x3fff_ffff);
  const io = devmPlatformIoremapResource(dev, 0);
  if (isErr(io)) return io;
  const node = dev.ofNode;
  if (node === null) return ENODEV;
  const channelMask = ofPropertyReadU32(node, 'brcm,dma-channel-mask');
  if (channelMask === null) {
    devErr(dev, 'Failed to get channel mask');
    return EINVAL;
  }
  const irqs = channelIrqs(dev, channelMask);
  if (typeof irqs === 'number') return irqs;
  const device = new Bcm2835DmaDevice(dev, io);
  for (const [ch, irq] of irqs.entries()) {
    if (irq < 0) continue;
    const shared = irqs.some((other, i) => i !== ch && other === irq);
    vchanInit(new Bcm2835Chan(dev, io, ch, irq, shared ? IRQF_SHARED : 0), device);
  }
  devSetDrvdata(dev, device);
  const controller = ofDmaControllerRegister(dev, xlate, device);
  if (controller !== OK) {
    devErr(dev, 'Failed to register DMA controller');
    return controller;
  }
  const registered = dmaAsyncDeviceRegister(device);
  if (registered !== OK) {
    devErr(dev, `Failed to register slave DMA engine device: ${registered}`);
    ofDmaControllerFree(dev);
  }
  return registered;
}

/** One cell: the peripheral's request line. Any channel will do. */
async function xlate(spec: OfDmaSpec, ofdma: OfDma): Promise<DmaChan | null> {
  const chan = await dmaGetAnySlaveChannel(ofdma.data as Bcm2835DmaDevice);
  if (chan !== null) (chan as Bcm2835Chan).dreq = spec.args[0] ?? 0;
  return chan;
}

async function remove(dev: Device): Promise<void> {
  const device = devGetDrvdata<Bcm2835DmaDevice>(dev);
  ofDmaControllerFree(dev);
  dmaAsyncDeviceUnregister(device);
  for (const chan of device.channels) await taskletKill((chan as Bcm2835Chan).task);
}

/** The driver. @linux bcm2835_dma_driver */
export const bcm2835DmaDriver: DeviceDriver = {
  name: 'bcm2835-dma',
  compatible: ['brcm,bcm2835-dma'],
  probe: (dev) => probe(dev as PlatformDevice),
  remove,
};
