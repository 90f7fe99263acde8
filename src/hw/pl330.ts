/**
 * Model of the Arm CoreLink DMA-330 (PL330): its registers and interrupts. What it executes are the bytes that it
 * fetches from memory: see pl330-engine.ts. Registers are words; other widths see the word's bytes when reading and are
 * ignored when writing.
 */
import type { IrqLine, ModelHost, ModelTimer, RegisterBlock } from '../machine/index.ts';
import { Signal } from '../machine/index.ts';
import { PL330, PL330_PCELL_ID, PL330_PERIPH_ID } from '../regs/pl330.ts';
import { DEFAULT_TIMING, type PeripheralRequest, type Pl330Options } from './pl330-config.ts';
import { Engine } from './pl330-engine.ts';

const R = PL330;
const { FAULTING } = R.CSR.CHANNEL_STATUS.values;
const CHANNEL_STATUS_END = R.CSR.offset + 8 * R.CSR.count;
const CHANNEL_AXI_END = R.SAR.offset + R.SAR.stride * R.SAR.count;
/** CR1.i-cache_len by bytes a line. */
const CACHE_LINE_CODES = { 4: 2, 8: 3, 16: 4, 32: 5 } as const;

/** See the file's head. */
export class Pl330Model implements RegisterBlock {
  readonly #debugTimer: ModelTimer;
  readonly #engine: Engine;
  readonly #debugNs: number;
  /** CR0 to CR4 and CRD, which the integrator fixed. */
  readonly #configuration: readonly number[];
  readonly #eventMask: number;
  /** One entry a wired line: the events that drive it. */
  readonly #lines: { readonly line: IrqLine; events: number }[] = [];
  readonly #abortLine: IrqLine;
  #inten = 0;
  /** Events that were signalled as interrupts and not cleared since. */
  #interrupts = 0;
  #watchdog = 0;
  #dbginst0 = 0;
  #dbginst1 = 0;

