import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type Lab, type LabEndpoint, startLab } from '../../src/lab/index.ts'
import { describePeer } from '../peer.ts'

const run = promisify(execFile)
const PROBE = join(import.meta.dirname, '..', '..', 'scripts', 'peers', 'probe_pyvmomi.py')

/** Operations of the probe that the lab leaves out on purpose, as `vcb lab capabilities` says: alarms, programs in guests, the old file layout. */
const NOT_IN_LAB = [
  'VM layout.disk',
  'CreateAlarm',
  'GetAlarmState',
  'StartProgramInGuest',
  'ListProcessesInGuest',
  'InitiateFileTransferToGuest',
  'ListFilesInGuest',
]
/** And what a standalone host does not have. */
const NOT_ON_ESXI = [...NOT_IN_LAB, 'session key / SessionIsActive', 'AddCustomFieldDef', 'ExtensionManager.FindExtension']

/** VMware's Python SDK, about eighty operations of a backup agent, against the whole lab. */
describePeer('pyvmomi', 'pyVmomi drives the lab', (python) => {
  let directory: string
  let lab: Lab

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'lab-pyvmomi-'))
    lab = await startLab({ directory: join(directory, 'lab') })
  })
  afterAll(async () => {
    await lab[Symbol.asyncDispose]()
    await rm(directory, { recursive: true, force: true })
  })

  const probe = async (endpoint: LabEndpoint, vm: string): Promise<string[]> => {
    const password = (await readFile(lab.passwordFile, 'utf8')).trim()
    const { stdout } = await run(python, ['-W', 'ignore', PROBE, endpoint.host, String(endpoint.port), lab.user, password, vm], {
      timeout: 120_000,
    })
    return stdout.split('\n')
  }
  const failed = (lines: readonly string[]): string[] =>
    lines.filter((line) => /^(FAULT|ERROR) /.test(line)).map((line) => line.slice(6, 40).trim())

  it('as a vCenter: every operation it promises is served', async () => {
    const lines = await probe(lab.endpoints.vcenter, 'web01')
    expect(lines[0]).toMatch(/VirtualCenter 8\.0\.3\.0 spoken: "urn:vim25\/6\.7\.1"/)
    expect(failed(lines), lines.join('\n')).toEqual(NOT_IN_LAB)
    expect(lines.filter((line) => line.startsWith('ok')).length).toBeGreaterThan(70)
  })

  it('as an ESXi host: every operation a host has is served', async () => {
    const lines = await probe(lab.endpoints.esxi, 'edge01')
    expect(lines[0]).toMatch(/HostAgent 8\.0\.3\.0/)
    expect(failed(lines).toSorted(), lines.join('\n')).toEqual(NOT_ON_ESXI.toSorted())
    expect(lines.filter((line) => line.startsWith('ok')).length).toBeGreaterThan(60)
  })
})
