import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { isAgentError } from '../core/index.ts'
import { localDiskFiles } from './disk-files.ts'
import { openLocalFile } from './local-file.ts'

let directory = ''
beforeEach(() => {
  directory = realpathSync(mkdtempSync(join(tmpdir(), 'vcb-files-')))
  mkdirSync(join(directory, 'vm'))
  mkdirSync(join(directory, 'base'))
  for (const name of ['vm/a.vmdk', 'vm/a-flat.vmdk', 'base/b.vmdk', 'secret']) writeFileSync(join(directory, name), name)
})
afterEach(() => rmSync(directory, { recursive: true }))

describe('localDiskFiles', () => {
  it('resolves files beside the descriptor and below its directory', async () => {
    mkdirSync(join(directory, 'vm/parts'))
    writeFileSync(join(directory, 'vm/parts/p.vmdk'), '')
    const files = localDiskFiles()
    const from = await files.resolve(join(directory, 'vm/a.vmdk'), undefined)
    expect(await files.resolve('a-flat.vmdk', from)).toBe(join(directory, 'vm/a-flat.vmdk'))
    expect(await files.resolve('parts/p.vmdk', from)).toBe(join(directory, 'vm/parts/p.vmdk'))
    expect(await files.resolve('./parts/../a-flat.vmdk', from)).toBe(join(directory, 'vm/a-flat.vmdk'))
    expect(await files.resolve(join(directory, 'vm/a-flat.vmdk'), from)).toBe(join(directory, 'vm/a-flat.vmdk'))
  })

  it('refuses references that leave the directory, also through a symbolic link', async () => {
    const files = localDiskFiles()
    const from = join(directory, 'vm/a.vmdk')
    symlinkSync(join(directory, 'secret'), join(directory, 'vm/link.vmdk'))
    symlinkSync(directory, join(directory, 'vm/up'))
    for (const reference of [
      '../secret',
      '/etc/passwd',
      'link.vmdk',
      'up/secret',
      'x\0y',
      '',
      '.',
      '[ds] vm/a.vmdk',
      'vsan://x',
      '/vmfs/volumes/u/vm/a.vmdk',
    ]) {
      await expect(files.resolve(reference, from), reference).rejects.toSatisfy((error) => isAgentError(error, 'CONFIG'))
    }
  })

  it('asks the map for what leaves the directory, and holds its answers to the roots', async () => {
    const asked: string[] = []
    const files = localDiskFiles({
      roots: [join(directory, 'vm'), join(directory, 'base')],
      map: async (reference) => {
        asked.push(reference)
        if (reference.startsWith('[ds] ')) return join(directory, reference.slice(5))
        return reference.startsWith('/vmfs/volumes/uuid/') ? join(directory, reference.slice(19)) : undefined
      },
    })
    const from = await files.resolve('[ds] vm/a.vmdk', undefined)
    expect(from).toBe(join(directory, 'vm/a.vmdk'))
    expect(await files.resolve('/vmfs/volumes/uuid/base/b.vmdk', from)).toBe(join(directory, 'base/b.vmdk'))
    expect(await files.resolve('a-flat.vmdk', from)).toBe(join(directory, 'vm/a-flat.vmdk'))
    await expect(files.resolve('/vmfs/volumes/uuid/secret', from)).rejects.toSatisfy((error) => isAgentError(error, 'CONFIG'))
    await expect(files.resolve('/vmfs/volumes/other/b.vmdk', from)).rejects.toSatisfy((error) => isAgentError(error, 'CONFIG'))
    expect(asked).toEqual(['[ds] vm/a.vmdk', '/vmfs/volumes/uuid/base/b.vmdk', '/vmfs/volumes/uuid/secret', '/vmfs/volumes/other/b.vmdk'])
  })

  it('says when a file is missing', async () => {
    await expect(localDiskFiles().resolve('gone.vmdk', join(directory, 'vm/a.vmdk'))).rejects.toSatisfy((error) =>
      isAgentError(error, 'NOT_FOUND'),
    )
  })
})

describe('openLocalFile', () => {
  it('refuses a FIFO, a directory, a device and a symbolic link, at once', async () => {
    execFileSync('mkfifo', [join(directory, 'fifo')])
    symlinkSync(join(directory, 'secret'), join(directory, 'link'))
    for (const path of [join(directory, 'fifo'), directory, '/dev/null', join(directory, 'link')]) {
      await expect(openLocalFile(path), path).rejects.toSatisfy((error) => isAgentError(error, 'CONFIG'))
    }
  })

  it('calls a file that shrinks while it is read damaged, and names it', async () => {
    const path = join(directory, 'shrinking')
    writeFileSync(path, Buffer.alloc(10_000))
    await using file = await openLocalFile(path)
    truncateSync(path, 5000)
    await expect(file.read(4000, new Uint8Array(2000))).rejects.toSatisfy(
      (error) => isAgentError(error, 'INTEGRITY') && error.message.includes(path),
    )
  })

  it('lists the holes of a file of 2 TiB at once', async () => {
    const path = join(directory, 'huge')
    writeFileSync(path, 'start')
    truncateSync(path, 2 ** 41)
    await using file = await openLocalFile(path)
    let data = 0
    let count = 0
    for await (const extent of file.dataExtents?.({ offset: 0, length: file.size }) ?? []) {
      count++
      if (extent.kind === 'data') data += extent.length
    }
    expect(count).toBeGreaterThan(0)
    // Without lseek (another system, node:ffi disabled) the whole file counts as data.
    if (count > 1) expect(data).toBeLessThan(1_048_576)
  })
})
