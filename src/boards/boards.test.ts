import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DMA_MEMCPY, dmaCapMask, dmaRequestChannel } from '../dmaengine/index.ts';
import { dmatest } from '../drivers/dmatest.ts';
import { GFP_KERNEL, getFreePages, msleep, Tasklet, taskletSchedule } from '../kernel/index.ts';
import type { MachineObserver } from '../machine/index.ts';
import { dmaAllocCoherent } from '../mapping/index.ts';
import { boardByName, boards, boardsWithChannels, checkBoard, defineBoard, describeBoard } from './index.ts';

const MIB = 2 ** 20;
const SMALL = { ramBytes: 64 * MIB };

test('boards are found by name; an unknown name is answered with the known ones', () => {
  for (const board of boards) assert.equal(boardByName(board.name), board);
  assert.throws(() => boardByName('rpi9'), {
    message: "board 'rpi9' is unknown; known are zynq-a9, rpi3, q35, arm-virt",
  });
});

test('a definition that cannot be a board says what is wrong', () => {
  const good = { ...boards[0]! };
  assert.throws(
    () => defineBoard({ ...good, name: 'My Board' }),
    /board "My Board": 'name': expected lower-case letters/,
  );
  assert.throws(() => defineBoard({ ...good, ram: [] }), /'ram': expected at least one range/);
  assert.throws(() => defineBoard({ ...good, modes: ['fast' as 'coherent'] }), /'modes': 'fast' is unknown; known are/);
  assert.throws(() => defineBoard({ ...good, bind: undefined as never }), /'bind': expected a function/);
  assert.throws(
    () => checkBoard(undefined),
    /expected export default defineBoard\({ name, … }\), found no default export/,
  );
  assert.throws(() => checkBoard(7), /found a number/);
  assert.equal(checkBoard(good), good);
});

for (const board of boardsWithChannels) {
  test(`${board.name} probes its devices and gives everything back`, async () => {
    const system = await board.boot(SMALL);
    assert.deepEqual([system.board, system.mode, system.seed], [board.name, '', 1]);
    const drivers = await system.run((kernel) => kernel.devices.map((dev) => dev.driver?.name).filter(Boolean));
    assert.deepEqual(drivers.length, board.drivers.length);
    assert.equal(await system.run(() => 42), 42);
    assert.deepEqual(await system.close(), { leaks: [], splats: [] });
  });

  test(`${board.name} tells of pages that were not given back`, async () => {
    const system = await board.boot(SMALL);
    await system.run(async (kernel) => {
      getFreePages(kernel, GFP_KERNEL, 3);
      const chan = (await dmaRequestChannel(kernel, dmaCapMask(DMA_MEMCPY)))!;
      dmaAllocCoherent(chan.device.dev, 8192, GFP_KERNEL);
    });
    const { leaks } = await system.close();
    const pages = leaks.reduce((sum, leak) => sum + leak.pages, 0);
    assert.ok(pages >= 10, `8 and 2 pages were kept: ${JSON.stringify(leaks)}`);
  });

  test(`${board.name} is as coherent as the mode says`, async () => {
    for (const [mode, coherent] of [
      ['', board.coherent],
      ['coherent', true],
      ['noncoherent', false],
    ] as const) {
      const system = await board.boot({ ...SMALL, mode });
      assert.equal(system.machine.traits.coherent, coherent);
      assert.equal(system.machine.traits.cacheLineBytes, board.cacheLineBytes);
      const devices = await system.run((kernel) => kernel.devices.filter((dev) => dev.driver !== null));
      assert.ok(devices.every((dev) => dev.dmaCoherent === coherent));
    }
  });

  test(`${board.name}: a mode that it does not have is refused`, async () => {
    await assert.rejects(board.boot({ mode: 'turbo' }), /mode 'turbo' is unknown; known are coherent/);
  });

  test(`${board.name}: one seed gives one log, to the byte; another seed gives another`, async () => {
    const logOf = async (seed: number): Promise<string> => {
      const log: string[] = [];
      const note =
        (what: string) =>
        (...values: unknown[]): void => {
          log.push(`${what} ${values.join(' ')}`);
        };
      const machine: MachineObserver = {
        deviceAccess: note('access'),
        registerAccess: note('register'),
        interrupt: note('interrupt'),
        cacheOp: note('cache'),
        barrier: note('barrier'),
      };
      const system = await board.boot({ ...SMALL, seed, observers: { machine } });
      const result = await system.run((kernel) => dmatest(kernel, { iterations: 10, maxChannels: 2 }, { seed }));
      assert.equal(result.failures, 0);
      return log.join('\n');
    };
    const [first, second, other] = [await logOf(7), await logOf(7), await logOf(8)];
    assert.ok(first.length > 10_000);
    assert.ok(first === second, 'the same seed');
    assert.ok(first !== other, 'another seed');
  });
}

