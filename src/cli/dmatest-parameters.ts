/** The parameters of the kernel's dmatest module as options: `--test-buf-size`, or as the module spells it. */
import { CliError } from './errors.ts';
import { flag, integer } from './values.ts';

/** A parameter: the module's name, what it takes, and what it means. */
export interface Parameter {
  readonly name: string;
  readonly kind: 'number' | 'switch' | 'text';
  readonly help: string;
  readonly low?: number;
  readonly high?: number;
}

const UINT_MAX = 0xffff_ffff;
const INT_MAX = 0x7fff_ffff;

/** In the order in which `--help` shows them. `channel` is an option of its own: it may be given more than once. */
export const parameters: readonly Parameter[] = [
  { name: 'iterations', kind: 'number', low: 0, high: UINT_MAX, help: 'transfers of each thread (default 1000)' },
  { name: 'test_buf_size', kind: 'number', low: 1, high: 4 << 20, help: 'size of the test buffers (default 16384)' },
  { name: 'threads_per_chan', kind: 'number', low: 1, high: 256, help: 'threads of each channel (default 1)' },
  { name: 'max_channels', kind: 'number', low: 0, high: UINT_MAX, help: 'channels at most (default 0: all)' },
  { name: 'dmatest', kind: 'number', low: 0, high: 1, help: 'what to test: 0 memcpy, 1 memset (default 0)' },
  { name: 'timeout', kind: 'number', low: -1, high: INT_MAX, help: 'of one transfer, in ms; -1 never (default 3000)' },
  { name: 'transfer_size', kind: 'number', low: 0, high: 4 << 20, help: 'of every transfer (default 0: random)' },
  { name: 'alignment', kind: 'number', low: -1, high: 31, help: 'of addresses and lengths, as a power of 2' },
  { name: 'xor_sources', kind: 'number', low: 1, high: 32, help: 'sources of an xor test (default 3)' },
  { name: 'pq_sources', kind: 'number', low: 1, high: 32, help: 'sources of a p+q test (default 3)' },
  { name: 'device', kind: 'text', help: 'only channels of this DMA controller, such as 3f007000.dma-controller' },
  { name: 'nobounce', kind: 'switch', help: 'take the buffers from ZONE_DMA' },
  { name: 'noverify', kind: 'switch', help: 'do not verify what was copied' },
  { name: 'norandom', kind: 'switch', help: 'no random offsets and lengths' },
  { name: 'polled', kind: 'switch', help: 'poll for completion, without interrupts' },
  { name: 'run', kind: 'switch', help: 'N: add the channels given with --channel, and start nothing' },
  { name: 'wait', kind: 'switch', help: 'N: do not wait for the threads, but end them at once' },
  { name: 'test_list', kind: 'switch', help: 'print which threads use which channels' },
];

/** `test_buf_size` is `--test-buf-size`. */
export function optionName(parameter: string): string {
  return `--${parameter.replaceAll('_', '-')}`;
}

/** `test_buf_size` is `testBufSize`, in the options that commander hands over and in dmatest's parameters. */
export function fieldName(parameter: string): string {
  return parameter.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
}

/** The parameters given on the command line, checked; absent ones keep the module's defaults. */
export function parseParameters(options: Record<string, unknown>): Record<string, number | boolean | string> {
  const given: Record<string, number | boolean | string> = {};
  for (const { name, kind, low = 0, high = UINT_MAX } of parameters) {
    const value = options[fieldName(name)] as string | boolean | undefined;
    if (value === undefined) continue;
    const option = optionName(name);
    const parsed =
      kind === 'switch'
        ? flag(option, value)
        : kind === 'text'
          ? shortText(option, String(value))
          : integer(option, String(value), low, high);
    if (parsed !== undefined) given[fieldName(name)] = parsed;
  }
  return given;
}

/** The module's buffer for a name, without the closing zero. */
const MOST_CHARS = 31;
function shortText(option: string, text: string): string {
  if (text.length <= MOST_CHARS) return text;
  throw new CliError(`${option}: expected at most ${MOST_CHARS} characters, found '${text}'`);
}

/** Options in the module's spelling (`--test_buf_size=64`) as commander knows them; arguments after `--` stay. */
export function kebabOptions(argv: readonly string[]): string[] {
  const end = argv.indexOf('--');
  return argv.map((arg, i) => {
    if (!arg.startsWith('--') || (end >= 0 && i >= end)) return arg;
    const [name = '', ...rest] = arg.split('=');
    return [name.replaceAll('_', '-'), ...rest].join('=');
  });
}
