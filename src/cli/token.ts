import { randomBytes } from 'node:crypto'
import { userInfo } from 'node:os'
import { type Command, Option } from 'commander'
import type { AuditLog, Role, TokenFacts, Tokens } from '../api/index.ts'
import { AgentError, systemClock } from '../core/index.ts'
import { type CliIo, createOutput, type Output, renderTable } from './io.ts'
import { formatMoment, parseMoment } from './moments.ts'
import { type CommandFlags, examples, withCommon } from './options.ts'

/** As `ROLES` of the API, which is loaded only when it is needed. */
const ROLES: readonly Role[] = ['viewer', 'operator', 'admin']

type AddFlags = CommandFlags & { readonly role: Role; readonly expires?: string }

export function registerToken(program: Command, io: CliIo): void {
  const token = program
    .command('token')
    .description('tokens for the control API of this proxy: add, list, revoke')
    .addHelpText(
      'after',
      examples(['vcb token add prometheus --role viewer', 'vcb token add ci --role operator --expires 90d', 'vcb token revoke ci']),
    )
  withCommon(
    token
      .command('add')
      .description('make a token and print it: it is shown this once')
      .argument('<name>', 'lower-case letters, digits, - and .'),
  )
    .addOption(
      new Option('--role <role>', 'viewer sees, operator also runs and cancels, admin also drains and reloads')
        .choices(ROLES)
        .makeOptionMandatory(),
    )
    .option('--expires <when>', 'a moment, or 90d from now; never when not given')
    .action(async (name: string, flags: AddFlags) => {
      const zone = Temporal.Now.timeZoneId()
      const expiresAt = flags.expires === undefined ? undefined : parseMoment('--expires', flags.expires, zone, systemClock.now())
      if (expiresAt !== undefined && expiresAt <= systemClock.now()) {
        throw new AgentError('USAGE', 'The token would have expired already.', { next: 'Give --expires a moment that is still to come.' })
      }
      await withTokens(io, flags, async ({ tokens, output, record }) => {
        const secret = await record('token add', { name, role: flags.role }, (by) => tokens.add({ name, role: flags.role, expiresAt, by }))
        output.note(
          `The token ${name} (${flags.role}) is shown once and kept only as a hash; keep it in a file that only its user can read.`,
        )
        output.result({ name, role: flags.role, expiresAt, token: secret.reveal() }, (shown) => shown.token)
      })
    })
  withCommon(token.command('list').description('names, roles, expiry and last use')).action((flags: CommandFlags) =>
    withTokens(io, flags, async ({ tokens, output }) => output.result({ tokens: await tokens.list() }, (shown) => table(shown.tokens))),
  )
  withCommon(token.command('revoke').description('refuse a token from now on').argument('<name>')).action(
    (name: string, flags: CommandFlags) =>
      withTokens(io, flags, async ({ tokens, output, record }) => {
        await record('token revoke', { name }, () => tokens.revoke(name))
        output.result({ revoked: name }, () => `The token ${name} is refused from now on.`)
      }),
  )
  for (const command of token.commands) command.exitOverride().configureOutput({ writeOut: io.out, writeErr: io.err })
}

type Session = {
  readonly tokens: Tokens
  readonly output: Output
  /** Writes into the audit log before and after. */
  readonly record: <T>(action: string, target: unknown, work: (by: string) => Promise<T>) => Promise<T>
}

async function withTokens(io: CliIo, flags: CommandFlags, body: (session: Session) => Promise<void>): Promise<void> {
  const [{ loadConfig, openLog }, { AuditLog, carryOut, Tokens }] = await Promise.all([
    import('../agent/index.ts'),
    import('../api/index.ts'),
  ])
  const { stateDirectory: directory, logFile, logLevel, logBounds } = await loadConfig(flags, io.environment)
  await using log = await openLog({ level: logLevel, file: logFile, bounded: logBounds })
  await using audit: AuditLog = new AuditLog({ directory, clock: systemClock, rotate: false })
  const by = userInfo().username
  await body({
    tokens: new Tokens({ directory, clock: systemClock, log, random: randomBytes }),
    output: createOutput(io, flags.json === true),
    record: (action, target, work) => {
      const id = randomBytes(8).toString('hex')
      return carryOut({ audit, log }, { id, action, target, caller: { name: by, role: 'admin', via: 'command' } }, () => work(by))
    },
  })
}

function table(tokens: readonly TokenFacts[]): string {
  if (tokens.length === 0) return 'There is no token.'
  const zone = Temporal.Now.timeZoneId()
  const at = (text: string | undefined, none: string): string => (text === undefined ? none : formatMoment(new Date(text), zone))
  return renderTable(
    ['NAME', 'ROLE', 'MADE', 'BY', 'EXPIRES', 'LAST USED'],
    tokens.map(({ name, role, createdAt, createdBy, expiresAt, lastUsedAt }) => [
      name,
      role,
      at(createdAt, ''),
      createdBy,
      expiresAt !== undefined && Date.parse(expiresAt) <= systemClock.now().getTime() ? 'EXPIRED' : at(expiresAt, 'never'),
      at(lastUsedAt, 'never'),
    ]),
  )
}
