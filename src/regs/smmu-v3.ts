/**
 * Arm System MMU version 3, as in its Architecture Specification (IHI 0070): chapter 6 (registers), 4 (commands) and 7
 * (event records). Registers of 64 bits are declared as halves, the upper one with `_HI`. Stream-table entries, context
 * descriptors and translation tables are not here: driver and model each know them themselves.
 */
import { bit, bits, reg, registerMap } from './register-map.ts';

/** Bytes of one register page; a unit has two. */
export const SMMU_PAGE_BYTES = 0x1_0000;
/** Bytes of a unit's registers. */
export const SMMU_SIZE_BYTES = 2 * SMMU_PAGE_BYTES;

/** Page 0. */
export const SMMU = registerMap('SMMU', SMMU_PAGE_BYTES, {
  /** What the unit can do. */
  IDR0: reg(
    0x00,
    {
      /** Stage 2, stage 1. */
      S2P: bit(0),
      S1P: bit(1),
      TTF: bits(3, 2, 'ro', { AARCH32: 1, AARCH64: 2, BOTH: 3 }),
      /** Table walks and queue accesses snoop the CPU's caches. */
      COHACC: bit(4),
      BTM: bit(5),
      HTTU: bits(7, 6),
      DORMHINT: bit(8),
      HYP: bit(9),
      ATS: bit(10),
      NS1ATS: bit(11),
      ASID16: bit(12),
      MSI: bit(13),
      SEV: bit(14),
      ATOS: bit(15),
      PRI: bit(16),
      VMW: bit(17),
      VMID16: bit(18),
      /** Tables of context descriptors may have two levels. */
      CD2L: bit(19),
      VATOS: bit(20),
      TTENDIAN: bits(22, 21, 'ro', { MIXED: 0, LITTLE: 2, BIG: 3 }),
      STALL_MODEL: bits(25, 24, 'ro', { BOTH: 0, TERMINATE: 1, STALL: 2 }),
      /** 1: a refused access aborts; it cannot be made to read zeros instead. */
      TERM_MODEL: bit(26),
      /** Stream tables may have two levels. */
      ST_LEVEL: bits(28, 27, 'ro', { LINEAR: 0, TWO_LEVEL: 1 }),
    },
    { access: 'ro' },
  ),
  /** Sizes, as powers of two. */
  IDR1: reg(
    0x04,
    {
      SIDSIZE: bits(5, 0),
      SSIDSIZE: bits(10, 6),
      PRIQS: bits(15, 11),
      EVENTQS: bits(20, 16),
      CMDQS: bits(25, 21),
      ATTR_PERMS_OVR: bit(26),
      ATTR_TYPES_OVR: bit(27),
      REL: bit(28),
      QUEUES_PRESET: bit(29),
      TABLES_PRESET: bit(30),
    },
    { access: 'ro' },
  ),
  IDR2: reg(0x08, { BA_VATOS: bits(9, 0) }, { access: 'ro' }),
  IDR3: reg(
    0x0c,
    {
      /** Permissions in tables of upper levels can be switched off. */
      HAD: bit(2),
      PBHA: bit(3),
      XNX: bit(4),
      PPS: bit(5),
      MPAM: bit(7),
      FWB: bit(8),
      STT: bit(9),
      /** Invalidation by range. */
      RIL: bit(10),
      BBML: bits(12, 11),
    },
    { access: 'ro' },
  ),
  IDR4: reg(0x10, {}, { access: 'ro' }),
  IDR5: reg(
    0x14,
    {
      OAS: bits(2, 0, 'ro', { BITS_32: 0, BITS_36: 1, BITS_40: 2, BITS_42: 3, BITS_44: 4, BITS_48: 5, BITS_52: 6 }),
      GRAN4K: bit(4),
      GRAN16K: bit(5),
      GRAN64K: bit(6),
      VAX: bits(11, 10),
      STALL_MAX: bits(31, 16),
    },
    { access: 'ro' },
  ),
  IIDR: reg(
    0x18,
    { IMPLEMENTER: bits(11, 0), REVISION: bits(15, 12), VARIANT: bits(19, 16), PRODUCTID: bits(31, 20) },
    { access: 'ro' },
  ),
  AIDR: reg(0x1c, { ARCH_MINOR_REV: bits(3, 0), ARCH_MAJOR_REV: bits(7, 4) }, { access: 'ro' }),
  CR0: reg(0x20, {
    SMMUEN: bit(0),
    PRIQEN: bit(1),
    EVENTQEN: bit(2),
    CMDQEN: bit(3),
    ATSCHK: bit(4),
    VMW: bits(8, 6),
  }),
  /** What of CR0 has taken effect. */
  CR0ACK: reg(
    0x24,
    { SMMUEN: bit(0), PRIQEN: bit(1), EVENTQEN: bit(2), CMDQEN: bit(3), ATSCHK: bit(4), VMW: bits(8, 6) },
    { access: 'ro' },
  ),
  /** How tables and queues are accessed. */
  CR1: reg(0x28, {
    QUEUE_IC: bits(1, 0),
    QUEUE_OC: bits(3, 2),
    QUEUE_SH: bits(5, 4),
    TABLE_IC: bits(7, 6),
    TABLE_OC: bits(9, 8),
    TABLE_SH: bits(11, 10),
  }),
  CR2: reg(0x2c, {
    E2H: bit(0),
    /** Record accesses with a stream id that has no entry. */
    RECINVSID: bit(1),
    PTM: bit(2),
  }),
  STATUSR: reg(0x40, { DORMANT: bit(0) }, { access: 'ro' }),
  /** What becomes of accesses while translation is off. */
  GBPA: reg(
    0x44,
    {
      MEMATTR: bits(3, 0),
      MTCFG: bit(4),
      ALLOCCFG: bits(11, 8),
      SHCFG: bits(13, 12),
      PRIVCFG: bits(17, 16),
      INSTCFG: bits(19, 18),
      ABORT: bit(20),
      /** Set with the new value; clear again when it has taken effect. */
      UPDATE: bit(31),
    },
    { reset: 0x1000 },
  ),
  AGBPA: reg(0x48),
  IRQ_CTRL: reg(0x50, { GERROR_IRQEN: bit(0), PRIQ_IRQEN: bit(1), EVENTQ_IRQEN: bit(2) }),
  IRQ_CTRLACK: reg(0x54, { GERROR_IRQEN: bit(0), PRIQ_IRQEN: bit(1), EVENTQ_IRQEN: bit(2) }, { access: 'ro' }),
  /** Global errors: one is active where this differs from GERRORN. */
  GERROR: reg(
    0x60,
    {
      CMDQ_ERR: bit(0),
      EVENTQ_ABT_ERR: bit(2),
      PRIQ_ABT_ERR: bit(3),
      MSI_CMDQ_ABT_ERR: bit(4),
      MSI_EVENTQ_ABT_ERR: bit(5),
      MSI_PRIQ_ABT_ERR: bit(6),
      MSI_GERROR_ABT_ERR: bit(7),
      SFM_ERR: bit(8),
    },
    { access: 'ro' },
  ),
  GERRORN: reg(0x64, {
    CMDQ_ERR: bit(0),
    EVENTQ_ABT_ERR: bit(2),
    PRIQ_ABT_ERR: bit(3),
    MSI_CMDQ_ABT_ERR: bit(4),
    MSI_EVENTQ_ABT_ERR: bit(5),
    MSI_PRIQ_ABT_ERR: bit(6),
    MSI_GERROR_ABT_ERR: bit(7),
    SFM_ERR: bit(8),
  }),
  /** Where the interrupt's message goes; address 0: the wire is used. */
  GERROR_IRQ_CFG0: reg(0x68, { ADDR: bits(31, 2) }),
  GERROR_IRQ_CFG0_HI: reg(0x6c, { ADDR: bits(19, 0) }),
  GERROR_IRQ_CFG1: reg(0x70),
  GERROR_IRQ_CFG2: reg(0x74, { MEMATTR: bits(3, 0), SH: bits(5, 4) }),
  STRTAB_BASE: reg(0x80, { ADDR: bits(31, 6) }),
  STRTAB_BASE_HI: reg(0x84, { ADDR: bits(19, 0), RA: bit(30) }),
  STRTAB_BASE_CFG: reg(0x88, {
    LOG2SIZE: bits(5, 0),
    /** Bits of a stream id that index the second level. */
    SPLIT: bits(10, 6),
    FMT: bits(17, 16, 'rw', { LINEAR: 0, TWO_LEVEL: 1 }),
  }),
  CMDQ_BASE: reg(0x90, { LOG2SIZE: bits(4, 0), ADDR: bits(31, 5) }),
  CMDQ_BASE_HI: reg(0x94, { ADDR: bits(19, 0), RA: bit(30) }),
  /** Indices count on past the queue's end: the bit above the index tells an empty queue from a full one. */
  CMDQ_PROD: reg(0x98, { WR: bits(19, 0) }),
  CMDQ_CONS: reg(0x9c, {
    RD: bits(19, 0),
    ERR: bits(30, 24, 'rw', { CERROR_NONE: 0, CERROR_ILL: 1, CERROR_ABT: 2, CERROR_ATC_INV_SYNC: 3 }),
  }),
  EVENTQ_BASE: reg(0xa0, { LOG2SIZE: bits(4, 0), ADDR: bits(31, 5) }),
  EVENTQ_BASE_HI: reg(0xa4, { ADDR: bits(19, 0), WA: bit(30) }),
  EVENTQ_IRQ_CFG0: reg(0xb0, { ADDR: bits(31, 2) }),
  EVENTQ_IRQ_CFG0_HI: reg(0xb4, { ADDR: bits(19, 0) }),
  EVENTQ_IRQ_CFG1: reg(0xb8),
  EVENTQ_IRQ_CFG2: reg(0xbc, { MEMATTR: bits(3, 0), SH: bits(5, 4) }),
  PRIQ_BASE: reg(0xc0, { LOG2SIZE: bits(4, 0), ADDR: bits(31, 5) }),
  PRIQ_BASE_HI: reg(0xc4, { ADDR: bits(19, 0), WA: bit(30) }),
  PRIQ_IRQ_CFG0: reg(0xd0, { ADDR: bits(31, 2) }),
  PRIQ_IRQ_CFG0_HI: reg(0xd4, { ADDR: bits(19, 0) }),
  PRIQ_IRQ_CFG1: reg(0xd8),
  PRIQ_IRQ_CFG2: reg(0xdc, { MEMATTR: bits(3, 0), SH: bits(5, 4), LO: bit(31) }),
});

