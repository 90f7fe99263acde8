/** Drivers: of controllers, and of the clients that show and test them. */
export { bcm2835DmaDriver } from './bcm2835-dma.ts';
export {
  type FifoOptions,
  type FifoResult,
  fifoCapture,
  fifoClientDriver,
  fifoLoopback,
  type PeriodCallback,
} from './fifo-client.ts';
export { pl330Driver } from './pl330.ts';
