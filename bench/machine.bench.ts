// The simulated machine's hot paths: what a device's access, a cache operation, a time point and a wake-up cost.
import { physAddr } from '../src/base/addr.ts';
import { SimMachine } from '../src/machine/index.ts';
import { bench } from './harness.ts';

const RAM_BYTES = 64 << 20;
const REGISTER = physAddr(0x4000_0000);

function make(coherent: boolean): SimMachine {
  const machine = new SimMachine({
    name: 'bench',
    coherent,
    weaklyOrdered: !coherent,
    seed: 1,
    ram: [{ base: 0, sizeBytes: RAM_BYTES }],
  });
  machine.mapRegisters(REGISTER, 0x100, 'device', { readRegister: () => 0, writeRegister: () => {} });
  return machine;
}

const coherent = make(true);
const weak = make(false);
const bus = coherent.busMaster({ name: 'bench' });
const buffer = new Uint8Array(4096);
const [low, high] = [physAddr(1 << 20), physAddr(32 << 20)];
weak.setUncached(physAddr(2 << 20), 4 * 4096, true);
for (let page = 0; page < 4; page++) weak.busMaster({ name: 'ring' }).read32((2 << 20) + page * 4096);
const weakCpu = weak.ram[0]!.cpu;

bench('machine', {
  'device copies 64 KiB': (n) => {
    for (let i = 0; i < n; i++) bus.copy(high, low, 65536);
  },
  'device copies 64 KiB, alignments differ': (n) => {
    for (let i = 0; i < n; i++) bus.copy(high + 3, low + 1, 65536);
  },
  'device reads 128 B': (n) => {
    for (let i = 0; i < n; i++) bus.read(low, buffer, 0, 128);
  },
  'device writes 128 B': (n) => {
    for (let i = 0; i < n; i++) bus.write(low, buffer, 0, 128);
  },
  'device reads a word': (n) => {
    for (let i = 0; i < n; i++) bus.read32(low);
  },
  'clean 64 KiB, all clean': (n) => {
    for (let i = 0; i < n; i++) weak.cacheClean(low, 65536);
  },
  'fill and clean 64 KiB': (n) => {
    for (let i = 0; i < n; i++) {
      weakCpu.fill(i, 1 << 20, (1 << 20) + 65536);
      weak.cacheClean(low, 65536);
    }
  },
  'invalidate 64 KiB': (n) => {
    for (let i = 0; i < n; i++) weak.cacheInvalidate(low, 65536);
  },
  'dma_wmb with four 4 KiB rings': (n) => {
    for (let i = 0; i < n; i++) weak.barrier('dma_wmb');
  },
  'register read': (n) => {
    for (let i = 0; i < n; i++) coherent.read32(REGISTER);
  },
  'register write': (n) => {
    for (let i = 0; i < n; i++) coherent.write32(REGISTER, 1);
  },
  cpuRelax: (n) => {
    for (let i = 0; i < n; i++) coherent.cpuRelax();
  },
});

// A wake-up is asynchronous, and the harness measures what is not: timed here, and printed beside.
const ROUNDS = 200_000;
const { scheduler } = coherent;
let best = Number.POSITIVE_INFINITY;
for (let round = 0; round < 5; round++) {
  const start = process.hrtime.bigint();
  await scheduler.run('wakes', async () => {
    for (let i = 0; i < ROUNDS; i++) {
      const wait = scheduler.wait<void>(() => 'itself', true);
      coherent.after(10, () => wait.wake());
      await wait.promise;
    }
  });
  best = Math.min(best, Number(process.hrtime.bigint() - start) / ROUNDS);
}
if (!process.argv.includes('--json')) console.log(`wake, run, wait again by a timer: ${best.toFixed(0)} ns`);
