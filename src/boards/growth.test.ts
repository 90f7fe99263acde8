/**
 * A million steps of random programs on each board, spread over its modes: nothing grows. What the kernel holds is
 * counted, and the heap is measured behind a garbage collection.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Prng } from '../base/index.ts';
import { FrameKind } from '../kernel/index.ts';
import type { Board } from './board.ts';
import { boards } from './index.ts';
import { Program } from './program.cases.ts';
import { modesOf, settingOf } from './program-modes.cases.ts';
import { drawOp, emptyOp } from './program-op.cases.ts';
import { ProgramRig } from './program-rig.cases.ts';

/** Steps on each board. */
const STEPS = Number(process.env.DMAKIT_STEPS ?? 1_000_000);
const SEED = Number(process.env.DMAKIT_SEED ?? 0x5eed);
/** What compiled code and rare sizes may come to need, which differs from run to run; an object kept for each step is more. */
const HEAP_BYTES = 2_000_000;
const BUFFER_BYTES = 300_000;
/** Slabs that a rare size needs for the first time, and tables for addresses that were never used before. */
const MORE_PAGES = 64;

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

interface Holdings {
  readonly heapBytes: number;
  readonly bufferBytes: number;
  readonly pages: number;
  readonly slabPages: number;
  readonly ranges: number;
  readonly slots: number;
  readonly logLines: number;
}
function holdings(rig: ProgramRig): Holdings {
  const ranges = rig.iovaRanges();
  // The second one waits until what the first has found was given back.
  collectGarbage();
  collectGarbage();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return {
    heapBytes: heapUsed,
    bufferBytes: arrayBuffers,
    pages: rig.pagesUsed(),
    slabPages: rig.pagesUsed([FrameKind.SLAB]),
    ranges,
    slots: rig.slotsUsed(),
    logLines: rig.kernel.log.lines.length,
  };
}

function play(rig: ProgramRig, prng: Prng, steps: number): void {
  const program = new Program(rig);
  const op = emptyOp();
  for (let i = 0; i < steps; i++) {
    drawOp(prng, op);
    program.step(op);
  }
  program.finish();
  assert.equal(program.steps, steps);
}

async function run(board: Board, mode: string, steps: number, checked: boolean): Promise<void> {
  const options = { ...settingOf(mode), seed: SEED, maskBits: [64, 28, 36], checked };
  await ProgramRig.run(board, options, (rig) => {
    const prng = new Prng(SEED);
    // Caches, slabs and tables fill up first.
    const warmUp = Math.floor(steps / 3);
    play(rig, prng, warmUp);
    const before = holdings(rig);
    play(rig, prng, steps - warmUp);
    const after = holdings(rig);
    const grown = (what: keyof Holdings): number => after[what] - before[what];
    const text = `${JSON.stringify(before)} became ${JSON.stringify(after)}`;
    assert.ok(grown('heapBytes') < HEAP_BYTES, text);
    assert.ok(grown('bufferBytes') < BUFFER_BYTES, text);
    assert.ok(grown('pages') <= MORE_PAGES && grown('slabPages') <= MORE_PAGES, text);
    assert.deepEqual([grown('ranges'), after.slots], [0, 0], text);
    assert.ok(grown('logLines') < 100, text);
  });
}

for (const board of boards) {
  const modes = modesOf(board);
  const share = Math.ceil(STEPS / modes.length);
  for (const mode of modes) {
    // The first, the board as it is, with a checker: its ledger must not grow either.
    test(`${board.name}${mode === '' ? '' : `, ${mode}`}: ${share} steps (seed ${SEED}) without growth`, async () => {
      await run(board, mode, share, mode === '');
    });
  }
}
