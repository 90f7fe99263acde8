export * from './addr.ts';
export * from './bits.ts';
export * from './errno.ts';
export { List, ListNode } from './list.ts';
export { Prng } from './prng.ts';
