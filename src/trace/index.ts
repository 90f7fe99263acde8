/** Traces: the stream of events of a run, and its forms. */
export * from './events.ts';
export { registerDecoder } from './register-names.ts';
export type { RegisterDecoder } from './timeline.ts';
export { type TimelineOptions, TimelineWriter } from './timeline-writer.ts';
