/** The DMA channels of a booted board. */
import { DMA_MEMCPY, dmaDevices, dmaHasCap } from '../dmaengine/index.ts';
import type { Kernel } from '../kernel/index.ts';

/** Names of the channels that can copy memory, in order. */
export function channelNames(kernel: Kernel): string[] {
  const names: string[] = [];
  for (const device of dmaDevices(kernel)) {
    if (!dmaHasCap(DMA_MEMCPY, device.capMask)) continue;
    for (const chan of device.channels) names.push(chan.name);
  }
  return names;
}
