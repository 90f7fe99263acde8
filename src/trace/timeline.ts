/** Events for people: time, context, who, what, in columns. */
import { hexAddr } from '../base/addr.ts';
import type { DmakitEvent } from '../checker/index.ts';

/** Words for a register access, or null where no table is known for the address. See register-names.ts. */
export type RegisterDecoder = (addr: number, value: number, isWrite: boolean) => { who: string; what: string } | null;

const TIME_WIDTH = 13;
const CONTEXT_WIDTH = 23;
const WHO_WIDTH = 26;
const DIRECTIONS = ['bidirectional', 'to-device', 'from-device', 'none'] as const;
const RESULTS = ['no error', 'read failed', 'write failed', 'aborted'] as const;
const STATUSES = ['', 'decode error', 'translation fault', 'slave error'] as const;

/** One event as a line of the timeline, without line break. */
export function formatTimeline(event: DmakitEvent, decode: RegisterDecoder | null = null): string {
  if (event.ev === 'header') {
    const mode = event.mode === '' ? '' : `, mode ${event.mode}`;
    return `# ${event.board}${mode}, seed ${event.seed}\n${timelineLine('time (µs)', 'context', 'who', 'what')}`;
  }
  const { who, what } = describeEvent(event, decode);
  return timelineLine(timeText(event.t), contextText(event.ctx, event.task), who, what);
}

/** @internal A line of its parts. */
export function timelineLine(time: string, context: string, who: string, what: string): string {
  return `${time.padStart(TIME_WIDTH)}  ${column(context, CONTEXT_WIDTH)}  ${column(who, WHO_WIDTH)}  ${what}`.trimEnd();
}
function column(text: string, width: number): string {
  return text.length > width ? `${text.slice(0, width - 1)}…` : text.padEnd(width);
}
/** @internal Nanoseconds as microseconds with three places. */
export function timeText(ns: number): string {
  const whole = Math.floor(ns / 1000);
  return `${whole}.${String(Math.floor(ns - whole * 1000)).padStart(3, '0')}`;
}
/** @internal `process main`, `softirq`, `hardware`. */
export function contextText(ctx: string, task: string): string {
  return ctx === 'process' && task !== '' ? `process ${task}` : ctx;
}

type Body = Exclude<DmakitEvent, { ev: 'header' }>;
const bytes = (n: number) => `${n} ${n === 1 ? 'byte' : 'bytes'}`;
const place = (addr: number) => (addr < 0 ? 'DMA_MAPPING_ERROR' : hexAddr(addr));
const direction = (dir: number) => DIRECTIONS[dir] ?? `direction ${dir}`;

/** @internal Who did what. */
export function describeEvent(event: Body, decode: RegisterDecoder | null): { who: string; what: string } {
  switch (event.ev) {
    case 'bus_read':
    case 'bus_write':
      return { who: event.dev, what: busText(event.ev, event.size, event.addr, event.phys, event.status) };
    case 'reg_read':
    case 'reg_write':
      return registerText(event.addr, event.width, event.value, event.ev === 'reg_write', decode);
    case 'irq':
      return { who: 'interrupts', what: `irq ${event.line}` };
    case 'cache':
      return { who: 'cache', what: `${event.op} ${bytes(event.size)} at ${hexAddr(event.phys)}` };
    case 'barrier':
      return { who: 'cpu', what: event.kind };
    case 'enter':
      return { who: event.what, what: 'begins' };
    case 'leave':
      return { who: event.what, what: 'ends' };
    case 'log':
      return { who: 'kernel log', what: event.text };
    case 'splat':
      return { who: 'kernel', what: event.message };
    case 'kalloc':
      return { who: event.allocator, what: `allocate ${bytes(event.size)} at ${hexAddr(event.phys)}` };
    case 'kfree':
      return { who: event.allocator, what: `free ${bytes(event.size)} at ${hexAddr(event.phys)}` };
    case 'bound':
      return { who: event.dev, what: `bound to driver ${event.driver}` };
    case 'unbound':
      return { who: event.dev, what: `driver ${event.driver} unbound` };
    default:
      return 'chan' in event
        ? { who: event.chan, what: engineText(event) }
        : { who: event.dev, what: mappingText(event) };
  }
}

