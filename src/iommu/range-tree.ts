/**
 * An ordered set of disjoint page ranges: a red-black tree over typed arrays, threaded by a list, so that a range costs
 * no object, its neighbours are one load away, and finding one takes O(log n). Nodes are small integers; 0 is "none".
 */

const RED = 1;
const BLACK = 0;

/** No node. */
export const NIL = 0;

/** See the file's head. Page frame numbers are plain numbers below 2^53. */
export class RangeTree {
  #lo = new Float64Array(64);
  #hi = new Float64Array(64);
  #left = new Int32Array(64);
  #right = new Int32Array(64);
  #parent = new Int32Array(64);
  #color = new Uint8Array(64);
  #prev = new Int32Array(64);
  #next = new Int32Array(64);
  #root = NIL;
  #free = NIL;
  #used = 1;
  #count = 0;

  /** How many ranges it holds. */
  get size(): number {
    return this.#count;
  }
  get root(): number {
    return this.#root;
  }
  lo(node: number): number {
    return this.#lo[node]!;
  }
  hi(node: number): number {
    return this.#hi[node]!;
  }
  setLo(node: number, pfn: number): void {
    this.#lo[node] = pfn;
  }
  left(node: number): number {
    return this.#left[node]!;
  }
  right(node: number): number {
    return this.#right[node]!;
  }
  /** The range below, or NIL. */
  prev(node: number): number {
    return this.#prev[node]!;
  }
  /** The range above, or NIL. */
  next(node: number): number {
    return this.#next[node]!;
  }
  /** The lowest range, or NIL. */
  first(): number {
    let node = this.#root;
    if (node === NIL) return NIL;
    while (this.#left[node] !== NIL) node = this.#left[node]!;
    return node;
  }
  /** The range that contains `pfn`, or NIL. */
  find(pfn: number): number {
    let node = this.#root;
    while (node !== NIL) {
      if (pfn < this.#lo[node]!) node = this.#left[node]!;
      else if (pfn > this.#hi[node]!) node = this.#right[node]!;
      else return node;
    }
    return NIL;
  }

  /** Add [lo, hi], which must touch no other range. Returns its node. */
  insert(lo: number, hi: number): number {
    let parent = NIL;
    let below = NIL;
    let above = NIL;
    for (let node = this.#root; node !== NIL; ) {
      parent = node;
      if (lo < this.#lo[node]!) {
        above = node;
        node = this.#left[node]!;
      } else {
        below = node;
        node = this.#right[node]!;
      }
    }
    const node = this.#allocate();
    this.#lo[node] = lo;
    this.#hi[node] = hi;
    this.#left[node] = NIL;
    this.#right[node] = NIL;
    this.#parent[node] = parent;
    this.#color[node] = RED;
    this.#prev[node] = below;
    this.#next[node] = above;
    if (below !== NIL) this.#next[below] = node;
    if (above !== NIL) this.#prev[above] = node;
    if (parent === NIL) this.#root = node;
    else if (parent === above) this.#left[parent] = node;
    else this.#right[parent] = node;
    this.#fixInsert(node);
    this.#count++;
    return node;
  }

  /** Remove a range; its node may be reused at once. */
  remove(node: number): void {
    const below = this.#prev[node]!;
    const above = this.#next[node]!;
    if (below !== NIL) this.#next[below] = above;
    if (above !== NIL) this.#prev[above] = below;
    this.#unlink(node);
    this.#next[node] = this.#free;
    this.#free = node;
    this.#count--;
  }

  #allocate(): number {
    const node = this.#free;
    if (node !== NIL) {
      this.#free = this.#next[node]!;
      return node;
    }
    if (this.#used === this.#lo.length) this.#grow();
    return this.#used++;
  }

  #grow(): void {
    const capacity = this.#lo.length * 2;
    const grow = <T extends Float64Array | Int32Array | Uint8Array>(old: T, wider: T): T => {
      wider.set(old);
      return wider;
    };
    this.#lo = grow(this.#lo, new Float64Array(capacity));
    this.#hi = grow(this.#hi, new Float64Array(capacity));
    this.#left = grow(this.#left, new Int32Array(capacity));
    this.#right = grow(this.#right, new Int32Array(capacity));
    this.#parent = grow(this.#parent, new Int32Array(capacity));
    this.#color = grow(this.#color, new Uint8Array(capacity));
    this.#prev = grow(this.#prev, new Int32Array(capacity));
    this.#next = grow(this.#next, new Int32Array(capacity));
  }

  #replaceChild(parent: number, child: number, by: number): void {
    if (parent === NIL) this.#root = by;
    else if (this.#left[parent] === child) this.#left[parent] = by;
    else this.#right[parent] = by;
  }

  #rotate(node: number, down: Int32Array, up: Int32Array): void {
    // `down` is the side on which the child rises: with (right, left) this is a left rotation.
    const child = down[node]!;
    const inner = up[child]!;
    down[node] = inner;
    if (inner !== NIL) this.#parent[inner] = node;
    const parent = this.#parent[node]!;
    this.#parent[child] = parent;
    this.#replaceChild(parent, node, child);
    up[child] = node;
    this.#parent[node] = child;
  }

  #fixInsert(inserted: number): void {
    const color = this.#color;
    const parents = this.#parent;
    let node = inserted;
    for (let parent = parents[node]!; parent !== NIL && color[parent] === RED; parent = parents[node]!) {
      const grand = parents[parent]!;
      const onLeft = this.#left[grand] === parent;
      const uncle = onLeft ? this.#right[grand]! : this.#left[grand]!;
      if (uncle !== NIL && color[uncle] === RED) {
        color[parent] = BLACK;
        color[uncle] = BLACK;
        color[grand] = RED;
        node = grand;
        continue;
      }
      const near = onLeft ? this.#left : this.#right;
      const far = onLeft ? this.#right : this.#left;
      if (far[parent] === node) {
        this.#rotate(parent, far, near);
        node = parent;
        parent = parents[node]!;
      }
      color[parent] = BLACK;
      color[grand] = RED;
      this.#rotate(grand, near, far);
    }
    color[this.#root] = BLACK;
  }

  #unlink(node: number): void {
    const left = this.#left;
    const right = this.#right;
    const parents = this.#parent;
    const color = this.#color;
    let child: number;
    let parent: number;
    let removed: number;
    if (left[node] === NIL || right[node] === NIL) {
      child = left[node] !== NIL ? left[node]! : right[node]!;
      parent = parents[node]!;
      removed = color[node]!;
      if (child !== NIL) parents[child] = parent;
      this.#replaceChild(parent, node, child);
    } else {
      // The successor takes the place of a node with two children.
      let successor = right[node]!;
      while (left[successor] !== NIL) successor = left[successor]!;
      removed = color[successor]!;
      child = right[successor]!;
      parent = parents[successor]!;
      if (parent === node) parent = successor;
      else {
        if (child !== NIL) parents[child] = parent;
        left[parent] = child;
        right[successor] = right[node]!;
        parents[right[node]!] = successor;
      }
      left[successor] = left[node]!;
      parents[left[node]!] = successor;
      color[successor] = color[node]!;
      parents[successor] = parents[node]!;
      this.#replaceChild(parents[node]!, node, successor);
    }
    if (removed === BLACK) this.#fixRemove(child, parent);
  }