  /** Throws an Error when the configuration is none that can be built. */
  constructor(host: ModelHost, options: Pl330Options) {
    const { channels = 8, peripherals = 4, events = 16, dataWidthBits = 64, mfifoLines = 128 } = options;
    const { cacheLineBytes = 16, cacheLines = 8, bootAddress } = options;
    within('channels', channels, 1, 8);
    within('peripherals', peripherals, 0, 32);
    within('events', events, 1, 32);
    within('MFIFO lines', mfifoLines, 4, 1024);
    within('cache lines', cacheLines, 1, 16);
    this.#debugTimer = host.timer(() => this.#debugDone());
    this.#configuration = configurationWords(options, channels, peripherals, events, dataWidthBits, mfifoLines);
    this.#eventMask = events === 32 ? 0xffff_ffff : 2 ** events - 1;
    const timing = { ...DEFAULT_TIMING, ...options.timing };
    this.#debugNs = timing.debugNs;
    this.#abortLine = host.irqLine(options.abortIrqLine);
    this.#wire(host, options.irqLines, events);
    const requests = Array.from({ length: peripherals }, (_, n): PeripheralRequest | null => {
      const request = options.requests?.[n] ?? null;
      return request instanceof Signal ? { burst: request } : request;
    });
    const master = host.busMaster({ addressBits: 32, ...options.master });
    this.#engine = new Engine(
      host,
      master,
      {
        channels,
        events,
        widthBytes: dataWidthBits / 8,
        mfifoLines,
        cacheLineBytes,
        cacheLines,
        eventsNonSecure: options.eventsNonSecure ?? 0,
        peripheralsNonSecure: options.peripheralsNonSecure ?? 0,
        requests,
        lockupAborts: () => !R.WD.WD_IRQ_ONLY.test(this.#watchdog),
        isInterrupt: (event) => ((this.#inten >>> event) & 1) !== 0,
        raiseInterrupt: (event) => {
          this.#interrupts = (this.#interrupts | (1 << event)) >>> 0;
          this.#driveInterrupts();
        },
        abortChanged: () => this.#driveAbort(),
      },
      timing,
    );
    this.#engine.manager.nonSecure = options.managerNonSecure ?? false;
    host.mapRegisters(options.base, R.sizeBytes, options.master.name, this);
    if (bootAddress !== undefined) this.#engine.boot(bootAddress);
  }

  #wire(host: ModelHost, numbers: readonly number[], events: number): void {
    const byNumber = new Map<number, { line: IrqLine; events: number }>();
    for (const [event, number] of numbers.entries()) {
      if (event >= events) throw new Error(`the PL330 has ${events} events, found ${numbers.length} interrupt lines`);
      let wired = byNumber.get(number);
      if (wired === undefined) {
        wired = { line: host.irqLine(number), events: 0 };
        byNumber.set(number, wired);
        this.#lines.push(wired);
      }
      wired.events = (wired.events | (1 << event)) >>> 0;
    }
  }
  #driveInterrupts(): void {
    const active = this.#interrupts & this.#inten;
    for (const { line, events } of this.#lines) line.set((active & events) !== 0);
  }
  #driveAbort(): void {
    this.#abortLine.set(this.#engine.lockedUp || this.#faultStatus() !== 0 || this.#managerFaults());
  }
  /** FSRC: the channels that are faulting; the abort interrupt comes with it, once their accesses have ended. */
  #faultStatus(): number {
    let status = 0;
    for (const { index, state } of this.#engine.channels) if (state === FAULTING) status |= 1 << index;
    return status;
  }
  #managerFaults(): boolean {
    return this.#engine.manager.state === FAULTING;
  }

  readRegister(offset: number, width: number): number {
    const word = this.#read(offset - (offset % 4));
    return width === 4 ? word : (word >>> ((offset % 4) * 8)) % 2 ** (width * 8);
  }
  #read(offset: number): number {
    if (offset >= R.FTR.offset && offset < R.FTR.offset + 4 * R.FTR.count) {
      return this.#engine.channels[(offset - R.FTR.offset) / 4]?.faultType ?? 0;
    }
    if (offset >= R.CSR.offset && offset < CHANNEL_STATUS_END) return this.#readStatus(offset - R.CSR.offset);
    if (offset >= R.SAR.offset && offset < CHANNEL_AXI_END) return this.#readAxi(offset - R.SAR.offset);
    if (offset >= R.CR0.offset && offset <= R.CRD.offset) return this.#configuration[(offset - R.CR0.offset) / 4]!;
    if (offset >= R.PERIPH_ID.offset) {
      const id = offset < R.PCELL_ID.offset ? PL330_PERIPH_ID : PL330_PCELL_ID;
      return (id >>> ((offset % 16) * 2)) & 0xff;
    }
    return this.#readControl(offset);
  }
  #readControl(offset: number): number {
    switch (offset) {
      case R.DSR.offset:
        return this.#engine.manager.status();
      case R.DPC.offset:
        return this.#engine.manager.pc;
      case R.INTEN.offset:
        return this.#inten;
      case R.INT_EVENT_RIS.offset:
        return (this.#engine.pendingEvents | this.#interrupts) >>> 0;
      case R.INTMIS.offset:
        return (this.#interrupts & this.#inten) >>> 0;
      case R.FSRD.offset:
        return this.#managerFaults() ? R.FSRD.FS_MGR.mask : 0;
      case R.FSRC.offset:
        return this.#faultStatus();
      case R.FTRD.offset:
        return this.#engine.manager.faultType;
      case R.DBGSTATUS.offset:
        return this.#debugTimer.pending ? R.DBGSTATUS.DBGSTATUS.mask : 0;
      case R.WD.offset:
        return this.#watchdog;
      default:
        return 0;
    }
  }
  #readStatus(offset: number): number {
    const channel = this.#engine.channels[Math.floor(offset / 8)];
    if (channel === undefined) return 0;
    return offset % 8 === 0 ? channel.status() : channel.pc;
  }
  #readAxi(offset: number): number {
    const channel = this.#engine.channels[Math.floor(offset / R.SAR.stride)];
    if (channel === undefined) return 0;
    switch (R.SAR.offset + (offset % R.SAR.stride)) {
      case R.SAR.offset:
        return channel.sar;
      case R.DAR.offset:
        return channel.dar;
      case R.CCR.offset:
        return channel.ccr;
      case R.LC0.offset:
        return channel.lc0;
      case R.LC1.offset:
        return channel.lc1;
      default:
        return 0;
    }
  }

  writeRegister(offset: number, width: number, value: number): void {
    if (width !== 4 || offset % 4 !== 0) return;
    switch (offset) {
      case R.INTEN.offset:
        this.#inten = (value & this.#eventMask) >>> 0;
        this.#driveInterrupts();
        this.#engine.interruptsChanged();
        break;
      case R.INTCLR.offset:
        this.#interrupts = (this.#interrupts & ~(value & this.#inten)) >>> 0;
        this.#driveInterrupts();
        break;
      case R.DBGINST0.offset:
        this.#dbginst0 = value;
        break;
      case R.DBGINST1.offset:
        this.#dbginst1 = value;
        break;
      case R.DBGCMD.offset:
        if (R.DBGCMD.DBGCMD.get(value) === 0) this.#debugCommand();
        break;
      case R.WD.offset:
        this.#watchdog = R.WD.store(this.#watchdog, value);
        break;
    }
  }
  /** A command while one is executed is lost, as the TRM warns. */
  #debugCommand(): void {
    if (this.#debugTimer.pending) return;
    this.#debugTimer.start(this.#debugNs);
  }
  #debugDone(): void {
    this.#engine.executeDebug(this.#dbginst0, this.#dbginst1);
  }
}

