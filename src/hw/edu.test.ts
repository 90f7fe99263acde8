import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Prng } from '../base/index.ts';
import { BusStatus, type Translator } from '../machine/index.ts';
import { EDU } from '../regs/edu.ts';
import { PCI } from '../regs/pci.ts';
import { EduModel, type EduOptions } from './edu.ts';
import { PciIrqLine } from './pci-interrupt.ts';
import { BDF, PciRig } from './pci-rig.cases.ts';

const { MEMORY, MASTER } = PCI.COMMAND;
const BAR = 0xfe30_0000;
const NOWHERE = 0xffff_ffff;
const LONG_NS = 1_000_000;
// docs/specs/edu.rst, typed from there.
const [ID, LIVE, FACT, STATUS, IRQ_STATUS, RAISE, ACK] = [0, 4, 8, 0x20, 0x24, 0x60, 0x64];
const [SRC, DST, CNT, CMD] = [0x80, 0x88, 0x90, 0x98];
const [START, FROM_DEVICE, WITH_IRQ] = [1, 2, 4];
const BUFFER = 0x4_0000;

function build(options: Partial<EduOptions> = {}) {
  const rig = new PciRig();
  const intx = new PciIrqLine(rig.machine.irqLine(20));
  rig.machine.enableIrqLine(20);
  const edu = new EduModel(rig.machine, { name: '0000:00:10.0', bdf: BDF, intx, bar0: BAR, ...options });
  rig.command(MEMORY, MASTER);
  const at = (offset: number) => rig.readl(BAR + offset);
  const put = (offset: number, value: number) => rig.writel(BAR + offset, value);
  /** Acknowledged interrupts are gone when a read returns. */
  const acknowledge = (bits: number) => {
    rig.onInterrupt = () => {
      put(ACK, bits);
      at(ACK);
    };
  };
  const dma = (source: number, destination: number, count: number, command: number) => {
    for (const [offset, value] of [
      [SRC, source],
      [DST, destination],
      [CNT, count],
    ] as const) {
      put(offset, value % 2 ** 32);
      put(offset + 4, Math.floor(value / 2 ** 32));
    }
    put(CMD, command | START);
    rig.pass(LONG_NS);
  };
  return { rig, edu, at, put, acknowledge, dma };
}

test('the register table has the offsets of the specification', () => {
  const offsets = EDU.registers.map(({ offset }) => offset);
  assert.deepEqual(offsets, [
    ID,
    LIVE,
    FACT,
    STATUS,
    IRQ_STATUS,
    RAISE,
    ACK,
    SRC,
    SRC + 4,
    DST,
    DST + 4,
    CNT,
    CNT + 4,
    CMD,
  ]);
});

test('it has the ids of QEMU, and one message', () => {
  const { rig, at } = build();
  assert.equal(rig.read(0), 0x11e8_1234);
  assert.equal(rig.read(8), 0x00ff_0010);
  assert.equal(at(ID), 0x0100_00ed);
  assert.equal(rig.read(0x42, 2) & 0x8e, 0x80);
});

test('liveness inverts; unknown offsets and odd widths give all ones', () => {
  const { rig, at, put } = build();
  put(LIVE, 0x1234_5678);
  assert.equal(at(LIVE), 0xedcb_a987);
  assert.equal(at(0x40), NOWHERE);
  assert.equal(at(RAISE), NOWHERE);
  assert.equal(rig.machine.read8((BAR + ID) as never), 0xff);
});

test('a factorial takes its time, wraps at 32 bits, and interrupts when asked to', () => {
  const { rig, at, put, acknowledge } = build();
  for (const [n, result] of [
    [0, 1],
    [5, 120],
    [12, 479_001_600],
    [13, 1_932_053_504],
    [34, 0],
    [4_000_000_000, 0],
  ] as const) {
    put(FACT, n);
    assert.equal(at(STATUS) & 1, 1);
    rig.pass(LONG_NS);
    assert.equal(at(STATUS), 0);
    assert.equal(at(FACT), result, `${n}!`);
  }
  assert.equal(at(IRQ_STATUS), 0);
  acknowledge(1);
  put(STATUS, 0x80);
  put(FACT, 3);
  rig.pass(LONG_NS);
  assert.equal(rig.interrupts.get(20), 1);
  assert.equal(at(IRQ_STATUS), 0);
});

test('a number that is written while one is computed is ignored', () => {
  const { rig, at, put } = build();
  put(FACT, 4);
  put(FACT, 5);
  rig.pass(LONG_NS);
  assert.equal(at(FACT), 24);
});

test('interrupts are raised and acknowledged bit by bit; the pin goes low with the last', () => {
  const { rig, at, put } = build();
  rig.onInterrupt = () => rig.machine.disableIrqLine(20);
  put(RAISE, 0x5);
  assert.equal(at(IRQ_STATUS), 5);
  put(ACK, 1);
  assert.equal(at(IRQ_STATUS), 4);
  rig.machine.enableIrqLine(20);
  rig.machine.timePoint();
  assert.equal(rig.interrupts.get(20), 2);
  put(ACK, 4);
  at(ID);
  rig.machine.enableIrqLine(20);
  rig.machine.timePoint();
  assert.equal(rig.interrupts.get(20), 2);
});

