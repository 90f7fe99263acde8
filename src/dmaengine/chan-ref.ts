/** Taking and giving back holds on channels; all under `dma_list_mutex`. */
import { ENODEV, type Errno, OK } from '../base/errno.ts';
import { DMA_PRIVATE, dmaHasCap } from './cap-mask.ts';
import { dmaengineCore } from './core.ts';
import type { DmaChan } from './dma-chan.ts';
import type { DmaDevice } from './dma-device.ts';
import { dmaengineSynchronize } from './terminate.ts';

/** @internal One hold more; the first allocates the channel's resources. @linux dma_chan_get */
export function dmaChanGet(chan: DmaChan): Errno {
  if (chan.clientCount > 0) {
    chan.clientCount++;
    return OK;
  }
  const { device } = chan;
  // The last hold went with unregistration: the device only waits for its last client.
  if (device.refs === 0) return ENODEV;
  device.refs++;
  const allocated = device.deviceAllocChanResources?.(chan) ?? 0;
  if (allocated < 0) {
    device.refs--;
    return allocated as Errno;
  }
  chan.everIssued = false;
  chan.clientCount++;
  // A public channel counts one hold for each client of the general pool.
  if (!dmaHasCap(DMA_PRIVATE, device.capMask)) {
    chan.clientCount = Math.max(chan.clientCount, dmaengineCore(device.kernel).refCount);
  }
  return OK;
}

/** @internal One hold less; with the last one, wait until the channel is quiet and free its resources. @linux dma_chan_put */
export async function dmaChanPut(chan: DmaChan): Promise<void> {
  if (chan.clientCount === 0) return;
  chan.clientCount--;
  if (chan.clientCount > 0) return;
  const { device } = chan;
  if (device.deviceFreeChanResources !== undefined) {
    await dmaengineSynchronize(chan);
    await device.deviceFreeChanResources(chan);
  }
  const { router } = chan;
  if (router !== null) {
    router.routeFree(router.dev, chan.routeData);
    chan.router = null;
    chan.routeData = null;
  }
  // What the client left behind is gone with the resources.
  chan.issuedCookie = chan.stoppedCookie = chan.cookie;
  dmaDevicePut(device);
}

/** @internal One hold on the device less; the last one takes it off the list. @linux dma_device_put */
export function dmaDevicePut(device: DmaDevice): void {
  if (--device.refs > 0) return;
  const { devices } = dmaengineCore(device.kernel);
  const index = devices.indexOf(device);
  if (index >= 0) devices.splice(index, 1);
  device.deviceRelease?.();
}
