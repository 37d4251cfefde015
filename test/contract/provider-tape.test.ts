import { readdir, rm, stat, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { AgentError, MIB, type RunId } from '../../src/core/index.ts'
import { removePartials } from '../../src/provider/index.ts'
import { DirectoryTape } from '../../src/provider/directory-tape.ts'
import { StreamProvider } from '../../src/provider/stream-provider.ts'
import { openTape, TAPE_BLOCK, TapeProduct } from '../../src/provider/tape-product.ts'
import { providerContract } from './provider-contract.ts'
import { collect, diskRef, expectPoint, nextTime, noise, vmConfig, WatchedDisk, writePoint } from './provider-fixtures.ts'
import { fastDirectory } from '../fast-directory.ts'

providerContract(
  'tape',
  async () => {
    const directory = await fastDirectory('vcb-tape-')
    return {
      open: async () => new StreamProvider(openTape(directory)),
      leftovers: () => readdir(directory),
      [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
    }
  },
  {
    incremental: 'a product that takes a stream stores every point whole',
    'independent points': 'there are no others',
    removal: 'nothing on a tape is removed alone',
  },
)

describe('tape', () => {
  let directory: string
  beforeEach(async () => {
    directory = await fastDirectory('vcb-tape-')
  })
  afterEach(() => rm(directory, { recursive: true, force: true }))
  const put = (seed: number) => {
    const bytes = noise(MIB, seed)
    return { bytes, disks: [{ disk: diskRef(2000, bytes.length), source: new WatchedDisk(bytes) }] }
  }

  it('writes whole blocks only, two tape files a point', async () => {
    await using provider = new StreamProvider(openTape(directory))
    await writePoint(provider, put(1).disks)
    await writePoint(provider, put(2).disks)
    const names = (await readdir(directory)).sort()
    expect(names).toEqual(['000000', '000001', '000002', '000003'])
    for (const name of names) expect((await stat(join(directory, name))).size % TAPE_BLOCK).toBe(0)
  })

  it('an archive whose second file was never written is no point, and the next point lies behind it', async () => {
    await using provider = new StreamProvider(openTape(directory))
    await writePoint(provider, put(1).disks)
    await unlink(join(directory, '000001'))
    expect(await collect(provider.points.list())).toEqual([])
    const next = put(2)
    const { id } = await writePoint(provider, next.disks)
    expect((await collect(provider.points.list())).map((point) => point.id)).toEqual([id])
    await expectPoint(provider, id, new Map([[2000, next.bytes]]))
    expect(await collect(provider.points.check(undefined, { readData: true }))).toEqual([])
  })

  it('a medium that ends in the second file: CAPACITY and no point, and the tape goes on behind it', async () => {
    const device = new DirectoryTape(directory)
    const ends = {
      files: () => device.files(),
      read: (file: number) => device.read(file),
      append: async (run: RunId) => {
        const file = await device.append(run)
        const write = async (): Promise<never> => {
          throw new AgentError('CAPACITY', 'The tape is full.')
        }
        return file.number === 0 ? file : { ...file, write }
      },
    }
    await using full = new StreamProvider(new TapeProduct('tape:full', ends))
    await expect(writePoint(full, put(1).disks)).rejects.toMatchObject({ code: 'CAPACITY' })
    expect(await collect(full.points.list())).toEqual([])
    expect(await readdir(directory)).toEqual(['000000'])
    await using provider = new StreamProvider(openTape(directory))
    const next = put(2)
    const { id } = await writePoint(provider, next.disks)
    await expectPoint(provider, id, new Map([[2000, next.bytes]]))
  })

  it('one run writes at a time; what a dead one left is removed by its id', async () => {
    await using provider = new StreamProvider(openTape(directory))
    const { disks } = put(1)
    const request = {
      config: vmConfig(
        'web01',
        disks.map(({ disk }) => disk),
      ),
      run: 'dead000000' as never,
      time: nextTime(),
    }
    await using _writer = await provider.begin(request)
    await expect(provider.begin({ ...request, run: 'beef000000' as never })).rejects.toMatchObject({ code: 'CONFLICT' })
    expect(await removePartials({ url: `tape:${directory}`, run: 'dead000000' as never })).toEqual([
      join(directory, '.tape.dead000000.partial'),
    ])
  })

  it('refuses a drive, a directory that is not there, and to remove a point', async () => {
    expect(() => openTape('/dev/nst0')).toThrow(/cannot be read back/)
    await using missing = new StreamProvider(openTape(join(directory, 'none')))
    await expect(collect(missing.points.list())).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await using provider = new StreamProvider(openTape(directory))
    const { id } = await writePoint(provider, put(1).disks)
    await expect(provider.points.delete(id)).rejects.toMatchObject({ code: 'CONFIG' })
    expect(await collect(provider.points.list())).toHaveLength(1)
  })
})
