import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type DmatestRun, dmatest } from '../drivers/dmatest.ts';
import { boardsWithChannels as boards } from './index.ts';

const SMALL = { ramBytes: 64 * 2 ** 20 };

for (const board of boards) {
  for (const mode of ['coherent', 'noncoherent']) {
    const run = async (seed: number, params: DmatestRun) => {
      const system = await board.boot({ ...SMALL, mode, seed });
      const result = await system.run((kernel) => dmatest(kernel, params, { seed }));
      const { leaks, splats } = await system.close();
      assert.deepEqual({ leaks, splats }, { leaks: [], splats: [] });
      return result;
    };

    test(`dmatest on every channel of ${board.name}, ${mode}, two threads each`, async () => {
      const { threads, tests, failures, error } = await run(11, { iterations: 25, threadsPerChan: 2 });
      assert.deepEqual([error, failures], [0, 0]);
      assert.ok(threads.length >= 16 && tests === 25 * threads.length, `${tests} tests of ${threads.length} threads`);
      assert.ok(threads.every(({ ret, kBps }) => ret === 0 && kBps > 0));
    });

    test(`dmatest on one channel of ${board.name}, ${mode}, whole buffers of 64 KiB`, async () => {
      const params = { iterations: 20, channel: 'dma0chan1', testBufSize: 65536, norandom: true };
      const { threads, failures } = await run(12, params);
      assert.deepEqual([threads.length, failures], [1, 0]);
      const { kBps } = threads[0]!;
      assert.ok(kBps > 50_000 && kBps < 2_000_000, `${kBps} KB/s of simulated time`);
    });

    test(`dmatest polling on ${board.name}, ${mode}`, async () => {
      const { failures, tests } = await run(13, { iterations: 20, maxChannels: 1, polled: true });
      assert.deepEqual([failures, tests], [0, 20]);
    });

    test(`dmatest on ${board.name}, ${mode}, is right with any seed`, async () => {
      for (let seed = 100; seed < 110; seed++) {
        const { failures } = await run(seed, { iterations: 10, maxChannels: 2, testBufSize: 4096 });
        assert.equal(failures, 0, `seed ${seed}`);
      }
    });
  }
}
