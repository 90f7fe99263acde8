/**
 * What it costs in bytes on PCI Express to hand work to a device: by storing whole descriptors to its registers, or by
 * ringing a doorbell and letting it fetch them by DMA. The model of Kalia, Kaminsky and Andersen, "Design Guidelines for
 * High Performance RDMA Systems" (USENIX ATC 2016): the sizes of the packets decide, and nothing else.
 */

/** What a link adds to its packets, and how it cuts them; all in bytes. */
export interface PcieLink {
  /** Start and end of a packet on the wire (physical layer). */
  readonly framing: number;
  /** Sequence number and check sum (data link layer): 2 and 4. */
  readonly linkLayer: number;
  /** Header of a read or write request with a 64-bit address (transaction layer). */
  readonly requestHeader: number;
  /** Header of the answer to a read. */
  readonly completionHeader: number;
  /** The most data that one answer carries. */
  readonly maxCompletion: number;
  /** The most that one read asks for. */
  readonly maxReadRequest: number;
}
/** How the CPU stores, and where descriptors begin; in bytes. */
export interface CpuSide {
  /** A write-combining buffer, which leaves as one write: a cache line. Descriptors are multiples of it, too. */
  readonly cacheLine: number;
  /** A doorbell's store. */
  readonly doorbell: number;
}

/** PCI Express 3.0 as in the paper, whose root complex answers with 128 bytes at a time. */
export const PCIE_3: PcieLink = {
  framing: 4,
  linkLayer: 6,
  requestHeader: 16,
  completionHeader: 12,
  maxCompletion: 128,
  maxReadRequest: 512,
};
/** An x86 server. */
export const X86_CPU: CpuSide = { cacheLine: 64, doorbell: 8 };

/** What one way of handing over costs. */
export interface HandOverCost {
  /** Stores that leave the CPU as packets. */
  readonly mmios: number;
  /** Reads that the device sends. */
  readonly reads: number;
  /** Answers to them. */
  readonly completions: number;
  readonly bytesToDevice: number;
  readonly bytesFromDevice: number;
}

/** What a request costs beyond its data. */
function requestOverhead({ framing, linkLayer, requestHeader }: PcieLink): number {
  return framing + linkLayer + requestHeader;
}
function completionOverhead({ framing, linkLayer, completionHeader }: PcieLink): number {
  return framing + linkLayer + completionHeader;
}
function check(count: number, sizeBytes: number): void {
  for (const [what, value] of [
    ['descriptors', count],
    ['bytes of a descriptor', sizeBytes],
  ] as const) {
    if (!Number.isInteger(value) || value < 1) throw new RangeError(`expected 1 or more ${what}, found ${value}`);
  }
}

/** Every descriptor of `sizeBytes` bytes is stored to the device line by line. Throws RangeError below 1. */
export function costByRegister(count: number, sizeBytes: number, link = PCIE_3, cpu = X86_CPU): HandOverCost {
  check(count, sizeBytes);
  const mmios = count * Math.ceil(sizeBytes / cpu.cacheLine);
  const bytesToDevice = mmios * (cpu.cacheLine + requestOverhead(link));
  return { mmios, reads: 0, completions: 0, bytesToDevice, bytesFromDevice: 0 };
}
/** The descriptors lie in memory, one behind the other; a doorbell is rung, and the device fetches them all. */
export function costByDescriptor(count: number, sizeBytes: number, link = PCIE_3, cpu = X86_CPU): HandOverCost {
  check(count, sizeBytes);
  const bytes = count * Math.ceil(sizeBytes / cpu.cacheLine) * cpu.cacheLine;
  const reads = Math.ceil(bytes / link.maxReadRequest);
  let completions = 0;
  for (let left = bytes; left > 0; left -= link.maxReadRequest) {
    completions += Math.ceil(Math.min(left, link.maxReadRequest) / link.maxCompletion);
  }
  const rung = cpu.doorbell + requestOverhead(link);
  return {
    mmios: 1,
    reads,
    completions,
    bytesToDevice: rung + bytes + completions * completionOverhead(link),
    bytesFromDevice: reads * requestOverhead(link),
  };
}
/**
 * The fewest descriptors from which on the doorbell sends fewer bytes to the device than storing them does; null when
 * that is never so below `limit`.
 */
export function doorbellPaysFrom(sizeBytes: number, link = PCIE_3, cpu = X86_CPU, limit = 1024): number | null {
  for (let count = 1; count < limit; count++) {
    const stored = costByRegister(count, sizeBytes, link, cpu).bytesToDevice;
    if (costByDescriptor(count, sizeBytes, link, cpu).bytesToDevice < stored) return count;
  }
  return null;
}
