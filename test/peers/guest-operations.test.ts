import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { startLab } from '../../src/lab/index.ts'
import { describePeer } from '../peer.ts'

const run = promisify(execFile)
const CLIENT = join(import.meta.dirname, '..', '..', 'scripts', 'peers', 'guest_operations.py')
const scenario = {
  name: 'guest',
  datacenters: [
    {
      name: 'DC1',
      hosts: [{ name: 'esx1.lab' }],
      datastores: [{ name: 'ds1' }],
      vms: [
        {
          name: 'web',
          accounts: [{ user: 'backup', password: 'secret' }],
          programs: [
            { path: '/opt/say', ms: 300, exitCode: 7, stdout: 'said\n', stderr: 'hm' },
            { path: '/opt/slow', ms: 60_000 },
          ],
        },
      ],
    },
  ],
}

describePeer('pyvmomi', 'pyVmomi uses the guest operations of the lab', (python) => {
  it.each(['vcenter', 'esxi'] as const)('of a %s', async (kind) => {
    const directory = await mkdtemp(join(tmpdir(), 'lab-guest-'))
    try {
      await using lab = await startLab({ directory: join(directory, 'lab'), scenario })
      const password = (await readFile(lab.passwordFile, 'utf8')).trim()
      const { host, port } = lab.endpoints[kind]
      const { stdout } = await run(python, ['-W', 'ignore', CLIENT, host, String(port), lab.user, password, 'web'], { timeout: 60_000 })
      expect(JSON.parse(stdout)).toEqual({
        faults: ['vim.fault.InvalidGuestLogin', 'vim.fault.FileNotFound', 'vim.fault.GuestProcessNotFound', 'vim.fault.FileNotFound'],
        running: true,
        exitCode: 7,
        owner: 'backup',
        name: 'say',
        samePid: true,
        size: 5,
        body: 'said\n',
        files: [
          ['/tmp/err', 2],
          ['/tmp/in', 5],
          ['/tmp/say out', 5],
        ],
        left: 'vim.fault.FileNotFound',
        terminated: true,
      })
      const history = await lab.control.guestHistory('web')
      expect(history.map(({ what, command }) => [what, ...(command ?? [])])).toEqual([
        ['started', '/opt/say', 'its', 'a word'],
        ['ended', '/opt/say', 'its', 'a word'],
        ['started', '/opt/slow'],
        ['terminated', '/opt/slow'],
      ])
    } finally {
      await rm(directory, { recursive: true, force: true })
    }
  })
})
