import { lstat, mkdir, mkdtemp, readdir, realpath, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { systemClock } from '../../core/index.ts'
import { isRealDirectory, makeMountPoint } from './mount-point.ts'

const clock = systemClock
let place: string

beforeEach(async () => {
  place = await realpath(await mkdtemp(join(tmpdir(), 'vcb-point-')))
  await mkdir(join(place, 'guest', 'home'), { recursive: true })
  await mkdir(join(place, 'proxy'))
})
afterEach(async () => {
  await rm(place, { recursive: true, force: true })
})

test('a directory is made with its parents, and one that is there is taken', async () => {
  await makeMountPoint(join(place, 'guest', 'home'), { clock })
  await makeMountPoint(join(place, 'guest', 'a', 'b c'), { clock })
  expect((await lstat(join(place, 'guest', 'a', 'b c'))).isDirectory()).toBe(true)
  expect(await isRealDirectory(join(place, 'guest', 'a', 'b c'), { clock })).toBe(true)
  expect(await isRealDirectory(join(place, 'guest', 'nowhere'), { clock })).toBe(false)
})

test.each([
  ['is a link', 'boot'],
  ['is below a link', 'boot/efi'],
  ['is below a link that leads back inside', 'inside/efi'],
])('a place that %s is refused, and nothing is made where it leads', async (_what, name) => {
  await symlink(join(place, 'proxy'), join(place, 'guest', 'boot'))
  await symlink('home', join(place, 'guest', 'inside'))
  await expect(makeMountPoint(join(place, 'guest', name), { clock })).rejects.toMatchObject({ code: 'INTEGRITY' })
  expect(await isRealDirectory(join(place, 'guest', name), { clock })).toBe(false)
  expect(await readdir(join(place, 'proxy'))).toEqual([])
  expect(await readdir(join(place, 'guest', 'home'))).toEqual([])
})