  #fixRemove(from: number, above: number): void {
    const color = this.#color;
    let node = from;
    let parent = above;
    while (node !== this.#root && (node === NIL || color[node] === BLACK)) {
      const onLeft = this.#left[parent] === node;
      const near = onLeft ? this.#left : this.#right;
      const far = onLeft ? this.#right : this.#left;
      let sibling = far[parent]!;
      if (color[sibling] === RED) {
        color[sibling] = BLACK;
        color[parent] = RED;
        this.#rotate(parent, far, near);
        sibling = far[parent]!;
      }
      const nearRed = near[sibling] !== NIL && color[near[sibling]!] === RED;
      const farRed = far[sibling] !== NIL && color[far[sibling]!] === RED;
      if (!nearRed && !farRed) {
        color[sibling] = RED;
        node = parent;
        parent = this.#parent[node]!;
        continue;
      }
      if (!farRed) {
        color[near[sibling]!] = BLACK;
        color[sibling] = RED;
        this.#rotate(sibling, near, far);
        sibling = far[parent]!;
      }
      color[sibling] = color[parent]!;
      color[parent] = BLACK;
      color[far[sibling]!] = BLACK;
      this.#rotate(parent, far, near);
      node = this.#root;
    }
    if (node !== NIL) color[node] = BLACK;
  }

  /** Check every invariant of the tree and its list; throws with what is broken. For tests. */
  verify(): void {
    let count = 0;
    let last = -1;
    const blackHeight = (node: number): number => {
      if (node === NIL) return 1;
      const l = this.#left[node]!;
      const r = this.#right[node]!;
      for (const child of [l, r]) {
        if (child === NIL) continue;
        if (this.#parent[child] !== node) throw new Error(`node ${child} has the wrong parent`);
        if (this.#color[node] === RED && this.#color[child] === RED)
          throw new Error(`red node ${node} has a red child`);
      }
      const height = blackHeight(l);
      if (this.#lo[node]! <= last) throw new Error(`range at ${this.#lo[node]} is out of order`);
      last = this.#hi[node]!;
      count++;
      if (height !== blackHeight(r)) throw new Error(`black heights differ below node ${node}`);
      return height + (this.#color[node] === BLACK ? 1 : 0);
    };
    blackHeight(this.#root);
    if (count !== this.#count) throw new Error(`${count} nodes in the tree, ${this.#count} counted`);
    let listed = 0;
    for (let node = this.first(), below = NIL; node !== NIL; below = node, node = this.#next[node]!) {
      if (this.#prev[node] !== below) throw new Error(`node ${node} has the wrong neighbour`);
      listed++;
    }
    if (listed !== count) throw new Error(`${listed} nodes on the list, ${count} in the tree`);
  }
}
