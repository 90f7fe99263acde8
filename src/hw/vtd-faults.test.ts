import assert from 'node:assert/strict';
import { test } from 'node:test';
import { enabledRig, QUEUE, STATUS_WORD, type VtdRig } from './vtd-rig.cases.ts';

const PFO = 1;
const PPF = 2;
const IQE = 0x10;
const IM = 0x8000_0000;
const IP = 0x4000_0000;

/** Point the fault event at a vector. */
function eventVector(rig: VtdRig, control = 0x38) {
  const vector = rig.machine.allocateMsi();
  rig.machine.enableIrqLine(vector.line);
  rig.write(control + 4, vector.data);
  rig.write(control + 8, vector.address);
  rig.write(control + 12, 0);
  return vector;
}

test('faults fill the records in turn, and the status names the first', () => {
  const { rig } = enabledRig({ faultRecords: 4 });
  rig.reads(0x1000);
  assert.equal(rig.read(0x34), PPF);
  rig.writes(0x2000);
  assert.deepEqual(rig.faults(), ['6 b0 read 1000', '5 b0 write 2000']);
  assert.equal(rig.read(0x34), PPF);
  rig.clearFaults();
  assert.equal(rig.read(0x34) & PPF, 0);
  rig.reads(0x3000);
  assert.equal(rig.read(0x34), PPF | (2 << 8), 'the next record is the third');
});

test('a record is cleared by itself, and pending goes with the last', () => {
  const { rig } = enabledRig({ faultRecords: 4 });
  rig.reads(0x1000);
  rig.reads(0x2000);
  rig.write(0x22c, 0x8000_0000);
  assert.deepEqual(rig.faults(), ['6 b0 read 2000']);
  assert.equal(rig.read(0x34), PPF);
  rig.write(0x34, PPF);
  assert.equal(rig.read(0x34), PPF, 'the status bit cannot be cleared by itself');
  rig.write(0x23c, 0x8000_0000);
  assert.equal(rig.read(0x34) & PPF, 0);
});

test('when all records are taken, faults overflow until software has seen it', () => {
  const { rig } = enabledRig({ faultRecords: 2 });
  for (let i = 1; i <= 5; i++) rig.reads(i * 0x1000);
  assert.deepEqual(rig.faults(), ['6 b0 read 1000', '6 b0 read 2000']);
  assert.equal(rig.read(0x34), PPF | PFO);
  rig.write(0x22c, 0x8000_0000);
  rig.reads(0x6000);
  assert.deepEqual(rig.faults(), ['6 b0 read 2000'], 'nothing is recorded while the overflow stands');
  rig.write(0x34, PFO);
  rig.reads(0x7000);
  assert.deepEqual(rig.faults(), ['6 b0 read 7000', '6 b0 read 2000']);
});

test('the first fault sends one message; further ones only when all was dealt with', () => {
  const { rig } = enabledRig();
  const vector = eventVector(rig);
  rig.write(0x38, 0);
  rig.reads(0x1000);
  rig.machine.timePoint();
  assert.equal(rig.irqOf(vector), 1);
  rig.reads(0x2000);
  rig.machine.timePoint();
  assert.equal(rig.irqOf(vector), 1);
  rig.clearFaults();
  rig.reads(0x3000);
  rig.machine.timePoint();
  assert.equal(rig.irqOf(vector), 2);
});

test('a masked event pends, and is sent when it is unmasked, unless it was dealt with', () => {
  const { rig } = enabledRig();
  const vector = eventVector(rig);
  assert.equal(rig.read(0x38), IM, 'masked after reset');
  rig.reads(0x1000);
  assert.equal(rig.read(0x38), IM + IP);
  assert.equal(rig.irqOf(vector), 0);
  rig.write(0x38, 0);
  assert.equal(rig.read(0x38), 0);
  assert.equal(rig.irqOf(vector), 1);
  rig.clearFaults();
  rig.write(0x38, IM);
  rig.reads(0x2000);
  rig.clearFaults();
  assert.equal(rig.read(0x38), IM, 'nothing is left to tell');
  rig.write(0x38, 0);
  assert.equal(rig.irqOf(vector), 1);
});

