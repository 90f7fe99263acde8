/**
 * Programs for the PL330: how a piece of a transfer becomes loops of bursts. A burst is as wide and as long as addresses,
 * bus and MFIFO allow.
 */
import { ffs } from '../base/index.ts';
import { DMA_DEV_TO_MEM, DMA_MEM_TO_DEV, DMA_MEM_TO_MEM, type DmaTransferDirection } from '../dmaengine/index.ts';
import { PL330 } from '../regs/pl330.ts';
import type { Pl330Assembler } from './pl330-asm.ts';

const { CCR } = PL330;

/** Room for one program; the longest one takes about 200 bytes. @linux MCODE_BUFF_PER_REQ */
export const PROGRAM_BYTES = 256;
/** Beats in a burst. @linux PL330_MAX_BURST */
export const MAX_BURST = 16;
/** Bursts in an iteration of the two nested loops of 256 each, and so in a program. */
const MAX_UNROLLED = 16;
const MAX_BURSTS = 256 * 256 * MAX_UNROLLED;
/** Bit 1 of AxPROT: a non-secure access. */
const NON_SECURE = 2;

/** What the controller's configuration registers say, and what the device tree does. */
export interface ProgramConfig {
  /** Width of the data bus. */
  readonly widthBytes: number;
  /** Beats of a full-width burst that fit a channel's share of the MFIFO. */
  readonly burstBeats: number;
  /** Revision r0p0 needs barriers between load and store. */
  readonly needsBarriers: boolean;
  /** DMAFLUSHP does not work (arm,pl330-broken-no-flushp). */
  readonly noFlushp: boolean;
  /** Peripherals only know bursts (arm,pl330-periph-burst). */
  readonly periphBurst: boolean;
  /** The manager is non-secure, and so are its channels. */
  readonly nonSecure: boolean;
}

/** One piece: what a program transfers before it signals its event. Addresses are bus addresses. */
export interface ProgramPiece {
  dir: DmaTransferDirection;
  src: number;
  dst: number;
  bytes: number;
  /** Request line, and unit of the peripheral's data register in bytes. */
  peripheral: number;
  width: number;
  /** Units in a burst. */
  burst: number;
}

/** The most bytes that one program moves from these addresses on; a multiple of what keeps them aligned. */
export function maxPieceBytes(config: ProgramConfig, piece: Readonly<ProgramPiece>): number {
  if (piece.dir !== DMA_MEM_TO_MEM) return MAX_BURSTS * piece.width * slaveBurst(config, piece);
  const size = copySize(config, piece.src, piece.dst);
  return MAX_BURSTS * size * (size === config.widthBytes ? config.burstBeats : 1);
}

/** Assemble the program of a piece, which signals `event` when all is done. */
export function assemble(
  asm: Pl330Assembler,
  config: ProgramConfig,
  piece: Readonly<ProgramPiece>,
  event: number,
): void {
  asm.DMAMOV('SAR', piece.src);
  asm.DMAMOV('DAR', piece.dst);
  if (piece.dir === DMA_MEM_TO_MEM) copy(asm, config, piece);
  else slave(asm, config, piece);
  asm.DMAWMB();
  asm.DMASEV(event);
  asm.DMAEND();
}

/** CCR: sizes in bytes a beat, beats a burst. */
function ccr(
  config: ProgramConfig,
  piece: Readonly<ProgramPiece>,
  srcSize: number,
  srcBeats: number,
  dstSize: number,
  dstBeats: number,
): number {
  const prot = config.nonSecure ? CCR.SRC_PROT_CTRL.prep(NON_SECURE) | CCR.DST_PROT_CTRL.prep(NON_SECURE) : 0;
  return (
    (piece.dir === DMA_DEV_TO_MEM ? 0 : CCR.SRC_INC.mask) |
    (piece.dir === DMA_MEM_TO_DEV ? 0 : CCR.DST_INC.mask) |
    CCR.SRC_BURST_SIZE.prep(ffs(srcSize)) |
    CCR.SRC_BURST_LEN.prep(srcBeats - 1) |
    CCR.DST_BURST_SIZE.prep(ffs(dstSize)) |
    CCR.DST_BURST_LEN.prep(dstBeats - 1) |
    prot
  );
}

// Memory to memory

/** The widest beat at which both addresses become aligned together. */
function copySize(config: ProgramConfig, src: number, dst: number): number {
  let size = config.widthBytes;
  while (src % size !== dst % size) size /= 2;
  return size;
}

