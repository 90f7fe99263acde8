/** The stream of events (schema `dmakit/events/1`), its source in a run, and its form for people. */
export {
  attachEventStream,
  type DmakitEvent,
  EVENT_SCHEMA,
  type EventSink,
  type EventSource,
  eventLine,
} from '../checker/index.ts';
export { formatTimeline } from './timeline.ts';