test('the queue works off descriptors in order, and a wait descriptor writes its status', () => {
  const { rig } = enabledRig();
  rig.enableQueue();
  assert.equal(rig.read(0x1c), 0xc400_0000);
  rig.submit([0x11, 0, 0, 0], [0x12, 0, 0, 0], [3, 0, 0, 0], [4, 0, 0, 0], [0x25, 7, STATUS_WORD, 0]);
  assert.equal(rig.memory32[STATUS_WORD / 4], 7);
  assert.equal(rig.read(0x80), 0x50);
  assert.equal(rig.read(0x34), 0);
});

test('the queue wraps', () => {
  const { rig } = enabledRig();
  rig.enableQueue();
  for (let i = 1; i <= 700; i++) {
    rig.submit([0x12, 0, 0, 0], [0x25, i, STATUS_WORD, 0]);
    assert.equal(rig.memory32[STATUS_WORD / 4], i);
  }
  assert.equal(rig.read(0x80), (1400 % 256) * 16);
});

test('a wait descriptor can interrupt, once until software has seen it', () => {
  const { rig } = enabledRig();
  const vector = eventVector(rig, 0xa0);
  rig.write(0xa0, 0);
  rig.enableQueue();
  rig.submit([0x15, 0, 0, 0], [0x15, 0, 0, 0]);
  assert.equal(rig.read(0x9c), 1);
  assert.equal(rig.irqOf(vector), 1);
  rig.write(0x9c, 1);
  assert.equal(rig.read(0x9c), 0);
  rig.submit([0x15, 0, 0, 0]);
  assert.equal(rig.irqOf(vector), 2);
});

const BAD: [string, number, [number, number, number, number]][] = [
  ['of no type', 3, [0xf, 0, 0, 0]],
  ['all zero', 3, [0, 0, 0, 0]],
  ['an IOTLB invalidation of reserved granularity', 4, [0x02, 0, 0, 0]],
  ['a context invalidation of reserved granularity', 4, [0x01, 0, 0, 0]],
  ['reserved bits in an IOTLB invalidation', 4, [0x12, 1, 0, 0]],
  ['an address mask beyond the largest', 4, [0x32, 0, 19, 0]],
  ['reserved bits in a wait', 4, [0x1_0025, 0, STATUS_WORD, 0]],
  ['a status where there is no memory', 5, [0x25, 1, 0x3000_0000, 0]],
];
for (const [what, code, descriptor] of BAD) {
  test(`a descriptor ${what} stops the queue until software has put it right`, () => {
    const { rig } = enabledRig();
    const vector = eventVector(rig);
    rig.write(0x38, 0);
    rig.enableQueue();
    rig.submit([0x12, 0, 0, 0], descriptor, [0x25, 9, STATUS_WORD, 0]);
    assert.equal(rig.read(0x34), IQE);
    assert.equal(rig.read(0xb0), code);
    assert.equal(rig.read(0x80), 0x10, 'the head stands at it');
    assert.equal(rig.memory32[STATUS_WORD / 4], 0);
    assert.equal(rig.irqOf(vector), 1);
    rig.submit([0x25, 10, STATUS_WORD, 0]);
    assert.equal(rig.memory32[STATUS_WORD / 4], 0, 'nothing goes on');
    rig.poke(QUEUE + 0x10, 0x12);
    rig.poke(QUEUE + 0x18, 0);
    rig.write(0x34, IQE);
    assert.equal(rig.read(0x34), 0);
    assert.equal(rig.memory32[STATUS_WORD / 4], 10);
    assert.equal(rig.read(0x80), 0x40);
  });
}

test('a tail outside the queue, and a queue where there is no memory, are errors', () => {
  const { rig } = enabledRig();
  rig.enableQueue();
  rig.write(0x88, 0x1000);
  assert.deepEqual([rig.read(0x34), rig.read(0xb0)], [IQE, 1]);
  const other = enabledRig().rig;
  other.write(0x90, 0x3000_0000);
  other.write(0x18, 0x8400_0000);
  other.write(0x88, 0x10);
  assert.deepEqual([other.read(0x34), other.read(0xb0)], [IQE, 2]);
});

test('without queued invalidation the queue cannot be switched on', () => {
  const { rig } = enabledRig({ queuedInvalidation: false });
  rig.enableQueue();
  assert.equal(rig.read(0x1c), 0xc000_0000);
});
