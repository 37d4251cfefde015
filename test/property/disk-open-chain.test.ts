import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type ErrorCode, isAgentError } from '../../src/core/index.ts'
import { type Grains, writeCowd, writeDescriptor, writeFlatBase, writeRedoLog, writeSeSparse } from './disk-writers.ts'
import { localDiskFiles, openChain, openDisk } from '../../src/disk/index.ts'

const SIZE = 4 * 1024 * 1024
let directory = ''
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'vcb-open-'))
  writeFlatBase(join(directory, 'vm.vmdk'), Buffer.alloc(SIZE, 1), '00000001')
})
afterEach(() => rmSync(directory, { recursive: true }))

const grains: Grains = new Map([[3, Buffer.alloc(4096, 3)]])
const open = async (name: string): Promise<void> => {
  await using disk = await openChain(join(directory, name), localDiskFiles())
  const into = new Uint8Array(disk.size)
  await disk.read(0, into)
}
const refused = async (name: string, code: ErrorCode, message: RegExp): Promise<void> => {
  await expect(open(name)).rejects.toSatisfy((error) => {
    expect(error).toHaveProperty('message', expect.stringMatching(message))
    return isAgentError(error, code)
  })
}
const delta = (name: string, hint: string, parentCid: string, cid: string, size = SIZE): string =>
  writeRedoLog(directory, name, 'cowd', size, grains, { hint, cid: parentCid }, cid)
const patch = (name: string, offset: number, bytes: readonly number[]): void => {
  const file = readFileSync(join(directory, name))
  file.set(bytes, offset)
  writeFileSync(join(directory, name), file)
}

describe('openChain', () => {
  it('tells every link, top first', async () => {
    delta('d1', 'vm.vmdk', '00000001', '00000002')
    delta('d2', 'd1.vmdk', '00000002', '00000003')
    await using disk = await openChain(join(directory, 'd2.vmdk'), localDiskFiles())
    expect(disk.links.map((link) => link.descriptor.cid)).toEqual(['00000003', '00000002', '00000001'])
    expect(disk.links.map((link) => link.capacityBytes)).toEqual([SIZE, SIZE, SIZE])
  })

  it('refuses a parent whose CID differs and names both', async () => {
    delta('d1', 'vm.vmdk', '0badc1d0', '00000002')
    await refused('d1.vmdk', 'INTEGRITY', /CID 0badc1d0.*CID 00000001/)
  })

  it.skipIf(!existsSync('/proc/self/fd'))('closes every file of a chain, opened or refused', async () => {
    delta('bad', 'vm.vmdk', '0badc1d0', '00000002')
    delta('good', 'vm.vmdk', '00000001', '00000002')
    truncateSync(join(directory, 'good-delta.vmdk'), 4000)
    const before = readdirSync('/proc/self/fd').length
    for (let count = 0; count < 30; count++) {
      await refused('bad.vmdk', 'INTEGRITY', /CID/)
      await refused('good.vmdk', 'INTEGRITY', /outside the file/)
      await open('vm.vmdk')
    }
    expect(readdirSync('/proc/self/fd').length).toBeLessThan(before + 10)
  })

  it('refuses cycles, also of one', async () => {
    delta('d1', 'd2.vmdk', '00000003', '00000002')
    delta('d2', 'd1.vmdk', '00000002', '00000003')
    await refused('d1.vmdk', 'INTEGRITY', /leads back/)
    delta('self', 'self.vmdk', '00000009', '00000009')
    await refused('self.vmdk', 'INTEGRITY', /leads back/)
  })

  it('reads 32 links and refuses 33', async () => {
    for (let index = 1; index <= 32; index++) {
      const parent = index === 1 ? 'vm.vmdk' : `d${index - 1}.vmdk`
      delta(`d${index}`, parent, index.toString(16).padStart(8, '0'), (index + 1).toString(16).padStart(8, '0'))
    }
    await open('d31.vmdk')
    await refused('d32.vmdk', 'INTEGRITY', /more than 32 links/)
  })

  it('refuses a missing parent, a missing hint, a hint without parentCID, a hint outside, a parent larger than its child', async () => {
    delta('gone', 'nowhere.vmdk', '00000001', '00000002')
    await refused('gone.vmdk', 'INTEGRITY', /nowhere.vmdk, which does not exist/)
    writeCowd(join(directory, 'x-delta.vmdk'), SIZE / 512, grains)
    const parts = { createType: 'vmfsSparse', extents: [`RW ${SIZE / 512} VMFSSPARSE "x-delta.vmdk"`], cid: '00000002' }
    writeDescriptor(join(directory, 'nohint.vmdk'), { ...parts, parentCid: '00000001' })
    await refused('nohint.vmdk', 'INTEGRITY', /does not name it/)
    writeDescriptor(join(directory, 'nocid.vmdk'), { ...parts, hint: 'vm.vmdk' })
    await refused('nocid.vmdk', 'INTEGRITY', /parentCID that it has none/)
    writeDescriptor(join(directory, 'out.vmdk'), { ...parts, parentCid: '00000001', hint: '/etc/passwd' })
    await refused('out.vmdk', 'CONFIG', /leads out/)
    delta('small', 'vm.vmdk', '00000001', '00000002', SIZE - 512)
    await refused('small.vmdk', 'INTEGRITY', /fewer than its parent/)
  })
})

