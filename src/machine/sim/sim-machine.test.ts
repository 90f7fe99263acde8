import { addrAdd, physAddr } from '../../base/addr.ts';
import { type MachineUnderTest, machineCases } from '../machine.cases.ts';
import type { SimMachineOptions } from './options.ts';
import { ACK, DST, GO, makeRig, RAM_BASE, RIG_LINE, reg, SCRATCH, SRC } from './rig.cases.ts';

function under(options: Partial<SimMachineOptions>): MachineUnderTest {
  const { machine } = makeRig(options);
  return {
    machine,
    scratchRam: addrAdd(RAM_BASE, 0x1_0000),
    scratchRegister: reg(SCRATCH),
    hole: physAddr(0x7000_0000),
    copier: {
      line: RIG_LINE,
      start(dst, src, sizeBytes) {
        machine.write32(reg(SRC), src);
        machine.write32(reg(DST), dst);
        machine.write32(reg(GO), sizeBytes);
      },
      acknowledge: () => machine.write32(reg(ACK), 1),
    },
    close: () => {},
  };
}

machineCases('coherent', () => under({ coherent: true, cacheLineBytes: 64 }));
machineCases('non-coherent', () => under({ cacheLineBytes: 32 }));
machineCases('non-coherent, weakly ordered', () => under({ cacheLineBytes: 64, weaklyOrdered: true, seed: 7 }));
machineCases('coherent, weakly ordered', () => under({ coherent: true, weaklyOrdered: true, seed: 9 }));
