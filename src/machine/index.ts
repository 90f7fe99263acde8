export * from './contract.ts';
export * from './frames.ts';
export { Mem } from './mem.ts';
export * from './model.ts';
export * from './observer.ts';
export { MAX_BANK_BYTES, RamBank } from './ram.ts';
export * from './scheduler.ts';
export { SimMachine, type SimMachineOptions, type SimTimings } from './sim/sim-machine.ts';
export { type SchedulerHost, TaskScheduler } from './task-scheduler.ts';
