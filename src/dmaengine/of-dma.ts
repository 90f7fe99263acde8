/** Finding channels through the device tree: controllers, routers, and the `dmas` of a client. */
import { ENODEV, EPROBE_DEFER, type Errno, isErr, OK } from '../base/errno.ts';
import type { Device } from '../kernel/device.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { type OfNode, ofParsePhandleWithArgs, ofPropertyReadStringArray, ofPropertyReadU32 } from '../kernel/of.ts';
import { LogLevel, printk } from '../kernel/printk.ts';
import type { DmaCapMask } from './cap-mask.ts';
import { dmaGetSlaveChannel, dmaReleaseChannel, dmaRequestChannelOf } from './channel-request.ts';
import type { DmaChan, DmaRouter } from './dma-chan.ts';
import type { DmaDevice, DmaFilterFn } from './dma-device.ts';

/** A phandle with its arguments: a controller's node, and which of its channels or requests. @linux struct of_phandle_args */
export interface OfDmaSpec {
  np: OfNode;
  args: readonly number[];
}

/** What a controller's xlate gives: a channel taken for the client, null or an errno. */
export type OfDmaXlated = DmaChan | Errno | null;
/** Finds the channel that a client's arguments mean. */
export type OfDmaXlate = (spec: OfDmaSpec, ofdma: OfDma) => Promise<OfDmaXlated> | OfDmaXlated;

/** A registered controller or router. @linux struct of_dma */
export interface OfDma {
  readonly node: OfNode;
  readonly xlate: OfDmaXlate;
  /** What the controller gave at registration. */
  readonly data: unknown;
  readonly router: DmaRouter | null;
  readonly routeAllocate: OfDmaRouteAllocate | null;
}

/**
 * For routers: claim a route for the client's arguments, and change `spec` to what the real controller is to be asked.
 * Returns the route, to be given to `routeFree`; an errno when there is none.
 */
export type OfDmaRouteAllocate = (spec: OfDmaSpec, ofdma: OfDma) => object | Errno;

interface OfDmaState {
  readonly controllers: OfDma[];
  /** Counts requests, so that clients of several channels with one name are spread over them. */
  lastIndex: number;
}
const key = {};
const make = (): OfDmaState => ({ controllers: [], lastIndex: 0 });
const stateOf = (kernel: Kernel): OfDmaState => kernel.subsystem(key, make);

/**
 * For controllers, at the end of probe: clients may ask for channels through the node.
 * @linux of_dma_controller_register
 */
export function ofDmaControllerRegister(dev: Device, xlate: OfDmaXlate, data: unknown): Errno {
  if (dev.ofNode === null) return ENODEV;
  stateOf(dev.kernel).controllers.push({ node: dev.ofNode, xlate, data, router: null, routeAllocate: null });
  return OK;
}

/** For controllers and routers, in remove. @linux of_dma_controller_free */
export function ofDmaControllerFree(dev: Device): void {
  const { controllers } = stateOf(dev.kernel);
  const index = controllers.findIndex((ofdma) => ofdma.node === dev.ofNode);
  if (index >= 0) controllers.splice(index, 1);
}

/** What a controller's node says of its size. */
export interface OfDmaCounts {
  readonly channels: number;
  /** Request lines. */
  readonly requests: number;
}

/**
 * For controllers, in probe: how many channels and request lines the node declares, by the present names of the
 * properties or by the old ones with a `#`; 0 where it does not say.
 * @linux of:dma-channels, of:dma-requests
 */
export function ofDmaReadCounts(node: OfNode): OfDmaCounts {
  const read = (name: string): number => ofPropertyReadU32(node, name) ?? ofPropertyReadU32(node, `#${name}`) ?? 0;
  return { channels: read('dma-channels'), requests: read('dma-requests') };
}

/** What `ofDmaSimpleXlate` is registered with. @linux struct of_dma_filter_info */
export interface OfDmaFilterInfo {
  readonly kernel: Kernel;
  readonly dmaCap: DmaCapMask;
  readonly filterFn: DmaFilterFn | null;
}

