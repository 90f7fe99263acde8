import assert from 'node:assert/strict';
import { test } from 'node:test';
import { QI_CC, QI_IOTLB, QI_TYPE, QI_WAIT, VTD, VTD_FRCD, VTD_IOTLB } from './vtd.ts';

const offsets = (map: { registers: readonly { name: string; offset: number }[] }) =>
  Object.fromEntries(map.registers.map(({ name, offset }) => [name, offset]));
const masks = (register: { fields: readonly { name: string; mask: number }[] }) =>
  Object.fromEntries(register.fields.map(({ name, mask }) => [name, mask]));

// Typed from the VT-d Architecture Specification, "Register Descriptions", and from include/linux's DMAR_* offsets.
test('registers lie where the specification has them', () => {
  assert.deepEqual(offsets(VTD), {
    VER: 0x00,
    CAP: 0x08,
    CAP_HI: 0x0c,
    ECAP: 0x10,
    ECAP_HI: 0x14,
    GCMD: 0x18,
    GSTS: 0x1c,
    RTADDR: 0x20,
    RTADDR_HI: 0x24,
    CCMD: 0x28,
    CCMD_HI: 0x2c,
    FSTS: 0x34,
    FECTL: 0x38,
    FEDATA: 0x3c,
    FEADDR: 0x40,
    FEUADDR: 0x44,
    PMEN: 0x64,
    PLMBASE: 0x68,
    PLMLIMIT: 0x6c,
    PHMBASE: 0x70,
    PHMBASE_HI: 0x74,
    PHMLIMIT: 0x78,
    PHMLIMIT_HI: 0x7c,
    IQH: 0x80,
    IQH_HI: 0x84,
    IQT: 0x88,
    IQT_HI: 0x8c,
    IQA: 0x90,
    IQA_HI: 0x94,
    ICS: 0x9c,
    IECTL: 0xa0,
    IEDATA: 0xa4,
    IEADDR: 0xa8,
    IEUADDR: 0xac,
    IQERCD: 0xb0,
    IQERCD_HI: 0xb4,
  });
  assert.deepEqual(offsets(VTD_IOTLB), { IVA: 0, IVA_HI: 4, IOTLB: 8, IOTLB_HI: 12 });
  assert.deepEqual(offsets(VTD_FRCD), { FI: 0, FI_HI: 4, SOURCE: 8, STATUS: 12 });
});

test('command and status have the bits of the specification', () => {
  const commands = { CFI: 23, SIRTP: 24, IRE: 25, QIE: 26, WBF: 27, EAFL: 28, SFL: 29, SRTP: 30, TE: 31 };
  const gcmd = Object.fromEntries(Object.entries(commands).map(([name, at]) => [name, 2 ** at]));
  assert.deepEqual(masks(VTD.GCMD), gcmd);
  assert.deepEqual(
    Object.values(masks(VTD.GSTS)),
    Object.values(gcmd),
    'each status bit stands where its command does',
  );
  assert.deepEqual(masks(VTD.FSTS), {
    PFO: 1,
    PPF: 2,
    AFO: 4,
    APF: 8,
    IQE: 0x10,
    ICE: 0x20,
    ITE: 0x40,
    PRO: 0x80,
    FRI: 0xff00,
  });
  assert.equal(VTD.FSTS.clearMask, 0xfd, 'the primary pending bit goes with the records, not by itself');
  assert.deepEqual(masks(VTD.FECTL), { IP: 0x4000_0000, IM: 0x8000_0000 });
});

test('capabilities decode as those of a known unit do', () => {
  // QEMU's unit with 39-bit addresses prints `cap d2008c22260206 ecap f00f5a`.
  const [lo, hi] = [0x2226_0206, 0x00d2_008c];
  assert.equal(VTD.CAP.ND.get(lo), 6);
  assert.equal(VTD.CAP.CM.get(lo), 0);
  assert.equal(VTD.CAP.SAGAW.get(lo), 0b00010);
  assert.equal(VTD.CAP.MGAW.get(lo) + 1, 39);
  assert.equal(VTD.CAP.FRO.get(lo) + 256 * VTD.CAP_HI.FRO.get(hi), 0x22);
  assert.equal(VTD.CAP_HI.SLLPS.get(hi), 0b0011);
  assert.equal(VTD.CAP_HI.PSI.get(hi), 1);
  assert.equal(VTD.CAP_HI.NFR.get(hi), 0);
  assert.equal(VTD.CAP_HI.MAMV.get(hi), 18);
  assert.deepEqual([VTD.CAP_HI.DWD.get(hi), VTD.CAP_HI.DRD.get(hi)], [1, 1]);
  const ecap = 0x00f0_0f5a;
  assert.deepEqual(
    [VTD.ECAP.C.get(ecap), VTD.ECAP.QI.get(ecap), VTD.ECAP.PT.get(ecap), VTD.ECAP.SC.get(ecap)],
    [0, 1, 1, 0],
  );
  assert.equal(VTD.ECAP.IRO.get(ecap) * 16, 0xf0);
  assert.equal(VTD.ECAP.MHMV.get(ecap), 15);
});

test('invalidation commands and fault records have the bits of the specification', () => {
  assert.deepEqual(masks(VTD.CCMD_HI), { FM: 3, CAIG: 0x1800_0000, CIRG: 0x6000_0000, ICC: 0x8000_0000 });
  assert.deepEqual(masks(VTD_IOTLB.IOTLB_HI), {
    DID: 0xffff,
    DW: 0x1_0000,
    DR: 0x2_0000,
    IAIG: 0x0600_0000,
    IIRG: 0x3000_0000,
    IVT: 0x8000_0000,
  });
  assert.deepEqual(masks(VTD_IOTLB.IVA), { AM: 0x3f, IH: 0x40, ADDR: 0xffff_f000 });
  assert.deepEqual(masks(VTD_FRCD.STATUS), {
    FR: 0xff,
    PV: 0x0fff_ff00,
    AT: 0x3000_0000,
    T: 0x4000_0000,
    F: 0x8000_0000,
  });
});

test('descriptors of the invalidation queue have the bits of the specification', () => {
  assert.deepEqual(QI_TYPE, { CONTEXT: 1, IOTLB: 2, DEVICE_IOTLB: 3, INTERRUPT_ENTRY: 4, WAIT: 5 });
  assert.deepEqual(masks(QI_CC.W0), { TYPE: 0xf, G: 0x30, DID: 0xffff_0000 });
  assert.deepEqual(masks(QI_CC.W1), { SID: 0xffff, FM: 0x3_0000 });
  assert.deepEqual(masks(QI_IOTLB.W0), { TYPE: 0xf, G: 0x30, DW: 0x40, DR: 0x80, DID: 0xffff_0000 });
  assert.deepEqual(masks(QI_IOTLB.W2), { AM: 0x3f, IH: 0x40, ADDR: 0xffff_f000 });
  assert.deepEqual(masks(QI_WAIT.W0), { TYPE: 0xf, IF: 0x10, SW: 0x20, FN: 0x40, PD: 0x80 });
  assert.deepEqual(masks(QI_WAIT.W2), { STATUS_ADDRESS: 0xffff_fffc });
});
