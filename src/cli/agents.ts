import { userInfo } from 'node:os'
import type { Command } from 'commander'
import { AgentError } from '../core/index.ts'
import { type CliIo, renderTable } from './io.ts'
import { type CommandFlags, examples, withCommon } from './options.ts'

type AgentsFlags = CommandFlags & {
  readonly all?: boolean | undefined
  readonly drain?: string | undefined
  readonly resume?: string | undefined
}

export function registerAgents(program: Command, io: CliIo): void {
  withCommon(program.command('agents').description('who works on the database that several proxies share, and what each does'))
    .option('--all', 'also those that died or ended within the last day')
    .option('--drain <name>', 'this proxy takes nothing new and finishes what runs, until it is resumed')
    .option('--resume <name>', 'this proxy takes work again')
    .addHelpText('after', examples(['vcb agents', 'vcb agents --drain fra-1', 'vcb agents --resume fra-1']))
    .action(async (flags: AgentsFlags) => {
      const { drain, resume } = flags
      if (drain !== undefined && resume !== undefined)
        throw new AgentError('USAGE', 'A proxy is drained or resumed, not both.', { next: 'Give one of the two.' })
      const [{ withAgent }, { drainProxy, listProxies, resumeProxy }] = await Promise.all([
        import('./session.ts'),
        import('../agent/index.ts'),
      ])
      await withAgent(io, flags, async ({ agent, output }) => {
        if (drain !== undefined) await drainProxy(agent, drain, userInfo().username)
        if (resume !== undefined) await resumeProxy(agent, resume)
        const list = await listProxies(agent, { ended: flags.all === true })
        output.result(list, ({ database, proxies, drained }) => {
          const rows = proxies.map((each) => [
            each.name,
            each.draining ? `${each.state}, drained` : each.state,
            each.kind,
            `${each.host} (${each.pid})`,
            each.sites?.join(',') ?? 'all',
            each.transports.join(':'),
            each.since,
            each.jobs.length > 3 ? `${each.jobs.length} jobs` : each.jobs.join(', '),
          ])
          const away = drained.filter(({ name }) => !proxies.some((each) => each.name === name))
          return [
            database,
            renderTable(['NAME', 'STATE', 'KIND', 'HOST', 'SITES', 'TRANSPORTS', 'SINCE', 'DOES'], rows),
            ...away.map(({ name, by, at }) => `${name} is drained (by ${by}, ${at}) and does not run.`),
          ].join('\n')
        })
      })
    })
}
