import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BusStatus, type RegisterBlock } from '../machine/index.ts';
import { MSI, PCI } from '../regs/pci.ts';
import { PciFunctionModel, type PciFunctionOptions } from './pci-function.ts';
import { PciIrqLine } from './pci-interrupt.ts';
import { BDF, PciRig } from './pci-rig.cases.ts';

const { MEMORY, MASTER, INTX_DISABLE } = PCI.COMMAND;
const MIB = 2 ** 20;
const NOWHERE = 0xffff_ffff;

class Scratch implements RegisterBlock {
  value = 0x1234_5678;
  readRegister(): number {
    return this.value;
  }
  writeRegister(_offset: number, _width: number, value: number): void {
    this.value = value;
  }
}

function build(options: Partial<PciFunctionOptions> = {}) {
  const rig = new PciRig();
  const block = new Scratch();
  const intx = new PciIrqLine(rig.machine.irqLine(20));
  rig.machine.enableIrqLine(20);
  const fn = new PciFunctionModel(rig.machine, {
    ...{ name: '0000:00:10.0', bdf: BDF, vendor: 0x1234, device: 0x11e8, class: 0x01_0802, revision: 3 },
    ...{ subsystemVendor: 0x1af4, subsystem: 0x1100, intx, msi: true },
    bars: [{ index: 0, sizeBytes: MIB, block }],
    ...options,
  });
  return { rig, fn, block, intx };
}

test('the registers are where the specification has them', () => {
  const offsets = Object.fromEntries(PCI.registers.map(({ name, offset, width }) => [name, [offset, width]]));
  assert.deepEqual(offsets, {
    VENDOR: [0x00, 16],
    DEVICE: [0x02, 16],
    COMMAND: [0x04, 16],
    STATUS: [0x06, 16],
    REVISION: [0x08, 8],
    PROG_IF: [0x09, 8],
    CLASS: [0x0a, 16],
    CACHE_LINE: [0x0c, 8],
    LATENCY: [0x0d, 8],
    HEADER_TYPE: [0x0e, 8],
    BIST: [0x0f, 8],
    BAR: [0x10, 32],
    SUBSYSTEM_VENDOR: [0x2c, 16],
    SUBSYSTEM: [0x2e, 16],
    ROM: [0x30, 32],
    CAPABILITIES: [0x34, 8],
    INTERRUPT_LINE: [0x3c, 8],
    INTERRUPT_PIN: [0x3d, 8],
  });
  assert.deepEqual([MEMORY.mask, MASTER.mask, INTX_DISABLE.mask], [2, 4, 0x400]);
  assert.deepEqual([MSI.CONTROL.offset, MSI.ADDRESS_LO.offset, MSI.ADDRESS_HI.offset, MSI.DATA.offset], [2, 4, 8, 12]);
  assert.deepEqual([MSI.CONTROL.ENABLE.mask, MSI.CONTROL.ENABLED.mask, MSI.CONTROL.IS_64.mask], [1, 0x70, 0x80]);
});

test('a function says what it is, in any width', () => {
  const { rig } = build();
  assert.equal(rig.read(0), 0x11e8_1234);
  assert.equal(rig.read(2, 2), 0x11e8);
  assert.equal(rig.read(0x08), 0x0108_0203);
  assert.equal(rig.read(0x2c), 0x1100_1af4);
  assert.equal(rig.read(0x34, 1), 0x40);
  assert.equal(rig.read(0x40, 2), 0x0005);
  assert.equal(rig.read(0x3d, 1), 1);
  assert.equal(rig.read(0x100), NOWHERE, 'it has no extended space');
});

test('what is read-only stays; every writable bit is kept, and no other', () => {
  const { rig } = build();
  for (let offset = 0; offset < 256; offset += 4) rig.write(offset, 4, 0xffff_ffff);
  assert.equal(rig.read(0), 0x11e8_1234);
  assert.equal(rig.read(4, 2), 0x0547);
  assert.equal(rig.read(0x10), 0xfff0_0000);
  assert.equal(rig.read(0x14), 0);
  assert.equal(rig.read(0x3c, 2), 0x01ff);
  assert.equal(rig.read(0x42, 2), 0x00f1);
});

test('a BAR answers where it is put, while memory decoding is on, and follows when it is moved', () => {
  const { rig, block } = build();
  rig.write(0x10, 4, 0xc000_0000);
  assert.equal(rig.readl(0xc000_0000), NOWHERE);
  rig.command(MEMORY);
  assert.equal(rig.readl(0xc000_0000), 0x1234_5678);
  assert.equal(rig.readl(0xc00f_fffc), 0x1234_5678);
  rig.writel(0xc000_0004, 7);
  rig.write(0x10, 4, 0xc010_0000);
  assert.equal(block.value, 7, 'a posted write arrives before the BAR moves');
  assert.equal(rig.readl(0xc000_0000), NOWHERE);
  assert.equal(rig.readl(0xc010_0000), 7);
  rig.command();
  assert.equal(rig.readl(0xc010_0000), NOWHERE);
});

test('sizing without switching decoding off disturbs nobody', () => {
  const { rig, fn } = build();
  rig.command(MEMORY);
  rig.write(0x10, 4, 0xffff_ffff);
  assert.equal(rig.read(0x10), 0xfff0_0000);
  assert.equal(rig.readl(0xfff0_0000), NOWHERE);
  rig.write(0x10, 4, 0);
  assert.equal(rig.readl(0), NOWHERE);
  assert.equal(fn.misplaced, null);
});

