import { describe, expect, test } from 'vitest'
import { type AgentId, type ClaimId, createMarks, type JobId, systemClock } from '../core/index.ts'
import { attachedEntries, attachedEntry } from './hotadd-mark.ts'

const agent = '0123456789abcdef01234567' as AgentId
const claim = '1'.repeat(24) as ClaimId
const job = '2'.repeat(24) as JobId
const marks = createMarks({ agent, host: 'proxy1', pid: 7, clock: systemClock })
const FILE = '[ds 1] web 01/aZ file=[x] 01-000001.vmdk'

describe('the entry of an attached disk', () => {
  const entry = attachedEntry(marks, job, claim, FILE)

  test('tells later whose disk it is', () => {
    expect(
      attachedEntries(
        new Map([
          [entry.key, entry.value],
          ['disk.EnableUUID', 'TRUE'],
        ]),
      ),
    ).toEqual([{ mark: expect.objectContaining({ agent, claim, job, host: 'proxy1', pid: 7 }), fileName: FILE }])
  })

  test.each([
    ['of another claim', entry.key.replace(/1$/, '0'), entry.value],
    ['with a changed word', entry.key, entry.value.replace('detached', 'Detached')],
    ['without a file', entry.key, entry.value.replace(/ file=.*$/, '')],
    ['with a file on no datastore', entry.key, entry.value.replace(/ file=.*$/, ' file=/dev/sda')],
    ['with another key', 'other.key', entry.value],
    ['that is endless', entry.key, entry.value + 'x'.repeat(3000)],
    ['that is empty', entry.key, ''],
  ])('%s is none of ours', (_, key, value) => {
    expect(attachedEntries(new Map([[key, value]]))).toEqual([])
  })
})
