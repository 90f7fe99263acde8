import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  SMMU,
  SMMU_CMD_CFGI,
  SMMU_CMD_SYNC,
  SMMU_CMD_TLBI,
  SMMU_EVENT,
  SMMU_EVT,
  SMMU_OP,
  SMMU_PAGE1,
  SMMU_SIZE_BYTES,
} from './smmu-v3.ts';

const offsets = (map: { registers: readonly { name: string; offset: number }[] }) =>
  Object.fromEntries(map.registers.map(({ name, offset }) => [name, offset]));
const masks = (register: { fields: readonly { name: string; mask: number }[] }) =>
  Object.fromEntries(register.fields.map(({ name, mask }) => [name, mask]));

// Typed from IHI 0070, chapter 6, and from drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.h.
test('registers lie where the specification has them', () => {
  assert.equal(SMMU_SIZE_BYTES, 0x20000);
  assert.deepEqual(offsets(SMMU), {
    IDR0: 0x0,
    IDR1: 0x4,
    IDR2: 0x8,
    IDR3: 0xc,
    IDR4: 0x10,
    IDR5: 0x14,
    IIDR: 0x18,
    AIDR: 0x1c,
    CR0: 0x20,
    CR0ACK: 0x24,
    CR1: 0x28,
    CR2: 0x2c,
    STATUSR: 0x40,
    GBPA: 0x44,
    AGBPA: 0x48,
    IRQ_CTRL: 0x50,
    IRQ_CTRLACK: 0x54,
    GERROR: 0x60,
    GERRORN: 0x64,
    GERROR_IRQ_CFG0: 0x68,
    GERROR_IRQ_CFG0_HI: 0x6c,
    GERROR_IRQ_CFG1: 0x70,
    GERROR_IRQ_CFG2: 0x74,
    STRTAB_BASE: 0x80,
    STRTAB_BASE_HI: 0x84,
    STRTAB_BASE_CFG: 0x88,
    CMDQ_BASE: 0x90,
    CMDQ_BASE_HI: 0x94,
    CMDQ_PROD: 0x98,
    CMDQ_CONS: 0x9c,
    EVENTQ_BASE: 0xa0,
    EVENTQ_BASE_HI: 0xa4,
    EVENTQ_IRQ_CFG0: 0xb0,
    EVENTQ_IRQ_CFG0_HI: 0xb4,
    EVENTQ_IRQ_CFG1: 0xb8,
    EVENTQ_IRQ_CFG2: 0xbc,
    PRIQ_BASE: 0xc0,
    PRIQ_BASE_HI: 0xc4,
    PRIQ_IRQ_CFG0: 0xd0,
    PRIQ_IRQ_CFG0_HI: 0xd4,
    PRIQ_IRQ_CFG1: 0xd8,
    PRIQ_IRQ_CFG2: 0xdc,
  });
  assert.deepEqual(offsets(SMMU_PAGE1), { EVENTQ_PROD: 0xa8, EVENTQ_CONS: 0xac, PRIQ_PROD: 0xc8, PRIQ_CONS: 0xcc });
});

