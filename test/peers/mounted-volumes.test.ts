import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it, TestRunner } from 'vitest'
import { createIds, GIB, isAgentError, KIB, MIB, silentLog, systemClock } from '../../src/core/index.ts'
import { openFlat, openLocalFile } from '../../src/disk/index.ts'
import { openSqliteJournal, recoverJobs, systemProcesses } from '../../src/journal/index.ts'
import {
  type FileSystemType,
  mountAbilities,
  type PresentedVolumes,
  presentReleasers,
  presentVolumes,
  readMounted,
} from '../../src/mount/index.ts'
import { openState } from '../../src/state/index.ts'
import { canMount, guestDisk, kernelHas, leftovers, presentDeps, requireMounting, run, shell, someClaims } from '../mount-world.ts'
import { peer, requirePeer } from '../peer.ts'

/*
 * Guests' file systems as a lease mounts them, judged by the programs that made them. The images were copied while they were mounted and written to, right
 * after fsync, as the snapshot of a running VM shows them.
 */
const FSYNCED = 50
let images = ''
let top = ''

beforeAll(async () => {
  if (!canMount()) return
  images = mkdtempSync(join(tmpdir(), 'vcb-guests-'))
  for (const type of ['ext4', 'xfs', 'btrfs'] as const) if (kernelHas(type) && peer(`mkfs.${type}`) !== undefined) await makeDirty(type)
  for (const name of ['ext4', 'ntfs'] as const) {
    const disk = guestDisk(name)
    const length = name === 'ext4' ? 56 * MIB : 40 * MIB
    writeFileSync(join(images, `clean-${name}`), disk.subarray(MIB, MIB + length))
  }
})

afterAll(() => {
  if (images !== '') rmSync(images, { recursive: true })
})

afterEach(async () => {
  if (top === '') return
  expect(await leftovers(top)).toEqual([])
  rmSync(top, { recursive: true })
  top = ''
})

function fresh(): string {
  requireMounting()
  top = mkdtempSync(join(tmpdir(), 'vcb-mounted-'))
  return top
}

const makeDirty = (type: string): Promise<string> =>
  shell(
    `cd "$1"; truncate -s "$3" "live-$2"; mkdir at
     case "$2" in ext4) mkfs.ext4 -q "live-$2";; xfs) mkfs.xfs -q "live-$2";; btrfs) mkfs.btrfs -q "live-$2" >/dev/null;; esac
     loop=$(losetup --find --show "live-$2")
     trap 'umount at || true; losetup -d "$loop"; rm "live-$2"; rmdir at' EXIT
     mount -t "$2" "$loop" at
     mkdir at/old; echo checkpointed >at/old/a; sync -f at
     python3 -c '
import os, sys
os.mkdir("at/new")
for i in range(int(sys.argv[1])):
    f = os.open("at/new/f%03d" % i, os.O_CREAT | os.O_WRONLY); os.write(f, b"after checkpoint %d\\n" % i); os.fsync(f); os.close(f)
d = os.open("at/new", os.O_RDONLY); os.fsync(d)
' "$4"
     cp --sparse=always "live-$2" "dirty-$2"`,
    images,
    type,
    type === 'xfs' ? '320M' : '160M',
    String(FSYNCED),
  )

const sha256 = async (path: string): Promise<string> => (await run('sha256sum', path)).split(' ')[0] ?? ''

/** Mounts image files and compares them before and after. */
async function mounted(
  wanted: Readonly<Record<string, FileSystemType>>,
  test: (at: (name: string) => string, volumes: PresentedVolumes) => Promise<void>,
  overlayLimit?: number,
): Promise<void> {
  const directory = fresh()
  await using claims = await someClaims()
  await using opened = new AsyncDisposableStack()
  const volumes = []
  const before = new Map<string, string>()
  for (const [name, type] of Object.entries(wanted)) {
    before.set(name, await sha256(join(images, name)))
    volumes.push({ name, type, source: opened.use(openFlat(await openLocalFile(join(images, name)))), modified: new Date(0) })
  }
  const places = { images: join(directory, 'volumes'), scratch: directory, overlayLimit }
  await using presented = await presentVolumes(volumes, places, presentDeps, claims)
  await test((name) => join(directory, 'digits', name), presented)
  // Who walks over the directory stores no volume once more, although the kernel reads its image there.
  expect(await run('ls', '-A', places.images)).toBe('')
  await presented[Symbol.asyncDispose]()
  expect(claims.held).toEqual([])
  for (const [name, digest] of before) expect(await sha256(join(images, name))).toBe(digest)
}

