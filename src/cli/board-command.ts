/** `dmakit board [NAME]`: the boards, or what one board's devices can reach. */

import { hexAddr } from '../base/addr.ts';
import {
  type Board,
  type BoardDescription,
  boards,
  describeBoard,
  modeTermDescription,
  modeTermUsage,
} from '../boards/index.ts';
import { EXIT_OK } from './errors.ts';
import { type CliIo, type Colors, colorsFor, widthOf, writeJson } from './io.ts';
import { bootBoard, chooseBoard, endOfRun, variant } from './systems.ts';
import { formatTable } from './table.ts';

/** See program.ts for the options. */
export async function command(io: CliIo, args: string[], options: Record<string, unknown>): Promise<number> {
  const colors = colorsFor(io.stdout, io.env);
  const [name] = args;
  if (name === undefined) {
    const list = boards.map(({ name, title, description }) => ({ name, title, description }));
    if (options.json === true) writeJson(io, { schema: 'dmakit/board/1', boards: list });
    else io.stdout.write(textOfList(colors));
    return EXIT_OK;
  }
  const chosen = variant(await chooseBoard(name), options.mode as string | undefined);
  const { board, mode } = chosen;
  const system = await bootBoard(chosen, 1);
  const description = await system
    .run(() => describeBoard(system))
    .catch((error) => {
      throw endOfRun(error, chosen);
    });
  if (options.json === true) writeJson(io, { schema: 'dmakit/board/1', board: { ...description, mode } });
  else io.stdout.write(textOfBoard(description, board, mode, colors, widthOf(io.stdout)));
  return EXIT_OK;
}

function textOfList(colors: Colors): string {
  const width = Math.max(...boards.map(({ name }) => name.length));
  const lines = boards.map(({ name, description }) => `${colors.bold(name.padEnd(width))}  ${description}\n`);
  return `${lines.join('')}\n${colors.dim(`See 'dmakit board ${boards[0]!.name}'.`)}\n`;
}

function textOfBoard(
  description: BoardDescription,
  board: Board,
  mode: string,
  colors: Colors,
  width: number | undefined,
): string {
  const { title, coherent, cacheLineBytes, weaklyOrdered, memory, zones } = description;
  const caches = coherent
    ? 'devices snoop the CPU caches'
    : `devices do not see the CPU caches (lines of ${cacheLineBytes} bytes)`;
  const order = weaklyOrdered ? 'weakly ordered: descriptors need barriers' : 'strongly ordered';
  const lines = [
    `${colors.bold(description.name)}  ${title}, mode ${mode}\n`,
    `  ${caches}; ${order}\n\n`,
    ...memory.map((range) => `  RAM   ${rangeText(range)}\n`),
    ...zones.map((zone) => `  zone  ${rangeText(zone)}  ${zone.name}\n`),
  ];
  for (const device of description.devices) lines.push(textOfDevice(device, colors, width));
  lines.push(
    `\nModes: ${board.modes.map((term) => `${modeTermUsage(term)} (${modeTermDescription(term)})`).join('; ')}\n`,
  );
  return lines.join('');
}

type DeviceDescription = BoardDescription['devices'][number];

function textOfDevice(device: DeviceDescription, colors: Colors, width: number | undefined): string {
  const { name, driver, maskBits, coherent, busLimit, windows, reach, interrupts, channels, pci, iommu } = device;
  const lines = [`\n${colors.bold(name)}  ${driver === null ? colors.yellow('no driver') : `driver ${driver}`}\n`];
  if (device.compatible.length > 0) lines.push(`  compatible  ${device.compatible.join(', ')}\n`);
  if (pci !== null) {
    const trust = pci.untrusted ? `, ${colors.yellow('not trusted')}` : '';
    lines.push(`  PCI         ${pci.vendor}:${pci.device}, class ${pci.class}${trust}\n`);
    for (const bar of pci.bars) lines.push(`  BAR ${bar.index}       ${rangeText(bar)}\n`);
  }
  if (iommu !== null) lines.push(textOfIommu(iommu));
  if (reach !== null) {
    lines.push(`  addresses   ${maskBits} bits${busLimit === null ? '' : `, the bus up to ${hexAddr(busLimit)}`}, `);
    lines.push(`${coherent ? 'snooping' : 'not snooping'} the caches\n`);
    for (const { phys, bus, sizeBytes } of windows) {
      lines.push(`  window      ${rangeText({ base: phys, sizeBytes })} is ${hexAddr(bus)} on its bus\n`);
    }
    for (const range of reach.direct) lines.push(`  reaches     ${rangeText(range)}\n`);
    if (reach.translatedBytes > 0) lines.push(`  translated  ${mib(reach.translatedBytes)}\n`);
    if (reach.bounceBytes > 0) lines.push(`  bounces     ${mib(reach.bounceBytes)}\n`);
    if (reach.unreachableBytes > 0) lines.push(`  ${colors.red('cannot reach')} ${mib(reach.unreachableBytes)}\n`);
  }
  if (interrupts.length > 0) lines.push(`  interrupts  ${interrupts.join(', ')}\n`);
  if (channels.length > 0) {
    const rows = channels.map((chan) => [`  ${chan.name}`, chan.capabilities.join(' '), chan.client ?? 'free']);
    lines.push(formatTable([{ title: '  channel' }, { title: 'can' }, { title: 'used by' }], rows, colors, width));
  }
  return lines.join('');
}

const DOMAINS: Readonly<Record<string, string>> = {
  dma: 'translated; unmapping invalidates at once',
  'dma-fq': 'translated; invalidation is deferred',
  identity: 'let through untranslated',
};
function textOfIommu({ group, domain, reserved }: NonNullable<DeviceDescription['iommu']>): string {
  const lines = [`  IOMMU       group ${group}, ${DOMAINS[domain] ?? domain}\n`];
  for (const range of reserved) lines.push(`  reserved    ${rangeText(range)}  ${range.type}\n`);
  return lines.join('');
}

function rangeText({ base, sizeBytes }: { base: number; sizeBytes: number }): string {
  const digits = (n: number) => `0x${n.toString(16).padStart(8, '0')}`;
  return `${digits(base)}–${digits(base + sizeBytes - 1)}  ${mib(sizeBytes)}`;
}

function mib(bytes: number): string {
  if (bytes >= 2 ** 20) return `${Number((bytes / 2 ** 20).toFixed(1))} MiB`;
  return `${Number((bytes / 1024).toFixed(1))} KiB`;
}
