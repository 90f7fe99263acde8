/** The observers through which the checks hear of what happens. */
import type { DmaengineObserver } from '../dmaengine/index.ts';
import type { KernelObserver } from '../kernel/index.ts';
import type { MachineObserver } from '../machine/observer.ts';
import type { MappingObserver } from '../mapping/index.ts';
import type { AccessChecks } from './access-checks.ts';
import type { CoherentChecks } from './coherent-checks.ts';
import type { EndChecks } from './end-checks.ts';
import type { EngineChecks } from './engine-checks.ts';
import type { KernelChecks } from './kernel-checks.ts';
import type { MemoryChecks } from './memory-checks.ts';
import type { StreamingChecks } from './streaming-checks.ts';
import type { SyncChecks } from './sync-checks.ts';

export function machineListener(access: AccessChecks): MachineObserver {
  return {
    deviceAccess: (_ns, master, isWrite, addr, phys, size, status) =>
      access.access(master, isWrite, addr, phys, size, status),
  };
}

export function kernelListener(
  memory: MemoryChecks,
  kernel: KernelChecks,
  engine: EngineChecks,
  end: EndChecks,
): KernelObserver {
  return {
    splat: (splat) => kernel.splat(splat),
    log: (line) => kernel.log(line),
    enter: () => engine.callbackOver(),
    leave: () => engine.callbackOver(),
    taskSwitch: () => engine.callbackOver(),
    alloc: (_ns, allocator, phys, size) => memory.allocated(allocator, phys, size),
    free: (_ns, allocator, phys, size) => memory.released(allocator, phys, size),
    bound(_ns, dev) {
      engine.bound(dev);
      end.bound(dev);
    },
    unbound(_ns, dev) {
      engine.unbound(dev);
      end.unbound(dev);
    },
  };
}

export function mappingListener(
  streaming: StreamingChecks,
  sync: SyncChecks,
  coherent: CoherentChecks,
  engine: EngineChecks,
): MappingObserver {
  return {
    map: (dev, kind, phys, size, addr, dir, attrs) => streaming.map(dev, kind, phys, size, addr, dir, attrs),
    unmap(dev, kind, addr, size, dir, attrs) {
      engine.givenBack(dev, 'a buffer was unmapped');
      streaming.unmap(dev, kind, addr, size, dir, attrs);
    },
    mapSg: (dev, sgl, nents, mapped, dir, attrs) => streaming.mapSg(dev, sgl, nents, mapped, dir, attrs),
    unmapSg(dev, sgl, nents, dir, attrs) {
      engine.givenBack(dev, 'a scatterlist was unmapped');
      streaming.unmapSg(dev, sgl, nents, dir, attrs);
    },
    sync: (dev, addr, size, dir, forCpu) => sync.sync(dev, addr, size, dir, forCpu),
    syncSg: (dev, sgl, nents, dir, forCpu) => sync.syncSg(dev, sgl, nents, dir, forCpu),
    alloc: (dev, kind, phys, size, handle, attrs) => coherent.alloc(dev, kind, phys, size, handle, attrs),
    free(dev, kind, phys, size, handle) {
      engine.givenBack(dev, 'coherent memory was freed');
      coherent.free(dev, kind, phys, size, handle);
    },
    mappingError: (dev, addr) => streaming.mappingError(dev, addr),
  };
}

export function dmaengineListener(engine: EngineChecks): DmaengineObserver {
  return {
    request: (chan, client) => engine.request(chan, client),
    release: (chan) => engine.release(chan),
    prep: (chan, kind, tx) => engine.prep(chan, kind, tx),
    submit: (chan, tx, cookie) => engine.submit(chan, tx, cookie),
    issuePending: (chan) => engine.issuePending(chan),
    complete: (chan, _tx, cookie) => engine.complete(chan, cookie),
    callback: (chan, tx) => engine.callback(chan, tx),
    terminate: (chan) => engine.terminate(chan),
    synchronize: (chan) => engine.synchronize(chan),
  };
}
