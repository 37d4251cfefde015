import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { z } from 'zod'
import { createIds, STAGES } from '../core/index.ts'
import { stageDocument, stageDocumentSchema } from './stage-document.ts'

const FORMATS = join(import.meta.dirname, '..', '..', 'docs', 'formats')
const vm = { moref: 'vm-1', name: 'web\n01', instanceUuid: 'i', biosUuid: 'b', vcenterUuid: 'v', path: '/DC/vm/web' }
const facts = { job: 'nightly', run: createIds().run(), vm, dueAt: undefined, mode: undefined, repository: 'restic:/r', disks: [] }

test('one line, whatever a VM is called, that the schema holds of every stage', () => {
  for (const stage of STAGES) {
    const text = stageDocument(stage, facts, false)
    expect(text.indexOf('\n')).toBe(text.length - 1)
    expect(stageDocumentSchema.strict().parse(JSON.parse(text))).toMatchObject({ stage, job: 'nightly', vm: { name: 'web\n01' } })
  }
})

test('what nobody wrote down is unknown where something had come to its end, and absent elsewhere', () => {
  const of = (stage: (typeof STAGES)[number]) => JSON.parse(stageDocument(stage, facts, true))
  expect(of('postRun')).toMatchObject({ result: 'unknown', recovered: true })
  expect(of('postStore')).not.toHaveProperty('result')
})

test('docs/formats/stage-program.schema.json is this schema', async () => {
  const page = JSON.parse(await readFile(join(FORMATS, 'stage-program.schema.json'), 'utf8'))
  expect(page).toEqual(z.toJSONSchema(stageDocumentSchema, { io: 'input' }))
})

test('docs/formats/stage-program.md names every key, and its example is one', async () => {
  const page = await readFile(join(FORMATS, 'stage-program.md'), 'utf8')
  for (const key of Object.keys(stageDocumentSchema.shape)) expect(page).toContain(`\`${key}\``)
  const [, example = ''] = /```json\n(\{"version":1,"stage".*)\n```/.exec(page) ?? []
  expect(stageDocumentSchema.strict().safeParse(JSON.parse(example)).success).toBe(true)
})
