import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type Effect, EFFECT_AFTER, EFFECT_BEFORE } from './effect.ts'
import {
  ensureDirectory,
  makeDirectory,
  makeTemporaryDirectory,
  openInput,
  openOutput,
  removeDirectory,
  removeFile,
  removeTree,
  renameFile,
  setPermissions,
  writeFileAtomic,
  writeFileOnce,
  writeFileWhole,
} from './files.ts'

let directory: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vcb-files-'))
})
afterEach(() => rm(directory, { recursive: true, force: true }))

/** Runs `work`, calling `each` at every moment an effect starts or ended: what a crash at that moment would leave is on the disk then. */
async function atEveryEffect(work: () => Promise<unknown>, each: (phase: 'before' | 'after', effect: Effect) => void): Promise<void> {
  const before = (message: unknown): void => each('before', message as Effect)
  const after = (message: unknown): void => each('after', message as Effect)
  subscribe(EFFECT_BEFORE, before)
  subscribe(EFFECT_AFTER, after)
  try {
    await work()
  } finally {
    unsubscribe(EFFECT_BEFORE, before)
    unsubscribe(EFFECT_AFTER, after)
  }
}

/** The effects of `work` on things in the test's directory, as `write a/b`. */
async function effectsOf(work: () => Promise<unknown>): Promise<string[]> {
  const seen: string[] = []
  await atEveryEffect(work, (phase, { kind, what, on }) => {
    expect(kind).toBe('file')
    if (phase === 'before') seen.push(`${what} ${on.replace(`${directory}/`, '')}`)
  })
  return seen
}

/** The content of `name` at every cut of `work`; `undefined` = it is not there. */
async function contentsAtCuts(name: string, work: () => Promise<unknown>): Promise<readonly (string | undefined)[]> {
  // Listeners are synchronous, so each cut is read with synchronous calls.
  const { readFileSync } = await import('node:fs')
  const cuts: (string | undefined)[] = []
  await atEveryEffect(work, () => {
    try {
      cuts.push(readFileSync(join(directory, name), 'utf8'))
    } catch (error) {
      expect(error).toMatchObject({ code: 'ENOENT' })
      cuts.push(undefined)
    }
  })
  return cuts
}

describe('writeFileAtomic', () => {
  it('cut at any effect leaves the old or the new content, never a part', async () => {
    await writeFile(join(directory, 'a'), 'old')
    const cuts = await contentsAtCuts('a', () => writeFileAtomic(join(directory, 'a'), 'new'))
    // create, write, rename, each before and after: only the rename shows.
    expect(cuts).toEqual(['old', 'old', 'old', 'old', 'old', 'new'])
    expect(await contentsAtCuts('b', () => writeFileAtomic(join(directory, 'b'), 'new'))).toEqual([...Array<undefined>(5), 'new'])
    expect((await readdir(directory)).sort()).toEqual(['a', 'b'])
    expect((await stat(join(directory, 'b'))).mode & 0o777).toBe(0o600)
  })

  it('is create, write and rename beside its place', async () => {
    const temporary = `a.${process.pid}.tmp`
    expect(await effectsOf(() => writeFileAtomic(join(directory, 'a'), 'new', 0o400))).toEqual([
      `create ${temporary}`,
      `write ${temporary}`,
      'rename a',
    ])
    expect((await stat(join(directory, 'a'))).mode & 0o777).toBe(0o400)
  })

  it('that fails takes its temporary file away, and says why in the house’s words', async () => {
    await expect(writeFileAtomic(join(directory, 'missing', 'a'), 'x')).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await mkdir(join(directory, 'taken'))
    await writeFile(join(directory, 'taken', 'inside'), '')
    await expect(writeFileAtomic(join(directory, 'taken'), 'x')).rejects.toThrow()
    expect(await readdir(directory)).toEqual(['taken'])
  })
})

describe('writeFileOnce', () => {
  it('cut at any effect leaves nothing or the whole, and the first of several wins', async () => {
    const cuts = await contentsAtCuts('a', () => writeFileOnce(join(directory, 'a'), 'first'))
    expect(new Set(cuts)).toEqual(new Set([undefined, 'first']))
    expect(await writeFileOnce(join(directory, 'a'), 'second')).toBe(false)
    expect(await readFile(join(directory, 'a'), 'utf8')).toBe('first')
    expect(await readdir(directory)).toEqual(['a'])
  })

  it('lets one of several tasks of a process win, with all its bytes', async () => {
    for (let round = 0; round < 20; round++) {
      const path = join(directory, `at once ${round}`)
      const texts = Array.from({ length: 5 }, (_, who) => `${who}`.repeat(1000 + who))
      const won = await Promise.all(texts.map((text) => writeFileOnce(path, text)))
      expect(won.filter(Boolean)).toHaveLength(1)
      expect(await readFile(path, 'utf8')).toBe(texts[won.indexOf(true)])
      await Promise.all(texts.map((text) => writeFileAtomic(path, text)))
      expect(texts).toContain(await readFile(path, 'utf8'))
      await rm(path)
    }
    expect(await readdir(directory)).toEqual([])
  })
})

