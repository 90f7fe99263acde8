/**
 * A serial audio port that loops back: the small peripheral behind which slave transfers are tested. Its sample clock
 * takes a word from the transmit FIFO and puts one into the receive FIFO, whether the DMA engine keeps up or not.
 */
import type { PhysAddr } from '../base/index.ts';
import type { ModelHost, ModelTimer, RegisterBlock, Signal } from '../machine/index.ts';
import { FIFO, FIFO_WORDS } from '../regs/fifo-peripheral.ts';

const { EN, TXEN, RXEN, LOOP, DMAEN, TXCLR, RXCLR } = FIFO.CTRL;
const { TX_UNDERRUN, RX_OVERRUN, TX_OVERFLOW, RX_UNDERFLOW } = FIFO.STATUS;

/** How the port is wired on its board. */
export interface FifoPeripheralOptions {
  readonly name: string;
  /** Physical address of the registers. */
  readonly base: PhysAddr;
  /** High while words are wanted, or there are words to fetch. */
  readonly txRequest: Signal;
  readonly rxRequest: Signal;
}

/** Words, first in first out. */
class Fifo {
  readonly #words = new Uint32Array(FIFO_WORDS);
  #first = 0;
  level = 0;

  /** False when it is full. */
  push(word: number): boolean {
    if (this.level === FIFO_WORDS) return false;
    this.#words[(this.#first + this.level) % FIFO_WORDS] = word;
    this.level++;
    return true;
  }
  /** -1 when it is empty. */
  shift(): number {
    if (this.level === 0) return -1;
    const word = this.#words[this.#first]!;
    this.#first = (this.#first + 1) % FIFO_WORDS;
    this.level--;
    return word;
  }
}

/** See the file's head. */
export class FifoPeripheral implements RegisterBlock {
  readonly #options: FifoPeripheralOptions;
  readonly #tx = new Fifo();
  readonly #rx = new Fifo();
  readonly #clock: ModelTimer;
  #ctrl = FIFO.CTRL.reset;
  #status = FIFO.STATUS.reset;
  #rate = FIFO.RATE.reset;
  #threshold = FIFO.THRESHOLD.reset;
  #heard = 0;

  constructor(host: ModelHost, options: FifoPeripheralOptions) {
    this.#clock = host.timer(() => this.#sample());
    this.#options = options;
    host.mapRegisters(options.base, FIFO.sizeBytes, options.name, this);
  }

  readRegister(offset: number, _width: number): number {
    switch (offset) {
      case FIFO.CTRL.offset:
        return this.#ctrl;
      case FIFO.STATUS.offset:
        return this.#status;
      case FIFO.DATA.offset:
        return this.#readData();
      case FIFO.RATE.offset:
        return this.#rate;
      case FIFO.THRESHOLD.offset:
        return this.#threshold;
      case FIFO.LEVEL.offset:
        return FIFO.LEVEL.TX.prep(this.#tx.level) | FIFO.LEVEL.RX.prep(this.#rx.level);
      default:
        return 0;
    }
  }

  writeRegister(offset: number, _width: number, value: number): void {
    switch (offset) {
      case FIFO.CTRL.offset:
        this.#writeCtrl(value);
        break;
      case FIFO.STATUS.offset:
        this.#status = FIFO.STATUS.store(this.#status, value);
        break;
      case FIFO.DATA.offset:
        if (!this.#tx.push(value)) this.#status |= TX_OVERFLOW.mask;
        break;
      case FIFO.RATE.offset:
        this.#rate = value;
        break;
      case FIFO.THRESHOLD.offset:
        this.#threshold = FIFO.THRESHOLD.store(this.#threshold, value);
        break;
    }
    this.#request();
  }

  #writeCtrl(value: number): void {
    this.#ctrl = FIFO.CTRL.store(this.#ctrl, value) & FIFO.CTRL.readMask;
    if (TXCLR.test(value)) this.#tx.level = 0;
    if (RXCLR.test(value)) this.#rx.level = 0;
    if (!EN.test(this.#ctrl)) this.#clock.stop();
    else if (!this.#clock.pending) this.#clock.start(this.#periodNs());
  }

  #readData(): number {
    const word = this.#rx.shift();
    if (word < 0) {
      this.#status |= RX_UNDERFLOW.mask;
      return 0;
    }
    this.#request();
    return word;
  }

  #periodNs(): number {
    return Math.max(Math.round(1e9 / Math.max(this.#rate, 1)), 1);
  }

  /** One tick of the sample clock. */
  #sample(): void {
    this.#clock.start(this.#periodNs());
    let word = this.#heard;
    if (TXEN.test(this.#ctrl)) {
      const sent = this.#tx.shift();
      if (sent < 0) this.#status |= TX_UNDERRUN.mask;
      if (LOOP.test(this.#ctrl)) {
        // Silence where nothing was sent: the receiver gets no word of it.
        if (sent < 0) return;
        word = sent;
      }
    }
    if (RXEN.test(this.#ctrl)) {
      this.#heard = (this.#heard + 1) >>> 0;
      if (!this.#rx.push(word)) this.#status |= RX_OVERRUN.mask;
    }
    this.#request();
  }

  #request(): void {
    const enabled = DMAEN.test(this.#ctrl);
    const { TX, RX } = FIFO.THRESHOLD;
    const { txRequest, rxRequest } = this.#options;
    txRequest.set(enabled && TXEN.test(this.#ctrl) && this.#tx.level <= TX.get(this.#threshold));
    rxRequest.set(enabled && RXEN.test(this.#ctrl) && this.#rx.level > 0 && this.#rx.level >= RX.get(this.#threshold));
  }
}
