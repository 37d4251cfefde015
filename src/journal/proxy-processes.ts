import type { Clock } from '../core/index.ts'
import type { ProxyRegistry } from '../state/index.ts'
import { type ProcessIdentity, type Processes, type ProcessLookup, systemProcesses } from './process.ts'

/** Whether somebody has to be declared dead is asked no more often than this. Milliseconds. */
const DECLARE_MS = 1_000

/**
 * The processes of all proxies that share a database. Which are alive is the registry's to say and not this machine's: those of another one cannot be seen, and one
 * here that was declared dead is dead although it runs. A process that never registered is none of them, and dead.
 */
export function createProxyProcesses(registry: ProxyRegistry, clock: Clock): Processes & ProcessLookup {
  let declaredAt: number | undefined
  return Object.freeze({
    self: () => systemProcesses.self(),
    identify: (pid: number) => systemProcesses.identify(pid),
    isAlive: async (other: ProcessIdentity) => {
      if (!(await registry.isProcessAlive(other))) return false
      const now = clock.monotonicMs()
      if (declaredAt !== undefined && now - declaredAt < DECLARE_MS) return true
      declaredAt = now
      const dead = await registry.declareDead()
      return dead.length === 0 || registry.isProcessAlive(other)
    },
  })
}
