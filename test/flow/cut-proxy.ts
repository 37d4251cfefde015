import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'

/** A TCP proxy between a client and a lab: the network, which a test can take away and give back. */
export type CutProxy = AsyncDisposable & {
  /** `https://127.0.0.1:PORT`. */
  readonly url: string
  /** Cuts every connection; new ones are refused until `mend`. */
  cut(): void
  mend(): void
  /** Cuts the connections there are; new ones go through. */
  interrupt(): void
  /** Bytes that went to the client. */
  readonly received: number
}

export async function openCutProxy(target: string): Promise<CutProxy> {
  const { hostname, port } = new URL(target)
  const open = new Set<Socket>()
  let away = false
  let received = 0
  const interrupt = (): void => {
    for (const socket of open) socket.destroy()
  }
  const server = createServer((client) => {
    if (away) {
      client.destroy()
      return
    }
    const upstream = connect(Number(port), hostname)
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      open.add(socket)
      // A cut connection is what this is for; the client and the lab see the error at their end.
      socket.on('error', () => other.destroy())
      socket.on('close', () => {
        open.delete(socket)
        other.destroy()
      })
    }
    upstream.on('data', (piece) => (received += piece.length))
    client.pipe(upstream)
    upstream.pipe(client)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the proxy has no port')
  return {
    url: `https://127.0.0.1:${address.port}`,
    cut: () => {
      away = true
      interrupt()
    },
    mend: () => {
      away = false
    },
    interrupt,
    get received() {
      return received
    },
    [Symbol.asyncDispose]: async () => {
      interrupt()
      server.close()
      await once(server, 'close')
    },
  }
}
