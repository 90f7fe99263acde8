/**
 * Arm CoreLink DMA-330 DMA controller (PL330), as in its Technical Reference Manual (ARM DDI 0424): chapter 3 for the
 * registers, chapter 4 for the instructions. Most of it is read-only to software: a channel's registers are written by
 * its program.
 */
import { bit, bits, reg, regArray, registerMap } from './register-map.ts';

/** States of a thread (3.3.1, 3.3.10). */
const STATUS = {
  STOPPED: 0,
  EXECUTING: 1,
  CACHE_MISS: 2,
  UPDATING_PC: 3,
  WAITING_FOR_EVENT: 4,
  AT_BARRIER: 5,
  WAITING_FOR_PERIPHERAL: 7,
  KILLING: 8,
  COMPLETING: 9,
  FAULTING_COMPLETING: 14,
  FAULTING: 15,
} as const;

/** Fault types that the manager and the channels have in common. */
const COMMON_FAULTS = {
  UNDEF_INSTR: bit(0),
  OPERAND_INVALID: bit(1),
  INSTR_FETCH_ERR: bit(16),
  DBG_INSTR: bit(30),
} as const;

/** The whole block: 4 KiB, secure or non-secure by the address it is reached at. */
export const PL330 = registerMap('PL330', 0x1000, {
  // Control (3.3.1 to 3.3.9)
  DSR: reg(0x000, { DMA_STATUS: bits(3, 0, null, STATUS), WAKEUP_EVENT: bits(8, 4), DNS: bit(9) }, { access: 'ro' }),
  DPC: reg(0x004, {}, { access: 'ro' }),
  INTEN: reg(0x020),
  INT_EVENT_RIS: reg(0x024, {}, { access: 'ro' }),
  INTMIS: reg(0x028, {}, { access: 'ro' }),
  INTCLR: reg(0x02c, {}, { access: 'wo' }),
  FSRD: reg(0x030, { FS_MGR: bit(0) }, { access: 'ro' }),
  FSRC: reg(0x034, { FAULT_STATUS: bits(7, 0) }, { access: 'ro' }),
  FTRD: reg(0x038, { ...COMMON_FAULTS, DMAGO_ERR: bit(4), MGR_EVNT_ERR: bit(5) }, { access: 'ro' }),
  FTR: regArray(
    0x040,
    8,
    4,
    {
      ...COMMON_FAULTS,
      CH_EVNT_ERR: bit(5),
      CH_PERIPH_ERR: bit(6),
      CH_RDWR_ERR: bit(7),
      MFIFO_ERR: bit(12),
      ST_DATA_UNAVAILABLE: bit(13),
      DATA_WRITE_ERR: bit(17),
      DATA_READ_ERR: bit(18),
      LOCKUP_ERR: bit(31),
    },
    { access: 'ro' },
  ),
  // Channel thread status (3.3.10, 3.3.11)
  CSR: regArray(
    0x100,
    8,
    8,
    {
      CHANNEL_STATUS: bits(3, 0, null, STATUS),
      WAKEUP_NUMBER: bits(8, 4),
      DMAWFP_B_NS: bit(14),
      DMAWFP_PERIPH: bit(15),
      CNS: bit(21),
    },
    { access: 'ro' },
  ),
  CPC: regArray(0x104, 8, 8, {}, { access: 'ro' }),
  // AXI and loop counters of each channel (3.3.12 to 3.3.16)
  SAR: regArray(0x400, 8, 0x20, {}, { access: 'ro' }),
  DAR: regArray(0x404, 8, 0x20, {}, { access: 'ro' }),
  CCR: regArray(
    0x408,
    8,
    0x20,
    {
      SRC_INC: bit(0),
      SRC_BURST_SIZE: bits(3, 1),
      SRC_BURST_LEN: bits(7, 4),
      SRC_PROT_CTRL: bits(10, 8),
      SRC_CACHE_CTRL: bits(13, 11),
      DST_INC: bit(14),
      DST_BURST_SIZE: bits(17, 15),
      DST_BURST_LEN: bits(21, 18),
      DST_PROT_CTRL: bits(24, 22),
      DST_CACHE_CTRL: bits(27, 25),
      ENDIAN_SWAP_SIZE: bits(30, 28),
    },
    { access: 'ro', reset: 0x0080_0200 },
  ),
  LC0: regArray(0x40c, 8, 0x20, { ITERATIONS: bits(7, 0) }, { access: 'ro' }),
  LC1: regArray(0x410, 8, 0x20, { ITERATIONS: bits(7, 0) }, { access: 'ro' }),
  // Debug: how software gives the manager and the channels an instruction (3.3.17 to 3.3.20)
  DBGSTATUS: reg(0xd00, { DBGSTATUS: bit(0) }, { access: 'ro' }),
  DBGCMD: reg(0xd04, { DBGCMD: bits(1, 0) }, { access: 'wo' }),
  DBGINST0: reg(
    0xd08,
    {
      DEBUG_THREAD: bit(0),
      CHANNEL_NUMBER: bits(10, 8),
      INSTRUCTION_BYTE_0: bits(23, 16),
      INSTRUCTION_BYTE_1: bits(31, 24),
    },
    { access: 'wo' },
  ),
  DBGINST1: reg(0xd0c, {}, { access: 'wo' }),
  // Configuration (3.3.21 to 3.3.27)
  CR0: reg(
    0xe00,
    {
      PERIPH_REQ: bit(0),
      BOOT_EN: bit(1),
      MGR_NS_AT_RST: bit(2),
      NUM_CHNLS: bits(6, 4),
      NUM_PERIPH_REQ: bits(16, 12),
      NUM_EVENTS: bits(21, 17),
    },
    { access: 'ro' },
  ),
  CR1: reg(0xe04, { I_CACHE_LEN: bits(2, 0), NUM_I_CACHE_LINES: bits(7, 4) }, { access: 'ro' }),
  CR2: reg(0xe08, {}, { access: 'ro' }),
  CR3: reg(0xe0c, {}, { access: 'ro' }),
  CR4: reg(0xe10, {}, { access: 'ro' }),
  CRD: reg(
    0xe14,
    {
      DATA_WIDTH: bits(2, 0, null, { BITS_32: 2, BITS_64: 3, BITS_128: 4 }),
      WR_CAP: bits(6, 4),
      WR_Q_DEP: bits(11, 8),
      RD_CAP: bits(14, 12),
      RD_Q_DEP: bits(19, 16),
      DATA_BUFFER_DEP: bits(29, 20),
    },
    { access: 'ro' },
  ),
  WD: reg(0xe80, { WD_IRQ_ONLY: bit(0) }),
  // Identification (3.3.29, 3.3.30): bytes 0 to 3 of each, one a word
  PERIPH_ID: regArray(0xfe0, 4, 4, { BYTE: bits(7, 0) }, { access: 'ro' }),
  PCELL_ID: regArray(0xff0, 4, 4, { BYTE: bits(7, 0) }, { access: 'ro' }),
});

