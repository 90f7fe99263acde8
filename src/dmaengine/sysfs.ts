/** What user space sees: /sys/class/dma, and /sys/kernel/debug/dmaengine/summary. */
import type { Kernel } from '../kernel/kernel.ts';
import { dmaDevices } from './core.ts';
import type { DmaChan } from './dma-chan.ts';
import type { DmaDevice } from './dma-device.ts';

/**
 * The attributes in /sys/class/dma/NAME. In Linux 6.12 nothing counts copies any more, as the helpers that did are gone;
 * here every copy counts that was prepared by `dmaenginePrepDmaMemcpy` and submitted.
 * @linux sysfs:memcpy_count, sysfs:bytes_transferred, sysfs:in_use
 */
export interface DmaChanSysfs {
  readonly name: string;
  readonly memcpyCount: number;
  readonly bytesTransferred: number;
  /** Clients that hold it. */
  readonly inUse: number;
}

/** The attributes of a channel in /sys/class/dma. */
export function dmaChanSysfs(chan: DmaChan): DmaChanSysfs {
  const { name, memcpyCount, bytesTransferred, clientCount } = chan;
  return { name, memcpyCount, bytesTransferred, inUse: clientCount };
}

/** Every channel in /sys/class/dma, by device and number. */
export function sysClassDma(kernel: Kernel): DmaChanSysfs[] {
  const list: DmaChanSysfs[] = [];
  for (const device of dmaDevices(kernel)) {
    for (const chan of device.channels) if (chan.registered) list.push(dmaChanSysfs(chan));
  }
  return list;
}

function deviceSummary(device: DmaDevice): string {
  let text = '';
  for (const chan of device.channels) {
    if (chan.clientCount === 0) continue;
    text += ` ${chan.name.padEnd(13)}| ${chan.dbgClientName ?? 'in-use'}`;
    text += chan.router === null ? '\n' : ` (via router: ${chan.router.dev.name})\n`;
  }
  return text;
}

/** The text of /sys/kernel/debug/dmaengine/summary. @linux debugfs:dmaengine/summary */
export function dmaengineSummary(kernel: Kernel): string {
  const parts = dmaDevices(kernel).map((device) => {
    const head = `dma${device.devId} (${device.dev.name}): number of channels: ${device.chancnt}\n`;
    return head + (device.dbgSummaryShow?.() ?? deviceSummary(device));
  });
  return parts.join('\n');
}
