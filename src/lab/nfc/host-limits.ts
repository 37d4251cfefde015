import type { LabKind } from '../wire/index.ts'
import { badRequest, noMemory, tooManySessions } from './nfc-refusal.ts'

/** Largest buffer a host gives. */
export const LARGEST_BUFFER = 2 * 1024 * 1024
export const DEFAULT_BUFFER = 65_536
/** Largest sum of one session's buffers, and the least a session takes. */
const LARGEST_STREAM = 10 * 1024 * 1024
const LEAST_STREAM = 1024 * 1024
/** What the host adds to each buffer. */
const BUFFER_HEAD = 24

export type LimitOptions = { readonly memory: number; readonly sessionsPerHost: number; readonly throughVcenter: number }

/** Sessions and buffer memory of all hosts. */
export class HostLimits {
  readonly #options: LimitOptions
  readonly #hosts = new Map<string, { sessions: number; bytes: number }>()
  #vcenter = 0

  constructor(options: LimitOptions) {
    this.#options = options
  }

  /** Buffer memory in use, bytes, of all hosts. */
  get bytes(): number {
    return [...this.#hosts.values()].reduce((sum, host) => sum + host.bytes, 0)
  }

  /** Takes a session of `count` buffers of `size` bytes; the buffers go back on disposal. NfcRefusal. */
  take(host: string, through: LabKind, size: number, count: number): Disposable & { readonly bytes: number } {
    const used = this.#hosts.get(host) ?? { sessions: 0, bytes: 0 }
    const vcenter = through === 'vcenter' ? 1 : 0
    if (size > LARGEST_BUFFER) throw badRequest(`NfcAioOpenSession: a buffer of ${size} bytes is too large`)
    const sum = size * Math.max(1, count)
    if (sum > LARGEST_STREAM) throw noMemory(sum + BUFFER_HEAD)
    if (used.sessions >= this.#options.sessionsPerHost || this.#vcenter + vcenter > this.#options.throughVcenter) throw tooManySessions()
    const bytes = Math.max(LEAST_STREAM, sum)
    if (used.bytes + bytes > this.#options.memory) throw noMemory(size + BUFFER_HEAD)
    this.#hosts.set(host, used)
    used.sessions++
    used.bytes += bytes
    this.#vcenter += vcenter
    let open = true
    return {
      bytes,
      [Symbol.dispose]: () => {
        if (!open) return
        open = false
        used.sessions--
        used.bytes -= bytes
        this.#vcenter -= vcenter
      },
    }
  }
}
