import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'vitest'

/** Spelled to hurt a script that lets a shell look at it. */
export const AWKWARD = `web 01's "50%"; $(id) [a]*\\n,ü名`
export const OTHER = 'db01'

/** A proxy of its own for the scripts: settings, mount root, and the stand-in of the command (`stand-in/vcb`, which says what it is). */
export class StandIn implements Disposable {
  readonly directory = mkdtempSync(join(tmpdir(), 'vcb-scripts-'))
  readonly data = join(this.directory, 'data')
  readonly root = join(this.directory, 'mnt')
  readonly settings = join(this.directory, 'scripts.conf')
  readonly state = join(this.directory, 'state')

  constructor(settings: Readonly<Record<string, string>> = {}, vms: readonly string[] = [AWKWARD, OTHER]) {
    for (const each of [this.data, this.root, join(this.directory, 'inject')]) mkdirSync(each)
    writeFileSync(join(this.data, 'hostname'), 'the guest\n')
    writeFileSync(join(this.directory, 'vms'), vms.map((vm) => `${vm}\n`).join(''))
    const command = join(this.directory, 'vcb')
    const real = join(import.meta.dirname, 'stand-in', 'vcb')
    writeFileSync(command, `#!/bin/sh\nSTAND_IN='${this.directory}' exec '${real}' "$@"\n`)
    chmodSync(command, 0o755)
    const all = { VCB_COMMAND: command, VCB_MOUNT_ROOT: this.root, VCB_SCRIPTS_STATE: this.state, ...settings }
    writeFileSync(
      this.settings,
      `# settings of a test\n\n${Object.entries(all)
        .map(([name, value]) => `${name}=${value}\n`)
        .join('')}`,
    )
  }

  inject(what: 'fail' | 'delay' | 'damaged' | 'held', value = ''): void {
    writeFileSync(join(this.directory, 'inject', what), value)
  }

  mountOf(vm: string): string {
    return join(this.root, vm)
  }

  leases(): readonly string[] {
    const directory = join(this.directory, 'leases')
    return existsSync(directory) ? readdirSync(directory) : []
  }

  /** The VMs that are shown now. */
  shown(): readonly string[] {
    return this.leases()
      .map((lease) => readFileSync(join(this.directory, 'leases', lease, 'vm'), 'utf8'))
      .sort()
  }

  states(): readonly string[] {
    return existsSync(this.state) ? readdirSync(this.state) : []
  }

  /** Runs a script of `integrations/` as an administrator would. */
  run(program: string, args: readonly string[]): { status: number | null; stdout: string; stderr: string } {
    const env = { PATH: process.env['PATH'] ?? '', VCB_SCRIPTS_CONF: this.settings }
    return spawnSync(program, args, { env, encoding: 'utf8', timeout: 30_000 })
  }

  /** No lease, no lock, nothing in a mount directory, no process of the stand-in (its holder looks every 100 ms whether its lease is over). */
  async expectNothingLeft(): Promise<void> {
    for (let tries = 0; tries < 100 && this.processes().length > 0; tries++) await sleep(30)
    expect(this.leases()).toEqual([])
    expect(existsSync(join(this.directory, 'locks')) ? readdirSync(join(this.directory, 'locks')) : []).toEqual([])
    for (const vm of readdirSync(this.root)) expect(readdirSync(join(this.root, vm))).toEqual([])
    expect(this.processes()).toEqual([])
  }

  /** Processes that still run something of this directory. */
  processes(): readonly string[] {
    return readdirSync('/proc')
      .filter((name) => /^[0-9]+$/.test(name))
      .flatMap((pid) => {
        try {
          const line = readFileSync(join('/proc', pid, 'cmdline'), 'utf8').replaceAll('\0', ' ')
          return line.includes(this.directory) ? [`${pid} ${line}`] : []
        } catch (error) {
          // It ended while we looked.
          if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ESRCH')) return []
          throw error
        }
      })
  }

  [Symbol.dispose](): void {
    for (const line of this.processes()) {
      try {
        process.kill(Number.parseInt(line, 10), 'SIGKILL')
      } catch (error) {
        // It ended by itself in the meantime.
        if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error
      }
    }
    rmSync(this.directory, { recursive: true, force: true })
  }
}
