// The layers of src/, the table that scripts/check-imports.mjs enforces. What is not allowed here is denied.

const LOWER = [
  'base',
  'regs',
  'machine',
  'hw',
  'kernel',
  'mapping',
  'iommu',
  'dmaengine',
  'dmabuf',
  'drivers',
  'checker',
];

/** folder → its level, and the folders which it may import besides itself. */
export const LAYERS = {
  base: { level: 0, mayImport: [] },
  regs: { level: 1, mayImport: ['base'] },
  machine: { level: 1, mayImport: ['base'] },
  hw: { level: 2, mayImport: ['base', 'regs', 'machine'] },
  kernel: { level: 2, mayImport: ['base', 'machine'] },
  mapping: { level: 3, mayImport: ['base', 'kernel'] },
  iommu: { level: 4, mayImport: ['base', 'kernel', 'mapping'] },
  dmaengine: { level: 4, mayImport: ['base', 'kernel', 'mapping'] },
  dmabuf: { level: 4, mayImport: ['base', 'kernel', 'mapping'] },
  drivers: { level: 5, mayImport: ['base', 'regs', 'kernel', 'mapping', 'iommu', 'dmaengine', 'dmabuf'] },
  checker: { level: 5, mayImport: ['base', 'machine', 'kernel', 'mapping', 'iommu', 'dmaengine', 'dmabuf'] },
  boards: { level: 6, mayImport: LOWER },
  // A timeline names registers and their fields, which only the datasheets know.
  trace: { level: 6, mayImport: ['base', 'regs', 'checker'] },
  qemu: { level: 7, mayImport: [...LOWER, 'boards', 'trace'] },
  vfio: { level: 7, mayImport: [...LOWER, 'boards', 'trace'] },
  tools: { level: 7, mayImport: [...LOWER, 'boards', 'trace'] },
  cli: { level: 8, mayImport: [...LOWER, 'boards', 'trace', 'qemu', 'vfio', 'tools'] },
};

/** Below this level code runs in a browser as well: no node: module, no package, no clock or chance of the host. */
export const HOST_LEVEL = 6;

/**
 * Imports which are allowed although the table denies them, each with its reason. `from` is a file, `to` a file or a
 * module. An exception that is no longer needed is an error, so that this list only shrinks.
 * @type {{ from: string, to: string, reason: string }[]}
 */
export const EXCEPTIONS = [];

/** Folders which tests and case suites of level 2 and up may import besides their own: a simulated machine to run on. */
export const TEST_FOLDERS = ['machine'];

/** What tests below HOST_LEVEL may import of Node's modules and of the packages. */
export const TEST_MODULES = ['node:test', 'node:assert', 'node:assert/strict', 'node:fs', 'fast-check'];
