/** A thread of the PL330: the manager, or a channel with its registers and its data in the MFIFO. */
import { PL330 } from '../regs/pl330.ts';

/** States as CSR and DSR show them. */
export const ThreadState = PL330.CSR.CHANNEL_STATUS.values;
const { CCR } = PL330;

/** What the peripheral asked for when the last DMAWFP ended. */
export const RequestType = { SINGLE: 0, BURST: 1 } as const;

/** 16 beats of 128 bits. */
const MAX_BURST_BYTES = 256;

/** Plain state; what happens to it is the engine's affair. */
export class Thread {
  readonly index: number;
  readonly isManager: boolean;
  state: number = ThreadState.STOPPED;
  pc = 0;
  sar = 0;
  dar = 0;
  lc0 = 0;
  lc1 = 0;
  nonSecure = false;
  faultType = 0;
  /** Event of the last DMAWFE, or peripheral of the last DMAWFP: both show as the wakeup number. */
  wakeup = 0;
  /** Operands of the last DMAWFP, as CSR shows them. */
  wfpBurst = false;
  wfpPeriph = false;
  requestType: number = RequestType.SINGLE;
  requestLast = false;
  /** Executing, but its DMALD waits for room in the MFIFO. */
  blocked = false;

  // CCR, and the same taken apart
  ccr: number = CCR.reset;
  srcInc = false;
  dstInc = false;
  /** Bytes a beat and beats a burst. */
  srcSize = 1;
  srcBeats = 1;
  dstSize = 1;
  dstBeats = 1;
  /** Bytes whose order is reversed; 1 for none. */
  swapBytes = 1;

  /** This thread's share of the MFIFO, as a stream: `count` bytes from `head` on. */
  readonly data: Uint8Array;
  head = 0;
  count = 0;

  /** The last store, while it is on its way: see pl330-write-buffer.ts. 0 bytes: there is none. */
  heldBytes = 0;
  heldAddr = 0;
  heldPc = 0;
  readonly heldData: Uint8Array;

  // What is known of the loop whose end was executed last: see pl330-copy-loop.ts.
  loopPc = -1;
  loopGeneration = -1;
  loopKind = 0;
  loopBursts = 0;
  loopInstructions = 0;

  /** @param index channel number; -1 for the manager */
  constructor(index: number, mfifoBytes: number) {
    this.index = index;
    this.isManager = index < 0;
    this.data = new Uint8Array(this.isManager ? 0 : mfifoBytes);
    this.heldData = new Uint8Array(this.isManager ? 0 : MAX_BURST_BYTES);
    this.setCcr(this.ccr);
  }
  setCcr(ccr: number): void {
    this.ccr = ccr;
    this.srcInc = CCR.SRC_INC.test(ccr);
    this.dstInc = CCR.DST_INC.test(ccr);
    this.srcSize = 1 << CCR.SRC_BURST_SIZE.get(ccr);
    this.dstSize = 1 << CCR.DST_BURST_SIZE.get(ccr);
    this.srcBeats = CCR.SRC_BURST_LEN.get(ccr) + 1;
    this.dstBeats = CCR.DST_BURST_LEN.get(ccr) + 1;
    this.swapBytes = 1 << CCR.ENDIAN_SWAP_SIZE.get(ccr);
  }
  /** Whether an instruction of it could be executed now. */
  get runnable(): boolean {
    return this.state === ThreadState.EXECUTING && !this.blocked;
  }
  /** Stopped by an abort, or about to be. */
  get faulting(): boolean {
    return this.state === ThreadState.FAULTING || this.state === ThreadState.FAULTING_COMPLETING;
  }
  /** Forget what is in the MFIFO. */
  dropData(): void {
    this.head = 0;
    this.count = 0;
  }
  /** Where the next `bytes` bytes of the stream go; the caller has made sure that there is room. */
  tail(bytes: number): number {
    if (this.head + this.count + bytes > this.data.length) {
      this.data.copyWithin(0, this.head, this.head + this.count);
      this.head = 0;
    }
    return this.head + this.count;
  }
  /** Take `bytes` bytes off the stream's head. */
  take(bytes: number): void {
    this.count -= bytes;
    this.head = this.count === 0 ? 0 : this.head + bytes;
  }
  /** DSR of the manager, CSR of a channel. */
  status(): number {
    const { DSR, CSR } = PL330;
    if (this.isManager) {
      return DSR.DMA_STATUS.prep(this.state) | DSR.WAKEUP_EVENT.prep(this.wakeup) | (this.nonSecure ? DSR.DNS.mask : 0);
    }
    return (
      CSR.CHANNEL_STATUS.prep(this.state) |
      CSR.WAKEUP_NUMBER.prep(this.wakeup) |
      (this.wfpBurst ? CSR.DMAWFP_B_NS.mask : 0) |
      (this.wfpPeriph ? CSR.DMAWFP_PERIPH.mask : 0) |
      (this.nonSecure ? CSR.CNS.mask : 0)
    );
  }
}
