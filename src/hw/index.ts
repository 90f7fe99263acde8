export { Bcm2835DmaModel, type Bcm2835DmaOptions } from './bcm2835-dma.ts';
export { type BusWindow, BusWindows } from './bcm2835-dma-bus.ts';
export type { ChannelTiming as Bcm2835DmaTiming } from './bcm2835-dma-channel.ts';
export { FifoPeripheral, type FifoPeripheralOptions } from './fifo-peripheral.ts';
export { Pl330Model } from './pl330.ts';
export type { PeripheralRequest, Pl330Options, Pl330Timing } from './pl330-config.ts';
export { VtdModel } from './vtd.ts';
export type { VtdOptions } from './vtd-config.ts';
