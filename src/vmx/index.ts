/**
 * Rank 1. A VM's configuration as files: the `.vmx` format, and the VMX a restored VM gets. The layout is in docs/formats/vmx.md.
 */
export { isHostBoundDevice, restoredVmx, type RestoredVmx, type RestoredVmxOptions } from './restored-vmx.ts'
export { Vmx } from './vmx.ts'
