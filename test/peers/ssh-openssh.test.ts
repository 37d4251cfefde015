import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { chmod, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { MIB, Secret, silentLog, systemClock } from '../../src/core/index.ts'
import { startLab } from '../../src/lab/index.ts'
import { openRemoteFiles, type RemoteFiles, SshConnection, type SshHost } from '../../src/ssh/index.ts'
import { type OpenSshd, startSshd } from '../openssh.ts'
import { describePeers } from '../peer.ts'

const deps = { clock: systemClock, log: silentLog }

describePeers(
  ['sshd', 'ssh', 'ssh-keygen', 'python3', 'busybox'],
  'our client against a real OpenSSH server',
  ({ sshd, busybox, python3 }) => {
    let server: OpenSshd
    const bytes = Buffer.concat([randomBytes(3 * MIB), Buffer.alloc(5 * MIB), randomBytes(2 * MIB + 77), Buffer.alloc(100_000)])
    let path: string
    /** Every command in busybox's shell with nothing but these programs, as on ESXi; past what the user's own shell reads at its start. */
    const shellOf = (bin: string): string => `ForceCommand PATH=${bin} exec ${busybox} sh -c "$SSH_ORIGINAL_COMMAND"`
    beforeAll(async () => {
      // As on ESXi: its busybox, and python3 by a path of its own.
      const bin = await mkdtemp(join(tmpdir(), 'vcb-bin-'))
      server = await startSshd(sshd, [shellOf(`${bin}/with`)])
      for (const [name, target] of [
        ['with', python3],
        ['without', ''],
      ] as const) {
        await mkdir(join(bin, name))
        for (const applet of ['dd', 'stat'])
          await writeFile(join(bin, name, applet), `#!/bin/sh\nexec ${busybox} ${applet} "$@"\n`, { mode: 0o755 })
        if (target !== '') await writeFile(join(bin, name, 'python3'), `#!/bin/sh\nexec ${target} "$@"\n`, { mode: 0o755 })
      }
      binaries = bin
      const directory = join(server.directory, "a dir's $(name)\n*")
      await mkdir(directory)
      path = join(directory, '-disk "1".vmdk')
      await writeFile(path, bytes)
    })
    let binaries = ''
    afterAll(async () => {
      await server[Symbol.asyncDispose]()
      await rm(binaries, { recursive: true, force: true })
    })

    const reads = async (files: RemoteFiles): Promise<void> => {
      const file = await files.open(path)
      expect(file.size).toBe(bytes.length)
      const spots = [
        [0, bytes.length],
        [1, 1],
        [511, 4097],
        [3 * MIB - 5, 10],
        [5 * MIB + 3, MIB],
        [bytes.length - 1, 1],
        [bytes.length - 70_000, 70_000],
        [bytes.length, 0],
      ] as const
      await Promise.all(
        spots.map(async ([offset, length]) => {
          const into = Buffer.alloc(length, 1)
          await file.read(offset, into)
          expect([offset, into.equals(bytes.subarray(offset, offset + length))]).toEqual([offset, true])
        }),
      )
      await expect(file.read(bytes.length - 1, Buffer.alloc(2))).rejects.toMatchObject({ code: 'INTEGRITY' })
      await expect(files.open(`${path}.none`)).rejects.toMatchObject({ code: 'NOT_FOUND' })
    }

    test('reads what is in a file with python3, by pieces, holes and digests', async () => {
      await using connection = await SshConnection.open(server.host(), deps)
      await using files = await openRemoteFiles(connection)
      expect(files.how).toMatchObject({ program: 'python3' })
      await reads(files)
      const file = await files.open(path)
      const pieces = [
        { path, offset: 12_345, length: 4 * MIB },
        { path: undefined, offset: 0, length: 200_001 },
        { path, offset: 7, length: 1 },
      ]
      const wanted = createHash('sha256')
      for (const { path: from, offset, length } of pieces)
        wanted.update(from === undefined ? Buffer.alloc(length) : bytes.subarray(offset, offset + length))
      expect(Buffer.from((await files.digest?.(pieces)) ?? []).toString('hex')).toBe(wanted.digest('hex'))
      await expect(files.digest?.([{ path, offset: file.size - 1, length: 2 }])).rejects.toMatchObject({ code: 'INTEGRITY' })
      let end = 7
      for await (const extent of file.holes?.({ offset: 7, length: file.size - 7 }) ?? []) {
        expect(extent.offset).toBe(end)
        if (extent.kind === 'zero')
          expect(bytes.subarray(extent.offset, extent.offset + extent.length).every((byte) => byte === 0)).toBe(true)
        end += extent.length
      }
      expect(end).toBe(bytes.length)
    })

    test('writes with python3 where it is told to', async () => {
      const target = join(server.directory, 'target')
      await writeFile(target, Buffer.alloc(4 * MIB))
      await using connection = await SshConnection.open(server.host(), deps)
      await using files = await openRemoteFiles(connection)
      const file = await files.openToWrite?.(target)
      await Promise.all([file?.write(513, bytes.subarray(0, 2 * MIB + 1)), file?.write(3 * MIB + 5, bytes.subarray(0, 7))])
      await file?.sync()
      const wanted = Buffer.alloc(4 * MIB)
      bytes.copy(wanted, 513, 0, 2 * MIB + 1)
      bytes.copy(wanted, 3 * MIB + 5, 0, 7)
      expect((await readFile(target)).equals(wanted)).toBe(true)
      await chmod(target, 0o400)
    })

    test('reads the same with busybox dd where there is no python3', async () => {
      await using alone = await startSshd(sshd, [shellOf(`${binaries}/without`)])
      await using connection = await SshConnection.open(alone.host(), deps)
      await using files = await openRemoteFiles(connection)
      expect(files.how).toEqual({ program: 'dd', reason: 'sshd has no python3.' })
      await reads(files)
    })

    test('keeps exit statuses, error output and limits apart, with more commands at once than there are sessions', async () => {
      await using connection = await SshConnection.open(server.host(), deps)
      const all = await Promise.all(Array.from({ length: 25 }, (_, index) => connection.run(['exit', String(index)])))
      expect(all.map(({ status }) => status)).toEqual(Array.from({ length: 25 }, (_, index) => index))
      expect(await connection.run(['nothing-here'])).toMatchObject({ status: 127, stderr: expect.stringContaining('not found') })
      await expect(connection.run(['read', 'x', 'y'], { limitMs: 1 })).rejects.toMatchObject({ code: 'UNAVAILABLE' })
      await expect(connection.run(['dd', 'if=/dev/zero', 'bs=1048576', 'count=3'])).rejects.toThrow(/said more than/)
      const stop = new AbortController()
      // Nobody ends it there: what says nothing has no pipe to break.
      const running = connection.run(['sleep', '20'], { signal: stop.signal })
      stop.abort()
      await expect(running).rejects.toThrow()
      expect((await connection.run(['exit', '3'])).status).toBe(3)
    })

    test.each([1, 2])('keeps to a server that allows %i sessions a connection', async (most) => {
      await using few = await startSshd(sshd, [`MaxSessions ${most}`, shellOf(`${binaries}/without`)])
      await using connection = await SshConnection.open(few.host(), deps)
      const all = await Promise.all(Array.from({ length: 12 }, (_, index) => connection.run(['exit', String(index)])))
      expect(all.map(({ status }) => status)).toEqual(Array.from({ length: 12 }, (_, index) => index))
      await using files = await openRemoteFiles(connection)
      await reads(files)
    })

    test('takes no other key for the host’s, from a fingerprint or from known_hosts, and no wrong login', async () => {
      const kh = { path: server.knownHosts, text: await readFile(server.knownHosts, 'utf8') }
      await using fine = await SshConnection.open(server.host({ pin: async () => ({ knownHosts: kh }) }), deps)
      expect((await fine.run(['exit', '0'])).status).toBe(0)
      const wrong = (change: Partial<SshHost>) => SshConnection.open(server.host(change), deps)
      await expect(wrong({ pin: async () => ({ fingerprints: [`SHA256:${'A'.repeat(43)}`] }) })).rejects.toMatchObject({ code: 'AUTH' })
      await expect(wrong({ pin: async () => ({ knownHosts: { ...kh, text: '' } }) })).rejects.toMatchObject({ code: 'AUTH' })
      await expect(wrong({ login: async () => ({ password: new Secret('wrong') }) })).rejects.toMatchObject({ code: 'AUTH' })
      await expect(wrong({ port: 1 })).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    })
  },
)

describePeers(['ssh', 'ssh-keygen', 'python3'], 'OpenSSH’s own client against the lab’s hosts', ({ ssh }) => {
  test('logs in with the lab’s key, runs what the agent runs, and is refused the rest', async () => {
    await using stack = new AsyncDisposableStack()
    const directory = await mkdtemp(join(tmpdir(), 'vcb-lab-ssh-'))
    stack.defer(() => rm(directory, { recursive: true, force: true }))
    const lab = stack.use(
      await startLab({
        directory: join(directory, 'lab'),
        scenario: {
          datacenters: [
            {
              name: 'DC',
              hosts: [{ name: 'esx1', ssh: true }],
              datastores: [{ name: 'v6' }],
              vms: [
                { name: 'off', power: 'poweredOff', disks: [{ size: '2MiB', content: 'random' }] },
                { name: 'on', disks: [{ size: '1MiB' }] },
              ],
            },
          ],
        },
      }),
    )
    const [shell] = lab.endpoints.ssh
    const known = join(directory, 'known_hosts')
    const options = [
      '-p',
      String(shell?.port),
      '-i',
      lab.sshKeyFile,
      '-o',
      'IdentitiesOnly=yes',
      '-o',
      `UserKnownHostsFile=${known}`,
      '-o',
      'BatchMode=yes',
    ]
    const run = (command: string, ...more: readonly string[]): Promise<{ status: number; out: Buffer; err: string }> =>
      new Promise((resolve) => {
        execFile(ssh, [...options, ...more, 'root@127.0.0.1', command], { encoding: 'buffer', maxBuffer: 8 * MIB }, (error, out, err) => {
          resolve({ status: error === null ? 0 : Number(error.code), out, err: err.toString() })
        })
      })
    expect((await run('stat -L -c %s /x', '-o', 'StrictHostKeyChecking=yes')).status).toBe(255)
    const path = '/vmfs/volumes/v6/off/off-flat.vmdk'
    expect(
      (await run(`cat ${path}`, '-o', 'StrictHostKeyChecking=accept-new')).out.equals(
        await readFile(join(lab.datastores['v6'] ?? '', 'off/off-flat.vmdk')),
      ),
    ).toBe(true)
    expect((await run(`dd if=${path} bs=4096 skip=3 count=2`)).out.length).toBe(8192)
    expect((await run(`stat -L -c %s ${path}`)).out.toString()).toBe(`${2 * MIB}\n`)
    const python = await run(`python3 -I -S -c 'import os; print(os.fstat(os.open("${path}", os.O_RDONLY)).st_size)'`)
    expect(python).toMatchObject({ status: 0, out: Buffer.from(`${2 * MIB}\n`) })
    for (const [command, said] of [
      ['cat /etc/passwd', 'No such file'],
      ['cat /vmfs/volumes/v6/../../lab.json', 'No such file'],
      ['cat /vmfs/volumes/v6/on/on-flat.vmdk', 'resource busy'],
      ['id', 'not found'],
      ['cat x; id', 'only simple commands'],
      [`python3 -I -S -c 'import os; os.open("/etc/passwd", 0)'`, 'No such file'],
      [`python3 -I -S -c 'open("/etc/passwd")'`, 'not on this host'],
      [`python3 -I -S -c 'import os; os.system("id")'`, 'Error'],
      [`python3 -I -S -c 'import socket; socket.socket()'`, 'Error'],
    ] as const) {
      const { status, out, err } = await run(command)
      expect([command, status === 0, out.length, err.includes(said)]).toEqual([command, false, 0, true])
    }
  })
})

describe('a host that is not there', () => {
  test('is said to be away', async () => {
    const host: SshHost = {
      name: 'gone',
      address: '127.0.0.1',
      port: 1,
      user: 'root',
      login: async () => ({ password: new Secret('x') }),
      pin: async () => ({ fingerprints: [] }),
    }
    await expect(SshConnection.open(host, deps)).rejects.toMatchObject({ code: 'UNAVAILABLE' })
  })
})
