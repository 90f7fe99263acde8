/**
 * The PL330's instructions (TRM 4.3): what each does to its thread. When something is left open by the TRM, the choice
 * stands beside it.
 */
import { PL330_OP as OP, PL330, PL330_RD } from '../regs/pl330.ts';
import type { InstructionCache } from './pl330-cache.ts';
import type { PeripheralRequest, Pl330Timing } from './pl330-config.ts';
import type { CopyLoops } from './pl330-copy-loop.ts';
import { BLOCKED, type DataPath } from './pl330-data.ts';
import { RequestType, type Thread, ThreadState } from './pl330-thread.ts';
import type { WriteBuffer } from './pl330-write-buffer.ts';

const { FTR, FTRD, CCR } = PL330;

/** What instructions need of the controller around them. */
export interface Control {
  readonly channels: readonly Thread[];
  readonly events: number;
  readonly widthBytes: number;
  /** Bit n: event n, peripheral n is non-secure. */
  readonly eventsNonSecure: number;
  readonly peripheralsNonSecure: number;
  readonly requests: readonly (PeripheralRequest | null)[];
  /** An event is signalled: as an interrupt, or to threads. */
  signal(event: number): void;
  /** Take an event that was signalled to threads before. */
  takeEvent(event: number): boolean;
  /** The thread waits for room in the MFIFO. */
  block(thread: Thread): void;
  /** There is more room in the MFIFO. */
  unblock(): void;
  kill(thread: Thread): void;
  /** The thread is done; what it has in the MFIFO is lost. */
  complete(thread: Thread): void;
  /** Let threads run after a while. */
  wake(delayNs: number): void;
}

/** See the file's head. */
export class Executor {
  readonly #control: Control;
  readonly #cache: InstructionCache;
  readonly #path: DataPath;
  readonly #buffer: WriteBuffer;
  readonly #loops: CopyLoops;
  readonly #timing: Pl330Timing;
  /** The instruction given by the debug registers, while it is executed. */
  #debug: Uint8Array | null = null;
  /** Where the last instruction goes on when not behind itself; -1. */
  jump = -1;
  /** The thread stays at the last instruction. */
  stay = false;
  /** Bytes read plus bytes written that the present turn may still come to. */
  sliceBytes = 0;
  /** Instructions that joined loop iterations stood for, for the engine to charge. */
  joined = 0;

  constructor(
    control: Control,
    cache: InstructionCache,
    path: DataPath,
    buffer: WriteBuffer,
    loops: CopyLoops,
    timing: Pl330Timing,
  ) {
    this.#control = control;
    this.#cache = cache;
    this.#path = path;
    this.#buffer = buffer;
    this.#loops = loops;
    this.#timing = timing;
  }

  /** Execute the instruction at the thread's program counter. Returns 0, or the bits of FTR (FTRD) that it faults with. */
  execute(thread: Thread, opcode: number): number {
    this.jump = -1;
    this.stay = false;
    return this.#execute(thread, opcode);
  }
  /** Execute an instruction that is not in memory. */
  executeDebug(thread: Thread, instruction: Uint8Array): number {
    this.#debug = instruction;
    const fault = this.execute(thread, instruction[0]!);
    this.#debug = null;
    return fault;
  }

