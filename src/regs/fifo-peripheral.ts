/**
 * A serial audio port of no particular maker, reduced to what DMA engines have to do with: two FIFOs, request lines by
 * threshold, a sample clock and the errors of being late. Samples are words of 32 bits.
 */
import { bit, bits, reg, registerMap } from './register-map.ts';

/** Words in each FIFO. */
export const FIFO_WORDS = 64;

/** The port's registers. */
export const FIFO = registerMap('FIFO', 0x20, {
  CTRL: reg(0x00, {
    /** The sample clock runs. */
    EN: bit(0),
    TXEN: bit(1),
    RXEN: bit(2),
    /** Every sample sent is received; without it, the receiver hears a counter. */
    LOOP: bit(3),
    /** The FIFOs drive their request lines. */
    DMAEN: bit(4),
    TXCLR: bit(8, 'wo'),
    RXCLR: bit(9, 'wo'),
  }),
  STATUS: reg(0x04, {
    /** The clock wanted a sample, and the transmit FIFO was empty. */
    TX_UNDERRUN: bit(0, 'w1c'),
    /** A sample came, and the receive FIFO was full: it is lost. */
    RX_OVERRUN: bit(1, 'w1c'),
    /** A word was written to the full transmit FIFO: it is lost. */
    TX_OVERFLOW: bit(2, 'w1c'),
    /** The empty receive FIFO was read: zero was returned. */
    RX_UNDERFLOW: bit(3, 'w1c'),
  }),
  DATA: reg(0x08),
  /** Samples a second. */
  RATE: reg(0x0c, {}, { reset: 48_000 }),
  /** Transmit data is requested at TX words and below, reception at RX words and above. */
  THRESHOLD: reg(0x10, { TX: bits(6, 0), RX: bits(14, 8) }, { reset: 0x1030 }),
  LEVEL: reg(0x14, { TX: bits(6, 0), RX: bits(14, 8) }, { access: 'ro' }),
});
