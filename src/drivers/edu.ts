/**
 * Driver of QEMU's educational device: the client of a PCI function that brings its own DMA engine. Its transfers go to
 * and from the device's buffer of 4 KiB, and end with an interrupt.
 */
import { dmaBitMask, EINVAL, EIO, ENODEV, type Errno, ETIMEDOUT, isErr, OK } from '../base/index.ts';
import {
  Completion,
  complete,
  type Device,
  devErr,
  devGetDrvdata,
  devmRequestIrq,
  devSetDrvdata,
  type IoMem,
  IRQ_HANDLED,
  IRQ_NONE,
  IRQF_SHARED,
  type IrqReturn,
  Mutex,
  mutexLock,
  mutexUnlock,
  PCI_IRQ_INTX,
  PCI_IRQ_MSI,
  type PciDev,
  type PciDriver,
  pciAllocIrqVectors,
  pciBus,
  pciIrqVector,
  pcimEnableDevice,
  pcimIomapRegion,
  pciSetMaster,
  readl,
  reinitCompletion,
  waitForCompletionTimeout,
  writel,
  writeq,
} from '../kernel/index.ts';
import { dmaSetMaskAndCoherent } from '../mapping/index.ts';
import { EDU, EDU_BUFFER_BYTES, EDU_BUFFER_START, EDU_DEVICE_ID, EDU_VENDOR_ID } from '../regs/edu.ts';

const { START, DIRECTION, RAISE_IRQ } = EDU.DMA_COMMAND;
const { FACTORIAL, DMA } = EDU.INTERRUPT_STATUS;
const TO_DEVICE = START.mask | RAISE_IRQ.mask | DIRECTION.prep(DIRECTION.values.TO_DEVICE);
const FROM_DEVICE = START.mask | RAISE_IRQ.mask | DIRECTION.prep(DIRECTION.values.FROM_DEVICE);
/** QEMU's device needs 100 ms for a transfer. */
const TIMEOUT_NS = 1e9;
/** What the device can address, unless the boot argument `edu.dma_bits` says that it was built with more. */
export const EDU_DMA_BITS = 28;

/** What the driver knows of its device. */
interface Edu {
  readonly io: IoMem;
  /** One transfer, and one factorial, at a time. */
  readonly lock: Mutex;
  readonly done: Completion;
}

/** In hardirq context: several devices may share the line. */
function interrupt(edu: Edu): IrqReturn {
  const status = readl(edu.io, EDU.INTERRUPT_STATUS.offset);
  if (status === 0) return IRQ_NONE;
  writel(status, edu.io, EDU.INTERRUPT_ACK.offset);
  if ((status & (DMA.mask | FACTORIAL.mask)) !== 0) complete(edu.done);
  return IRQ_HANDLED;
}

function dmaBitsOf(dev: PciDev): number {
  const bits = Number(dev.kernel.cmdline.get('edu.dma_bits') ?? EDU_DMA_BITS);
  return bits >= 1 && bits <= 64 ? Math.floor(bits) : EDU_DMA_BITS;
}

function probe(dev: PciDev): Errno {
  let error = pcimEnableDevice(dev);
  if (error !== OK) return error;
  const io = pcimIomapRegion(dev, 0, 'edu');
  if (isErr(io)) return io;
  if (EDU.IDENTIFICATION.DEVICE.get(readl(io, EDU.IDENTIFICATION.offset)) !== 0xed) {
    devErr(dev, 'this is no edu device');
    return ENODEV;
  }
  error = dmaSetMaskAndCoherent(dev, dmaBitMask(dmaBitsOf(dev)));
  if (error !== OK) return error;
  const vectors = pciAllocIrqVectors(dev, 1, 1, PCI_IRQ_MSI | PCI_IRQ_INTX);
  if (vectors < 0) return vectors as Errno;
  const { kernel } = dev;
  const edu: Edu = {
    io,
    lock: new Mutex(kernel, `edu ${dev.name}`),
    done: new Completion(kernel, `edu ${dev.name}`),
  };
  devSetDrvdata(dev, edu);
  error = devmRequestIrq(dev, pciIrqVector(dev, 0), () => interrupt(edu), IRQF_SHARED, 'edu', dev);
  if (error !== OK) return error;
  pciSetMaster(dev);
  return OK;
}

async function transfer(dev: Device, source: number, destination: number, bytes: number, command: number) {
  const edu = devGetDrvdata<Edu>(dev);
  await mutexLock(edu.lock);
  try {
    reinitCompletion(edu.done);
    writeq(source, edu.io, EDU.DMA_SOURCE_LO.offset);
    writeq(destination, edu.io, EDU.DMA_DESTINATION_LO.offset);
    writeq(bytes, edu.io, EDU.DMA_COUNT_LO.offset);
    writel(command, edu.io, EDU.DMA_COMMAND.offset);
    const left = await waitForCompletionTimeout(edu.done, TIMEOUT_NS);
    return left === 0 ? ETIMEDOUT : OK;
  } finally {
    mutexUnlock(edu.lock);
  }
}
function inBuffer(offset: number, bytes: number): boolean {
  return offset >= 0 && bytes > 0 && offset + bytes <= EDU_BUFFER_BYTES;
}

/**
 * Have a bound device fetch `bytes` bytes at bus address `addr` into its buffer at `offset`. EINVAL when they do not fit
 * in 4096 bytes, ETIMEDOUT when no interrupt comes. The device reports no bus errors: what it could not read is zeros.
 * Sleeps.
 */
export async function eduDmaToDevice(dev: Device, addr: number, offset: number, bytes: number): Promise<Errno> {
  if (!inBuffer(offset, bytes)) return EINVAL;
  return transfer(dev, addr, EDU_BUFFER_START + offset, bytes, TO_DEVICE);
}
/** The reverse: `bytes` bytes of its buffer go to memory. */
export async function eduDmaFromDevice(dev: Device, addr: number, offset: number, bytes: number): Promise<Errno> {
  if (!inBuffer(offset, bytes)) return EINVAL;
  return transfer(dev, EDU_BUFFER_START + offset, addr, bytes, FROM_DEVICE);
}
/** `n`! modulo 2^32, computed by the device; -ETIMEDOUT when it does not answer. Sleeps. */
export async function eduFactorial(dev: Device, n: number): Promise<number> {
  const edu = devGetDrvdata<Edu>(dev);
  await mutexLock(edu.lock);
  try {
    reinitCompletion(edu.done);
    writel(EDU.STATUS.RAISE_IRQ.mask, edu.io, EDU.STATUS.offset);
    writel(n, edu.io, EDU.FACTORIAL.offset);
    if ((await waitForCompletionTimeout(edu.done, TIMEOUT_NS)) === 0) return ETIMEDOUT;
    return readl(edu.io, EDU.FACTORIAL.offset);
  } finally {
    mutexUnlock(edu.lock);
  }
}
/** Whether the device answers: it inverts what is written to it. EIO when it does not. Any context. */
export function eduCheckAlive(dev: Device, word: number): Errno {
  const { io } = devGetDrvdata<Edu>(dev);
  writel(word, io, EDU.LIVENESS.offset);
  return readl(io, EDU.LIVENESS.offset) === ~word >>> 0 ? OK : EIO;
}

/** The driver. */
export const eduDriver: PciDriver = {
  name: 'edu',
  bus: pciBus,
  idTable: [{ vendor: EDU_VENDOR_ID, device: EDU_DEVICE_ID }],
  probe,
};
