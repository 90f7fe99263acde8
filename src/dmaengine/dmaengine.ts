/** Registering DMA devices and their channels. */
import { EIO, ENODEV, type Errno, OK } from '../base/errno.ts';
import { devErr } from '../kernel/device.ts';
import { devmAddAction } from '../kernel/devres.ts';
import { warnOnce } from '../kernel/panic.ts';
import {
  DMA_ASYNC_TX,
  DMA_CYCLIC,
  DMA_INTERLEAVE,
  DMA_INTERRUPT,
  DMA_MEMCPY,
  DMA_MEMSET,
  DMA_PQ,
  DMA_PQ_VAL,
  DMA_PRIVATE,
  DMA_XOR,
  DMA_XOR_VAL,
  type DmaTransactionType,
  dmaCapMask,
  dmaCapSet,
  dmaCapsSatisfy,
  dmaHasCap,
  dmaTransactionTypeName,
} from './cap-mask.ts';
import { dmaChanGet, dmaDevicePut } from './chan-ref.ts';
import { dmaChannelRebalance } from './channel-table.ts';
import { dmaengineCore, idaAlloc, idaFree } from './core.ts';
import type { DmaChan } from './dma-chan.ts';
import type { DmaDevice } from './dma-device.ts';

/** The operation that a device must have for each capability it claims. */
const OPERATIONS: readonly (readonly [DmaTransactionType, keyof DmaDevice])[] = [
  [DMA_MEMCPY, 'devicePrepDmaMemcpy'],
  [DMA_XOR, 'devicePrepDmaXor'],
  [DMA_XOR_VAL, 'devicePrepDmaXorVal'],
  [DMA_PQ, 'devicePrepDmaPq'],
  [DMA_PQ_VAL, 'devicePrepDmaPqVal'],
  [DMA_MEMSET, 'devicePrepDmaMemset'],
  [DMA_INTERRUPT, 'devicePrepDmaInterrupt'],
  [DMA_CYCLIC, 'devicePrepDmaCyclic'],
  [DMA_INTERLEAVE, 'devicePrepInterleavedDma'],
];

/** A device with all of these can serve every operation of async_tx on one channel. */
const ALL_TX_TYPES = dmaCapMask(DMA_INTERRUPT, DMA_MEMCPY, DMA_XOR, DMA_XOR_VAL, DMA_PQ, DMA_PQ_VAL);

function checkOperations(device: DmaDevice): Errno {
  const { dev } = device;
  for (const [type, operation] of OPERATIONS) {
    if (dmaHasCap(type, device.capMask) && device[operation] === undefined) {
      devErr(dev, `Device claims capability ${dmaTransactionTypeName(type)}, but op is not defined`);
      return EIO;
    }
  }
  if (device.deviceTxStatus === undefined) {
    devErr(dev, 'Device tx_status is not defined');
    return EIO;
  }
  if (device.deviceIssuePending === undefined) {
    devErr(dev, 'Device issue_pending is not defined');
    return EIO;
  }
  return OK;
}

function channelRegister(device: DmaDevice, chan: DmaChan): void {
  chan.device = device;
  chan.chanId = idaAlloc(device.chanIds);
  chan.name = `dma${device.devId}chan${chan.chanId}`;
  chan.clientCount = 0;
  chan.registered = true;
  device.chancnt++;
}

function channelUnregister(device: DmaDevice, chan: DmaChan): void {
  if (!chan.registered) return;
  warnOnce(
    device.kernel,
    device.deviceRelease === undefined && chan.clientCount > 0,
    `__dma_async_device_channel_unregister called while ${chan.clientCount} clients hold a reference`,
  );
  device.chancnt--;
  chan.registered = false;
  idaFree(device.chanIds, chan.chanId);
}

/**
 * Make a device and the channels on its list known: it becomes `dmaN` with the lowest free N, the channels `dmaNchanM`.
 * -EIO, with a message, when an operation is missing that it claims or must have. Process context.
 * @linux dma_async_device_register
 */
export function dmaAsyncDeviceRegister(device: DmaDevice): Errno {
  const core = dmaengineCore(device.kernel);
  const error = checkOperations(device);
  if (error !== OK) return error;
  device.refs = 1;
  if (dmaCapsSatisfy(device.capMask, ALL_TX_TYPES)) device.capMask = dmaCapSet(DMA_ASYNC_TX, device.capMask);
  device.devId = idaAlloc(core.ids);
  for (const chan of device.channels) channelRegister(device, chan);
  if (core.refCount > 0 && !dmaHasCap(DMA_PRIVATE, device.capMask)) {
    // Clients of the general pool wait for channels already: hold them on their behalf.
    for (const chan of device.channels) {
      if (dmaChanGet(chan) !== ENODEV) continue;
      for (const other of device.channels) channelUnregister(device, other);
      idaFree(core.ids, device.devId);
      return ENODEV;
    }
  }
  core.devices.push(device);
  if (dmaHasCap(DMA_PRIVATE, device.capMask)) device.privatecnt++;
  dmaChannelRebalance(core);
  return OK;
}

/**
 * Take a device back. While clients hold channels, a warning is given unless the device has `deviceRelease`, which is
 * called when the last of them is gone. Process context.
 * @linux dma_async_device_unregister
 */
export function dmaAsyncDeviceUnregister(device: DmaDevice): void {
  const core = dmaengineCore(device.kernel);
  for (const chan of device.channels) channelUnregister(device, chan);
  // Private from now on, so that the table does not take it.
  device.capMask = dmaCapSet(DMA_PRIVATE, device.capMask);
  dmaChannelRebalance(core);
  idaFree(core.ids, device.devId);
  dmaDevicePut(device);
}

/** As `dmaAsyncDeviceRegister`; taken back when the driver is unbound from its device. @linux dmaenginem_async_device_register */
export function dmaenginemAsyncDeviceRegister(device: DmaDevice): Errno {
  const error = dmaAsyncDeviceRegister(device);
  if (error !== OK) return error;
  devmAddAction(device.dev, () => dmaAsyncDeviceUnregister(device));
  return OK;
}

/** Add a channel to a registered device. @linux dma_async_device_channel_register */
export function dmaAsyncDeviceChannelRegister(device: DmaDevice, chan: DmaChan): Errno {
  channelRegister(device, chan);
  dmaChannelRebalance(dmaengineCore(device.kernel));
  return OK;
}
/** Take a channel away from a registered device. @linux dma_async_device_channel_unregister */
export function dmaAsyncDeviceChannelUnregister(device: DmaDevice, chan: DmaChan): void {
  channelUnregister(device, chan);
  dmaChannelRebalance(dmaengineCore(device.kernel));
}
