/** Getting a channel of one's own, by name, by capability or by filter, and giving it back. */
import { ENODEV, EPROBE_DEFER, type Errno, isErr, OK } from '../base/errno.ts';
import type { Device } from '../kernel/device.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { mutexLock, mutexUnlock } from '../kernel/mutex.ts';
import type { OfNode } from '../kernel/of.ts';
import { warnOnce } from '../kernel/panic.ts';
import {
  DMA_PRIVATE,
  DMA_SLAVE,
  type DmaCapMask,
  dmaCapClear,
  dmaCapMask,
  dmaCapSet,
  dmaCapsSatisfy,
  dmaHasCap,
} from './cap-mask.ts';
import { dmaChanGet, dmaChanPut } from './chan-ref.ts';
import { type DmaengineCore, dmaengineCore } from './core.ts';
import type { DmaChan } from './dma-chan.ts';
import type { DmaDevice, DmaFilterFn } from './dma-device.ts';
import { ofDmaRequestSlaveChannel } from './of-dma.ts';
import { dmaFilterMatch } from './slave-map.ts';

/** A free channel of the device that satisfies mask and filter. */
function privateCandidate(
  device: DmaDevice,
  mask: DmaCapMask,
  filter: DmaFilterFn | null,
  param: unknown,
): DmaChan | null {
  if (!dmaCapsSatisfy(device.capMask, mask)) return null;
  // All channels of a device are private, or all are public.
  if (device.chancnt > 1 && !dmaHasCap(DMA_PRIVATE, device.capMask)) {
    for (const chan of device.channels) if (chan.clientCount > 0) return null;
  }
  for (const chan of device.channels) {
    if (!chan.registered || chan.clientCount > 0) continue;
    if (filter !== null && !filter(chan, param)) continue;
    return chan;
  }
  return null;
}

/** Take a channel exclusively: its device is private while anybody has one so. */
function take(chan: DmaChan): Errno {
  const { device } = chan;
  device.capMask = dmaCapSet(DMA_PRIVATE, device.capMask);
  device.privatecnt++;
  const error = dmaChanGet(chan);
  if (error !== OK) dropPrivate(device);
  return error;
}
function dropPrivate(device: DmaDevice): void {
  if (--device.privatecnt === 0) device.capMask = dmaCapClear(DMA_PRIVATE, device.capMask);
}

/** Find a free channel of the device and take it; -EPROBE_DEFER when there is none. */
function findCandidate(
  device: DmaDevice,
  mask: DmaCapMask,
  filter: DmaFilterFn | null,
  param: unknown,
): DmaChan | Errno {
  const chan = privateCandidate(device, mask, filter, param);
  if (chan === null) return EPROBE_DEFER;
  const error = take(chan);
  if (error === OK) return chan;
  if (error === ENODEV) {
    const { devices } = dmaengineCore(device.kernel);
    devices.splice(devices.indexOf(device), 1);
  }
  return error;
}

async function locked<T>(core: DmaengineCore, body: () => T | Promise<T>): Promise<T> {
  await mutexLock(core.listMutex);
  try {
    return await body();
  } finally {
    mutexUnlock(core.listMutex);
  }
}

function told(chan: DmaChan, client: string | null): DmaChan {
  chan.device.observer?.request?.(chan, client);
  return chan;
}

/** @internal As `dmaRequestChannel`, only from devices of the node `np` unless null. @linux __dma_request_channel */
export function dmaRequestChannelOf(
  kernel: Kernel,
  mask: DmaCapMask,
  filter: DmaFilterFn | null,
  param: unknown,
  np: OfNode | null,
): Promise<DmaChan | null> {
  const core = dmaengineCore(kernel);
  return locked(core, () => {
    for (const device of [...core.devices]) {
      if (np !== null && device.dev.ofNode !== null && device.dev.ofNode !== np) continue;
      const chan = findCandidate(device, mask, filter, param);
      if (!isErr(chan)) return chan;
    }
    return null;
  });
}

