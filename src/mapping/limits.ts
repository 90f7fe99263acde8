/** No limit on a size. The kernel's is all ones; here it is the largest exact integer. @linux SIZE_MAX, ULONG_MAX */
export const SIZE_MAX = Number.MAX_SAFE_INTEGER;
/** Longest segment of a device that did not say. */
export const DEFAULT_MAX_SEGMENT_BYTES = 65536;
