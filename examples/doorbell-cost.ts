// Two ways to hand work to a device: store the whole descriptor to its registers, or write it to memory, ring a doorbell
// and let the device fetch it. The cost model of Kalia et al. (USENIX ATC 2016) says what each sends over PCI Express;
// here a device counts what really arrives, and must find the same.
import { ENOMEM } from 'dmakit/base';
import {
  devmPlatformIoremapResource,
  dmaWmb,
  GFP_KERNEL,
  type IoMem,
  readl,
  readlPollTimeout,
  writel,
} from 'dmakit/kernel';
import type { BusMaster, ModelHost, RegisterBlock } from 'dmakit/machine';
import { dmaAllocCoherent, dmaFreeCoherent } from 'dmakit/mapping';
import { costByDescriptor, costByRegister, defineDriver, doorbellPaysFrom, PCIE_3, X86_CPU } from 'dmakit/tools';

const RING = 0x00; // bus address of the descriptors
const DOORBELL = 0x04; // bytes to fetch
const LINES = 0x08; // lines that were stored; write: start counting again
const FETCHED = 0x0c; // reads that were made
const WINDOW = 0x800; // descriptors can be stored here

/** Counts packets: a line of the window is one, however many stores the CPU combined in it. */
class Counter implements RegisterBlock {
  readonly #bus: BusMaster;
  readonly #chunk = new Uint8Array(PCIE_3.maxReadRequest);
  #ring = 0;
  #line = -1;
  #lines = 0;
  #reads = 0;

  constructor(host: ModelHost) {
    this.#bus = host.busMaster({ name: 'doorbell' });
  }
  readRegister(offset: number): number {
    if (offset === LINES) return this.#lines;
    return offset === FETCHED ? this.#reads : 0;
  }
  writeRegister(offset: number, _width: number, value: number): void {
    if (offset === RING) this.#ring = value;
    else if (offset === LINES) this.#lines = this.#reads = 0;
    else if (offset === DOORBELL) this.#fetch(value);
    else if (offset >= WINDOW) {
      const line = Math.floor(offset / X86_CPU.cacheLine);
      if (line !== this.#line) this.#lines++;
      this.#line = line;
    }
  }
  #fetch(bytes: number): void {
    for (let at = 0; at < bytes; at += this.#chunk.length) {
      this.#bus.read(this.#ring + at, this.#chunk, 0, Math.min(this.#chunk.length, bytes - at));
      this.#reads++;
    }
  }
}

export default defineDriver({
  name: 'doorbell-cost',
  hardware: (host) => new Counter(host),
  async main({ kernel, device, expect, log }) {
    const registers = devmPlatformIoremapResource(device, 0) as IoMem;
    const ring = dmaAllocCoherent(device, 4096, GFP_KERNEL);
    if (ring === null) return ENOMEM;
    writel(ring.handle, registers, RING);

    for (const [count, size] of [
      [1, 65],
      [2, 65],
      [10, 65],
      [10, 128],
      [10, 129],
    ] as const) {
      const byRegister = costByRegister(count, size);
      const byDescriptor = costByDescriptor(count, size);
      const padded = Math.ceil(size / X86_CPU.cacheLine) * X86_CPU.cacheLine;

      writel(0, registers, LINES);
      for (let n = 0; n < count; n++) {
        for (let at = 0; at < padded; at += 4) writel(n, registers, WINDOW + at);
      }
      expect(readl(registers, LINES) === byRegister.mmios, `${count} of ${size} bytes: lines stored`);

      ring.mem.bytes.fill(count, 0, count * padded);
      dmaWmb(kernel);
      writel(count * padded, registers, DOORBELL);
      const { reads } = byDescriptor;
      expect((await readlPollTimeout(registers, FETCHED, (seen) => seen === reads, 1, 1000)) === 0, 'reads made');

      const bytes = `${byRegister.bytesToDevice} bytes by register, ${byDescriptor.bytesToDevice} by doorbell`;
      log(`${count} descriptors of ${size} bytes: ${bytes}; ${byRegister.mmios} stores against 1`);
    }
    log(`the doorbell pays from ${doorbellPaysFrom(65)} descriptors of 65 bytes on`);
    dmaFreeCoherent(device, 4096, ring.mem, ring.handle);
    return 0;
  },
});
