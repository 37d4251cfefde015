import { AgentError } from '../core/index.ts'
import { goString, goTime } from './go-json.ts'
import { isHexId } from './ids.ts'

/** A restic snapshot: one point in time. `tree` is the root directory's tree id. */
export type Snapshot = {
  /** RFC 3339; any precision up to nanoseconds. */
  readonly time: string
  readonly parent?: string | undefined
  readonly tree: string
  readonly paths: readonly string[]
  readonly hostname: string
  readonly username: string
  readonly uid?: number | undefined
  readonly gid?: number | undefined
  readonly excludes?: readonly string[] | undefined
  readonly tags?: readonly string[] | undefined
  /** The snapshot this one was copied or re-tagged from. */
  readonly original?: string | undefined
  readonly programVersion?: string | undefined
}

/** A snapshot with the id of its file. */
export type StoredSnapshot = Snapshot & { readonly id: string }

/** JSON of a snapshot file, fields in restic's order. USAGE for a bad time or id. */
export function encodeSnapshot(snapshot: Snapshot): Buffer {
  for (const id of [snapshot.tree, snapshot.parent, snapshot.original]) {
    if (id !== undefined && !isHexId(id))
      throw new AgentError('USAGE', `A snapshot cannot refer to ${JSON.stringify(id)}, which is not an id.`)
  }
  const list = (texts: readonly string[]): string => `[${texts.map(goString).join(',')}]`
  const fields: string[] = [`"time":${goString(goTime(snapshot.time))}`]
  const text = (name: string, value: string | undefined): void => {
    if (value !== undefined && value !== '') fields.push(`"${name}":${goString(value)}`)
  }
  const number = (name: string, value: number | undefined): void => {
    if (value !== undefined && value !== 0) fields.push(`"${name}":${value}`)
  }
  const texts = (name: string, value: readonly string[] | undefined): void => {
    if (value !== undefined && value.length > 0) fields.push(`"${name}":${list(value)}`)
  }
  text('parent', snapshot.parent)
  text('tree', snapshot.tree)
  fields.push(`"paths":${list(snapshot.paths)}`)
  text('hostname', snapshot.hostname)
  text('username', snapshot.username)
  number('uid', snapshot.uid)
  number('gid', snapshot.gid)
  texts('excludes', snapshot.excludes)
  texts('tags', snapshot.tags)
  text('original', snapshot.original)
  text('program_version', snapshot.programVersion)
  return Buffer.from(`{${fields.join(',')}}`, 'utf8')
}

/** Reads a snapshot file's JSON. Unknown fields are passed over. INTEGRITY. */
export function parseSnapshot(json: unknown, id: string): StoredSnapshot {
  const refuse = (problem: string): never => {
    throw new AgentError('INTEGRITY', `Snapshot ${id} cannot be read: ${problem}.`, { subject: id })
  }
  if (!isRecord(json)) return refuse('it is not a JSON object')
  const text = (name: string): string | undefined => {
    const value = json[name]
    if (value === undefined || value === null) return undefined
    return typeof value === 'string' ? value : refuse(`its field ${name} is not text`)
  }
  const number = (name: string): number | undefined => {
    const value = json[name]
    if (value === undefined || value === null) return undefined
    return typeof value === 'number' ? value : refuse(`its field ${name} is not a number`)
  }
  const texts = (name: string): string[] => {
    const value = json[name]
    if (value === undefined || value === null) return []
    return Array.isArray(value) && value.every((item) => typeof item === 'string')
      ? value
      : refuse(`its field ${name} is not a list of texts`)
  }
  const reference = (name: string): string | undefined => {
    const value = text(name)
    return value === undefined || isHexId(value) ? value : refuse(`its field ${name} is not an id`)
  }
  return {
    id,
    time: text('time') ?? refuse('it has no time'),
    parent: reference('parent'),
    tree: reference('tree') ?? refuse('it has no tree'),
    paths: texts('paths'),
    hostname: text('hostname') ?? '',
    username: text('username') ?? '',
    uid: number('uid'),
    gid: number('gid'),
    excludes: texts('excludes'),
    tags: texts('tags'),
    original: reference('original'),
    programVersion: text('program_version'),
  }
}

/** A plain JSON object. */
export const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