describe('removeTree', () => {
  it('removes what is in it one name at a time, and follows no symbolic link', async () => {
    const outside = join(directory, 'outside')
    await mkdir(join(directory, 'tree', 'deep'), { recursive: true })
    await mkdir(outside)
    await writeFile(join(outside, 'keep'), 'mine')
    await writeFile(join(directory, 'tree', 'deep', 'file'), '')
    await symlink(outside, join(directory, 'tree', 'link'))
    await symlink(join(outside, 'keep'), join(directory, 'tree', 'deep', 'link'))
    const effects = await effectsOf(() => removeTree(join(directory, 'tree')))
    expect(effects.sort()).toEqual(
      ['remove tree/deep/file', 'remove tree/deep/link', 'remove tree/link', 'remove directory tree', 'remove directory tree/deep'].sort(),
    )
    expect(await readdir(directory)).toEqual(['outside'])
    expect(await readFile(join(outside, 'keep'), 'utf8')).toBe('mine')
  })

  it('of a symbolic link removes the link alone', async () => {
    await mkdir(join(directory, 'outside'))
    await writeFile(join(directory, 'outside', 'keep'), 'mine')
    await symlink(join(directory, 'outside'), join(directory, 'link'))
    await removeTree(join(directory, 'link'))
    expect(await readdir(directory)).toEqual(['outside'])
    expect(await readdir(join(directory, 'outside'))).toEqual(['keep'])
  })

  it('is idempotent, and done again after a cut at any effect it finishes', async () => {
    const make = async (name: string): Promise<string> => {
      await mkdir(join(directory, name, 'a', 'b'), { recursive: true })
      for (const file of ['1', 'a/2', 'a/b/3']) await writeFile(join(directory, name, file), file)
      return join(directory, name)
    }
    const whole = await effectsOf(async () => removeTree(await make('whole')))
    expect(whole).toHaveLength(6)
    for (let cut = 1; cut <= whole.length; cut++) {
      const tree = await make(`cut${cut}`)
      const { cpSync } = await import('node:fs')
      let seen = 0
      // What a crash right before this effect leaves, kept aside and then removed by a second attempt.
      const left = join(directory, `left${cut}`)
      await atEveryEffect(
        () => removeTree(tree),
        (phase) => {
          if (phase === 'before' && ++seen === cut) cpSync(tree, left, { recursive: true })
        },
      )
      await removeTree(left)
    }
    await removeTree(join(directory, 'never was'))
    await removeTree(join(directory, 'whole'))
    expect(await readdir(directory)).toEqual([])
  })
})

describe('files', () => {
  it('names every change, and what it is done to, in order', async () => {
    const path = (name: string): string => join(directory, name)
    const effects = await effectsOf(async () => {
      await ensureDirectory(path('a/b'))
      await makeDirectory(path('a/c'))
      const made = await makeTemporaryDirectory(path('t-'))
      {
        await using file = await openOutput(path('a/f'), 'wx+')
        await file.write(Buffer.from('hello'), 0)
        await file.write(Buffer.from('J'), 0)
        await file.truncate(4)
        expect(await file.size()).toBe(4)
        const read = Buffer.alloc(10)
        expect(await file.read(read, 0)).toBe(4)
        expect(read.toString('utf8', 0, 4)).toBe('Jell')
        await file.sync()
      }
      {
        await using file = await openOutput(path('a/f'), 'r+')
        await file.write(Buffer.from('B'), 0)
      }
      await setPermissions(path('a/f'), 0o400)
      await renameFile(path('a/f'), path('a/g'))
      await removeFile(path('a/g'))
      await removeDirectory(path('a/c'))
      await removeDirectory(made)
      await writeFileWhole(path('a/h'), 'text')
    })
    expect(effects).toEqual([
      'make directories a/b',
      'make directory a/c',
      'make temporary directory t-',
      'create a/f',
      'write a/f',
      'write a/f',
      'truncate a/f',
      'open a/f',
      'write a/f',
      'set permissions a/f',
      'rename a/g',
      'remove a/g',
      'remove directory a/c',
      expect.stringMatching(/^remove directory t-\w{6}$/),
      'create a/h',
      'write a/h',
    ])
    expect((await readdir(directory, { recursive: true })).sort()).toEqual(['a', 'a/b', 'a/h'])
  })

  it('are private to the user', async () => {
    await ensureDirectory(join(directory, 'a'))
    await makeDirectory(join(directory, 'b'))
    await writeFileWhole(join(directory, 'c'), '')
    for (const [name, mode] of [
      ['a', 0o700],
      ['b', 0o700],
      ['c', 0o600],
    ] as const) {
      expect((await stat(join(directory, name))).mode & 0o777, name).toBe(mode)
    }
  })

  it('treat what is gone already as removed, and nothing else', async () => {
    await removeFile(join(directory, 'gone'))
    await removeDirectory(join(directory, 'gone'))
    await mkdir(join(directory, 'full'))
    await writeFile(join(directory, 'full', 'a'), '')
    await expect(removeDirectory(join(directory, 'full'))).rejects.toMatchObject({ code: 'ENOTEMPTY' })
    await expect(removeFile(join(directory, 'full'))).rejects.toThrow()
    await expect(makeDirectory(join(directory, 'full'))).rejects.toMatchObject({ code: 'EEXIST' })
    await expect(openOutput(join(directory, 'full', 'a'), 'wx')).rejects.toMatchObject({ code: 'EEXIST' })
  })

  it('opened for reading cannot be changed; opened with care are no links and never make one wait', async () => {
    const path = join(directory, 'a')
    await writeFile(path, 'text')
    await symlink(path, join(directory, 'link'))
    await using file = await openInput(path)
    expect((await file.stat()).size).toBe(4)
    await expect((file as unknown as { write(data: string): Promise<unknown> }).write('x')).rejects.toMatchObject({ code: 'EBADF' })
    await (await openInput(join(directory, 'link'))).close()
    await expect(openInput(join(directory, 'link'), { careful: true })).rejects.toMatchObject({ code: 'ELOOP' })
  })
})
