import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { FakeClock } from '../../test/lab/fake-clock.ts'
import { memorySource } from '../disk/index.ts'
import { steady } from './steady-files.ts'

test('a file that changes its size, or goes, is told of at the first read a second later', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'vcb-steady-'))
  const path = join(directory, 'a-flat.vmdk')
  await writeFile(path, Buffer.alloc(4096))
  const clock = new FakeClock()
  const source = steady(memorySource(new Uint8Array(4096)), new Map([[path, 4096]]), clock)
  const read = () => source.read(0, new Uint8Array(512))
  await read()
  clock.advance(1000)
  await read()
  await truncate(path, 8192)
  await read()
  clock.advance(999)
  await read()
  clock.advance(1)
  await expect(read()).rejects.toMatchObject({
    code: 'INTEGRITY',
    message: `${path} had 4096 bytes when it was opened and has 8192 now, although it is frozen.`,
  })
  await rm(directory, { recursive: true })
  clock.advance(1000)
  await expect(read()).rejects.toMatchObject({ code: 'INTEGRITY' })
})
