/**
 * The one stream of events: what happens in a run, as plain data. Schema `dmakit/events/1`, one JSON object a line, the
 * fields in the order in which they are declared here. Addresses are numbers; -1 is none, or a failed mapping. The first
 * line is the header. A run with the same seed gives the same lines, byte for byte.
 */
import type { ContextKind } from '../kernel/index.ts';

/** The schema's name. */
export const EVENT_SCHEMA = 'dmakit/events/1';

/** The first line: what ran. */
export interface HeaderEvent {
  readonly ev: 'header';
  readonly schema: typeof EVENT_SCHEMA;
  readonly board: string;
  /** '' is the board as it is. */
  readonly mode: string;
  readonly seed: number;
}

/** When and in which context: `hardware` is what devices and caches do by themselves. */
export interface EventBase {
  /** Nanoseconds since start. */
  readonly t: number;
  readonly ctx: ContextKind | 'hardware';
  /** The running task, or the interrupted one; '' for none. */
  readonly task: string;
}

type On<Ev extends string, Fields> = EventBase & { readonly ev: Ev } & Readonly<Fields>;

/** Mapping calls. `dir` and `attrs` are the kernel's numbers. */
export type MappingEvent =
  | On<'map', { dev: string; kind: string; phys: number; size: number; addr: number; dir: number; attrs: number }>
  | On<'unmap', { dev: string; kind: string; addr: number; size: number; dir: number; attrs: number }>
  | On<
      'map_sg',
      {
        dev: string;
        nents: number;
        mapped: number;
        dir: number;
        attrs: number;
        segments: readonly (readonly [number, number])[];
      }
    >
  | On<'unmap_sg', { dev: string; nents: number; addr: number; dir: number; attrs: number }>
  | On<'sync', { dev: string; addr: number; size: number; dir: number; for: 'cpu' | 'device' }>
  | On<'sync_sg', { dev: string; nents: number; addr: number; dir: number; for: 'cpu' | 'device' }>
  | On<'alloc', { dev: string; kind: string; phys: number; size: number; addr: number; attrs: number }>
  | On<'free', { dev: string; kind: string; phys: number; size: number; addr: number; attrs: number }>
  | On<'mapping_error', { dev: string; addr: number }>;

/** Calls of and for the DMA engine. */
export type EngineEvent =
  | On<'chan_request', { chan: string; dev: string; client: string }>
  | On<'chan_release', { chan: string }>
  | On<'chan_config', { chan: string }>
  | On<'prep', { chan: string; kind: string; size: number; dst: number; src: number; ok: boolean }>
  | On<'submit', { chan: string; cookie: number }>
  | On<'issue_pending', { chan: string }>
  | On<'complete', { chan: string; cookie: number }>
  | On<'callback', { chan: string; result: number }>
  | On<'pause' | 'resume' | 'terminate' | 'synchronize', { chan: string }>;

/** What the machine shows. */
export type MachineEvent =
  | On<'bus_read' | 'bus_write', { dev: string; addr: number; phys: number; size: number; status: number }>
  | On<'reg_read' | 'reg_write', { addr: number; width: number; value: number }>
  | On<'irq', { line: number }>
  | On<'cache', { op: string; phys: number; size: number }>
  | On<'barrier', { kind: string }>;

/** What the kernel does. */
export type KernelEvent =
  | On<'enter' | 'leave', { what: string }>
  | On<'log', { level: number; text: string }>
  | On<'splat', { kind: string; message: string }>
  | On<'kalloc' | 'kfree', { allocator: string; phys: number; size: number }>
  | On<'bound' | 'unbound', { dev: string; driver: string }>;

/** One line of the stream; `ev` says which. */
export type DmakitEvent = HeaderEvent | MappingEvent | EngineEvent | MachineEvent | KernelEvent;

/** An event as a line of the stream, without line break. */
export function eventLine(event: DmakitEvent): string {
  return JSON.stringify(event);
}
