import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { isAgentError, mergeRanges, MIB, type PointId, type Range, totalLength } from '../../src/core/index.ts'
import type { BackupProvider } from '../../src/provider/index.ts'
import {
  collect,
  diskRef,
  type DiskToPut,
  expectPoint,
  facts,
  nextTime,
  noise,
  patterned,
  plan,
  vmConfig,
  WatchedDisk,
  whole,
  writePoint,
} from './provider-fixtures.ts'

/** One destination under test, made anew for each case. */
export type ProviderSubject = AsyncDisposable & {
  /** Opens it; several times in one case gives the same destination. */
  open(): Promise<BackupProvider>
  /** Names of everything the destination shows to a stranger; a point that was aborted must add nothing that looks like a point. */
  leftovers(): Promise<readonly string[]>
}

export type ProviderCase = 'incremental' | 'independent points' | 'removal'

const VM_NAMES = [
  'a/b',
  '..',
  '.hidden',
  'quo"te\'s',
  'new\nline',
  'Büro – 東京 🖥',
  'per%cent %s',
  'x'.repeat(255),
  'trailing. ',
  '-rf',
  'a:b*?<>|',
]

/** What every `BackupProvider` promises. `skip` names cases that do not apply, with the reason. */
export function providerContract(
  name: string,
  make: () => Promise<ProviderSubject>,
  skip: Partial<Record<ProviderCase, string>> = {},
): void {
  describe(`provider contract: ${name}`, () => {
    let subject: ProviderSubject
    let provider: BackupProvider
    beforeEach(async () => {
      subject = await make()
      provider = await subject.open()
    })
    afterEach(async () => {
      await provider[Symbol.asyncDispose]()
      await subject[Symbol.asyncDispose]()
    })
    const points = () => {
      if (provider.points === undefined) throw new Error('this destination cannot be read back')
      return provider.points
    }
    const unless = (which: ProviderCase) =>
      skip[which] === undefined ? it : (title: string, _body: () => Promise<void>) => it.skip(`${title} (${skip[which]})`)

    it('gives a full point back byte for byte, read once and only where there is data', async () => {
      const first = new WatchedDisk(
        patterned(5 * MIB + 512, [
          { offset: 100_000, length: 1_000_000 },
          { offset: 5 * MIB, length: 512 },
        ]),
      )
      const second = new WatchedDisk(patterned(2 * MIB, [{ offset: 0, length: 2 * MIB }]))
      const disks: DiskToPut[] = [
        { disk: diskRef(2000, first.size), source: first },
        { disk: diskRef(2001, second.size), source: second },
      ]
      const { id, written } = await writePoint(provider, disks)
      first.expectReadsWithin(whole(first.size))
      second.expectReadsWithin(whole(second.size))
      expect(written.map((disk) => disk.changedBytes)).toEqual([first.size, second.size])
      expect(written.map((disk) => disk.readBytes)).toEqual([first.readBytes, second.readBytes])
      expect(written[1]?.storedBytes).toBeGreaterThan(2 * MIB - 1)
      await expectPoint(
        provider,
        id,
        new Map([
          [2000, first.bytes],
          [2001, second.bytes],
        ]),
      )
      await using reader = await points().open(id.slice(0, Math.max(6, id.length - 2)))
      expect(Buffer.from(await reader.file('web01.vmx')).toString()).toBe('displayName = "web01"\n')
      expect(reader.manifest).toMatchObject({ mode: 'full', consistency: 'crash', manifestVersion: 1, vm: { name: 'web01' } })
      expect(reader.manifest.config.extraConfig).toEqual({ 'guestinfo.test': 'ü' })
      expect(reader.manifest.files).toEqual([{ name: 'web01.vmx', size: 22 }])
      await expect(reader.file('none')).rejects.toMatchObject({ code: 'NOT_FOUND' })
      await expect(reader.disk(1)).rejects.toMatchObject({ code: 'NOT_FOUND' })
    })

    it('takes everything outside the ranges of a full plan as zero, without reading it', async () => {
      const bytes = noise(3 * MIB, 7)
      const disk = new WatchedDisk(bytes)
      const ranges = [
        { offset: 65_536, length: 131_072 },
        { offset: 2 * MIB - 65_536, length: 131_072 },
      ]
      const { id, written } = await writePoint(provider, [{ disk: diskRef(2000, disk.size), source: disk, ranges }])
      disk.expectReadsWithin(ranges)
      expect(written[0]?.readBytes).toBe(262_144)
      const expected = Buffer.alloc(bytes.length)
      for (const { offset, length } of ranges) bytes.copy(expected, offset, offset, offset + length)
      await expectPoint(provider, id, new Map([[2000, expected]]))
    })

    it('stores a disk that holds nothing', async () => {
      const disk = new WatchedDisk(Buffer.alloc(3 * MIB + 1024))
      const { id } = await writePoint(provider, [{ disk: diskRef(2000, disk.size), source: disk, ranges: [] }])
      expect(disk.reads).toEqual([])
      await expectPoint(provider, id, new Map([[2000, disk.bytes]]))
    })

    it('lists complete points with their facts, also when opened again', async () => {
      const disk = new WatchedDisk(noise(MIB, 3))
      const { id } = await writePoint(provider, [{ disk: diskRef(2000, disk.size), source: disk }])
      await using again = await subject.open()
      const listed = await collect((again.points ?? points()).list())
      expect(listed).toMatchObject([
        {
          id,
          vmName: 'web01',
          instanceUuid: 'uuid-50 1a',
          vcenterUuid: 'vc-1',
          mode: 'full',
          consistency: 'crash',
          totalBytes: MIB,
          readBytes: MIB,
          notProtected: 1,
        },
      ])
      expect(listed[0]?.repository).toBe(again.url)
      expect(again.url).toBe(provider.url)
    })

    it('leaves nothing of a point that was not committed', async () => {
      const before = await subject.leftovers()
      const disk = diskRef(2000, 2 * MIB)
      {
        await using writer = await provider.begin({ config: vmConfig('web01', [disk]), run: 'aaaaaa' as never, time: nextTime() })
        await writer.putFile('a.vmx', Buffer.from('x'))
        await writer.putDisk(disk, new WatchedDisk(noise(2 * MIB, 1)), plan('full', whole(2 * MIB)))
      }
      expect(await collect(points().list())).toEqual([])
      expect(await subject.leftovers()).toEqual(before)
    })

    it('passes a failing source on, and nothing of the point is listed', async () => {
      const before = await subject.leftovers()
      const source = new WatchedDisk(noise(6 * MIB, 1))
      source.failAt = 3 * MIB
      await expect(writePoint(provider, [{ disk: diskRef(2000, source.size), source }])).rejects.toMatchObject({ code: 'UNAVAILABLE' })
      expect(await collect(points().list())).toEqual([])
      expect(await subject.leftovers()).toEqual(before)
    })

    it('stops when it is canceled', async () => {
      const source = new WatchedDisk(noise(8 * MIB, 1))
      const controller = new AbortController()
      source.onRead = () => {
        if (source.reads.length === 2) controller.abort()
      }
      const disk = diskRef(2000, source.size)
      await using writer = await provider.begin({ config: vmConfig('web01', [disk]), run: 'cccccc' as never, time: nextTime() })
      const error = await writer
        .putDisk(disk, source, plan('full', whole(source.size)), { signal: controller.signal })
        .catch((thrown: unknown) => thrown)
      expect(isAgentError(error, 'CANCELED') || (error instanceof Error && error.name === 'AbortError'), String(error)).toBe(true)
      expect(source.readBytes).toBeLessThan(source.size)
    })

    it('counts progress up to the whole plan', async () => {
      const source = new WatchedDisk(patterned(5 * MIB, [{ offset: MIB, length: 2 * MIB }]))
      const disk = diskRef(2000, source.size)
      await using writer = await provider.begin({ config: vmConfig('web01', [disk]), run: 'dddddd' as never, time: nextTime() })
      const seen: number[] = []
      const ranges = [{ offset: 0, length: 4 * MIB }]
      const written = await writer.putDisk(disk, source, plan('full', ranges), { onProgress: ({ doneBytes }) => seen.push(doneBytes) })
      expect(seen.at(-1)).toBe(4 * MIB)
      expect([...seen].sort((a, b) => a - b)).toEqual(seen)
      expect(written.changedBytes).toBe(4 * MIB)
    })

    it('refuses file names that leave the point or take a name of its own', async () => {
      const disk = diskRef(2000, MIB)
      await using writer = await provider.begin({ config: vmConfig('web01', [disk]), run: 'eeeeee' as never, time: nextTime() })
      for (const bad of ['../x', 'a/b', '', '.', '..', 'manifest.json', 'vm-2000.vmdk', 'vm-2000-flat.vmdk', 'x\n']) {
        await expect(writer.putFile(bad, Buffer.from('x')), bad).rejects.toMatchObject({ code: 'USAGE' })
      }
    })

    it('takes VMs of any name, and keeps them apart', async () => {
      const made = new Map<string, { readonly id: PointId; readonly bytes: Buffer }>()
      for (const vmName of VM_NAMES) {
        const bytes = noise(MIB, vmName)
        const source = new WatchedDisk(bytes)
        const put = { disk: diskRef(2000, MIB, `[ds] ${vmName}/${vmName}.vmdk`), source }
        made.set(vmName, { id: (await writePoint(provider, [put], { name: vmName })).id, bytes })
      }
      const listed = await collect(points().list())
      expect(new Map(listed.map(({ id, vmName }) => [vmName, id]))).toEqual(new Map([...made].map(([vmName, { id }]) => [vmName, id])))
      expect(listed).toHaveLength(VM_NAMES.length)
      for (const { id, bytes } of made.values()) await expectPoint(provider, id, new Map([[2000, bytes]]))
    })

    it('keeps disks apart whose files have the same name', async () => {
      const first = new WatchedDisk(noise(MIB, 'first'))
      const second = new WatchedDisk(noise(2 * MIB, 'second'))
      const { id } = await writePoint(provider, [
        { disk: diskRef(2000, first.size, '[ds1] vm/vm.vmdk'), source: first },
        { disk: diskRef(2001, second.size, '[ds2] vm/VM.vmdk'), source: second },
      ])
      await expectPoint(
        provider,
        id,
        new Map([
          [2000, first.bytes],
          [2001, second.bytes],
        ]),
      )
    })

    it('knows points by a beginning of their id, and says when it fits none or several', async () => {
      const source = (): WatchedDisk => new WatchedDisk(noise(MIB, 1))
      await writePoint(provider, [{ disk: diskRef(2000, MIB), source: source() }])
      await expect(points().open('ffffffffffff')).rejects.toMatchObject({ code: 'NOT_FOUND' })
      await expect(points().open('a')).rejects.toMatchObject({ code: 'USAGE' })
      await expect(points().open('../../etc/passwd')).rejects.toSatisfy((error) => isAgentError(error, 'NOT_FOUND', 'USAGE'))
    })

    unless('removal')('finds itself sound, and deletes a point for good', async () => {
      const source = (): WatchedDisk => new WatchedDisk(noise(2 * MIB, 1))
      const { id } = await writePoint(provider, [{ disk: diskRef(2000, 2 * MIB), source: source() }])
      const { id: other } = await writePoint(provider, [{ disk: diskRef(2000, 2 * MIB), source: source() }])
      expect(await collect(points().check(undefined, { readData: true }))).toEqual([])
      expect(await collect(points().check(id, { readData: true }))).toEqual([])
      const read: number[] = []
      const onSlice = async (slice: number): Promise<void> => void read.push(slice)
      expect(await collect(points().check(undefined, { readData: true, slices: [9, 200, 3], onSlice }))).toEqual([])
      expect(read).toEqual([9, 200, 3])
      await points().delete(id)
      await expect(points().open(id)).rejects.toMatchObject({ code: 'NOT_FOUND' })
      expect((await collect(points().list())).map((point) => point.id)).toEqual([other])
      await expectPoint(provider, other, new Map([[2000, source().bytes]]))
    })

    unless('removal')(
      'deletes several points one by one, holding what that needs once, and tells what each point lacks or stands on',
      async () => {
        const put = (parent?: PointId) =>
          writePoint(
            provider,
            [{ disk: diskRef(2000, MIB), source: new WatchedDisk(noise(MIB, 1)), ranges: parent === undefined ? whole(MIB) : [] }],
            parent === undefined || !provider.incremental.ok ? {} : { parent },
          )
        const before = await subject.leftovers()
        const first = await put()
        const second = await put(first.id)
        const other = await put()
        const listed = await collect(points().list())
        expect(listed.map(({ missingDisks }) => missingDisks)).toEqual(listed.map(() => ['scsi0:9']))
        const stands = provider.incremental.ok && skip['independent points'] !== undefined ? first.id : undefined
        expect(listed.find(({ id }) => id === second.id)?.needs).toBe(stands)
        {
          await using deletion = await points().beginDelete()
          await deletion.delete(second.id)
          await deletion.delete(first.id)
          await expect(deletion.delete(first.id)).rejects.toMatchObject({ code: 'NOT_FOUND' })
          expect((await collect(points().list())).map(({ id }) => id)).toEqual([other.id])
          await deletion.delete(other.id)
        }
        // Nothing stays locked, and nothing stays.
        await using again = await points().beginDelete()
        expect(again.signal?.aborted).not.toBe(true)
        expect(await collect(points().list())).toEqual([])
        expect((await subject.leftovers()).filter((name) => !before.includes(name) && name.includes('deleted'))).toEqual([])
      },
    )

    it('refuses a disk that is not as long as its configuration says', async () => {
      const source = new WatchedDisk(noise(MIB, 1))
      await expect(writePoint(provider, [{ disk: diskRef(2000, 2 * MIB), source }])).rejects.toMatchObject({ code: 'INTEGRITY' })
    })

    unless('incremental')('reads only what changed, and the incremental point is the complete image', async () => {
      expect(provider.incremental).toMatchObject({ ok: true })
      const size = 6 * MIB + 1536
      const before = patterned(size, [
        { offset: 0, length: 3 * MIB },
        { offset: size - 1000, length: 1000 },
      ])
      const full = await writePoint(provider, [{ disk: diskRef(2000, size), source: new WatchedDisk(before) }])
      const after = Buffer.from(before)
      const changed: Range[] = [
        { offset: 65_536, length: 65_536 },
        { offset: MIB - 65_536, length: 131_072 },
        { offset: 4 * MIB, length: MIB },
        { offset: size - 512, length: 512 },
      ]
      for (const { offset, length } of changed) noise(length, `n${offset}`).copy(after, offset)
      after.fill(0, 2 * MIB, 2 * MIB + 131_072)
      const ranges = mergeRanges([...changed, { offset: 2 * MIB, length: 131_072 }])
      const disk = new WatchedDisk(after)
      const next = await writePoint(provider, [{ disk: diskRef(2000, size), source: disk, ranges }], { parent: full.id })
      disk.expectReadsWithin(ranges)
      expect(next.written[0]).toMatchObject({
        changedBytes: ranges.reduce((sum, { length }) => sum + length, 0),
        readBytes: disk.readBytes,
      })
      await expectPoint(provider, next.id, new Map([[2000, after]]))
      await expectPoint(provider, full.id, new Map([[2000, before]]))
      await using reader = await points().open(next.id)
      expect(reader.manifest).toMatchObject({ mode: 'incremental', parent: full.id })
      expect(await collect(points().check(undefined, { readData: true }))).toEqual([])
    })

    unless('incremental')(
      'reads what lies around a change where it may, half as much as changed at most, and the point is exact',
      async () => {
        const size = 4 * MIB
        const before = noise(size, 'before')
        const full = await writePoint(provider, [{ disk: diskRef(2000, size), source: new WatchedDisk(before) }])
        const after = Buffer.from(before)
        // Three quarters of a block, and then a sector of one, which would take too much.
        const ranges = [
          { offset: 65_536, length: 196_608 },
          { offset: 3 * MIB, length: 512 },
        ]
        for (const { offset, length } of ranges) noise(length, `n${offset}`).copy(after, offset)
        const disk = new WatchedDisk(after)
        const next = await writePoint(provider, [{ disk: diskRef(2000, size), source: disk, ranges, readAround: true }], {
          parent: full.id,
        })
        expect(disk.readBytes).toBeLessThanOrEqual(totalLength(ranges) * 1.5)
        expect(next.written[0]).toMatchObject({ changedBytes: totalLength(ranges), readBytes: disk.readBytes })
        if (provider.name === 'restic') expect(disk.reads).toContainEqual({ offset: 0, length: 262_144 })
        await expectPoint(provider, next.id, new Map([[2000, after]]))
      },
    )

    unless('incremental')('an incremental in which nothing changed reads nothing', async () => {
      const bytes = noise(3 * MIB, 5)
      const full = await writePoint(provider, [{ disk: diskRef(2000, bytes.length), source: new WatchedDisk(bytes) }])
      const disk = new WatchedDisk(bytes)
      const next = await writePoint(provider, [{ disk: diskRef(2000, bytes.length), source: disk, ranges: [] }], { parent: full.id })
      expect(disk.reads).toEqual([])
      await expectPoint(provider, next.id, new Map([[2000, bytes]]))
    })

    unless('incremental')('an incremental point may hold one disk in full', async () => {
      const old = new WatchedDisk(noise(2 * MIB, 'old'))
      const full = await writePoint(provider, [{ disk: diskRef(2000, old.size), source: old }])
      const added = new WatchedDisk(noise(3 * MIB, 'added'))
      const next = await writePoint(
        provider,
        [
          { disk: diskRef(2000, old.size), source: new WatchedDisk(old.bytes), ranges: [] },
          { disk: diskRef(2001, added.size), source: added, mode: 'full' },
        ],
        { parent: full.id },
      )
      await expectPoint(
        provider,
        next.id,
        new Map([
          [2000, old.bytes],
          [2001, added.bytes],
        ]),
      )
    })

    unless('incremental')('refuses to build on a parent that is gone, of another size, or without the disk', async () => {
      const source = new WatchedDisk(noise(2 * MIB, 1))
      const full = await writePoint(provider, [{ disk: diskRef(2000, source.size), source }])
      const other = new WatchedDisk(noise(3 * MIB, 1))
      const refused = (disks: DiskToPut[], parent: string): Promise<unknown> =>
        expect(writePoint(provider, disks, { parent: parent as PointId })).rejects.toSatisfy((error) =>
          isAgentError(error, 'INTEGRITY', 'NOT_FOUND'),
        )
      await refused([{ disk: diskRef(2000, other.size), source: other }], full.id)
      await refused([{ disk: diskRef(2007, source.size), source: new WatchedDisk(source.bytes), ranges: [] }], full.id)
      await refused([{ disk: diskRef(2000, source.size), source: new WatchedDisk(source.bytes) }], 'f'.repeat(64))
      expect((await collect(points().list())).map((point) => point.id)).toEqual([full.id])
    })

    unless('incremental')('every point of a chain reads back exactly, whatever changed', async () => {
      const size = 3 * MIB + 4096
      const write = fc.record({ at: fc.nat(size / 512 - 1), sectors: fc.integer({ min: 1, max: 1200 }), zero: fc.boolean() })
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.array(write, { maxLength: 6 }), { minLength: 2, maxLength: 4 }),
          fc.boolean(),
          async (nights, readAround) => {
            let bytes: Buffer = Buffer.alloc(size)
            let parent: PointId | undefined
            const expected: [PointId, Buffer][] = []
            for (const [night, writes] of nights.entries()) {
              bytes = Buffer.from(bytes)
              const touched: Range[] = []
              for (const { at, sectors, zero } of writes) {
                const length = Math.min(sectors * 512, size - at * 512)
                if (zero) bytes.fill(0, at * 512, at * 512 + length)
                else noise(length, `${night}/${at}`).copy(bytes, at * 512)
                touched.push({ offset: at * 512, length })
              }
              const ranges = parent === undefined ? whole(size) : mergeRanges(touched)
              const source = new WatchedDisk(bytes)
              const { id, written } = await writePoint(
                provider,
                [{ disk: diskRef(2000, size), source, ranges, readAround }],
                parent === undefined ? {} : { parent },
              )
              expect(written[0]?.readBytes).toBe(source.readBytes)
              if (readAround) expect(source.readBytes).toBeLessThanOrEqual(totalLength(ranges) * 1.5)
              else source.expectReadsWithin(ranges)
              expected.push([id, bytes])
              parent = id
            }
            for (const [id, image] of expected) await expectPoint(provider, id, new Map([[2000, image]]))
          },
        ),
        { numRuns: 6, seed: 20261122 },
      )
    })

    unless('independent points')('deleting the full leaves the incremental complete', async () => {
      const bytes = noise(2 * MIB, 5)
      const full = await writePoint(provider, [{ disk: diskRef(2000, bytes.length), source: new WatchedDisk(bytes) }])
      const next = await writePoint(provider, [{ disk: diskRef(2000, bytes.length), source: new WatchedDisk(bytes), ranges: [] }], {
        parent: full.id,
      })
      await points().delete(full.id)
      await expectPoint(provider, next.id, new Map([[2000, bytes]]))
    })

    it('refuses to commit what was not stored, or to forget what was', async () => {
      const disk = diskRef(2000, MIB)
      const request = { config: vmConfig('web01', [disk]), run: 'ffffff' as never, time: nextTime() }
      await using writer = await provider.begin(request)
      const none = { changedBytes: 0, readBytes: 0, storedBytes: 0 }
      await expect(writer.commit(facts('full', [{ disk, written: none }]))).rejects.toMatchObject({ code: 'INTERNAL' })
    })
  })
}
