import type { Server } from 'node:net'
import { AgentError } from '../../core/index.ts'

/** Listens on a local address; the port it got. 0 = any free one. `what` is served there, for the message. UNAVAILABLE when the port is taken. */
export async function listen(server: Server, at: { readonly host: string; readonly port: number }, what: string): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) =>
      reject(
        new AgentError('UNAVAILABLE', `The lab cannot listen for ${what} on ${at.host}:${at.port}.`, {
          cause: error,
          next: 'Stop what uses the port, or choose another.',
        }),
      ),
    )
    server.listen(at.port, at.host, () => resolve())
  })
  const address = server.address()
  return typeof address === 'object' && address !== null ? address.port : 0
}