/** The one argument goes to the filter function. `data` is an `OfDmaFilterInfo`. @linux of_dma_simple_xlate */
export async function ofDmaSimpleXlate(spec: OfDmaSpec, ofdma: OfDma): Promise<OfDmaXlated> {
  const info = ofdma.data as OfDmaFilterInfo | null;
  if (info === null || info.filterFn === null || spec.args.length !== 1) return null;
  return await dmaRequestChannelOf(info.kernel, info.dmaCap, info.filterFn, spec.args[0], spec.np);
}

/** The one argument is the channel's number. `data` is the `DmaDevice`. @linux of_dma_xlate_by_chan_id */
export async function ofDmaXlateByChanId(spec: OfDmaSpec, ofdma: OfDma): Promise<OfDmaXlated> {
  const device = ofdma.data as DmaDevice | null;
  if (device === null || spec.args.length !== 1) return null;
  for (const chan of device.channels) {
    if (chan.chanId === spec.args[0]) return await dmaGetSlaveChannel(chan);
  }
  return null;
}

/**
 * For routers, at the end of probe: requests through the node are routed to another controller.
 * @linux of_dma_router_register
 */
export function ofDmaRouterRegister(dev: Device, routeAllocate: OfDmaRouteAllocate, router: DmaRouter): Errno {
  if (dev.ofNode === null) return ENODEV;
  stateOf(dev.kernel).controllers.push({
    node: dev.ofNode,
    xlate: routerXlate,
    data: dev.kernel,
    router,
    routeAllocate,
  });
  return OK;
}

async function routerXlate(spec: OfDmaSpec, ofdma: OfDma): Promise<OfDmaXlated> {
  const kernel = ofdma.data as Kernel;
  const router = ofdma.router!;
  const target: OfDmaSpec = { np: spec.np, args: spec.args };
  const route = ofdma.routeAllocate!(target, ofdma);
  if (isErr(route)) return null;
  const controller = findController(kernel, target.np);
  if (controller === null) {
    router.routeFree(router.dev, route);
    return EPROBE_DEFER;
  }
  const chan = await controller.xlate(target, controller);
  if (chan === null || isErr(chan)) {
    router.routeFree(router.dev, route);
    return chan;
  }
  chan.router = router;
  chan.routeData = route;
  const error = chan.device.deviceRouterConfig?.(chan) ?? OK;
  if (error === OK) return chan;
  await dmaReleaseChannel(chan);
  return error;
}

function findController(kernel: Kernel, np: OfNode): OfDma | null {
  return stateOf(kernel).controllers.find((ofdma) => ofdma.node === np) ?? null;
}

/**
 * The channel that a node calls `name`. -ENODEV when the node does not name it, -EPROBE_DEFER when its controller is not
 * registered yet. Sleeps.
 * @linux of_dma_request_slave_channel, of:dmas, of:dma-names, of:#dma-cells
 */
export async function ofDmaRequestSlaveChannel(kernel: Kernel, np: OfNode, name: string): Promise<DmaChan | Errno> {
  if (!np.properties.has('dmas')) return ENODEV;
  const names = ofPropertyReadStringArray(np, 'dma-names');
  if (names === null || names.length === 0) {
    const message = `of_dma_request_slave_channel: dma-names property of node '${np.fullName}' missing or empty`;
    printk(kernel, LogLevel.ERR, message);
    return ENODEV;
  }
  const start = ++stateOf(kernel).lastIndex;
  let missing: Errno = ENODEV;
  for (let i = 0; i < names.length; i++) {
    const index = (i + start) % names.length;
    if (names[index] !== name) continue;
    const spec = ofParsePhandleWithArgs(np, 'dmas', '#dma-cells', index);
    if (spec === null) continue;
    const controller = findController(kernel, spec.node);
    if (controller === null) {
      missing = EPROBE_DEFER;
      continue;
    }
    const chan = await controller.xlate({ np: spec.node, args: spec.args }, controller);
    if (chan !== null) return chan;
  }
  return missing;
}
