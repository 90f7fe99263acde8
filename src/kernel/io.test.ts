import assert from 'node:assert/strict';
import { test } from 'node:test';
import { physAddr } from '../base/addr.ts';
import { ETIMEDOUT, OK } from '../base/errno.ts';
import type { CacheOp } from '../machine/observer.ts';
import {
  archDmaClearUncached,
  archDmaPrepCoherent,
  archDmaSetUncached,
  archSyncDmaForCpu,
  archSyncDmaForDevice,
} from './arch.ts';
import { dmaRmb, dmaWmb, mb, rmb, wmb } from './barrier.ts';
import {
  DMA_BIDIRECTIONAL,
  DMA_FROM_DEVICE,
  DMA_TO_DEVICE,
  dmaDirectionName,
  validDmaDirection,
} from './dma-direction.ts';
import {
  inb,
  inl,
  ioremap,
  iounmap,
  outb,
  readb,
  readl,
  readlPollTimeout,
  readlPollTimeoutAtomic,
  readlRelaxed,
  readq,
  readw,
  writeb,
  writel,
  writelRelaxed,
  writeq,
} from './io.ts';
import { parseCmdline } from './kernel.ts';
import { warnOn, warnOnce } from './panic.ts';
import { formatLogLine, prErr } from './printk.ts';
import { RAM_BASE, RIG_REGS, rig } from './rig.cases.ts';

test('writes order what was stored before, reads what is loaded after; relaxed forms neither', async () => {
  const { kernel, machine, regs } = rig();
  const seen: string[] = [];
  machine.observer = {
    barrier: (_time, kind) => seen.push(kind),
    registerAccess: (_time, isWrite) => seen.push(isWrite ? 'write' : 'read'),
  };
  await kernel.run(() => {
    writel(0x1234_5678, regs, 0);
    assert.equal(readl(regs, 0), 0x1234_5678);
    writelRelaxed(-1, regs, 0);
    assert.equal(readlRelaxed(regs, 0), 0xffff_ffff);
  });
  assert.deepEqual(seen, ['wmb', 'write', 'read', 'rmb', 'write', 'read']);
});

test('writes are posted and arrive in order, at the latest before a read returns', async () => {
  const { kernel, device, regs } = rig();
  await kernel.run(() => {
    for (let i = 0; i < 20; i++) writelRelaxed(i, regs, 0x100 + 4 * i);
    readl(regs, 0);
    assert.deepEqual(
      device.writes,
      Array.from({ length: 20 }, (_, i) => 0x100 + 4 * i),
    );
    writeq(0x12_3456_789a, regs, 0x200);
    readb(regs, 0);
    assert.deepEqual(device.writes.slice(20), [0x200, 0x204]);
  });
});

test('narrow and wide accesses; what nothing decodes reads all ones', async () => {
  const { kernel, regs } = rig();
  await kernel.run(() => {
    writeb(0xab, regs, 0);
    assert.equal(readw(regs, 0), 0xab);
    assert.equal(readq(regs, 0), 0xab);
    const nothing = ioremap(kernel, physAddr(0x2000_0000), 16);
    assert.deepEqual([readb(nothing, 0), readw(nothing, 2), readl(nothing, 4)], [0xff, 0xffff, 0xffff_ffff]);
    outb(kernel, 1, 0x80);
    assert.deepEqual([inb(kernel, 0x80), inl(kernel, 0x80)], [0xff, 0xffff_ffff]);
  });
});

test('RAM is not mapped as registers; unmapped, far and unaligned accesses are reported and reach nothing', async () => {
  const { kernel, device, splats } = rig();
  await kernel.run(() => {
    const ram = ioremap(kernel, physAddr(RAM_BASE + 16), 4);
    assert.equal(readl(ram, 0), 0xffff_ffff);
    const io = ioremap(kernel, RIG_REGS, 0x20);
    writel(1, io, 0xffc); // past the size, but on the last page: as in hardware
    writel(1, io, 0x1000);
    writel(1, io, 2);
    assert.equal(readl(io, -4), 0xffff_ffff);
    const part = io.slice(8);
    iounmap(io);
    assert.equal(part.mapped, false);
    writel(1, io, 0);
    iounmap(io);
    assert.equal(readl(ioremap(kernel, RIG_REGS, 0x20).slice(8), 0), 0);
  });
  assert.deepEqual(device.writes, [0xffc]);
  const fault = 'Unable to handle kernel paging request: 32-bit access at offset';
  assert.deepEqual(splats(), [
    'WARNING: ioremap on RAM at 0x40000000 - 0x40000fff',
    `${fault} 0x0 of the registers at 0x40000010, which are not mapped (any more)`,
    `${fault} 0x1000 of the registers at 0x10000000, which are 32 bytes`,
    'Unhandled fault: alignment fault: 32-bit access at offset 0x2 of the registers at 0x10000000',
    `${fault} -0x4 of the registers at 0x10000000, which are 32 bytes`,
    `${fault} 0x0 of the registers at 0x10000000, which are not mapped (any more)`,
    'WARNING: Trying to iounmap() nonexistent mapping of 0x10000000',
  ]);
});

test('polling ends when the condition holds, or when its time is over', async () => {
  const { kernel, regs, device } = rig();
  await kernel.run(async () => {
    const third = (value: number) => value >= 3;
    assert.equal(await readlPollTimeout(regs, 0x10, third, 10, 1000), OK);
    assert.equal(device.reads, 3);
    const start = kernel.machine.now();
    assert.equal(await readlPollTimeout(regs, 0, third, 10, 1000), ETIMEDOUT);
    const took = kernel.machine.now() - start;
    assert.ok(took >= 1e6 && took < 1.1e6);
    assert.equal(await readlPollTimeout(regs, 0, third, 0, 50), ETIMEDOUT);
    assert.equal(readlPollTimeoutAtomic(regs, 0, third, 1, 50), ETIMEDOUT);
    assert.equal(
      readlPollTimeoutAtomic(regs, 0x10, () => true, 1, 50),
      OK,
    );
  });
});

