/** A bare machine for models of PCI functions: configuration accesses, registers, interrupts counted by line. */
import { physAddr } from '../base/index.ts';
import { type MsiVector, SimMachine } from '../machine/index.ts';
import { MSI, PCI } from '../regs/pci.ts';

const MIB = 2 ** 20;
export const BDF = 0x80;
export const MSI_BASE = 0xfee0_0000;

/** One function at 00:10.0 of a coherent machine with 16 MiB from address 0. */
export class PciRig {
  readonly machine = new SimMachine({
    name: 'pci',
    coherent: true,
    seed: 1,
    msiBase: MSI_BASE,
    ram: [{ base: 0, sizeBytes: 16 * MIB }],
  });
  /** Interrupts by line. */
  readonly interrupts = new Map<number, number>();
  /** Called with each interrupt, to lower a pin. */
  onInterrupt: (line: number) => void = () => {};

  constructor() {
    this.machine.setIrqHandler((line) => {
      this.interrupts.set(line, (this.interrupts.get(line) ?? 0) + 1);
      this.onInterrupt(line);
    });
    this.machine.setInterruptsEnabled(true);
  }
  get memory(): Uint8Array {
    return this.machine.ram[0]!.memory;
  }
  read(offset: number, width: 1 | 2 | 4 = 4): number {
    return this.machine.pciConfigRead(BDF, offset, width);
  }
  write(offset: number, width: 1 | 2 | 4, value: number): void {
    this.machine.pciConfigWrite(BDF, offset, width, value);
  }
  command(...bits: readonly { readonly mask: number }[]): void {
    this.write(
      PCI.COMMAND.offset,
      2,
      bits.reduce((sum, { mask }) => sum | mask, 0),
    );
  }
  readl(addr: number): number {
    return this.machine.read32(physAddr(addr));
  }
  writel(addr: number, value: number): void {
    this.machine.write32(physAddr(addr), value);
  }
  /** Let time pass. */
  pass(ns: number): void {
    this.machine.delay(ns);
  }
  /** Set up the function's message, behind the header. */
  enableMsi(): MsiVector {
    const vector = this.machine.allocateMsi();
    const at = PCI.sizeBytes;
    this.write(at + MSI.ADDRESS_LO.offset, 4, vector.address);
    this.write(at + MSI.ADDRESS_HI.offset, 4, 0);
    this.write(at + MSI.DATA.offset, 2, vector.data);
    this.write(at + MSI.CONTROL.offset, 2, MSI.CONTROL.ENABLE.mask);
    this.machine.enableIrqLine(vector.line);
    return vector;
  }
}
