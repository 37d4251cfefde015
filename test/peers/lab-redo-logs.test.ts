import { execFileSync, fork } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { MIB, SECTOR } from '../../src/core/index.ts'
import {
  createDisk,
  Datastore,
  type DatastoreType,
  digestOf,
  digestOfFile,
  exportStream,
  importStream,
  LabDisk,
} from '../../src/lab/storage/index.ts'
import { describePeer, describePeers } from '../peer.ts'

/* qemu-img reads every redo log, chain and stream the lab writes; e2fsck, debugfs and ntfs tools accept its guests' file systems. */

let root: string
let datastore: Datastore
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'lab-redo-'))
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

function useDatastore(type: DatastoreType): Datastore {
  datastore = new Datastore({ name: 'ds', type, directory: mkdtempSync(join(root, 'ds-')) })
  mkdirSync(datastore.path('vm'))
  return datastore
}
const spec = { path: 'vm/x.vmdk', capacityBytes: 35 * MIB + 5 * SECTOR, thin: true, adapterType: 'lsilogic' } as const
const pattern = (length: number, seed: number): Uint8Array =>
  Buffer.alloc(
    length,
    Uint8Array.from({ length: 509 }, (_, index) => ((index * 7 + seed * 13) % 253) + 1),
  )

describePeer('qemu-img', 'redo logs, as qemu-img sees them', (qemu) => {
  function rawOf(path: string): Buffer {
    const out = join(root, 'out.raw')
    execFileSync(qemu, ['convert', '-f', 'vmdk', '-O', 'raw', datastore.path(path), out], { stdio: 'pipe' })
    return readFileSync(out)
  }

  it.each(['NFS', 'VMFS5', 'VMFS6'] as const)(
    'every link of a chain on %s equals a plain buffer, through snapshots and commits',
    async (type) => {
      const write = fc.record({
        sector: fc.nat(spec.capacityBytes / SECTOR - 1),
        sectors: fc.integer({ min: 1, max: 700 }),
        zero: fc.boolean(),
      })
      const round = fc.record({
        writes: fc.array(write, { minLength: 1, maxLength: 12 }),
        commit: fc.option(fc.nat(3)),
        reopen: fc.boolean(),
      })
      await fc.assert(
        fc.asyncProperty(fc.array(round, { minLength: 1, maxLength: 4 }), async (rounds) => {
          const ds = useDatastore(type)
          createDisk(ds, spec)
          let disk = LabDisk.open(ds, spec.path)
          const model = Buffer.alloc(spec.capacityBytes)
          const frozen = new Map<string, Buffer>()
          let seed = 0
          for (const { writes, commit, reopen } of rounds) {
            for (const { sector, sectors, zero } of writes) {
              const length = Math.min(sectors * SECTOR, spec.capacityBytes - sector * SECTOR)
              const data = zero ? new Uint8Array(length) : pattern(length, seed++)
              if (zero) disk.unmap({ offset: sector * SECTOR, length })
              else disk.write(sector * SECTOR, data)
              model.set(data, sector * SECTOR)
            }
            if (commit !== null && disk.chain.length > 1) {
              const index = commit % (disk.chain.length - 1)
              const [path = '', parent = ''] = disk.chain.slice(index)
              await disk.commit(path)
              const content = frozen.get(path)
              frozen.delete(path)
              if (content === undefined) frozen.delete(parent)
              else frozen.set(parent, content)
            } else frozen.set(disk.addRedoLog().frozen, Buffer.from(model))
            if (reopen) {
              const { top } = disk
              disk[Symbol.dispose]()
              disk = LabDisk.open(ds, top)
            }
          }
          // Not closed: what a running VM has on its datastore is what a backup reads.
          expect(rawOf(disk.top).equals(model)).toBe(true)
          for (const [path, image] of frozen) expect(rawOf(path).equals(image), path).toBe(true)
          disk[Symbol.dispose]()
          rmSync(ds.directory, { recursive: true })
        }),
        { seed: 11, numRuns: 12 },
      )
    },
  )

  it.each(['NFS', 'VMFS6'] as const)(
    'a lab that was killed while writing and committing on %s leaves chains with every write that had returned',
    async (type) => {
      for (let trial = 0; trial < 4; trial++) {
        const ds = useDatastore(type)
        createDisk(ds, spec)
        const script = join(root, 'writer.ts')
        writeFileSync(script, WRITER)
        const child = fork(script, [join(import.meta.dirname, '../../src/lab/storage/index.ts'), ds.directory, type], {
          stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
        })
        const acknowledged: number[] = []
        child.stdout?.on('data', (chunk: Buffer) => {
          for (let at = 0; at + 4 <= chunk.length; at += 4) acknowledged.push(chunk.readUInt32LE(at))
        })
        const closed = once(child, 'close')
        while (acknowledged.length < 200 + trial * 331 && child.exitCode === null) await once(child.stdout ?? child, 'data')
        child.kill('SIGKILL')
        await closed
        expect(child.signalCode).toBe('SIGKILL')
        // The VMX of this machine: the writer saves the current link's name there.
        const top = readFileSync(join(ds.directory, 'vm', 'top'), 'utf8')
        using disk = LabDisk.open(ds, top)
        const raw = rawOf(top)
        const seen = Buffer.alloc(spec.capacityBytes)
        disk.read(0, seen)
        expect(raw.equals(seen)).toBe(true)
        const expected = new Map<number, number>()
        for (const number of acknowledged) expected.set((number * 797) % 8900, number)
        const next = acknowledged.length
        for (const [block, number] of expected) {
          const value = seen.readUInt32LE(block * 4096 + 512)
          // One write more than was heard of may have been done, or several that were on their way.
          const later = value > number && value >= next && (value * 797) % 8900 === block
          expect(value === number || later, `block ${block}: ${value} instead of ${number}`).toBe(true)
        }
        for (const path of disk.chain.slice(0, -1)) await disk.commit(path)
        const after = Buffer.alloc(spec.capacityBytes)
        disk.read(0, after)
        expect(after.equals(seen)).toBe(true)
        expect(rawOf(spec.path).equals(seen)).toBe(true)
      }
    },
  )

  it('reads an export, and the lab reads its own and qemu-img’s back, refusing what is cut', async () => {
    const ds = useDatastore('VMFS6')
    createDisk(ds, spec)
    using disk = LabDisk.open(ds, spec.path)
    disk.write(3 * MIB, pattern(2 * MIB, 1))
    disk.write(spec.capacityBytes - 5 * SECTOR, pattern(5 * SECTOR, 2))
    const { frozen } = disk.addRedoLog()
    const file = join(root, 'export.vmdk')
    const chunks: Uint8Array[] = []
    for await (const chunk of exportStream(disk.view(frozen))) chunks.push(chunk.slice())
    writeFileSync(file, Buffer.concat(chunks))
    const raw = join(root, 'export.raw')
    execFileSync(qemu, ['convert', '-f', 'vmdk', '-O', 'raw', file, raw], { stdio: 'pipe' })
    expect(await digestOfFile(raw)).toEqual(await digestOf(disk))

    const theirs = join(root, 'theirs.vmdk')
    execFileSync(qemu, ['convert', '-f', 'raw', '-O', 'vmdk', '-o', 'subformat=streamOptimized', raw, theirs], { stdio: 'pipe' })
    for (const [index, from] of [file, theirs].entries()) {
      const path = `vm/in${index}.vmdk`
      createDisk(ds, { ...spec, path })
      using target = LabDisk.open(ds, path)
      expect(await importStream(inPieces(readFileSync(from), 70_001), target)).toBeGreaterThan(2 * MIB - 1)
      expect(await digestOf(target)).toEqual(await digestOf(disk))
    }
    const cut = join(root, 'cut.vmdk')
    const whole = Buffer.concat(chunks).length
    for (const bytes of [600, Math.floor(whole / 2), whole - 512, whole - 1500]) {
      copyFileSync(file, cut)
      truncateSync(cut, bytes)
      createDisk(ds, { ...spec, path: `vm/cut${bytes}.vmdk` })
      using target = LabDisk.open(ds, `vm/cut${bytes}.vmdk`)
      await expect(importStream(inPieces(readFileSync(cut), 4096), target)).rejects.toMatchObject({ failure: 'BadStream' })
    }
  })
})

