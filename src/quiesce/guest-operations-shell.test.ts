import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { programOf } from './guest-operations-shell.ts'

it('writes a line that a real shell takes apart as meant, whatever is in the paths', () => {
  const directory = mkdtempSync(join(tmpdir(), 'vcb-line-'))
  try {
    const path = join(directory, 'pre')
    writeFileSync(path, '#!/bin/sh\necho "$# $1"\necho err >&2\n', { mode: 0o755 })
    const out = join(directory, 'o\'ut $(x) `y` "z"')
    const program = programOf({ path, argument: 'freezeFail', out, err: join(directory, 'err') }, false)
    // As VMware Tools start a program on Linux: the quoted path and the arguments, through the shell.
    execFileSync('/bin/sh', ['-c', `"${program.path}" ${program.args}`])
    expect(readFileSync(out, 'utf8')).toBe('1 freezeFail\n')
    expect(readFileSync(join(directory, 'err'), 'utf8')).toBe('err\n')
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
})

it('quotes for cmd.exe, and refuses what it cannot quote', () => {
  const command = { path: 'C:\\My Scripts\\pre.bat', argument: 'freeze', out: 'C:\\T\\o.out', err: 'C:\\T\\o.err' }
  expect(programOf(command, true)).toEqual({
    path: 'C:\\Windows\\System32\\cmd.exe',
    args: '/d /s /c ""C:\\My Scripts\\pre.bat" freeze > "C:\\T\\o.out" 2> "C:\\T\\o.err""',
  })
  for (const path of ['C:\\a"b.bat', 'C:\\%PATH%.bat', 'C:\\a\nb.bat'])
    expect(() => programOf({ ...command, path }, true)).toThrow(/cannot be written into a command of Windows/)
})