test('a register access makes no garbage', async () => {
  const { kernel, regs } = rig();
  await kernel.run(() => {
    const loop = (n: number) => {
      let sum = 0;
      for (let i = 0; i < n; i++) {
        writel(i, regs, 0x20);
        sum += readl(regs, 0);
      }
      return sum;
    };
    loop(20_000);
    const before = process.memoryUsage().heapUsed;
    loop(5_000);
    const perAccess = (process.memoryUsage().heapUsed - before) / 10_000;
    assert.ok(perAccess < 64, `${perAccess} bytes per access`);
  });
});

test('cache maintenance follows arm64: clean for the device always, invalidate for the CPU unless it only read', async () => {
  const { kernel, machine } = rig({ coherent: false, cacheNoise: 'off' });
  const ops: CacheOp[][] = [];
  const at = physAddr(RAM_BASE + 0x2000);
  machine.observer = { cacheOp: (_time, op) => ops.at(-1)?.push(op) };
  for (const direction of [DMA_TO_DEVICE, DMA_FROM_DEVICE, DMA_BIDIRECTIONAL] as const) {
    ops.push([]);
    archSyncDmaForDevice(kernel, at, 64, direction);
    archSyncDmaForCpu(kernel, at, 64, direction);
  }
  assert.deepEqual(ops, [['clean'], ['clean', 'invalidate'], ['clean', 'invalidate']]);
});

test('a dirty line reaches memory when it is handed over, and the device’s bytes the CPU when taken back', () => {
  const { kernel, machine } = rig({ coherent: false, cacheNoise: 'off' });
  const bank = machine.bankAt(RAM_BASE);
  assert.ok(bank !== null);
  const at = physAddr(RAM_BASE + 0x2000);
  bank.cpu[0x2000] = 1;
  assert.equal(bank.memory[0x2000], 0);
  archSyncDmaForDevice(kernel, at, 64, DMA_TO_DEVICE);
  assert.equal(bank.memory[0x2000], 1);
  bank.memory[0x2000] = 2;
  archSyncDmaForCpu(kernel, at, 64, DMA_TO_DEVICE);
  assert.equal(bank.cpu[0x2000], 1);
  archSyncDmaForCpu(kernel, at, 64, DMA_FROM_DEVICE);
  assert.equal(bank.cpu[0x2000], 2);
  bank.cpu[0x2000] = 3;
  archDmaPrepCoherent(kernel, at, 4096);
  assert.equal(bank.memory[0x2000], 3);
  archDmaSetUncached(kernel, at, 4096);
  archDmaClearUncached(kernel, at, 4096);
});

test('barriers reach the machine by their names', () => {
  const { kernel, machine } = rig();
  const kinds: string[] = [];
  machine.observer = { barrier: (_time, kind) => kinds.push(kind) };
  for (const barrier of [mb, wmb, rmb, dmaWmb, dmaRmb]) barrier(kernel);
  assert.deepEqual(kinds, ['mb', 'wmb', 'rmb', 'dma_wmb', 'dma_rmb']);
});

test('directions have the kernel’s numbers and names', () => {
  assert.deepEqual([0, 1, 2, 3, 4].map(dmaDirectionName), [
    'DMA_BIDIRECTIONAL',
    'DMA_TO_DEVICE',
    'DMA_FROM_DEVICE',
    'DMA_NONE',
    'direction 4',
  ]);
  assert.deepEqual([0, 1, 2, 3, 4].map(validDmaDirection), [true, true, true, false, false]);
});

test('the command line is split as the kernel does it', () => {
  const parsed = parseCmdline('swiotlb=force quiet  iommu.strict=1 dyndbg="file a.c +p" iommu.strict=0 x="a b"=c');
  assert.deepEqual(
    [...parsed],
    [
      ['swiotlb', 'force'],
      ['quiet', ''],
      ['iommu.strict', '0'],
      ['dyndbg', 'file a.c +p'],
      ['x', 'a b=c'],
    ],
  );
});

test('the log keeps its newest lines, with their times; warnings are counted, or reported once', () => {
  const { kernel, splats } = rig();
  const lines: string[] = [];
  kernel.log.onLine = (line) => lines.push(formatLogLine(line));
  prErr(kernel, 'two\nlines');
  assert.deepEqual(lines, ['[    0.000000] two', '[    0.000000] lines']);
  assert.equal(formatLogLine({ timeNs: 12_345_678_901, level: 3, text: 'x' }), '[   12.345678] x');
  for (let i = 0; i < 3; i++) {
    assert.equal(warnOn(kernel, i > 0, 'again'), i > 0);
    assert.equal(warnOnce(kernel, true, 'once'), true);
  }
  assert.deepEqual(splats().sort(), ['WARNING: again', 'WARNING: again', 'WARNING: once']);
  assert.match(kernel.splats[0]?.place ?? '', /io\.test\.ts:\d+$/);
  for (let i = 0; i < 40_000; i++) prErr(kernel, `${i}`);
  assert.ok(kernel.log.lines.length <= 16_384);
  assert.equal(kernel.log.dropped + kernel.log.lines.length, 40_000 + lines.length - 40_000);
  assert.equal(kernel.log.lines.at(-1)?.text, '39999');
});
