/** Reports of the mapping layer, worded and rate-limited as the kernel does. */
import { hexAddr } from '../base/addr.ts';
import { type Device, devDriverString, devErr } from '../kernel/device.ts';
import { dmaDirectionName } from '../kernel/dma-direction.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { bugOn, splat } from '../kernel/panic.ts';

const KEY = {};

/** Whether a place in the source reports for the first time in this kernel's life. */
function firstAt(kernel: Kernel, site: string): boolean {
  const seen = kernel.subsystem(KEY, () => new Set<string>());
  if (seen.has(site)) return false;
  seen.add(site);
  return true;
}
/** A warning with stack, once for each `site`; the text names the device. @linux dev_WARN_ONCE */
export function devWarnOnce(dev: Device, site: string, text: string): void {
  if (!firstAt(dev.kernel, site)) return;
  const owner = devDriverString(dev);
  splat(dev.kernel, 'warn', `${owner === '' ? '' : `${owner} `}${dev.name}: ${text}`);
}
/** A warning with stack that has no text of its own but its place, once. @linux WARN_ON_ONCE */
export function warnOnceAt(kernel: Kernel, site: string, what: string): void {
  if (firstAt(kernel, site)) splat(kernel, 'warn', `WARNING: at ${site}: ${what}`);
}
/** An error line, once for each `site`. @linux dev_err_once */
export function devErrOnce(dev: Device, site: string, text: string): void {
  if (firstAt(dev.kernel, site)) devErr(dev, text);
}

/** Of a range that the device cannot reach: where it is, and how far the device reaches. */
export function reachText(dev: Device, addr: number, size: number): string {
  const mask = (dev.dmaMask ?? 0n).toString(16);
  return `${padAddr(addr)}+${size} overflow (mask ${mask}, bus limit ${dev.busDmaLimit.toString(16)}).`;
}
/** What the kernel says of an address that the device cannot reach. */
export function overflowText(dev: Device, addr: number, size: number): string {
  return `DMA addr ${reachText(dev, addr, size)}`;
}
/** A bus address as %pad prints it: all 16 digits. */
export function padAddr(addr: number): string {
  return addr < 0 ? hexAddr(addr) : `0x${addr.toString(16).padStart(16, '0')}`;
}
/** Bytes as print_hex_dump prints them: 16 a line, with their offset and as text. @linux print_hex_dump */
export function hexDump(bytes: Uint8Array): string {
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const row = [...bytes.subarray(at, at + 16)];
    const hex = row.map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
    const text = row.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '.')).join('');
    lines.push(`${at.toString(16).padStart(8, '0')}: ${hex.padEnd(47)}  ${text}`);
  }
  return lines.join('\n');
}
/** Mapping without a direction stops the kernel: throws `KernelBug`. */
export function invalidDirection(kernel: Kernel, what: string, dir: number): void {
  bugOn(kernel, true, `at kernel/dma/mapping.c: ${what} with ${dmaDirectionName(dir)}`);
}