/** Page 1: what the owner of the event and page-request queues needs all the time. */
export const SMMU_PAGE1 = registerMap('SMMU_PAGE1', SMMU_PAGE_BYTES, {
  EVENTQ_PROD: reg(0xa8, {
    WR: bits(19, 0),
    /** Changes when events were lost, and stays until EVENTQ_CONS.OVACKFLG equals it. */
    OVFLG: bit(31),
  }),
  EVENTQ_CONS: reg(0xac, { RD: bits(19, 0), OVACKFLG: bit(31) }),
  PRIQ_PROD: reg(0xc8, { WR: bits(19, 0), OVFLG: bit(31) }),
  PRIQ_CONS: reg(0xcc, { RD: bits(19, 0), OVACKFLG: bit(31) }),
});

/** Bytes of a command (4.1.1). */
export const SMMU_CMD_BYTES = 16;
/** Commands: bits 7:0 of the first word. @linux CMDQ_0_OP */
export const SMMU_OP = {
  PREFETCH_CONFIG: 0x01,
  PREFETCH_ADDR: 0x02,
  CFGI_STE: 0x03,
  /** With a range of 31: everything. */
  CFGI_STE_RANGE: 0x04,
  CFGI_CD: 0x05,
  CFGI_CD_ALL: 0x06,
  TLBI_NH_ALL: 0x10,
  TLBI_NH_ASID: 0x11,
  TLBI_NH_VA: 0x12,
  TLBI_NH_VAA: 0x13,
  TLBI_EL2_ALL: 0x20,
  TLBI_EL2_ASID: 0x21,
  TLBI_EL2_VA: 0x22,
  TLBI_EL2_VAA: 0x23,
  TLBI_S12_VMALL: 0x28,
  TLBI_S2_IPA: 0x2a,
  TLBI_NSNH_ALL: 0x30,
  ATC_INV: 0x40,
  PRI_RESP: 0x41,
  RESUME: 0x44,
  STALL_TERM: 0x45,
  SYNC: 0x46,
} as const;

