/**
 * Intel Virtualization Technology for Directed I/O (VT-d), as in its Architecture Specification: chapter 10 (register
 * descriptions; 11 in later revisions) and 6.5 (invalidation descriptors). Registers of 64 bits are declared as halves,
 * the upper one with `_HI`. Root, context and page-table entries are not here: driver and model each know them
 * themselves.
 */
import { bit, bits, reg, registerMap } from './register-map.ts';

/** Bytes of one unit's registers. */
export const VTD_SIZE_BYTES = 0x1000;

/** The registers at fixed places. */
export const VTD = registerMap('VTD', VTD_SIZE_BYTES, {
  /** Version. */
  VER: reg(0x00, { MIN: bits(3, 0), MAX: bits(7, 4) }, { access: 'ro' }),
  /** Capability: what the unit translates. */
  CAP: reg(
    0x08,
    {
      /** 2^(4 + 2 ND) domain ids. */
      ND: bits(2, 0),
      AFL: bit(3),
      RWBF: bit(4),
      PLMR: bit(5),
      PHMR: bit(6),
      /** Caching mode: what was not present is cached as well. */
      CM: bit(7),
      /** Bit n: tables of n + 2 levels. */
      SAGAW: bits(12, 8),
      /** Largest guest address width, minus 1. */
      MGAW: bits(21, 16),
      ZLR: bit(22),
      /** Place of the fault recording registers, bits 7:0, in 16 bytes. */
      FRO: bits(31, 24),
    },
    { access: 'ro' },
  ),
  CAP_HI: reg(
    0x0c,
    {
      FRO: bits(1, 0),
      /** Pages of 2 MiB, 1 GiB. */
      SLLPS: bits(5, 2),
      /** Page-selective invalidation. */
      PSI: bit(7),
      /** Fault recording registers, minus 1. */
      NFR: bits(15, 8),
      /** The largest address mask of a page-selective invalidation. */
      MAMV: bits(21, 16),
      DWD: bit(22),
      DRD: bit(23),
    },
    { access: 'ro' },
  ),
  /** Extended capability: how the unit does it. */
  ECAP: reg(
    0x10,
    {
      /** Table walks snoop the CPU's caches. */
      C: bit(0),
      QI: bit(1),
      DT: bit(2),
      IR: bit(3),
      EIM: bit(4),
      PT: bit(6),
      /** Accesses may be made to snoop by a page-table bit. */
      SC: bit(7),
      /** Place of the IOTLB registers, in 16 bytes. */
      IRO: bits(17, 8),
      MHMV: bits(23, 20),
    },
    { access: 'ro' },
  ),
  ECAP_HI: reg(0x14, {}, { access: 'ro' }),
  /** Global command: one command at a time, with the other bits as they are. */
  GCMD: reg(
    0x18,
    {
      CFI: bit(23),
      SIRTP: bit(24),
      IRE: bit(25),
      QIE: bit(26),
      WBF: bit(27),
      EAFL: bit(28),
      SFL: bit(29),
      SRTP: bit(30),
      TE: bit(31),
    },
    { access: 'wo' },
  ),
  GSTS: reg(
    0x1c,
    {
      CFIS: bit(23),
      IRTPS: bit(24),
      IRES: bit(25),
      QIES: bit(26),
      WBFS: bit(27),
      AFLS: bit(28),
      FLS: bit(29),
      RTPS: bit(30),
      TES: bit(31),
    },
    { access: 'ro' },
  ),
  RTADDR: reg(0x20, { TTM: bits(11, 10), RTA: bits(31, 12) }),
  RTADDR_HI: reg(0x24),
  CCMD: reg(0x28, { DID: bits(15, 0), SID: bits(31, 16) }),
  CCMD_HI: reg(0x2c, {
    FM: bits(1, 0),
    CAIG: bits(28, 27, 'ro', { RESERVED: 0, GLOBAL: 1, DOMAIN: 2, DEVICE: 3 }),
    CIRG: bits(30, 29, 'rw', { RESERVED: 0, GLOBAL: 1, DOMAIN: 2, DEVICE: 3 }),
    ICC: bit(31),
  }),
  FSTS: reg(0x34, {
    PFO: bit(0, 'w1c'),
    PPF: bit(1, 'ro'),
    AFO: bit(2, 'w1c'),
    APF: bit(3, 'w1c'),
    IQE: bit(4, 'w1c'),
    ICE: bit(5, 'w1c'),
    ITE: bit(6, 'w1c'),
    PRO: bit(7, 'w1c'),
    FRI: bits(15, 8, 'ro'),
  }),
  FECTL: reg(0x38, { IP: bit(30, 'ro'), IM: bit(31) }, { reset: 0x8000_0000 }),
  FEDATA: reg(0x3c),
  FEADDR: reg(0x40),
  FEUADDR: reg(0x44),
  PMEN: reg(0x64, { PRS: bit(0, 'ro'), EPM: bit(31) }),
  PLMBASE: reg(0x68),
  PLMLIMIT: reg(0x6c),
  PHMBASE: reg(0x70),
  PHMBASE_HI: reg(0x74),
  PHMLIMIT: reg(0x78),
  PHMLIMIT_HI: reg(0x7c),
  /** Invalidation queue: head and tail are byte offsets. */
  IQH: reg(0x80, { QH: bits(18, 4) }, { access: 'ro' }),
  IQH_HI: reg(0x84, {}, { access: 'ro' }),
  IQT: reg(0x88, { QT: bits(18, 4) }),
  IQT_HI: reg(0x8c),
  /** 2^(QS + 8) descriptors of 16 bytes. */
  IQA: reg(0x90, { QS: bits(2, 0), DW: bit(11), IQA: bits(31, 12) }),
  IQA_HI: reg(0x94),
  ICS: reg(0x9c, { IWC: bit(0, 'w1c') }),
  IECTL: reg(0xa0, { IP: bit(30, 'ro'), IM: bit(31) }, { reset: 0x8000_0000 }),
  IEDATA: reg(0xa4),
  IEADDR: reg(0xa8),
  IEUADDR: reg(0xac),
  IQERCD: reg(0xb0, { IQEI: bits(3, 0) }, { access: 'ro' }),
  IQERCD_HI: reg(0xb4, {}, { access: 'ro' }),
});

