/**
 * A driver that never lets time pass (a loop without register access, wait or delay) keeps its thread for good: nothing
 * inside the thread can see that. Its machine therefore counts time points in shared memory, and another thread watches.
 */
import type { Machine } from '../machine/contract.ts';

const TIME_POINTS = [
  ...['read8', 'read16', 'read32', 'write8', 'write16', 'write32', 'portRead', 'portWrite', 'after'],
  ...[
    'setInterruptsEnabled',
    'cpuRelax',
    'delay',
    'timePoint',
    'barrier',
    'cacheClean',
    'cacheInvalidate',
    'cacheFlush',
  ],
] as const;

/** Count every time point of `machine`, and every switch of its tasks, in `beats`. */
export function countBeats(machine: Machine, beats: Int32Array): void {
  const counted = machine as unknown as Record<string, (...args: unknown[]) => unknown>;
  for (const name of TIME_POINTS) {
    const original = counted[name]!.bind(machine);
    counted[name] = (...args) => {
      Atomics.add(beats, 0, 1);
      return original(...args);
    };
  }
  const { scheduler } = machine;
  const onSwitch = scheduler.onSwitch;
  scheduler.onSwitch = (task) => {
    Atomics.add(beats, 0, 1);
    onSwitch?.(task);
  };
}
