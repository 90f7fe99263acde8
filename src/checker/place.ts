/**
 * Where in a driver's source something was called. The stack is taken when it happens and read only when a finding
 * needs it: taking it is cheap, turning it into text (through source maps) is not.
 */

/** A place in somebody's source. */
export interface Place {
  /** As the runtime names it: a path, without `file://`. */
  readonly file: string;
  /** From 1. */
  readonly line: number;
  /** From 1. */
  readonly column: number;
  /** The function, or '' at top level. */
  readonly fn: string;
}

/** A stack that was taken. */
export interface Trace {
  readonly stack?: string | undefined;
}

interface V8ErrorConstructor {
  captureStackTrace?(holder: object, above?: unknown): void;
  stackTraceLimit?: number;
}
const V8Error = Error as unknown as V8ErrorConstructor;

/** Deep enough to pass dmakit's own frames, shallow enough to be cheap. */
const DEPTH = 16;

/** Take the stack of the caller of `above`. */
export function takeTrace(above: unknown): Trace {
  if (V8Error.captureStackTrace === undefined) return new Error();
  const limit = V8Error.stackTraceLimit;
  V8Error.stackTraceLimit = DEPTH;
  const holder: Trace = {};
  V8Error.captureStackTrace(holder, above);
  V8Error.stackTraceLimit = limit ?? 10;
  return holder;
}

// Chromium and Node: "    at async name (file:line:column)" or "    at file:line:column"; Firefox and Safari:
// "name@file:line:column".
const V8_FRAME =
  /^\s*at (?:async )?(?:(.*?) \()?((?:file:\/\/|[A-Za-z]:[\\/]|\/|https?:|webpack:|[\w.-]+\/).*?):(\d+):(\d+)\)?$/;
const OTHER_FRAME = /^(.*?)@(.*?):(\d+):(\d+)$/;

/** All frames of a stack's text that lie in files, innermost first. */
export function parseStack(stack: string): Place[] {
  const places: Place[] = [];
  for (const text of stack.split('\n')) {
    const match = V8_FRAME.exec(text) ?? OTHER_FRAME.exec(text);
    if (match === null) continue;
    const [, fn = '', file = '', line = '0', column = '0'] = match;
    places.push({ file: plainPath(file), line: Number(line), column: Number(column), fn: fn.replace(/^new /, '') });
  }
  return places;
}

function plainPath(file: string): string {
  if (!file.startsWith('file://')) return file;
  const path = file.slice('file://'.length).replace(/\?.*$/, '');
  return path.includes('%') ? decodeURIComponent(path) : path;
}

/** The folder above this one: src/ or dist/. The language alone does not know that a module has an address. */
const HOUSE = plainPath((import.meta as { url?: string }).url ?? '').replace(/checker\/[^/]*$/, '');
/** What stands between a driver and the checker. `drivers` is no part of it: a driver's call is a place there too. */
const INFRASTRUCTURE = /^(base|machine|hw|kernel|mapping|iommu|dmaengine|dmabuf|checker|trace)\//;

/** Whether a file is a part of dmakit that drivers call, not a driver, a test or a user's file. */
export function isInfrastructure(file: string): boolean {
  if (file.startsWith('node:')) return true;
  if (!file.startsWith(HOUSE)) return false;
  const inside = file.slice(HOUSE.length);
  return INFRASTRUCTURE.test(inside) && !/\.(test|cases)\.[jt]s$/.test(inside);
}

/** The innermost frame that is a driver's; null when the stack has none (called from hardware time, or none was taken). */
export function placeOf(trace: Trace | null): Place | null {
  if (trace?.stack === undefined) return null;
  return parseStack(trace.stack).find((place) => !isInfrastructure(place.file)) ?? null;
}
/** The place of the caller that is a driver's. */
export function placeHere(above: unknown): Place | null {
  return placeOf(takeTrace(above));
}

/** A place written as the kernel's reports have it, `path:line`; null for anything else. */
export function placeFromText(text: string): Place | null {
  const match = /^(.+):(\d+)$/.exec(text);
  return match === null ? null : { file: match[1]!, line: Number(match[2]), column: 1, fn: '' };
}

/** For people: `demo.ts:23 (startTransfer)`, the path relative to `root` where it lies below it. */
export function formatPlace(place: Place | null, root = ''): string {
  if (place === null) return 'an unknown place';
  const fn = place.fn === '' || place.fn === '<anonymous>' ? '' : ` (${place.fn})`;
  return `${relativePath(place.file, root)}:${place.line}${fn}`;
}
/** The path below `root`, with forward slashes; the path itself when it lies elsewhere. */
export function relativePath(file: string, root: string): string {
  const path = file.replaceAll('\\', '/');
  const base = root === '' || root.endsWith('/') ? root : `${root}/`;
  return base !== '' && path.startsWith(base) ? path.slice(base.length) : path;
}
/** Whether a place lies in one of dmakit's own drivers. */
export function isHouseDriver(place: Place | null): boolean {
  return place?.file.startsWith(`${HOUSE}drivers/`) ?? false;
}
