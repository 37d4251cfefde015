import { mkdtemp, open, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type BlockSink, MIB } from '../../src/core/index.ts'
import { openRemoteFiles, type SshHosts } from '../../src/ssh/index.ts'
import { remoteSink } from '../../src/transport/index.ts'
import { type OpenSshd, startSshd } from '../openssh.ts'
import { describePeers } from '../peer.ts'
import { blockSinkContract } from './block-sink-contract.ts'

describePeers(['sshd', 'ssh-keygen', 'python3'], 'flat files of a host over ssh', ({ sshd }) => {
  let server: OpenSshd
  let hosts: SshHosts
  beforeAll(async () => {
    server = await startSshd(sshd)
    hosts = server.hosts()
  })
  afterAll(async () => {
    await hosts[Symbol.asyncDispose]()
    await server[Symbol.asyncDispose]()
  })

  /** An empty disk in pieces of these sizes, the second one behind something else in its file. */
  async function emptyDisk(
    sizes: readonly number[],
  ): Promise<{ readonly sink: BlockSink; readonly paths: readonly string[]; readonly before: number }> {
    const directory = await mkdtemp(join(server.directory, 'sink-'))
    const before = 4096
    const paths = sizes.map((_, index) => join(directory, `disk-f${index}.vmdk`))
    for (const [index, size] of sizes.entries()) {
      await using file = await open(paths[index] ?? '', 'wx')
      await file.truncate(size + (index > 0 ? before : 0))
    }
    const files = await openRemoteFiles(await hosts.connect('sshd'))
    const parts = []
    let offset = 0
    for (const [index, length] of sizes.entries()) {
      const file = await files.openToWrite?.(paths[index] ?? '')
      if (file === undefined) throw new Error('python3 does not write')
      parts.push({ file, offset, length, start: index > 0 ? before : 0 })
      offset += length
    }
    return { sink: remoteSink('the disk', parts, files), paths, before }
  }
  const skips = { abandoned: 'the disk was there before and is its maker’s to remove' }

  blockSinkContract(
    'remoteSink, one file',
    async (size) => {
      const { sink, paths } = await emptyDisk([size])
      return { sink, image: () => readFile(paths[0] ?? '') }
    },
    skips,
  )
  blockSinkContract(
    'remoteSink, two files',
    async (size) => {
      const { sink, paths, before } = await emptyDisk([MIB + 512, size - MIB - 512])
      const [first = '', second = ''] = paths
      return { sink, image: async () => Buffer.concat([await readFile(first), (await readFile(second)).subarray(before)]) }
    },
    skips,
  )

  describe('a thin disk', () => {
    test('stays unallocated where nothing but zeros was written', async () => {
      const { sink, paths } = await emptyDisk([64 * MIB])
      await sink.write(10 * MIB + 100, Buffer.alloc(1000, 7))
      await sink.write(20 * MIB, Buffer.alloc(8 * MIB))
      await sink.zero({ offset: 30 * MIB, length: 20 * MIB })
      await sink.flush()
      await sink[Symbol.asyncDispose]()
      expect((await stat(paths[0] ?? '')).blocks * 512).toBeLessThan(MIB)
      const bytes = await readFile(paths[0] ?? '')
      expect(bytes.subarray(10 * MIB + 100, 10 * MIB + 1100).every((byte) => byte === 7)).toBe(true)
      expect(bytes.filter((byte) => byte !== 0)).toHaveLength(1000)
    })
  })
})
