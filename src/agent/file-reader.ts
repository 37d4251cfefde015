import { AgentError, type Clock, type FileReader, runProgram } from '../core/index.ts'

const GETENT_MS = 10_000
const NAME = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\$?$/

/**
 * The account that names of `--allow-user` and `--allow-group` mean on this machine, as its name service knows them (getent(1)); undefined when neither is given. USAGE (no such
 * user or group), CONFIG (not root, who alone can give files away).
 */
export async function fileReader(
  { user, group }: { readonly user?: string | undefined; readonly group?: string | undefined },
  deps: { readonly clock: Clock },
): Promise<FileReader | undefined> {
  if (user === undefined && group === undefined) return undefined
  if (process.geteuid?.() !== 0) {
    throw new AgentError('CONFIG', 'Only root can show disks to another user.', {
      next: 'Run vcb as root, or without --allow-user and --allow-group.',
    })
  }
  // passwd(5): name:password:uid:gid:… group(5): name:password:gid:…
  const account = user === undefined ? undefined : await lookUp('passwd', 'user', user, deps)
  const members = group === undefined ? undefined : await lookUp('group', 'group', group, deps)
  const gid = members?.[2] ?? account?.[3]
  if (gid === undefined) throw new AgentError('INTERNAL', 'An account has no group.')
  return { user: account?.[2], group: gid, byGroup: members !== undefined }
}

/** The fields of one entry; those that are numbers, as such. */
async function lookUp(
  database: 'passwd' | 'group',
  what: string,
  name: string,
  { clock }: { readonly clock: Clock },
): Promise<readonly (number | undefined)[]> {
  const found = NAME.test(name) ? await runProgram('getent', [database, name], { clock, patienceMs: GETENT_MS, reads: true }) : undefined
  if (found?.exit !== 0) {
    throw new AgentError('USAGE', `There is no ${what} "${name}" on this machine.`, {
      subject: name,
      next: `Name one that "getent ${database}" lists.`,
    })
  }
  const [line = ''] = found.output.toString('utf8').split('\n')
  return line.split(':').map((field) => (/^\d{1,10}$/.test(field) ? Number(field) : undefined))
}
