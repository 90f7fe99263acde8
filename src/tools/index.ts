export {
  type CpuSide,
  costByDescriptor,
  costByRegister,
  doorbellPaysFrom,
  type HandOverCost,
  PCIE_3,
  type PcieLink,
  X86_CPU,
} from './doorbell-cost.ts';
export { type DriverContext, type DriverDefinition, defineDriver, type PciDriverDefinition } from './driver.ts';
