/** Makes the stream of events of a run: listens to a machine and its kernel. */
import type { DmaengineObserver } from '../dmaengine/index.ts';
import type { KernelObserver } from '../kernel/index.ts';
import type { MachineObserver } from '../machine/observer.ts';
import { type MappingObserver, type Scatterlist, sgNext } from '../mapping/index.ts';
import type { Checked } from './checker.ts';
import { type DmakitEvent, EVENT_SCHEMA, type EventBase } from './events.ts';
import { addObserver, DMAENGINE_METHODS, KERNEL_METHODS, MACHINE_METHODS, MAPPING_METHODS } from './observers.ts';

/** A run whose events are wanted; a booted board is one. */
export interface EventSource extends Checked {
  readonly board?: string;
  readonly mode?: string;
  readonly seed?: number;
}
/** Who gets them. */
export type EventSink = (event: DmakitEvent) => void;

/**
 * Tell `sink` everything that happens from now on, the header first. Attach after `board.boot()` and before its first
 * `run` to have the probing too. Returns the way to stop.
 */
export function attachEventStream(source: EventSource, sink: EventSink): () => void {
  const { machine, kernel } = source;
  const { board = machine.name, mode = '', seed = 0 } = source;
  sink({ ev: 'header', schema: EVENT_SCHEMA, board, mode, seed });
  const stream = new EventStream(source, sink);
  const detach = [
    addObserver(machine, 'observer', machineEvents(stream), MACHINE_METHODS),
    addObserver(kernel, 'observer', kernelEvents(stream), KERNEL_METHODS),
    addObserver(kernel, 'mappingObserver', mappingEvents(stream), MAPPING_METHODS),
    addObserver(kernel, 'dmaengineObserver', dmaengineEvents(stream), DMAENGINE_METHODS),
  ];
  return () => {
    for (const off of detach.splice(0)) off();
  };
}

type WithoutBase<E> = E extends EventBase ? Omit<E, keyof EventBase> : never;

class EventStream {
  readonly #source: EventSource;
  readonly #sink: EventSink;
  constructor(source: EventSource, sink: EventSink) {
    this.#source = source;
    this.#sink = sink;
  }
  /** Something that code did. */
  byCode(event: WithoutBase<DmakitEvent>, t = this.#source.machine.now()): void {
    const { machine, kernel } = this.#source;
    const task = machine.scheduler.current?.name ?? '';
    this.#sink({ t, ctx: kernel.context.kind, task, ...event } as DmakitEvent);
  }
  /** Something that the hardware did. */
  byHardware(event: WithoutBase<DmakitEvent>, t: number): void {
    this.#sink({ t, ctx: 'hardware', task: '', ...event } as DmakitEvent);
  }
}

function machineEvents(stream: EventStream): MachineObserver {
  return {
    deviceAccess: (t, dev, isWrite, addr, phys, size, status) =>
      stream.byHardware({ ev: isWrite ? 'bus_write' : 'bus_read', dev, addr, phys, size, status }, t),
    registerAccess: (t, isWrite, addr, width, value) =>
      stream.byCode({ ev: isWrite ? 'reg_write' : 'reg_read', addr, width, value }, t),
    interrupt: (t, line) => stream.byHardware({ ev: 'irq', line }, t),
    cacheOp(t, op, phys, size) {
      if (op === 'evict' || op === 'prefetch') stream.byHardware({ ev: 'cache', op, phys, size }, t);
      else stream.byCode({ ev: 'cache', op, phys, size }, t);
    },
    barrier: (t, kind) => stream.byCode({ ev: 'barrier', kind }, t),
  };
}

