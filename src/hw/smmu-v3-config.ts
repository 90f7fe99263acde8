/** What an SMMUv3 can be built as, and how it says so in its identification registers. */
import { type PhysAddr, physAddr } from '../base/addr.ts';
import { SMMU } from '../regs/smmu-v3.ts';

/** How a unit is built. */
export interface SmmuOptions {
  /** Of its registers, 128 KiB; default 0x09050000. */
  readonly base?: PhysAddr;
  /** Shown to people; default `smmuv3`. */
  readonly name?: string;
  /** Wired interrupts: events, completed CMD_SYNCs, global errors. Edges. */
  readonly eventIrq: number;
  readonly syncIrq: number;
  readonly gerrorIrq: number;
  /** Default true, both. */
  readonly stage1?: boolean;
  readonly stage2?: boolean;
  /** Its own accesses snoop the CPU's caches; else software must clean tables and queues. Default true. */
  readonly coherent?: boolean;
  /** Stream ids have so many bits, 1 to 32; default 16. */
  readonly streamIdBits?: number;
  /** Substream ids likewise, 0 (default: none) to 20. */
  readonly substreamIdBits?: number;
  /** Stream tables may have two levels; default true. */
  readonly twoLevelStreams?: boolean;
  /** Tables of context descriptors may; default true. */
  readonly twoLevelContexts?: boolean;
  /** Physical addresses it puts out: 32, 36, 40, 42, 44 (default) or 48 bits. */
  readonly addressBits?: 32 | 36 | 40 | 42 | 44 | 48;
  /** Translations can be invalidated by range; default true. */
  readonly rangeInvalidation?: boolean;
  /** It can send its interrupts as messages; default true. */
  readonly msi?: boolean;
  /** It translates for EL2 as well; default true. */
  readonly hypervisor?: boolean;
  /** Queues have at most 2^this entries, up to 19 (default). */
  readonly commandQueueBits?: number;
  readonly eventQueueBits?: number;
  /** From a command's announcement to its fetch; default 80 ns. */
  readonly fetchNs?: number;
  /** What a command takes; default 20 ns. */
  readonly commandNs?: number;
  /** What a change of a control register takes to be in effect; default 200 ns. */
  readonly controlNs?: number;
  /** Translations kept: powers of two, at least 4; of 4 KiB pages 512 (default), of each larger size a quarter of that. */
  readonly tlbEntries?: number;
  /** Configurations of streams kept: a power of two, at least 4; default 32. */
  readonly configEntries?: number;
}

/** The options with every default filled in. */
export type SmmuConfig = Required<SmmuOptions>;

const OAS_CODES: Readonly<Record<number, number>> = { 32: 0, 36: 1, 40: 2, 42: 3, 44: 4, 48: 5 };
/** Widths of addresses by their codes in registers, stream-table entries and context descriptors. */
export const ADDRESS_BITS: readonly number[] = [32, 36, 40, 42, 44, 48, 52, 52];

/** Fill in what is not given. Throws an Error when no such unit can be built. */
export function smmuConfig(options: SmmuOptions): SmmuConfig {
  const config: SmmuConfig = {
    base: physAddr(0x0905_0000),
    name: 'smmuv3',
    stage1: true,
    stage2: true,
    coherent: true,
    streamIdBits: 16,
    substreamIdBits: 0,
    twoLevelStreams: true,
    twoLevelContexts: true,
    addressBits: 44,
    rangeInvalidation: true,
    msi: true,
    hypervisor: true,
    commandQueueBits: 19,
    eventQueueBits: 19,
    fetchNs: 80,
    commandNs: 20,
    controlNs: 200,
    tlbEntries: 512,
    configEntries: 32,
    ...options,
  };
  const fail = (what: string, found: number | boolean): never => {
    throw new Error(`SMMU ${config.name}: ${what}, found ${found}`);
  };
  const within = (what: keyof SmmuConfig, low: number, high: number) => {
    const value = config[what] as number;
    if (!Number.isInteger(value) || value < low || value > high) fail(`${what} is ${low} to ${high}`, value);
  };
  within('streamIdBits', 1, 32);
  within('substreamIdBits', 0, 20);
  within('commandQueueBits', 0, 19);
  within('eventQueueBits', 0, 19);
  if (OAS_CODES[config.addressBits] === undefined) fail('addressBits is 32, 36, 40, 42, 44 or 48', config.addressBits);
  if (!config.stage1 && !config.stage2) fail('it translates in stage 1, in stage 2 or in both', false);
  for (const what of ['tlbEntries', 'configEntries'] as const) {
    if (config[what] < 4 || !Number.isInteger(Math.log2(config[what]))) {
      fail(`${what} is a power of two from 4 on`, config[what]);
    }
  }
  return config;
}

const on = (flag: boolean) => (flag ? 1 : 0);

/** Fill in the identification registers. `words` are those of page 0. */
export function identificationWords(config: SmmuConfig, words: Uint32Array): void {
  const { IDR0, IDR1, IDR3, IDR5, IIDR, AIDR } = SMMU;
  words[IDR0.offset >>> 2] =
    IDR0.S1P.prep(on(config.stage1)) |
    IDR0.S2P.prep(on(config.stage2)) |
    IDR0.TTF.prep(IDR0.TTF.values.AARCH64) |
    IDR0.COHACC.prep(on(config.coherent)) |
    IDR0.HYP.prep(on(config.hypervisor)) |
    IDR0.ASID16.prep(on(config.stage1)) |
    IDR0.MSI.prep(on(config.msi)) |
    IDR0.SEV.prep(1) |
    IDR0.VMID16.prep(on(config.stage2)) |
    IDR0.CD2L.prep(on(config.twoLevelContexts)) |
    IDR0.TTENDIAN.prep(IDR0.TTENDIAN.values.LITTLE) |
    IDR0.STALL_MODEL.prep(IDR0.STALL_MODEL.values.TERMINATE) |
    IDR0.TERM_MODEL.prep(1) |
    IDR0.ST_LEVEL.prep(on(config.twoLevelStreams));
  words[IDR1.offset >>> 2] =
    IDR1.SIDSIZE.prep(config.streamIdBits) |
    IDR1.SSIDSIZE.prep(config.substreamIdBits) |
    IDR1.EVENTQS.prep(config.eventQueueBits) |
    IDR1.CMDQS.prep(config.commandQueueBits);
  words[IDR3.offset >>> 2] = IDR3.HAD.prep(1) | IDR3.RIL.prep(on(config.rangeInvalidation));
  words[IDR5.offset >>> 2] = IDR5.OAS.prep(OAS_CODES[config.addressBits]!) | IDR5.GRAN4K.mask;
  // Arm's JEP106 code; version 3.2 of the architecture, which has invalidation by range.
  words[IIDR.offset >>> 2] = IIDR.IMPLEMENTER.prep(0x43b);
  words[AIDR.offset >>> 2] = AIDR.ARCH_MINOR_REV.prep(2);
}