async function* inPieces(bytes: Buffer, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) {
    await Promise.resolve()
    yield bytes.subarray(at, at + size)
  }
}

/** Writes numbered blocks into a disk that is snapshotted and committed meanwhile; tells each number once its write has returned. */
const WRITER = `
import { renameSync, writeFileSync, writeSync } from 'node:fs'
const [, , module, directory, type] = process.argv
const { Datastore, LabDisk } = await import(module)
const disk = LabDisk.open(new Datastore({ name: 'ds', type, directory }), 'vm/x.vmdk')
const save = (top) => {
  writeFileSync(directory + '/vm/top~', top)
  renameSync(directory + '/vm/top~', directory + '/vm/top')
}
save(disk.top)
let number = 0
const write = () => {
  const data = Buffer.alloc(4096)
  for (let at = 0; at < 4096; at += 4) data.writeUInt32LE(number, at)
  disk.write(((number * 797) % 8900) * 4096 + 512, data)
  const told = Buffer.alloc(4)
  told.writeUInt32LE(number)
  writeSync(1, told)
  number++
}
for (;;) {
  save(disk.addRedoLog().top)
  for (let more = 0; more < 150; more++) write()
  save(disk.addRedoLog().top)
  for (let more = 0; more < 150; more++) write()
  const pause = async () => { write(); await new Promise(setImmediate) }
  if (number % 4 < 2) await disk.commit(disk.chain[1], { pause })
  await disk.commit(disk.top, { pause, persist: save })
}
`