/** The IOTLB registers, at 16 × ECAP.IRO. */
export const VTD_IOTLB = registerMap('VTD_IOTLB', 16, {
  /** What a page-selective invalidation is about: 2^AM pages. */
  IVA: reg(0x00, { AM: bits(5, 0), IH: bit(6), ADDR: bits(31, 12) }),
  IVA_HI: reg(0x04),
  IOTLB: reg(0x08),
  IOTLB_HI: reg(0x0c, {
    DID: bits(15, 0),
    DW: bit(16),
    DR: bit(17),
    IAIG: bits(26, 25, 'ro', { RESERVED: 0, GLOBAL: 1, DOMAIN: 2, PAGE: 3 }),
    IIRG: bits(29, 28, 'rw', { RESERVED: 0, GLOBAL: 1, DOMAIN: 2, PAGE: 3 }),
    IVT: bit(31),
  }),
});

/** One fault recording register; CAP.NFR + 1 of them at 16 × CAP.FRO. */
export const VTD_FRCD = registerMap('VTD_FRCD', 16, {
  FI: reg(0x00, { FI: bits(31, 12) }, { access: 'ro' }),
  FI_HI: reg(0x04, {}, { access: 'ro' }),
  SOURCE: reg(0x08, { SID: bits(15, 0), T2: bit(28), PRIV: bit(29), EXE: bit(30), PP: bit(31) }, { access: 'ro' }),
  STATUS: reg(0x0c, {
    /** Fault reason. */
    FR: bits(7, 0, 'ro'),
    PV: bits(27, 8, 'ro'),
    AT: bits(29, 28, 'ro'),
    /** 1: the request was a read. */
    T: bit(30, 'ro'),
    F: bit(31, 'w1c'),
  }),
});

/** Invalidation descriptors are 16 bytes; the type is in bits 3:0 of the first word (6.5.2). */
export const QI_DESC_BYTES = 16;
/** @linux QI_CC_TYPE, QI_IOTLB_TYPE, QI_DIOTLB_TYPE, QI_IEC_TYPE, QI_IWD_TYPE */
export const QI_TYPE = { CONTEXT: 1, IOTLB: 2, DEVICE_IOTLB: 3, INTERRUPT_ENTRY: 4, WAIT: 5 } as const;

/** Context-cache invalidate descriptor. */
export const QI_CC = registerMap('QI_CC', QI_DESC_BYTES, {
  W0: reg(0x0, { TYPE: bits(3, 0), G: bits(5, 4), DID: bits(31, 16) }),
  W1: reg(0x4, { SID: bits(15, 0), FM: bits(17, 16) }),
  W2: reg(0x8),
  W3: reg(0xc),
});
/** IOTLB invalidate descriptor. */
export const QI_IOTLB = registerMap('QI_IOTLB', QI_DESC_BYTES, {
  W0: reg(0x0, { TYPE: bits(3, 0), G: bits(5, 4), DW: bit(6), DR: bit(7), DID: bits(31, 16) }),
  W1: reg(0x4),
  W2: reg(0x8, { AM: bits(5, 0), IH: bit(6), ADDR: bits(31, 12) }),
  W3: reg(0xc),
});
/** Invalidation wait descriptor. */
export const QI_WAIT = registerMap('QI_WAIT', QI_DESC_BYTES, {
  W0: reg(0x0, { TYPE: bits(3, 0), IF: bit(4), SW: bit(5), FN: bit(6), PD: bit(7) }),
  W1: reg(0x4, { STATUS_DATA: bits(31, 0) }),
  W2: reg(0x8, { STATUS_ADDRESS: bits(31, 2) }),
  W3: reg(0xc),
});
