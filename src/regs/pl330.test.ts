import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PL330, PL330_OP, PL330_PCELL_ID, PL330_PERIPH_ID, PL330_RD } from './pl330.ts';
import { describe, resetWords } from './register-map.ts';

test('registers lie where the TRM puts them', () => {
  const offsets = Object.fromEntries(PL330.registers.map(({ name, offset }) => [name, offset]));
  assert.deepEqual(offsets, {
    DSR: 0,
    DPC: 4,
    INTEN: 32,
    INT_EVENT_RIS: 36,
    INTMIS: 40,
    INTCLR: 44,
    FSRD: 48,
    FSRC: 52,
    FTRD: 56,
    FTR: 64,
    CSR: 256,
    CPC: 260,
    SAR: 1024,
    DAR: 1028,
    CCR: 1032,
    LC0: 1036,
    LC1: 1040,
    DBGSTATUS: 3328,
    DBGCMD: 3332,
    DBGINST0: 3336,
    DBGINST1: 3340,
    CR0: 3584,
    CR1: 3588,
    CR2: 3592,
    CR3: 3596,
    CR4: 3600,
    CRD: 3604,
    WD: 3712,
    PERIPH_ID: 4064,
    PCELL_ID: 4080,
  });
  assert.equal(PL330.FTR.at(7), 0x5c);
  assert.equal(PL330.CSR.at(7), 0x138);
  assert.equal(PL330.CPC.at(1), 0x10c);
  assert.equal(PL330.SAR.at(1), 0x420);
  assert.equal(PL330.LC1.at(7), 0x4f0);
});
test('fields have the bits of the TRM', () => {
  const { CCR, CRD, CR0, FTR, FTRD, CSR, DBGINST0 } = PL330;
  assert.deepEqual(
    CCR.fields.map(({ mask }) => mask),
    [1, 0xe, 0xf0, 0x700, 0x3800, 0x4000, 0x38000, 0x3c0000, 0x1c00000, 0xe000000, 0x70000000],
  );
  assert.deepEqual(
    CRD.fields.map(({ mask }) => mask),
    [7, 0x70, 0xf00, 0x7000, 0xf0000, 0x3ff00000],
  );
  assert.deepEqual(
    CR0.fields.map(({ mask }) => mask),
    [1, 2, 4, 0x70, 0x1f000, 0x3e0000],
  );
  assert.equal(FTR.LOCKUP_ERR.mask, 0x8000_0000);
  assert.equal(FTR.MFIFO_ERR.mask, 0x1000);
  assert.equal(FTR.ST_DATA_UNAVAILABLE.mask, 0x2000);
  assert.equal(FTR.DATA_READ_ERR.mask, 0x40000);
  assert.equal(FTR.DATA_WRITE_ERR.mask, 0x20000);
  assert.equal(FTRD.DMAGO_ERR.mask, 0x10);
  assert.equal(FTRD.DBG_INSTR.mask, 0x4000_0000);
  assert.equal(CSR.CNS.mask, 0x20_0000);
  assert.equal(CSR.CHANNEL_STATUS.values.FAULTING, 15);
  assert.equal(DBGINST0.INSTRUCTION_BYTE_0.prep(0xa0) | DBGINST0.CHANNEL_NUMBER.prep(3), 0x00a0_0300);
});
test('reset values and identification are those of the TRM', () => {
  assert.equal(resetWords(PL330)[0x408 / 4], 0x0080_0200);
  assert.equal(PL330_PERIPH_ID & 0xfffff, 0x41330);
  assert.equal(PL330_PCELL_ID, 0xb105f00d);
});
test('opcodes are those of the TRM', () => {
  assert.equal(PL330_OP.DMAMOV, 0b1011_1100);
  assert.equal(PL330_OP.DMALPEND, 0b0010_1000);
  assert.equal(PL330_OP.DMAADNH, 0b0101_1100);
  assert.deepEqual(PL330_RD, { SAR: 0, CCR: 1, DAR: 2 });
});
test('the registers of the Zynq-7000 read as its manual says', () => {
  assert.equal(describe(PL330, 0xe00, 0x001e_3071), 'CR0: PERIPH_REQ=1 NUM_CHNLS=7 NUM_PERIPH_REQ=3 NUM_EVENTS=15');
  assert.equal(describe(PL330, 0x128, 0x20_0004), 'CSR[5]: CHANNEL_STATUS=WAITING_FOR_EVENT CNS=1');
});
