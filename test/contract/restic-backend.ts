import { hash, randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { type Backend, CONFIG_FILE, type FileKind } from '../../src/restic/index.ts'

export type BackendFixture = AsyncDisposable & { readonly backend: Backend }

const KINDS: readonly FileKind[] = ['data', 'index', 'key', 'lock', 'snapshot']

/** What every `Backend` promises. `make` gives a fresh, empty one. */
export function backendContract(name: string, make: () => Promise<BackendFixture>): void {
  const newName = (): string => randomBytes(32).toString('hex')
  // As in a repository: servers refuse data whose name is another's.
  const nameOf = (data: Uint8Array): string => hash('sha256', data)

  describe(`restic backend ${name}`, () => {
    it('gives back what was saved, whole and by range, for every kind of file', async () => {
      await using fixture = await make()
      const { backend } = fixture
      for (const kind of KINDS) {
        const data = randomBytes(100_000)
        const file = { kind, name: nameOf(data) }
        await backend.save(file, data)
        expect(Buffer.compare(await backend.load(file), data)).toBe(0)
        const part = await backend.load(file, { range: { offset: 5000, length: 70_001 } })
        expect(Buffer.compare(part, data.subarray(5000, 75_001))).toBe(0)
        expect(await backend.load(file, { range: { offset: 100_000, length: 0 } })).toHaveLength(0)
        expect(await backend.stat(file)).toEqual({ size: 100_000 })
      }
    })

    it('keeps the configuration under its own name', async () => {
      await using fixture = await make()
      const { backend } = fixture
      expect(await backend.stat(CONFIG_FILE)).toBeUndefined()
      await backend.save(CONFIG_FILE, Buffer.from('config'))
      expect((await backend.load(CONFIG_FILE)).toString()).toBe('config')
      const listed = await Array.fromAsync(backend.list('config'))
      expect(listed).toEqual([{ name: 'config', size: 6 }])
    })

    it('lists the files of a kind with their sizes and nothing of another kind', async () => {
      await using fixture = await make()
      const { backend } = fixture
      for (const kind of KINDS) expect(await Array.fromAsync(backend.list(kind))).toEqual([])
      const expected = new Map<string, number>()
      for (let size = 1; size <= 40; size++) {
        const data = randomBytes(size + 8)
        expected.set(nameOf(data), data.length)
        await backend.save({ kind: 'data', name: nameOf(data) }, data)
      }
      const index = randomBytes(7)
      await backend.save({ kind: 'index', name: nameOf(index) }, index)
      const listed = await Array.fromAsync(backend.list('data'))
      expect(new Map(listed.map((file) => [file.name, file.size]))).toEqual(expected)
      expect(listed).toHaveLength(40)
    })

    it('says NOT_FOUND for what is missing and INTEGRITY for a file that is too short', async () => {
      await using fixture = await make()
      const { backend } = fixture
      const data = randomBytes(100)
      const file = { kind: 'data', name: nameOf(data) } as const
      await expect(backend.load(file)).rejects.toMatchObject({ code: 'NOT_FOUND' })
      expect(await backend.stat(file)).toBeUndefined()
      await backend.save(file, data)
      await expect(backend.load(file, { range: { offset: 50, length: 51 } })).rejects.toMatchObject({ code: 'INTEGRITY' })
    })

    it('removes files, and a missing one without complaint', async () => {
      await using fixture = await make()
      const { backend } = fixture
      const data = randomBytes(10)
      const file = { kind: 'snapshot', name: nameOf(data) } as const
      await backend.save(file, data)
      await backend.remove(file)
      expect(await backend.stat(file)).toBeUndefined()
      expect(await Array.fromAsync(backend.list('snapshot'))).toEqual([])
      await backend.remove(file)
    })

    it('replaces a file of the same name, and saves an empty one', async () => {
      await using fixture = await make()
      const { backend } = fixture
      const file = { kind: 'lock', name: newName() } as const
      await backend.save(file, Buffer.from('first'))
      await backend.save(file, Buffer.from('second'))
      expect((await backend.load(file)).toString()).toBe('second')
      await backend.save(file, Buffer.alloc(0))
      expect(await backend.load(file)).toHaveLength(0)
    })

    it('refuses names that are no ids, wherever they would lead', async () => {
      await using fixture = await make()
      const { backend } = fixture
      for (const bad of ['', '..', '../config', 'A'.repeat(64), `${'a'.repeat(63)}/`, 'a'.repeat(63), `${'a'.repeat(64)}\0`]) {
        const file = { kind: 'data', name: bad } as const
        await expect(backend.load(file)).rejects.toMatchObject({ code: 'USAGE' })
        await expect(backend.save(file, Buffer.from('x'))).rejects.toMatchObject({ code: 'USAGE' })
        await expect(backend.remove(file)).rejects.toMatchObject({ code: 'USAGE' })
      }
    })

    it('saves and loads many files at once', async () => {
      await using fixture = await make()
      const { backend } = fixture
      const files = Array.from({ length: 50 }, () => randomBytes(5000)).map((data) => ({
        file: { kind: 'data', name: nameOf(data) } as const,
        data,
      }))
      await Promise.all(files.map(({ file, data }) => backend.save(file, data)))
      const loaded = await Promise.all(files.map(({ file }) => backend.load(file)))
      for (const [index, { data }] of files.entries()) expect(Buffer.compare(loaded[index] ?? Buffer.alloc(0), data)).toBe(0)
    })

    it('does nothing for a canceled caller', async () => {
      await using fixture = await make()
      const { backend } = fixture
      const signal = AbortSignal.abort()
      const file = { kind: 'data', name: newName() } as const
      await expect(backend.save(file, randomBytes(10), { signal })).rejects.toMatchObject({ code: 'CANCELED' })
      expect(await backend.stat(file)).toBeUndefined()
      await expect(backend.load(file, { signal })).rejects.toMatchObject({ code: 'CANCELED' })
    })
  })
}