/** CMD_PREFETCH_*, CMD_CFGI_*. */
export const SMMU_CMD_CFGI = registerMap('SMMU_CMD_CFGI', SMMU_CMD_BYTES, {
  W0: reg(0x0, { OP: bits(7, 0), SSV: bit(11), SSID: bits(31, 12) }),
  SID: reg(0x4),
  /** LEAF is bit 0 of RANGE: commands have one or the other. */
  W2: reg(0x8, { RANGE: bits(4, 0) }),
  W3: reg(0xc),
});
/** CMD_TLBI_*. */
export const SMMU_CMD_TLBI = registerMap('SMMU_CMD_TLBI', SMMU_CMD_BYTES, {
  /** A range of (NUM + 1) × 2^SCALE granules, where TG says their size. */
  W0: reg(0x0, { OP: bits(7, 0), NUM: bits(16, 12), SCALE: bits(24, 20) }),
  W1: reg(0x4, { VMID: bits(15, 0), ASID: bits(31, 16) }),
  W2: reg(0x8, {
    LEAF: bit(0),
    TTL: bits(9, 8),
    TG: bits(11, 10, 'rw', { NONE: 0, KIB_4: 1, KIB_16: 2, KIB_64: 3 }),
    ADDR: bits(31, 12),
  }),
  W3: reg(0xc),
});
/** CMD_SYNC. */
export const SMMU_CMD_SYNC = registerMap('SMMU_CMD_SYNC', SMMU_CMD_BYTES, {
  W0: reg(0x0, {
    OP: bits(7, 0),
    CS: bits(13, 12, 'rw', { NONE: 0, IRQ: 1, SEV: 2 }),
    MSH: bits(23, 22),
    MSIATTR: bits(27, 24),
  }),
  MSIDATA: reg(0x4),
  W2: reg(0x8, { MSIADDR: bits(31, 2) }),
  W3: reg(0xc, { MSIADDR: bits(19, 0) }),
});

