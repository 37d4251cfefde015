import { hash, randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { CompleteTrees } from './complete-trees.ts'

const key = (text: string): string => hash('sha256', text)
const FILES = ['file a', 'file b'].map(key)

describe('CompleteTrees', () => {
  let directory: string
  const path = (): string => join(directory, 'complete')
  const loaded = async (present: readonly string[]): Promise<CompleteTrees> => {
    const trees = new CompleteTrees()
    await trees.load(path(), new Set(present))
    return trees
  }

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'vcb-complete-'))
  })
  afterEach(() => rm(directory, { recursive: true }))

  it('keeps for the next process what was durable, while its index files are there', async () => {
    const trees = new CompleteTrees()
    for (let tree = 0; tree < 1000; tree++) trees.add(key(`tree ${tree}`))
    const ready = trees.fresh
    trees.add(key('found after the flush began'))
    trees.keep(ready)
    await trees.save(path(), FILES)
    const next = await loaded([...FILES, key('file c')])
    expect([next.has(key('tree 0')), next.has(key('tree 999'))]).toEqual([true, true])
    expect(next.has(key('found after the flush began'))).toBe(false)
    expect(trees.has(key('found after the flush began'))).toBe(true)
    expect((await loaded(FILES.slice(1))).has(key('tree 0'))).toBe(false)
  })

  it('knows nothing any more once it is cleared, also of what was about to be kept', async () => {
    const trees = new CompleteTrees()
    trees.add(key('tree'))
    const ready = trees.fresh
    trees.clear()
    trees.keep(ready)
    expect(trees.has(key('tree'))).toBe(false)
  })

  it('takes nothing from a file with a changed byte, one cut short, or none', async () => {
    expect((await loaded(FILES)).has(key('tree'))).toBe(false)
    const trees = new CompleteTrees()
    trees.add(key('tree'))
    trees.keep(trees.fresh)
    await trees.save(path(), FILES)
    const good = await readFile(path())
    for (let at = 0; at < good.length; at++) {
      const bad = Buffer.from(good)
      bad[at] = (bad[at] ?? 0) ^ 1
      await writeFile(path(), bad)
      expect((await loaded(FILES)).has(key('tree')), `byte ${at}`).toBe(false)
    }
    for (const length of [0, 7, 15, 40, good.length - 1]) {
      await writeFile(path(), good.subarray(0, length))
      expect((await loaded(FILES)).has(key('tree'))).toBe(false)
    }
    await writeFile(path(), Buffer.concat([good, randomBytes(32)]))
    expect((await loaded(FILES)).has(key('tree'))).toBe(false)
    await writeFile(path(), good)
    expect((await loaded(FILES)).has(key('tree'))).toBe(true)
  })
})
