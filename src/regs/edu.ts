/** QEMU's educational PCI device (docs/specs/edu.rst): the registers of its BAR 0. */
import { bit, bits, reg, registerMap } from './register-map.ts';

/** Its PCI ids. */
export const EDU_VENDOR_ID = 0x1234;
export const EDU_DEVICE_ID = 0x11e8;
/** Bytes of BAR 0. */
export const EDU_BAR_BYTES = 0x10_0000;
/** Where its buffer is in its own address space, which DMA source and destination on the device's side name. */
export const EDU_BUFFER_START = 0x4_0000;
export const EDU_BUFFER_BYTES = 4096;
/** What the identification register holds: 0xRRrr00ed, major and minor version. */
export const EDU_IDENTIFICATION = 0x0100_00ed;

/** Its registers; the 64-bit ones as halves. Below 0x80 only 32-bit accesses are answered. */
export const EDU = registerMap('EDU', 0x100, {
  IDENTIFICATION: reg(0x00, { DEVICE: bits(7, 0), MINOR: bits(23, 16), MAJOR: bits(31, 24) }, { access: 'ro' }),
  /** Reads give what was written, inverted. */
  LIVENESS: reg(0x04),
  /** Written: a number; read, once it is computed: its factorial modulo 2^32. */
  FACTORIAL: reg(0x08),
  STATUS: reg(0x20, {
    COMPUTING: bit(0, 'ro'),
    /** Interrupt when the factorial is there. */
    RAISE_IRQ: bit(7),
  }),
  INTERRUPT_STATUS: reg(0x24, { FACTORIAL: bit(0), DMA: bit(8) }, { access: 'ro' }),
  /** Sets bits of the interrupt status. */
  INTERRUPT_RAISE: reg(0x60, {}, { access: 'wo' }),
  /** Clears them. */
  INTERRUPT_ACK: reg(0x64, {}, { access: 'wo' }),
  DMA_SOURCE_LO: reg(0x80),
  DMA_SOURCE_HI: reg(0x84),
  DMA_DESTINATION_LO: reg(0x88),
  DMA_DESTINATION_HI: reg(0x8c),
  DMA_COUNT_LO: reg(0x90),
  DMA_COUNT_HI: reg(0x94),
  DMA_COMMAND: reg(0x98, {
    /** Starts a transfer; reads as one until it is over. While it is, DMA registers cannot be written. */
    START: bit(0),
    DIRECTION: bits(1, 1, null, { TO_DEVICE: 0, FROM_DEVICE: 1 }),
    /** Interrupt when it is over. */
    RAISE_IRQ: bit(2),
  }),
});
