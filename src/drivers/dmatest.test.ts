import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { OK } from '../base/index.ts';
import type { FakeDmaDevice, FakeOptions } from '../dmaengine/fake-provider.cases.ts';
import { DMA_MEMCPY, DMA_MEMSET, dmaCapMask, dmaengineSummary, sysClassDma } from '../dmaengine/index.ts';
import { makeKernel, makeProvider } from '../dmaengine/rig.cases.ts';
import type { Kernel } from '../kernel/index.ts';
import { Dmatest, type DmatestOptions, type DmatestRun, dmatest } from './dmatest.ts';
import { dmatestParameterNames, parseDmatestParams } from './dmatest-params.ts';
import type { DmatestResult } from './dmatest-result.ts';

/** A file recorded from the real module, as lines. */
function fact(name: string): string[] {
  return readFileSync(new URL(`../../fixtures/dmatest/${name}`, import.meta.url), 'utf8')
    .trimEnd()
    .split('\n');
}

interface Ran {
  readonly kernel: Kernel;
  readonly device: FakeDmaDevice;
  readonly result: DmatestResult;
  readonly log: string[];
}
const MEMCPY_ONLY = { capMask: dmaCapMask(DMA_MEMCPY) };

async function run(
  params: DmatestRun,
  {
    provider = {},
    prepare,
    coherent = true,
    ...options
  }: DmatestOptions & { provider?: FakeOptions; coherent?: boolean; prepare?: (device: FakeDmaDevice) => void } = {},
): Promise<Ran> {
  const kernel = makeKernel({ coherent });
  const device = makeProvider(kernel, { ...MEMCPY_ONLY, ...provider });
  prepare?.(device);
  const result = await kernel.run(() => dmatest(kernel, params, options));
  return { kernel, device, result, log: kernel.log.lines.map(({ text }) => text) };
}

/** Lines with what depends on chance or time masked: offsets, lengths, counts of bytes, rates. */
function shape(lines: readonly string[]): string[] {
  return lines.map((line) =>
    line
      .replace(/0x[0-9a-f]+/g, '0x?')
      .replace(/Expected [0-9a-f]{2}, got [0-9a-f]{2}/, 'Expected ??, got ??')
      .replace(/\d+\.\d\d iops \d+ KB/, '?.?? iops ? KB'),
  );
}

test('a thousand copies print the lines that the module prints', async () => {
  const { log, result, kernel } = await run({ channel: 'dma0chan0', iterations: 1000 });
  assert.deepEqual(shape(log), shape(fact('run1000.txt')));
  assert.equal(result.tests, 1000);
  assert.equal(result.failures, 0);
  assert.deepEqual(kernel.splats, []);
  const [thread] = result.threads;
  assert.equal(thread!.name, 'dma0chan0-copy0');
  assert.ok(log.at(-1)!.includes(`${thread!.iops.toFixed(2)} iops ${thread!.kBps} KB/s (0)`));
});

test('a thousand copies pass on a non-coherent machine', async () => {
  const { result, kernel } = await run({ iterations: 1000, testBufSize: 4099 }, { coherent: false });
  assert.equal(result.failures, 0, result.threads[0]!.lines.join('\n'));
  assert.deepEqual(kernel.splats, []);
});

test('verbose norandom runs of 64 bytes print what the module prints', async () => {
  const { log } = await run({ channel: 'dma0chan0', iterations: 5, verbose: true, norandom: true, testBufSize: 64 });
  const expected = fact('verbose5_norandom.txt');
  assert.deepEqual(log.slice(0, -1), expected.slice(0, -1));
  assert.deepEqual(shape(log), shape(expected));
  assert.match(log.at(-1)!, / 0 KB\/s \(0\)$/);
});