describe('mounted volumes', () => {
  it.each(['ext4', 'xfs', 'btrfs'] as const)(
    'replay the journal of a dirty %s into the private layer: every fsynced file is there',
    async (type) => {
      requireMounting()
      requirePeer(`mkfs.${type}`)
      // Some kernels have not all of them.
      if (!kernelHas(type)) return TestRunner.getCurrentTest()?.context.skip(`this kernel has no ${type}`)
      await mounted({ [`dirty-${type}`]: type }, async (at, volumes) => {
        const path = at(`dirty-${type}`)
        await volumes.mount(`dirty-${type}`, path)
        expect(await run('cat', join(path, 'old', 'a'))).toBe('checkpointed\n')
        const text = await shell('cd "$1/new"; ls | wc -l; cat f*', path)
        expect(text).toBe([FSYNCED, ...Array.from({ length: FSYNCED }, (_, index) => `after checkpoint ${index}`), ''].join('\n'))
        expect((await run('findmnt', '--noheadings', '--output', 'OPTIONS', path)).split(',')).toEqual(
          expect.arrayContaining(['ro', 'nosuid', 'nodev', 'noexec']),
        )
        await expect(shell('echo x >"$1/new/x"', path)).rejects.toThrow('Read-only')
      })
    },
  )

  it('show an ext4 and an NTFS at once, one of them in two places', () =>
    mounted({ 'clean-ext4': 'ext4', 'clean-ntfs': 'ntfs' }, async (at, volumes) => {
      requirePeer('ntfs-3g')
      const [linux, windows, again] = [at('1'), at('2'), at('C')]
      await volumes.mount('clean-ext4', linux)
      await volumes.mount('clean-ntfs', windows)
      await volumes.mountAgain('clean-ntfs', again)
      expect(await sha256(join(linux, 'var/log/messages'))).toBe('f2e2bbc2c2107171c450eda8186f35f6a26882be65e3197536fcb7383a33868c')
      expect(await sha256(join(linux, 'home/admin/docs/Übung eins.txt'))).toBe(
        '125f161a0d2fe94222422eba0a21b3da28c537c12c6e6d9d0ca672af6092a262',
      )
      expect(await sha256(join(windows, 'random.bin'))).toBe('5d6b4bbf47202fbc7243f45d4d94b592044eea7d2d657efab092cecce99f700d')
      expect(await sha256(join(again, 'messages.txt'))).toBe('f2e2bbc2c2107171c450eda8186f35f6a26882be65e3197536fcb7383a33868c')
      const options = { clock: systemClock, limit: 64 * KIB }
      expect((await readMounted(linux, ['etc', 'hostname'], options))?.toString()).toBe('lab-guest\n')
      expect(await readMounted(linux, ['etc', 'Hostname'], options)).toBeUndefined()
      expect((await readMounted(linux, ['ETC', 'Hostname'], { ...options, ignoreCase: true }))?.toString()).toBe('lab-guest\n')
      // A symbolic link that leads out of the guest is not followed.
      expect(await readMounted(linux, ['home', 'admin', 'docs', 'link'], options)).toBeUndefined()
      await expect(readMounted(linux, ['var', 'log', 'messages'], options)).rejects.toSatisfy((error) => isAgentError(error, 'CAPACITY'))
      expect(volumes.activity.every(({ readBytes, readErrors }) => readBytes > 0 && readErrors === 0)).toBe(true)
    }))

  it('show a subvolume of a btrfs in a place of its own', async () => {
    requireMounting()
    requirePeer('mkfs.btrfs')
    if (!kernelHas('btrfs')) return TestRunner.getCurrentTest()?.context.skip('this kernel has no btrfs')
    await shell(
      `cd "$1"; truncate -s 128M subvolumes; mkfs.btrfs -q subvolumes >/dev/null; mkdir sub; loop=$(losetup --find --show subvolumes)
       trap 'umount sub || true; losetup -d "$loop"; rmdir sub' EXIT
       mount -t btrfs "$loop" sub; btrfs subvolume create sub/@home >/dev/null; echo at home >sub/@home/file`,
      images,
    )
    await mounted({ subvolumes: 'btrfs' }, async (at, volumes) => {
      await volumes.mount('subvolumes', at('1'))
      await volumes.mountAgain('subvolumes', at('home'), '@home')
      expect(await run('cat', join(at('home'), 'file'))).toBe('at home\n')
      expect(await run('cat', join(at('1'), '@home', 'file'))).toBe('at home\n')
      await expect(volumes.mountAgain('subvolumes', at('no'), 'x,rw')).rejects.toSatisfy((error) => isAgentError(error, 'USAGE'))
    })
  })

  it('show the alternate streams and the security of NTFS files', async () => {
    requirePeer('ntfs-3g')
    requireMounting()
    cpSync(join(images, 'clean-ntfs'), join(images, 'streams'))
    mkdirSync(join(images, 'at'))
    await shell(
      'cd "$1"; ntfs-3g -o streams_interface=windows streams at; trap "umount at" EXIT; echo plain >at/a.txt; echo hidden >at/a.txt:secret',
      images,
    )
    await mounted({ streams: 'ntfs' }, async (at, volumes) => {
      await volumes.mount('streams', at('1'))
      const secret = await run(
        'python3',
        '-c',
        'import os, sys; print(os.listxattr(sys.argv[1]), os.getxattr(sys.argv[1], "user.secret"))',
        join(at('1'), 'a.txt'),
      )
      expect(secret).toBe("['user.secret'] b'hidden\\n'\n")
      // A self-relative security descriptor: revision 1, control with SE_SELF_RELATIVE.
      const acl = await run(
        'python3',
        '-c',
        'import os, sys; print(os.getxattr(sys.argv[1], "system.ntfs_acl").hex())',
        join(at('1'), 'a.txt'),
      )
      expect(acl).toMatch(/^0100..[89a-f]/)
    })
  })

  it('say which file system cannot be mounted, and leave nothing of the try', async () => {
    requireMounting()
    writeFileSync(join(images, 'rubbish'), Buffer.alloc(MIB, 'no file system '))
    await mounted({ rubbish: 'ext4', 'dirty-ext4': 'ext4' }, async (at, volumes) => {
      await expect(volumes.mount('rubbish', at('1'))).rejects.toSatisfy((error) => isAgentError(error, 'INTEGRITY'))
      await volumes.mount('dirty-ext4', at('2'))
      await expect(volumes.mount('dirty-ext4', at('3'))).rejects.toSatisfy((error) => isAgentError(error, 'USAGE'))
    })
  })

  it('say that the private layer is too small for a journal', () =>
    mounted(
      { 'dirty-ext4': 'ext4' },
      (at, volumes) => expect(volumes.mount('dirty-ext4', at('1'))).rejects.toThrow('The private layer over a disk is full'),
      64 * KIB,
    ))

  it('are ready and read at once on a disk of 100 GiB', async () => {
    requireMounting()
    await shell(
      'cd "$1"; mkdir tree; echo content >tree/file; truncate -s 100G huge; mkfs.ext4 -q -E lazy_itable_init=1 -d tree huge',
      images,
    )
    const directory = fresh()
    await using claims = await someClaims()
    await using source = openFlat(await openLocalFile(join(images, 'huge')))
    // Reading it all would be minutes.
    const since = systemClock.monotonicMs()
    const volume = { name: 'huge', type: 'ext4', source, modified: new Date(0) } as const
    await using volumes = await presentVolumes([volume], { images: join(directory, 'volumes'), scratch: directory }, presentDeps, claims)
    await volumes.mount('huge', join(directory, '1'))
    expect(await run('cat', join(directory, '1', 'file'))).toBe('content\n')
    expect(systemClock.monotonicMs() - since).toBeLessThan(20_000)
    expect(source.size).toBe(100 * GIB)
    await volumes[Symbol.asyncDispose]()
  })
})

