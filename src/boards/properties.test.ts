/** Random programs on every board, in every mode: what CPU and device see is what the rules of the DMA API promise. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { PAGE_SIZE } from '../base/index.ts';
import { DMA_FROM_DEVICE, DMA_TO_DEVICE, freePages, GFP_KERNEL, getFreePages, kmalloc } from '../kernel/index.ts';
import { dmaMappingError, dmaMapSingle, dmaUnmapSingle } from '../mapping/index.ts';
import type { Board } from './board.ts';
import { boards } from './index.ts';
import { Program } from './program.cases.ts';
import { MISTAKES, makeMistake } from './program-mistakes.cases.ts';
import { modesOf, settingOf } from './program-modes.cases.ts';
import { type Op, opArbitrary } from './program-op.cases.ts';
import { ProgramRig, type RigOptions } from './program-rig.cases.ts';

/** Another seed makes other programs, more runs more of them; fast-check prints what repeats a failing one. */
const SEED = Number(process.env.DMAKIT_SEED ?? 0x5eed);
const RUNS = Number(process.env.DMAKIT_RUNS ?? 3);

const masks = fc.array(fc.constantFrom(24, 26, 28, 32, 36, 64), { minLength: 1, maxLength: 3 });
const machineSeed = fc.integer({ min: 1, max: 2 ** 31 });
const shape = fc.record({
  maskBits: masks,
  minAlignMask: fc.constantFrom(0, 0, 511, 4095),
  segBoundary: fc.constantFrom(0xffff_ffff, 0xffff, 0x3_ffff),
});
const steps = fc.array(opArbitrary, { minLength: 1, maxLength: 200, size: 'max' });

async function play(board: Board, options: RigOptions, ops: readonly Op[]): Promise<void> {
  await ProgramRig.run(board, options, (rig) => {
    const program = new Program(rig);
    for (const op of ops) program.step(op);
    program.finish();
  });
}

for (const board of boards) {
  for (const mode of modesOf(board)) {
    const where = `${board.name}${mode === '' ? '' : `, ${mode}`}`;

    test(`${where}: random programs see what the rules promise, and leave nothing behind`, async () => {
      await fc.assert(
        fc.asyncProperty(machineSeed, shape, steps, (seed, devices, ops) =>
          play(board, { ...settingOf(mode), ...devices, seed, checked: true }, ops),
        ),
        { seed: SEED, numRuns: RUNS },
      );
    });
  }

  if (board.ramOf !== undefined) {
    for (const mode of ['', 'iommu=strict']) {
      test(`${board.name} with memory above 4 GiB${mode === '' ? '' : `, ${mode}`}: the same`, async () => {
        const ops = fc.sample(fc.array(opArbitrary, { minLength: 200, maxLength: 200, size: 'max' }), {
          seed: SEED,
          numRuns: 1,
        })[0]!;
        await play(board, { mode, seed: 1, ramBytes: 6 * 2 ** 30, maskBits: [64, 28, 36], checked: true }, ops);
      });
    }
  }

  for (const mode of modesOf(board).filter((text) => !/mask|iommu=(off|lazy|pt)/.test(text))) {
    const where = `${board.name}${mode === '' ? '' : `, ${mode}`}`;

    test(`${where}: each mistake in a random program is named, or seen in the bytes`, async () => {
      let seed = SEED;
      for (const [name, mistake] of Object.entries(MISTAKES)) {
        const ops = fc.sample(fc.array(opArbitrary, { maxLength: 30 }), { seed: ++seed, numRuns: 1 })[0]!;
        const rig = await ProgramRig.boot(board, { ...settingOf(mode), seed, cacheNoise: 'off', checked: true });
        const checker = rig.checker!;
        let seen: Error | undefined | null;
        await rig.system.run(() => {
          rig.findDevices({});
          const program = new Program(rig);
          for (const op of ops) program.step(op);
          program.drain();
          assert.deepEqual(checker.findings(), [], `seed ${seed}: before the mistake`);
          seen = makeMistake(rig, mistake, 1 + ((seed * 37) % 3000), seed);
        });
        if (seen === null) continue;
        await rig.system.close();
        checker.close();
        const rules = checker.findings().map(({ rule }) => rule);
        const named = rules.some((rule) => mistake.rules.includes(rule));
        assert.ok(
          named || seen !== undefined,
          `seed ${seed}: '${name}' was not noticed; findings: ${rules.join(', ')}`,
        );
      }
    });

    test(`${where}: a cache line that CPU and device share loses bytes where caches lie between them`, async () => {
      await fc.assert(
        fc.asyncProperty(fc.nat(255), fc.nat(255), async (cut, value) => {
          const options = { ...settingOf(mode), seed: 1, cacheNoise: 'off', checked: true } as const;
          const rig = await ProgramRig.boot(board, options);
          await rig.system.run(() => {
            rig.findDevices({});
            shareLine(rig, cut, value);
          });
        }),
        { seed: SEED, numRuns: 2 },
      );
    });
  }
}

