import { open, readdir, readFile, rename, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { Secret, silentLog, systemClock } from '../../src/core/index.ts'
import type { FaultRule } from '../../src/lab/index.ts'
import { connectVsphere, createSnapshot, data, reconfigureVm, removeSnapshot } from '../../src/vsphere/index.ts'
import { type CommandResult, type Json, type LabSession, openLabSession } from './lab-session.ts'

/*
 * Every wrong thing a user or the world can do to a backup: one sentence, the next step, the documented exit code, nothing left behind, and
 * no restore point that is not complete.
 */
let session: LabSession
let pointsBefore: number

beforeAll(async () => {
  session = await openLabSession()
  await session.json(['backup', 'web01', '--init', '--mode', 'full'])
})
afterAll(async () => {
  await session[Symbol.asyncDispose]()
})
beforeEach(async () => {
  pointsBefore = (await session.json(['points'])).points.length
})
afterEach(async () => {
  await session.lab.control.clearFaults()
  await session.expectClean()
})

const points = async (): Promise<number> => (await session.json(['points'])).points.length

/** An error as the user sees it: a sentence and a next step. */
function expectError(result: CommandResult, exit: number, message: RegExp): void {
  expect({ exit: result.exit, err: result.err }).toEqual({ exit, err: expect.stringMatching(message) })
  const [first = '', second = ''] = result.err.trimEnd().split('\n')
  expect(first).toMatch(/^vcb: .+\.$/)
  expect(second).toMatch(/^ {5}\S.+/)
}

/** The outcome of the only VM of a run. */
async function failing(argv: readonly string[], exit: number): Promise<Json> {
  const run = await session.json(['backup', ...argv], exit)
  expect(run.vms).toHaveLength(1)
  expect(run.vms[0].ok).toBe(false)
  expect(run.vms[0].error.message).toMatch(/\.$/)
  expect(run.vms[0].error.next).toMatch(/\S/)
  expect(await points()).toBe(pointsBefore)
  return run.vms[0].error
}

async function withFault<T>(rule: FaultRule, work: () => Promise<T>): Promise<T> {
  await session.lab.control.fault(rule)
  try {
    return await work()
  } finally {
    await session.lab.control.clearFaults()
  }
}

describe('connection', () => {
  test('a wrong password', async () => {
    const file = join(session.directory, 'wrong-password')
    await writeFile(file, 'wrong\n')
    expectError(await session.vcbWith({ VCB_PASSWORD_FILE: file }, 'vms'), 4, /password|login/i)
  })

  test('a changed certificate: nothing of the request is sent', async () => {
    const pin = session.lab.endpoints.vcenter.thumbprint.replace(/^../, (hex) => (hex === '00' ? '11' : '00'))
    expectError(await session.vcbWith({ VCB_THUMBPRINT: pin }, 'vms'), 4, /certificate/i)
  })

  test('a certificate nobody vouches for is not accepted blindly', async () => {
    expectError(await session.vcbWith({ VCB_THUMBPRINT: undefined }, 'vms'), 4, /certificate/i)
  })

  test('a server that is not there', async () => {
    expectError(await session.vcbWith({ VCB_VCENTER: 'https://127.0.0.1:9' }, 'vms'), 7, /127\.0\.0\.1/)
  })

  test('no password at all', async () => {
    expectError(await session.vcbWith({ VCB_PASSWORD_FILE: undefined }, 'vms'), 2, /password/)
  })

  test('a session that expires in the middle of a backup is renewed once', async () => {
    await withFault({ on: 'CreateSnapshotEx_Task', expireSession: true, nth: 1 }, async () => {
      const run = await session.json(['backup', 'web01'])
      expect(run.vms[0].ok).toBe(true)
    })
  })

  test('a user without the privilege', async () => {
    const { restricted } = session.lab
    const result = await session.vcbWith(
      { VCB_USER: restricted.user, VCB_PASSWORD_FILE: restricted.passwordFile },
      'backup',
      'web01',
      '--json',
    )
    expect(result.exit).toBe(4)
    expect(result.json().vms[0].error.message).toMatch(/privilege|permission/i)
  })
})

describe('selection', () => {
  test('an unknown VM', async () => {
    expectError(await session.vcb('backup', 'no-such-vm'), 5, /no-such-vm/)
  })

  test.each(['../../etc/passwd', 'a\nb', 'x'.repeat(300), '"; rm -rf /', '名前'])('a name like %j is only a name', async (name) => {
    const result = await session.vcb('backup', `name:${name.replace(/([\\, !])/g, '\\$1')}`)
    expect(result.exit).toBe(5)
    expect(result.err.split('\n').length).toBeLessThanOrEqual(3)
  })

  test('a disk to exclude that does not exist', async () => {
    const error = await failing(['web01', '--exclude-disk', 'scsi7:3'], 2)
    expect(error.message).toContain('scsi7:3')
  })

  test('an unknown flag and an unknown transport', async () => {
    expect((await session.vcb('backup', 'web01', '--no-such-flag')).exit).toBe(2)
    expectError(await session.vcb('backup', 'web01', '--transport', 'pigeon'), 2, /pigeon/)
  })

  test('a configuration file with a wrong key names the key', async () => {
    const file = join(session.directory, 'vcb.yaml')
    await writeFile(file, 'vcentre:\n  url: x\n')
    expectError(await session.vcb('vms', '--config', file), 3, /vcentre/)
  })
})

describe('snapshot and guest', () => {
  test('a snapshot task that fails', async () => {
    await withFault({ on: 'CreateSnapshotEx_Task', object: 'web01', taskError: 'GenericVmConfigFault' }, async () => {
      await failing(['web01'], 3)
    })
  })

  test('a quiesce fault with policy require ends the backup', async () => {
    await withFault({ object: 'web01', quiesce: 'application' }, async () => {
      const error = await failing(['web01', '--quiesce', 'require'], 8)
      expect(error.code).toBe('GUEST')
    })
  })

  test('a quiesce fault with policy try is recorded as crash-consistent', async () => {
    await withFault({ object: 'web01', quiesce: 'application' }, async () => {
      const run = await session.json(['backup', 'web01', '--quiesce', 'try'])
      expect(run.vms[0].consistency).toBe('crash')
      expect(run.vms[0].consistencyReason).toMatch(/\S/)
    })
  })

  test('a quiesce that the server drops silently is recorded as what it was', async () => {
    await withFault({ object: 'web01', quiesce: 'silent' }, async () => {
      const run = await session.json(['backup', 'web01', '--quiesce', 'try'])
      expect(run.vms[0].consistency).toBe('crash')
    })
  })

  test('a removal that leaves redo logs is followed by consolidation', async () => {
    await withFault({ object: 'web01', consolidationNeeded: true, times: 1 }, async () => {
      const run = await session.json(['backup', 'web01'])
      expect(run.vms[0].ok).toBe(true)
    })
  })

  test('a full datastore', async () => {
    await withFault({ datastoreFull: 'vmfs1' }, async () => {
      await failing(['web01'], 10)
    })
  })
})

describe('change tracking that cannot be trusted', () => {
  test.each(['lie-end', 'zero-length', 'noTrack', 'cannotGetChanges'] as const)(
    '%s makes a full read with the reason',
    async (changedAreas) => {
      await session.json(['backup', 'web01'])
      pointsBefore = await points()
      await withFault({ object: 'web01', changedAreas }, async () => {
        const run = await session.json(['backup', 'web01'])
        expect(run.vms[0].mode).toBe('full')
        for (const disk of run.vms[0].disks) expect(disk.modeReason).toMatch(/change tracking/i)
      })
      const target = join(session.directory, `cbt-${changedAreas}`)
      await session.json(['restore', 'web01@latest', '--to-dir', target])
    },
  )

  test('answers in small pages are read to the end', async () => {
    await session.json(['backup', 'web01'])
    await session.lab.control.write('web01', { records: 20 })
    await withFault({ object: 'web01', changedAreas: 'small-pages' }, async () => {
      const run = await session.json(['backup', 'web01'])
      expect(run.vms[0].mode).toBe('incremental')
    })
  })

  test('tracking that was reset (another uuid in the changeId)', async () => {
    await session.json(['backup', 'web01'])
    const vm = (await session.json(['vms', 'web01'])).vms[0]
    expect(vm).toBeDefined()
    await using vsphere = await connectVsphere({
      url: session.lab.endpoints.vcenter.url,
      user: session.lab.user,
      password: new Secret((await readFile(session.lab.passwordFile, 'utf8')).trim()),
      trust: { thumbprint: session.lab.endpoints.vcenter.thumbprint },
      clock: systemClock,
      log: silentLog,
    })
    const moref = { type: 'VirtualMachine', value: vm.vm.moref }
    for (const changeTrackingEnabled of [false, true]) {
      await reconfigureVm(vsphere, moref, data({ changeTrackingEnabled }))
      // It takes hold at a stun, which a snapshot brings about.
      await removeSnapshot(vsphere, await createSnapshot(vsphere, moref, { name: 'stun', description: '' }))
    }
    const run = await session.json(['backup', 'web01'])
    expect(run.vms[0].mode).toBe('full')
  })
})

describe('damaged sources', () => {
  const directory = (): string => join(session.lab.datastores['vmfs1'] ?? '', 'old01')

  /** Changes a file of a VM that is off, and puts it back. */
  async function damaged<T>(file: string, damage: (path: string) => Promise<void>, work: () => Promise<T>): Promise<T> {
    const path = join(directory(), file)
    const saved = await readFile(path)
    await damage(path)
    try {
      return await work()
    } finally {
      await writeFile(path, saved)
    }
  }

  test('a truncated flat file', async () => {
    await damaged(
      'old01-flat.vmdk',
      (path) => truncate(path, 1024 * 1024),
      async () => {
        const error = await failing(['old01'], 7)
        expect(error.message).toMatch(/old01\.vmdk/)
      },
    )
  })

  test('a descriptor that points outside its directory', async () => {
    await damaged(
      'old01.vmdk',
      async (path) => writeFile(path, (await readFile(path, 'utf8')).replace(/"old01-flat\.vmdk"/, '"../../../../etc/passwd"')),
      async () => {
        await failing(['old01', '--transport', 'san'], 7)
      },
    )
  })

  test('a descriptor that is rubbish', async () => {
    await damaged(
      'old01.vmdk',
      (path) => writeFile(path, 'rubbish\0'.repeat(100)),
      async () => {
        await failing(['old01', '--transport', 'san'], 7)
      },
    )
  })

  test('a parent that changed under its snapshot (CID mismatch)', async () => {
    const home = join(session.lab.datastores['vmfs1'] ?? '', 'history01')
    const base = join(home, 'history01.vmdk')
    const saved = await readFile(base, 'utf8')
    await writeFile(base, saved.replace(/^CID=.*$/m, 'CID=deadbeef'))
    try {
      const error = await failing(['history01', '--transport', 'san'], 7)
      expect(error.message).toMatch(/CID|deadbeef/)
    } finally {
      await writeFile(base, saved)
    }
  })

  test('a datastore mapped to another directory', async () => {
    const wrong = session.lab.datastores['nfs1'] ?? ''
    const result = await session.vcbWith({ VCB_DATASTORES: `vmfs1=${wrong}` }, 'backup', 'old01', '--transport', 'san', '--json')
    expect(result.exit).toBe(7)
  })
})

describe('network in the middle of a read', () => {
  const https = { VCB_DATASTORES: undefined, VCB_TRANSPORT: 'san:https' } as const

  test('a connection cut once is taken up again', async () => {
    await withFault({ on: 'folder:GET', object: '*-flat.vmdk', cutAfterBytes: 100_000, nth: 4 }, async () => {
      const result = await session.vcbWith(https, 'backup', 'web01', '--mode', 'full', '--json')
      expect(result.exit, result.out).toBe(0)
    })
  })

  test('short reads are an error, never padding', async () => {
    await withFault({ on: 'folder:GET', object: '*-flat.vmdk', shortAfterBytes: 1000 }, async () => {
      const impatient = join(session.directory, 'impatient.yaml')
      await writeFile(impatient, 'resume:\n  lastAttempts: 2\n  delay: 100ms\n')
      const result = await session.vcbWith(https, 'backup', 'web01', '--mode', 'full', '--config', impatient, '--json')
      expect(result.exit).toBe(7)
    })
    expect(await points()).toBe(pointsBefore)
  })

  test('a server without ranges refuses the transport with the reason', async () => {
    await withFault({ on: 'folder:GET', refuseRange: true }, async () => {
      const result = await session.vcbWith(https, 'backup', 'web01', '--mode', 'full', '--json')
      expect(result.exit).toBe(7)
      expect(result.json().vms[0].error.message).toMatch(/https: .*range/i)
    })
  })
})

describe('repository', () => {
  test('a wrong password', async () => {
    const file = join(session.directory, 'wrong-repo-password')
    await writeFile(file, 'wrong\n')
    expectError(await session.vcbWith({ VCB_REPO_PASSWORD_FILE: file }, 'points'), 4, /password/i)
  })

  test('one that is not there is not made without being asked', async () => {
    const missing = join(session.directory, 'no-repo')
    expectError(await session.vcb('backup', 'web01', '--repo', missing), 5, /no-repo/)
    await expect(stat(missing)).rejects.toThrow()
  })

  test('a corrupt pack is named by check and refused by restore', async () => {
    const data = join(session.repository, 'data')
    const packs: string[] = []
    for (const part of await readdir(data)) for (const name of await readdir(join(data, part))) packs.push(join(data, part, name))
    const sizes = await Promise.all(packs.map(async (path) => ({ path, size: (await stat(path)).size })))
    const largest = sizes.toSorted((a, b) => b.size - a.size)[0]
    if (largest === undefined) throw new Error('no pack')
    const saved = await readFile(largest.path)
    await using file = await open(largest.path, 'r+')
    await file.write(Buffer.alloc(64, 0x5a), 0, 64, Math.floor(saved.length / 2))
    try {
      const checked = await session.json(['check'], 9)
      expect(checked.problems.length).toBeGreaterThan(0)
      expect(checked.problems.map((problem: Json) => problem.what).join(' ')).toContain(largest.path.split('/').at(-1)?.slice(0, 8))
    } finally {
      await writeFile(largest.path, saved)
    }
  })

  test('a missing index file does not make a silent hole', async () => {
    const index = join(session.repository, 'index')
    const name = (await readdir(index))[0] ?? ''
    await rename(join(index, name), join(session.directory, 'index-aside'))
    try {
      const checked = await session.vcb('check', '--json')
      expect(checked.exit).toBe(9)
    } finally {
      await rename(join(session.directory, 'index-aside'), join(index, name))
    }
  })
})

describe('restore', () => {
  test('an unknown point', async () => {
    expectError(await session.vcb('restore', 'feedfacefeed', '--to-dir', join(session.directory, 'x')), 5, /feedface/)
  })

  test('a directory that is not empty', async () => {
    expectError(await session.vcb('restore', 'web01@latest', '--to-dir', session.directory), 6, /not empty/)
  })

  test('a VM that exists is not overwritten without being asked, nor while it runs', async () => {
    expectError(await session.vcb('restore', 'web01@latest', '--to-vcenter', '--folder', '/DC1/vm/Web'), 6, /web01/)
    expectError(await session.vcb('restore', 'web01@latest', '--to-vcenter', '--folder', '/DC1/vm/Web', '--overwrite'), 6, /powered on/)
  })

  test('an upload that fails leaves no half VM', async () => {
    await withFault({ on: 'nfc:POST', status: 500 }, async () => {
      const result = await session.vcb(
        'restore',
        'web01@latest',
        '--to-vcenter',
        '--transport',
        'lease',
        '--name',
        'half',
        '--to-datastore',
        'restore1',
      )
      expect(result.exit).not.toBe(0)
    })
    const state = await session.lab.control.state()
    expect(state.vms.map((vm) => vm.name)).not.toContain('half')
    expect((await session.vcb('vms', 'half')).exit).toBe(5)
  })

  test('a datastore without room', async () => {
    await withFault({ datastoreFull: 'restore1' }, async () => {
      const result = await session.vcb(
        'restore',
        'web01@latest',
        '--to-vcenter',
        '--name',
        'half2',
        '--to-datastore',
        'restore1',
        '--via',
        'folder',
      )
      expect(result.exit).toBe(10)
    })
    expect((await session.vcb('vms', 'half2')).exit).toBe(5)
    expect((await readdir(session.lab.datastores['restore1'] ?? '')).filter((name) => name.includes('half2'))).toEqual([])
  })
})
