import { AgentError, type VmConfig, type WindowsQuiesce } from '../core/index.ts'
import { guestLevel } from './guest-level.ts'
import type { Quiescer, Reached } from './quiescer.ts'

/** What vSphere accepts as VirtualMachineGuestQuiesceSpec.timeout, minutes. */
const TIMEOUT = { least: 5, most: 240 } as const

/**
 * VMware Tools. CreateSnapshot itself freezes and thaws the guest, so nothing is held here: the freeze only says what to ask for. The server's
 * time-out is the limit in whole minutes, at least the 5 it accepts, unless one is given. CONFIG when that is none that vSphere accepts.
 */
export function toolsQuiescer(
  options: { readonly timeoutMinutes?: number | undefined; readonly windows?: WindowsQuiesce | undefined } = {},
): Quiescer {
  const { timeoutMinutes } = options
  if (
    timeoutMinutes !== undefined &&
    !(Number.isInteger(timeoutMinutes) && timeoutMinutes >= TIMEOUT.least && timeoutMinutes <= TIMEOUT.most)
  ) {
    throw new AgentError('CONFIG', `A quiesce time-out of ${timeoutMinutes} minutes is not possible.`, {
      next: `Give whole minutes from ${TIMEOUT.least} to ${TIMEOUT.most}.`,
    })
  }
  const windowsOf = ({ guestId }: VmConfig): WindowsQuiesce | undefined => (/^win/i.test(guestId) ? options.windows : undefined)
  return Object.freeze({
    name: 'vmware-tools',
    freezes: 'inSnapshot',
    probe: (config) => {
      if (config.powerState === 'suspended')
        return Promise.resolve({ ok: false, reason: 'the VM is suspended, so the guest cannot be asked' })
      if (config.powerState === 'poweredOff') return Promise.resolve({ ok: false, reason: 'the VM is powered off' })
      return Promise.resolve(config.toolsRunning ? { ok: true } : { ok: false, reason: 'VMware Tools are not running in the guest' })
    },
    freeze: (config, { limitMs }) =>
      Promise.resolve({
        request: {
          timeoutMinutes: timeoutMinutes ?? Math.min(TIMEOUT.most, Math.max(TIMEOUT.least, Math.ceil(limitMs / 60_000))),
          ...(windowsOf(config) === undefined ? {} : { windows: windowsOf(config) }),
        },
        reached: (snapshot) =>
          snapshot.quiesced
            ? levelWith(config, windowsOf(config))
            : { level: 'crash', reason: 'the server made the snapshot without quiescing the guest, although it was asked to' },
        [Symbol.asyncDispose]: () => Promise.resolve(),
      }),
  } satisfies Quiescer)
}

/** As a guest is by itself, with what VSS was told; in the context `file-share` no application takes part. */
function levelWith(config: VmConfig, windows: WindowsQuiesce | undefined): Reached {
  const reached = guestLevel(config)
  if (windows === undefined) return reached
  const { context, backupType, bootableSystemState, partialFileSupport } = windows
  const told = Object.entries({ context, backupType, bootableSystemState, partialFileSupport }).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name} ${String(value)}`],
  )
  const reason = `${reached.reason}${told.length === 0 ? '' : ` (VSS: ${told.join(', ')})`}`
  return context === 'file-share' && reached.level === 'application' ? { level: 'filesystem', reason } : { ...reached, reason }
}

/** Asks the guest for nothing; always possible. */
export function noQuiescer(): Quiescer {
  return Object.freeze({
    name: 'none',
    freezes: 'never',
    probe: () => Promise.resolve({ ok: true }),
    freeze: () =>
      Promise.resolve({
        request: undefined,
        reached: () => ({ level: 'crash', reason: 'the guest was not asked to quiesce' }),
        [Symbol.asyncDispose]: () => Promise.resolve(),
      }),
  } satisfies Quiescer)
}
