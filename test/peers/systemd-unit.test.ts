import { execFile } from 'node:child_process'
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect } from 'vitest'
import { describePeer } from '../peer.ts'
import { test } from 'vitest'

/* The unit is judged by systemd itself. */
const TOP = join(import.meta.dirname, '..', '..')
const UNITS = join(TOP, 'scripts', 'systemd')
/** What `systemd-analyze security` may find at most, of 100: as it stands, and with what reads devices. An unhardened unit has 96. */
const MOST = { unit: 18, san: 24, hotadd: 34 }

let directory: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vcb-unit-'))
})
afterEach(() => rm(directory, { recursive: true, force: true }))

describePeer('systemd-analyze', 'the unit', (analyze) => {
  const run = (...argv: readonly string[]): Promise<{ exit: number; said: string }> =>
    new Promise((resolve) => {
      execFile(analyze, argv, { env: { ...process.env, SYSTEMD_LOG_LEVEL: 'info' } }, (error, out, err) => {
        resolve({ exit: error === null ? 0 : Number(error.code), said: out + err })
      })
    })

  /** The unit as it is installed, its programs where they are here. */
  async function installed(dropIn?: string): Promise<string> {
    const unit = join(directory, 'vcb-agent.service')
    const text = await readFile(join(UNITS, 'vcb-agent.service'), 'utf8')
    await writeFile(unit, text.replaceAll('/opt/vcb-proxy', TOP))
    if (dropIn !== undefined) {
      await mkdir(join(directory, 'vcb-agent.service.d'))
      await cp(join(UNITS, 'vcb-agent.service.d', `${dropIn}.conf`), join(directory, 'vcb-agent.service.d', `${dropIn}.conf`))
    }
    return unit
  }
  const dropIns = [undefined, 'san', 'hotadd'] as const

  test.each(dropIns)('has nothing that systemd does not know (%s)', async (dropIn) => {
    expect(await run('verify', '--man=no', '--recursive-errors=no', await installed(dropIn))).toEqual({ exit: 0, said: '' })
  })

  test('is refused where it is wrong, so that the judge can be believed', async () => {
    const unit = await installed()
    await writeFile(unit, (await readFile(unit, 'utf8')).replace('ProtectSystem=strict', 'ProtectSystem=fully\nProtectSystems=yes'))
    expect((await run('verify', '--man=no', '--recursive-errors=no', unit)).said).toMatch(/ProtectSystems/)
  })

  test.each(dropIns)('is hardened (%s)', async (dropIn) => {
    const most = String(MOST[dropIn ?? 'unit'])
    const { exit, said } = await run('security', '--offline=yes', '--no-pager', `--threshold=${most}`, await installed(dropIn))
    expect({ exit, said: exit === 0 ? '' : said }).toEqual({ exit: 0, said: '' })
  })

  test('has every drop-in in these tests', async () => {
    const names = (await readdir(join(UNITS, 'vcb-agent.service.d'))).map((name) => name.replace('.conf', ''))
    expect(names.toSorted()).toEqual(dropIns.filter((name) => name !== undefined).toSorted())
  })
})
