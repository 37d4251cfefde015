import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { writeFile } from 'node:fs/promises'
import { type LabSession, openLabSession } from './lab-session.ts'

/* What VSS in a Windows guest is told, as the guest hears it; a server that is too old for that quiesces as ever. */
const vm = (name: string, guestId: string): object => ({
  name,
  guestId,
  changeTracking: true,
  disks: [{ size: '8MiB', controller: 'lsisas' }],
})
const open = (apiVersion: string): Promise<LabSession> =>
  openLabSession({
    scenario: {
      taskMs: 0,
      apiVersion,
      datacenters: [
        {
          name: 'DC',
          hosts: [{ name: 'esx1' }],
          datastores: [{ name: 'ds1', type: 'VMFS6' }],
          vms: [vm('win', 'windows2019srv_64Guest'), vm('linux', 'debian12_64Guest')],
        },
      ],
    },
  })

const backup = (session: LabSession, name: string, ...more: readonly string[]): readonly string[] => [
  'backup',
  name,
  '--init',
  '--repo',
  `dir:${join(session.directory, 'points')}`,
  '--mode',
  'full',
  ...more,
]
/** What the guest was told at its last freeze. */
const told = async (session: LabSession, name: string): Promise<readonly string[] | undefined> =>
  (await session.lab.control.guestHistory(name)).findLast(({ what }) => what === 'frozen')?.vss

describe('settings for VSS', () => {
  test('reach Windows guests alone, from vcb.yaml and the flag, and are in the point', async () => {
    await using session = await open('8.0.3.0')
    const plain = await session.json(backup(session, 'win'))
    expect(await told(session, 'win')).toBeUndefined()
    expect(plain.vms[0].consistencyReason).not.toContain('VSS:')

    const config = join(session.directory, 'vcb.yaml')
    await writeFile(config, 'windowsQuiesce: { context: backup, backupType: copy, bootableSystemState: true, partialFileSupport: false }\n')
    session.environment['VCB_CONFIG'] = config
    const run = await session.json(backup(session, 'win'))
    expect(await told(session, 'win')).toEqual(['context ctx_backup', 'type 5', 'bootable true', 'partial false'])
    const words = 'VSS: context backup, backupType copy, bootableSystemState true, partialFileSupport false'
    expect(run.vms[0]).toMatchObject({ consistencyReason: expect.stringContaining(words), warnings: [] })
    const shown = await session.json(['show', run.vms[0].point, '--repo', `dir:${join(session.directory, 'points')}`])
    expect(JSON.stringify(shown)).toContain(words)

    await session.json(backup(session, 'win', '--windows-quiesce', 'file-share'))
    expect((await told(session, 'win'))?.[0]).toBe('context ctx_file_share_backup')
    await session.json(backup(session, 'linux'))
    expect(await told(session, 'linux')).toBeUndefined()
    const directory = join(session.directory, 'mounted')
    const mounted = await session.json(['mount', 'win', directory, '--windows-quiesce', 'auto'])
    expect((await told(session, 'win'))?.[0]).toBe('context ctx_auto')
    expect(mounted.consistencyReason).toContain('context auto')
    await session.json(['unmount', directory])
    await session.expectClean()
  })

  test('a server before 6.5 takes none: it quiesces all the same, and the backup says so', async () => {
    await using session = await open('6.0')
    const run = await session.json(backup(session, 'win', '--windows-quiesce', 'backup', '--quiesce', 'require'))
    expect(run.vms[0].warnings).toEqual([expect.stringContaining('without the settings for VSS')])
    expect(run.vms[0].consistency).not.toBe('crash')
    expect(await told(session, 'win')).toBeUndefined()
    expect((await session.lab.control.state()).tasks.map(({ name }) => name)).not.toContain('CreateSnapshotEx_Task')
    await session.expectClean()
  })

  test('what is no context is refused', async () => {
    await using session = await open('8.0.3.0')
    expect(await session.json(backup(session, 'win', '--windows-quiesce', 'ctx_auto'), 2)).toMatchObject({ error: { code: 'USAGE' } })
  })
})
