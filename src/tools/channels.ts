/** The DMA channels of a booted board. */
import { DMA_MEMCPY, dmaDevices, dmaHasCap } from '../dmaengine/index.ts';
import { type Kernel, LogLevel } from '../kernel/index.ts';

/** Names of the channels that can copy memory, in order. */
export function channelNames(kernel: Kernel): string[] {
  const names: string[] = [];
  for (const device of dmaDevices(kernel)) {
    if (!dmaHasCap(DMA_MEMCPY, device.capMask)) continue;
    for (const chan of device.channels) names.push(chan.name);
  }
  return names;
}

/**
 * Why devices of the board have no driver: the log's lines of each probe that failed, the driver's own error before the
 * kernel's. Empty when all went well.
 */
export function probeErrors(kernel: Kernel): string[] {
  const { lines } = kernel.log;
  const errors: string[] = [];
  for (const [index, { text }] of lines.entries()) {
    const device = /(\S+): probe with driver \S+ failed with error -\d+$/.exec(text)?.[1];
    if (device === undefined) continue;
    const own = lines[index - 1];
    if (own !== undefined && own.level <= LogLevel.ERR && own.text.includes(`${device}: `)) errors.push(own.text);
    errors.push(text);
  }
  return errors;
}
