/** The parameters of the dmatest module, as /sys/module/dmatest/parameters shows and takes them. */
import { EINVAL, type Errno, OK } from '../base/index.ts';

/** What one run is to do; names as the module's, in camelCase. */
export interface DmatestParams {
  /** Alignment of offsets and lengths as a power of two; -1: the device's. @linux dmatest.alignment */
  alignment: number;
  /** Name of the channel, `dma0chan0`; '' is any. @linux dmatest.channel */
  channel: string;
  /** Name of the DMA controller's device; '' is any. @linux dmatest.device */
  device: string;
  /** 0 copies, 1 fills. */
  dmatest: number;
  /** Transfers of each thread; 0 is without end. @linux dmatest.iterations */
  iterations: number;
  /** How many channels at most; 0 is all. @linux dmatest.max_channels */
  maxChannels: number;
  /** Take buffers from ZONE_DMA, so that nothing bounces. */
  nobounce: boolean;
  /** No random offsets and lengths: always the whole buffer, or `transferSize` from its start. @linux dmatest.norandom */
  norandom: boolean;
  /** Neither fill the buffers nor verify them. @linux dmatest.noverify */
  noverify: boolean;
  /** Poll for completion instead of waiting for the callback. @linux dmatest.polled */
  polled: boolean;
  /** @linux dmatest.pq_sources */
  pqSources: number;
  /** Size of the buffers in bytes. @linux dmatest.test_buf_size */
  testBufSize: number;
  /** @linux dmatest.threads_per_chan */
  threadsPerChan: number;
  /** Of one transfer, in milliseconds; -1 is never. @linux dmatest.timeout */
  timeout: number;
  /** Length of every transfer in bytes; 0 is random. @linux dmatest.transfer_size */
  transferSize: number;
  /** Print a line for each test that passed, too. @linux dmatest.verbose */
  verbose: boolean;
  /** @linux dmatest.xor_sources */
  xorSources: number;
}

/** The module's defaults. */
export function dmatestDefaults(): DmatestParams {
  return {
    alignment: -1,
    channel: '',
    device: '',
    dmatest: 0,
    iterations: 0,
    maxChannels: 0,
    nobounce: false,
    norandom: false,
    noverify: false,
    polled: false,
    pqSources: 3,
    testBufSize: 16384,
    threadsPerChan: 1,
    timeout: 3000,
    transferSize: 0,
    verbose: false,
    xorSources: 3,
  };
}

/** Kinds as module_param has them: `timeout` is an int behind a uint. */
type Kind = 'uint' | 'int' | 'bool' | 'string';
const kinds: Record<keyof DmatestParams, Kind> = {
  alignment: 'int',
  channel: 'string',
  device: 'string',
  dmatest: 'uint',
  iterations: 'uint',
  maxChannels: 'uint',
  nobounce: 'bool',
  norandom: 'bool',
  noverify: 'bool',
  polled: 'bool',
  pqSources: 'uint',
  testBufSize: 'uint',
  threadsPerChan: 'uint',
  timeout: 'int',
  transferSize: 'uint',
  verbose: 'bool',
  xorSources: 'uint',
};
const moduleName = (field: string): string => field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
const fields = new Map(Object.keys(kinds).map((field) => [moduleName(field), field as keyof DmatestParams]));

/** Sizes of the module's string buffers, the closing zero included. */
const CHANNEL_SIZE = 20;
const DEVICE_SIZE = 32;

/** Every parameter by the module's name, those that only act (`run`, `wait`, `test_list`) included. */
export const dmatestParameterNames: readonly string[] = [...fields.keys(), 'run', 'test_list', 'wait'].sort();

/** A truth value as the kernel reads one (`1`, `y`, `on` …), or null. @linux kstrtobool */
export function kstrtobool(text: string): boolean | null {
  if (/^[yYtT1]/.test(text) || /^[oO][nN]/.test(text)) return true;
  if (/^[nNfF0]/.test(text) || /^[oO][fF]/.test(text)) return false;
  return null;
}

function parseInteger(text: string, signed: boolean): number | null {
  const match = /^([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)\n?$/.exec(text);
  if (match === null) return null;
  const digits = match[2]!;
  const magnitude = /^0[0-7]/.test(digits) ? Number.parseInt(digits, 8) : Number(digits);
  const value = match[1] === '-' ? -magnitude : magnitude;
  const [low, high] = signed ? [-0x8000_0000, 0x7fff_ffff] : [0, 0xffff_ffff];
  return value >= low && value <= high ? value + 0 : null;
}

/** Set a parameter by the module's name from text, as a write to sysfs does. -EINVAL when it is not understood. */
export function setDmatestParam(params: DmatestParams, name: string, text: string): Errno {
  const field = fields.get(name);
  if (field === undefined) return EINVAL;
  const target = params as unknown as Record<string, number | boolean | string>;
  switch (kinds[field]) {
    case 'string':
      if (text.length >= (field === 'channel' ? CHANNEL_SIZE : DEVICE_SIZE)) return EINVAL;
      target[field] = text.trim();
      return OK;
    case 'bool': {
      const value = kstrtobool(text);
      if (value === null) return EINVAL;
      target[field] = value;
      return OK;
    }
    default: {
      const value = parseInteger(text, kinds[field] === 'int');
      if (value === null) return EINVAL;
      target[field] = value;
      return OK;
    }
  }
}

/** A parameter as sysfs shows it; null for those that are no plain value. */
export function showDmatestParam(params: DmatestParams, name: string): string | null {
  const field = fields.get(name);
  if (field === undefined) return null;
  const value = params[field];
  return typeof value === 'boolean' ? (value ? 'Y' : 'N') : String(value);
}

/**
 * Parse module parameters as they stand behind `modprobe dmatest`: `iterations=1000 noverify=1 channel=dma0chan2`. Throws
 * when one is unknown or its value not understood.
 */
export function parseDmatestParams(text: string): Partial<DmatestParams> {
  const params = dmatestDefaults();
  const given: Partial<Record<string, unknown>> = {};
  for (const word of text.split(/\s+/).filter((part) => part !== '')) {
    const [name = '', ...rest] = word.split('=');
    const field = fields.get(name);
    if (field === undefined) {
      throw new Error(
        `dmatest parameters: unknown parameter '${name}', expected one of ${[...fields.keys()].join(', ')}`,
      );
    }
    // A bool without a value is set, as in the kernel's command line.
    const value = rest.length === 0 && kinds[field] === 'bool' ? 'y' : rest.join('=');
    if (setDmatestParam(params, name, value) !== OK) {
      const article = kinds[field] === 'string' ? 'a shorter string' : `a value of type ${kinds[field]}`;
      throw new Error(`dmatest parameters: '${name}' expects ${article}, found '${value}'`);
    }
    given[field] = params[field];
  }
  return given as Partial<DmatestParams>;
}
