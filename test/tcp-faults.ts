import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

/** What ends a connection after so many bytes, counted in both directions together: it is cut, or nothing passes any more. */
export type TcpFault = { readonly afterBytes: number; readonly how: 'cut' | 'silence' }

export type TcpFaults = AsyncDisposable & { readonly port: number; readonly connections: number }

/** Stands before a server on a port of this machine. `plan` says what happens to the connection with this number, from 0; undefined = nothing. `own`: the port to listen on, any when 0. */
export async function startTcpFaults(port: number, plan: (connection: number) => TcpFault | undefined, own = 0): Promise<TcpFaults> {
  let connections = 0
  const open = new Set<Socket>()
  const server = createServer((from) => {
    const fault = plan(connections++)
    const to = connect(port, '127.0.0.1')
    let passed = 0
    for (const socket of [from, to]) {
      open.add(socket)
      const other = socket === from ? to : from
      socket.on('error', () => undefined)
      socket.on('close', () => {
        open.delete(socket)
        other.destroy()
      })
      socket.on('data', (piece: Buffer) => {
        const left = fault === undefined ? piece.length : Math.max(0, fault.afterBytes - passed)
        passed += piece.length
        if (left > 0 && !other.write(piece.subarray(0, left))) {
          socket.pause()
          other.once('drain', () => socket.resume())
        }
        if (fault?.how === 'cut' && passed >= fault.afterBytes) {
          // What passed arrives, then the end.
          other.end()
          socket.destroy()
        }
      })
    }
  })
  server.listen(own, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    get connections() {
      return connections
    },
    async [Symbol.asyncDispose]() {
      const closed = once(server, 'close')
      server.close()
      for (const socket of open) socket.destroy()
      await closed
    },
  }
}
