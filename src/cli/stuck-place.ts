/** Asks a worker that does not come back what it is executing, by its debugger interface. */
import { Session } from 'node:inspector';

/** A frame of the worker's stack; line and column from 1, of the script as it is loaded. */
export interface Frame {
  readonly url: string;
  readonly line: number;
  readonly column: number;
}

interface WorkerEvent {
  readonly method?: string;
  readonly params: {
    readonly scriptId: string;
    readonly url: string;
    readonly callFrames: readonly { location: { scriptId: string; lineNumber: number; columnNumber: number } }[];
  };
  /** Of an answer to a request. */
  readonly id?: number;
}

/** What is wanted of the worker. */
export interface WorkerQuestion {
  /** Call this global function of its, whatever it is executing. */
  readonly call?: string;
  /** Its stack is wanted. */
  readonly stack?: boolean;
  /** Give up after this time. */
  readonly withinMs?: number;
}

/** How long the debugger may take to answer. */
const ANSWER_MS = 3000;

/**
 * Ask the only worker that is running. Returns its stack, innermost frame first; empty when it is not wanted or cannot be
 * had. The worker goes on afterwards.
 */
export function askWorker(question: WorkerQuestion): Promise<readonly Frame[]> {
  return new Promise((resolve) => new Interview(question, resolve).begin());
}

class Interview {
  readonly #question: WorkerQuestion;
  readonly #resolve: (frames: readonly Frame[]) => void;
  readonly #session = new Session();
  readonly #scripts = new Map<string, string>();
  #worker = '';
  #id = 0;
  #callId = -1;
  #frames: readonly Frame[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(question: WorkerQuestion, resolve: (frames: readonly Frame[]) => void) {
    this.#question = question;
    this.#resolve = resolve;
  }

  begin(): void {
    const session = this.#session;
    session.connect();
    this.#timer = setTimeout(() => this.#finish(), this.#question.withinMs ?? ANSWER_MS);
    session.on('NodeWorker.attachedToWorker', ({ params }) => {
      // Threads of Node's own, which run module hooks, are none of ours.
      if (params.workerInfo.url.startsWith('node:')) return;
      this.#worker = params.sessionId;
      if (this.#question.stack === true) {
        this.#send('Debugger.enable');
        this.#send('Debugger.pause');
      } else this.#call();
    });
    session.on('NodeWorker.receivedMessageFromWorker', ({ params }) => {
      if (params.sessionId === this.#worker) this.#hear(JSON.parse(params.message) as WorkerEvent);
    });
    session.post('NodeWorker.enable', { waitForDebuggerOnStart: false });
  }

  #send(method: string, params: object = {}, then: () => void = () => {}): number {
    const id = ++this.#id;
    const message = JSON.stringify({ id, method, params });
    this.#session.post('NodeWorker.sendMessageToWorker', { sessionId: this.#worker, message }, then);
    return id;
  }

  #hear(event: WorkerEvent): void {
    if (event.method === 'Debugger.scriptParsed') this.#scripts.set(event.params.scriptId, event.params.url);
    else if (event.id === this.#callId) this.#finish();
    else if (event.method === 'Debugger.paused') {
      this.#frames = event.params.callFrames.map(({ location }) => ({
        url: this.#scripts.get(location.scriptId) ?? '',
        line: location.lineNumber + 1,
        column: location.columnNumber + 1,
      }));
      this.#call();
    }
  }

  #call(): void {
    const { call } = this.#question;
    if (call === undefined) this.#finish();
    else this.#callId = this.#send('Runtime.evaluate', { expression: `globalThis.${call}?.()` });
  }

  #finish(): void {
    if (this.#timer === undefined) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const end = () =>
      this.#session.post('NodeWorker.disable', () => {
        this.#session.disconnect();
        this.#resolve(this.#frames);
      });
    // A worker that stays paused can never be terminated.
    if (this.#worker === '') end();
    else this.#send('Debugger.disable', {}, end);
  }
}
