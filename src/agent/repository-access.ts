import { access, constants } from 'node:fs/promises'
import { join } from 'node:path'
import { AgentError } from '../core/index.ts'
import { formatResticPlace, type RepositoryAccess, type RestPlace, sameDestination, type SftpPlace } from '../provider/index.ts'
import type { RestLogin } from '../restic/index.ts'
import type { SshHost, SshLogin } from '../ssh/index.ts'
import type { AgentConfig } from './config/config.ts'
import { DEFAULT_REPOSITORY } from './config/repositories.ts'
import type { RepositoryLogin } from './config/repository-login.ts'
import { readSecret } from './config/secret-source.ts'
import { s3Access } from './s3-access.ts'
import { loginOf, pinOf, readText } from './ssh-hosts.ts'

/** Whoever runs vcb: what logins are like where nothing else is said. */
export type LocalUser = {
  readonly username: string
  readonly home: string
  readonly environment: Readonly<Record<string, string | undefined>>
}

/** Keys that ssh tries by itself, in its order. */
const KEY_FILES = ['id_ed25519', 'id_ecdsa', 'id_rsa']

/**
 * How the servers of repositories are logged in to: as the entry of `repositories` says whose `url` is the same place, else as `repository` says,
 * else as stock restic would: with the user's own SSH keys and known_hosts.
 */
export function repositoryAccess(config: Pick<AgentConfig, 'repository' | 'repositories'>, user: LocalUser): RepositoryAccess {
  const entryOf = (url: string): { readonly login: RepositoryLogin; readonly writtenIn: string } => {
    const named = config.repositories.findLast((each) => sameDestination(each.url, url))
    const general = named === undefined || (named.name === DEFAULT_REPOSITORY && named.url === config.repository.url)
    return general ? { login: config.repository, writtenIn: 'repository' } : { login: named, writtenIn: `repositories.${named.name}` }
  }
  return {
    sshHost: (place) => {
      const { login, writtenIn } = entryOf(formatResticPlace(place))
      return sshHost(place, login.ssh, `${writtenIn}.ssh`, user)
    },
    restLogin: async (place) => {
      const { login, writtenIn } = entryOf(formatResticPlace(place))
      return restLogin(place, login.rest, `${writtenIn}.rest`, user)
    },
    restTrust: async (place) => {
      const { rest } = entryOf(formatResticPlace(place)).login
      return { pin: rest?.pin, ca: rest?.caFile === undefined ? undefined : await readText(rest.caFile) }
    },
    s3: (place) => {
      const { login, writtenIn } = entryOf(formatResticPlace(place))
      return s3Access(place, login.s3, `${writtenIn}.s3`, user)
    },
  }
}

async function restLogin(
  place: RestPlace,
  rest: RepositoryLogin['rest'],
  writtenIn: string,
  user: LocalUser,
): Promise<RestLogin | undefined> {
  const { RESTIC_REST_USERNAME: nameOfRestic, RESTIC_REST_PASSWORD: passwordOfRestic } = user.environment
  const name = place.user ?? rest?.user ?? nameOfRestic
  const given = rest?.password.file !== undefined || rest?.password.env !== undefined
  if (!given && passwordOfRestic === undefined) {
    if (name === undefined) return undefined
    throw new AgentError('CONFIG', `There is no password for ${name} at the REST repository ${place.base}.`, {
      subject: place.base,
      next: `Write passwordFile into ${writtenIn} of vcb.yaml, or set RESTIC_REST_PASSWORD.`,
    })
  }
  if (name === undefined) {
    throw new AgentError('CONFIG', `There is no user for the REST repository ${place.base}.`, {
      subject: place.base,
      next: `Write user into ${writtenIn} of vcb.yaml, or set RESTIC_REST_USERNAME.`,
    })
  }
  const source = given ? rest.password : { env: 'RESTIC_REST_PASSWORD', value: passwordOfRestic }
  return { user: name, password: await readSecret(source, 'password of the REST repository', 'rest passwordFile') }
}

function sshHost(place: SftpPlace, ssh: RepositoryLogin['ssh'], writtenIn: string, { username, home }: LocalUser): SshHost {
  let login: Promise<SshLogin> | undefined
  const password = ssh?.password ?? {}
  const hasLogin = ssh?.keyFile !== undefined || password.file !== undefined || password.env !== undefined
  const hasPin = (ssh?.fingerprints.length ?? 0) > 0 || ssh?.knownHosts !== undefined
  return {
    name: place.host,
    address: place.host,
    port: place.port,
    user: place.user ?? username,
    pinnedIn: writtenIn,
    // Read once: a secret may be on standard input.
    login: () =>
      (login ??= (async () => {
        const keyFile = hasLogin ? ssh?.keyFile : await firstReadable(KEY_FILES.map((name) => join(home, '.ssh', name)))
        return loginOf({ name: place.host, keyFile, passphrase: ssh?.passphrase ?? {}, password, writtenIn })
      })()),
    pin: async () => {
      const own = join(home, '.ssh', 'known_hosts')
      const knownHosts = hasPin ? ssh?.knownHosts : await firstReadable([own])
      return pinOf({ fingerprints: ssh?.fingerprints ?? [], knownHosts })
    },
  }
}

async function firstReadable(paths: readonly string[]): Promise<string | undefined> {
  for (const path of paths) {
    try {
      await access(path, constants.R_OK)
      return path
    } catch {
      // Not there, or not for us: the next one.
    }
  }
  return undefined
}