describe('openDisk', () => {
  it('refuses an extent file named instead of its descriptor, and says which to name', async () => {
    writeRedoLog(directory, 's', 'sesparse', SIZE, grains, { hint: 'vm.vmdk', cid: '00000001' }, '00000002')
    delta('d', 'vm.vmdk', '00000001', '00000002')
    await refused('s-sesparse.vmdk', 'USAGE', /data of a redo log/)
    await refused('d-delta.vmdk', 'USAGE', /data of a redo log/)
    truncateSync(join(directory, 'vm-flat.vmdk'), 8 * 1024 * 1024)
    await refused('vm-flat.vmdk', 'USAGE', /too large for a VMDK descriptor/)
  })

  it('refuses a flat file shorter than its extent', async () => {
    truncateSync(join(directory, 'vm-flat.vmdk'), SIZE - 1)
    await refused('vm.vmdk', 'INTEGRITY', /the disk needs/)
  })

  it('refuses redo logs that contradict their descriptor or themselves', async () => {
    delta('d', 'vm.vmdk', '00000001', '00000002')
    for (const [offset, bytes, message] of [
      [0, [0x58], /no redo log/],
      [4, [2], /COWD version 2/],
      [8, [7], /inconsistent/],
      [9, [1], /flags/],
      [16, [3], /grains of 3/],
      [12, [0, 0x10, 0, 0], /its own header says/],
      [12, [0xff, 0xff, 0xff, 0xff], /directory entries/],
      [20, [0xff, 0xff, 0xff, 0x7f], /outside the file/],
      [2048, [0xff, 0xff, 0xff, 0x7f], /grain table 0 outside/],
      [5 * 512 + 12, [0xff, 0xff, 0xff, 0x7f], /grain 3 outside/],
    ] as const) {
      const before = readFileSync(join(directory, 'd-delta.vmdk'))
      patch('d-delta.vmdk', offset, bytes)
      await refused('d.vmdk', 'INTEGRITY', message)
      writeFileSync(join(directory, 'd-delta.vmdk'), before)
    }
    await open('d.vmdk')
  })

  it('refuses seSparse it does not understand, and a dirty one with the reason', async () => {
    const sectors = SIZE / 512
    const parts = { createType: 'seSparse', extents: [`RW ${sectors} SESPARSE "s"`], cid: '00000002' }
    writeDescriptor(join(directory, 's.vmdk'), parts)
    for (const [options, code, message] of [
      [{ replay: 1n }, 'CONFLICT', /journal has not been replayed/],
      [{ header: { 1: 0x200000002n } }, 'INTEGRITY', /version 2.2/],
      [{ header: { 3: 16n } }, 'INTEGRITY', /grains of 16/],
      [{ header: { 4: 32n } }, 'INTEGRITY', /tables of 32/],
      [{ header: { 5: 1n } }, 'INTEGRITY', /flags/],
      [{ header: { 2: 8n } }, 'INTEGRITY', /its own header says/],
      [{ header: { 16: 1n << 60n } }, 'INTEGRITY', /too large to be true/],
      [{ header: { 16: 1n << 42n } }, 'INTEGRITY', /outside the file/],
      [{ header: { 25: 0n } }, 'INTEGRITY', /grain 3 outside/],
    ] as const) {
      writeSeSparse(join(directory, 's'), sectors, grains, options)
      await refused('s.vmdk', code, message)
    }
    // Grain indexes beyond 12 bits prove the rotation.
    writeSeSparse(join(directory, 's'), sectors * 64, grains, { firstIndex: 30_000n })
    writeDescriptor(join(directory, 's.vmdk'), { ...parts, extents: [`RW ${sectors * 64} SESPARSE "s"`] })
    await using disk = await openDisk(join(directory, 's.vmdk'), localDiskFiles())
    const into = new Uint8Array(4096)
    await disk.read(3 * 4096, into)
    expect(into.every((byte) => byte === 3)).toBe(true)
  })

  it('opens and lists a seSparse disk of 2 TiB with little data quickly, in little memory', async () => {
    const sectors = 2 ** 32
    const far = sectors / 8 - 2
    writeSeSparse(join(directory, 's'), sectors, new Map([...grains, [far, Buffer.alloc(4096, 9)]]))
    writeDescriptor(join(directory, 's.vmdk'), { createType: 'seSparse', extents: [`RW ${sectors} SESPARSE "s"`], cid: '00000002' })
    const before = process.memoryUsage().rss
    const started = performance.now()
    await using disk = await openChain(join(directory, 's.vmdk'), localDiskFiles())
    const data: number[] = []
    for await (const extent of disk.extents({ offset: 0, length: disk.size })) if (extent.kind === 'data') data.push(extent.offset)
    expect(data).toEqual([3 * 4096, far * 4096])
    expect(performance.now() - started).toBeLessThan(30_000)
    expect(process.memoryUsage().rss - before).toBeLessThan(400 * 1024 * 1024)
  })
})
