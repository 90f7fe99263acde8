import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CHANNEL_STRIDE, CHANNELS, CONTROL_BLOCK, DMA, DMA_SHARED, FIRST_LITE_CHANNEL } from './bcm2835-dma.ts';

// Typed from "BCM2835 ARM Peripherals", chapter 4, tables of pages 40 to 56.
test('registers lie where the datasheet has them', () => {
  const offsets = Object.fromEntries(DMA.registers.map(({ name, offset }) => [name, offset]));
  assert.deepEqual(offsets, {
    CS: 0,
    CONBLK_AD: 4,
    TI: 8,
    SOURCE_AD: 12,
    DEST_AD: 16,
    TXFR_LEN: 20,
    STRIDE: 24,
    NEXTCONBK: 28,
    DEBUG: 32,
  });
  assert.equal(DMA_SHARED.INT_STATUS.offset, 0xfe0);
  assert.equal(DMA_SHARED.ENABLE.offset, 0xff0);
  assert.deepEqual([CHANNELS, CHANNEL_STRIDE, FIRST_LITE_CHANNEL], [15, 256, 7]);
});

test('a control block is eight words in the order of the registers', () => {
  const offsets = CONTROL_BLOCK.registers.map(({ name, offset }) => [name, offset]);
  const order = ['TI', 'SOURCE_AD', 'DEST_AD', 'TXFR_LEN', 'STRIDE', 'NEXTCONBK'];
  assert.deepEqual(
    offsets,
    order.map((name, i) => [name, 4 * i]),
  );
  assert.equal(CONTROL_BLOCK.sizeBytes, 32);
});

test('fields have the bits of the datasheet', () => {
  const masks = (register: { fields: readonly { name: string; mask: number }[] }) =>
    Object.fromEntries(register.fields.map(({ name, mask }) => [name, mask]));
  assert.deepEqual(masks(DMA.CS), {
    ACTIVE: 0x1,
    END: 0x2,
    INT: 0x4,
    DREQ: 0x8,
    PAUSED: 0x10,
    DREQ_STOPS_DMA: 0x20,
    WAITING_FOR_OUTSTANDING_WRITES: 0x40,
    ERROR: 0x100,
    PRIORITY: 0xf_0000,
    PANIC_PRIORITY: 0xf0_0000,
    WAIT_FOR_OUTSTANDING_WRITES: 0x1000_0000,
    DISDEBUG: 0x2000_0000,
    ABORT: 0x4000_0000,
    RESET: 0x8000_0000,
  });
  const transferInformation = {
    INTEN: 0x1,
    TDMODE: 0x2,
    WAIT_RESP: 0x8,
    DEST_INC: 0x10,
    DEST_WIDTH: 0x20,
    DEST_DREQ: 0x40,
    DEST_IGNORE: 0x80,
    SRC_INC: 0x100,
    SRC_WIDTH: 0x200,
    SRC_DREQ: 0x400,
    SRC_IGNORE: 0x800,
    BURST_LENGTH: 0xf000,
    PERMAP: 0x1f_0000,
    WAITS: 0x3e0_0000,
    NO_WIDE_BURSTS: 0x400_0000,
  };
  assert.deepEqual(masks(DMA.TI), transferInformation);
  assert.deepEqual(masks(CONTROL_BLOCK.TI), transferInformation);
  assert.deepEqual(masks(DMA.TXFR_LEN), { XLENGTH: 0xffff, YLENGTH: 0x3fff_0000 });
  assert.deepEqual(masks(DMA.STRIDE), { S_STRIDE: 0xffff, D_STRIDE: 0xffff_0000 });
  assert.deepEqual(masks(DMA.DEBUG), {
    READ_LAST_NOT_SET_ERROR: 0x1,
    FIFO_ERROR: 0x2,
    READ_ERROR: 0x4,
    OUTSTANDING_WRITES: 0xf0,
    DMA_ID: 0xff00,
    DMA_STATE: 0x1ff_0000,
    VERSION: 0xe00_0000,
    LITE: 0x1000_0000,
  });
});
