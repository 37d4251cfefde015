import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { describePeers } from '../peer.ts'
import { startVcsim, startVcsimLite, VCSIM_PASSWORD } from './vcsim-server.ts'

const run = promisify(execFile)
const PROBE = join(import.meta.dirname, '..', '..', 'scripts', 'peers', 'probe_pyvmomi.py')

// Before the peers judge us, they judge each other: a failure here is theirs, or of their installation.

describePeers(['vcsim', 'govc'], "VMware's own client and simulator understand each other", ({ vcsim, govc }) => {
  it('lists, snapshots and removes', async () => {
    const home = await mkdtemp(join(tmpdir(), 'vcb-govc-'))
    try {
      await using server = await startVcsim(vcsim)
      const ask = async (...args: readonly string[]): Promise<string> => {
        const env = { HOME: home, GOVC_URL: server.url, GOVC_USERNAME: 'backup', GOVC_PASSWORD: VCSIM_PASSWORD, GOVC_INSECURE: '1' }
        return (await run(govc, [...args], { env: { ...env, GOVC_PERSIST_SESSION: 'false' } })).stdout
      }
      expect(await ask('about')).toMatch(/API type:\s+VirtualCenter/)
      expect(await ask('ls', 'vm')).toContain('/DC0/vm/DC0_H0_VM0')
      await ask('snapshot.create', '-vm', 'DC0_H0_VM0', '-m=false', 'first')
      expect(await ask('snapshot.tree', '-vm', 'DC0_H0_VM0')).toContain('first')
      await ask('snapshot.remove', '-vm', 'DC0_H0_VM0', 'first')
      expect(await ask('snapshot.tree', '-vm', 'DC0_H0_VM0')).not.toContain('first')
    } finally {
      await rm(home, { recursive: true })
    }
  })
})

describePeers(['vcsim-lite', 'pyvmomi'], 'pyVmomi drives the simulator with changed areas and exports in front', (paths) => {
  it('is served what a backup asks', async () => {
    await using server = await startVcsimLite(paths['vcsim-lite'])
    const { stdout } = await run(paths.pyvmomi, ['-W', 'ignore', PROBE, '127.0.0.1', new URL(server.url).port, 'backup', VCSIM_PASSWORD])
    for (const operation of ['CreateSnapshotEx_Task', 'QueryChangedDiskAreas \\*', 'ExportSnapshot', 'ReconfigVM CBT on', 'SetField']) {
      expect(stdout).toMatch(new RegExp(`^ok +${operation} `, 'm'))
    }
    expect(stdout).toMatch(/^# \d not served$/m)
  })
})
