import { type Agent, type LeaseStatus, listLeases, runUnmount } from '../../agent/index.ts'
import { AgentError } from '../../core/index.ts'
import { keptOf } from '../../journal/index.ts'
import { printable } from '../io.ts'
import { LOGIN_FLAGS, usage } from './flags.ts'
import { LOGIN_HELP, type Tool } from './tool.ts'

/** `vcbCleanup`: releases what runs of dead processes left behind, and where the configuration wants it, ends every mount of the VCB commands. */
export const vcbCleanup: Tool = {
  name: 'vcbCleanup',
  flags: { ...LOGIN_FLAGS, y: 'switch' },
  help: `Usage: vcbCleanup [-h HOST] [-u USER] [-L LEVEL] -y

Releases what processes that have ended left behind: mounts, snapshots, locks, half-written exports. Whatever a living process holds, and every finished export, is left
alone; with "vcbTools: { cleanupMounts: true }" in vcb.yaml every mount that vcbMounter, vcbSnapAll and mountvm made is ended too, whoever reads it.
-y is needed: nothing is asked.
${LOGIN_HELP}`,
  examples: ['vcbCleanup -h vc.example.com -u backup -y'],
  exits: {
    12: 'something is still held',
  },
  run: async ({ flags, withAgent, io, settings }) => {
    if (!flags.values.has('y') || flags.rest.length > 0) throw usage('vcbCleanup', 'vcbCleanup asks nothing, so it needs -y.')
    return withAgent(async ({ agent, output }) => {
      for (const { lease, directory } of await mountsOf(agent)) {
        if (settings.mounts.cleanupMounts) await runUnmount(agent, lease, { readAll: false })
        else output.note(`${printable(directory)} stays mounted; "vcbMounter -U -r ${printable(directory)}" unmounts it`)
      }
      const kept = keptOf(await agent.recover())
      for (const { kind, claim, reason } of kept) output.note(`${kind} ${claim} is still held: ${printable(reason ?? 'no reason given')}`)
      return kept.length === 0 ? 0 : new AgentError(io.signal.aborted ? 'CANCELED' : 'PARTIAL', '').exit
    })
  },
}

/** The living mounts of the VCB commands. */
async function mountsOf({ journal, clock, processes }: Agent): Promise<readonly LeaseStatus[]> {
  const leases = await listLeases({ journal, clock, isAlive: (owner) => processes.isAlive(owner) })
  return leases.filter(({ job, state }) => state !== 'left' && job !== undefined && MOUNTING.has(job))
}

const MOUNTING: ReadonlySet<string> = new Set(['vcbMounter', 'vcbSnapAll', 'mountvm'])
