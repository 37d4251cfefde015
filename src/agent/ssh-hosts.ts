import { readFile, stat } from 'node:fs/promises'
import { AgentError, fromErrno, Secret } from '../core/index.ts'
import {
  createSshHosts,
  type HostKeyPin,
  parseFingerprint,
  type SshDeps,
  type SshHost,
  type SshHosts,
  type SshLogin,
} from '../ssh/index.ts'
import { readSecret } from './config/secret-source.ts'
import type { SshConfig, SshHostConfig } from './config/ssh.ts'

/** No key file and no known_hosts file is larger. Bytes */
const LARGEST = 4 * 1024 * 1024

/** The configured hosts; their secrets and pins are read at the first connection, once. */
export function sshHostsOf(config: SshConfig, deps: SshDeps): SshHosts {
  const { byDefault } = config
  const made = new Map<string, SshHost>()
  const once = (host: SshHostConfig): SshHost => {
    const known = made.get(host.name) ?? hostOf(host)
    made.set(host.name, known)
    return known
  }
  return createSshHosts(config.hosts.map(once), deps, byDefault === undefined ? undefined : (name) => once(byDefault(name)))
}

function hostOf(config: SshHostConfig): SshHost {
  const { name, address, port, user } = config
  let login: Promise<SshLogin> | undefined
  return { name, address, port, user, login: () => (login ??= loginOf(config)), pin: () => pinOf(config) }
}

type LoginConfig = Pick<SshHostConfig, 'keyFile' | 'passphrase' | 'password'> & {
  readonly name: string
  readonly writtenIn?: string | undefined
}

/** The secrets of a login; `writtenIn` says where in vcb.yaml they belong, for the message of a login that has none. CONFIG, USAGE. */
export async function loginOf({ name, keyFile, passphrase, password, writtenIn }: LoginConfig): Promise<SshLogin> {
  if (keyFile !== undefined) {
    const text = new Secret(await readText(keyFile))
    const has = passphrase.file !== undefined || passphrase.env !== undefined
    return {
      key: {
        path: keyFile,
        text,
        passphrase: has ? await readSecret(passphrase, `passphrase of ${keyFile}`, 'ssh passphraseFile') : undefined,
      },
    }
  }
  if (password.file === undefined && password.env === undefined) {
    throw new AgentError('CONFIG', `There is no way to log in to ${name} over SSH.`, {
      subject: name,
      next: `Write keyFile or passwordFile into ${writtenIn ?? `ssh.hosts."${name}"`} of vcb.yaml.`,
    })
  }
  return { password: await readSecret(password, `SSH password of ${name}`, 'ssh passwordFile') }
}

/** CONFIG for a known_hosts file that cannot be read. */
export async function pinOf({ fingerprints, knownHosts }: Pick<SshHostConfig, 'fingerprints' | 'knownHosts'>): Promise<HostKeyPin> {
  // Neither: the connection is made to see the key, told in the refusal, and goes no further.
  if (fingerprints.length > 0) return { fingerprints: fingerprints.map((text) => parseFingerprint(text) ?? text) }
  if (knownHosts !== undefined) return { knownHosts: { path: knownHosts, text: await readText(knownHosts) } }
  return { fingerprints: [] }
}

export async function readText(path: string): Promise<string> {
  try {
    if ((await stat(path)).size > LARGEST)
      throw new AgentError('CONFIG', `${path} is too large to be a key or a list of hosts.`, { subject: path })
    return await readFile(path, 'utf8')
  } catch (error) {
    throw fromErrno(error, path) ?? error
  }
}
