/** What a VT-d unit can be built as, and how it says so in its capability registers. */
import type { PhysAddr } from '../base/addr.ts';
import { VTD } from '../regs/vtd.ts';

/** Where the unit's registers of variable place lie, as in QEMU's unit. */
export const IOTLB_OFFSET = 0xf0;
export const FRCD_OFFSET = 0x220;
/** Bytes of a fault recording register. */
export const FRCD_STRIDE = 16;

/** How a unit is built. */
export interface VtdOptions {
  /** Of its registers, 4 KiB; default 0xfed90000. */
  readonly base?: PhysAddr;
  /** Shown to people; default `dmar0`. */
  readonly name?: string;
  /** Widest address that devices may use: 39 bits (tables of 3 levels) or 48 (3 or 4 levels). Default 39. */
  readonly awBits?: 39 | 48;
  /** Physical address lines: bits above are reserved in tables. Default: `awBits`. */
  readonly hostAddressBits?: number;
  /** What is not present is cached as well (an emulated unit that a hypervisor follows). Default false. */
  readonly cachingMode?: boolean;
  /** Table walks snoop the CPU's caches; else software must clean them. Default true. */
  readonly coherent?: boolean;
  /** Context entries may pass a device through. Default true. */
  readonly passThrough?: boolean;
  /** Default true; without, invalidation is by registers alone. */
  readonly queuedInvalidation?: boolean;
  /** Pages may be invalidated by address; else by domain at least. Default true. */
  readonly pageSelective?: boolean;
  /** The largest page-selective invalidation is 2^this pages. Default 18. */
  readonly maxAddressMask?: number;
  /** Large pages: 0 none, 1 of 2 MiB, 2 of 1 GiB too (default). */
  readonly superpages?: 0 | 1 | 2;
  /** Leaf entries have a bit that makes accesses snoop. Default false. */
  readonly snoopControl?: boolean;
  /** Software must flush the chip set's write buffer after changing tables. Default false. */
  readonly writeBufferFlush?: boolean;
  /** Two ranges of memory may be closed to all devices. Default false. */
  readonly protectedMemory?: boolean;
  /** 2^this domain ids: 4, 6, … 16 (default). */
  readonly domainIdBits?: number;
  /** Fault recording registers, 1 to 64; default 1, as QEMU's unit has. */
  readonly faultRecords?: number;
  /** Translations kept: powers of two, at least 4; of 4 KiB pages 256, of each larger size a quarter of that. */
  readonly iotlbEntries?: number;
  /** Context entries kept: a power of two, at least 4; default 64. */
  readonly contextEntries?: number;
}

/** The options with every default filled in. */
export type VtdConfig = Required<VtdOptions>;

/** Fill in what is not given. Throws an Error when no such unit can be built. */
export function vtdConfig(options: VtdOptions): VtdConfig {
  const awBits = options.awBits ?? 39;
  const config: VtdConfig = {
    base: 0xfed9_0000 as PhysAddr,
    name: 'dmar0',
    hostAddressBits: awBits,
    cachingMode: false,
    coherent: true,
    passThrough: true,
    queuedInvalidation: true,
    pageSelective: true,
    maxAddressMask: 18,
    superpages: 2,
    snoopControl: false,
    writeBufferFlush: false,
    protectedMemory: false,
    domainIdBits: 16,
    faultRecords: 1,
    iotlbEntries: 256,
    contextEntries: 64,
    ...options,
    awBits,
  };
  const fail = (what: string, found: number): never => {
    throw new Error(`VT-d unit ${config.name}: ${what}, found ${found}`);
  };
  if (awBits !== 39 && awBits !== 48) fail('awBits is 39 or 48', awBits);
  within('hostAddressBits', config.hostAddressBits, 33, 51);
  within('maxAddressMask', config.maxAddressMask, 0, 36);
  within('superpages', config.superpages, 0, 2);
  within('faultRecords', config.faultRecords, 1, 64);
  within('domainIdBits', config.domainIdBits, 4, 16);
  if (config.domainIdBits % 2 !== 0) fail('domainIdBits is even', config.domainIdBits);
  for (const what of ['iotlbEntries', 'contextEntries'] as const) {
    const count = config[what];
    if (!(count >= 4 && count <= 65536) || (count & (count - 1)) !== 0) {
      fail(`${what} is a power of two from 4 to 65536`, count);
    }
  }
  return config;

  function within(what: string, value: number, low: number, high: number): void {
    if (!(Number.isInteger(value) && value >= low && value <= high)) fail(`${what} is ${low} to ${high}`, value);
  }
}

/** Bit n: context entries may ask for tables of n + 2 levels. */
export function sagawOf(config: VtdConfig): number {
  return config.awBits === 48 ? 0b110 : 0b010;
}

/** The registers' words after reset, with the capabilities in them. */
export function capabilityWords(config: VtdConfig, words: Uint32Array): void {
  const { CAP, CAP_HI, ECAP, VER } = VTD;
  const on = (flag: boolean) => (flag ? 1 : 0);
  words[VER.offset >>> 2] = VER.MAX.prep(1);
  words[CAP.offset >>> 2] =
    CAP.ND.prep((config.domainIdBits - 4) / 2) |
    CAP.RWBF.prep(on(config.writeBufferFlush)) |
    CAP.PLMR.prep(on(config.protectedMemory)) |
    CAP.PHMR.prep(on(config.protectedMemory)) |
    CAP.CM.prep(on(config.cachingMode)) |
    CAP.SAGAW.prep(sagawOf(config)) |
    CAP.MGAW.prep(config.awBits - 1) |
    CAP.FRO.prep(FRCD_OFFSET / 16);
  words[CAP_HI.offset >>> 2] =
    CAP_HI.SLLPS.prep([0, 1, 3][config.superpages]!) |
    CAP_HI.PSI.prep(on(config.pageSelective)) |
    CAP_HI.NFR.prep(config.faultRecords - 1) |
    CAP_HI.MAMV.prep(config.maxAddressMask) |
    CAP_HI.DWD.prep(1) |
    CAP_HI.DRD.prep(1);
  words[ECAP.offset >>> 2] =
    ECAP.C.prep(on(config.coherent)) |
    ECAP.QI.prep(on(config.queuedInvalidation)) |
    ECAP.PT.prep(on(config.passThrough)) |
    ECAP.SC.prep(on(config.snoopControl)) |
    ECAP.IRO.prep(IOTLB_OFFSET / 16) |
    ECAP.MHMV.prep(15);
}