/**
 * Take a free channel that has all capabilities of `mask` and that `filter` (given `param`) accepts; null when there is
 * none. Sleeps.
 * @linux dma_request_channel
 */
export async function dmaRequestChannel(
  kernel: Kernel,
  mask: DmaCapMask,
  filter: DmaFilterFn | null = null,
  param: unknown = null,
): Promise<DmaChan | null> {
  const chan = await dmaRequestChannelOf(kernel, mask, filter, param, null);
  return chan === null ? null : told(chan, null);
}

/**
 * Take a free channel that has all capabilities of `mask`. -EPROBE_DEFER while no DMA device is registered, -ENODEV when
 * none of them will do. Sleeps.
 * @linux dma_request_chan_by_mask
 */
export async function dmaRequestChanByMask(kernel: Kernel, mask: DmaCapMask): Promise<DmaChan | Errno> {
  const chan = await dmaRequestChannel(kernel, mask);
  if (chan !== null) return chan;
  return dmaengineCore(kernel).devices.length === 0 ? EPROBE_DEFER : ENODEV;
}

/** Take this very channel, for providers' xlate functions; null when it is in use. Sleeps. @linux dma_get_slave_channel */
export function dmaGetSlaveChannel(chan: DmaChan): Promise<DmaChan | null> {
  return locked(dmaengineCore(chan.device.kernel), () => {
    if (chan.clientCount > 0) return null;
    return take(chan) === OK ? chan : null;
  });
}

/** Take any free slave channel of the device, for providers' xlate functions. Sleeps. @linux dma_get_any_slave_channel */
export function dmaGetAnySlaveChannel(device: DmaDevice): Promise<DmaChan | null> {
  return locked(dmaengineCore(device.kernel), () => {
    const chan = findCandidate(device, dmaCapMask(DMA_SLAVE), null, null);
    return isErr(chan) ? null : chan;
  });
}

function bySlaveMap(core: DmaengineCore, dev: Device, name: string): Promise<DmaChan | Errno | null> {
  return locked(core, () => {
    let result: DmaChan | Errno | null = null;
    for (const device of [...core.devices]) {
      const entry = dmaFilterMatch(device, name, dev.name);
      if (entry === null) continue;
      result = findCandidate(device, dmaCapMask(DMA_SLAVE), device.filter!.fn, entry.param);
      if (!isErr(result)) break;
    }
    return result;
  });
}

/**
 * Take the channel that the device calls `name`: as its device-tree node says (`dmas`, `dma-names`), else as a
 * provider's slave map says. -EPROBE_DEFER when its controller is not there yet, -ENODEV when nothing names it. Sleeps.
 * @linux dma_request_chan
 */
export async function dmaRequestChan(dev: Device, name: string): Promise<DmaChan | Errno> {
  let chan: DmaChan | Errno | null = null;
  if (dev.ofNode !== null) chan = await ofDmaRequestSlaveChannel(dev.kernel, dev.ofNode, name);
  if (chan === EPROBE_DEFER) return chan;
  if (chan === null || isErr(chan)) {
    chan = (await bySlaveMap(dmaengineCore(dev.kernel), dev, name)) ?? chan;
    if (chan === null) return EPROBE_DEFER;
    if (isErr(chan)) return chan;
  }
  chan.dbgClientName = `${dev.name}:${name}`;
  chan.slave = dev;
  return told(chan, dev.name);
}

/** Give a channel back: waits until it is quiet, then frees its resources. Sleeps. @linux dma_release_channel */
export function dmaReleaseChannel(chan: DmaChan): Promise<void> {
  const { device } = chan;
  return locked(dmaengineCore(device.kernel), async () => {
    warnOnce(device.kernel, chan.clientCount !== 1, `chan reference count ${chan.clientCount} != 1`);
    await dmaChanPut(chan);
    dropPrivate(device);
    chan.slave = null;
    chan.dbgClientName = null;
    device.observer?.release?.(chan);
  });
}
