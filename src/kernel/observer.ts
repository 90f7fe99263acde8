/** What the kernel tells its observer. All times are in nanoseconds since start. */
import type { Device, DeviceDriver } from './device.ts';
import type { LogLine } from './printk.ts';

/** In which context code runs. */
export type ContextKind = 'process' | 'softirq' | 'hardirq';

/** What kind of report the kernel made about the code that runs on it. */
export type SplatKind =
  | 'warn'
  | 'sleep-in-atomic'
  | 'scheduling-while-atomic'
  | 'deadlock'
  | 'lock-usage'
  | 'lock'
  | 'context-imbalance'
  | 'nobody-cared'
  | 'irq'
  | 'oops'
  | 'io'
  | 'memory'
  | 'devres';

/** A warning or bug, as the kernel would print it with a stack trace. */
export interface Splat {
  readonly kind: SplatKind;
  /** The kernel's wording, first line of the report. */
  readonly message: string;
  readonly timeNs: number;
  /** Where in the source it happened, or '' where that is unknown. */
  readonly place: string;
}

/** Implement any of these; absent ones cost nothing. */
export interface KernelObserver {
  splat?(splat: Splat): void;
  log?(line: LogLine): void;
  /** A handler, tasklet or timer begins, in the given context. */
  enter?(timeNs: number, context: ContextKind, what: string): void;
  /** It ends. */
  leave?(timeNs: number, context: ContextKind, what: string): void;
  /** Another task runs; null: all wait. */
  taskSwitch?(timeNs: number, task: string | null): void;
  /** Memory was handed out by one of the kernel's allocators ('pages', 'slab', 'vmalloc'). */
  alloc?(timeNs: number, allocator: string, phys: number, sizeBytes: number): void;
  free?(timeNs: number, allocator: string, phys: number, sizeBytes: number): void;
  /** A driver was bound to a device. */
  bound?(timeNs: number, device: Device, driver: DeviceDriver): void;
  /** A driver was unbound; its managed resources are released. */
  unbound?(timeNs: number, device: Device, driver: DeviceDriver): void;
}
