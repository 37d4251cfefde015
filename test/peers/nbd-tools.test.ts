import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { AgentError, GIB, MIB, systemClock } from '../../src/core/index.ts'
import { faulty, memorySource, zeroSource } from '../../src/disk/index.ts'
import { picture, servedHere, socketDirectory } from '../nbd-world.ts'
import { describePeers } from '../peer.ts'

/* Our NBD server as other people's programs see it. Asynchronous throughout: the server is in this process. */
const run = promisify(execFile)
const SIZE = 9 * MIB
const image = picture(SIZE)
const exports = () => [
  { name: 'scsi0:0', description: 'web01 scsi0:0', source: memorySource(image, [{ offset: 0, length: SIZE, kind: 'data' }]) },
  { name: 'scsi0:1', source: zeroSource(62 * 1024 * GIB) },
]
const uri = (path: string, name = 'scsi0%3A0'): string => `nbd+unix:///${name}?socket=${path}`

describePeers(['nbdinfo', 'nbdcopy', 'qemu-img', 'qemu-io', 'nbdfuse', 'fusermount3'], 'the NBD server', (tools) => {
  it('is understood by nbdinfo', async () => {
    await using server = await servedHere(exports())
    const { stdout } = await run(tools.nbdinfo, ['--list', '--json', `nbd+unix:///?socket=${server.path}`])
    const told = JSON.parse(stdout) as { exports: { 'export-name': string; 'export-size': number; contexts: string[] }[] }
    expect(told.exports.map((each) => [each['export-name'], each['export-size'], each.contexts])).toEqual([
      ['scsi0:0', SIZE, ['base:allocation']],
      ['scsi0:1', 62 * 1024 * GIB, ['base:allocation']],
    ])
    const one = await run(tools.nbdinfo, ['--json', uri(server.path)])
    expect(JSON.parse(one.stdout)).toMatchObject({
      protocol: 'newstyle-fixed',
      structured: true,
      exports: [
        {
          description: 'web01 scsi0:0',
          is_read_only: true,
          can_multi_conn: true,
          can_df: true,
          can_flush: false,
          block_size_minimum: 1,
          block_size_maximum: 32 * MIB,
        },
      ],
    })
    await expect(run(tools.nbdinfo, [uri(server.path, 'none')])).rejects.toThrow('No such file or directory for export: none')
  })

  it('shows its extents', async () => {
    const holes = [
      { offset: 0, length: MIB, kind: 'data' },
      { offset: MIB, length: 2 * MIB, kind: 'zero' },
      { offset: 3 * MIB, length: MIB, kind: 'data' },
      { offset: 4 * MIB, length: SIZE - 4 * MIB, kind: 'absent' },
    ] as const
    await using server = await servedHere([{ name: 'a', source: memorySource(image, holes) }])
    const { stdout } = await run(tools.nbdinfo, ['--map', '--json', uri(server.path, 'a')])
    expect(
      (JSON.parse(stdout) as { offset: number; length: number; type: number }[]).map(({ offset, length, type }) => [offset, length, type]),
    ).toEqual([
      [0, MIB, 0],
      [MIB, 2 * MIB, 3],
      [3 * MIB, MIB, 0],
      [4 * MIB, SIZE - 4 * MIB, 3],
    ])
    const map = await run(tools['qemu-img'], ['map', '--output=json', '-f', 'raw', uri(server.path, 'a')])
    expect((JSON.parse(map.stdout) as { start: number; length: number; zero: boolean }[]).map(({ start, zero }) => [start, zero])).toEqual([
      [0, false],
      [MIB, true],
      [3 * MIB, false],
      [4 * MIB, true],
    ])
  })

  it('is copied and compared without a wrong byte, by several at a time', async () => {
    using directory = socketDirectory()
    await using server = await servedHere(exports())
    const raw = join(directory.path, 'image')
    writeFileSync(raw, image)
    const copies = Array.from({ length: 3 }, (_, index) => join(directory.path, `copy${index}`))
    await Promise.all([
      ...copies.map((copy) => run(tools.nbdcopy, ['--connections=4', '--requests=64', uri(server.path), copy])),
      run(tools['qemu-img'], ['convert', '-f', 'raw', '-O', 'qcow2', uri(server.path), join(directory.path, 'q')]),
      run(tools['qemu-img'], ['compare', '-f', 'raw', '-F', 'raw', raw, uri(server.path)]),
      run(tools['qemu-io'], [
        '-r',
        '-f',
        'raw',
        '-c',
        'read -P 1 0 1',
        '-c',
        'read -P 0 5000 100000',
        '-c',
        `read 0 ${SIZE}`,
        uri(server.path),
      ]),
      run(tools['qemu-img'], ['info', '--output=json', uri(server.path, 'scsi0%3A1')]),
    ])
    for (const copy of copies) expect(readFileSync(copy).equals(image)).toBe(true)
    await run(tools['qemu-img'], ['compare', '-f', 'raw', '-F', 'qcow2', raw, join(directory.path, 'q')])
    expect(server.activity[0]).toMatchObject({ connections: 0, readTo: SIZE, readErrors: 0 })
  })

  it('makes a program that reads a damaged disk fail, and remembers it', async () => {
    using directory = socketDirectory()
    const source = faulty(memorySource(image), ({ kind, range }) => {
      if (kind === 'read' && range.offset <= 4 * MIB && range.offset + range.length > 4 * MIB)
        throw new AgentError('INTEGRITY', 'a block is damaged')
    })
    await using server = await servedHere([{ name: 'scsi0:0', source }])
    await expect(run(tools.nbdcopy, [uri(server.path), join(directory.path, 'copy')])).rejects.toThrow(/Input\/output error/)
    await expect(run(tools['qemu-img'], ['convert', '-O', 'raw', uri(server.path), join(directory.path, 'copy')])).rejects.toThrow(/error/i)
    expect(server.activity[0]?.readError?.message).toBe('a block is damaged')
  })

  it('is a file through nbdfuse, read by several at a time, while it is copied', async () => {
    using directory = socketDirectory()
    await using server = await servedHere(exports())
    const mounted = join(directory.path, 'm')
    mkdirSync(mounted)
    const fuse = spawn(tools.nbdfuse, ['-r', join(mounted, 'disk'), uri(server.path)], { stdio: 'ignore' })
    const ended = once(fuse, 'exit')
    try {
      for (let tries = 0; tries < 500 && statSync(mounted).dev === statSync(directory.path).dev; tries++) await systemClock.sleep(10)
      // No synchronous call may touch the mount: this very process serves it.
      const sums = await Promise.all(Array.from({ length: 4 }, () => run('sha256sum', [join(mounted, 'disk')])))
      expect(new Set(sums.map(({ stdout }) => stdout)).size).toBe(1)
      await run('cmp', ['--bytes', String(SIZE), join(mounted, 'disk'), await saved(directory.path)])
    } finally {
      await run(tools.fusermount3, ['-u', mounted])
      await ended
    }
    expect(server.activity[0]?.readErrors).toBe(0)
  })
})

async function saved(directory: string): Promise<string> {
  const path = join(directory, 'image')
  writeFileSync(path, image)
  return path
}