function within(what: string, value: number, low: number, high: number): void {
  if (!Number.isInteger(value) || value < low || value > high) {
    throw new Error(`the PL330 has ${low} to ${high} ${what}, found ${value}`);
  }
}

/** CR0 to CR4 and CRD. */
function configurationWords(
  options: Pl330Options,
  channels: number,
  peripherals: number,
  events: number,
  dataWidthBits: 32 | 64 | 128,
  mfifoLines: number,
): number[] {
  const { CR0, CR1, CRD } = R;
  const cr0 =
    (peripherals > 0 ? CR0.PERIPH_REQ.mask | CR0.NUM_PERIPH_REQ.prep(peripherals - 1) : 0) |
    (options.bootAddress === undefined ? 0 : CR0.BOOT_EN.mask) |
    (options.managerNonSecure ? CR0.MGR_NS_AT_RST.mask : 0) |
    CR0.NUM_CHNLS.prep(channels - 1) |
    CR0.NUM_EVENTS.prep(events - 1);
  const cr1 =
    CR1.I_CACHE_LEN.prep(CACHE_LINE_CODES[options.cacheLineBytes ?? 16]) |
    CR1.NUM_I_CACHE_LINES.prep((options.cacheLines ?? 8) - 1);
  // Queues and issuing capability are those of the Zynq-7000; this model has nothing outstanding.
  const crd =
    CRD.DATA_WIDTH.prep(CRD.DATA_WIDTH.values[`BITS_${dataWidthBits}`]) |
    CRD.WR_CAP.prep(7) |
    CRD.WR_Q_DEP.prep(15) |
    CRD.RD_CAP.prep(7) |
    CRD.RD_Q_DEP.prep(15) |
    CRD.DATA_BUFFER_DEP.prep(mfifoLines - 1);
  const { bootAddress = 0, eventsNonSecure = 0, peripheralsNonSecure = 0 } = options;
  return [cr0, cr1, bootAddress, eventsNonSecure >>> 0, peripheralsNonSecure >>> 0, crd >>> 0];
}
