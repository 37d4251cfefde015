import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { isMissing } from '../../src/core/index.ts'

/** SHA-256 of each flat disk in a restored VM's directory; undefined when there is no such directory. */
export async function exportedDigests(directory: string): Promise<readonly string[] | undefined> {
  let names: readonly string[]
  try {
    names = await readdir(directory)
  } catch (error) {
    if (isMissing(error)) return undefined
    throw error
  }
  const digests: string[] = []
  for (const name of names.filter((each) => each.endsWith('-flat.vmdk'))) {
    const hash = createHash('sha256')
    await pipeline(createReadStream(join(directory, name)), hash)
    digests.push(hash.digest('hex'))
  }
  return digests
}
