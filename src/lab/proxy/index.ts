/**
 * The inside of a backup proxy VM, as far as hot-add touches it: the disks that are attached to the VM appear where its guest would look for them, as
 * nodes with a sysfs tree about them (docs/formats/lab-proxy-guest.md). Knows nothing of SOAP; the model says what is attached.
 */
export { HOTADD_QUIRKS, type HotaddQuirk } from './hotadd-quirks.ts'
export { copyImage } from './image.ts'
export { type ProxyFacts, ProxyGuest, type ShownDisk } from './proxy-guest.ts'
