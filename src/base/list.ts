/**
 * Intrusive doubly linked lists, as the kernel's list_head: an element is on at most one list at a time, and moving or
 * removing it costs O(1) and no garbage.
 */

/** What makes an object linkable. Subclass it, or set the three fields to null. @linux list_head */
export class ListNode {
  /** @internal */
  listNext: ListNode | null = null;
  /** @internal */
  listPrev: ListNode | null = null;
  /** The list this element is on, or null. */
  list: List<ListNode> | null = null;
}

/** A list of `T`. @linux LIST_HEAD */
export class List<T extends ListNode> {
  #first: T | null = null;
  #last: T | null = null;
  #length = 0;
  readonly name: string;

  constructor(name = '') {
    this.name = name;
  }
  get length(): number {
    return this.#length;
  }
  /** @linux list_empty */
  get isEmpty(): boolean {
    return this.#first === null;
  }
  /** @linux list_first_entry_or_null */
  get first(): T | null {
    return this.#first;
  }
  /** @linux list_last_entry */
  get last(): T | null {
    return this.#last;
  }
  /** The element behind `node`, or null at the end. @linux list_next_entry */
  next(node: T): T | null {
    return node.listNext as T | null;
  }
  /** Append. Throws when the element is on a list already. @linux list_add_tail */
  pushBack(node: T): void {
    if (node.list !== null) throw new Error(`element is already on list '${node.list.name}'`);
    node.list = this as unknown as List<ListNode>;
    node.listPrev = this.#last;
    node.listNext = null;
    if (this.#last === null) this.#first = node;
    else this.#last.listNext = node;
    this.#last = node;
    this.#length++;
  }
  /** Prepend. Throws when the element is on a list already. @linux list_add */
  pushFront(node: T): void {
    if (node.list !== null) throw new Error(`element is already on list '${node.list.name}'`);
    node.list = this as unknown as List<ListNode>;
    node.listNext = this.#first;
    node.listPrev = null;
    if (this.#first === null) this.#last = node;
    else this.#first.listPrev = node;
    this.#first = node;
    this.#length++;
  }
  /** Take an element off. Throws when it is not on this list. @linux list_del */
  remove(node: T): void {
    if (node.list !== (this as unknown)) throw new Error(`element is not on list '${this.name}'`);
    const { listPrev, listNext } = node;
    if (listPrev === null) this.#first = listNext as T | null;
    else listPrev.listNext = listNext;
    if (listNext === null) this.#last = listPrev as T | null;
    else listNext.listPrev = listPrev;
    node.listNext = node.listPrev = node.list = null;
    this.#length--;
  }
  /** Take the first element off, or null. */
  shift(): T | null {
    const node = this.#first;
    if (node !== null) this.remove(node);
    return node;
  }
  /** Move every element of `other` to the end of this list, in order. @linux list_splice_tail_init */
  spliceBack(other: List<T>): void {
    for (let node = other.shift(); node !== null; node = other.shift()) this.pushBack(node);
  }
  *[Symbol.iterator](): Generator<T> {
    // The next one is read first, so that the body may remove the element it was given.
    for (let node = this.#first, next: T | null; node !== null; node = next) {
      next = node.listNext as T | null;
      yield node;
    }
  }
}
