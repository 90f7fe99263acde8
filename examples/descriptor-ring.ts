// A device that does not exist yet, and its driver: a network card's transmit ring, reduced to the essential. The device
// walks a ring of descriptors in coherent memory and takes each one whose OWN flag the driver has set; here it adds up
// the bytes of the packet and writes the sum back.
//
// The driver must not let the device see OWN before the rest of the descriptor: dmaWmb. Without it this works on every
// PC, and fails on boards whose CPU stores out of order: take the line away and run it with --seeds 1..50.
import { ENOMEM } from 'dmakit/base';
import {
  DMA_TO_DEVICE,
  devmPlatformIoremapResource,
  devmRequestIrq,
  dmaRmb,
  dmaWmb,
  GFP_KERNEL,
  type IoMem,
  IRQ_HANDLED,
  IRQ_NONE,
  kfree,
  kmalloc,
  platformGetIrq,
  readl,
  WaitQueue,
  waitEventTimeout,
  wakeUp,
  writel,
} from 'dmakit/kernel';
import type { BusMaster, IrqLine, ModelHost, RegisterBlock } from 'dmakit/machine';
import { dmaAllocCoherent, dmaFreeCoherent, dmaMappingError, dmaMapSingle, dmaUnmapSingle } from 'dmakit/mapping';
import { defineDriver } from 'dmakit/tools';

const RING = 0x00; // bus address of the ring
const CONTROL = 0x04; // 1: walk the ring
const STATUS = 0x08; // 1: packets were sent; write 1 to clear
const SLOTS = 8;
const SLOT_BYTES = 16; // address, length, flags, sum
const OWN = 0x8000_0000;

class AdderModel implements RegisterBlock {
  readonly #host: ModelHost;
  readonly #irq: IrqLine;
  readonly #bus: BusMaster;
  readonly #packet = new Uint8Array(256);
  #ring = 0;
  #slot = 0;
  #running = false;
  #status = 0;

  constructor(host: ModelHost, irq: IrqLine) {
    this.#host = host;
    this.#irq = irq;
    this.#bus = host.busMaster({ name: 'descriptor-ring' });
  }
  readRegister(offset: number): number {
    return offset === STATUS ? this.#status : 0;
  }
  writeRegister(offset: number, _width: number, value: number): void {
    if (offset === RING) this.#ring = value;
    if (offset === STATUS) this.#setStatus(this.#status & ~value);
    if (offset === CONTROL) {
      this.#running = value === 1;
      if (this.#running) this.#walk();
    }
  }
  #setStatus(status: number): void {
    this.#status = status;
    this.#irq.set(status !== 0);
  }
  #read(addr: number): number {
    this.#bus.read32(addr);
    return this.#bus.value32;
  }
  #walk(): void {
    if (!this.#running) return;
    const at = this.#ring + this.#slot * SLOT_BYTES;
    if (this.#read(at + 8) >= OWN) {
      const length = Math.min(this.#read(at + 4), this.#packet.length);
      this.#bus.read(this.#read(at), this.#packet, 0, length);
      const sum = this.#packet.subarray(0, length).reduce((a, b) => a + b, 0);
      this.#bus.write32(at + 12, sum);
      this.#bus.write32(at + 8, 0);
      this.#slot = (this.#slot + 1) % SLOTS;
      this.#setStatus(1);
    }
    this.#host.after(250, () => this.#walk());
  }
}

export default defineDriver({
  name: 'descriptor-ring',
  hardware: (host, { irq }) => new AdderModel(host, irq),
  async main({ kernel, device, expect }) {
    const registers = devmPlatformIoremapResource(device, 0) as IoMem;
    const ring = dmaAllocCoherent(device, SLOTS * SLOT_BYTES, GFP_KERNEL);
    const packet = kmalloc(kernel, 64, GFP_KERNEL);
    if (ring === null || packet === null) return ENOMEM;
    const sent = new WaitQueue(kernel, 'packets sent');
    const handler = () => {
      if (readl(registers, STATUS) === 0) return IRQ_NONE;
      writel(1, registers, STATUS);
      wakeUp(sent);
      return IRQ_HANDLED;
    };
    const error = devmRequestIrq(device, platformGetIrq(device, 0), handler, 0, device.name, device);
    if (error < 0) return error;
    writel(ring.handle, registers, RING);
    writel(1, registers, CONTROL);

    for (let n = 0; n < 4 * SLOTS; n++) {
      const length = 1 + ((n * 7) % 64);
      packet.bytes.fill(n + 1);
      const addr = dmaMapSingle(device, packet, DMA_TO_DEVICE);
      if (dmaMappingError(device, addr)) return ENOMEM;
      const slot = ring.mem.slice((n % SLOTS) * SLOT_BYTES, SLOT_BYTES);
      slot.writeU32(0, addr);
      slot.writeU32(4, length);
      dmaWmb(kernel); // address and length first, then OWN
      slot.writeU32(8, OWN);
      const left = await waitEventTimeout(sent, () => slot.readU32(8) === 0, 1e9);
      dmaRmb(kernel); // OWN first, then the sum
      expect(left > 0 && slot.readU32(12) === (n + 1) * length, `packet ${n}: sum ${slot.readU32(12)}`);
      dmaUnmapSingle(device, addr, packet.size, DMA_TO_DEVICE);
    }

    writel(0, registers, CONTROL);
    readl(registers, STATUS); // posted writes have arrived when a read returns
    dmaFreeCoherent(device, SLOTS * SLOT_BYTES, ring.mem, ring.handle);
    kfree(kernel, packet);
    return 0;
  },
});
