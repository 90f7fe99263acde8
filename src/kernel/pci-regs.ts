/** PCI configuration space as drivers name it (PCI Local Bus Specification 3.0, chapter 6). Offsets are in bytes. */

/** @linux PCI_VENDOR_ID */
export const PCI_VENDOR_ID = 0x00;
/** @linux PCI_DEVICE_ID */
export const PCI_DEVICE_ID = 0x02;
/** @linux PCI_COMMAND */
export const PCI_COMMAND = 0x04;
/** The function answers in port space. @linux PCI_COMMAND_IO */
export const PCI_COMMAND_IO = 0x1;
/** The function answers in memory space. @linux PCI_COMMAND_MEMORY */
export const PCI_COMMAND_MEMORY = 0x2;
/** The function may access memory by itself. @linux PCI_COMMAND_MASTER */
export const PCI_COMMAND_MASTER = 0x4;
/** Its interrupt pin is off. @linux PCI_COMMAND_INTX_DISABLE */
export const PCI_COMMAND_INTX_DISABLE = 0x400;
/** @linux PCI_STATUS */
export const PCI_STATUS = 0x06;
/** @linux PCI_STATUS_INTERRUPT */
export const PCI_STATUS_INTERRUPT = 0x08;
/** There is a list of capabilities. @linux PCI_STATUS_CAP_LIST */
export const PCI_STATUS_CAP_LIST = 0x10;
/** Revision in the low byte, class code in the other three. @linux PCI_CLASS_REVISION */
export const PCI_CLASS_REVISION = 0x08;
/** @linux PCI_CACHE_LINE_SIZE */
export const PCI_CACHE_LINE_SIZE = 0x0c;
/** @linux PCI_HEADER_TYPE */
export const PCI_HEADER_TYPE = 0x0e;
/** @linux PCI_HEADER_TYPE_MASK */
export const PCI_HEADER_TYPE_MASK = 0x7f;
/** @linux PCI_HEADER_TYPE_MFD */
export const PCI_HEADER_TYPE_MFD = 0x80;
/** @linux PCI_HEADER_TYPE_NORMAL */
export const PCI_HEADER_TYPE_NORMAL = 0;
/** @linux PCI_HEADER_TYPE_BRIDGE */
export const PCI_HEADER_TYPE_BRIDGE = 1;
/** @linux PCI_BASE_ADDRESS_0 */
export const PCI_BASE_ADDRESS_0 = 0x10;
/** @linux PCI_BASE_ADDRESS_SPACE_IO */
export const PCI_BASE_ADDRESS_SPACE_IO = 0x01;
/** @linux PCI_BASE_ADDRESS_MEM_TYPE_MASK */
export const PCI_BASE_ADDRESS_MEM_TYPE_MASK = 0x06;
/** @linux PCI_BASE_ADDRESS_MEM_TYPE_64 */
export const PCI_BASE_ADDRESS_MEM_TYPE_64 = 0x04;
/** @linux PCI_BASE_ADDRESS_MEM_PREFETCH */
export const PCI_BASE_ADDRESS_MEM_PREFETCH = 0x08;
/** @linux PCI_SUBSYSTEM_VENDOR_ID */
export const PCI_SUBSYSTEM_VENDOR_ID = 0x2c;
/** @linux PCI_SUBSYSTEM_ID */
export const PCI_SUBSYSTEM_ID = 0x2e;
/** @linux PCI_CAPABILITY_LIST */
export const PCI_CAPABILITY_LIST = 0x34;
/** @linux PCI_INTERRUPT_LINE */
export const PCI_INTERRUPT_LINE = 0x3c;
/** 1 to 4 for INTA to INTD, 0: none. @linux PCI_INTERRUPT_PIN */
export const PCI_INTERRUPT_PIN = 0x3d;
/** Bridges: the bus above, the one below, the last one below. @linux PCI_PRIMARY_BUS, PCI_SECONDARY_BUS, PCI_SUBORDINATE_BUS */
export const PCI_PRIMARY_BUS = 0x18;

/** Bytes of conventional configuration space. @linux PCI_CFG_SPACE_SIZE */
export const PCI_CFG_SPACE_SIZE = 256;
/** Bytes of the header; capabilities come behind. @linux PCI_STD_HEADER_SIZEOF */
export const PCI_STD_HEADER_SIZEOF = 64;

/** @linux PCI_CAP_ID_PM */
export const PCI_CAP_ID_PM = 0x01;
/** @linux PCI_CAP_ID_MSI */
export const PCI_CAP_ID_MSI = 0x05;
/** @linux PCI_CAP_ID_EXP */
export const PCI_CAP_ID_EXP = 0x10;
/** @linux PCI_CAP_ID_MSIX */
export const PCI_CAP_ID_MSIX = 0x11;

// The MSI capability; offsets are from its start.
/** @linux PCI_MSI_FLAGS */
export const PCI_MSI_FLAGS = 0x02;
/** @linux PCI_MSI_FLAGS_ENABLE */
export const PCI_MSI_FLAGS_ENABLE = 0x0001;
/** log2 of the vectors that it can have. @linux PCI_MSI_FLAGS_QMASK */
export const PCI_MSI_FLAGS_QMASK = 0x000e;
/** log2 of the vectors that it has. @linux PCI_MSI_FLAGS_QSIZE */
export const PCI_MSI_FLAGS_QSIZE = 0x0070;
/** @linux PCI_MSI_FLAGS_64BIT */
export const PCI_MSI_FLAGS_64BIT = 0x0080;
/** @linux PCI_MSI_FLAGS_MASKBIT */
export const PCI_MSI_FLAGS_MASKBIT = 0x0100;
/** @linux PCI_MSI_ADDRESS_LO */
export const PCI_MSI_ADDRESS_LO = 0x04;
/** @linux PCI_MSI_ADDRESS_HI */
export const PCI_MSI_ADDRESS_HI = 0x08;
/** @linux PCI_MSI_DATA_32 */
export const PCI_MSI_DATA_32 = 0x08;
/** @linux PCI_MSI_DATA_64 */
export const PCI_MSI_DATA_64 = 0x0c;
/** @linux PCI_MSI_MASK_32 */
export const PCI_MSI_MASK_32 = 0x0c;
/** @linux PCI_MSI_MASK_64 */
export const PCI_MSI_MASK_64 = 0x10;

/** Class codes: base class and subclass. @linux PCI_CLASS_BRIDGE_HOST */
export const PCI_CLASS_BRIDGE_HOST = 0x0600;
/** @linux PCI_CLASS_BRIDGE_ISA */
export const PCI_CLASS_BRIDGE_ISA = 0x0601;
/** @linux PCI_CLASS_BRIDGE_PCI */
export const PCI_CLASS_BRIDGE_PCI = 0x0604;

/** A function's number on its bus. @linux PCI_DEVFN */
export function PCI_DEVFN(slot: number, func: number): number {
  return ((slot & 0x1f) << 3) | (func & 7);
}
/** @linux PCI_SLOT */
export function PCI_SLOT(devfn: number): number {
  return (devfn >>> 3) & 0x1f;
}
/** @linux PCI_FUNC */
export function PCI_FUNC(devfn: number): number {
  return devfn & 7;
}