test('a BAR on memory or on another BAR answers nothing, and is remembered', () => {
  const { rig, fn } = build();
  rig.command(MEMORY);
  rig.write(0x10, 4, 0x0010_0000);
  assert.match(fn.misplaced!, /lie in RAM/);
  const other = new Scratch();
  rig.machine.mapRegisters(0xc000_0000 as never, 0x1000, 'other', other);
  rig.write(0x10, 4, 0xc000_0000);
  assert.match(fn.misplaced!, /already those of other/);
  rig.write(0x10, 4, 0xc100_0000);
  assert.equal(rig.readl(0xc100_0000), 0x1234_5678);
});

test('a 64-bit BAR takes two registers, and may lie above 4 GiB', () => {
  const block = new Scratch();
  const { rig } = build({ bars: [{ index: 2, sizeBytes: 16 * MIB, is64: true, prefetchable: true, block }] });
  assert.equal(rig.read(0x18), 0xc);
  rig.write(0x18, 4, 0xffff_ffff);
  rig.write(0x1c, 4, 0xffff_ffff);
  assert.deepEqual([rig.read(0x18), rig.read(0x1c)], [0xff00_000c, 0xffff_ffff]);
  rig.write(0x18, 4, 0);
  rig.write(0x1c, 4, 0x12);
  rig.command(MEMORY);
  assert.equal(rig.readl(0x12_0000_0000), 0x1234_5678);
});

test('what firmware has assigned answers from the start', () => {
  const { rig } = build({ bars: [{ index: 0, sizeBytes: 4096, block: new Scratch(), address: 0xfe30_0000 }] });
  assert.equal(rig.readl(0xfe30_0000), 0x1234_5678);
  assert.equal(rig.read(4, 2), MEMORY.mask);
});

test('a BAR that no function can have is refused when the model is built', () => {
  const bar = { index: 0, sizeBytes: 4096, block: new Scratch() };
  assert.throws(() => build({ bars: [{ ...bar, sizeBytes: 3000 }] }), /a BAR of 3000 bytes cannot be number 0/);
  assert.throws(() => build({ bars: [{ ...bar, index: 5, is64: true }] }), /cannot be number 5/);
});

test('without the bus-master bit no access reaches memory', () => {
  const { rig, fn } = build();
  const bytes = new Uint8Array([1, 2, 3, 4]);
  rig.command(MEMORY);
  assert.equal(fn.dmaWrite(0x1000, bytes, 0, 4), BusStatus.DECODE_ERROR);
  assert.equal(fn.dmaRead(0x1000, bytes, 0, 4), BusStatus.DECODE_ERROR);
  assert.equal(rig.memory[0x1000], 0);
  assert.equal(fn.blockedAccesses, 2);
  rig.command(MEMORY, MASTER);
  assert.equal(fn.dmaWrite(0x1000, bytes, 0, 4), BusStatus.OK);
  assert.deepEqual([...rig.memory.subarray(0x1000, 0x1004)], [1, 2, 3, 4]);
  assert.equal(fn.dmaRead32(0x1000), BusStatus.OK);
  assert.equal(fn.dmaValue, 0x0403_0201);
});

test('an access that nobody answers leaves its mark in the status, which is cleared by writing one', () => {
  const { rig, fn } = build();
  rig.command(MASTER);
  assert.equal(fn.dmaWrite32(0x5000_0000, 1), BusStatus.DECODE_ERROR);
  assert.equal(rig.read(6, 2) & 0x2000, 0x2000);
  rig.write(6, 2, 0x2000);
  assert.equal(rig.read(6, 2) & 0x2000, 0);
});

test('a message is one interrupt each, needs the bus-master bit, and silences the pin', () => {
  const { rig, fn } = build();
  const { line } = rig.enableMsi();
  fn.raiseIrq();
  rig.machine.timePoint();
  assert.equal(rig.interrupts.get(line), undefined, 'it is no bus master');
  rig.command(MASTER);
  fn.raiseIrq();
  rig.machine.timePoint();
  fn.raiseIrq();
  rig.machine.timePoint();
  assert.equal(rig.interrupts.get(line), 2);
  assert.equal(rig.interrupts.get(20), undefined);
});

test('the pin is high until the reason is gone, off by its bit, and shared by wired-or', () => {
  const { rig, fn, intx } = build();
  const other = intx.pin();
  rig.onInterrupt = () => rig.machine.disableIrqLine(20);
  fn.raiseIrq();
  other.set(true);
  rig.machine.timePoint();
  assert.equal(rig.interrupts.get(20), 1);
  assert.equal(rig.read(6, 2) & 8, 8);
  fn.lowerIrq();
  rig.machine.enableIrqLine(20);
  rig.machine.timePoint();
  assert.equal(rig.interrupts.get(20), 2, 'the other one still pulls it');
  other.set(false);
  rig.command(INTX_DISABLE);
  fn.raiseIrq();
  rig.machine.enableIrqLine(20);
  rig.machine.timePoint();
  assert.equal(rig.interrupts.get(20), 2);
  rig.command();
  rig.machine.timePoint();
  assert.equal(rig.interrupts.get(20), 3, 'the reason was still there');
});
