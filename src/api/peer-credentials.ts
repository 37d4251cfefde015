import { readFile } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { nativeLibrary } from '../core/index.ts'

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

/** libc's getsockopt, looked up once. Without it the caller is known as one of those whom the socket's permissions let in. */
function loadGetOption(): GetOption | undefined {
  const library = nativeLibrary({ getsockopt: { arguments: ['i32', 'i32', 'i32', 'pointer', 'pointer'], return: 'i32' } })
  if (library === undefined) return undefined
  const { functions, pointer } = library
  return (fd) => {
    const value = new Uint32Array(UCRED_BYTES / 4)
    const length = new Uint32Array([UCRED_BYTES])
    const answer = functions.getsockopt(
      fd,
      SOL_SOCKET,
      SO_PEERCRED,
      pointer(new Uint8Array(value.buffer)),
      pointer(new Uint8Array(length.buffer)),
    )
    return answer === 0 && length[0] === UCRED_BYTES ? value : undefined
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
