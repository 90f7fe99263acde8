import assert from 'node:assert/strict';
import { type Errno, isErr, physAddr } from '../base/index.ts';
import { type ControllerCase, controllerCases, type PeripheralRig } from '../dmaengine/controller.cases.ts';
import { DMA_MEM_TO_DEV, DMA_SLAVE_BUSWIDTH_4_BYTES, dmaRequestChan } from '../dmaengine/index.ts';
import {
  type Device,
  type IoMem,
  ioremap,
  type Kernel,
  kthreadRun,
  type OfNode,
  ofAllNodes,
  readl,
  usleepRange,
  writel,
} from '../kernel/index.ts';
import { type Board, defineBoard } from './board.ts';
import { rpi3 } from './rpi3.ts';
import { zynqA9 } from './zynq-a9.ts';

const [CTRL, DATA, RATE, THRESHOLD, LEVEL] = [0, 8, 12, 16, 20];
const [EN, TXEN, RXEN, LOOP, DMAEN] = [1, 2, 4, 8, 16];
const FIFO_WORDS = 64;

/**
 * The looping port as a peripheral that anything may be behind: what the engine does not move (the other direction of the
 * loop) the CPU moves word by word.
 */
class Port implements PeripheralRig {
  readonly #kernel: Kernel;
  readonly #dev: Device;
  readonly #io: IoMem;
  readonly config;
  readonly #received: number[] = [];
  #toSend: Uint32Array = new Uint32Array(0);

  constructor(kernel: Kernel, dev: Device, phys: number, bus: number) {
    this.#kernel = kernel;
    this.#dev = dev;
    this.#io = ioremap(kernel, physAddr(phys), 0x1000);
    const data = physAddr(bus + DATA);
    const width = DMA_SLAVE_BUSWIDTH_4_BYTES;
    this.config = {
      srcAddr: data,
      dstAddr: data,
      srcAddrWidth: width,
      dstAddrWidth: width,
      srcMaxburst: 1,
      dstMaxburst: 1,
    } as const;
  }

  readonly request = async (direction: number) => {
    const sends = direction === DMA_MEM_TO_DEV;
    const chan = await dmaRequestChan(this.#dev, sends ? 'tx' : 'rx');
    assert.ok(!isErr(chan), `channel: ${chan as Errno}`);
    writel(4_000_000, this.#io, RATE);
    writel((FIFO_WORDS - 1) | (1 << 8), this.#io, THRESHOLD);
    writel(EN | TXEN | RXEN | LOOP | DMAEN, this.#io, CTRL);
    kthreadRun(this.#kernel, 'port', () => (sends ? this.#drain() : this.#fill()));
    return chan;
  };
  async #drain(): Promise<void> {
    for (;;) {
      for (let level = readl(this.#io, LEVEL) >> 8; level > 0; level--) this.#received.push(readl(this.#io, DATA));
      await usleepRange(this.#kernel, 5, 10);
    }
  }
  async #fill(): Promise<void> {
    for (let sent = 0; sent < this.#toSend.length; ) {
      for (let room = FIFO_WORDS - (readl(this.#io, LEVEL) & 0x7f); room > 0 && sent < this.#toSend.length; room--) {
        writel(this.#toSend[sent++]!, this.#io, DATA);
      }
      await usleepRange(this.#kernel, 5, 10);
    }
  }
  readonly received = (): Uint8Array => {
    // What the engine has written is on its way through both FIFOs.
    for (let level = readl(this.#io, LEVEL); level !== 0; level = readl(this.#io, LEVEL)) {
      if (level >> 8 > 0) this.#received.push(readl(this.#io, DATA));
    }
    return new Uint8Array(Uint32Array.from(this.#received).buffer);
  };
  readonly feed = (bytes: Uint8Array): void => {
    this.#toSend = new Uint32Array(bytes.slice().buffer);
  };
}

async function rigOf(board: Board, mode: string, port: { phys: number; bus: number }, badAddress: number) {
  const { kernel, ...system } = await bootProbed(board, mode);
  const dev = kernel.devices.find(({ name }) => name.endsWith('.serial-port'))!;
  return {
    ...system,
    kernel,
    badAddress,
    longCopyBytes: 300_000,
    peripheral: new Port(kernel, dev, port.phys, port.bus),
  };
}
async function bootProbed(board: Board, mode: string) {
  const system = await board.boot({ mode, seed: 3, ramBytes: 128 * 2 ** 20 });
  await system.run(() => {});
  return { kernel: system.kernel };
}

/** The board with the lite channels only: their lengths have 16 bits. */
const lite = defineBoard({
  ...rpi3,
  deviceTree() {
    const tree = rpi3.deviceTree();
    for (const node of ofAllNodes(tree)) setCell(node, 'brcm,dma-channel-mask', 0x7f00);
    return tree;
  },
});
function setCell(node: OfNode, name: string, value: number): void {
  const bytes = node.properties.get(name);
  if (bytes !== undefined) new DataView(bytes.buffer, bytes.byteOffset).setUint32(0, value);
}

const PAUSE: ControllerCase = 'paused it stands still, resumed it ends exactly';
const noPause = { [PAUSE]: "the driver has no pause, as Linux's has none" };
const noResume = { [PAUSE]: "a killed program cannot go on; Linux's driver has no resume" };

for (const mode of ['coherent', 'noncoherent']) {
  const rpiPort = { phys: 0x3f20_3000, bus: 0x7e20_3000 };
  controllerCases(`rpi3 ${mode}`, () => rigOf(rpi3, mode, rpiPort, 0x1000), noPause);
  controllerCases(`rpi3 ${mode}, lite channels`, () => rigOf(lite, mode, rpiPort, 0x1000), noPause);
  const zynqPort = { phys: 0x43c0_0000, bus: 0x43c0_0000 };
  controllerCases(`zynq-a9 ${mode}`, () => rigOf(zynqA9, mode, zynqPort, 0x6000_0000), noResume);
}