test('one corrupt byte is reported as the module reports it', async () => {
  // The recorded controller inverts the byte at index 10 of what it copies.
  const corrupt = (memory: Uint8Array, offset: number): void => {
    memory[offset + 10] = memory[offset + 10]! ^ 0xff;
  };
  const { log, result } = await run(
    { channel: 'dma0chan0', iterations: 3 },
    { provider: { burstBytes: 1 << 20 }, prepare: (device) => (device.corrupt = corrupt) },
  );
  assert.deepEqual(shape(log), shape(fact('corrupt3.txt').slice(0, -1)));
  assert.equal(result.failures, 3);
  for (const line of log.filter((text) => text.includes('not copied!'))) {
    const [, index, expected, got] =
      /dstbuf\[(0x[0-9a-f]+)\] not copied! Expected ([0-9a-f]{2}), got ([0-9a-f]{2})$/.exec(line)!;
    const after = log[log.indexOf(line) + 1]!;
    const [, srcOff, dstOff] = /src_off=(0x[0-9a-f]+) dst_off=(0x[0-9a-f]+)/.exec(after)!;
    assert.equal(Number(index), Number(dstOff) + 10);
    assert.equal(Number.parseInt(expected!, 16), 0xc0 | (~(Number(srcOff) + 10) & 0x1f));
    assert.equal(Number.parseInt(got!, 16), Number.parseInt(expected!, 16) ^ 0xff);
  }
});

test('bytes written outside the range are told as copied, those missing as not copied', async () => {
  const spoil = (at: number, value: number | null) => (memory: Uint8Array, offset: number, len: number) => {
    const where = offset + (at < 0 ? at : len - 1 + at);
    memory[where] = value ?? memory[offset]!;
  };
  const params = { iterations: 1, transferSize: 100, testBufSize: 4096 };
  const before = await run(params, { prepare: (device) => (device.corrupt = spoil(-3, null)), seed: 3 });
  assert.ok(
    before.log.some((line) => /dstbuf\[0x[0-9a-f]+\] was copied! Expected [01][0-9a-f], got [c-f][0-9a-f]$/.test(line)),
    before.log.join('\n'),
  );
  const behind = await run(params, { prepare: (device) => (device.corrupt = spoil(5, 0x3f)), seed: 3 });
  assert.ok(
    behind.log.some((line) => /dstbuf\[0x[0-9a-f]+\] mismatch! Expected [01][0-9a-f], got 3f$/.test(line)),
    behind.log.join('\n'),
  );
});

test('a controller that writes its source is caught', async () => {
  const { log, result } = await run(
    { iterations: 1, norandom: true, testBufSize: 256 },
    {
      prepare: (device) => {
        const move = device.move.bind(device);
        device.move = (segment, ...rest) => {
          const outcome = move(segment, ...rest);
          const bank = device.kernel.machine.bankAt(segment.src)!;
          bank.memory[segment.src - bank.base + 7] = 0;
          return outcome;
        };
      },
    },
  );
  assert.equal(result.failures, 1);
  assert.ok(log.includes('dmatest: dma0chan0-copy0: srcbuf[0x7] overwritten! Expected d8, got 00'), log.join('\n'));
});

test('a controller that writes its source beside the copied range is caught, before it and behind it', async () => {
  for (const place of ['before', 'behind'] as const) {
    const { log, result } = await run(
      { iterations: 1, transferSize: 100, testBufSize: 4096 },
      {
        seed: 3,
        prepare: (device) => {
          const move = device.move.bind(device);
          device.move = (segment, ...rest) => {
            const outcome = move(segment, ...rest);
            const bank = device.kernel.machine.bankAt(segment.src)!;
            bank.memory[segment.src - bank.base + (place === 'before' ? -3 : segment.len + 2)] = 0;
            return outcome;
          };
        },
      },
    );
    assert.equal(result.failures, 1, place);
    assert.ok(
      log.some((line) => /srcbuf\[0x[0-9a-f]+\] overwritten! Expected [89][0-9a-f], got 00$/.test(line)),
      log.join('\n'),
    );
  }
});

test('only 32 mismatches of a region are printed, the rest is counted', async () => {
  const { log, result } = await run(
    { iterations: 1, norandom: true, testBufSize: 1024 },
    { prepare: (device) => (device.corrupt = (memory, offset, len) => memory.fill(0, offset, offset + len)) },
  );
  assert.equal(log.filter((line) => line.includes('not copied!')).length, 32);
  assert.ok(log.includes(`dmatest: dma0chan0-copy0: ${1024 - 32} errors suppressed`));
  assert.ok(log.some((line) => line.includes("result #1: 'data error' with src_off=0x0 dst_off=0x0 len=0x400 (1024)")));
  assert.equal(result.failures, 1);
});

