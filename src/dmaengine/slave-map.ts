import type { DmaChan } from './dma-chan.ts';
import type { DmaDevice } from './dma-device.ts';

/**
 * Which channel a client gets where no device tree says so: the client's device and channel name, and what the provider's
 * filter function is given.
 * @linux struct dma_slave_map
 */
export interface DmaSlaveMap {
  readonly devname: string;
  readonly slave: string;
  readonly param: unknown;
}

/** The entry of the device's map for a client, or null. @linux dma_filter_match */
export function dmaFilterMatch(device: DmaDevice, name: string, devname: string): DmaSlaveMap | null {
  const { filter } = device;
  if (filter === null) return null;
  return filter.map.find((entry) => entry.devname === devname && entry.slave === name) ?? null;
}

/** The channel filter that goes with `dmaSlaveMap` entries whose param is a channel number. */
export function filterByChanId(chan: DmaChan, param: unknown): boolean {
  return chan.chanId === param;
}
