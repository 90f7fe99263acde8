import { ListNode } from '../base/list.ts';
import type { Device } from '../kernel/device.ts';
import { type Cookie, cookiesBetween, DMA_MIN_COOKIE } from './cookie.ts';
import type { DmaDevice } from './dma-device.ts';

/** A crossbar in front of controllers: it routes a peripheral's request line to a channel. @linux struct dma_router */
export interface DmaRouter {
  readonly dev: Device;
  /** Take back what `routeData` stands for. */
  routeFree(dev: Device, routeData: unknown): void;
}

/**
 * One channel of a DMA device. Providers subclass it (or `VirtDmaChan`); it is a list element, on its device's list of
 * channels.
 * @linux struct dma_chan
 */
export class DmaChan extends ListNode {
  /** @internal Set when the channel is put on its device's list. */
  device!: DmaDevice;
  /** The client's device, when requested for one. */
  slave: Device | null = null;
  /** The last cookie given. */
  cookie: Cookie = DMA_MIN_COOKIE;
  completedCookie: Cookie = DMA_MIN_COOKIE;
  /** Index on its device; -1 before registration. */
  chanId = -1;
  /** `dma0chan1` once registered. @linux dma_chan_name */
  name = '';
  /** `device:name` of the client, for the debugfs summary. */
  dbgClientName: string | null = null;
  /** How many clients hold it. */
  clientCount = 0;
  /** How many places of the channel table it fills. */
  tableCount = 0;
  router: DmaRouter | null = null;
  routeData: unknown = null;
  /** For the provider, or between it and a client's filter function. */
  private: unknown = null;
  /** Whether it is registered: its `name` is valid, and clients may get it. */
  registered = false;
  /** Copies submitted through it. @linux sysfs:memcpy_count */
  memcpyCount = 0;
  /** @linux sysfs:bytes_transferred */
  bytesTransferred = 0;
  /** @internal All cookies up to this one were handed to the hardware. */
  issuedCookie: Cookie = DMA_MIN_COOKIE;
  /** @internal All cookies up to this one were completed or terminated. */
  stoppedCookie: Cookie = DMA_MIN_COOKIE;
  /** @internal Whether the present client has called issue_pending. */
  everIssued = false;

  /** How many descriptors were submitted and not handed to the hardware by `dmaAsyncIssuePending`. */
  get submittedNotIssued(): number {
    return cookiesBetween(this.issuedCookie, this.cookie);
  }
  /** How many descriptors were handed to the hardware and neither completed nor terminated. */
  get issuedNotCompleted(): number {
    const done =
      cookiesBetween(this.stoppedCookie, this.completedCookie) < 0x4000_0000
        ? this.completedCookie
        : this.stoppedCookie;
    const all = cookiesBetween(done, this.issuedCookie);
    return all < 0x4000_0000 ? all : 0;
  }
}

/** A registered channel's name, `dma0chan1`. @linux dma_chan_name */
export function dmaChanName(chan: DmaChan): string {
  return chan.name;
}
