import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DMA_DEV_TO_MEM, DMA_MEM_TO_DEV, DMA_MEM_TO_MEM } from '../dmaengine/index.ts';
import { Pl330Assembler } from './pl330-asm.ts';
import { assemble, maxPieceBytes, PROGRAM_BYTES, type ProgramConfig, type ProgramPiece } from './pl330-program.ts';

const CONFIG: ProgramConfig = {
  widthBytes: 8,
  burstBeats: 16,
  needsBarriers: false,
  noFlushp: false,
  periphBurst: false,
  nonSecure: false,
};
const PIECE: ProgramPiece = { dir: DMA_MEM_TO_MEM, src: 0, dst: 0, bytes: 0, peripheral: 0, width: 1, burst: 1 };

/** The program in words: each instruction that matters here, disassembled by hand from its TRM encoding. */
function program(piece: Partial<ProgramPiece>, config: Partial<ProgramConfig> = {}): string[] {
  const bytes = new Uint8Array(PROGRAM_BYTES);
  const asm = new Pl330Assembler();
  asm.begin(bytes, 0, PROGRAM_BYTES);
  assemble(asm, { ...CONFIG, ...config }, { ...PIECE, ...piece }, 3);
  const view = new DataView(bytes.buffer);
  const text: string[] = [];
  for (let at = 0; at < asm.here; ) {
    const opcode = bytes[at]!;
    const operand = bytes[at + 1]!;
    const [length, word] = ((): [number, string] => {
      if (opcode === 0xbc) return [6, `${['SAR', 'CCR', 'DAR'][operand]}=${view.getUint32(at + 2, true).toString(16)}`];
      const short = { 0: 'END', 4: 'LD', 8: 'ST', 18: 'RMB', 19: 'WMB' }[opcode];
      if (short !== undefined) return [1, short];
      if (opcode === 0x20 || opcode === 0x22) return [2, `LP${(opcode >> 1) & 1} ${operand + 1}`];
      if (opcode === 0x38 || opcode === 0x3c) return [2, `LPEND${(opcode >> 2) & 1} ${operand}`];
      const numbered = {
        52: 'SEV',
        53: 'FLUSHP',
        37: 'LDPS',
        39: 'LDPB',
        41: 'STPS',
        43: 'STPB',
        48: 'WFPS',
        50: 'WFPB',
      };
      return [2, `${numbered[opcode as keyof typeof numbered]} ${operand >> 3}`];
    })();
    text.push(word);
    at += length;
  }
  return text;
}
const END = ['WMB', 'SEV 3', 'END'];
// CCR: [0] src inc, [3:1] size, [7:4] length, [14] dst inc, [17:15] size, [21:18] length
const WIDE_16 = 'CCR=3dc0f7';
const BYTE = (beats: number): string => `CCR=${(0x4001 | ((beats - 1) << 4) | ((beats - 1) << 18)).toString(16)}`;

