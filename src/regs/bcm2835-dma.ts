/**
 * The DMA controller of the BCM2835 and its successors up to the BCM2837: "BCM2835 ARM Peripherals", chapter 4.
 * Fifteen channels have their registers 0x100 bytes apart; channels 7 and up are "lite" ones.
 */
import { bit, bits, reg, registerMap } from './register-map.ts';

/** Channels in the block; channel 15 lives elsewhere and belongs to the VideoCore. */
export const CHANNELS = 15;
/** From one channel's registers to the next's, in bytes. */
export const CHANNEL_STRIDE = 0x100;
/** Channels from this one on are lite: lengths of 16 bits, no 2D mode, no IGNORE modes, half the bandwidth. */
export const FIRST_LITE_CHANNEL = 7;

// Transfer information: a register (read-only there), and the first word of a control block.
const transferInformation = {
  INTEN: bit(0),
  TDMODE: bit(1),
  WAIT_RESP: bit(3),
  DEST_INC: bit(4),
  DEST_WIDTH: bit(5),
  DEST_DREQ: bit(6),
  DEST_IGNORE: bit(7),
  SRC_INC: bit(8),
  SRC_WIDTH: bit(9),
  SRC_DREQ: bit(10),
  SRC_IGNORE: bit(11),
  BURST_LENGTH: bits(15, 12),
  PERMAP: bits(20, 16),
  WAITS: bits(25, 21),
  NO_WIDE_BURSTS: bit(26),
} as const;

/** One channel (4.2.1.2). */
export const DMA = registerMap('DMA', CHANNEL_STRIDE, {
  CS: reg(0x00, {
    ACTIVE: bit(0),
    END: bit(1, 'w1c'),
    INT: bit(2, 'w1c'),
    DREQ: bit(3, 'ro'),
    PAUSED: bit(4, 'ro'),
    DREQ_STOPS_DMA: bit(5, 'ro'),
    WAITING_FOR_OUTSTANDING_WRITES: bit(6, 'ro'),
    ERROR: bit(8, 'ro'),
    PRIORITY: bits(19, 16),
    PANIC_PRIORITY: bits(23, 20),
    WAIT_FOR_OUTSTANDING_WRITES: bit(28),
    DISDEBUG: bit(29),
    ABORT: bit(30, 'wo'),
    RESET: bit(31, 'wo'),
  }),
  CONBLK_AD: reg(0x04, { SCB_ADDR: bits(31, 5) }),
  TI: reg(0x08, transferInformation, { access: 'ro' }),
  SOURCE_AD: reg(0x0c, {}, { access: 'ro' }),
  DEST_AD: reg(0x10, {}, { access: 'ro' }),
  TXFR_LEN: reg(0x14, { XLENGTH: bits(15, 0), YLENGTH: bits(29, 16) }, { access: 'ro' }),
  STRIDE: reg(0x18, { S_STRIDE: bits(15, 0), D_STRIDE: bits(31, 16) }, { access: 'ro' }),
  NEXTCONBK: reg(0x1c, { ADDR: bits(31, 5) }),
  DEBUG: reg(0x20, {
    READ_LAST_NOT_SET_ERROR: bit(0, 'w1c'),
    FIFO_ERROR: bit(1, 'w1c'),
    READ_ERROR: bit(2, 'w1c'),
    OUTSTANDING_WRITES: bits(7, 4, 'ro'),
    DMA_ID: bits(15, 8, 'ro'),
    DMA_STATE: bits(24, 16, 'ro'),
    VERSION: bits(27, 25, 'ro'),
    LITE: bit(28, 'ro'),
  }),
});

/** What all channels share (4.2.1.3, 4.2.1.4). */
export const DMA_SHARED = registerMap('DMA_SHARED', 0x1000, {
  INT_STATUS: reg(0xfe0, { INT: bits(14, 0) }, { access: 'ro' }),
  ENABLE: reg(0xff0, { EN: bits(14, 0) }, { reset: 0x7fff }),
});

/** A control block in memory: 32 bytes, aligned to 32 (4.2.1.1). */
export const CONTROL_BLOCK = registerMap('CB', 32, {
  TI: reg(0x00, transferInformation),
  SOURCE_AD: reg(0x04),
  DEST_AD: reg(0x08),
  TXFR_LEN: reg(0x0c, { XLENGTH: bits(15, 0), YLENGTH: bits(29, 16) }),
  STRIDE: reg(0x10, { S_STRIDE: bits(15, 0), D_STRIDE: bits(31, 16) }),
  NEXTCONBK: reg(0x14),
});
