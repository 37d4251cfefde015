import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll } from 'vitest'
import { type BlockSource, type Extent, systemClock } from '../../src/core/index.ts'
import { memorySource } from '../../src/disk/index.ts'
import { createNbdDisk, createNbdSink, NbdConnection } from '../../src/nbd/index.ts'
import { closing, foreignServer, picture, servedHere } from '../nbd-world.ts'
import { describePeer } from '../peer.ts'
import { blockSinkContract } from './block-sink-contract.ts'
import { blockSourceContract } from './block-source-contract.ts'

const SIZE = 5 * 1024 * 1024 + 1536
let directory = ''
let made = 0
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'vcb-contract-nbd-'))
})
afterAll(() => rmSync(directory, { recursive: true }))

const connect = (path: string): Promise<NbdConnection> => NbdConnection.open({ path }, '', { clock: systemClock })

async function overOurServer(extents?: readonly Extent[]): Promise<BlockSource> {
  const server = await servedHere([{ name: 'disk', source: memorySource(picture(SIZE), extents) }])
  return closing(createNbdDisk(await connect(server.path)), server)
}

blockSourceContract('our NBD client on our NBD server', async () => ({ source: await overOurServer(), image: picture(SIZE) }))

blockSourceContract('our NBD client on our NBD server, with a map', async () => {
  const extents: readonly Extent[] = [
    { offset: 0, length: 5000, kind: 'data' },
    { offset: 5000, length: 100_000, kind: 'zero' },
    { offset: 105_000, length: 3_900_001, kind: 'data' },
    { offset: 4_005_001, length: 800, kind: 'absent' },
    { offset: 4_005_801, length: SIZE - 4_005_801, kind: 'data' },
  ]
  return { source: await overOurServer(extents), image: picture(SIZE) }
})

/** A raw file; whole sectors, because qemu rounds. */
function rawFile(content: Uint8Array): string {
  const path = join(directory, `${made++}.img`)
  writeFileSync(path, content)
  return path
}

describePeer('qemu-nbd', 'qemu-nbd', (qemuNbd) => {
  blockSourceContract('our NBD client on qemu-nbd', async () => {
    const server = await foreignServer(qemuNbd, (socket) => ['-t', '-r', '-f', 'raw', '-k', socket, rawFile(picture(SIZE))])
    return { source: closing(createNbdDisk(await connect(server.path)), server), image: picture(SIZE) }
  })
})

describePeer('nbdkit', 'nbdkit', (nbdkit) => {
  const filters = {
    plain: [],
    'blocks of 512 bytes': ['--filter=blocksize-policy', 'blocksize-minimum=512', 'blocksize-error-policy=error'],
    'requests of 64 KiB': [
      '--filter=blocksize-policy',
      'blocksize-preferred=4096',
      'blocksize-maximum=64K',
      'blocksize-error-policy=error',
    ],
    'no structured replies': ['--no-sr'],
    'answers out of order': ['--filter=delay', 'delay-read=1ms'],
  } as const
  for (const [title, options] of Object.entries(filters)) {
    const before = options.filter((option) => option.startsWith('--'))
    const after = options.filter((option) => !option.startsWith('--'))
    blockSourceContract(`our NBD client on nbdkit, ${title}`, async () => {
      const server = await foreignServer(nbdkit, (socket) => [
        '-f',
        '-r',
        '-U',
        socket,
        ...before,
        'file',
        rawFile(picture(SIZE)),
        ...after,
      ])
      return { source: closing(createNbdDisk(await connect(server.path)), server), image: picture(SIZE) }
    })
  }

  for (const [title, filter] of [
    ['plain', []],
    ['no WRITE_ZEROES', ['--filter=nozero']],
  ] as const) {
    blockSinkContract(
      `our NBD sink on nbdkit, ${title}`,
      async (size) => {
        const path = rawFile(Buffer.alloc(0))
        truncateSync(path, size)
        const server = await foreignServer(nbdkit, (socket) => ['-f', '-U', socket, ...filter, 'file', path])
        const sink = createNbdSink(await connect(server.path))
        return {
          sink: {
            size: sink.size,
            write: (offset, data, options) => sink.write(offset, data, options),
            zero: (range, options) => sink.zero(range, options),
            flush: (options) => sink.flush(options),
            [Symbol.asyncDispose]: async () => {
              await sink[Symbol.asyncDispose]()
              await server[Symbol.asyncDispose]()
            },
          },
          image: async () => readFileSync(path),
        }
      },
      { abandoned: 'the target belongs to the server, which keeps what was written' },
    )
  }
})
