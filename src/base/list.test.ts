import assert from 'node:assert/strict';
import { test } from 'node:test';
import { List, ListNode } from './list.ts';

class Item extends ListNode {
  readonly value: number;
  constructor(value: number) {
    super();
    this.value = value;
  }
}
const values = (list: List<Item>) => [...list].map((item) => item.value);

test('elements keep their order, from either end', () => {
  const list = new List<Item>('queue');
  list.pushBack(new Item(2));
  list.pushBack(new Item(3));
  list.pushFront(new Item(1));
  assert.deepEqual(values(list), [1, 2, 3]);
  assert.equal(list.length, 3);
  assert.equal(list.shift()?.value, 1);
  assert.equal(list.first?.value, 2);
  assert.equal(list.last?.value, 3);
});

test('an element is on one list at most', () => {
  const a = new List<Item>('a');
  const b = new List<Item>('b');
  const item = new Item(1);
  a.pushBack(item);
  assert.throws(() => b.pushBack(item), /already on list 'a'/);
  assert.throws(() => b.remove(item), /not on list 'b'/);
  a.remove(item);
  b.pushBack(item);
  assert.equal(a.isEmpty, true);
  assert.equal(item.list?.name, 'b');
});

test('the loop may remove the element it was given', () => {
  const list = new List<Item>('l');
  for (let i = 0; i < 5; i++) list.pushBack(new Item(i));
  for (const item of list) if (item.value % 2 === 0) list.remove(item);
  assert.deepEqual(values(list), [1, 3]);
});

test('splicing moves everything and leaves the other list empty', () => {
  const a = new List<Item>('a');
  const b = new List<Item>('b');
  for (let i = 0; i < 3; i++) a.pushBack(new Item(i));
  for (let i = 3; i < 6; i++) b.pushBack(new Item(i));
  a.spliceBack(b);
  assert.deepEqual(values(a), [0, 1, 2, 3, 4, 5]);
  assert.equal(b.length, 0);
});
