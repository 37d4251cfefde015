import { join } from 'node:path'
import { z } from 'zod'
import type { SocketOptions, TcpOptions } from '../../api/index.ts'
import { type FileOf, type Given, localIf } from './given.ts'
import type { StateConfig } from './state.ts'

/** How a running agent is asked: docs/api.md. */
export type ApiConfig = {
  readonly api: {
    /** Undefined: not opened. */
    readonly socket: SocketOptions | undefined
    /** Undefined: not opened, as long as nothing is set. */
    readonly tcp: TcpOptions | undefined
  }
}

/** Of the socket, in the state directory. */
const SOCKET = 'agent.sock'

const LISTEN = /^(?:\[([0-9a-fA-F:]+)\]|([\w.-]+)):(\d{1,5})$/

export const apiKeys = {
  api: z
    .strictObject({
      socket: z.union([z.string().min(1), z.literal(false)]).optional(),
      group: z.union([z.string().min(1), z.int().nonnegative()]).optional(),
      listen: z.string().regex(LISTEN, 'HOST:PORT, as 0.0.0.0:8443 or [::]:8443').optional(),
      tls: z.strictObject({ certificate: z.string(), key: z.string() }).optional(),
    })
    .refine(({ listen, tls }) => listen === undefined || tls !== undefined, {
      path: ['listen'],
      message: 'is opened with TLS only: set api.tls.certificate and api.tls.key too',
    })
    .optional(),
} as const

export function apiOf(
  { api: file }: FileOf<typeof apiKeys>,
  given: Given,
  { stateDirectory }: Pick<StateConfig, 'stateDirectory'>,
): ApiConfig {
  const { socket: asked, group, listen, tls } = file ?? {}
  const path = asked === false ? undefined : (localIf(given, asked) ?? join(stateDirectory, SOCKET))
  const [, v6, host = v6 ?? '', port] = LISTEN.exec(listen ?? '') ?? []
  return {
    api: Object.freeze({
      socket: path === undefined ? undefined : { path, group: group === undefined ? undefined : String(group) },
      tcp:
        listen === undefined || tls === undefined
          ? undefined
          : { host, port: Number(port), tls: { certificate: given.local(tls.certificate), key: given.local(tls.key) } },
    }),
  }
}
