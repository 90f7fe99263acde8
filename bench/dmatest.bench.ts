// What a simulated transfer costs beside the copy that it simulates: dmatest's memcpy of 64 KiB (noverify, so that the
// buffers are not filled either), against a plain copy of the same bytes. The drivers, the kernel around them, the
// controller's model and the caches are all in it.
import { parseArgs } from 'node:util';
import { type Board, rpi3, type System, zynqA9 } from '../src/boards/index.ts';
import { dmatest } from '../src/drivers/dmatest.ts';
import { type Result, type Row, table } from './harness.ts';

const SIZE = 65536;
/** Many short ones: on a busy machine, one that nothing interrupts lasts a few milliseconds at most. */
const ROUNDS = 120;

interface Entry {
  readonly name: string;
  readonly iterations: number;
  run(): Promise<void> | void;
  best: number;
}

async function dmatestOn(board: Board, mode: string, iterations: number): Promise<Entry> {
  const system: System = await board.boot({ mode, ramBytes: 64 * 2 ** 20 });
  const params = { noverify: true, norandom: true, testBufSize: SIZE, channel: 'dma0chan0' };
  const run = async (): Promise<void> => {
    const { failures } = await system.run((kernel) => dmatest(kernel, { ...params, iterations }));
    if (failures > 0) throw new Error(`${board.name} ${mode}: ${failures} failures`);
  };
  return { name: `${board.name} ${mode}`, iterations, run, best: Number.POSITIVE_INFINITY };
}

function plainCopy(iterations: number): Entry {
  const memory = new Uint8Array(64 * 2 ** 20).fill(1);
  const run = (): void => {
    for (let i = 0; i < iterations; i++) memory.copyWithin(4 * SIZE, SIZE, 2 * SIZE);
  };
  return { name: 'plain copy', iterations, run, best: Number.POSITIVE_INFINITY };
}

const entries = [
  plainCopy(1000),
  await dmatestOn(rpi3, 'coherent', 4000),
  await dmatestOn(rpi3, 'noncoherent', 100),
  await dmatestOn(zynqA9, 'coherent', 500),
  await dmatestOn(zynqA9, 'noncoherent', 100),
];
const { values } = parseArgs({ options: { json: { type: 'boolean' }, rounds: { type: 'string' } }, strict: false });
const rounds = typeof values.rounds === 'string' ? Number(values.rounds) : ROUNDS;
for (let round = 0; round < rounds; round++) {
  for (const entry of entries) {
    const start = process.hrtime.bigint();
    await entry.run();
    entry.best = Math.min(entry.best, Number(process.hrtime.bigint() - start) / entry.iterations);
  }
}
const unit = entries[0]!.best;
const rows: Row[] = entries.map(({ name, best }) => {
  const mbPerS = Math.round((SIZE / best) * 1000);
  return { name: `${name}, ${mbPerS} MB/s`, nsPerOp: best, ratio: best / unit, garbageBytesPerOp: undefined };
});
const result: Result = {
  schema: 'dmakit/bench/1',
  suite: 'dmatest, memcpy of 64 KiB',
  node: process.version,
  reference: 'plain copy',
  rows,
};
console.log(values.json ? JSON.stringify(result) : table(result));