/** Bytes up to the first aligned address; bursts; the beats and the bytes that are left. */
function copy(asm: Pl330Assembler, config: ProgramConfig, piece: Readonly<ProgramPiece>): void {
  const size = copySize(config, piece.src, piece.dst);
  const head = Math.min(piece.bytes, (size - (piece.src % size)) % size);
  const tail = (piece.bytes - head) % size;
  const body = (piece.bytes - head - tail) / size;
  // A narrow burst could straddle two entries of the MFIFO; one beat cannot.
  const beats = size === config.widthBytes ? config.burstBeats : 1;
  burst(asm, config, piece, 1, head);
  const bursts = Math.floor(body / beats);
  if (bursts > 0) {
    asm.DMAMOV('CCR', ccr(config, piece, size, beats, size, beats));
    loops(asm, config, piece, bursts, false);
  }
  burst(asm, config, piece, size, body % beats);
  burst(asm, config, piece, 1, tail);
}
/** One burst. */
function burst(
  asm: Pl330Assembler,
  config: ProgramConfig,
  piece: Readonly<ProgramPiece>,
  size: number,
  beats: number,
): void {
  if (beats === 0) return;
  asm.DMAMOV('CCR', ccr(config, piece, size, beats, size, beats));
  loadAndStore(asm, config, piece, false);
}

// Memory to peripheral and back

/** Units in a burst; one, where memory is less aligned than the peripheral's register is wide. */
function slaveBurst(config: ProgramConfig, piece: Readonly<ProgramPiece>): number {
  return memorySize(piece) < piece.width ? 1 : Math.min(piece.burst, MAX_BURST);
}
/** Bytes a beat on the side of memory. */
function memorySize(piece: Readonly<ProgramPiece>): number {
  let size = piece.width;
  const addr = piece.dir === DMA_DEV_TO_MEM ? piece.dst : piece.src;
  while (addr % size !== 0) size /= 2;
  return size;
}

function slave(asm: Pl330Assembler, config: ProgramConfig, piece: Readonly<ProgramPiece>): void {
  // Requests from before are of no meaning for this transfer.
  if (!config.noFlushp) asm.DMAFLUSHP(piece.peripheral);
  const units = piece.bytes / piece.width;
  const perBurst = slaveBurst(config, piece);
  const bursts = Math.floor(units / perBurst);
  const isBurst = perBurst > 1 || config.periphBurst;
  if (bursts > 0) {
    asm.DMAMOV('CCR', slaveCcr(config, piece, perBurst));
    loops(asm, config, piece, bursts, isBurst);
  }
  // What is left is less than a burst: no burst will be requested for it.
  const left = units % perBurst;
  if (left === 0) return;
  asm.DMAMOV('CCR', slaveCcr(config, piece, 1));
  loops(asm, config, piece, left, config.periphBurst);
}
function slaveCcr(config: ProgramConfig, piece: Readonly<ProgramPiece>, units: number): number {
  const size = memorySize(piece);
  const beats = (units * piece.width) / size;
  return piece.dir === DMA_DEV_TO_MEM
    ? ccr(config, piece, piece.width, units, size, beats)
    : ccr(config, piece, size, beats, piece.width, units);
}

// Loops

/** `bursts` times a load and a store, in nested loops; the inner one holds several when 256 * 256 are not enough. */
function loops(
  asm: Pl330Assembler,
  config: ProgramConfig,
  piece: Readonly<ProgramPiece>,
  bursts: number,
  isBurst: boolean,
): void {
  let left = bursts;
  while (left > 0) {
    const unrolled = Math.max(1, Math.min(MAX_UNROLLED, Math.floor(left / 0x1_0000)));
    const inner = Math.min(256, left);
    const outer = Math.max(1, Math.min(256, Math.floor(left / 256)));
    if (outer > 1) asm.DMALP(1, outer);
    const outerStart = asm.here;
    asm.DMALP(0, inner);
    const innerStart = asm.here;
    for (let i = 0; i < unrolled; i++) loadAndStore(asm, config, piece, isBurst);
    asm.DMALPEND(0, innerStart);
    if (outer > 1) asm.DMALPEND(1, outerStart);
    left -= unrolled * inner * outer;
  }
}
function loadAndStore(
  asm: Pl330Assembler,
  config: ProgramConfig,
  piece: Readonly<ProgramPiece>,
  isBurst: boolean,
): void {
  const condition = isBurst ? 'burst' : 'single';
  if (piece.dir !== DMA_MEM_TO_MEM) asm.DMAWFP(condition, piece.peripheral);
  if (piece.dir === DMA_DEV_TO_MEM) asm.DMALDP(condition, piece.peripheral);
  else asm.DMALD();
  if (config.needsBarriers) asm.DMARMB();
  if (piece.dir === DMA_MEM_TO_DEV) asm.DMASTP(condition, piece.peripheral);
  else asm.DMAST();
  if (config.needsBarriers) asm.DMAWMB();
}
