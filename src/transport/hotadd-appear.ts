import { type Abortable, AgentError } from '../core/index.ts'
import type { GuestDisk, ProxyGuest } from './hotadd-guest.ts'

const LOOK_MS = 500

export type WantedDisk = {
  /** Named in messages: `[ds] dir/x.vmdk`. */
  readonly fileName: string
  /** 32 hex digits. */
  readonly uuid: string
  readonly capacityBytes: number
  /** Unit of its controller in vSphere, and what that controller is to the guest. */
  readonly unit: number
  readonly bus: GuestDisk['bus']
}

/**
 * Whether the wanted disk is among `now`: found by its uuid alone. INTEGRITY when what has the uuid has another size, or there are two. Undefined
 * = not there yet.
 */
export function appeared(wanted: WantedDisk, now: readonly GuestDisk[]): GuestDisk | undefined {
  const [found, ...more] = now.filter((disk) => disk.uuid === wanted.uuid)
  if (found === undefined) return undefined
  if (more.length > 0) throw wrongDisk(wanted, `${[found, ...more].map((disk) => disk.name).join(' and ')} have the same uuid`)
  if (found.size !== wanted.capacityBytes)
    throw wrongDisk(wanted, `${found.name} has ${found.size} bytes, vSphere says ${wanted.capacityBytes}`)
  return found
}

/** The disk that came in the place of the wanted one: new, at its unit, with another uuid or none. */
export function cameInstead(wanted: WantedDisk, before: readonly GuestDisk[], now: readonly GuestDisk[]): GuestDisk | undefined {
  const known = new Set(before.map(identityOf))
  return now.find((disk) => !known.has(identityOf(disk)) && disk.bus === wanted.bus && disk.unit === wanted.unit)
}

const identityOf = ({ address, uuid, size }: GuestDisk): string => `${address} ${uuid} ${size}`

/**
 * Waits for the attached disk to appear in this machine, asking its SCSI hosts and NVMe controllers to look for it. INTEGRITY when another came in its place, UNAVAILABLE
 * when none came in time.
 */
export async function waitForDisk(
  guest: ProxyGuest,
  wanted: WantedDisk,
  before: readonly GuestDisk[],
  options?: Abortable,
): Promise<GuestDisk> {
  const { clock, appearMs } = guest.options
  const until = clock.monotonicMs() + appearMs
  for (;;) {
    const now = await guest.disks()
    const found = appeared(wanted, now)
    if (found !== undefined) return found
    const left = until - clock.monotonicMs()
    if (left <= 0) throw neverCame(wanted, appearMs, cameInstead(wanted, before, now))
    await guest.scan()
    await clock.sleep(Math.min(LOOK_MS, left), options)
  }
}

function neverCame(wanted: WantedDisk, appearMs: number, instead: GuestDisk | undefined): AgentError {
  if (instead !== undefined)
    return wrongDisk(wanted, `${instead.name} has the uuid ${instead.uuid ?? '(none)'}, vSphere says ${wanted.uuid}`)
  return new AgentError(
    'UNAVAILABLE',
    `The attached ${wanted.fileName} did not appear in this machine within ${Math.round(appearMs / 1000)} s.`,
    {
      subject: wanted.fileName,
      next: 'Look at the kernel log of the proxy; "disk.EnableUUID" has to be TRUE on it.',
      retry: 'later',
    },
  )
}

const wrongDisk = (wanted: WantedDisk, what: string): AgentError =>
  new AgentError('INTEGRITY', `The disk that appeared in this machine is not ${wanted.fileName}: ${what}.`, {
    subject: wanted.fileName,
    next: 'Compare the disks of the proxy VM in vSphere with those its guest shows.',
  })
