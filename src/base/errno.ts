/** Error numbers of the kernel contract. Functions with a kernel twin return them; they never throw them. */

declare const errno: unique symbol;
/** A negative error number, or 0 for success. */
export type Errno = number & { readonly [errno]: true };

const names = new Map<number, string>();
function define(value: number, name: string): Errno {
  names.set(-value, name);
  return -value as Errno;
}

/** Success. */
export const OK = 0 as Errno;
export const EPERM = define(1, 'EPERM');
export const ENOENT = define(2, 'ENOENT');
export const EINTR = define(4, 'EINTR');
export const EIO = define(5, 'EIO');
export const ENXIO = define(6, 'ENXIO');
export const EAGAIN = define(11, 'EAGAIN');
export const ENOMEM = define(12, 'ENOMEM');
export const EFAULT = define(14, 'EFAULT');
export const EBUSY = define(16, 'EBUSY');
export const EEXIST = define(17, 'EEXIST');
export const ENODEV = define(19, 'ENODEV');
export const EINVAL = define(22, 'EINVAL');
export const ENOSPC = define(28, 'ENOSPC');
export const ERANGE = define(34, 'ERANGE');
export const ENOSYS = define(38, 'ENOSYS');
export const EREMOTEIO = define(121, 'EREMOTEIO');
export const ETIMEDOUT = define(110, 'ETIMEDOUT');
export const EOVERFLOW = define(75, 'EOVERFLOW');
export const EOPNOTSUPP = define(95, 'EOPNOTSUPP');
export const ERESTARTSYS = define(512, 'ERESTARTSYS');
/** A resource that a probe needs is not there yet; the core probes again later. @linux EPROBE_DEFER */
export const EPROBE_DEFER = define(517, 'EPROBE_DEFER');

/** The symbolic name: `errnoName(-12)` is `ENOMEM`; unknown numbers print as themselves. @linux errname */
export function errnoName(error: number): string {
  return names.get(error) ?? String(error);
}
/** Whether a value that is an object or an error number is the error. @linux IS_ERR */
export function isErr<T extends object>(value: T | Errno): value is Errno {
  return typeof value === 'number';
}

/** What is BUG_ON in the kernel: the driver did what no driver may do, and the machine would have stopped. @linux BUG */
export class KernelBug extends Error {
  override name = 'KernelBug';
}
