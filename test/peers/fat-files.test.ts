import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { MIB } from '../../src/core/index.ts'
import { openFlat, openLocalFile } from '../../src/disk/index.ts'
import { TREE_ROOT, type TreeToServe } from '../../src/fuse/index.ts'
import { openFatTree } from '../../src/mount/fat/fat-tree.ts'
import { describePeers } from '../peer.ts'

/* FAT volumes that mkfs.fat makes and mtools fill, as our own reader of them sees them. */

type Content = ReadonlyMap<string, string>

async function ours(tree: TreeToServe, node = TREE_ROOT, path = ''): Promise<Content> {
  const found = new Map<string, string>()
  for (const entry of await tree.list(node)) {
    const name = `${path}/${entry.name}`
    expect(await tree.find(node, entry.name)).toEqual(entry)
    expect(await tree.attributes(entry.node)).toMatchObject({ directory: entry.directory, size: entry.size })
    if (entry.directory) for (const each of await ours(tree, entry.node, name)) found.set(...each)
    else {
      const bytes = Buffer.alloc(entry.size)
      // In odd pieces, the last ones first.
      for (let end = entry.size; end > 0; end -= Math.min(end, 3001)) {
        const from = Math.max(0, end - 3001)
        await tree.read(entry.node, from, bytes.subarray(from, end))
      }
      found.set(name, bytes.toString('latin1'))
    }
  }
  return found
}

function onDisk(directory: string, path = ''): Content {
  const found = new Map<string, string>()
  for (const name of readdirSync(join(directory, path))) {
    const below = `${path}/${name}`
    if (statSync(join(directory, below)).isDirectory()) for (const each of onDisk(directory, below)) found.set(...each)
    else found.set(below, readFileSync(join(directory, below), 'latin1'))
  }
  return found
}

const name = fc
  .array(fc.constantFrom('a', 'b', 'X', 'Z', '0', '9', ' ', '_', '-', '.', 'ü', 'É', 'ß', 'ñ', '漢', '字'), { minLength: 1, maxLength: 40 })
  // What FAT cannot keep: no name of blanks and dots alone, none at its ends, and no two that differ in case alone.
  .map((letters) => `n${letters.join('').toLowerCase()}e`)

const tree = fc.uniqueArray(fc.record({ path: fc.array(name, { minLength: 1, maxLength: 3 }), size: fc.nat(20_000), fill: fc.nat(255) }), {
  minLength: 1,
  maxLength: 20,
  selector: ({ path }) => path[0] ?? '',
})

describePeers(['mkfs.vfat', 'mcopy', 'mdel'], 'a FAT that mtools filled', (peers) => {
  it.each([
    [12, 2],
    [16, 12],
    [32, 40],
  ])('of %i bits has the files that were put there', (bits, size) =>
    fc.assert(
      fc.asyncProperty(tree, fc.nat(30), async (files, holes) => {
        const directory = mkdtempSync(join(tmpdir(), 'vcb-fat-'))
        const env = { ...process.env, LC_ALL: 'C.UTF-8', MTOOLS_SKIP_CHECK: '1', MTOOLSRC: '/dev/null' }
        const mtools = (program: string, ...argv: readonly string[]): void =>
          void execFileSync(program, ['-i', join(directory, 'image'), ...argv], { env, stdio: ['ignore', 'ignore', 'pipe'] })
        try {
          const put = join(directory, 'put')
          const small = join(directory, 'small')
          mkdirSync(put)
          mkdirSync(small)
          for (const { path, size: length, fill } of files) {
            mkdirSync(join(put, ...path.slice(0, -1)), { recursive: true })
            writeFileSync(join(put, ...path), Buffer.alloc(length, fill))
          }
          writeFileSync(join(directory, 'image'), '')
          truncateSync(join(directory, 'image'), size * MIB)
          execFileSync(peers['mkfs.vfat'], ['-F', String(bits), '-s', '1', join(directory, 'image')], { stdio: 'ignore' })
          // Files between which there are holes when every second one is gone again.
          const between = Array.from({ length: holes * 2 }, (_, index) => join(small, `h${index}`))
          for (const path of between) writeFileSync(path, Buffer.alloc(600))
          if (holes > 0) {
            mtools(peers.mcopy, ...between, '::')
            mtools(peers.mdel, ...between.filter((_, index) => index % 2 === 0).map((path) => `::${path.slice(small.length + 1)}`))
          }
          mtools(peers.mcopy, '-s', ...readdirSync(put).map((each) => join(put, each)), '::')
          if (holes > 0)
            mtools(peers.mdel, ...between.filter((_, index) => index % 2 === 1).map((path) => `::${path.slice(small.length + 1)}`))
          await using source = openFlat(await openLocalFile(join(directory, 'image')))
          expect(await ours(await openFatTree(source))).toEqual(onDisk(put))
        } finally {
          rmSync(directory, { recursive: true })
        }
      }),
      { seed: 4711, numRuns: 30 },
    ),
  )
})
