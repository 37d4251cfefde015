import { connect, type Socket } from 'node:net'
import type { AnyAuthMethod, AuthenticationType, Client, ServerHostKeyAlgorithm } from 'ssh2'
import { type Abortable, AgentError, throwIfAborted } from '../core/index.ts'
import { checkHostKey, pinnedTypes } from './host-key.ts'
import type { SshHost, SshLogin } from './ssh-host.ts'
import { sshError } from './ssh-error.ts'

/** Patience for TCP, key exchange and login together, ms. */
const DIAL_MS = 30_000
const KEEP_ALIVE_MS = 15_000
const KEEP_ALIVES = 4
/** Rounds of questions that one login may ask. */
const ROUNDS = 4
/** AES-GCM first: the only ciphers that Node's own crypto does in one pass (three times the others' speed here). */
const CIPHERS = [
  'aes128-gcm@openssh.com',
  'aes256-gcm@openssh.com',
  'aes128-ctr',
  'aes192-ctr',
  'aes256-ctr',
  'chacha20-poly1305@openssh.com',
] as const

/** Loaded with the first connection: it costs a third of the start of a command, and most never dial. */
const library = async (): Promise<typeof import('ssh2')> => (await import('ssh2')).default

/**
 * A connection that is logged in, its host key compared with the pin before a word of the login is sent. The caller ends it.
 * AUTH (host key, login), CONFIG (key file), UNAVAILABLE, CANCELED. A failed dial leaves no socket.
 */
export async function dialSsh(host: SshHost, options?: Abortable): Promise<{ readonly client: Client; readonly socket: Socket }> {
  throwIfAborted(options)
  const [pin, login] = [await host.pin(options), await host.login(options)]
  const ssh2 = await library()
  const nextMethod = methodChooser(host, loginMethods(host, login, ssh2))
  const client = new ssh2.Client()
  // Without Nagle's algorithm, which holds back what asks for the next window: three times slower here.
  const socket = connect({ host: host.address, port: host.port, noDelay: true })
  const types = pinnedTypes(pin, host)
  let refused: unknown
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const abort = (): void => reject(options?.signal?.reason)
  options?.signal?.addEventListener('abort', abort, { once: true })
  client
    .on('ready', resolve)
    .on('error', (error) => reject(refused ?? error))
    .on('close', () =>
      reject(refused ?? new AgentError('UNAVAILABLE', `${host.name} closed the SSH connection during the login.`, { subject: host.name })),
    )
  try {
    client.connect({
      sock: socket,
      username: host.user,
      readyTimeout: DIAL_MS,
      keepaliveInterval: KEEP_ALIVE_MS,
      keepaliveCountMax: KEEP_ALIVES,
      algorithms: { cipher: [...CIPHERS], compress: ['none'], ...(types === undefined ? {} : { serverHostKey: algorithmsFor(types) }) },
      hostVerifier: (key: Buffer) => {
        try {
          checkHostKey(host, key, pin)
          return true
        } catch (error) {
          refused = error
          return false
        }
      },
      authHandler: (left: readonly AuthenticationType[] | null, partial: boolean | null, next) => {
        const method = nextMethod(left, partial)
        // `false` ends the attempts, which the types do not know.
        Reflect.apply(next, undefined, [method ?? false])
      },
    })
    await promise
    return { client, socket }
  } catch (error) {
    socket.destroy()
    throwIfAborted(options)
    throw sshError(host.name, error)
  } finally {
    options?.signal?.removeEventListener('abort', abort)
  }
}

type Choose = (left: readonly AuthenticationType[] | null, partial: boolean | null) => AnyAuthMethod | undefined

/**
 * Asks what the host takes, then tries one of it: a wrong password sent twice would bring the account nearer to being locked. A second one only where
 * the host wants more than one.
 */
function methodChooser(host: SshHost, methods: readonly AnyAuthMethod[]): Choose {
  const tried = new Set<string>()
  return (left, partial) => {
    if (left === null) return { type: 'none', username: host.user }
    if (tried.size > 0 && partial !== true) return undefined
    const method = methods.find(({ type }) => left.includes(type) && !tried.has(type))
    if (method !== undefined) tried.add(method.type)
    return method
  }
}

function loginMethods(host: SshHost, login: SshLogin, ssh2: Awaited<ReturnType<typeof library>>): AnyAuthMethod[] {
  const username = host.user
  if ('key' in login) {
    const { path, text, passphrase } = login.key
    const key = ssh2.utils.parseKey(text.reveal(), passphrase?.reveal())
    if (key instanceof Error) {
      throw new AgentError('CONFIG', `The SSH key ${path} cannot be used: ${key.message}.`, {
        subject: path,
        cause: key,
        next: 'Give a private key in OpenSSH or PEM format, and its passphrase where it has one.',
      })
    }
    const [first] = Array.isArray(key) ? key : [key]
    if (first === undefined || !first.isPrivateKey()) {
      throw new AgentError('CONFIG', `The SSH key ${path} cannot be used: it is no private key.`, {
        subject: path,
        next: 'Name the file without .pub.',
      })
    }
    return [{ type: 'publickey', username, key: first }]
  }
  const password = login.password.reveal()
  let rounds = 0
  return [
    {
      type: 'keyboard-interactive',
      username,
      prompt: (_name, _instructions, _lang, prompts, finish) => {
        // Only a hidden question is for the password; a server that asks on and on is left.
        finish(++rounds > ROUNDS ? [] : prompts.map(({ echo }) => (echo === true ? '' : password)))
      },
    },
    { type: 'password', username, password },
  ]
}

/** Signature algorithms that go with key types of known_hosts. */
function algorithmsFor(types: readonly string[]): ServerHostKeyAlgorithm[] {
  const known: Readonly<Record<string, readonly ServerHostKeyAlgorithm[]>> = {
    'ssh-ed25519': ['ssh-ed25519'],
    'ecdsa-sha2-nistp256': ['ecdsa-sha2-nistp256'],
    'ecdsa-sha2-nistp384': ['ecdsa-sha2-nistp384'],
    'ecdsa-sha2-nistp521': ['ecdsa-sha2-nistp521'],
    'ssh-rsa': ['rsa-sha2-512', 'rsa-sha2-256'],
  }
  return types.flatMap((type) => known[type] ?? [])
}