describe('what this proxy can mount', () => {
  it('is what the kernel and its programs really can', async () => {
    requireMounting()
    const abilities = new Map((await mountAbilities(presentDeps)).map((ability) => [ability.what, ability]))
    expect(abilities.get('raw files')?.verdict.ok).toBe(true)
    for (const [what, type] of [
      ['ext4', 'ext4'],
      ['xfs', 'xfs'],
      ['btrfs', 'btrfs'],
    ] as const) {
      if (kernelHas(type)) expect(abilities.get(what)?.verdict).toMatchObject({ ok: true })
    }
    for (const { verdict, next } of abilities.values()) expect(verdict.ok).toBe(next === undefined)
  })
})

describe('a holder that dies', () => {
  /** Starts a holder of an ext4 and an NTFS, and gives it to `test`, which kills what it likes; then recovers from the journal alone. */
  async function recovered(test: (holder: ChildProcess, directory: string) => Promise<void>): Promise<void> {
    requirePeer('ntfs-3g')
    const directory = fresh()
    const script = join(import.meta.dirname, '..', 'mount-holder.ts')
    const named = [`ext4=${join(images, 'dirty-ext4')}`, `ntfs=${join(images, 'clean-ntfs')}`]
    const holder = spawn(process.execPath, ['--no-warnings', script, directory, ...named], { stdio: ['pipe', 'pipe', 'inherit'] })
    const ended = once(holder, 'exit')
    try {
      await Promise.race([
        once(holder.stdout ?? holder, 'data'),
        ended.then(() => {
          throw new Error('the holder ended before it was ready')
        }),
      ])
      await test(holder, directory)
    } finally {
      holder.kill('SIGKILL')
      await ended
      await using state = await openState(join(directory, 'state.db'))
      const journal = await openSqliteJournal({ state, clock: systemClock, ids: createIds(), processes: systemProcesses })
      const report = await recoverJobs({
        journal,
        releasers: presentReleasers(systemClock),
        isAlive: (owner) => systemProcesses.isAlive(owner),
        clock: systemClock,
        log: silentLog,
      })
      expect(report.recovered.flatMap(({ claims }) => claims).filter(({ result }) => result === 'kept')).toEqual([])
      expect(await journal.unfinished()).toEqual([])
    }
  }

  it('by SIGKILL leaves what recovery undoes, and nobody hangs meanwhile', () =>
    recovered(async (holder, directory) => {
      expect(await sha256(join(directory, 'letters', 'ntfs', 'random.bin'))).toMatch(/^5d6b4bbf/)
      expect(readFileSync(join(images, 'dirty-ext4')).length).toBe(160 * MIB)
      holder.kill('SIGKILL')
      await once(holder, 'exit')
      // The first one learns it in the middle of its question.
      await expect(run('timeout', '20', 'cat', join(directory, 'disks', 'ext4.raw'))).rejects.toThrow(/connection abort|not connected/)
      await expect(run('timeout', '20', 'cat', join(directory, 'disks', 'ext4.raw'))).rejects.toThrow('Transport endpoint is not connected')
      await expect(run('timeout', '20', 'cat', join(directory, 'digits', '1', 'new', 'f001'))).rejects.toThrow(/Input\/output error/)
      expect((await leftovers(directory)).length).toBeGreaterThan(5)
    }))

  it('after ntfs-3g was killed, leaves what recovery undoes', () =>
    recovered(async (_holder, directory) => {
      await shell('pids=$(pgrep -f "ntfs-3g.*$1/digits"); kill -9 $pids', directory)
      await expect(run('timeout', '20', 'ls', join(directory, 'digits', '2'))).rejects.toThrow('Transport endpoint is not connected')
    }))

  it('while a product has a file open, lets go of it in the end', () =>
    recovered(async (_holder, directory) => {
      // Ends before this test does: the recovery below finds it there, and takes the file system away from under it.
      await once(spawn('sleep', ['8'], { cwd: join(directory, 'digits', '1', 'new'), stdio: 'ignore' }), 'spawn')
    }))

  it('in order, has undone everything by itself', async () => {
    const directory = fresh()
    const script = join(import.meta.dirname, '..', 'mount-holder.ts')
    const holder = spawn(process.execPath, ['--no-warnings', script, directory, `ext4=${join(images, 'dirty-ext4')}`], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    const ended = once(holder, 'exit')
    await Promise.race([once(holder.stdout ?? holder, 'data'), ended])
    holder.stdin?.end()
    expect(await ended).toEqual([0, null])
  })
})
