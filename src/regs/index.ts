export * from './register-map.ts';
