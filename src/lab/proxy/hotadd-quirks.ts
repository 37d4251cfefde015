/** What a fault rule can make of a hot-add (`hotadd`), at the step `hotadd:attach`. */
export const HOTADD_QUIRKS = [
  /** The task ends with an error, but the disk is attached. */
  'half',
  /** The guest shows the disk after `value` milliseconds. */
  'late',
  /** Only after somebody has asked the SCSI host to scan. */
  'scan',
  'never',
  /** What the guest shows has another uuid, or another size. */
  'wrongDisk',
  'wrongSize',
  /** The guest does not let the disk go when it is asked to. */
  'stuck',
] as const

export type HotaddQuirk = (typeof HOTADD_QUIRKS)[number]