test('DMA in both directions moves every byte, at any alignment', () => {
  const { rig, edu, dma } = build();
  const prng = new Prng(7);
  for (let i = 0; i < 40; i++) {
    const count = 1 + prng.below(4096);
    const offset = prng.below(4096 - count + 1);
    const [from, to] = [0x1_0000 + prng.below(4096), 0x8_0000 + prng.below(4096)];
    for (let n = 0; n < count; n++) rig.memory[from + n] = prng.below(256);
    rig.memory.fill(0xee, to - 8, to + count + 8);
    dma(from, BUFFER + offset, count, 0);
    assert.deepEqual(edu.buffer.subarray(offset, offset + count), rig.memory.subarray(from, from + count));
    dma(BUFFER + offset, to, count, FROM_DEVICE);
    assert.deepEqual(rig.memory.subarray(to, to + count), rig.memory.subarray(from, from + count));
    assert.deepEqual([rig.memory[to - 1], rig.memory[to + count]], [0xee, 0xee]);
  }
});

test('a transfer takes set-up time and bus time; the start bit reads as one, and registers are locked until its end', () => {
  const { rig, at, put, acknowledge } = build({ setupNs: 50_000, megabytesPerSecond: 100 });
  put(SRC, 0x1000);
  put(DST, BUFFER);
  put(CNT, 4096);
  put(CMD, START | WITH_IRQ);
  put(SRC, 0x9999);
  acknowledge(0x100);
  const began = rig.machine.now();
  while ((at(CMD) & START) !== 0) rig.machine.cpuRelax();
  const took = rig.machine.now() - began;
  assert.ok(took >= 50_000 + 40_960 - 1000 && took < 50_000 + 40_960 + 2000, `${took} ns`);
  assert.equal(at(SRC), 0x1000);
  assert.equal(rig.interrupts.get(20), 1);
});

test('a transfer that leaves the buffer moves nothing, ends all the same, and is told of', () => {
  const { rig, edu, at, dma } = build();
  rig.memory.fill(0x55, 0x1000, 0x3000);
  for (const [destination, count] of [
    [BUFFER, 4097],
    [BUFFER + 4095, 2],
    [BUFFER - 1, 1],
    [0, 4],
    [BUFFER, 2 ** 40],
    [2 ** 40 + BUFFER, 4],
  ] as const) {
    dma(0x1000, destination, count, 0);
    assert.equal(at(CMD) & START, 0);
  }
  assert.equal(edu.refusedTransfers, 6);
  assert.ok(edu.buffer.every((byte) => byte === 0));
  assert.match(edu.complaint, /^EDU: DMA range 0x10000040000-0x10000040003 out of bounds \(0x40000-0x40fff\)!$/);
  dma(0x1000, BUFFER, 4096, 0);
  assert.equal(edu.buffer[4095], 0x55, 'exactly the whole buffer is in order');
});

test('addresses beyond the mask are cut, as QEMU cuts them, and told of', () => {
  const { rig, edu, dma } = build();
  rig.memory[0x1000] = 0x77;
  dma(0x1000 + 2 ** 28, BUFFER, 1, 0);
  assert.equal(edu.buffer[0], 0x77);
  assert.equal(edu.clampedAddresses, 1);
  assert.equal(edu.complaint, 'EDU: clamping DMA 0x10001000 to 0x1000!');
  const wide = build({ dmaMaskBits: 64 });
  wide.dma(2 ** 40 + 0x1000, BUFFER, 1, 0);
  assert.equal(wide.edu.clampedAddresses, 0);
  assert.equal(wide.edu.lastStatus, BusStatus.DECODE_ERROR);
});

test('what it could not read is zeros from the failing byte on; what it could not write is as it was', () => {
  const { rig, edu, dma } = build({ dmaMaskBits: 64 });
  const end = 16 * 2 ** 20;
  rig.memory.fill(0x11, end - 16, end);
  edu.buffer.fill(0xaa);
  dma(end - 16, BUFFER, 32, 0);
  assert.deepEqual([...edu.buffer.subarray(14, 18)], [0x11, 0x11, 0, 0]);
  assert.equal(edu.buffer[32], 0xaa);
  assert.equal(edu.lastStatus, BusStatus.DECODE_ERROR);
  rig.command(MEMORY);
  dma(BUFFER, 0x1000, 8, FROM_DEVICE);
  assert.equal(rig.memory[0x1000], 0);
  assert.equal(edu.pci.blockedAccesses, 1);
});

test('accesses carry its requester id to the translator in front of it', () => {
  const seen: number[] = [];
  const translator: Translator = {
    translate(requesterId, addr, sizeBytes, _isWrite, result) {
      seen.push(requesterId);
      if (addr >= 0x10_0000) return BusStatus.TRANSLATION_FAULT;
      result.phys = addr + 0x10_0000;
      result.sizeBytes = Math.min(sizeBytes, 4096 - (addr % 4096));
      return BusStatus.OK;
    },
  };
  const { rig, edu, dma } = build({ translator });
  rig.memory.fill(0x99, 0x10_1000, 0x10_3000);
  dma(0x1800, BUFFER, 4096, 0);
  assert.ok(edu.buffer.every((byte) => byte === 0x99));
  assert.deepEqual([...new Set(seen)], [BDF]);
  dma(BUFFER, 0x10_0000, 4, FROM_DEVICE);
  assert.equal(edu.lastStatus, BusStatus.TRANSLATION_FAULT);
});

test('the end of a transfer is one message when messages are on', () => {
  const { rig, acknowledge, dma } = build();
  const { line } = rig.enableMsi();
  acknowledge(0x100);
  dma(0x1000, BUFFER, 64, WITH_IRQ);
  dma(0x1000, BUFFER, 64, 0);
  assert.equal(rig.interrupts.get(line), 1);
  assert.equal(rig.interrupts.get(20), undefined);
});
