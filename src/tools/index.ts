export { type DriverContext, type DriverDefinition, defineDriver } from './driver.ts';
