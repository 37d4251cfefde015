import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll } from 'vitest'
import { createFlatDisk, createRawFile, localDiskFiles, openChain } from '../../src/disk/index.ts'
import { blockSinkContract } from './block-sink-contract.ts'

let directory = ''
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'vcb-sink-'))
})
afterAll(() => rmSync(directory, { recursive: true }))
let made = 0

blockSinkContract('createRawFile', async (size) => {
  const path = join(directory, `raw-${made++}`)
  return { sink: await createRawFile(path, size), image: async () => (existsSync(path) ? readFileSync(path) : undefined) }
})

for (const flavour of ['hosted', 'vmfs'] as const) {
  blockSinkContract(`createFlatDisk ${flavour}`, async (size) => {
    const target = mkdtempSync(join(directory, 'flat-'))
    return {
      sink: await createFlatDisk(target, 'd', size, { flavour }),
      image: async () => {
        if (readdirSync(target).length === 0) return undefined
        await using disk = await openChain(join(target, 'd.vmdk'), localDiskFiles())
        const image = new Uint8Array(disk.size)
        await disk.read(0, image)
        return image
      },
    }
  })
}