test('identification and control have the bits of the specification', () => {
  assert.deepEqual(masks(SMMU.IDR0), {
    S2P: 1 << 0,
    S1P: 1 << 1,
    TTF: 0xc,
    COHACC: 1 << 4,
    BTM: 1 << 5,
    HTTU: 0xc0,
    DORMHINT: 1 << 8,
    HYP: 1 << 9,
    ATS: 1 << 10,
    NS1ATS: 1 << 11,
    ASID16: 1 << 12,
    MSI: 1 << 13,
    SEV: 1 << 14,
    ATOS: 1 << 15,
    PRI: 1 << 16,
    VMW: 1 << 17,
    VMID16: 1 << 18,
    CD2L: 1 << 19,
    VATOS: 1 << 20,
    TTENDIAN: 3 << 21,
    STALL_MODEL: 3 << 24,
    TERM_MODEL: 1 << 26,
    ST_LEVEL: 3 << 27,
  });
  assert.deepEqual(masks(SMMU.IDR1), {
    SIDSIZE: 0x3f,
    SSIDSIZE: 0x1f << 6,
    PRIQS: 0x1f << 11,
    EVENTQS: 0x1f << 16,
    CMDQS: 0x1f << 21,
    ATTR_PERMS_OVR: 1 << 26,
    ATTR_TYPES_OVR: 1 << 27,
    REL: 1 << 28,
    QUEUES_PRESET: 1 << 29,
    TABLES_PRESET: 1 << 30,
  });
  const cr0 = { SMMUEN: 1, PRIQEN: 2, EVENTQEN: 4, CMDQEN: 8, ATSCHK: 0x10, VMW: 0x1c0 };
  assert.deepEqual(masks(SMMU.CR0), cr0);
  assert.deepEqual(masks(SMMU.CR0ACK), cr0);
  assert.equal(SMMU.IDR3.RIL.mask, 1 << 10);
  assert.equal(SMMU.GBPA.ABORT.mask, 1 << 20);
  assert.equal(SMMU.GBPA.UPDATE.mask, 0x8000_0000);
  const errors = [0x1, 0x4, 0x8, 0x10, 0x20, 0x40, 0x80, 0x100];
  assert.deepEqual(Object.values(masks(SMMU.GERROR)), errors);
  assert.deepEqual(Object.values(masks(SMMU.GERRORN)), errors);
  assert.deepEqual(masks(SMMU.STRTAB_BASE_CFG), { LOG2SIZE: 0x3f, SPLIT: 0x7c0, FMT: 0x3_0000 });
  assert.deepEqual(masks(SMMU.CMDQ_CONS), { RD: 0xf_ffff, ERR: 0x7f00_0000 });
  assert.deepEqual(masks(SMMU_PAGE1.EVENTQ_PROD), { WR: 0xf_ffff, OVFLG: 0x8000_0000 });
});

test('commands and events have the numbers and fields of the specification', () => {
  const ops = [0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x10, 0x11, 0x12, 0x13, 0x20, 0x21, 0x22, 0x23, 0x28, 0x2a, 0x30];
  assert.deepEqual(Object.values(SMMU_OP), [...ops, 0x40, 0x41, 0x44, 0x45, 0x46]);
  assert.deepEqual(masks(SMMU_CMD_CFGI.W0), { OP: 0xff, SSV: 0x800, SSID: 0xffff_f000 });
  assert.deepEqual(masks(SMMU_CMD_TLBI.W0), { OP: 0xff, NUM: 0x1f << 12, SCALE: 0x1f << 20 });
  assert.deepEqual(masks(SMMU_CMD_TLBI.W1), { VMID: 0xffff, ASID: 0xffff_0000 });
  assert.deepEqual(masks(SMMU_CMD_TLBI.W2), { LEAF: 1, TTL: 0x300, TG: 0xc00, ADDR: 0xffff_f000 });
  assert.deepEqual(masks(SMMU_CMD_SYNC.W0), { OP: 0xff, CS: 0x3000, MSH: 0xc0_0000, MSIATTR: 0xf00_0000 });
  const events = { F_UUT: 1, C_BAD_STREAMID: 2, F_STE_FETCH: 3, C_BAD_STE: 4, F_STREAM_DISABLED: 6, F_CD_FETCH: 9 };
  const faults = { C_BAD_CD: 0xa, F_WALK_EABT: 0xb, F_TRANSLATION: 0x10, F_ADDR_SIZE: 0x11, F_ACCESS: 0x12 };
  for (const [name, id] of Object.entries({ ...events, ...faults, F_PERMISSION: 0x13 })) {
    assert.equal(SMMU_EVT[name as keyof typeof SMMU_EVT], id, name);
  }
  // Bits 97, 98, 99, 103 and 105:104 of the record.
  assert.deepEqual(masks(SMMU_EVENT.W3), { PNU: 2, IND: 4, RNW: 8, S2: 0x80, CLASS: 0x300 });
});
