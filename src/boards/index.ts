import { armVirt } from './arm-virt.ts';
import type { Board } from './board.ts';
import { q35 } from './q35.ts';
import { rpi3 } from './rpi3.ts';
import { zynqA9 } from './zynq-a9.ts';

export {
  type Board,
  type BoardDefinition,
  type BootObservers,
  type BootOptions,
  checkBoard,
  defineBoard,
  type RamLayout,
  type RamRange,
  type StartConfig,
} from './board.ts';
export { type BoardDescription, describeBoard } from './describe.ts';
export {
  type IommuSetting,
  type Mode,
  type ModeTerm,
  modeTermDescription,
  modeTerms,
  modeTermUsage,
  parseMode,
} from './mode.ts';
export { System, type Teardown } from './system.ts';

/** Every board, in the order in which they are shown. Adding one is one file, and one line here. */
export { armVirt, q35, rpi3, zynqA9 };
export const boards: readonly Board[] = [zynqA9, rpi3, q35, armVirt];
/** Those with a DMA engine whose channels dmatest and others can use. */
export const boardsWithChannels: readonly Board[] = boards.filter(({ hasChannels }) => hasChannels !== false);

/** The board of a name. Throws an Error that lists the known ones. */
export function boardByName(name: string): Board {
  const board = boards.find((candidate) => candidate.name === name);
  if (board !== undefined) return board;
  throw new Error(`board '${name}' is unknown; known are ${boards.map((known) => known.name).join(', ')}`);
}