for (const board of boards) {
  const mode = modesOf(board).find((text) => settingOf(text).untrusted === true);
  if (mode === undefined) continue;
  test(`${board.name}, ${mode}: a device that is not trusted sees nothing beside its buffer`, async (t) => {
    const rig = await ProgramRig.boot(board, settingOf(mode));
    await rig.system.run(() => {
      rig.findDevices({});
      if (!rig.devices.every(({ dev }) => dev.untrusted)) {
        t.skip('nothing can be plugged in here');
        return;
      }
      fc.assert(
        fc.property(fc.nat(4095), fc.integer({ min: 1, max: 9000 }), (offset, size) => beside(rig, offset, size)),
        { seed: SEED, numRuns: 50 },
      );
    });
    await rig.close();
  });
}
/** The pages in which the buffer lies hold other things, which the device must not find. */
function beside(rig: ProgramRig, offset: number, size: number): void {
  const device = rig.devices[0]!;
  const { dev } = device;
  const pages = getFreePages(rig.kernel, GFP_KERNEL, 2)!;
  pages.bytes.fill(0x5e);
  const part = pages.slice(offset, size);
  part.bytes.fill(0xb0);
  const addr = dmaMapSingle(dev, part, DMA_TO_DEVICE);
  assert.equal(dmaMappingError(dev, addr), 0);
  const start = addr - (addr % PAGE_SIZE);
  const seen = new Uint8Array(Math.ceil((addr + size - start) / PAGE_SIZE) * PAGE_SIZE);
  rig.read(device, start, seen, seen.length);
  const inside = seen.subarray(addr - start, addr - start + size);
  assert.ok(inside.every((byte) => byte === 0xb0));
  assert.ok(seen.every((byte, i) => byte === 0 || (i >= addr - start && i < addr - start + size)));
  dmaUnmapSingle(dev, addr, size, DMA_TO_DEVICE);
  freePages(rig.kernel, pages, 2);
}

/** The device writes to the first bytes of a line, the CPU meanwhile to the rest. */
function shareLine(rig: ProgramRig, cut: number, value: number): void {
  const device = rig.devices[0]!;
  const { dev } = device;
  const line = rig.kernel.machine.traits.cacheLineBytes;
  const size = 1 + (cut % (line - 1));
  const mem = kmalloc(rig.kernel, line, GFP_KERNEL)!;
  mem.bytes.fill(value);
  const addr = dmaMapSingle(dev, mem.slice(0, size), DMA_FROM_DEVICE);
  assert.equal(dmaMappingError(dev, addr), 0);
  const written = new Uint8Array(line).fill(value + 1);
  mem.bytes.fill(value + 2, size);
  rig.write(device, addr, written, 0, size);
  dmaUnmapSingle(dev, addr, size, DMA_FROM_DEVICE);
  const theirs = mem.bytes.subarray(0, size).every((byte) => byte === written[0]);
  const ours = mem.bytes.subarray(size).every((byte) => byte === (value + 2) % 256);
  const bounced = rig.bounces(dev);
  const shared = !dev.dmaCoherent && !bounced;
  assert.equal(theirs && ours, !shared, `device's bytes ${theirs}, CPU's bytes ${ours}`);
  const rules = rig.checker!.findings().map(({ rule }) => rule);
  assert.deepEqual(rules, shared ? ['dma/cacheline-overlap'] : []);
}
