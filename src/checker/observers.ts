/**
 * Several listeners on one observer slot. A slot holds one object; the first listener stands there itself, and with the
 * second comes an object that calls each in turn. It has only the methods that some listener has, so that what nobody
 * listens to still costs nothing.
 */
import type { DmaengineObserver } from '../dmaengine/observer.ts';
import type { KernelObserver } from '../kernel/observer.ts';
import type { MachineObserver } from '../machine/observer.ts';
import type { MappingObserver } from '../mapping/observer.ts';

type Listener = (...args: never[]) => void;
/** All methods of each interface; the compiler holds the lists to the interfaces. */
function methods<T>(all: Record<keyof T, true>): readonly (keyof T & string)[] {
  return Object.keys(all) as (keyof T & string)[];
}

/** Methods of `MachineObserver`. */
export const MACHINE_METHODS = methods<Required<MachineObserver>>({
  deviceAccess: true,
  registerAccess: true,
  interrupt: true,
  cacheOp: true,
  barrier: true,
});
/** Methods of `KernelObserver`. */
export const KERNEL_METHODS = methods<Required<KernelObserver>>({
  splat: true,
  log: true,
  enter: true,
  leave: true,
  taskSwitch: true,
  alloc: true,
  free: true,
  bound: true,
  unbound: true,
});
/** Methods of `MappingObserver`. */
export const MAPPING_METHODS = methods<Required<MappingObserver>>({
  map: true,
  unmap: true,
  mapSg: true,
  unmapSg: true,
  sync: true,
  syncSg: true,
  alloc: true,
  free: true,
  bounced: true,
  mappingError: true,
});
/** Methods of `DmaengineObserver`. */
export const DMAENGINE_METHODS = methods<Required<DmaengineObserver>>({
  request: true,
  release: true,
  config: true,
  prep: true,
  submit: true,
  issuePending: true,
  complete: true,
  callback: true,
  pause: true,
  resume: true,
  terminate: true,
  synchronize: true,
});

const membersOf = new WeakMap<object, object[]>();

/** One observer that tells all of them, in order; null for none. */
export function combineObservers<T extends object>(all: readonly T[], names: readonly (keyof T & string)[]): T | null {
  if (all.length <= 1) return all[0] ?? null;
  const combined: Record<string, Listener> = {};
  for (const name of names) {
    const listeners = all.filter((observer) => observer[name] !== undefined);
    if (listeners.length === 0) continue;
    const [first, second] = listeners as unknown as Record<string, Listener>[];
    if (second === undefined) combined[name] = (...args) => first![name]!(...args);
    else if (listeners.length === 2) {
      combined[name] = (...args) => {
        first![name]!(...args);
        second[name]!(...args);
      };
    } else {
      combined[name] = (...args) => {
        for (const observer of listeners) (observer as unknown as Record<string, Listener>)[name]!(...args);
      };
    }
  }
  membersOf.set(combined, all.slice());
  return combined as unknown as T;
}

/** Add a listener to a slot, behind those that are there. Returns the way to take it off again. */
export function addObserver<T extends object, K extends string>(
  holder: { [P in K]: unknown },
  slot: K,
  observer: T,
  names: readonly (keyof T & string)[],
): () => void {
  const members = (): T[] => {
    const held = holder[slot] as T | null;
    return held === null ? [] : ((membersOf.get(held) as T[] | undefined) ?? [held]);
  };
  const put = (all: readonly T[]): void => {
    (holder as Record<K, unknown>)[slot] = combineObservers(all, names);
  };
  put([...members(), observer]);
  return () => put(members().filter((member) => member !== observer));
}
