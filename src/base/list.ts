/**
 * Intrusive doubly linked lists, as the kernel's list_head: an element is on at most one list at a time, and moving or
 * removing it costs O(1) and no garbage.
 */

/**
 * An element's place in a list. An object of its own, as list_head is a struct of its own: so all lists work on objects
 * of one shape, whatever their elements are.
 */
class Link {
  readonly node: ListNode;
  list: List<ListNode> | null = null;
  next: Link | null = null;
  prev: Link | null = null;

  constructor(node: ListNode) {
    this.node = node;
  }
}

/** What makes an object linkable: subclass it. @linux list_head */
export class ListNode {
  /** @internal */
  readonly listLink: Link = new Link(this);

  /** The list this element is on, or null. */
  get list(): List<ListNode> | null {
    return this.listLink.list;
  }
}

/** A list of `T`. @linux LIST_HEAD */
export class List<T extends ListNode> {
  #first: Link | null = null;
  #last: Link | null = null;
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
    return this.#first === null ? null : (this.#first.node as T);
  }
  /** @linux list_last_entry */
  get last(): T | null {
    return this.#last === null ? null : (this.#last.node as T);
  }
  /** The element behind `node`, or null at the end. @linux list_next_entry */
  next(node: T): T | null {
    const { next } = node.listLink;
    return next === null ? null : (next.node as T);
  }
  /** Append. Throws when the element is on a list already. @linux list_add_tail */
  pushBack(node: T): void {
    const link = node.listLink;
    if (link.list !== null) throw new Error(`element is already on list '${link.list.name}'`);
    link.list = this as unknown as List<ListNode>;
    const last = this.#last;
    link.prev = last;
    if (last === null) this.#first = link;
    else last.next = link;
    this.#last = link;
    this.#length++;
  }
  /** Prepend. Throws when the element is on a list already. @linux list_add */
  pushFront(node: T): void {
    const link = node.listLink;
    if (link.list !== null) throw new Error(`element is already on list '${link.list.name}'`);
    link.list = this as unknown as List<ListNode>;
    const first = this.#first;
    link.next = first;
    if (first === null) this.#last = link;
    else first.prev = link;
    this.#first = link;
    this.#length++;
  }
  /** Take an element off. Throws when it is not on this list. @linux list_del */
  remove(node: T): void {
    this.#unlink(node.listLink);
  }
  #unlink(link: Link): void {
    if (link.list !== (this as unknown)) throw new Error(`element is not on list '${this.name}'`);
    const { prev, next } = link;
    if (prev === null) this.#first = next;
    else prev.next = next;
    if (next === null) this.#last = prev;
    else next.prev = prev;
    link.next = null;
    link.prev = null;
    link.list = null;
    this.#length--;
  }
  /** Take the first element off, or null. */
  shift(): T | null {
    const link = this.#first;
    if (link === null) return null;
    this.#unlink(link);
    return link.node as T;
  }
  /** Move every element of `other` to the end of this list, in order. @linux list_splice_tail_init */
  spliceBack(other: List<T>): void {
    const first = other.#first;
    if (first === null) return;
    for (let link: Link | null = first; link !== null; link = link.next) link.list = this as unknown as List<ListNode>;
    const last = this.#last;
    first.prev = last;
    if (last === null) this.#first = first;
    else last.next = first;
    this.#last = other.#last;
    this.#length += other.#length;
    other.#first = null;
    other.#last = null;
    other.#length = 0;
  }
  *[Symbol.iterator](): Generator<T> {
    // The next one is read first, so that the body may remove the element it was given.
    for (let link = this.#first, next: Link | null; link !== null; link = next) {
      next = link.next;
      yield link.node as T;
    }
  }
}
