/** Numbers of the boot command line. */

/** A number at the beginning of a text, and what stands behind it. */
export interface ParsedNumber {
  readonly value: number;
  readonly rest: string;
}
/** Decimal, `0x` hexadecimal or `0` octal; null when the text does not begin with a digit. @linux simple_strtoul */
export function parseNumber(text: string): ParsedNumber | null {
  const match = /^(?:0[xX]([0-9a-fA-F]+)|0([0-7]*)|([1-9]\d*))/.exec(text);
  if (match === null) return null;
  const [all, hex, octal, decimal] = match;
  const value =
    hex !== undefined
      ? Number.parseInt(hex, 16)
      : decimal !== undefined
        ? Number(decimal)
        : Number.parseInt(octal || '0', 8);
  return { value, rest: text.slice(all.length) };
}
/** A size: a number with a suffix K, M, G, T, P or E of either case, each 1024 times the one before. 0 without digits. @linux memparse */
export function memparse(text: string): ParsedNumber {
  const number = parseNumber(text);
  if (number === null) return { value: 0, rest: text };
  const suffix = 'KMGTPE'.indexOf((number.rest[0] ?? '?').toUpperCase());
  if (suffix < 0) return number;
  return { value: number.value * 1024 ** (suffix + 1), rest: number.rest.slice(1) };
}
