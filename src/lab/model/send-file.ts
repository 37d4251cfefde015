import { closeSync, openSync, readSync } from 'node:fs'
import type { ServerResponse } from 'node:http'

const PIECE = 256 * 1024
/** Pieces kept for the next answers. */
const KEPT = 16

/** Memory for the bodies of all answers, used again once a piece is sent: fresh pages for each cost more than sending it. */
export class SendMemory {
  readonly #free: Buffer[] = []

  take(): Buffer {
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(PIECE)
  }

  giveBack(piece: Buffer): void {
    if (this.#free.length < KEPT) this.#free.push(piece)
  }
}

/**
 * Sends bytes `start` to `end` (inclusive) of a file as the rest of an answer and ends it; `limit` may end the body early. Ends the connection when the
 * file is shorter than it was. Throws what opening throws.
 */
export async function sendFile(
  file: string,
  { start, end }: { readonly start: number; readonly end: number },
  response: ServerResponse,
  options: {
    readonly memory: SendMemory
    readonly limit: ((body: AsyncIterable<Uint8Array>, response: ServerResponse) => AsyncIterable<Uint8Array>) | undefined
  },
): Promise<void> {
  const fd = openSync(file, 'r')
  const piece = options.memory.take()
  try {
    const body = pieces(fd, piece, start, end)
    if (options.limit === undefined) for (const part of body) await sent(response, part)
    else for await (const part of options.limit(asynchronous(body), response)) await sent(response, part)
    if (!response.destroyed) response.end()
  } catch (error) {
    if (!(error instanceof BodyOver)) throw error
    response.destroy()
  } finally {
    closeSync(fd)
    options.memory.giveBack(piece)
  }
}

class BodyOver extends Error {}

function* pieces(fd: number, piece: Buffer, start: number, end: number): Generator<Uint8Array> {
  for (let at = start; at <= end; ) {
    const count = readSync(fd, piece, 0, Math.min(PIECE, end + 1 - at), at)
    if (count === 0) throw new BodyOver('the file became shorter')
    yield piece.subarray(0, count)
    at += count
  }
}

async function* asynchronous(body: Iterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield* body
}

/** Resolves when the kernel has the bytes. */
const sent = (response: ServerResponse, part: Uint8Array): Promise<void> =>
  new Promise((resolve, reject) => {
    if (response.destroyed) reject(new BodyOver('the client is gone'))
    else response.write(part, (error) => (error == null ? resolve() : reject(new BodyOver(error.message))))
  })