describePeers(['e2fsck', 'debugfs', 'sfdisk'], 'the ext4 guest', (paths) => {
  it.each([64 * MIB, 96 * MIB])('is a clean partitioned disk with its files in %d bytes', (capacityBytes) => {
    const ds = useDatastore('NFS')
    createDisk(ds, { ...spec, capacityBytes, content: { fixture: 'ext4' } })
    const flat = ds.path('vm/x-flat.vmdk')
    expect(execFileSync(paths.sfdisk, ['--verify', flat], { encoding: 'utf8', stdio: 'pipe' })).toContain('No errors detected')
    const part = join(root, 'part')
    writeFileSync(part, readFileSync(flat).subarray(MIB, 57 * MIB))
    execFileSync(paths.e2fsck, ['-f', '-n', part], { stdio: 'pipe' })
    expect(execFileSync(paths.debugfs, ['-R', 'cat /etc/hostname', part], { encoding: 'utf8', stdio: 'pipe' })).toBe('lab-guest\n')
  })
})

describePeer('ntfsls', 'the NTFS guest', (ntfsls) => {
  it('is a volume with its files', () => {
    const ds = useDatastore('NFS')
    createDisk(ds, { ...spec, capacityBytes: 96 * MIB, content: { fixture: 'ntfs' } })
    const part = join(root, 'part')
    writeFileSync(part, readFileSync(ds.path('vm/x-flat.vmdk')).subarray(MIB, 41 * MIB))
    const listed = execFileSync(ntfsls, [part], { encoding: 'utf8', stdio: 'pipe' })
    expect(listed.split('\n')).toEqual(expect.arrayContaining(['messages.txt', 'random.bin', 'Übung eins.txt']))
    expect(readdirSync(ds.path('vm')).toSorted()).toEqual(['x-flat.vmdk', 'x.vmdk'])
  })
})
