/** The slice of a kernel that drivers stand on. */
export { FrameKind, frameKindName } from '../machine/frames.ts';
export type { Machine, Mem, RamBank } from '../machine/index.ts';
export * from './arch.ts';
export * from './barrier.ts';
export * from './completion.ts';
export { Context, inAtomic, inInterrupt, mightSleep } from './context.ts';
export * from './contig.ts';
export * from './device.ts';
export { devmAddAction, devmReleaseAction, devmRemoveAction } from './devres.ts';
export * from './dma-direction.ts';
export { deferredDevices } from './driver-core.ts';
export * from './dt.ts';
export * from './fdt.ts';
export * from './gfp.ts';
export * from './highmem.ts';
export * from './io.ts';
export {
  devmRequestIrq,
  devmRequestThreadedIrq,
  disableIrq,
  enableIrq,
  freeIrq,
  IRQ_HANDLED,
  IRQ_NONE,
  IRQ_WAKE_THREAD,
  IRQF_NO_AUTOEN,
  IRQF_ONESHOT,
  IRQF_SHARED,
  type IrqHandler,
  type IrqReturn,
  type IrqThreadFn,
  requestIrq,
  requestThreadedIrq,
  synchronizeIrq,
} from './irq.ts';
export { Kernel, type KernelConfig, type KernelOptions, type ReservedMemory } from './kernel.ts';
export * from './kthread.ts';
export * from './locks.ts';
export * from './mutex.ts';
export type * from './observer.ts';
export {
  type OfNode,
  type OfPhandleArgs,
  ofAllNodes,
  ofCountPhandleWithArgs,
  ofDeviceIsAvailable,
  ofDeviceIsCompatible,
  ofFindCompatibleNode,
  ofFindNodeByPath,
  ofFindNodeByPhandle,
  ofGetProperty,
  ofParsePhandle,
  ofParsePhandleWithArgs,
  ofPropertyMatchString,
  ofPropertyReadBool,
  ofPropertyReadString,
  ofPropertyReadStringArray,
  ofPropertyReadU32,
  ofPropertyReadU32Array,
  ofPropertyReadU64,
} from './of.ts';
export * from './of-address.ts';
export * from './of-irq.ts';
export * from './page-alloc.ts';
export { bugOn, DeadlockError, KernelPanic, oops, panic, splat, warnOn, warnOnce } from './panic.ts';
export * from './pci.ts';
export * from './pci-bus.ts';
export {
  PCI_ROM_RESOURCE,
  PCI_STD_NUM_BARS,
  PciBus,
  PciDev,
  type PciResource,
  pciFindCapability,
  pciFindNextCapability,
  pciName,
  pciReadConfigByte,
  pciReadConfigDword,
  pciReadConfigWord,
  pciWriteConfigByte,
  pciWriteConfigDword,
  pciWriteConfigWord,
  toPciDev,
} from './pci-dev.ts';
export * from './pci-host-bridge.ts';
export * from './pci-msi.ts';
export * from './pci-probe.ts';
export * from './pci-regs.ts';
export * from './platform.ts';
export * from './printk.ts';
export { devmIoremapResource, type Resource, releaseMemRegion, requestMemRegion } from './resource.ts';
export * from './slab.ts';
export * from './tasklet.ts';
export * from './timer.ts';
export * from './user-memory.ts';
export * from './vmalloc.ts';
export * from './wait.ts';
export { MAX_SCHEDULE_TIMEOUT } from './waiter.ts';
export * from './workqueue.ts';
