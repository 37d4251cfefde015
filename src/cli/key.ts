import type { Command } from 'commander'
import type { ListedKey } from '../agent/index.ts'
import { AgentError, formatBytes } from '../core/index.ts'
import { type CliIo, printable, renderTable } from './io.ts'
import { formatMoment } from './moments.ts'
import { type CommandFlags, examples, withCommon, withRepository } from './options.ts'

type AddFlags = CommandFlags & { readonly random?: string; readonly passwordFile?: string }

export function registerKey(program: Command, io: CliIo): void {
  const key = program
    .command('key')
    .description('keys of a restic repository: list, add, remove')
    .addHelpText(
      'after',
      [
        '',
        'Each key opens the whole repository, with a password of its own. A proxy that has one of 256 random bits opens it without the half second that a password',
        'of somebody costs, and it alone is revoked when the proxy is lost. See docs/repositories.md.',
        examples(['vcb key list', 'vcb key add --random /etc/vcb/repo.key', 'vcb key remove 5f1d3a2c']),
      ].join('\n'),
    )
  withCommon(withRepository(key.command('list').description('keys, who made them, what opening with each costs, and which one opened')))
    .addHelpText('after', examples(['vcb key list', 'vcb key list --repo-password-file /etc/vcb/repo.key --json']))
    .action(async (flags: CommandFlags) => {
      const [{ withAgent }, { listKeys }] = await Promise.all([import('./session.ts'), import('../agent/index.ts')])
      await withAgent(io, flags, async ({ agent, output }) => output.result(await listKeys(agent), ({ keys }) => table(keys)))
    })
  withCommon(withRepository(key.command('add').description('add a key, with the password that opens the repository now')))
    .option('--random <file>', 'draw 256 random bits as password and write them to this new file, for its owner alone')
    .option('--password-file <file>', 'a password that somebody made up, - for standard input')
    .addHelpText(
      'after',
      [
        '',
        'A file that is there is never written over. Cut off at any moment, the file and the key are both there after "vcb recover", or neither.',
        examples([
          'vcb key add --random /etc/vcb/repo.key',
          'vcb key add --password-file /etc/vcb/second.pw --repo sftp:backup@nas:/backup/vms --json',
        ]),
      ].join('\n'),
    )
    .action(async ({ random, passwordFile, ...flags }: AddFlags) => {
      const [{ withAgent }, { readSecret, runAddKey }] = await Promise.all([import('./session.ts'), import('../agent/index.ts')])
      const request = async (): Promise<Parameters<typeof runAddKey>[1]> => {
        if (random !== undefined && passwordFile === undefined && random !== '-') return { file: random }
        if (random === undefined && passwordFile !== undefined && !(passwordFile === '-' && flags.repoPasswordFile === '-'))
          return { password: await readSecret({ file: passwordFile }, 'new repository password', '--password-file') }
        throw new AgentError('USAGE', 'A new key has one password: random bits in a new file, or what is in a file.', {
          next: 'Give --random FILE or --password-file FILE; only one password can be on standard input.',
        })
      }
      const wanted = await request()
      await withAgent(io, flags, async ({ agent, output }) => {
        output.result(await runAddKey(agent, wanted), ({ repository, key: { id }, file }) =>
          [
            `The key ${id.slice(0, 8)} opens ${printable(repository)} as well.`,
            ...(file === undefined ? [] : [`Its password is in ${printable(file)}, and nowhere else: name it as repository.passwordFile.`]),
          ].join('\n'),
        )
      })
    })
  withCommon(
    withRepository(
      key
        .command('remove')
        .description('remove a key: its password opens nothing from then on')
        .argument('<id>', 'as "vcb key list" shows it, or at least 6 characters of its beginning'),
    ),
  )
    .addHelpText(
      'after',
      [
        '',
        'Nobody may use the repository meanwhile. The key that this command itself opens the repository with is never removed.',
        examples(['vcb key remove 5f1d3a2c', 'vcb key remove 5f1d3a2c --repo-password-file /etc/vcb/repo.pw']),
      ].join('\n'),
    )
    .action(async (id: string, flags: CommandFlags) => {
      const [{ withAgent }, { runRemoveKey }] = await Promise.all([import('./session.ts'), import('../agent/index.ts')])
      await withAgent(io, flags, async ({ agent, output }) => {
        output.result(
          await runRemoveKey(agent, id),
          ({ removed, repository }) =>
            `The key ${removed.slice(0, 8)} of ${printable(repository)} is gone; its password opens nothing now.`,
        )
      })
    })
  for (const command of key.commands) command.exitOverride().configureOutput({ writeOut: io.out, writeErr: io.err })
}

function table(keys: readonly ListedKey[]): string {
  const zone = Temporal.Now.timeZoneId()
  const made = (text: string): string => {
    const date = new Date(text)
    return Number.isNaN(date.getTime()) ? text : formatMoment(date, zone)
  }
  return renderTable(
    ['', 'KEY', 'MADE', 'BY', 'COST OF OPENING'],
    keys.map(({ id, current, facts, problem }) => {
      const mark = current ? '*' : ''
      if (facts === undefined) return [mark, id.slice(0, 8), '', '', `cannot be used: ${problem}`]
      const { N, r, p } = facts.kdf
      const memory = formatBytes(128 * N * r)
      return [mark, id.slice(0, 8), made(facts.created), `${facts.username}@${facts.hostname}`, `scrypt N=${N} r=${r} p=${p}, ${memory}`]
    }),
  )
}