function kernelEvents(stream: EventStream): KernelObserver {
  return {
    splat: ({ kind, message }) => stream.byCode({ ev: 'splat', kind, message }),
    log: ({ level, text }) => stream.byCode({ ev: 'log', level, text }),
    enter: (t, _context, what) => stream.byCode({ ev: 'enter', what }, t),
    leave: (t, _context, what) => stream.byCode({ ev: 'leave', what }, t),
    alloc: (t, allocator, phys, size) => stream.byCode({ ev: 'kalloc', allocator, phys, size }, t),
    free: (t, allocator, phys, size) => stream.byCode({ ev: 'kfree', allocator, phys, size }, t),
    bound: (t, dev, driver) => stream.byCode({ ev: 'bound', dev: dev.name, driver: driver.name }, t),
    unbound: (t, dev, driver) => stream.byCode({ ev: 'unbound', dev: dev.name, driver: driver.name }, t),
  };
}

function segmentsOf(sgl: Scatterlist, count: number): [number, number][] {
  const segments: [number, number][] = [];
  for (let sg: Scatterlist | null = sgl; sg !== null && segments.length < count; sg = sgNext(sg)) {
    segments.push([sg.dmaAddress, sg.dmaLength]);
  }
  return segments;
}

function mappingEvents(stream: EventStream): MappingObserver {
  return {
    map: ({ name: dev }, kind, phys, size, addr, dir, attrs) =>
      stream.byCode({ ev: 'map', dev, kind, phys, size, addr, dir, attrs }),
    unmap: ({ name: dev }, kind, addr, size, dir, attrs) =>
      stream.byCode({ ev: 'unmap', dev, kind, addr, size, dir, attrs }),
    mapSg: ({ name: dev }, sgl, nents, mapped, dir, attrs) =>
      stream.byCode({ ev: 'map_sg', dev, nents, mapped, dir, attrs, segments: segmentsOf(sgl, mapped) }),
    unmapSg: ({ name: dev }, sgl, nents, dir, attrs) =>
      stream.byCode({ ev: 'unmap_sg', dev, nents, addr: sgl.dmaAddress, dir, attrs }),
    sync: ({ name: dev }, addr, size, dir, forCpu) =>
      stream.byCode({ ev: 'sync', dev, addr, size, dir, for: forCpu ? 'cpu' : 'device' }),
    syncSg: ({ name: dev }, sgl, nents, dir, forCpu) =>
      stream.byCode({ ev: 'sync_sg', dev, nents, addr: sgl.dmaAddress, dir, for: forCpu ? 'cpu' : 'device' }),
    alloc: ({ name: dev }, kind, phys, size, addr, attrs) =>
      stream.byCode({ ev: 'alloc', dev, kind, phys, size, addr, attrs }),
    free: ({ name: dev }, kind, phys, size, addr, attrs) =>
      stream.byCode({ ev: 'free', dev, kind, phys, size, addr, attrs }),
    mappingError: ({ name: dev }, addr) => stream.byCode({ ev: 'mapping_error', dev, addr }),
  };
}

function dmaengineEvents(stream: EventStream): DmaengineObserver {
  return {
    request: (chan, client) =>
      stream.byCode({ ev: 'chan_request', chan: chan.name, dev: chan.device.dev.name, client: client ?? '' }),
    release: ({ name: chan }) => stream.byCode({ ev: 'chan_release', chan }),
    config: ({ name: chan }) => stream.byCode({ ev: 'chan_config', chan }),
    prep: ({ name: chan }, kind, tx, size, dst, src) =>
      stream.byCode({ ev: 'prep', chan, kind, size, dst, src, ok: tx !== null }),
    submit: ({ name: chan }, _tx, cookie) => stream.byCode({ ev: 'submit', chan, cookie }),
    issuePending: ({ name: chan }) => stream.byCode({ ev: 'issue_pending', chan }),
    complete: ({ name: chan }, _tx, cookie) => stream.byCode({ ev: 'complete', chan, cookie }),
    callback: ({ name: chan }, _tx, result) => stream.byCode({ ev: 'callback', chan, result }),
    pause: ({ name: chan }) => stream.byCode({ ev: 'pause', chan }),
    resume: ({ name: chan }) => stream.byCode({ ev: 'resume', chan }),
    terminate: ({ name: chan }) => stream.byCode({ ev: 'terminate', chan }),
    synchronize: ({ name: chan }) => stream.byCode({ ev: 'synchronize', chan }),
  };
}
