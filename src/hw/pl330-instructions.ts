/** What the PL330's fetch and arbitration know of an instruction before it is executed, by its first byte (TRM 4.2, 4.3). */
import { PL330_OP as OP } from '../regs/pl330.ts';

/** Length in bytes; 0: no such instruction. */
export const LENGTH = new Uint8Array(256);
/** Others see what it does: it is not done while earlier data is still on its way. */
export const VISIBLE = new Uint8Array(256);
/** Between a store and an event it changes nothing: the store may still be on its way while it is executed. */
export const PASSES = new Uint8Array(256);
/** The manager may execute it; DMAGO is for no other. */
export const MANAGER = new Uint8Array(256);
/** It may be given by the debug registers. */
export const DEBUG = new Uint8Array(256);

function define(length: number, opcodes: readonly number[], ...flags: Uint8Array[]): void {
  for (const opcode of opcodes) {
    LENGTH[opcode] = length;
    for (const flag of flags) flag[opcode] = 1;
  }
}
define(1, [OP.DMAEND], VISIBLE, MANAGER, PASSES);
define(1, [OP.DMAKILL], VISIBLE, MANAGER, DEBUG);
define(1, [OP.DMALD, OP.DMALD | 1, OP.DMALD | 2, OP.DMALD | 3, OP.DMAST, OP.DMAST | 1, OP.DMAST | 2, OP.DMAST | 3]);
define(1, [OP.DMASTZ, OP.DMAWMB]);
define(1, [OP.DMARMB], PASSES);
define(1, [OP.DMANOP], MANAGER, PASSES);
define(2, [OP.DMALP, OP.DMALP | 2]);
for (let low = 0; low < 8; low++) define(2, [OP.DMALPEND | low, OP.DMALPEND | 0x10 | low], PASSES);
define(2, [OP.DMALDP, OP.DMALDP | 2, OP.DMASTP, OP.DMASTP | 2, OP.DMAFLUSHP], VISIBLE);
define(2, [OP.DMAWFP, OP.DMAWFP | 1, OP.DMAWFP | 2, OP.DMAWFP | 3], VISIBLE);
define(2, [OP.DMASEV], VISIBLE, MANAGER, DEBUG, PASSES);
define(2, [OP.DMAWFE], VISIBLE, MANAGER);
define(3, [OP.DMAADDH, OP.DMAADDH | 2, OP.DMAADNH, OP.DMAADNH | 2]);
define(6, [OP.DMAGO, OP.DMAGO | 2], VISIBLE, MANAGER, DEBUG);
define(6, [OP.DMAMOV]);
