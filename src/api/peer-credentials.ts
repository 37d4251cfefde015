import { readFile } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'

/* socket(7), unix(7): the user of whoever connected, as the kernel knows it. */
const SOL_SOCKET = 1
const SO_PEERCRED = 17
/** `struct ucred`: pid, uid, gid. */
const UCRED_BYTES = 12

type GetOption = (fd: number) => Uint32Array | undefined

let cached: GetOption | undefined
let tried = false

/** The name of the user on the other side of a Unix socket, or `uid 1000` of one without a name; undefined where this runtime cannot tell. */
export async function userOf({ socket }: IncomingMessage): Promise<string | undefined> {
  if (!tried) {
    tried = true
    cached = process.platform === 'linux' ? loadGetOption() : undefined
  }
  // Node has no other way to the descriptor of a socket.
  const handle: unknown = Reflect.get(socket, '_handle')
  const fd: unknown = typeof handle === 'object' && handle !== null ? Reflect.get(handle, 'fd') : undefined
  const credentials = typeof fd === 'number' && fd >= 0 ? cached?.(fd) : undefined
  const uid = credentials?.[1]
  return uid === undefined ? undefined : ((await nameOf(uid)) ?? `uid ${uid}`)
}

/** libc's getsockopt through node:ffi, looked up once. */
function loadGetOption(): GetOption | undefined {
  // node:ffi is experimental and says so on stderr at load, which is no news for a user; as in disk/file-holes.ts.
  const emitWarning: unknown = Reflect.get(process, 'emitWarning')
  process.emitWarning = () => undefined
  try {
    const ffi = process.getBuiltinModule('node:ffi')
    if (ffi === undefined) return undefined
    const { functions } = ffi.dlopen(null, {
      getsockopt: { arguments: ['int32', 'int32', 'int32', 'pointer', 'pointer'], return: 'int32' },
    } as const)
    return (fd) => {
      const value = new Uint32Array(UCRED_BYTES / 4)
      const length = new Uint32Array([UCRED_BYTES])
      const answer = functions.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ffi.getRawPointer(value.buffer), ffi.getRawPointer(length.buffer))
      return answer === 0 && length[0] === UCRED_BYTES ? value : undefined
    }
  } catch {
    // Disabled by a flag or the permission model: the caller is then known as one of those whom the socket's permissions let in.
    return undefined
  } finally {
    Reflect.set(process, 'emitWarning', emitWarning)
  }
}

/** passwd(5). */
async function nameOf(uid: number): Promise<string | undefined> {
  let text: string
  try {
    text = await readFile('/etc/passwd', 'utf8')
  } catch {
    // A machine without the file: its number says as much.
    return undefined
  }
  for (const line of text.split('\n')) {
    const [name, , id] = line.split(':')
    if (id === String(uid)) return name
  }
  return undefined
}
