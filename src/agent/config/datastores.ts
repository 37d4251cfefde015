import { resolve } from 'node:path'
import { z } from 'zod'
import { AgentError } from '../../core/index.ts'
import type { FileOf, Given } from './given.ts'

export type DatastoresConfig = {
  /** Datastore name → local directory where it is mounted, for the `san` transport. */
  readonly datastores: Readonly<Record<string, string>>
}

export const datastoresKeys = { datastores: z.record(z.string(), z.string()).optional() } as const

/** The file's map, with the pairs of VCB_DATASTORES and of the flags over it. */
export function datastoresOf({ datastores: file }: FileOf<typeof datastoresKeys>, { flags, environment, local }: Given): DatastoresConfig {
  const datastores: Record<string, string> = {}
  for (const [name, directory] of Object.entries(file ?? {})) datastores[name] = local(directory)
  for (const pair of [...(environment['VCB_DATASTORES']?.split(',') ?? []), ...(flags.datastore ?? [])]) {
    const at = pair.lastIndexOf('=')
    if (at <= 0 || at === pair.length - 1) {
      throw new AgentError('USAGE', `"${pair}" does not map a datastore to a directory.`, {
        next: 'Write --datastore NAME=/mounted/directory.',
      })
    }
    datastores[pair.slice(0, at)] = resolve(pair.slice(at + 1))
  }
  return { datastores: Object.freeze(datastores) }
}
