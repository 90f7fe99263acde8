/** Stopping and pausing a channel. */
import { EINVAL, ENOSYS, type Errno, OK } from '../base/errno.ts';
import { mightSleep } from '../kernel/context.ts';
import type { DmaChan } from './dma-chan.ts';

function terminate(chan: DmaChan, missing: Errno): Errno {
  const { device } = chan;
  if (device.deviceTerminateAll === undefined) return missing;
  const error = device.deviceTerminateAll(chan);
  chan.issuedCookie = chan.stoppedCookie = chan.cookie;
  device.observer?.terminate?.(chan);
  return error;
}

/**
 * Stop the channel and drop all its descriptors, without waiting for callbacks that run already. Deprecated, as whether
 * it waits was never defined. -ENOSYS when the provider cannot stop.
 * @linux dmaengine_terminate_all
 */
export function dmaengineTerminateAll(chan: DmaChan): Errno {
  return terminate(chan, ENOSYS);
}

/**
 * Stop the channel and drop all its descriptors. Any context, callbacks included. A callback may still be running
 * afterwards, and buffers may not be freed before `dmaengineSynchronize`. -EINVAL when the provider cannot stop.
 * @linux dmaengine_terminate_async
 */
export function dmaengineTerminateAsync(chan: DmaChan): Errno {
  return terminate(chan, EINVAL);
}

/**
 * After `dmaengineTerminateAsync`: wait until the hardware is quiet and no callback runs. May sleep; never from a
 * callback. Without effect on what is issued in between.
 * @linux dmaengine_synchronize
 */
export async function dmaengineSynchronize(chan: DmaChan): Promise<void> {
  const { device } = chan;
  mightSleep(device.kernel, 'dmaengine_synchronize');
  await device.deviceSynchronize?.(chan);
  device.observer?.synchronize?.(chan);
}

/** Stop the channel, drop all its descriptors, and wait until nothing of them runs. May sleep. @linux dmaengine_terminate_sync */
export async function dmaengineTerminateSync(chan: DmaChan): Promise<Errno> {
  const error = dmaengineTerminateAsync(chan);
  if (error !== OK) return error;
  await dmaengineSynchronize(chan);
  return OK;
}

/** Halt the channel where it is. -ENOSYS when the provider cannot. @linux dmaengine_pause */
export function dmaenginePause(chan: DmaChan): Errno {
  const { device } = chan;
  if (device.devicePause === undefined) return ENOSYS;
  device.observer?.pause?.(chan);
  return device.devicePause(chan);
}

/** Go on after `dmaenginePause`. -ENOSYS when the provider cannot. @linux dmaengine_resume */
export function dmaengineResume(chan: DmaChan): Errno {
  const { device } = chan;
  if (device.deviceResume === undefined) return ENOSYS;
  device.observer?.resume?.(chan);
  return device.deviceResume(chan);
}
