/** Finds out what a worker is executing that does not come back, by its debugger interface. */
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
}

/** How long the debugger may take to answer. */
const ANSWER_MS = 3000;

/** The stack of the only worker that is running, innermost frame first; empty when it cannot be had. The worker goes on afterwards. */
export function stackOfWorker(): Promise<readonly Frame[]> {
  const session = new Session();
  session.connect();
  return new Promise((resolve) => {
    const scripts = new Map<string, string>();
    let worker = '';
    let id = 0;
    const send = (method: string, then: () => void = () => {}) => {
      const message = JSON.stringify({ id: ++id, method });
      session.post('NodeWorker.sendMessageToWorker', { sessionId: worker, message }, then);
    };
    const finish = (frames: readonly Frame[]) => {
      clearTimeout(timer);
      // A worker that stays paused can never be terminated.
      send('Debugger.disable', () =>
        session.post('NodeWorker.disable', () => {
          session.disconnect();
          resolve(frames);
        }),
      );
    };
    const timer = setTimeout(() => finish([]), ANSWER_MS);
    session.on('NodeWorker.attachedToWorker', ({ params }) => {
      // Threads of Node's own, which run module hooks, are none of ours.
      if (params.workerInfo.url.startsWith('node:')) return;
      worker = params.sessionId;
      send('Debugger.enable');
      send('Debugger.pause');
    });
    session.on('NodeWorker.receivedMessageFromWorker', ({ params }) => {
      const event = JSON.parse(params.message) as WorkerEvent;
      if (event.method === 'Debugger.scriptParsed') scripts.set(event.params.scriptId, event.params.url);
      if (event.method !== 'Debugger.paused') return;
      finish(
        event.params.callFrames.map(({ location }) => ({
          url: scripts.get(location.scriptId) ?? '',
          line: location.lineNumber + 1,
          column: location.columnNumber + 1,
        })),
      );
    });
    session.post('NodeWorker.enable', { waitForDebuggerOnStart: false });
  });
}
