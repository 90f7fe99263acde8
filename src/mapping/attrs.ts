/** Attributes of mappings and allocations: bits, with the kernel's values. */

/** Accesses to the mapping may be weakly ordered. @linux DMA_ATTR_WEAK_ORDERING */
export const DMA_ATTR_WEAK_ORDERING = 1 << 1;
/** The CPU may combine its writes to the allocation. @linux DMA_ATTR_WRITE_COMBINE */
export const DMA_ATTR_WRITE_COMBINE = 1 << 2;
/** No pointer is wanted; what is returned is a cookie that cannot be read. @linux DMA_ATTR_NO_KERNEL_MAPPING */
export const DMA_ATTR_NO_KERNEL_MAPPING = 1 << 4;
/** The caller cares for the CPU's caches (and for the bounce) itself. @linux DMA_ATTR_SKIP_CPU_SYNC */
export const DMA_ATTR_SKIP_CPU_SYNC = 1 << 5;
/** Physically contiguous even where an IOMMU would do without. @linux DMA_ATTR_FORCE_CONTIGUOUS */
export const DMA_ATTR_FORCE_CONTIGUOUS = 1 << 6;
/** Large blocks are not worth a search. @linux DMA_ATTR_ALLOC_SINGLE_PAGES */
export const DMA_ATTR_ALLOC_SINGLE_PAGES = 1 << 7;
/** No message when it fails. @linux DMA_ATTR_NO_WARN */
export const DMA_ATTR_NO_WARN = 1 << 8;
/** For supervisor-level accesses of the device only. @linux DMA_ATTR_PRIVILEGED */
export const DMA_ATTR_PRIVILEGED = 1 << 9;
