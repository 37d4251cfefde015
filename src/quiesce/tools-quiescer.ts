import { AgentError } from '../core/index.ts'
import { guestLevel } from './guest-level.ts'
import type { Quiescer } from './quiescer.ts'

/** What vSphere accepts as VirtualMachineGuestQuiesceSpec.timeout, minutes. */
const TIMEOUT = { least: 5, most: 240 } as const

/**
 * VMware Tools. CreateSnapshot itself freezes and thaws the guest, so nothing is held here: the freeze only says what to ask for. The server's
 * time-out is the limit in whole minutes, at least the 5 it accepts, unless one is given. CONFIG when that is none that vSphere accepts.
 */
export function toolsQuiescer(options: { readonly timeoutMinutes?: number | undefined } = {}): Quiescer {
  const { timeoutMinutes } = options
  if (
    timeoutMinutes !== undefined &&
    !(Number.isInteger(timeoutMinutes) && timeoutMinutes >= TIMEOUT.least && timeoutMinutes <= TIMEOUT.most)
  ) {
    throw new AgentError('CONFIG', `A quiesce time-out of ${timeoutMinutes} minutes is not possible.`, {
      next: `Give whole minutes from ${TIMEOUT.least} to ${TIMEOUT.most}.`,
    })
  }
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
        request: { timeoutMinutes: timeoutMinutes ?? Math.min(TIMEOUT.most, Math.max(TIMEOUT.least, Math.ceil(limitMs / 60_000))) },
        reached: (snapshot) =>
          snapshot.quiesced
            ? guestLevel(config)
            : { level: 'crash', reason: 'the server made the snapshot without quiescing the guest, although it was asked to' },
        [Symbol.asyncDispose]: () => Promise.resolve(),
      }),
  } satisfies Quiescer)
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
