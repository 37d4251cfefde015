import { execFileSync } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import { describe, it, TestRunner } from 'vitest'

/**
 * Independent programs that judge what we write and serve. `scripts/install-peers.sh` brings every one of them; without it the tests
 * that need one are skipped with the reason, and with `VCB_PEERS=required` (as `.ci/run` sets it) a missing one is a failure.
 */
export type PeerName =
  | 'restic'
  | 'qemu-img'
  | 'qemu-io'
  | 'qemu-nbd'
  | 'nbdkit'
  | 'nbdinfo'
  | 'nbdcopy'
  | 'nbdfuse'
  | 'nbd-client'
  | 'fusermount3'
  | 'tar'
  | 'govc'
  | 'vcsim'
  | 'vcsim-lite'
  | 'govmomi-client'
  | 'pyvmomi'
  | 'mkfs.ext4'
  | 'e2fsck'
  | 'debugfs'
  | 'mkfs.xfs'
  | 'mkfs.btrfs'
  | 'mkntfs'
  | 'ntfs-3g'
  | 'ntfsls'
  | 'sfdisk'
  | 'sgdisk'
  | 'parted'
  | 'blkid'
  | 'mkswap'
  | 'mkfs.vfat'
  | 'mcopy'
  | 'mdel'
  | 'mkfs.exfat'
  | 'cryptsetup'
  | 'genisoimage'
  | 'hivexsh'
  | 'hivexget'
  | 'openssl'
  | 'curl'
  | 'strace'
  | 'sshd'
  | 'ssh'
  | 'ssh-keygen'
  | 'busybox'
  | 'python3'
  | 'setpriv'
  | 'shellcheck'
  | 'borg'
  | 'borgmatic'
  | 'rsnapshot'
  | 'sqlite3'
  | 'bconsole'
  | 'bacula-dir'
  | 'bacula-sd'
  | 'bacula-fd'
  | 'amdump'
  | 'burp'
  | 'rclone'
  | 'postgres'
  | 'radosgw'
  | 'radosgw-admin'
  | 'ceph'
  | 'ceph-mon'
  | 'ceph-mgr'
  | 'ceph-osd'
  | 'ceph-authtool'
  | 'monmaptool'
  | 'promtool'
  | 'aiosmtpd'
  | 'rsyslogd'
  | 'logger'
  | 'logrotate'
  | 'systemd-notify'
  | 'systemd-analyze'

const BUILT = join(import.meta.dirname, '..', '.peers')
/** Debian keeps the server's programs of each major version apart and off PATH; what is in the image is version 15. */
const POSTGRESQL = '/usr/lib/postgresql/15/bin'
const SEARCHED = [BUILT, POSTGRESQL, ...(process.env['PATH'] ?? '').split(delimiter), '/usr/bin', '/usr/sbin', '/bin', '/sbin']
/** Which module of Python it is. */
const PYTHONS: Partial<Record<PeerName, string>> = { python3: 'os', pyvmomi: 'pyVmomi', aiosmtpd: 'aiosmtpd' }
const found = new Map<PeerName, string | undefined>()

/** Path of the program (for `pyvmomi` and `aiosmtpd`: of a Python that can import it; for `python3` the system's own first), or undefined when this machine has none. */
export function peer(name: PeerName): string | undefined {
  if (!found.has(name)) found.set(name, PYTHONS[name] === undefined ? executable(name) : pythonWith(PYTHONS[name]))
  return found.get(name)
}

/** Inside a test: the peer's path; skips the test when it is missing, or fails it where peers are required. */
export function requirePeer(name: PeerName): string {
  const path = peer(name)
  if (path !== undefined) return path
  if (required()) throw new Error(`${absent(name)} (VCB_PEERS=required)`)
  const test = TestRunner.getCurrentTest()
  if (test === undefined) throw new Error(`${absent(name)}; outside a test use describePeer, which can skip`)
  return test.context.skip(absent(name))
}

/** A suite that needs a peer; `body` gets its path. Missing: one skipped test with the reason, or one failed test where peers are required. */
export function describePeer(name: PeerName, title: string, body: (path: string) => void): void {
  describePeers([name], title, (paths) => body(paths[name]))
}

/** The same for a suite that needs several peers; `body` gets the paths by name. */
export function describePeers<Name extends PeerName>(
  names: readonly Name[],
  title: string,
  body: (paths: Readonly<Record<Name, string>>) => void,
): void {
  const missing = names.filter((name) => peer(name) === undefined)
  describe(title, () => {
    if (missing.length === 0) {
      body(Object.fromEntries(names.map((name) => [name, peer(name)])) as Record<Name, string>)
      return
    }
    for (const name of missing) it(`needs the peer ${name}`, () => void requirePeer(name))
  })
}

const required = (): boolean => process.env['VCB_PEERS'] === 'required'
const absent = (name: PeerName): string => `${name} is not on this machine; scripts/install-peers.sh brings it`

function executable(name: string): string | undefined {
  return SEARCHED.filter((directory) => directory !== '')
    .map((directory) => join(directory, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK)
        return true
      } catch {
        return false
      }
    })
}

/** Debian's modules belong to Debian's own interpreter, so that one is asked before whatever `python3` is on PATH. */
function pythonWith(module: string): string | undefined {
  const candidates = ['/usr/bin/python3', executable('python3')].filter((path) => path !== undefined)
  return candidates.find((python) => {
    try {
      execFileSync(python, ['-W', 'ignore', '-c', `import ${module}`], { stdio: 'ignore' })
      return true
    } catch {
      return false
    }
  })
}
