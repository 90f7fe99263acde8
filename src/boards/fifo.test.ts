import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ETIMEDOUT, OK, Prng } from '../base/index.ts';
import { fifoCapture, fifoLoopback } from '../drivers/index.ts';
import { type Device, freePages, GFP_KERNEL, getFreePages, type Kernel } from '../kernel/index.ts';
import type { SimMachine } from '../machine/index.ts';
import { dmaAllocCoherent, dmaFreeCoherent } from '../mapping/index.ts';
import { boardsWithChannels as boards } from './index.ts';

const SMALL = { ramBytes: 64 * 2 ** 20 };
/** FIFO.STATUS. */
const [TX_UNDERRUN, RX_OVERRUN] = [1, 2];

const find = (kernel: Kernel, tail: string): Device => kernel.devices.find(({ name }) => name.endsWith(tail))!;

for (const board of boards) {
  for (const mode of ['coherent', 'noncoherent']) {
    const name = `${board.name} ${mode}`;

    test(`${name}: what goes out of the port comes in again, by scatterlists`, async () => {
      const system = await board.boot({ ...SMALL, mode, seed: 21 });
      await system.run(async (kernel) => {
        const port = find(kernel, '.serial-port');
        const [tx, rx] = [getFreePages(kernel, GFP_KERNEL, 2)!, getFreePages(kernel, GFP_KERNEL, 2)!];
        for (const pieces of [1, 4, 16]) {
          new Prng(pieces).fill(tx.bytes);
          rx.bytes.fill(0);
          const result = await fifoLoopback(port, tx, rx, { pieces });
          assert.deepEqual(result, { error: OK, status: 0, txResidue: 0, rxResidue: 0 });
          assert.ok(Buffer.compare(tx.bytes, rx.bytes) === 0, `${pieces} pieces`);
        }
        freePages(kernel, tx, 2);
        freePages(kernel, rx, 2);
      });
      assert.deepEqual(await system.close(), { leaks: [], splats: [] });
    });

    test(`${name}: a ring is filled period after period, without a gap`, async () => {
      const system = await board.boot({ ...SMALL, mode, seed: 22 });
      await system.run(async (kernel) => {
        const controller = find(kernel, '.dma-controller');
        const ring = dmaAllocCoherent(controller, 4096, GFP_KERNEL)!;
        const words: number[] = [];
        const onPeriod = (period: number): void => {
          for (let i = 0; i < 256; i++) words.push(ring.mem.readU32((period % 4) * 1024 + 4 * i));
        };
        const { error, status } = await fifoCapture(find(kernel, '.serial-port'), ring, 1024, 11, onPeriod);
        assert.deepEqual([error, status], [OK, 0]);
        assert.equal(words.length, 11 * 256);
        assert.ok(
          words.every((word, i) => word === i),
          `word ${words.findIndex((word, i) => word !== i)} is wrong`,
        );
        dmaFreeCoherent(controller, 4096, ring.mem, ring.handle);
      });
      assert.deepEqual(await system.close(), { leaks: [], splats: [] });
    });

    test(`${name}: a controller that is too late is told of by the port`, async () => {
      const system = await board.boot({ ...SMALL, mode, seed: 23 });
      await system.run(async (kernel) => {
        const controller = find(kernel, '.dma-controller');
        const port = find(kernel, '.serial-port');
        const ring = dmaAllocCoherent(controller, 4096, GFP_KERNEL)!;
        const capture = (rateHz: number) => fifoCapture(port, ring, 1024, 3, () => {}, { rateHz, timeoutNs: 1e9 });
        assert.equal((await capture(1_000_000)).status, 0);
        // Slow hardware slows the port's clock as well, which is told to make up for it.
        (system.machine as SimMachine).faults.slowDown(500);
        const { error, status } = await capture(500_000_000);
        assert.equal(error, OK);
        assert.equal(status, RX_OVERRUN);
        dmaFreeCoherent(controller, 4096, ring.mem, ring.handle);
      });
    });

    test(`${name}: a port whose clock stands still times out, and leaves the channels usable`, async () => {
      const system = await board.boot({ ...SMALL, mode, seed: 24 });
      await system.run(async (kernel) => {
        const port = find(kernel, '.serial-port');
        const [tx, rx] = [getFreePages(kernel, GFP_KERNEL, 0)!, getFreePages(kernel, GFP_KERNEL, 0)!];
        const stuck = await fifoLoopback(port, tx, rx, { rateHz: 1, timeoutNs: 1e6 });
        assert.equal(stuck.error, ETIMEDOUT);
        assert.equal(stuck.rxResidue, 4096);
        assert.ok(stuck.txResidue > 0 && stuck.txResidue < 4096, `${stuck.txResidue} bytes not sent: the FIFO is full`);
        tx.bytes.fill(5);
        assert.equal((await fifoLoopback(port, tx, rx)).error, OK);
        assert.ok(rx.bytes.every((byte) => byte === 5));
        freePages(kernel, tx, 0);
        freePages(kernel, rx, 0);
      });
      assert.deepEqual(await system.close(), { leaks: [], splats: [] });
    });

    test(`${name}: a sender that is too late leaves gaps on the wire`, async () => {
      const system = await board.boot({ ...SMALL, mode, seed: 25 });
      await system.run(async (kernel) => {
        const [tx, rx] = [getFreePages(kernel, GFP_KERNEL, 1)!, getFreePages(kernel, GFP_KERNEL, 1)!];
        const port = find(kernel, '.serial-port');
        const { error, status } = await fifoLoopback(port, tx, rx, { rateHz: 1_000_000_000, timeoutNs: 1e9 });
        assert.equal(error, OK);
        assert.equal(status & TX_UNDERRUN, TX_UNDERRUN);
      });
    });
  }
}
