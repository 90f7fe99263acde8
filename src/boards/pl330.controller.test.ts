import assert from 'node:assert/strict';
import { isErr, physAddr } from '../base/index.ts';
import { type ControllerRig, controllerCases } from '../dmaengine/controller.cases.ts';
import { DMA_DEV_TO_MEM, DMA_SLAVE_BUSWIDTH_4_BYTES, dmaRequestChan } from '../dmaengine/index.ts';
import { pl330Driver } from '../drivers/index.ts';
import { Pl330Model } from '../hw/index.ts';
import { driverRegister, dt, Kernel, ofPlatformPopulate, ofTree } from '../kernel/index.ts';
import { type ModelHost, type ModelTimer, type RegisterBlock, Signal, SimMachine } from '../machine/index.ts';

const DMAC = 0xf800_3000;
const PORT = 0x43c0_0000;
const DEPTH = 16;
const BURST = 4;
const WORD_NS = 80;

/** A port whose two FIFOs of 16 words each are paced, with request lines for bursts of 4 and for single words. */
class Port implements RegisterBlock {
  readonly tx = { burst: new Signal('tx burst'), single: new Signal('tx single') };
  readonly rx = { burst: new Signal('rx burst'), single: new Signal('rx single') };
  readonly received: number[] = [];
  readonly feed: number[] = [];
  readonly #tx: number[] = [];
  readonly #rx: number[] = [];
  readonly #clock: ModelTimer;

  constructor(host: ModelHost) {
    this.#clock = host.timer(() => this.#tick());
    host.mapRegisters(physAddr(PORT), 0x1000, 'port', this);
    this.#drive();
  }
  kick(): void {
    if (!this.#clock.pending) this.#clock.start(WORD_NS);
  }
  #tick(): void {
    this.#tx.shift();
    if (this.#rx.length < DEPTH && this.feed.length > 0) this.#rx.push(this.feed.shift()!);
    this.#drive();
    if (this.#tx.length > 0 || this.feed.length > 0) this.kick();
  }
  #drive(): void {
    this.tx.burst.set(this.#tx.length <= DEPTH - BURST);
    this.tx.single.set(this.#tx.length < DEPTH);
    this.rx.burst.set(this.#rx.length >= BURST);
    this.rx.single.set(this.#rx.length > 0);
  }
  readRegister(): number {
    const word = this.#rx.shift();
    assert.ok(word !== undefined, 'the receive FIFO is read when it has requested it');
    this.#drive();
    this.kick();
    return word;
  }
  writeRegister(_offset: number, width: number, value: number): void {
    assert.equal(width, 4);
    assert.ok(this.#tx.length < DEPTH, 'the transmit FIFO is written when it has requested it');
    this.#tx.push(value);
    for (let shift = 0; shift < 32; shift += 8) this.received.push((value >>> shift) & 0xff);
    this.#drive();
    this.kick();
  }
}

async function makeRig(coherent: boolean, quirks: Record<string, true> = {}): Promise<ControllerRig> {
  const machine = new SimMachine({
    name: 'pl330-rig',
    coherent,
    cacheLineBytes: 32,
    weaklyOrdered: !coherent,
    seed: 7,
    ram: [{ base: 0x10_0000, sizeBytes: 63 << 20 }],
  });
  const port = new Port(machine);
  const lines = [46, 47, 48, 49, 72, 73, 74, 75];
  new Pl330Model(machine, {
    base: physAddr(DMAC),
    master: { name: 'dmac' },
    irqLines: lines,
    abortIrqLine: 45,
    requests: [port.tx, port.rx],
  });
  const gic = { 'interrupt-controller': true, '#interrupt-cells': 3, compatible: 'arm,cortex-a9-gic' };
  const dmac = {
    compatible: ['arm,pl330', 'arm,primecell'],
    reg: [DMAC, 0x1000],
    'interrupt-parent': '&gic',
    interrupts: [45, ...lines].flatMap((line) => [0, line - 32, 4]),
    '#dma-cells': 1,
    'dma-coherent': coherent,
    ...quirks,
  };
  const port43 = {
    compatible: 'test,port',
    reg: [PORT, 0x1000],
    dmas: ['&dmac', 0, '&dmac', 1],
    'dma-names': ['tx', 'rx'],
  };
  const tree = ofTree(
    dt('/', { '#address-cells': 1, '#size-cells': 1 }, [
      dt('gic: interrupt-controller', gic),
      dt('dmac: dma-controller@f8003000', dmac),
      dt('port@43c00000', port43),
    ]),
  );
  const kernel = new Kernel(machine);
  await kernel.run(async () => {
    await driverRegister(kernel, pl330Driver);
    await ofPlatformPopulate(kernel, tree);
  });
  const dev = kernel.devices.find(({ name }) => name.endsWith('.port'))!;
  return {
    kernel,
    badAddress: 0x7000_0000,
    // Bytes only: more than the loops of one program hold.
    longCopyBytes: 3_000_001,
    peripheral: {
      async request(direction) {
        const chan = await dmaRequestChan(dev, direction === DMA_DEV_TO_MEM ? 'rx' : 'tx');
        assert.ok(!isErr(chan));
        return chan;
      },
      config: {
        srcAddr: physAddr(PORT),
        dstAddr: physAddr(PORT),
        srcAddrWidth: DMA_SLAVE_BUSWIDTH_4_BYTES,
        dstAddrWidth: DMA_SLAVE_BUSWIDTH_4_BYTES,
        srcMaxburst: BURST,
        dstMaxburst: BURST,
      },
      received: () => Uint8Array.from(port.received),
      feed(bytes) {
        port.feed.push(...new Uint32Array(bytes.slice().buffer));
        port.kick();
      },
    },
  };
}

const SKIPS = {
  'paused it stands still, resumed it ends exactly':
    'a killed PL330 program cannot go on: Linux offers no resume either',
};
controllerCases('PL330, coherent', () => makeRig(true), SKIPS);
controllerCases('PL330, not coherent and weakly ordered', () => makeRig(false), SKIPS);
controllerCases('PL330 without DMAFLUSHP', () => makeRig(true, { 'arm,pl330-broken-no-flushp': true }), SKIPS);