/** Bytes of an event record (7.3). */
export const SMMU_EVT_BYTES = 32;
/** What an event is about: bits 7:0 of the first word. @linux EVTQ_0_ID */
export const SMMU_EVT = {
  F_UUT: 0x01,
  C_BAD_STREAMID: 0x02,
  F_STE_FETCH: 0x03,
  C_BAD_STE: 0x04,
  F_BAD_ATS_TREQ: 0x05,
  F_STREAM_DISABLED: 0x06,
  F_TRANSL_FORBIDDEN: 0x07,
  C_BAD_SUBSTREAMID: 0x08,
  F_CD_FETCH: 0x09,
  C_BAD_CD: 0x0a,
  F_WALK_EABT: 0x0b,
  F_TRANSLATION: 0x10,
  F_ADDR_SIZE: 0x11,
  F_ACCESS: 0x12,
  F_PERMISSION: 0x13,
  F_TLB_CONFLICT: 0x20,
  F_CFG_CONFLICT: 0x21,
  E_PAGE_REQUEST: 0x24,
} as const;

/** An event record. Which words have a meaning depends on the event. */
export const SMMU_EVENT = registerMap('SMMU_EVENT', SMMU_EVT_BYTES, {
  W0: reg(0x00, { ID: bits(7, 0), SSV: bit(11), SSID: bits(31, 12) }),
  SID: reg(0x04),
  W2: reg(0x08, { STAG: bits(15, 0), STALL: bit(31) }),
  W3: reg(0x0c, {
    PNU: bit(1),
    IND: bit(2),
    /** 1: the access was a read. */
    RNW: bit(3),
    /** The fault came in stage 2. */
    S2: bit(7),
    /** What was translated when it came: a context descriptor's address, a table's, or the access's own. */
    CLASS: bits(9, 8, 'rw', { CD: 0, TT: 1, IN: 2 }),
  }),
  /** The address of the access. */
  ADDR: reg(0x10),
  ADDR_HI: reg(0x14),
  /** The intermediate address of a fault in stage 2, or the address of a fetch that failed. */
  IPA: reg(0x18),
  IPA_HI: reg(0x1c),
});