/** @internal */
export function busText(
  ev: 'bus_read' | 'bus_write',
  size: number,
  addr: number,
  phys: number,
  status: number,
): string {
  const verb = ev === 'bus_read' ? 'reads' : 'writes';
  const failed = status === 0 ? '' : ` → ${STATUSES[status] ?? status}`;
  const where = phys >= 0 && phys !== addr ? ` (physical ${hexAddr(phys)})` : '';
  return `${verb} ${bytes(size)} at ${hexAddr(addr)}${where}${failed}`;
}

/** Without a table: the bits as they are. */
function registerText(addr: number, width: number, value: number, isWrite: boolean, decode: RegisterDecoder | null) {
  const known = decode?.(addr, value, isWrite) ?? null;
  const verb = isWrite ? 'write' : 'read';
  if (known !== null) return { who: known.who, what: `${verb} ${known.what}` };
  return { who: 'registers', what: `${verb} ${width * 8} bits at ${hexAddr(addr)}: ${hexAddr(value)}` };
}

function engineText(event: Extract<Body, { chan: string }>): string {
  switch (event.ev) {
    case 'chan_request':
      return `requested${event.client === '' ? '' : ` by ${event.client}`} (${event.dev})`;
    case 'chan_release':
      return 'released';
    case 'chan_config':
      return 'slave config';
    case 'prep': {
      const from = event.src < 0 ? '' : ` ${hexAddr(event.src)}`;
      const to = event.dst < 0 ? '' : `→${hexAddr(event.dst)}`;
      const ends = from !== '' && to !== '' ? `${from}${to}` : to !== '' ? ` ${to}` : from === '' ? '' : `${from}→`;
      return `prep ${event.kind} ${bytes(event.size)}${ends}${event.ok ? '' : ', refused'}`;
    }
    case 'submit':
      return event.cookie < 0 ? `submit, refused with ${event.cookie}` : `submit, cookie ${event.cookie}`;
    case 'complete':
      return `complete, cookie ${event.cookie}`;
    case 'callback':
      return `callback, ${RESULTS[event.result] ?? `result ${event.result}`}`;
    case 'issue_pending':
      return 'issue pending';
    default:
      return event.ev;
  }
}

function mappingText(
  event: Exclude<
    Extract<Body, { dev: string }>,
    { chan: string } | { ev: 'bus_read' | 'bus_write' | 'bound' | 'unbound' }
  >,
): string {
  switch (event.ev) {
    case 'map':
      return `map ${event.kind} ${bytes(event.size)} ${direction(event.dir)} at ${place(event.addr)}`;
    case 'unmap':
      return `unmap ${event.kind} ${bytes(event.size)} ${direction(event.dir)} at ${place(event.addr)}`;
    case 'map_sg': {
      const total = event.segments.reduce((sum, [, size]) => sum + size, 0);
      const first = event.segments[0];
      const where =
        first === undefined ? ', failed' : `, ${bytes(total)} in ${event.mapped} segments from ${hexAddr(first[0])}`;
      return `map sg ${event.nents} entries ${direction(event.dir)}${where}`;
    }
    case 'unmap_sg':
      return `unmap sg ${event.nents} entries ${direction(event.dir)} from ${place(event.addr)}`;
    case 'sync':
      return `sync for ${event.for} ${bytes(event.size)} ${direction(event.dir)} at ${place(event.addr)}`;
    case 'sync_sg':
      return `sync sg for ${event.for} ${event.nents} entries ${direction(event.dir)} from ${place(event.addr)}`;
    case 'alloc':
      return `alloc ${event.kind} ${bytes(event.size)} at ${place(event.addr)}`;
    case 'free':
      return `free ${event.kind} ${bytes(event.size)} at ${place(event.addr)}`;
    case 'mapping_error':
      return `mapping error? ${event.addr < 0 ? 'yes' : 'no'} (${place(event.addr)})`;
  }
}