test('a description tells what the devices of rpi3 reach', async () => {
  const system = await boardByName('rpi3').boot();
  await system.run(() => {});
  const description = describeBoard(system);
  assert.deepEqual(description.memory, [{ base: 0, sizeBytes: 960 * MIB }]);
  assert.deepEqual(description.zones, [{ name: 'DMA', base: 0, sizeBytes: 960 * MIB }]);
  const [controller, port] = description.devices;
  assert.ok(controller !== undefined && port !== undefined && description.devices.length === 2);
  assert.equal(controller.name, '3f007000.dma-controller');
  assert.equal(controller.driver, 'bcm2835-dma');
  assert.equal(controller.maskBits, 32);
  assert.equal(controller.coherent, false);
  assert.deepEqual(controller.windows, [{ phys: 0, bus: 0xc000_0000, sizeBytes: 0x3f00_0000 }]);
  assert.deepEqual(controller.reach, {
    direct: [{ base: 0, sizeBytes: 960 * MIB }],
    directBytes: 960 * MIB,
    translatedBytes: 0,
    bounceBytes: 0,
    unreachableBytes: 0,
  });
  assert.equal(controller.channels.length, 11);
  assert.deepEqual(controller.channels[0], {
    name: 'dma0chan0',
    capabilities: ['memcpy', 'slave', 'cyclic'],
    client: null,
  });
  // GPU interrupts 16 to 28, in the controller's first bank.
  assert.deepEqual(
    controller.interrupts,
    Array.from({ length: 13 }, (_, i) => 32 + 16 + i),
  );
  assert.equal(port.name, '3f203000.serial-port');
  assert.equal(port.reach, null);
});

test('a description tells what the devices of zynq-a9 reach', async () => {
  const system = await boardByName('zynq-a9').boot();
  await system.run(() => {});
  const { devices, memory } = describeBoard(system);
  assert.deepEqual(memory, [{ base: 0, sizeBytes: 512 * MIB }]);
  const controller = devices.find(({ driver }) => driver !== 'fifo-port')!;
  assert.equal(controller.name, 'f8003000.dma-controller');
  assert.deepEqual(controller.windows, []);
  assert.equal(controller.channels.length, 8);
  assert.equal(controller.reach?.directBytes, 512 * MIB);
  // GIC interrupts: shared ones begin at 32.
  assert.deepEqual(
    controller.interrupts,
    [13, 14, 15, 16, 17, 40, 41, 42, 43].map((spi) => 32 + spi),
  );
});

test('mask=BITS closes the bus: memory above is out of direct reach', async () => {
  const system = await boardByName('zynq-a9').boot({ mode: 'mask=28' });
  await system.run(() => {});
  const { devices, zones, mode } = describeBoard(system);
  assert.equal(mode, 'mask=28');
  assert.deepEqual(zones[0], { name: 'DMA', base: 0, sizeBytes: 256 * MIB });
  const controller = devices.find(({ channels }) => channels.length > 0)!;
  assert.equal(controller.busLimit, 2 ** 28 - 1);
  assert.equal(controller.reach?.directBytes, 256 * MIB);
  const { bounceBytes, unreachableBytes } = controller.reach!;
  assert.equal(bounceBytes + unreachableBytes, 256 * MIB, 'the rest bounces, or cannot be used at all');
  await assert.rejects(boardByName('rpi3').boot({ mode: 'mask=30' }), {
    message: "mode 'mask=30': devices on /soc would reach no memory: it begins at bus address 0xc0000000",
  });
  await boardByName('rpi3').boot({ mode: 'mask=32', ...SMALL });
});

test("a board of one's own is one file: here a PL330 with RAM in two banks", async () => {
  const zynq = boardByName('zynq-a9');
  const own = checkBoard({
    ...zynq,
    boot: undefined,
    name: 'my-board',
    title: 'Mine',
    ram: [
      { base: 0, sizeBytes: 16 * MIB },
      { base: 0x4000_0000 - 32 * MIB, sizeBytes: 32 * MIB },
    ],
    weaklyOrdered: false,
    modes: ['coherent'],
  });
  await assert.rejects(own.boot({ mode: 'mask=28' }), /mode 'mask=28' is unknown; known are coherent/);
  const system = await own.boot({ mode: 'coherent', seed: 5 });
  const result = await system.run((kernel) => dmatest(kernel, { iterations: 5 }, { seed: 5 }));
  assert.deepEqual([result.failures, result.threads.length], [0, 8]);
  assert.equal(describeBoard(system).devices[0]?.reach?.directBytes, 48 * MIB);
  assert.deepEqual(await system.close(), { leaks: [], splats: [] });
});

test('closing tells why a system cannot be taken apart', async () => {
  const system = await boardByName('rpi3').boot(SMALL);
  const mistake = new Error('a mistake in a tasklet');
  const run = system.run(async (kernel) => {
    const tasklet = new Tasklet(kernel, () => {
      throw mistake;
    });
    taskletSchedule(tasklet);
    await msleep(kernel, 1);
  });
  await assert.rejects(run, (error: Error) => error.cause === mistake);
  assert.match((await system.close()).failure ?? '', /mistake in a tasklet|panic/i);
});
