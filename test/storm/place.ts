import { randomBytes } from 'node:crypto'
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Secret, silentLog, systemClock } from '../../src/core/index.ts'
import { directoryBackend, initRepository } from '../../src/restic/index.ts'
import { LabProcess } from './lab-process.ts'

const PASSWORD = 'correct horse battery staple'

/** One temporary directory with everything of a storm in it: a lab in its own process, a repository, the agent's state, targets of restores. */
export type Place = {
  readonly directory: string
  readonly lab: LabProcess
  readonly repository: string
  readonly password: string
  readonly state: string
  readonly restores: string
  /** TMPDIR of every command: what is left in it is a leftover. */
  readonly temporary: string
  readonly log: string
  readonly environment: Readonly<Record<string, string>>
  /** Ends the lab and removes the directory, unless it is to be looked at. */
  close(keep: boolean): Promise<void>
}

export async function openPlace(): Promise<Place> {
  const directory = await mkdtemp(join(tmpdir(), 'vcb-storm-'))
  const inside = (name: string): string => join(directory, name)
  const scenario = inside('scenario.yaml')
  await copyFile(join(import.meta.dirname, 'scenario.yaml'), scenario)
  await mkdir(inside('restores'))
  await mkdir(inside('state'), { mode: 0o700 })
  await mkdir(inside('tmp'))
  await writeFile(inside('repo-password'), `${PASSWORD}\n`, { mode: 0o600 })
  // A key that costs a millisecond instead of half a second: hundreds of commands open this repository.
  await initRepository(
    directoryBackend(inside('repo')),
    new Secret(PASSWORD),
    { clock: systemClock, log: silentLog, random: randomBytes, hostname: 'storm', username: 'storm', pid: process.pid },
    { kdf: { N: 1024, r: 8, p: 1 } },
  )
  const lab = await LabProcess.start(inside('lab'), scenario)
  return {
    directory,
    lab,
    repository: inside('repo'),
    password: PASSWORD,
    state: inside('state'),
    restores: inside('restores'),
    temporary: inside('tmp'),
    log: inside('vcb.log'),
    environment: {
      ...lab.connection,
      VCB_REPO: inside('repo'),
      VCB_REPO_PASSWORD_FILE: inside('repo-password'),
      VCB_STATE_DIR: inside('state'),
      VCB_LOG_FILE: inside('vcb.log'),
      VCB_LOG_LEVEL: 'debug',
      TMPDIR: inside('tmp'),
    },
    close: async (keep) => {
      await lab.stop()
      if (!keep) await rm(directory, { recursive: true, force: true })
    },
  }
}
