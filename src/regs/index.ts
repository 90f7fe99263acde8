export * from './pl330.ts';
export * from './register-map.ts';
export * from './vtd.ts';
