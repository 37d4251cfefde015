import { hash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isMissing, writeFileOnce } from '../../core/index.ts'
import { isHexId } from '../ids.ts'
import { isRecord } from '../snapshot.ts'
import type { RunFacts } from './index-run.ts'

/* Sets of an index cache: docs/formats/index-cache.md. */

const SET = /^set-([1-9][0-9]{0,14})$/
export const RUN = /^run-[0-9a-f]{32}$/
const VERSION = 1

export type CacheSet = { readonly number: number; readonly runs: readonly RunFacts[] }

/** Numbers of the sets in a directory, ascending; none when there is no directory. */
export async function setNumbers(directory: string): Promise<number[]> {
  const numbers = (await names(directory)).flatMap((name) => Number(SET.exec(name)?.[1] ?? []))
  return numbers.sort((a, b) => a - b)
}

export async function names(directory: string): Promise<string[]> {
  try {
    return await readdir(directory)
  } catch (error) {
    if (isMissing(error)) return []
    throw error
  }
}

export const setPath = (directory: string, number: number): string => join(directory, `set-${number}`)

/** The runs of a set; undefined when the file is damaged or of another version. Node's own ENOENT when it is gone. */
export async function readSet(directory: string, number: number): Promise<readonly RunFacts[] | undefined> {
  const text = await readFile(setPath(directory, number), 'utf8')
  const [json = '', digest] = text.split('\n')
  if (hash('sha256', json) !== digest) return undefined
  const value: unknown = JSON.parse(json)
  if (!isRecord(value) || value['version'] !== VERSION || !Array.isArray(value['runs'])) return undefined
  const runs = value['runs'].filter(isRunFacts)
  return runs.length === value['runs'].length ? runs : undefined
}

/** Writes a set unless there is one of its number already; false then. Durable. */
export function writeSet(directory: string, { number, runs }: CacheSet): Promise<boolean> {
  const json = JSON.stringify({ version: VERSION, runs })
  return writeFileOnce(setPath(directory, number), `${json}\n${hash('sha256', json)}\n`)
}

function isRunFacts(value: unknown): value is RunFacts {
  if (!isRecord(value)) return false
  const { name, nonce, records, packs, files } = value
  const whole = [nonce, records, packs].every((number) => Number.isInteger(number) && Number(number) >= 0 && Number(number) < 2 ** 32)
  return whole && typeof name === 'string' && RUN.test(name) && Array.isArray(files) && files.every(isHexId)
}
