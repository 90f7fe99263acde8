import assert from 'node:assert/strict';
import { test } from 'node:test';
import { physAddr } from '../base/index.ts';
import { Signal } from '../machine/index.ts';
import { FifoPeripheral } from './fifo-peripheral.ts';
import { Rig } from './model-rig.cases.ts';

const BASE = 0x4000_0000;
const [CTRL, STATUS, DATA, RATE, THRESHOLD, LEVEL] = [0, 4, 8, 12, 16, 20].map((offset) => BASE + offset) as [
  number,
  number,
  number,
  number,
  number,
  number,
];
const [EN, TXEN, RXEN, LOOP, DMAEN] = [1, 2, 4, 8, 16];

function bench() {
  const rig = new Rig(4096, 0);
  const txRequest = new Signal('tx');
  const rxRequest = new Signal('rx');
  new FifoPeripheral(rig, { name: 'fifo', base: physAddr(BASE), txRequest, rxRequest });
  rig.write(RATE, 1_000_000);
  return { rig, txRequest, rxRequest };
}

test('words sent come back, one per tick of the sample clock', () => {
  const { rig } = bench();
  for (const word of [11, 22, 33]) rig.write(DATA, word);
  assert.equal(rig.read(LEVEL), 3);
  rig.write(CTRL, EN | TXEN | RXEN | LOOP);
  rig.run(999);
  assert.equal(rig.read(LEVEL), 3);
  rig.run(1);
  assert.equal(rig.read(LEVEL), 2 | (1 << 8));
  rig.run(2000);
  assert.equal(rig.read(STATUS), 0);
  assert.deepEqual([rig.read(DATA), rig.read(DATA), rig.read(DATA)], [11, 22, 33]);
});

test('requests follow the thresholds, and only while the port wants DMA', () => {
  const { rig, txRequest, rxRequest } = bench();
  rig.write(THRESHOLD, 1 | (2 << 8));
  rig.write(CTRL, EN | TXEN | RXEN | LOOP);
  assert.equal(txRequest.high, false);
  rig.write(CTRL, EN | TXEN | RXEN | LOOP | DMAEN);
  assert.equal(txRequest.high, true);
  rig.write(DATA, 1);
  assert.equal(txRequest.high, true);
  rig.write(DATA, 2);
  assert.equal(txRequest.high, false);
  rig.run(1000);
  assert.equal(txRequest.high, true);
  assert.equal(rxRequest.high, false);
  rig.run(1000);
  assert.equal(rxRequest.high, true);
  rig.read(DATA);
  assert.equal(rxRequest.high, false);
});

test('who is late is told: underrun, overrun, overflow and underflow', () => {
  const { rig } = bench();
  assert.equal(rig.read(DATA), 0);
  assert.equal(rig.read(STATUS), 8);
  for (let i = 0; i < 65; i++) rig.write(DATA, i);
  assert.equal(rig.read(STATUS), 8 | 4);
  assert.equal(rig.read(LEVEL), 64);
  rig.write(STATUS, 12);
  assert.equal(rig.read(STATUS), 0);
  rig.write(CTRL, EN | TXEN | RXEN | LOOP);
  rig.run(65_000);
  assert.equal(rig.read(STATUS), 1);
  for (let i = 0; i < 64; i++) rig.write(DATA, i);
  rig.run(10_000);
  assert.equal(rig.read(STATUS) & 2, 2);
});

test('a stopped clock leaves no event behind', () => {
  const { rig } = bench();
  rig.write(CTRL, EN);
  rig.run(5000);
  assert.equal(rig.pendingEvents, 1);
  rig.write(CTRL, 0x300);
  assert.equal(rig.pendingEvents, 0);
  assert.equal(rig.read(LEVEL), 0);
});
