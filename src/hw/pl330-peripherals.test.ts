import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Signal } from '../machine/index.ts';
import { Dmac, END, LD, LP0, LPEND_FOREVER, LPEND0, MOV_CCR, MOV_DAR, MOV_SAR, ST } from './pl330-rig.cases.ts';

const STOPPED = 0;
const SRC = 0x4_0000;
const DST = 0x8_0000;

describe('peripherals', () => {
  const FIFO = 0xe000_0000;
  /** A FIFO register that requests while it holds a burst of words (or one, for single requests). */
  function withFifo(): { dmac: Dmac; words: number[]; push(...more: number[]): void; acknowledged: string[] } {
    const burst = new Signal('burst');
    const single = new Signal('single');
    const last = new Signal('last');
    const acknowledged: string[] = [];
    const request = { burst, single, last, acknowledge: (kind: string) => void acknowledged.push(kind) };
    const dmac = new Dmac({ requests: [null, request] });
    const words: number[] = [];
    const drive = (): void => {
      last.set(words.length === 1);
      burst.set(words.length >= 4);
      single.set(words.length >= 1);
    };
    dmac.rig.mapRegisters(FIFO, 4, 'fifo', {
      readRegister: () => {
        const value = words.shift() ?? 0xdead_dead;
        drive();
        return value;
      },
      writeRegister: (_offset, _width, value) => void words.push(value),
    });
    return {
      dmac,
      words,
      acknowledged,
      push(...more) {
        words.push(...more);
        drive();
      },
    };
  }
  const FROM_FIFO = 0x4000 | (2 << 1) | (3 << 4) | (2 << 15) | (3 << 18); // fixed source, words, bursts of 4
  const words = (dmac: Dmac, count: number): number[] => [...new Uint32Array(dmac.memory.buffer, DST, count)];

  test('bursts move when they are requested, and not before', () => {
    const { dmac, push, acknowledged } = withFifo();
    // DMAWFP burst; DMALDPB; DMAST; twice
    dmac.run(
      0,
      [MOV_CCR(FROM_FIFO), MOV_SAR(FIFO), MOV_DAR(DST), LP0(2), [0x32, 8], [0x27, 8], ST, LPEND0(5), END],
      5000,
    );
    assert.equal(dmac.state(0), 7);
    assert.equal((dmac.read(0x100) >>> 4) & 31, 1);
    push(1, 2, 3);
    dmac.rig.run(1000);
    assert.deepEqual(words(dmac, 4), [0, 0, 0, 0]);
    push(4);
    dmac.rig.run(1000);
    assert.deepEqual(words(dmac, 4), [1, 2, 3, 4]);
    assert.equal(dmac.state(0), 7);
    push(5, 6, 7, 8);
    dmac.rig.run(1000);
    assert.deepEqual(words(dmac, 8), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert.equal(dmac.state(0), STOPPED);
    assert.deepEqual(acknowledged, ['burst', 'burst']);
  });
  test('a single request moves one beat, and conditional instructions follow the request', () => {
    const { dmac, push, acknowledged } = withFifo();
    // DMALPFE; DMAWFP periph; DMALDPS; DMASTS; DMALDPB; DMASTB; DMALPEND until the last request
    const loop = [[0x31, 8], [0x25, 8], [0x09], [0x27, 8], [0x0b]].flat();
    dmac.run(0, [MOV_CCR(FROM_FIFO), MOV_SAR(FIFO), MOV_DAR(DST), loop, LPEND_FOREVER(8), END], 1000);
    push(1, 2, 3, 4, 5, 6);
    dmac.rig.run(5000);
    assert.deepEqual(words(dmac, 7), [1, 2, 3, 4, 5, 6, 0]);
    assert.deepEqual(acknowledged, ['burst', 'single', 'single']);
    assert.equal(dmac.state(0), STOPPED);
  });
  test('stores to a peripheral go to its register one by one', () => {
    const { dmac, push, words: fifo } = withFifo();
    dmac.memory.set([1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0x78, 0x56, 0x34, 0x12], SRC);
    push(9, 9, 9, 9);
    dmac.run(
      0,
      [
        MOV_CCR(1 | (2 << 1) | (3 << 4) | (2 << 15) | (3 << 18)),
        MOV_SAR(SRC),
        MOV_DAR(FIFO),
        [0x32, 8],
        LD,
        [0x2b, 8],
        END,
      ],
      5000,
    );
    assert.deepEqual(fifo, [9, 9, 9, 9, 1, 2, 3, 0x1234_5678]);
    assert.equal(dmac.dar(0), FIFO);
  });
  test('DMAFLUSHP tells the peripheral', () => {
    const { dmac, acknowledged } = withFifo();
    dmac.run(0, [[0x35, 8], END], 1000);
    assert.deepEqual(acknowledged, ['flush']);
  });
});
