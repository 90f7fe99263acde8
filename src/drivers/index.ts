/** Drivers: of controllers, and of the clients that show and test them. */
export { armSmmuV3Driver, MSI_IOVA_BASE } from './arm-smmu-v3.ts';
export { bcm2835DmaDriver } from './bcm2835-dma.ts';
export { Dmatest, type DmatestOptions, type DmatestRun, dmatest } from './dmatest.ts';
export { type DmatestParams, dmatestDefaults, dmatestParameterNames, parseDmatestParams } from './dmatest-params.ts';
export type { DmatestResult, DmatestThreadResult } from './dmatest-result.ts';
export {
  EDU_DMA_BITS,
  eduCheckAlive,
  eduDmaFromDevice,
  eduDmaToDevice,
  eduDriver,
  eduFactorial,
} from './edu.ts';
export {
  type FifoOptions,
  type FifoResult,
  fifoCapture,
  fifoClientDriver,
  fifoLoopback,
  type PeriodCallback,
} from './fifo-client.ts';
export {
  type DmarReservedMemory,
  type DmarTable,
  type DmarUnit,
  intelIommuInit,
  intelIommuShutdown,
  intelIommuUnits,
} from './intel-iommu.ts';
export { pciHostGenericDriver } from './pci-host-generic.ts';
export { pl330Driver } from './pl330.ts';