test('a controller that stands still makes tests time out after 3 seconds', async () => {
  const { log, result, kernel } = await run(
    { iterations: 2, norandom: true, testBufSize: 64 },
    { prepare: (device) => (device.stuck = true) },
  );
  assert.equal(result.failures, 2);
  assert.ok(
    log.includes("dmatest: dma0chan0-copy0: result #1: 'test timed out' with src_off=0x0 dst_off=0x0 len=0x40 (0)"),
  );
  assert.ok(kernel.machine.now() >= 6e9 && kernel.machine.now() < 6.1e9);
});

test('prep that fails is reported, and the thread sleeps before it goes on', async () => {
  const { log, result, kernel } = await run(
    { iterations: 3, norandom: true, testBufSize: 64 },
    { prepare: (device) => (device.refusals = 2) },
  );
  assert.equal(result.failures, 2);
  assert.ok(log.some((line) => line.includes("result #1: 'prep error' with src_off=0x0 dst_off=0x0 len=0x40 (0)")));
  assert.ok(kernel.machine.now() >= 2e8);
});

test('a mask that memory cannot satisfy is a mapping error', async () => {
  const { log, result } = await run(
    { iterations: 1, norandom: true, testBufSize: 64 },
    { prepare: (device) => (device.dev.dmaMask = 0xffffn) },
  );
  assert.equal(result.failures, 1);
  assert.ok(
    log.some((line) => line.includes("result #1: 'src mapping error' with")),
    log.join('\n'),
  );
});

test('several threads on several channels run at once', async () => {
  const { log, result } = await run(
    { iterations: 40, threadsPerChan: 3, testBufSize: 2048 },
    { provider: { channels: 4 } },
  );
  assert.equal(result.threads.length, 12);
  assert.equal(result.tests, 480);
  assert.equal(result.failures, 0);
  assert.deepEqual(log.slice(0, 3), [
    'dmatest: No channels configured, continue with any',
    'dmatest: Added 3 threads using dma0chan0',
    'dmatest: Added 3 threads using dma0chan1',
  ]);
  assert.ok(log.includes('dmatest: Started 3 threads using dma0chan3'));
  assert.deepEqual(
    result.threads.slice(0, 4).map(({ name }) => name),
    ['dma0chan0-copy0', 'dma0chan0-copy1', 'dma0chan0-copy2', 'dma0chan1-copy0'],
  );
});

test('max_channels, device and channel choose what is tested', async () => {
  const two = await run({ iterations: 1, maxChannels: 2 }, { provider: { channels: 4 } });
  assert.deepEqual(
    two.result.threads.map(({ channel }) => channel),
    ['dma0chan0', 'dma0chan1'],
  );
  const one = await run({ iterations: 1, channel: ['dma0chan3', 'dma0chan1'] }, { provider: { channels: 4 } });
  assert.deepEqual(
    one.result.threads.map(({ channel }) => channel),
    ['dma0chan3', 'dma0chan1'],
  );
  const none = await run({ iterations: 1, device: 'elsewhere' });
  assert.equal(none.result.threads.length, 0);
});

test('a channel that does not exist is refused as the module does', async () => {
  const { log, result } = await run({ iterations: 1, channel: 'nosuch' });
  assert.deepEqual(log, fact('nosuchchannel.txt'));
  assert.ok(result.error < 0);
});

test('memset is tested where the controller fills and dmatest=1', async () => {
  const { result } = await run(
    { iterations: 50, dmatest: 1 },
    { provider: { capMask: dmaCapMask(DMA_MEMCPY, DMA_MEMSET) } },
  );
  assert.deepEqual(
    result.threads.map(({ name, failures }) => [name, failures]),
    [['dma0chan0-set0', 0]],
  );
});

test('polled runs need no interrupt', async () => {
  const { result } = await run({ iterations: 20, polled: true, testBufSize: 512 });
  assert.equal(result.failures, 0);
});

