/** PCI configuration space of an ordinary function: the type 0 header and the MSI capability (PCI Local Bus Specification 3.0). */
import { bit, bits, reg, regArray, registerMap } from './register-map.ts';

/** The header of type 0 (6.1). */
export const PCI = registerMap('PCI', 0x40, {
  VENDOR: reg(0x00, {}, { width: 16, access: 'ro' }),
  DEVICE: reg(0x02, {}, { width: 16, access: 'ro' }),
  COMMAND: reg(
    0x04,
    {
      /** Answers in port space. */
      IO: bit(0),
      /** Answers in memory space. */
      MEMORY: bit(1),
      MASTER: bit(2),
      PARITY: bit(6),
      SERR: bit(8),
      /** The pin stays low. */
      INTX_DISABLE: bit(10),
    },
    { width: 16 },
  ),
  STATUS: reg(
    0x06,
    {
      /** The pin would be high. */
      INTERRUPT: bit(3, 'ro'),
      CAP_LIST: bit(4, 'ro'),
      SIG_TARGET_ABORT: bit(11, 'w1c'),
      REC_TARGET_ABORT: bit(12, 'w1c'),
      /** An access of its own was answered by nobody. */
      REC_MASTER_ABORT: bit(13, 'w1c'),
      SIG_SYSTEM_ERROR: bit(14, 'w1c'),
      DETECTED_PARITY: bit(15, 'w1c'),
    },
    { width: 16 },
  ),
  REVISION: reg(0x08, {}, { width: 8, access: 'ro' }),
  PROG_IF: reg(0x09, {}, { width: 8, access: 'ro' }),
  CLASS: reg(0x0a, { SUB: bits(7, 0), BASE: bits(15, 8) }, { width: 16, access: 'ro' }),
  CACHE_LINE: reg(0x0c, {}, { width: 8 }),
  LATENCY: reg(0x0d, {}, { width: 8, access: 'ro' }),
  HEADER_TYPE: reg(0x0e, { LAYOUT: bits(6, 0), MULTIFUNCTION: bit(7) }, { width: 8, access: 'ro' }),
  BIST: reg(0x0f, {}, { width: 8, access: 'ro' }),
  BAR: regArray(0x10, 6, 4, {
    IO: bit(0, 'ro'),
    /** Of a memory BAR: 0 for 32 bits, 2 for 64 (this register and the next). */
    TYPE: bits(2, 1, 'ro'),
    PREFETCH: bit(3, 'ro'),
    ADDRESS: bits(31, 4),
  }),
  SUBSYSTEM_VENDOR: reg(0x2c, {}, { width: 16, access: 'ro' }),
  SUBSYSTEM: reg(0x2e, {}, { width: 16, access: 'ro' }),
  ROM: reg(0x30, {}, { access: 'ro' }),
  CAPABILITIES: reg(0x34, {}, { width: 8, access: 'ro' }),
  INTERRUPT_LINE: reg(0x3c, {}, { width: 8 }),
  INTERRUPT_PIN: reg(0x3d, {}, { width: 8, access: 'ro' }),
});

/** A message-signalled interrupt capability with 64-bit address and without masking (6.8.1); offsets from its start. */
export const MSI = registerMap('MSI', 0x10, {
  ID: reg(0x00, {}, { width: 8, access: 'ro', reset: 0x05 }),
  NEXT: reg(0x01, {}, { width: 8, access: 'ro' }),
  CONTROL: reg(
    0x02,
    {
      ENABLE: bit(0),
      /** log2 of the messages it can send. */
      CAPABLE: bits(3, 1, 'ro'),
      /** log2 of the messages it may send. */
      ENABLED: bits(6, 4),
      /** The address has 64 bits. */
      IS_64: bit(7, 'ro'),
    },
    { width: 16 },
  ),
  ADDRESS_LO: reg(0x04, { ADDRESS: bits(31, 2) }),
  ADDRESS_HI: reg(0x08),
  DATA: reg(0x0c, {}, { width: 16 }),
});