test('an aligned copy of 64 KiB is two loops of full bursts', () => {
  const expected = ['SAR=10000', 'DAR=20000', WIDE_16, 'LP1 2', 'LP0 256', 'LD', 'ST', 'LPEND0 2', 'LPEND1 6', ...END];
  assert.deepEqual(program({ src: 0x1_0000, dst: 0x2_0000, bytes: 65_536 }), expected);
});
test('a copy whose ends are not aligned has single bytes there, and bursts between', () => {
  const expected = [
    'SAR=1003',
    'DAR=200b',
    BYTE(5),
    'LD',
    'ST',
    WIDE_16,
    'LP0 7',
    'LD',
    'ST',
    'LPEND0 2',
    `CCR=${(0x4001 | (3 << 1) | (3 << 4) | (3 << 15) | (3 << 18)).toString(16)}`, // the four beats that are left
    'LD',
    'ST',
    BYTE(3),
    'LD',
    'ST',
    ...END,
  ];
  assert.deepEqual(program({ src: 0x1003, dst: 0x200b, bytes: 5 + 7 * 128 + 32 + 3 }), expected);
});
test('a copy between addresses that are never aligned together goes by single beats', () => {
  assert.deepEqual(program({ src: 0x1001, dst: 0x2002, bytes: 300 }).slice(2, -3), [
    BYTE(1),
    'LP0 256',
    'LD',
    'ST',
    'LPEND0 2',
    'LP0 44',
    'LD',
    'ST',
    'LPEND0 2',
  ]);
  // Halfwords: one byte first.
  const half = `CCR=${(0x4001 | (1 << 1) | (1 << 15)).toString(16)}`;
  assert.deepEqual(program({ src: 0x1001, dst: 0x2003, bytes: 5 }).slice(2, -3), [
    BYTE(1),
    'LD',
    'ST',
    half,
    'LP0 2',
    'LD',
    'ST',
    'LPEND0 2',
  ]);
});
test('the inner loop is unrolled for what 256 times 256 iterations do not hold', () => {
  const bursts = program({ src: 0, dst: 1 << 30, bytes: 128 * 65_536 * 3 }).slice(3, -3);
  assert.deepEqual(bursts, ['LP1 256', 'LP0 256', ...Array(3).fill(['LD', 'ST']).flat(), 'LPEND0 6', 'LPEND1 10']);
});
test('revision r0p0 gets its barriers', () => {
  assert.deepEqual(program({ bytes: 1 }, { needsBarriers: true }).slice(3), ['LD', 'RMB', 'ST', 'WMB', ...END]);
});
test('a non-secure controller makes non-secure accesses', () => {
  assert.equal(program({ bytes: 1 }, { nonSecure: true })[2], `CCR=${(0x4001 | (2 << 8) | (2 << 22)).toString(16)}`);
});
test('words to a peripheral wait for its bursts, and what is left for single requests', () => {
  const piece = {
    dir: DMA_MEM_TO_DEV,
    src: 0x1000,
    dst: 0x4000_0008,
    bytes: 4 * 18,
    peripheral: 2,
    width: 4,
    burst: 8,
  } as const;
  const ccr = (beats: number): string =>
    `CCR=${(1 | (2 << 1) | (2 << 15) | ((beats - 1) << 4) | ((beats - 1) << 18)).toString(16)}`;
  const loop = (n: number, s: string): string[] => [`LP0 ${n}`, `WFP${s} 2`, 'LD', `STP${s} 2`, 'LPEND0 5'];
  const body = [ccr(8), ...loop(2, 'B'), ccr(1), ...loop(2, 'S')];
  assert.deepEqual(program(piece).slice(2, -3), ['FLUSHP 2', ...body]);
  assert.deepEqual(program(piece, { noFlushp: true }).slice(2, -3), body);
});
test('from a peripheral to memory that is less aligned than its words, one word a request', () => {
  const piece = {
    dir: DMA_DEV_TO_MEM,
    src: 0x4000_0008,
    dst: 0x1002,
    bytes: 12,
    peripheral: 1,
    width: 4,
    burst: 4,
  } as const;
  const ccr = `CCR=${((2 << 1) | 0x4000 | (1 << 15) | (1 << 18)).toString(16)}`; // 1 word in, 2 halfwords out
  assert.deepEqual(program(piece).slice(2, -3), ['FLUSHP 1', ccr, 'LP0 3', 'WFPS 1', 'LDPS 1', 'ST', 'LPEND0 5']);
});
test('the longest programs of every kind fit their buffer', () => {
  for (const needsBarriers of [false, true]) {
    for (const piece of [
      { src: 3, dst: 3 },
      { src: 3, dst: 4 },
      { dir: DMA_MEM_TO_DEV, width: 4, burst: 7, src: 4, dst: 8 },
      { dir: DMA_DEV_TO_MEM, width: 4, burst: 16, src: 8, dst: 2 },
    ] as const) {
      const config = { ...CONFIG, needsBarriers };
      const most = maxPieceBytes(config, { ...PIECE, ...piece });
      const unit = 'width' in piece && piece.width !== undefined ? piece.width : 1;
      for (const bytes of [most, most - unit, most - 1001 * unit]) {
        assert.equal(program({ ...piece, bytes }, config).at(-1), 'END');
      }
    }
  }
});
