import { isAgentError, toAgentError } from '../core/index.ts'
import { openRemoteFiles } from '../ssh/index.ts'
import type { Agent } from './agent.ts'
import type { Finding } from './doctor.ts'

/**
 * Whether the shell of each configured host lets us in, with the key that is pinned, and has what reads files. Asked only when the transport ssh is
 * named and a host is configured; one that fails is a warning while another transport is left.
 */
export async function checkSsh(agent: Agent, findings: Finding[]): Promise<void> {
  const { transports } = agent.config
  if (!transports.includes('ssh')) return
  for (const host of agent.sshHosts.all) {
    const check = `SSH of ${host.name}`
    try {
      const connection = await agent.sshHosts.connect(host.name, { signal: agent.signal })
      await using files = await openRemoteFiles(connection, { signal: agent.signal })
      const { program, reason } = files.how
      if (program === 'dd') await files.open('/etc/hosts', { signal: agent.signal }).catch(missingIsFine)
      findings.push(
        program === 'python3'
          ? { check, result: 'ok', detail: `${host.user} at ${host.address}:${host.port}; ${reason}` }
          : {
              check,
              result: 'warning',
              detail: `${host.user} at ${host.address}:${host.port}; dd reads, because: ${reason} Zeros travel, and blocks are not compared on the host.`,
              next: 'Look why python3 does not run on the host.',
            },
      )
    } catch (error) {
      if (isAgentError(error, 'CANCELED')) throw error
      const shown = toAgentError(error)
      findings.push({
        check,
        result: transports.some((name) => name !== 'ssh') ? 'warning' : 'failed',
        detail: shown.message,
        next: shown.next,
      })
    }
  }
}

/** What counts is that the host could look. */
function missingIsFine(error: unknown): void {
  if (!isAgentError(error, 'NOT_FOUND', 'AUTH', 'CONFLICT')) throw error
}
