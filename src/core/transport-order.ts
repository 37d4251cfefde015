import type { TransportName } from './model.ts'

/** Every transport by name. `nbd` is `nbdssl` with the disk's bytes in clear, so it is taken only where it is named. */
export const TRANSPORT_NAMES = Object.freeze([
  'san',
  'hotadd',
  'nbdssl',
  'nbd',
  'https',
  'lease',
  'ssh',
  'vddk',
] as const satisfies readonly TransportName[])

/**
 * The order in which transports are tried when nobody says another: shared storage first, then what takes least from the host. `lease` stands
 * behind every way that reads changed areas alone but `ssh`, which it does not keep from an incremental: it refuses those.
 */
export const DEFAULT_TRANSPORTS: readonly TransportName[] = Object.freeze(['san', 'hotadd', 'nbdssl', 'https', 'lease', 'ssh'])
