// What the reference itself is worth on this machine, beside operations that every reader has a feeling for.
import { bench } from './harness.ts';

const words = new Float64Array(1024);
let kept: object | undefined;

bench('reference', {
  'store to a typed array': (n) => {
    for (let i = 0; i < n; i++) words[i & 1023] = i;
  },
  'small object': (n) => {
    for (let i = 0; i < n; i++) kept = { address: i, size: i, kept: undefined };
  },
});

if (kept === undefined) throw new Error('the objects were optimised away');
