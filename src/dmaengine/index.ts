/** The DMA engine: providers register controllers, consumers request channels and queue transfers on them. */
export * from './callback.ts';
export * from './cap-mask.ts';
export {
  dmaGetAnySlaveChannel,
  dmaGetSlaveChannel,
  dmaReleaseChannel,
  dmaRequestChan,
  dmaRequestChanByMask,
  dmaRequestChannel,
} from './channel-request.ts';
export { dmaengineGet, dmaenginePut, dmaFindChannel, dmaIssuePendingAll } from './channel-table.ts';
export * from './cookie.ts';
export { dmaDevices } from './core.ts';
export * from './descriptor.ts';
export { DmaChan, type DmaRouter, dmaChanName } from './dma-chan.ts';
export { DmaDevice, type DmaFilter, type DmaFilterFn, type Prepared } from './dma-device.ts';
export * from './dmaengine.ts';
export * from './observer.ts';
export * from './of-dma.ts';
export { describeOutstanding } from './outstanding.ts';
export * from './prep.ts';
export * from './slave-config.ts';
export * from './slave-map.ts';
export * from './sysfs.ts';
export * from './terminate.ts';
export * from './transfer.ts';
export * from './tx-status.ts';
export * from './types.ts';
export * from './unmap-data.ts';
export * from './virt-dma.ts';