test('offsets and lengths keep to the alignment, and are the same for the same seed', async () => {
  const lines = async (seed: number): Promise<readonly string[]> => {
    const { result } = await run({ iterations: 30, alignment: 4, verbose: true, testBufSize: 1024 }, { seed });
    return result.threads[0]!.lines;
  };
  const first = await lines(5);
  for (const line of first.slice(0, -1)) {
    for (const [, hex] of line.matchAll(/0x([0-9a-f]+)/g)) assert.equal(Number.parseInt(hex!, 16) % 16, 0, line);
  }
  assert.deepEqual(await lines(5), first);
  assert.notDeepEqual(await lines(6), first);
});

test('unfit parameters are refused with the module’s words', async () => {
  const big = await run({ iterations: 1, transferSize: 64, testBufSize: 64 });
  assert.ok(big.log.includes('dmatest: 64-byte transfer size must be lower than 64-buffer size'));
  const small = await run({ iterations: 1, alignment: 12, testBufSize: 1024 });
  assert.ok(small.log.includes('dmatest: 1024-byte buffer too small for 4096-byte alignment'));
  assert.ok(small.log.includes('dmatest: dma0chan0-copy0: summary 0 tests, 0 failures 0.00 iops 0 KB/s (-12)'));
});

test('a run can be stopped, and reports what it did', async () => {
  let asked = 0;
  const { result } = await run({ testBufSize: 64 }, { shouldStop: () => ++asked > 10 });
  assert.equal(result.tests, 10);
  assert.equal(result.failures, 0);
});

test('without an end a run is refused', async () => {
  await assert.rejects(run({}), /expected iterations above 0/);
});

test('parameters show the names and defaults of the module', async () => {
  const lines = fact('parameters.txt');
  const names = lines.filter((line) => !line.includes('='));
  assert.deepEqual([...dmatestParameterNames], names);
  const kernel = makeKernel();
  await kernel.run(async () => {
    const module = new Dmatest(kernel);
    for (const line of lines.filter((text) => text.includes('='))) {
      const [name, value] = line.trim().split('=');
      assert.equal(await module.get(name!), value, name);
    }
    assert.equal(await module.get('nothing'), null);
  });
});

test('the module is driven by writes to its parameters', async () => {
  const kernel = makeKernel();
  makeProvider(kernel, MEMCPY_ONLY);
  await kernel.run(async () => {
    const module = new Dmatest(kernel);
    assert.equal(await module.set('iterations', '3'), OK);
    assert.ok((await module.set('iterations', 'many')) < 0);
    assert.ok((await module.set('noverify', 'maybe')) < 0);
    assert.equal(await module.set('channel', 'dma0chan0'), OK);
    assert.ok((await module.set('channel', 'dma0chan0')) < 0, 'added twice');
    assert.equal(dmaengineSummary(kernel).trimEnd(), fact('dmaengine_summary_in_use.txt').join('\n'));
    assert.equal(await module.set('run', '1'), OK);
    assert.equal(await module.get('run'), 'Y');
    assert.equal(await module.get('wait'), 'Y');
    assert.equal(await module.get('test_list'), '');
    assert.equal(await module.get('run'), 'N');
    assert.equal(dmaengineSummary(kernel).trimEnd(), fact('dmaengine_summary.txt').join('\n'));
  });
  assert.equal(kernel.log.lines.at(-1)!.text, fact('corrupt3.txt').at(-1));
  assert.deepEqual(sysClassDma(kernel)[0], {
    name: 'dma0chan0',
    memcpyCount: 3,
    bytesTransferred: sysClassDma(kernel)[0]!.bytesTransferred,
    inUse: 0,
  });
});

test('parameters are read as modprobe reads them, and mistakes are named', () => {
  assert.deepEqual(parseDmatestParams('iterations=0x10 noverify channel=dma1chan2 timeout=-1'), {
    iterations: 16,
    noverify: true,
    channel: 'dma1chan2',
    timeout: -1,
  });
  assert.throws(() => parseDmatestParams('iteration=1'), /unknown parameter 'iteration', expected one of alignment/);
  assert.throws(() => parseDmatestParams('iterations=-1'), /'iterations' expects a value of type uint, found '-1'/);
});