  /** Operand byte `n` of the instruction (1 is the one after the opcode). */
  #operand(thread: Thread, n: number): number {
    return this.#debug !== null ? this.#debug[n]! : Math.max(0, this.#cache.byte(thread.pc + n));
  }
  #operand32(thread: Thread): number {
    const low = this.#operand(thread, 2) | (this.#operand(thread, 3) << 8);
    return (low | (this.#operand(thread, 4) << 16) | (this.#operand(thread, 5) << 24)) >>> 0;
  }

  // Instructions. Each returns 0 or the fault that it is.

  #execute(thread: Thread, opcode: number): number {
    if ((opcode & 0xe8) === OP.DMALPEND && (opcode & 0xfd) !== OP.DMASTP) return this.#lpend(thread, opcode);
    switch (opcode) {
      case OP.DMALD:
      case OP.DMALD | 1:
      case OP.DMALD | 3:
        return this.#load(thread, opcode);
      case OP.DMAST:
      case OP.DMAST | 1:
      case OP.DMAST | 3:
        return this.#store(thread, opcode);
      case OP.DMASTZ:
        return this.#path.storeZeros(thread);
      case OP.DMALP:
        thread.lc0 = this.#operand(thread, 1);
        return 0;
      case OP.DMALP | 2:
        thread.lc1 = this.#operand(thread, 1);
        return 0;
      // Loads are done at once; the store that may be on its way has arrived before any instruction that does not pass it.
      case OP.DMARMB:
      case OP.DMAWMB:
      case OP.DMANOP:
        return 0;
      case OP.DMAMOV:
        return this.#mov(thread);
      case OP.DMAEND:
        this.stay = true;
        this.#control.complete(thread);
        return 0;
      case OP.DMAKILL:
        this.stay = true;
        this.#control.kill(thread);
        return 0;
      case OP.DMASEV:
        return this.#sev(thread);
      case OP.DMAWFE:
        return this.#wfe(thread);
      case OP.DMAGO:
      case OP.DMAGO | 2:
        return this.#go(thread, opcode);
      case OP.DMAADDH:
      case OP.DMAADDH | 2:
      case OP.DMAADNH:
      case OP.DMAADNH | 2:
        return this.#add(thread, opcode);
      default:
        return this.#executePeripheral(thread, opcode);
    }
  }

  /** Whether a conditional instruction (x set) is for another type of request than the last one, and does nothing. */
  #skipped(thread: Thread, opcode: number): boolean {
    return (opcode & 1) !== 0 && (opcode & 2) >>> 1 !== thread.requestType;
  }
  #load(thread: Thread, opcode: number): number {
    if (this.#skipped(thread, opcode)) return 0;
    const single = (opcode & 3) === 1;
    const outcome = this.#path.load(thread, single ? 1 : thread.srcBeats);
    if (outcome !== BLOCKED) return outcome;
    this.stay = true;
    this.#control.block(thread);
    return 0;
  }
  #store(thread: Thread, opcode: number): number {
    if (this.#skipped(thread, opcode)) return 0;
    const outcome = this.#path.store(thread, (opcode & 3) === 1 ? 1 : thread.dstBeats);
    this.#control.unblock();
    return outcome;
  }
  #mov(thread: Thread): number {
    const rd = this.#operand(thread, 1);
    const value = this.#operand32(thread);
    if (rd === PL330_RD.SAR) thread.sar = value;
    else if (rd === PL330_RD.DAR) thread.dar = value;
    else if (rd === PL330_RD.CCR) return this.#movCcr(thread, value);
    else return FTR.OPERAND_INVALID.mask;
    return 0;
  }
  /** The TRM reserves beats wider than the bus, and swap sizes above 128 bits; here they are invalid operands. */
  #movCcr(thread: Thread, value: number): number {
    const widest = Math.log2(this.#control.widthBytes);
    if (CCR.SRC_BURST_SIZE.get(value) > widest || CCR.DST_BURST_SIZE.get(value) > widest)
      return FTR.OPERAND_INVALID.mask;
    if (CCR.ENDIAN_SWAP_SIZE.get(value) > 4) return FTR.OPERAND_INVALID.mask;
    // A non-secure thread may not prepare secure accesses (bit 1 of AxPROT is 1 for non-secure).
    const isSecure = (CCR.SRC_PROT_CTRL.get(value) & CCR.DST_PROT_CTRL.get(value) & 2) === 0;
    if (thread.nonSecure && isSecure) return FTR.CH_RDWR_ERR.mask;
    thread.setCcr(value);
    return 0;
  }
  #add(thread: Thread, opcode: number): number {
    const half = this.#operand(thread, 1) | (this.#operand(thread, 2) << 8);
    const addend = (opcode & 0xfd) === OP.DMAADNH ? 0xffff_0000 + half : half;
    if ((opcode & 2) === 0) thread.sar = (thread.sar + addend) >>> 0;
    else thread.dar = (thread.dar + addend) >>> 0;
    return 0;
  }
  #lpend(thread: Thread, opcode: number): number {
    if ((opcode & 3) === 2) return FTR.OPERAND_INVALID.mask;
    if (this.#skipped(thread, opcode)) return 0;
    const isCounted = (opcode & 0x10) !== 0;
    const isLc1 = (opcode & 4) !== 0;
    const left = !isCounted ? Number.POSITIVE_INFINITY : isLc1 ? thread.lc1 : thread.lc0;
    // A finite loop ends with its counter, an endless one with the peripheral's last request.
    if (left === 0 || (!isCounted && thread.requestLast)) return 0;
    const late = this.#buffer.drain(thread);
    if (late !== 0) {
      this.stay = true;
      return late;
    }
    const start = (thread.pc - this.#operand(thread, 1)) >>> 0;
    let begun = 0;
    if ((opcode & 1) === 0) {
      begun = this.#loops.run(thread, start, left, this.sliceBytes - this.#path.bytes);
    }
    if (isCounted && isLc1) thread.lc1 -= Math.max(begun, 1);
    else if (isCounted) thread.lc0 -= Math.max(begun, 1);
    if (begun === 0) {
      this.jump = start;
      return 0;
    }
    this.joined += this.#loops.instructions - 1;
    this.stay = true;
    return this.#loops.fault;
  }

  #sev(thread: Thread): number {
    const operand = this.#operand(thread, 1);
    const event = operand >>> 3;
    if ((operand & 7) !== 0 || event >= this.#control.events) return FTR.OPERAND_INVALID.mask;
    if (!this.#mayUseEvent(thread, event)) return this.#eventFault(thread);
    const late = this.#buffer.overtaken(thread);
    if (late === 0) this.#control.signal(event);
    return late;
  }
  #wfe(thread: Thread): number {
    const operand = this.#operand(thread, 1);
    const event = operand >>> 3;
    if ((operand & 5) !== 0 || event >= this.#control.events) return FTR.OPERAND_INVALID.mask;
    if (!this.#mayUseEvent(thread, event)) return this.#eventFault(thread);
    if ((operand & 2) !== 0) this.#cache.invalidate();
    thread.wakeup = event;
    if (this.#control.takeEvent(event)) return 0;
    // It goes on behind the DMAWFE when the event comes.
    thread.state = ThreadState.WAITING_FOR_EVENT;
    return 0;
  }
  #mayUseEvent(thread: Thread, event: number): boolean {
    return !thread.nonSecure || ((this.#control.eventsNonSecure >>> event) & 1) !== 0;
  }
  #eventFault(thread: Thread): number {
    return thread.isManager ? FTRD.MGR_EVNT_ERR.mask : FTR.CH_EVNT_ERR.mask;
  }
  #go(thread: Thread, opcode: number): number {
    if (!thread.isManager) return FTR.UNDEF_INSTR.mask;
    const number = this.#operand(thread, 1);
    const channel = this.#control.channels[number];
    if (channel === undefined) return FTRD.OPERAND_INVALID.mask;
    const nonSecure = (opcode & 2) !== 0;
    if (thread.nonSecure && !nonSecure) return FTRD.DMAGO_ERR.mask;
    // For a channel that is not stopped, DMAGO is a DMANOP.
    if (channel.state !== ThreadState.STOPPED) return 0;
    this.#cache.invalidate();
    channel.pc = this.#operand32(thread);
    channel.nonSecure = nonSecure;
    channel.state = ThreadState.EXECUTING;
    channel.requestType = RequestType.SINGLE;
    channel.requestLast = false;
    channel.wfpBurst = false;
    channel.wfpPeriph = false;
    channel.wakeup = 0;
    this.#control.wake(this.#timing.goNs);
    return 0;
  }

  #executePeripheral(thread: Thread, opcode: number): number {
    if ((opcode & 0xfc) === OP.DMALD || (opcode & 0xfc) === OP.DMAST || opcode === (OP.DMAWFP | 3)) {
      return FTR.OPERAND_INVALID.mask; // bs without x, or burst and periph at once
    }
    const operand = this.#operand(thread, 1);
    const peripheral = operand >>> 3;
    if ((operand & 7) !== 0 || peripheral >= this.#control.requests.length) return FTR.OPERAND_INVALID.mask;
    if (thread.nonSecure && ((this.#control.peripheralsNonSecure >>> peripheral) & 1) === 0)
      return FTR.CH_PERIPH_ERR.mask;
    const request = this.#control.requests[peripheral]!;
    if (opcode === OP.DMAFLUSHP) {
      request?.acknowledge?.('flush');
      return 0;
    }
    if ((opcode & 0xfc) === OP.DMAWFP) return this.#wfp(thread, opcode, peripheral, request);
    if (this.#skipped(thread, opcode)) return 0;
    const fault = (opcode & 0xfd) === OP.DMALDP ? this.#load(thread, opcode) : this.#store(thread, opcode);
    if (fault === 0 && !thread.blocked) request?.acknowledge?.((opcode & 2) === 0 ? 'single' : 'burst');
    return fault;
  }
  #wfp(thread: Thread, opcode: number, peripheral: number, request: PeripheralRequest | null): number {
    const isBurst = (opcode & 2) !== 0;
    const isPeriph = (opcode & 1) !== 0;
    thread.wakeup = peripheral;
    thread.wfpBurst = isBurst;
    thread.wfpPeriph = isPeriph;
    const burst = request?.burst?.high ?? false;
    const single = request?.single?.high ?? false;
    if (!burst && (isBurst || !single)) {
      this.stay = true;
      thread.state = ThreadState.WAITING_FOR_PERIPHERAL;
      return 0;
    }
    thread.requestType = isBurst || (isPeriph && burst) ? RequestType.BURST : RequestType.SINGLE;
    thread.requestLast = request?.last?.high ?? false;
    return 0;
  }
}