/** The identification bytes as one word: part number 330, designer Arm (0x41), and in bits 23:20 revision r1p1 (2). */
export const PL330_PERIPH_ID = 0x0024_1330;
/** The PrimeCell signature, as one word. */
export const PL330_PCELL_ID = 0xb105_f00d;

/**
 * Opcodes (4.3): the first byte of each instruction, with its variable bits 0. They are: `ra` bit 1 of DMAADDH and
 * DMAADNH; `bs` bit 1 and `x` bit 0 of DMALD, DMAST, DMALPEND; `bs` bit 1 of DMALDP and DMASTP; `lc` bit 1 of DMALP and
 * bit 2 of DMALPEND; `nf` bit 4 of DMALPEND; `ns` bit 1 of DMAGO; `bs` bit 1 and `p` bit 0 of DMAWFP.
 */
export const PL330_OP = {
  DMAEND: 0x00,
  DMAKILL: 0x01,
  DMALD: 0x04,
  DMAST: 0x08,
  DMASTZ: 0x0c,
  DMARMB: 0x12,
  DMAWMB: 0x13,
  DMANOP: 0x18,
  DMALP: 0x20,
  DMALDP: 0x25,
  DMALPEND: 0x28,
  DMASTP: 0x29,
  DMAWFP: 0x30,
  DMASEV: 0x34,
  DMAFLUSHP: 0x35,
  DMAWFE: 0x36,
  DMAADDH: 0x54,
  DMAADNH: 0x5c,
  DMAGO: 0xa0,
  DMAMOV: 0xbc,
} as const;
/** `rd` of DMAMOV; bit 0 as `ra` of DMAADDH is 0 for SAR and 1 for DAR. */
export const PL330_RD = { SAR: 0, CCR: 1, DAR: 2 } as const;
