import {
  type Abortable,
  AgentError,
  type Clock,
  type ConsistencyLevel,
  isAgentError,
  type Log,
  type QuiescePolicy,
  type VmConfig,
} from '../core/index.ts'
import { type GuestQuiesce, isFault } from '../vsphere/index.ts'
import { DEFAULT_FREEZE_LIMIT_MS, FreezeLimit, type Within } from './freeze-limit.ts'
import { GuestScriptError } from './guest-scripts.ts'
import type { Quiescer, Reached } from './quiescer.ts'
import { toolsQuiescer } from './tools-quiescer.ts'

/** A snapshot and how consistent it really is. `reason` is shown wherever the restore point is. */
export type Consistent<T> = {
  readonly taken: T
  readonly level: ConsistencyLevel
  readonly reason: string
  /** How long the guest was frozen at most, ms; absent when it was not asked. */
  readonly frozenMs?: number | undefined
}

/**
 * Takes the snapshot with what the guest is to be asked for. A `within` that is given must wrap the call that freezes, each time it is made, from
 * its sending to the end of its task.
 */
export type Take<T> = (request: GuestQuiesce | undefined, within?: Within) => Promise<T>

export type TakeOptions = Abortable & {
  readonly clock: Clock
  readonly log: Log
  /** VMware Tools when absent. */
  readonly quiescer?: Quiescer | undefined
  /** Tries with the guest quiesced; 3 when absent. */
  readonly attempts?: number | undefined
  /** ms before the next attempt; 10 000 when absent. */
  readonly pauseMs?: number | undefined
  /** The guest is frozen for so long at most, ms; 120 000 when absent. */
  readonly freezeLimitMs?: number | undefined
}

const AT_REST: Reached = { level: 'application', reason: 'the VM is powered off: nothing of it is in memory, its disks are at rest' }

/**
 * Takes a snapshot by `take`, quiesced as the policy allows, and says what was reached. Called once per VM and run.
 *
 * A powered-off VM has nothing to quiesce and satisfies every policy. A guest fault is tried again, then `require` fails with GUEST and `try`
 * takes the snapshot without. `take` is called once per attempt and must leave nothing when it throws; the guest is thawed as soon as it has
 * returned, and never frozen longer than `freezeLimitMs`: a freeze that lasts longer is ended and not tried again. When a snapshot asked to be quiesced comes back unquiesced, `require` throws GUEST although `take` returned: what it took is the
 * caller's to release, like after any later failure.
 */
export async function takeConsistent<T extends { readonly quiesced: boolean }>(
  config: VmConfig,
  policy: QuiescePolicy,
  take: Take<T>,
  options: TakeOptions,
): Promise<Consistent<T>> {
  if (config.powerState === 'poweredOff') return { taken: await take(undefined), ...AT_REST }
  if (policy === 'none') return { taken: await take(undefined), level: 'crash', reason: 'quiescing was not asked for' }
  const quiescer = options.quiescer ?? toolsQuiescer()
  const verdict = await quiescer.probe(config, options)
  if (!verdict.ok) return fallBack(config, policy, take, verdict.reason, undefined)
  const quiesced = await takeQuiesced(config, quiescer, take, options)
  if ('failure' in quiesced) return fallBack(config, policy, take, sentence(quiesced.failure), quiesced.failure)
  if (policy === 'require' && quiesced.level === 'crash') throw refused(config, quiesced.reason, undefined)
  return quiesced
}

async function takeQuiesced<T extends { readonly quiesced: boolean }>(
  config: VmConfig,
  quiescer: Quiescer,
  take: Take<T>,
  options: TakeOptions,
): Promise<Consistent<T> | { readonly failure: AgentError }> {
  const attempts = Math.max(1, options.attempts ?? 3)
  const limitMs = options.freezeLimitMs ?? DEFAULT_FREEZE_LIMIT_MS
  for (let attempt = 1; ; attempt++) {
    const limit = new FreezeLimit({ limitMs, config, clock: options.clock, log: options.log, signal: options.signal })
    try {
      const { taken, reached } = await frozenTake(limit, limit.watched(quiescer), config, take, { limitMs, signal: options.signal })
      return { taken, ...reached, frozenMs: limit.frozenMs }
    } catch (error) {
      // Also when it comes wrapped: then something of the attempt could not be taken back, and no other may follow.
      if (!isAgentError(error, 'GUEST') || error instanceof GuestScriptError) throw error
      if (limit.exceeded !== undefined) return { failure: limit.exceeded }
      // Tools that are not running will not be in ten seconds either.
      if (attempt >= attempts || isFault(error, 'ToolsUnavailable')) return { failure: error }
      options.log.warn('the guest could not be quiesced; trying again', { vm: config.vm.name, attempt, error: error.message })
      await options.clock.sleep(options.pauseMs ?? 10_000, options)
    }
  }
}

/** One attempt; the guest is thawed when it returns. A limit that passed meanwhile makes it fail, whatever the snapshot says. */
async function frozenTake<T extends { readonly quiesced: boolean }>(
  limit: FreezeLimit,
  quiescer: Quiescer,
  config: VmConfig,
  take: Take<T>,
  options: Abortable & { readonly limitMs: number },
): Promise<{ readonly taken: T; readonly reached: Reached }> {
  await using frozen = await quiescer.freeze(config, options)
  const taken = await take(frozen.request, quiescer.freezes === 'inSnapshot' ? limit.within : limit.beside)
  // The call came to its end although it was to be given up: the guest was not at rest all the time.
  if (limit.exceeded !== undefined) return { taken, reached: { level: 'crash', reason: sentence(limit.exceeded) } }
  return { taken, reached: frozen.reached(taken) }
}

async function fallBack<T>(
  config: VmConfig,
  policy: QuiescePolicy,
  take: Take<T>,
  why: string,
  cause: AgentError | undefined,
): Promise<Consistent<T>> {
  if (policy === 'require') throw refused(config, why, cause)
  return { taken: await take(undefined), level: 'crash', reason: `taken without quiescing: ${why}` }
}

function refused(config: VmConfig, why: string, cause: AgentError | undefined): AgentError {
  return new AgentError('GUEST', `The guest of ${config.vm.name} was not quiesced, which the policy requires: ${why}.`, {
    subject: config.vm.name,
    cause,
  })
}

const sentence = (error: AgentError): string => error.message.replace(/\.$/, '')
