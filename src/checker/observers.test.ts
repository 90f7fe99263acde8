import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MachineObserver } from '../machine/observer.ts';
import { addObserver, combineObservers, MACHINE_METHODS } from './observers.ts';

const listener = (name: string, heard: string[], ...methods: ('interrupt' | 'barrier')[]): MachineObserver =>
  Object.fromEntries(methods.map((method) => [method, () => heard.push(`${name} ${method}`)]));

test('one listener stands in the slot itself, several are told in order', () => {
  const heard: string[] = [];
  const machine: { observer: MachineObserver | null } = { observer: null };
  const first = listener('a', heard, 'interrupt', 'barrier');
  const offFirst = addObserver(machine, 'observer', first, MACHINE_METHODS);
  assert.equal(machine.observer, first);
  const offSecond = addObserver(machine, 'observer', listener('b', heard, 'interrupt'), MACHINE_METHODS);
  const offThird = addObserver(machine, 'observer', listener('c', heard, 'interrupt'), MACHINE_METHODS);
  machine.observer?.interrupt?.(0, 1);
  machine.observer?.barrier?.(0, 'mb');
  assert.deepEqual(heard.splice(0), ['a interrupt', 'b interrupt', 'c interrupt', 'a barrier']);
  offSecond();
  machine.observer?.interrupt?.(0, 1);
  assert.deepEqual(heard.splice(0), ['a interrupt', 'c interrupt']);
  offFirst();
  offThird();
  offThird();
  assert.equal(machine.observer, null);
});

test('what nobody listens to is not there', () => {
  const both = combineObservers([listener('a', [], 'interrupt'), listener('b', [], 'interrupt')], MACHINE_METHODS);
  assert.equal(typeof both?.interrupt, 'function');
  assert.equal(both?.deviceAccess, undefined);
  assert.equal(combineObservers<MachineObserver>([], MACHINE_METHODS), null);
});

test('a listener with methods of a class keeps its own state', () => {
  class Counter implements MachineObserver {
    count = 0;
    interrupt(): void {
      this.count++;
    }
  }
  const one = new Counter();
  const two = new Counter();
  combineObservers<MachineObserver>([one, two], MACHINE_METHODS)?.interrupt?.(0, 1);
  assert.deepEqual([one.count, two.count], [1, 1]);
});
